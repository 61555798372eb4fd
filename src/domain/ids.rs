//! The reference of one attempt, and its form as a UUID.

use uuid::Uuid;

/// One attempt of one delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeliveryRef {
    pub dispatch_no: u32,
    pub ordinal: u32,
    /// 1 to 1023.
    pub attempt: u16,
}

const ATTEMPT_BITS: u32 = 10;
const MAC_BITS: u32 = 48;

/// One question to a duty officer: the call and its delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallRef {
    pub call_no: u32,
    /// Below 2^24; beyond, its token does not read back.
    pub ordinal: u32,
}

const CALL_MAC_BITS: u32 = 60;
const CALL_ORDINAL_BITS: u32 = 24;

/// Base 58: digits and letters without those that look alike.
const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

impl CallRef {
    /// The reference with a MAC of 60 bits as some sixteen letters, for an SMS.
    #[must_use]
    pub fn to_token(self, mac: u64) -> String {
        let mac = u128::from(mac & ((1 << CALL_MAC_BITS) - 1));
        let ordinal = u128::from(self.ordinal & ((1 << CALL_ORDINAL_BITS) - 1));
        let mut rest = (u128::from(self.call_no) << CALL_ORDINAL_BITS | ordinal) << CALL_MAC_BITS | mac;
        let mut letters = Vec::new();
        while rest > 0 {
            let digit = usize::try_from(rest % 58).unwrap_or(0);
            letters.push(char::from(ALPHABET[digit]));
            rest /= 58;
        }
        letters.into_iter().rev().collect()
    }

    /// The reference a token carries; its MAC is for the vault to judge.
    #[must_use]
    pub fn from_token(token: &str) -> Option<Self> {
        let mut all: u128 = 0;
        for letter in token.bytes() {
            let digit = ALPHABET.iter().position(|a| *a == letter)?;
            all = all.checked_mul(58)?.checked_add(u128::try_from(digit).ok()?)?;
        }
        let ordinal = (all >> CALL_MAC_BITS) & ((1 << CALL_ORDINAL_BITS) - 1);
        let call_no = all >> (CALL_MAC_BITS + CALL_ORDINAL_BITS);
        Some(Self { call_no: u32::try_from(call_no).ok()?, ordinal: u32::try_from(ordinal).ok()? })
    }
}

/// Attempts beyond this have no client id; the retry limit keeps far below.
pub const MAX_ATTEMPT: u16 = (1 << ATTEMPT_BITS) - 1;

impl DeliveryRef {
    /// Packs the reference and a MAC into the 122 free bits of a UUIDv8
    /// (RFC 9562 §5.8): 32 dispatch, 32 ordinal, 10 attempt, 48 MAC.
    #[must_use]
    pub fn to_uuid(self, mac: [u8; 6]) -> Uuid {
        let mut mac_bits = [0_u8; 8];
        mac_bits[2..].copy_from_slice(&mac);
        let free = (u128::from(self.dispatch_no) << (32 + ATTEMPT_BITS + MAC_BITS))
            | (u128::from(self.ordinal) << (ATTEMPT_BITS + MAC_BITS))
            | (u128::from(self.attempt & MAX_ATTEMPT) << MAC_BITS)
            | u128::from(u64::from_be_bytes(mac_bits));
        // Make room for the version (bits 76..80) and the variant (bits 62..64).
        let low = free & ((1 << 62) - 1);
        let mid = (free >> 62) & ((1 << 12) - 1);
        let high = free >> 74;
        Uuid::from_u128((high << 80) | (0x8 << 76) | (mid << 64) | (0b10 << 62) | low)
    }

    /// The reference a UUIDv8 carries; its MAC is for the vault to judge.
    #[must_use]
    pub fn from_uuid(id: Uuid) -> Option<Self> {
        if id.get_version_num() != 8 {
            return None;
        }
        let bits = id.as_u128();
        let free = ((bits >> 80) << 74) | (((bits >> 64) & 0xfff) << 62) | (bits & ((1 << 62) - 1));
        let part = |shift: u32, width: u32| (free >> shift) & ((1 << width) - 1);
        Some(Self {
            dispatch_no: u32::try_from(part(32 + ATTEMPT_BITS + MAC_BITS, 32)).ok()?,
            ordinal: u32::try_from(part(ATTEMPT_BITS + MAC_BITS, 32)).ok()?,
            attempt: u16::try_from(part(MAC_BITS, ATTEMPT_BITS)).ok()?,
        })
    }
}
