//! What cannot be planned or prepared for sending, for as long as it is tried again and again.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A dispatch on a channel that has not failed for so long goes on.
const MENDED: Duration = Duration::from_mins(2);

/// A dispatch by its number, and the channel for which its batches cannot be prepared; none
/// where it cannot even be planned.
pub type Stuck = (i64, Option<String>);

/// What this process could not make ready of late, and when that was.
#[derive(Debug, Default)]
pub struct Unready(Mutex<BTreeMap<Stuck, Instant>>);

impl Unready {
    /// It could not be made ready now.
    pub fn note(&self, stuck: Stuck, now: Instant) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(stuck, now);
    }

    /// All of them; those that have not failed for two minutes are forgotten.
    pub fn all(&self, now: Instant) -> Vec<Stuck> {
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
        let sms = || (7, Some("sms".to_owned()));
        unready.note(sms(), at(0));
        unready.note((7, None), at(0));
        unready.note(sms(), at(60));
        assert_eq!(unready.all(at(119)), [(7, None), sms()]);
        assert_eq!(unready.all(at(179)), [sms()]);
        assert!(unready.all(at(180)).is_empty());
    }
}
