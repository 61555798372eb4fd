//! How fast a channel may send: permits weighted by SMS parts, evenly spaced, with
//! no burst at second boundaries; slower when the gateway says so.
//!
//! Written here because the rate changes while it runs (by an operator, by the
//! gateway's 429s) and permits are reserved ahead; governor's quotas are fixed.

use std::time::Duration;

use tokio::time::Instant;

/// Above this many parts a second a channel counts as unlimited.
const UNLIMITED: f64 = 1e8;
/// No rate is lower than this many parts a second.
const SLOWEST: f64 = 0.001;
/// Nothing is owed for longer than this many seconds.
const LONGEST_DEBT: f64 = 3_600.0;
/// How far a late sender may catch up.
const SLACK: Duration = Duration::from_millis(20);
/// How long answers are watched before the rate is judged.
const ROUND: Duration = Duration::from_secs(1);
/// How long a cut that did not help keeps us from cutting again.
const HOLD: Duration = Duration::from_secs(30);
/// A cut helps when the share of throttled answers falls below this much of what it was.
const HELPED: f64 = 0.8;

/// Spaces out sends. Rates are in parts a second.
#[derive(Debug)]
pub struct Pacer {
    declared: f64,
    rate: f64,
    free_at: Instant,
    round: Round,
    /// Share of throttled answers before the cut under trial.
    trial: Option<f64>,
    hold_until: Instant,
}

#[derive(Debug)]
struct Round {
    since: Instant,
    taken: u64,
    throttled: u64,
}

impl Pacer {
    #[must_use]
    pub fn new(declared: f64, now: Instant) -> Self {
        let round = Round { since: now, taken: 0, throttled: 0 };
        Self { declared, rate: declared, free_at: now, round, trial: None, hold_until: now }
    }

    /// An operator set another rate: it holds from the next permit on.
    pub fn declare(&mut self, rate: f64, now: Instant) {
        if (rate - self.declared).abs() > f64::EPSILON {
            self.declared = rate;
            self.rate = rate;
            self.trial = None;
            self.free_at = self.free_at.min(now);
        }
    }

    /// Another engine sends on the channel, too, and this one was granted another part
    /// of the rate. What it owes for what it has sent it goes on owing; what the
    /// gateway's throttling has taught it, it keeps.
    pub fn allow(&mut self, rate: f64, now: Instant) {
        if (rate - self.declared).abs() <= f64::EPSILON {
            return;
        }
        let before = self.rate;
        self.rate = if self.is_throttled() { self.rate.min(rate) } else { rate };
        self.declared = rate;
        let owed = self.free_at.saturating_duration_since(now);
        if !owed.is_zero() {
            let owed = owed.as_secs_f64() * before / self.rate.max(SLOWEST);
            self.free_at = now + Duration::from_secs_f64(owed.min(LONGEST_DEBT));
        }
    }

    /// The gateway takes less than it was declared to.
    #[must_use]
    pub fn is_throttled(&self) -> bool {
        self.rate < self.declared
    }

    /// Takes back a permit that was not used, which held from `at`.
    pub fn put_back(&mut self, at: Instant) {
        self.free_at = at;
    }

    /// The rate in force.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// Takes permits for `parts` and says from when they hold.
    pub fn reserve(&mut self, parts: u32, now: Instant) -> Instant {
        if self.rate >= UNLIMITED {
            return now;
        }
        let at = self.free_at.max(now.checked_sub(SLACK).unwrap_or(now));
        self.free_at = at + Duration::from_secs_f64(f64::from(parts) / self.rate.max(SLOWEST));
        at
    }

    /// Counts an answer and, once a round, judges the rate.
    ///
    /// A gateway that throttles above a ceiling is met at what it took: the rate falls
    /// to that and probes upwards. Where a cut does not lower the share of throttled
    /// answers they have nothing to do with our rate; the cut is undone and not
    /// tried again for half a minute, and the messages alone wait as they were told.
    pub fn answered(&mut self, throttled: bool, now: Instant) {
        if throttled {
            self.round.throttled += 1;
        } else {
            self.round.taken += 1;
        }
        let lasted = now.duration_since(self.round.since);
        if lasted < ROUND || self.rate >= UNLIMITED && self.round.throttled == 0 {
            return;
        }
        let (taken, throttled) = (count(self.round.taken), count(self.round.throttled));
        self.round = Round { since: now, taken: 0, throttled: 0 };
        let share = throttled / (taken + throttled).max(1.0);
        if share < 0.02 {
            self.trial = None;
            self.rate = (self.rate * 1.05 + 0.1).min(self.declared);
            return;
        }
        match self.trial {
            Some(before) if share > before * HELPED => {
                self.rate = self.declared;
                self.trial = None;
                self.hold_until = now + HOLD;
            }
            _ if now < self.hold_until => {}
            _ => {
                let ceiling = taken / lasted.as_secs_f64();
                self.trial = (share > 0.1).then_some(share);
                self.rate = (ceiling * 1.02).clamp(self.declared.min(0.5), self.rate);
            }
        }
    }
}

