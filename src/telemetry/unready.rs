//! What cannot be prepared for sending, for as long as it is tried again and again.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A dispatch on a channel that has not failed for so long goes on.
const MENDED: Duration = Duration::from_mins(2);

/// Dispatches of which this process could not prepare a batch of late: their numbers and
/// channels, and when that was.
#[derive(Debug, Default)]
pub struct Unready(Mutex<BTreeMap<(i64, String), Instant>>);

impl Unready {
    /// A batch of a dispatch could not be prepared.
    pub fn note(&self, dispatch_no: i64, channel: &str, now: Instant) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert((dispatch_no, channel.to_owned()), now);
    }

    /// All of them; those that have not failed for two minutes are forgotten.
    pub fn all(&self, now: Instant) -> Vec<(i64, String)> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, at| now.duration_since(*at) < MENDED);
        kept.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_no_more_is_forgotten() {
        let (unready, start) = (Unready::default(), Instant::now());
        let at = |s: u64| start + Duration::from_secs(s);
        unready.note(7, "sms", at(0));
        unready.note(7, "mail", at(0));
        unready.note(7, "sms", at(60));
        let numbers =
            |s| unready.all(at(s)).into_iter().map(|(no, channel)| format!("{no} {channel}")).collect::<Vec<_>>();
        assert_eq!(numbers(119), ["7 mail", "7 sms"]);
        assert_eq!(numbers(179), ["7 sms"]);
        assert!(numbers(180).is_empty());
    }
}
