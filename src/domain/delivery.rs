//! The state machine of a delivery. One pure function, [`next`], holds the table
//! of transitions; everything else asks it.

use serde::{Deserialize, Serialize};

use super::visit::VisitResult;

/// Where a delivery stands. The numbers are stored; they never change meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(i32)]
pub enum State {
    Planned = 0,
    Queued = 1,
    Sending = 2,
    Sent = 3,
    Delivered = 4,
    Read = 5,
    Confirmed = 6,
    /// The gateway's final word.
    Undelivered = 7,
    /// No word in the channel's time.
    Unknown = 8,
    /// Waits for its next attempt.
    Retry = 9,
    Failed = 10,
    /// A crash or time-out between handing over and hearing back.
    Uncertain = 11,
    /// Waits for the end of the quiet hours.
    Deferred = 12,
    Cancelled = 13,
    /// Opted out.
    Suppressed = 14,
    Printed = 20,
    Posted = 21,
    TakenDown = 22,
    Listed = 30,
    Told = 31,
    Absent = 32,
    Moved = 33,
    Refused = 34,
}

impl State {
    /// Every state, in the order people read them.
    pub const ALL: [Self; 23] = [
        Self::Planned,
        Self::Queued,
        Self::Deferred,
        Self::Sending,
        Self::Retry,
        Self::Uncertain,
        Self::Sent,
        Self::Delivered,
        Self::Read,
        Self::Confirmed,
        Self::Undelivered,
        Self::Unknown,
        Self::Failed,
        Self::Cancelled,
        Self::Suppressed,
        Self::Printed,
        Self::Posted,
        Self::TakenDown,
        Self::Listed,
        Self::Told,
        Self::Absent,
        Self::Moved,
        Self::Refused,
    ];

    /// The stored number.
    #[must_use]
    pub const fn code(self) -> i32 {
        self as i32
    }

    /// The state of a stored number.
    #[must_use]
    pub fn from_code(code: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.code() == code)
    }

    /// The name programs read (`status --json`).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Queued => "queued",
            Self::Sending => "sending",
            Self::Sent => "sent",
            Self::Delivered => "delivered",
            Self::Read => "read",
            Self::Confirmed => "confirmed",
            Self::Undelivered => "undelivered",
            Self::Unknown => "unknown",
            Self::Retry => "retry",
            Self::Failed => "failed",
            Self::Uncertain => "uncertain",
            Self::Deferred => "deferred",
            Self::Cancelled => "cancelled",
            Self::Suppressed => "suppressed",
            Self::Printed => "printed",
            Self::Posted => "posted",
            Self::TakenDown => "taken_down",
            Self::Listed => "listed",
            Self::Told => "told",
            Self::Absent => "absent",
            Self::Moved => "moved",
            Self::Refused => "refused",
        }
    }

    /// No action is left to gong; receipts may still raise it. Whether `Sent` is
    /// final depends on the channel: with receipts it still waits for one.
    #[must_use]
    pub const fn is_final(self, receipts_expected: bool) -> bool {
        match self {
            Self::Planned | Self::Queued | Self::Sending | Self::Retry | Self::Uncertain | Self::Deferred => false,
            Self::Sent => !receipts_expected,
            _ => true,
        }
    }

    /// Nothing has left for this delivery, or nothing that the gateway took.
    #[must_use]
    pub const fn is_stoppable(self) -> bool {
        matches!(self, Self::Planned | Self::Queued | Self::Retry | Self::Deferred)
    }

    /// How strong the evidence is:
    /// confirmed > read > delivered > undelivered, failed > unknown > sent.
    const fn rank(self) -> u8 {
        match self {
            Self::Confirmed => 6,
            Self::Read => 5,
            Self::Delivered => 4,
            Self::Undelivered | Self::Failed | Self::Cancelled | Self::Suppressed => 3,
            Self::Unknown => 2,
            Self::Sent => 1,
            _ => 0,
        }
    }
}