#[allow(clippy::cast_precision_loss)] // answers of one second
fn count(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays `seconds` against a gateway; returns (sent, taken) a second, by second.
    fn play(pacer: &mut Pacer, seconds: usize, mut gateway: impl FnMut(Instant) -> bool) -> Vec<(f64, f64)> {
        let start = Instant::now();
        let mut now = start;
        let mut by_second = vec![(0.0, 0.0); seconds];
        loop {
            now = now.max(pacer.reserve(1, now));
            let second = usize::try_from(now.duration_since(start).as_secs()).unwrap();
            if second >= seconds {
                return by_second;
            }
            let takes = gateway(now);
            by_second[second].0 += 1.0;
            by_second[second].1 += f64::from(u8::from(takes));
            pacer.answered(!takes, now);
        }
    }

    fn mean(values: impl Iterator<Item = f64>, n: usize) -> f64 {
        values.sum::<f64>() / f64::from(u32::try_from(n).unwrap())
    }

    #[test]
    fn the_rate_holds_and_is_weighted_by_parts() {
        let now = Instant::now();
        let mut pacer = Pacer::new(100.0, now);
        let first = pacer.reserve(3, now);
        let second = pacer.reserve(1, now);
        assert_eq!((second - first).as_millis(), 30);
        let mut pacer = Pacer::new(100.0, Instant::now());
        let sent = mean(play(&mut pacer, 20, |_| true).iter().map(|s| s.0), 20);
        assert!((95.0..105.0).contains(&sent), "{sent}");
    }

    #[test]
    fn shares_that_move_make_no_burst() {
        // Two engines, whose parts of 100 a second are moved to and fro twice a second.
        let start = Instant::now();
        let mut now = start;
        let mut pacers = [Pacer::new(50.0, start), Pacer::new(50.0, start)];
        let mut next = [start, start];
        let mut sent = Vec::new();
        for round in 0..40_u32 {
            let part = if round % 2 == 0 { 98.0 } else { 2.0 };
            for (i, part) in [part, 100.0 - part].into_iter().enumerate() {
                pacers[i].put_back(next[i]);
                pacers[i].allow(part, now);
                next[i] = pacers[i].reserve(1, now);
            }
            let end = start + (round + 1) * Duration::from_millis(500);
            while let Some(i) = (0..2).filter(|i| next[*i] < end).min_by_key(|i| next[*i]) {
                now = now.max(next[i]);
                sent.push(now);
                next[i] = pacers[i].reserve(1, now);
            }
            now = end;
        }
        let whole = sent.len();
        assert!((1_960..=2_040).contains(&whole), "{whole} in 20 s");
        for second in 0..20 {
            let from = start + Duration::from_secs(second);
            let n = sent.iter().filter(|at| **at >= from && **at < from + Duration::from_secs(1)).count();
            assert!((95..=105).contains(&n), "{n} in second {second}");
        }
    }

    #[test]
    fn what_throttling_taught_is_kept_when_a_share_moves() {
        let now = Instant::now();
        let mut pacer = Pacer::new(100.0, now);
        pacer.rate = 20.0;
        pacer.allow(50.0, now);
        assert!((pacer.rate() - 20.0).abs() < 1e-9 && pacer.is_throttled());
        pacer.allow(10.0, now);
        assert!((pacer.rate() - 10.0).abs() < 1e-9 && !pacer.is_throttled());
        pacer.allow(40.0, now);
        assert!((pacer.rate() - 40.0).abs() < 1e-9);
    }

    #[test]
    fn a_gateway_with_a_ceiling_is_met_at_its_ceiling() {
        let mut pacer = Pacer::new(200.0, Instant::now());
        let mut bucket = (Instant::now(), 0.0_f64);
        let seconds = play(&mut pacer, 60, |now| {
            bucket.1 = (bucket.1 + now.duration_since(bucket.0).as_secs_f64() * 100.0).min(5.0);
            bucket.0 = now;
            let takes = bucket.1 >= 1.0;
            bucket.1 -= f64::from(u8::from(takes));
            takes
        });
        let taken = mean(seconds.iter().map(|s| s.1), 60);
        let offered = mean(seconds[5..].iter().map(|s| s.0), 55);
        assert!((95.0..106.0).contains(&taken), "{taken}");
        assert!(offered < 115.0, "{offered}");
    }

    #[test]
    fn throttling_that_slowing_does_not_lower_does_not_slow_us() {
        let mut pacer = Pacer::new(100.0, Instant::now());
        let mut turn = 0_u32;
        let seconds = play(&mut pacer, 60, |_| {
            turn = turn.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            turn & 0x8000_0000 == 0
        });
        let offered = mean(seconds.iter().map(|s| s.0), 60);
        assert!((95.0..105.0).contains(&offered), "{offered}");
    }
}
