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
