//! Outcomes by hash: the same seed gives the same fate to the same message, on
//! every machine and whatever the timing.

use sha2::{Digest as _, Sha256};

use super::behaviour::Span;

/// What outcomes are drawn for: a message, as 128 bits of a hash or a UUID.
pub type Key = u128;

/// The key of `parts`; their borders count.
pub fn key(parts: &[&str]) -> Key {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    first_half(&hash.finalize().into())
}

/// Which decision a draw is for, so that decisions do not hang together.
#[derive(Clone, Copy)]
#[repr(u8)]
pub enum Purpose {
    Request = 1,
    Early = 2,
    Receipt = 3,
    GatewayId = 4,
}

/// Eight independent numbers.
#[derive(Debug, Clone, Copy)]
pub struct Draw([u8; 32]);

impl Draw {
    /// The numbers of the `n`-th request for `key` under `seed`.
    pub fn new(seed: u64, key: Key, n: u32, purpose: Purpose) -> Self {
        let mut input = [0_u8; 29];
        input[..8].copy_from_slice(&seed.to_be_bytes());
        input[8..24].copy_from_slice(&key.to_be_bytes());
        input[24..28].copy_from_slice(&n.to_be_bytes());
        input[28] = purpose as u8;
        Self(Sha256::digest(input).into())
    }

    fn number(&self, at: usize) -> u32 {
        let at = at % 8 * 4;
        u32::from_be_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }

    /// Number `at` (0 to 7) as a point in [0, 1).
    pub fn point(&self, at: usize) -> f64 {
        f64::from(self.number(at)) / 4_294_967_296.0
    }

    /// Number `at` as a time within `span`.
    pub fn within(&self, at: usize, span: Span) -> std::time::Duration {
        span.pick(self.number(at))
    }

    fn half(&self) -> u128 {
        first_half(&self.0)
    }
}

fn first_half(hash: &[u8; 32]) -> u128 {
    let mut half = [0_u8; 16];
    half.copy_from_slice(&hash[..16]);
    u128::from_be_bytes(half)
}

/// The gateway's id, 16 hexadecimal digits, of the number `index` of the `n`-th
/// accepted request with this client id.
pub fn gateway_id(seed: u64, client: u128, n: u32, index: u32) -> String {
    let spread = Draw::new(seed, client ^ (u128::from(index) << 64), n, Purpose::GatewayId).half();
    format!("{:016x}", spread >> 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_the_same_everywhere() {
        // Fixed by the definition above: a change would change every published count.
        let key = key(&["13900000001", "水位超警"]);
        let draw = Draw::new(7, key, 1, Purpose::Request);
        assert_eq!((key, draw.number(0)), (0x4df6_d5b1_3bf8_807e_8d47_0552_9968_5dfe, 0x14da_30e3));
        assert_ne!(draw.0, Draw::new(8, key, 1, Purpose::Request).0);
        assert_ne!(draw.0, Draw::new(7, key, 2, Purpose::Request).0);
        assert_ne!(draw.0, Draw::new(7, key, 1, Purpose::Receipt).0);
        assert_eq!(gateway_id(1, 2, 3, 4), "86cb9ecc8d6a4a26");
        assert_ne!(gateway_id(1, 2, 3, 4), gateway_id(1, 2, 3, 5));
    }

    #[test]
    fn borders_count() {
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
    }

    #[test]
    fn points_spread_evenly() {
        let below = (0..10_000_u32).filter(|n| Draw::new(1, 9, *n, Purpose::Request).point(0) < 0.1).count();
        assert!((900..1_100).contains(&below), "{below}");
    }
}
