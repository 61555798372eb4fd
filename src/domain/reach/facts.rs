//! What is known of one member, gathered as bits over its deliveries, and what
//! follows from them. SQL sets the bits; every conclusion is drawn here.

use serde::{Deserialize, Serialize};

use crate::say;

/// An electronic delivery exists, in whatever state.
pub const ELECTRONIC: i32 = 1;
/// One of them is not suppressed.
pub const OPEN: i32 = 1 << 1;
/// One of them was handed over.
pub const HANDED: i32 = 1 << 2;
/// Reached on an address of the member's own, its guardian's or its agent's.
pub const DIRECT: i32 = 1 << 3;
/// Reached on the household's shared address.
pub const HOUSEHOLD: i32 = 1 << 4;
/// Told in person by a visit or a call.
pub const TOLD: i32 = 1 << 5;
/// Read or confirmed.
pub const SEEN: i32 = 1 << 6;
/// Reached before the event took effect.
pub const EARLY: i32 = 1 << 7;
/// Being handed over, or handed over with no word about it.
pub const NO_WORD: i32 = 1 << 8;
/// Still to be handed over.
pub const PENDING: i32 = 1 << 9;
/// Failed or undelivered for good.
pub const FAILED: i32 = 1 << 10;
/// Handed over on a channel that gives no receipts.
pub const ACCEPT_ONLY: i32 = 1 << 11;
/// Any of these means that the member knows.
pub const INFORMED: i32 = DIRECT | HOUSEHOLD | TOLD;

/// Why a member does not know yet. The first that applies, in this order, counts,
/// so that the reasons partition the unreached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unreached {
    /// No electronic delivery at all.
    NoAddress,
    /// Every electronic delivery is suppressed.
    OptedOut,
    /// Something went out, or is going out; whether it arrived is not known.
    /// Accept-only channels (无回执) end here.
    NoWord,
    /// Nothing went out yet, and something still will.
    Pending,
    /// Lives away, and nothing could be handed over: no visit finds them either.
    Away,
    /// Everything tried failed for good.
    Failed,
    /// Called off before it went out.
    Cancelled,
}

impl Unreached {
    /// The word people read.
    #[must_use]
    pub fn words(self) -> String {
        match self {
            Self::NoAddress => say!("没有联系方式", "no address"),
            Self::OptedOut => say!("已退订", "opted out"),
            Self::Away => say!("外出", "away"),
            Self::Failed => say!("发送失败", "failed"),
            Self::NoWord => say!("已提交尚无回执", "no word yet"),
            Self::Pending => say!("待发送", "pending"),
            Self::Cancelled => say!("已取消", "cancelled"),
        }
    }

    /// The name programs read.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoAddress => "no_address",
            Self::OptedOut => "opted_out",
            Self::NoWord => "no_word",
            Self::Pending => "pending",
            Self::Away => "away",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// The bits of one member, and whether it lives away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    pub bits: i32,
    pub away: bool,
}

impl Facts {
    /// Any of `bits` is set.
    #[must_use]
    pub const fn has(self, bits: i32) -> bool {
        self.bits & bits != 0
    }

    /// Why the member does not know; `None` when it does.
    #[must_use]
    pub const fn unreached(self) -> Option<Unreached> {
        Some(if self.has(INFORMED) {
            return None;
        } else if !self.has(ELECTRONIC) {
            Unreached::NoAddress
        } else if !self.has(OPEN) {
            Unreached::OptedOut
        } else if self.has(NO_WORD) {
            Unreached::NoWord
        } else if self.has(PENDING) {
            Unreached::Pending
        } else if self.away && !self.has(HANDED) {
            Unreached::Away
        } else if self.has(FAILED) {
            Unreached::Failed
        } else {
            Unreached::Cancelled
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(bits: i32, away: bool) -> Option<Unreached> {
        Facts { bits, away }.unreached()
    }

    #[test]
    fn the_first_reason_in_order_counts() {
        let open = ELECTRONIC | OPEN;
        assert_eq!(why(0, true), Some(Unreached::NoAddress));
        assert_eq!(why(ELECTRONIC, true), Some(Unreached::OptedOut));
        assert_eq!(why(open | NO_WORD | PENDING | FAILED, false), Some(Unreached::NoWord));
        assert_eq!(why(open | PENDING | FAILED, true), Some(Unreached::Pending));
        assert_eq!(why(open | FAILED, true), Some(Unreached::Away));
        assert_eq!(why(open | FAILED | HANDED, true), Some(Unreached::Failed));
        assert_eq!(why(open, false), Some(Unreached::Cancelled));
    }

    #[test]
    fn whoever_knows_has_no_reason() {
        for bit in [DIRECT, HOUSEHOLD, TOLD] {
            assert_eq!(why(bit | FAILED | NO_WORD, true), None);
        }
    }

    #[test]
    fn names_are_what_json_says() {
        for reason in [Unreached::NoAddress, Unreached::NoWord, Unreached::Away, Unreached::Cancelled] {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.name());
        }
    }
}
