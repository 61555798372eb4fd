//! A wall clock that jumps must not expire what is waiting: nothing is given up or
//! taken over until it has run steadily again.

use std::time::Duration;

use tokio::time::Instant;

use crate::clock::{Clock, Millis};

/// How far wall and monotonic clock may drift apart between two looks, in milliseconds.
const SLACK: Millis = 10_000;
/// How long the clock must run steadily before it is believed again.
const STEADY: Duration = Duration::from_mins(1);

/// A look at the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// What it showed. Whoever acts on it must not look again: it may jump meanwhile.
    pub at: Millis,
    /// `false` while it is not to be believed.
    pub steady: bool,
}

/// Compares the wall clock with the monotonic one.
#[derive(Debug)]
pub struct ClockGuard {
    clock: Clock,
    last: (Millis, Instant),
    doubted_until: Option<Instant>,
}

impl ClockGuard {
    /// Begins to watch. `newest` is the newest time on record: a clock behind it is
    /// not believed.
    #[must_use]
    pub fn new(clock: Clock, newest: Millis) -> Self {
        let (wall, now) = (clock.now(), Instant::now());
        let behind = wall + SLACK < newest;
        if behind {
            tracing::error!(
                "the clock stands behind the last record; nothing expires until it runs steadily. Set the clock"
            );
        }
        Self { clock, last: (wall, now), doubted_until: behind.then(|| now + STEADY) }
    }

    /// Looks at the clock.
    pub fn now(&mut self) -> Seen {
        let at = self.clock.now();
        // A clock that a test holds is moved on purpose.
        let steady = matches!(self.clock, Clock::Held(_)) || self.look(at, Instant::now());
        Seen { at, steady }
    }

    /// Whether a time that was asked for right after this look is of the clock that was
    /// looked at: it may have jumped since it was last heard of.
    #[must_use]
    pub fn agrees(clock: &Clock, seen: Millis, asked: Millis) -> bool {
        matches!(clock, Clock::Held(_)) || (asked - seen).abs() <= SLACK
    }

    fn look(&mut self, wall: Millis, now: Instant) -> bool {
        let ran = Millis::try_from(now.duration_since(self.last.1).as_millis()).unwrap_or(Millis::MAX);
        let jump = wall - self.last.0 - ran;
        self.last = (wall, now);
        if jump.abs() > SLACK {
            tracing::error!(jump_ms = jump, "the clock jumped; nothing expires until it has run steadily for a minute");
            self.doubted_until = Some(now + STEADY);
        }
        match self.doubted_until {
            Some(until) if now < until => false,
            _ => {
                self.doubted_until = None;
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_is_doubted_for_a_minute() {
        let start = Instant::now();
        let mut guard = ClockGuard { clock: Clock::System, last: (0, start), doubted_until: None };
        let at = |s: u64| start + Duration::from_secs(s);
        assert!(guard.look(1_000, at(1)));
        assert!(!guard.look(3_600_000, at(2)), "an hour forward");
        assert!(!guard.look(3_630_000, at(32)));
        assert!(guard.look(3_661_000, at(63)));
        assert!(!guard.look(10_000, at(64)), "and back");
    }

    #[test]
    fn a_time_of_another_clock_does_not_agree() {
        let agrees = |asked| ClockGuard::agrees(&Clock::System, 1_000_000, asked);
        assert!(agrees(1_000_900) && agrees(991_000));
        assert!(!agrees(8_200_000) && !agrees(900_000));
        assert!(ClockGuard::agrees(&Clock::held(7), 7, 1_000_000), "a test's clock is its own");
    }

    #[test]
    fn a_followed_clock_is_doubted_when_the_other_jumps() {
        let clock = Clock::followed(std::time::Instant::now(), 1_000_000);
        let mut guard = ClockGuard::new(clock.clone(), 0);
        assert!(guard.now().steady);
        clock.hear(std::time::Instant::now(), 4_600_000);
        assert!(!guard.now().steady, "an hour forward");
    }
}
