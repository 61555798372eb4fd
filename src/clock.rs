//! Where time comes from. Tests hold it still or jump 48 hours.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// Epoch milliseconds, UTC.
pub type Millis = i64;

/// An answer that took longer says too little of when it was given.
const PROMPT: Duration = Duration::from_millis(500);

/// A source of wall-clock time.
#[derive(Debug, Clone)]
pub enum Clock {
    System,
    /// Another machine's, carried on by this process's monotonic clock.
    Followed(Arc<Followed>),
    /// Stands at the held value until a test moves it.
    Held(Arc<AtomicI64>),
}

/// What another clock shows, as far as it was heard.
#[derive(Debug)]
pub struct Followed {
    began: Instant,
    /// What it showed when `began`.
    at_began: AtomicI64,
}

impl Followed {
    /// What it showed when `began`, when it showed `at` halfway between `asked` and now.
    fn at_began(began: Instant, asked: Instant, at: Millis) -> Millis {
        at - millis(asked.duration_since(began) + asked.elapsed() / 2)
    }
}

fn millis(span: Duration) -> Millis {
    Millis::try_from(span.as_millis()).unwrap_or(Millis::MAX / 4)
}

impl Clock {
    /// Follows a clock that showed `at` when it was `asked`.
    #[must_use]
    pub fn followed(asked: Instant, at: Millis) -> Self {
        let at_began = AtomicI64::new(Followed::at_began(asked, asked, at));
        Self::Followed(Arc::new(Followed { began: asked, at_began }))
    }

    /// The clock that this one follows, if it follows any, showed `at` when it was
    /// `asked`. What the way there and back may explain changes nothing.
    pub fn hear(&self, asked: Instant, at: Millis) {
        let (Self::Followed(clock), way) = (self, asked.elapsed()) else { return };
        let heard = Followed::at_began(clock.began, asked, at);
        let off = heard.abs_diff(clock.at_began.load(Ordering::SeqCst));
        if way <= PROMPT && u128::from(off) > way.as_millis() / 2 + 1 {
            clock.at_began.store(heard, Ordering::SeqCst);
        }
    }

    /// A clock that stands still at `at`.
    #[must_use]
    pub fn held(at: Millis) -> Self {
        Self::Held(Arc::new(AtomicI64::new(at)))
    }

    /// Now, in epoch milliseconds.
    #[must_use]
    pub fn now(&self) -> Millis {
        match self {
            #[allow(clippy::disallowed_methods)] // its one home
            Self::System => jiff::Timestamp::now().as_millisecond(),
            Self::Followed(clock) => clock.at_began.load(Ordering::SeqCst) + millis(clock.began.elapsed()),
            Self::Held(at) => at.load(Ordering::SeqCst),
        }
    }

    /// Moves a held clock; no other is ours to move.
    pub fn advance(&self, by: Millis) {
        if let Self::Held(at) = self {
            at.fetch_add(by, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_followed_clock_goes_on_by_itself_and_goes_where_the_other_went() {
        let shows = |clock: &Clock, at: Millis| (clock.now() - at).abs() < 200;
        let ago = |span| Instant::now().checked_sub(span).unwrap();
        // Asked ten seconds ago, it was answered halfway.
        let clock = Clock::followed(ago(Duration::from_secs(10)), 1_000_000);
        assert!(shows(&clock, 1_005_000));
        // The other has drifted by less than its answer took to come.
        let before = clock.now();
        clock.hear(ago(Duration::from_millis(100)), before - 20);
        assert!((clock.now() - before).abs() < 20, "no more than time went by");
        clock.hear(Instant::now(), 5_000_000);
        assert!(shows(&clock, 5_000_000));
        clock.hear(ago(2 * PROMPT), 9_000_000);
        assert!(shows(&clock, 5_000_000), "an answer that was long on its way says nothing");
        let held = Clock::held(7);
        held.hear(Instant::now(), 8);
        assert_eq!(held.now(), 7);
    }
}
