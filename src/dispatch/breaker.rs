//! Stops a channel whose gateway takes nothing at all: nobody answers, or our
//! credentials are refused, message after message. While it stops, messages wait and no attempt is spent;
//! then they go one at a time until one is answered.

use std::time::Duration;

use tokio::time::Instant;

use crate::channel::Class;

/// The first pause; each further one doubles.
const FIRST: Duration = Duration::from_secs(1);
/// No pause is longer; wrong credentials begin with it, for they mend themselves seldom.
const LONGEST: Duration = Duration::from_secs(30);

/// So many refusals of our credentials in a row, with nothing accepted between, stop a
/// channel that was accepting: a gateway may answer 401 to one odd message.
const REFUSALS: u32 = 3;

/// What a channel has heard of late.
#[derive(Debug)]
pub struct Breaker {
    /// Pauses since the last answer.
    strikes: u32,
    until: Instant,
    /// Refusals of our credentials since a message was accepted.
    refusals: u32,
    /// A message was accepted since the channel started or stopped.
    trusted: bool,
}

impl Breaker {
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { strikes: 0, until: now, refusals: 0, trusted: false }
    }

    /// Whether messages may go.
    #[must_use]
    pub fn lets_through(&self, now: Instant) -> bool {
        now >= self.until
    }

    /// Nothing was answered since the last pause: one message at a time.
    #[must_use]
    pub fn is_probing(&self) -> bool {
        self.strikes > 0
    }

    /// Hears how a message failed (`None`: it was taken); says for how long the
    /// channel stops because of it.
    pub fn hear(&mut self, failure: Option<Class>, now: Instant) -> Option<Duration> {
        let pause = match failure {
            Some(Class::Unreachable) => (FIRST * (1 << self.strikes.min(5))).min(LONGEST),
            // Until its pause stands in the store, and after a resume that changed nothing.
            Some(Class::Withdrawn) => LONGEST,
            Some(Class::Misconfigured) => {
                self.refusals += 1;
                if self.trusted && self.refusals < REFUSALS {
                    return None;
                }
                LONGEST
            }
            _ => {
                if failure.is_none() {
                    self.trusted = true;
                    self.refusals = 0;
                }
                self.strikes = 0;
                return None;
            }
        };
        // What was under way when it stopped says nothing new.
        if !self.lets_through(now) {
            return None;
        }
        self.strikes += 1;
        self.trusted = false;
        self.until = now + pause;
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_the_longest_and_an_answer_ends_them() {
        let mut now = Instant::now();
        let mut breaker = Breaker::new(now);
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            assert!(breaker.lets_through(now));
            let pause = breaker.hear(Some(Class::Unreachable), now);
            assert_eq!(pause, Some(Duration::from_secs(seconds)));
            assert_eq!(breaker.hear(Some(Class::Unreachable), now), None, "one strike a pause");
            assert!(!breaker.lets_through(now) && breaker.is_probing());
            now += pause.unwrap();
        }
        assert_eq!(breaker.hear(Some(Class::Temporary), now), None);
        assert!(breaker.lets_through(now) && !breaker.is_probing());
        assert_eq!(breaker.hear(Some(Class::Misconfigured), now), Some(LONGEST));
    }

    #[test]
    fn one_odd_refusal_does_not_stop_a_channel_that_accepts() {
        let now = Instant::now();
        let mut breaker = Breaker::new(now);
        for _ in 0..5 {
            assert_eq!(breaker.hear(None, now), None);
            assert_eq!(breaker.hear(Some(Class::Misconfigured), now), None);
            assert_eq!(breaker.hear(Some(Class::Misconfigured), now), None);
        }
        assert!(!breaker.is_probing() && breaker.lets_through(now));
        assert_eq!(breaker.hear(None, now), None);
        // What the gateway says of other messages does not vouch for our credentials.
        for failure in [Class::Misconfigured, Class::Permanent, Class::Misconfigured, Class::Throttled] {
            assert_eq!(breaker.hear(Some(failure), now), None);
        }
        assert_eq!(breaker.hear(Some(Class::Misconfigured), now), Some(LONGEST));
        // Nothing was accepted since, so the first refusal after the pause is enough.
        assert_eq!(breaker.hear(Some(Class::Misconfigured), now + LONGEST), Some(LONGEST));
    }

    #[test]
    fn credentials_that_never_worked_stop_it_at_once() {
        let now = Instant::now();
        assert_eq!(Breaker::new(now).hear(Some(Class::Misconfigured), now), Some(LONGEST));
    }

    #[test]
    fn a_receiver_that_wants_nothing_more_stops_it_at_the_first_word() {
        let now = Instant::now();
        let mut breaker = Breaker::new(now);
        assert_eq!(breaker.hear(None, now), None);
        assert_eq!(breaker.hear(Some(Class::Withdrawn), now), Some(LONGEST));
        assert!(!breaker.lets_through(now) && breaker.is_probing());
    }
}
