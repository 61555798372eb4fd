//! Where time comes from. Tests hold it still or jump 48 hours.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Epoch milliseconds, UTC.
pub type Millis = i64;

/// A source of wall-clock time.
#[derive(Debug, Clone)]
pub enum Clock {
    System,
    /// Stands at the held value until a test moves it.
    Held(Arc<AtomicI64>),
}

impl Clock {
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
            Self::Held(at) => at.load(Ordering::SeqCst),
        }
    }

    /// Moves a held clock; the system clock is not ours to move.
    pub fn advance(&self, by: Millis) {
        if let Self::Held(at) = self {
            at.fetch_add(by, Ordering::SeqCst);
        }
    }
}
