//! What an answer means for a delivery: a pure decision.

use crate::channel::{CLASS_ACCEPTED, Class, Outcome, Target};
use crate::clock::Millis;
use crate::domain::delivery::{Reason, State};
use crate::domain::ids::MAX_ATTEMPT;
use crate::store::turn::{Change, PRINTED, TAKEN};

use super::retry::RetrySettings;

/// How long a message waits after a declaration or password proved wrong, in milliseconds.
pub const MISCONFIGURED_WAIT: Millis = 60_000;

/// What is known of a delivery when its answer comes.
#[derive(Debug, Clone, Copy)]
pub struct Tried {
    pub attempt: i32,
    pub failures: i32,
    /// It may go again under the same client id when nobody knows.
    pub repeatable: bool,
    /// How long its channel waits for receipts, in milliseconds.
    pub receipt_wait: Millis,
}

/// The class as stored, and the change to the row.
#[must_use]
pub fn decide(outcome: &Outcome, tried: Tried, retry: &RetrySettings, now: Millis) -> (i32, Change) {
    let (class, after) = match outcome {
        Outcome::Accepted { .. } => return (CLASS_ACCEPTED, TAKEN),
        Outcome::Failed { class, retry_after, .. } => (*class, *retry_after),
    };
    let after = after.map_or(0, |d| Millis::try_from(d.as_millis()).unwrap_or(Millis::MAX / 4));
    let again = |interval: Millis| Some(now + after.max(interval));
    let spent = tried.failures + 1 >= retry.attempts || tried.attempt >= i32::from(MAX_ATTEMPT);
    let change = match class {
        Class::Throttled => change(State::Retry, Reason::Throttled, again(retry.interval(0))),
        Class::Misconfigured => change(State::Retry, Reason::Misconfigured, again(MISCONFIGURED_WAIT)),
        Class::Withdrawn => change(State::Retry, Reason::Withdrawn, again(retry.interval(0))),
        Class::Unreachable => change(State::Retry, Reason::Temporary, again(retry.interval(0))),
        Class::Temporary if spent => Change { failures: 1, ..change(State::Failed, Reason::TooManyAttempts, None) },
        Class::Temporary => {
            let next = again(retry.interval(tried.failures));
            Change { failures: 1, attempts: 1, ..change(State::Retry, Reason::Temporary, next) }
        }
        Class::Permanent => change(State::Failed, Reason::Permanent, None),
        Class::AddressGone => change(State::Failed, Reason::AddressGone, None),
        Class::Unknown if tried.repeatable && !spent => {
            Change { failures: 1, ..change(State::Uncertain, Reason::Repeat, Some(now + retry.settle_ms)) }
        }
        Class::Unknown => {
            Change { failures: 1, ..change(State::Uncertain, Reason::NoAnswer, Some(now + tried.receipt_wait)) }
        }
    };
    (class as i32, change)
}

/// What an accepted message becomes, by what its channel aims at: a sheet that was
/// taken is printed, and hangs when somebody says so.
#[must_use]
pub fn taken_by(target: Target, change: Change) -> Change {
    if target == Target::Point && change == TAKEN { PRINTED } else { change }
}

fn change(state: State, reason: Reason, next_at: Option<Millis>) -> Change {
    Change { state, reason, next_at, failures: 0, attempts: 0 }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::delivery::{Event, next};

    const TRIED: Tried = Tried { attempt: 1, failures: 0, repeatable: true, receipt_wait: 1_000 };

    fn decided(class: Class, tried: Tried) -> Change {
        let outcome = Outcome::Failed { class, code: String::new(), retry_after: Some(Duration::from_secs(9)) };
        decide(&outcome, tried, &RetrySettings::default(), 0).1
    }

    #[test]
    fn throttling_costs_no_attempt_and_obeys_retry_after() {
        let change = decided(Class::Throttled, Tried { failures: 7, ..TRIED });
        assert_eq!((change.state, change.failures, change.attempts), (State::Retry, 0, 0));
        assert!(change.next_at >= Some(9_000));
    }

    #[test]
    fn a_gateway_that_is_not_there_costs_no_attempt() {
        for class in [Class::Unreachable, Class::Misconfigured, Class::Withdrawn] {
            let change = decided(class, Tried { failures: 7, ..TRIED });
            assert_eq!((change.state, change.failures, change.attempts), (State::Retry, 0, 0));
        }
    }

    #[test]
    fn a_true_retry_is_a_new_attempt_and_a_repeat_is_not() {
        assert_eq!(decided(Class::Temporary, TRIED).attempts, 1);
        let lost = decided(Class::Unknown, TRIED);
        assert_eq!((lost.state, lost.reason, lost.attempts), (State::Uncertain, Reason::Repeat, 0));
        let routine = decided(Class::Unknown, Tried { repeatable: false, ..TRIED });
        assert_eq!((routine.reason, routine.next_at), (Reason::NoAnswer, Some(1_000)));
    }

    #[test]
    fn tries_end() {
        assert_eq!(decided(Class::Temporary, Tried { failures: 7, ..TRIED }).state, State::Failed);
        assert_eq!(decided(Class::Unknown, Tried { failures: 7, ..TRIED }).reason, Reason::NoAnswer);
    }

    #[test]
    fn a_sheet_that_was_taken_is_printed() {
        let taken = decide(
            &Outcome::Accepted { gateway_ids: Vec::new(), code: String::new() },
            TRIED,
            &RetrySettings::default(),
            0,
        )
        .1;
        assert_eq!(taken_by(Target::Account, taken), TAKEN);
        let printed = taken_by(Target::Point, taken);
        assert_eq!(Some(printed.state), next(State::Sending, Event::Print));
        let failed = decided(Class::Permanent, TRIED);
        assert_eq!(taken_by(Target::Point, failed), failed);
    }

    /// Every decision is a transition the table allows.
    #[test]
    fn decisions_obey_the_table() {
        let classes = [
            Class::Throttled,
            Class::Temporary,
            Class::Permanent,
            Class::AddressGone,
            Class::Misconfigured,
            Class::Unknown,
            Class::Unreachable,
            Class::Withdrawn,
        ];
        let events = [Event::TryAgain, Event::Reject, Event::Lose];
        for class in classes {
            for failures in [0, 7] {
                let state = decided(class, Tried { failures, ..TRIED }).state;
                assert!(events.iter().any(|e| next(State::Sending, *e) == Some(state)), "{class:?} {state:?}");
            }
        }
    }
}