/// Why a delivery stands where it stands; stored beside the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(i32)]
pub enum Reason {
    None = 0,
    Permanent = 1,
    AddressGone = 2,
    Expired = 3,
    TooManyAttempts = 4,
    OptedOut = 5,
    OutOfScope = 6,
    Throttled = 7,
    Temporary = 8,
    /// Handed over perhaps; waits to be settled.
    NoAnswer = 9,
    /// Repeated although the gateway may have it: a possible duplicate.
    Repeat = 10,
    QuietHours = 11,
    Misconfigured = 12,
    Operator = 13,
    /// Still to go out when the copy was made that the store was restored from.
    Restored = 14,
    /// The receiver wants nothing of its channel any more.
    Withdrawn = 15,
}

impl Reason {
    const ALL: [Self; 16] = [
        Self::None,
        Self::Permanent,
        Self::AddressGone,
        Self::Expired,
        Self::TooManyAttempts,
        Self::OptedOut,
        Self::OutOfScope,
        Self::Throttled,
        Self::Temporary,
        Self::NoAnswer,
        Self::Repeat,
        Self::QuietHours,
        Self::Misconfigured,
        Self::Operator,
        Self::Restored,
        Self::Withdrawn,
    ];

    /// The stored number.
    #[must_use]
    pub const fn code(self) -> i32 {
        self as i32
    }

    /// The reason of a stored number.
    #[must_use]
    pub fn from_code(code: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.code() == code)
    }
}

/// What a receipt says, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// On its way: buffered, accepted further on.
    Sent,
    Undelivered,
    Delivered,
    Read,
    Confirmed,
}

impl Word {
    /// The state this word claims.
    #[must_use]
    pub const fn state(self) -> State {
        match self {
            Self::Sent => State::Sent,
            Self::Undelivered => State::Undelivered,
            Self::Delivered => State::Delivered,
            Self::Read => State::Read,
            Self::Confirmed => State::Confirmed,
        }
    }
}

/// What happens to a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// Packed into a batch.
    Queue,
    /// Marked just before its send.
    Mark,
    /// Marked, yet never sent: given back.
    Unmark,
    /// The gateway took it.
    Accepted,
    /// The gateway threw it back for now.
    TryAgain,
    /// The gateway, or gong, gave it up for good.
    Reject,
    /// No answer, or the worker died between mark and answer.
    Lose,
    /// An uncertain one goes again under the same client id.
    Repeat,
    /// The quiet hours began.
    Defer,
    /// Expired before it could be handed over.
    Expire,
    /// Called off by an operator.
    Cancel,
    /// The channel's time for a receipt is over.
    WaitOver,
    /// A sheet lies in the print queue.
    Print,
    /// Somebody confirmed that a sheet hangs.
    Post,
    /// Somebody confirmed that it was taken down.
    TakeDown,
    /// A receipt; `current` when it speaks of the latest attempt.
    Receipt { word: Word, current: bool },
    /// Somebody knocked at the door.
    Visited(VisitResult),
}

/// The table of transitions: the state after `event`, or `None` where the event
/// changes nothing in that state.
#[must_use]
pub fn next(state: State, event: Event) -> Option<State> {
    use State as S;
    let to = match (state, event) {
        (S::Planned | S::Retry | S::Deferred, Event::Queue)
        | (S::Sending, Event::Unmark)
        | (S::Uncertain, Event::Repeat) => S::Queued,
        (S::Queued, Event::Mark) => S::Sending,
        (S::Sending, Event::Accepted) => S::Sent,
        (S::Sending, Event::TryAgain) => S::Retry,
        (S::Sending, Event::Reject) => S::Failed,
        (S::Sending, Event::Lose) => S::Uncertain,
        (S::Planned | S::Queued | S::Retry, Event::Defer) => S::Deferred,
        (S::Planned | S::Queued | S::Retry | S::Deferred, Event::Expire) => S::Failed,
        (S::Planned | S::Queued | S::Retry | S::Deferred, Event::Cancel) => S::Cancelled,
        (S::Sent | S::Uncertain, Event::WaitOver) => S::Unknown,
        (S::Sending, Event::Print) => S::Printed,
        // A sheet can be printed by hand, too: whatever is known of its file, it hangs.
        (S::Queued | S::Retry | S::Deferred | S::Uncertain | S::Unknown | S::Failed | S::Printed, Event::Post) => {
            S::Posted
        }
        (S::Printed | S::Posted, Event::TakeDown) => S::TakenDown,
        (_, Event::Receipt { word, current }) => return after_receipt(state, word, current),
        (_, Event::Visited(result)) => return result.after(state),
        _ => return None,
    };
    Some(to)
}

