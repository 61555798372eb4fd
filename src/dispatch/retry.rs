//! When to try again: exponential with full jitter. The `backoff` crate is used
//! here and nowhere else (it is unmaintained; `deny.toml` says why it stays).

use std::time::Duration;

use backoff::backoff::Backoff as _;
use backoff::{ExponentialBackoff, ExponentialBackoffBuilder};
use serde::{Deserialize, Serialize};

use crate::clock::Millis;

/// How hard gong tries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetrySettings {
    /// The first interval, in milliseconds; each further one doubles.
    pub initial_ms: u64,
    /// No interval is longer, in milliseconds.
    pub max_ms: u64,
    /// Failures (throttling not counted) after which a delivery has failed.
    pub attempts: i32,
    /// How long an uncertain delivery that may be repeated waits for a receipt first,
    /// in milliseconds.
    pub settle_ms: Millis,
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self { initial_ms: 2_000, max_ms: 300_000, attempts: 8, settle_ms: 3_000 }
    }
}

impl RetrySettings {
    /// Milliseconds until the try that follows `failures` failures: uniform between
    /// nothing and twice the mean, so that a thousand refused messages do not come
    /// back in one instant.
    #[must_use]
    pub fn interval(&self, failures: i32) -> Millis {
        let doubled = 1_u64 << failures.clamp(0, 20);
        let ceiling = self.initial_ms.saturating_mul(doubled).min(self.max_ms).max(2);
        // The crate draws from mean ± factor × mean; full jitter is the factor 1.
        let mut policy: ExponentialBackoff = ExponentialBackoffBuilder::new()
            .with_initial_interval(Duration::from_millis(ceiling / 2))
            .with_randomization_factor(1.0)
            .with_max_elapsed_time(None)
            .build();
        let drawn = policy.next_backoff().unwrap_or(Duration::from_millis(ceiling));
        Millis::try_from(drawn.as_millis()).unwrap_or(Millis::MAX).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_grow_to_the_ceiling_and_no_further() {
        let settings = RetrySettings { initial_ms: 100, max_ms: 1_000, attempts: 8, settle_ms: 0 };
        for (failures, ceiling) in [(0, 100), (1, 200), (3, 800), (4, 1_000), (40, 1_000)] {
            let drawn: Vec<Millis> = (0..200).map(|_| settings.interval(failures)).collect();
            assert!(drawn.iter().all(|d| *d <= ceiling), "{failures}: {drawn:?}");
            assert!(drawn.iter().any(|d| *d > ceiling / 2), "{failures}: {drawn:?}");
        }
    }
}
