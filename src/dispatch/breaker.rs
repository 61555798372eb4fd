//! Stops a channel whose gateway takes nothing at all: nobody answers, or our
//! credentials are refused. While it stops, messages wait and no attempt is spent;
//! then they go one at a time until one is answered.

use std::time::Duration;

use tokio::time::Instant;

use crate::channel::Class;

/// The first pause; each further one doubles.
const FIRST: Duration = Duration::from_secs(1);
/// No pause is longer; wrong credentials begin with it, for they mend themselves seldom.
const LONGEST: Duration = Duration::from_secs(30);

/// What a channel has heard of late.
#[derive(Debug)]
pub struct Breaker {
    /// Pauses since the last answer.
    strikes: u32,
    until: Instant,
}

impl Breaker {
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { strikes: 0, until: now }
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
            Some(Class::Misconfigured) => LONGEST,
            _ => {
                self.strikes = 0;
                return None;
            }
        };
        // What was under way when it stopped says nothing new.
        if !self.lets_through(now) {
            return None;
        }
        self.strikes += 1;
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
}