/// Evidence only rises. Words short of delivery about an older attempt say
/// nothing about the one that is under way.
fn after_receipt(state: State, word: Word, current: bool) -> Option<State> {
    if matches!(state, State::Planned | State::Suppressed) || state.code() >= State::Printed.code() {
        return None;
    }
    let claimed = word.state();
    let weak = claimed.rank() < State::Delivered.rank();
    if weak && !current {
        return None;
    }
    // The worker still owns the row: only its own answer says "taken".
    if state == State::Sending && word == Word::Sent {
        return None;
    }
    (claimed.rank() > state.rank()).then_some(claimed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WORDS: [Word; 5] = [Word::Sent, Word::Undelivered, Word::Delivered, Word::Read, Word::Confirmed];

    fn receipt(word: Word) -> Event {
        Event::Receipt { word, current: true }
    }

    #[test]
    fn codes_round_trip() {
        for state in State::ALL {
            assert_eq!(State::from_code(state.code()), Some(state));
        }
        for reason in Reason::ALL {
            assert_eq!(Reason::from_code(reason.code()), Some(reason));
        }
        assert_eq!(State::from_code(99), None);
    }

    #[test]
    fn a_late_delivered_beats_unknown_undelivered_and_failed() {
        for state in [State::Unknown, State::Undelivered, State::Failed, State::Uncertain, State::Retry, State::Queued]
        {
            assert_eq!(next(state, receipt(Word::Delivered)), Some(State::Delivered));
        }
        assert_eq!(next(State::Delivered, receipt(Word::Sent)), None);
        assert_eq!(next(State::Delivered, receipt(Word::Undelivered)), None);
        assert_eq!(next(State::Delivered, receipt(Word::Delivered)), None);
    }

    #[test]
    fn a_weak_word_about_an_older_attempt_changes_nothing() {
        let old = |word| Event::Receipt { word, current: false };
        assert_eq!(next(State::Retry, old(Word::Undelivered)), None);
        assert_eq!(next(State::Sent, old(Word::Undelivered)), None);
        assert_eq!(next(State::Sent, old(Word::Delivered)), Some(State::Delivered));
    }

    #[test]
    fn a_sheet_hangs_before_it_is_taken_down_and_no_receipt_moves_it() {
        assert_eq!(next(State::Sending, Event::Print), Some(State::Printed));
        assert_eq!(next(State::Printed, Event::Post), Some(State::Posted));
        assert_eq!(next(State::Posted, Event::TakeDown), Some(State::TakenDown));
        assert_eq!(next(State::Posted, Event::Post), None);
        assert_eq!(next(State::TakenDown, Event::Post), None);
        for state in [State::Sending, State::Cancelled, State::Suppressed, State::Listed, State::Delivered] {
            assert_eq!(next(state, Event::Post), None, "{state:?}");
            assert_eq!(next(state, Event::TakeDown), None, "{state:?}");
        }
        for state in [State::Printed, State::Posted, State::TakenDown] {
            assert!(state.is_final(true) && !state.is_stoppable());
            assert_eq!(next(state, receipt(Word::Confirmed)), None);
        }
    }

    #[test]
    fn only_a_queued_row_is_marked() {
        for state in State::ALL {
            assert_eq!(next(state, Event::Mark).is_some(), state == State::Queued, "{state:?}");
        }
    }

    proptest! {
        /// In whatever order receipts come, and however often, the strongest wins.
        #[test]
        fn receipts_commute(words in proptest::collection::vec(0usize..5, 1..8), start in prop_oneof![Just(State::Sent), Just(State::Uncertain), Just(State::Unknown)]) {
            let run = |order: &mut dyn Iterator<Item = usize>| order.fold(start, |s, w| next(s, receipt(WORDS[w])).unwrap_or(s));
            let forward = run(&mut words.iter().copied());
            let backward = run(&mut words.iter().rev().copied());
            prop_assert_eq!(forward, backward);
            prop_assert!(forward.rank() >= start.rank());
        }
    }
}
