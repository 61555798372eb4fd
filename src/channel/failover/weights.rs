//! Which of several gateways takes the next message: shares that drift away from one
//! that errs or is slower than the others, and back.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// How often shares move, at most.
const TICK: Duration = Duration::from_millis(250);
/// How far a share moves towards where it should be, each tick.
const STEP: f64 = 0.25;
/// What one answer weighs in the share of errors.
const ANSWER: f64 = 0.15;
/// The share of errors is forgotten by half in this time.
const HALF_LIFE: Duration = Duration::from_secs(10);
/// From this share of errors on a gateway is tried by one message at a time.
const BAD: f64 = 0.5;
/// No share falls below this part of its own, so that a gateway that mends is found out.
const FLOOR: f64 = 0.02;
/// Answers of the last half minute, and so many of them at most, make the median.
const RECENT: Duration = Duration::from_secs(30);
const SAMPLES: usize = 31;
const ENOUGH: usize = 5;
/// Slower is: more than twice the fastest other, and by more than this.
const NOTICEABLE: Duration = Duration::from_millis(50);
/// How far a late sender may catch up.
const SLACK: Duration = Duration::from_millis(20);
/// No gateway is paced slower than this many parts a second, if it bears as much: how
/// much goes out the channel has seen to, and what is under way already must not wait
/// for as long as this process has no share of the rate.
const SLOWEST: f64 = 1.0;

/// What a gateway did with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It answered, after so long.
    Answered(Duration),
    /// Nobody there, 5xx, or no answer.
    Erred,
    /// Over its rate: no fault of it, but full for so long.
    Full(Duration),
}

/// The gateways of a channel as they do of late.
#[derive(Debug)]
pub struct Weights {
    all: Vec<Gauge>,
    moved_at: Instant,
}

#[derive(Debug)]
struct Gauge {
    /// Parts a second, declared: its own share.
    rate: f64,
    /// Parts a second that this process may send to it.
    paced: f64,
    /// What is left of that share, [`FLOOR`] to 1.
    weight: f64,
    /// Recent share of errors.
    errors: f64,
    answers: VecDeque<(Instant, Duration)>,
    full_until: Instant,
    /// Smooth weighted round robin: how much it is due.
    due: f64,
    /// When its next permit holds.
    free_at: Instant,
    under_way: usize,
}

impl Gauge {
    fn is_bad(&self) -> bool {
        self.errors >= BAD
    }

    fn median(&self) -> Option<Duration> {
        let mut spans: Vec<Duration> = self.answers.iter().map(|(_, span)| *span).collect();
        spans.sort_unstable();
        (spans.len() >= ENOUGH).then(|| spans[spans.len() / 2])
    }
}

impl Weights {
    /// Gateways with these rates, in parts a second.
    #[must_use]
    pub fn new(rates: &[f64], now: Instant) -> Self {
        let gauge = |rate: &f64| Gauge {
            rate: *rate,
            paced: rate.max(0.001),
            weight: 1.0,
            errors: 0.0,
            answers: VecDeque::new(),
            full_until: now,
            due: 0.0,
            free_at: now,
            under_way: 0,
        };
        Self { all: rates.iter().map(gauge).collect(), moved_at: now }
    }

    /// What is left of a gateway's share.
    #[cfg(test)]
    fn weight(&self, gateway: usize) -> f64 {
        self.all[gateway].weight
    }

    /// The gateways to try, in order. One that is full is left out while another is not.
    pub fn order(&mut self, now: Instant) -> Vec<usize> {
        self.drift(now);
        let all_bad = self.all.iter().all(Gauge::is_bad);
        let mut open: Vec<usize> = (0..self.all.len()).filter(|i| self.all[*i].full_until <= now).collect();
        if open.is_empty() {
            open = (0..self.all.len()).collect();
        }
        // One that errs is probed by one message at a time: it may keep that one long.
        let fit = |g: &Gauge| all_bad || !g.is_bad() || g.under_way == 0;
        let mut first: Vec<usize> = open.iter().copied().filter(|i| fit(&self.all[*i])).collect();
        if first.is_empty() {
            first.clone_from(&open);
        }
        let total: f64 = first.iter().map(|i| self.all[*i].rate * self.all[*i].weight).sum();
        for i in &first {
            let gauge = &mut self.all[*i];
            gauge.due += gauge.rate * gauge.weight;
        }
        let next = first.into_iter().max_by(|a, b| self.all[*a].due.total_cmp(&self.all[*b].due)).unwrap_or(0);
        self.all[next].due -= total;
        open.retain(|i| *i != next);
        open.sort_by(|a, b| self.all[*b].weight.total_cmp(&self.all[*a].weight));
        open.insert(0, next);
        open
    }

    /// This process may send to each gateway this part of its rate: others send to it,
    /// too. What is owed for what has been sent goes on being owed.
    pub fn pace(&mut self, part: f64, now: Instant) {
        for gauge in &mut self.all {
            let paced = (gauge.rate * part).max(gauge.rate.min(SLOWEST)).max(0.001);
            if (paced - gauge.paced).abs() > f64::EPSILON {
                let owed = gauge.free_at.saturating_duration_since(now);
                gauge.free_at = gauge.free_at.min(now) + owed.mul_f64(gauge.paced / paced);
                gauge.paced = paced;
            }
        }
    }

    /// Takes permits of a gateway for `parts` and says from when they hold: what drifts
    /// to it must not exceed what it was declared to bear.
    pub fn reserve(&mut self, gateway: usize, parts: u32, now: Instant) -> Instant {
        let gauge = &mut self.all[gateway];
        gauge.under_way += 1;
        let at = gauge.free_at.max(now.checked_sub(SLACK).unwrap_or(now));
        gauge.free_at = at + Duration::from_secs_f64(f64::from(parts) / gauge.paced);
        at
    }

    /// A request that was reserved for has come back.
    pub fn returned(&mut self, gateway: usize) {
        let gauge = &mut self.all[gateway];
        gauge.under_way = gauge.under_way.saturating_sub(1);
    }

    /// Hears what became of a message. `Some(true)` when the gateway turns bad by it,
    /// `Some(false)` when it turns good.
    pub fn heard(&mut self, gateway: usize, heard: Heard, now: Instant) -> Option<bool> {
        let gauge = &mut self.all[gateway];
        let before = gauge.is_bad();
        match heard {
            Heard::Answered(span) => {
                gauge.errors -= gauge.errors * ANSWER;
                gauge.answers.push_back((now, span));
                if gauge.answers.len() > SAMPLES {
                    gauge.answers.pop_front();
                }
            }
            Heard::Erred => gauge.errors += (1.0 - gauge.errors) * ANSWER,
            Heard::Full(span) => gauge.full_until = now + span,
        }
        let after = gauge.is_bad();
        (before != after).then_some(after)
    }

    /// Moves the shares, unless all do as badly: then there is nowhere better to go.
    fn drift(&mut self, now: Instant) {
        let passed = now.duration_since(self.moved_at);
        if passed < TICK {
            return;
        }
        self.moved_at = now;
        let all_bad = self.all.iter().all(Gauge::is_bad);
        for gauge in &mut self.all {
            gauge.answers.retain(|(at, _)| now.duration_since(*at) < RECENT);
            gauge.errors *= 0.5_f64.powf(passed.as_secs_f64() / HALF_LIFE.as_secs_f64());
        }
        if all_bad {
            return;
        }
        let medians: Vec<Option<Duration>> = self.all.iter().map(Gauge::median).collect();
        let step = 1.0 - (1.0 - STEP).powf(passed.as_secs_f64() / TICK.as_secs_f64());
        for (i, gauge) in self.all.iter_mut().enumerate() {
            let others = medians.iter().enumerate().filter(|(j, _)| *j != i).filter_map(|(_, m)| *m);
            let speed = match (medians[i], others.min()) {
                (Some(own), Some(other)) if own > 2 * other && own > other + NOTICEABLE => {
                    other.max(NOTICEABLE).as_secs_f64() / own.as_secs_f64()
                }
                _ => 1.0,
            };
            let wanted = ((1.0 - gauge.errors) * speed).clamp(FLOOR, 1.0);
            // Of one that errs more often than not only probes are left.
            let wanted = if gauge.is_bad() { FLOOR } else { wanted };
            gauge.weight += (wanted - gauge.weight) * step;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST: Duration = Duration::from_millis(20);

    /// Sends for `seconds` at 100 a second; `answer` says what a gateway does. Returns
    /// how many each was tried first with.
    fn play(
        weights: &mut Weights,
        from: Instant,
        seconds: u32,
        mut answer: impl FnMut(usize) -> Heard,
    ) -> (Vec<u32>, Instant) {
        let mut tried = vec![0; weights.all.len()];
        let mut now = from;
        for _ in 0..seconds * 100 {
            now += Duration::from_millis(10);
            let first = weights.order(now)[0];
            tried[first] += 1;
            weights.heard(first, answer(first), now);
        }
        (tried, now)
    }

    #[test]
    fn shares_follow_the_declared_rates() {
        let now = Instant::now();
        let mut weights = Weights::new(&[30.0, 10.0], now);
        let (tried, _) = play(&mut weights, now, 10, |_| Heard::Answered(FAST));
        assert_eq!(tried, [750, 250]);
    }

    #[test]
    fn they_drift_from_one_that_errs_and_back() {
        let now = Instant::now();
        let mut weights = Weights::new(&[10.0, 10.0], now);
        let erring = |g: usize| if g == 0 { Heard::Erred } else { Heard::Answered(FAST) };
        let (tried, now) = play(&mut weights, now, 10, erring);
        assert!(tried[0] < 150, "{tried:?}");
        let (tried, now) = play(&mut weights, now, 10, erring);
        assert!(tried[0] > 0 && tried[0] < 40, "only probes: {tried:?}");
        let (_, now) = play(&mut weights, now, 20, |_| Heard::Answered(FAST));
        let (tried, _) = play(&mut weights, now, 10, |_| Heard::Answered(FAST));
        assert!(tried[0] > 450, "{tried:?}");
    }

    #[test]
    fn they_drift_from_one_that_is_slow_and_not_when_all_are() {
        let now = Instant::now();
        let mut weights = Weights::new(&[10.0, 10.0], now);
        let slow = Duration::from_millis(800);
        let (_, now) = play(&mut weights, now, 10, |g| Heard::Answered(if g == 0 { slow } else { FAST }));
        assert!(weights.weight(0) < 0.2 && weights.weight(1) > 0.95, "{weights:?}");
        let (_, now) = play(&mut weights, now, 120, |_| Heard::Answered(slow));
        assert!(weights.weight(0) > 0.9 && weights.weight(1) > 0.9, "{weights:?}");
        let (tried, _) = play(&mut weights, now, 10, |_| Heard::Answered(slow));
        assert!(tried[0] > 450 && tried[1] > 450, "{tried:?}");
    }

    #[test]
    fn they_stay_when_all_are_down() {
        let now = Instant::now();
        let mut weights = Weights::new(&[10.0, 10.0], now);
        let (tried, _) = play(&mut weights, now, 30, |_| Heard::Erred);
        assert!(tried[0] > 1_400 && tried[1] > 1_400, "{tried:?}");
        assert!((weights.weight(0) - weights.weight(1)).abs() < 0.01, "{weights:?}");
    }

    #[test]
    fn a_full_one_is_passed_over_and_keeps_its_share() {
        let now = Instant::now();
        let mut weights = Weights::new(&[10.0, 10.0], now);
        weights.heard(0, Heard::Full(Duration::from_secs(5)), now);
        let (tried, now) = play(&mut weights, now, 4, |_| Heard::Answered(FAST));
        assert_eq!(tried[0], 0);
        let (tried, _) = play(&mut weights, now + Duration::from_secs(2), 4, |_| Heard::Answered(FAST));
        assert!(tried[0] >= 200, "{tried:?}");
        // Both full: one of them is tried all the same.
        weights.heard(0, Heard::Full(Duration::from_hours(1)), now);
        weights.heard(1, Heard::Full(Duration::from_hours(1)), now);
        assert_eq!(weights.order(now).len(), 2);
    }

    #[test]
    fn one_that_errs_is_probed_by_one_message_at_a_time() {
        let now = Instant::now();
        let mut weights = Weights::new(&[10.0, 10.0], now);
        for _ in 0..20 {
            weights.heard(0, Heard::Erred, now);
        }
        weights.reserve(0, 1, now);
        assert!((0..100).all(|_| weights.order(now)[0] == 1));
        weights.returned(0);
        assert!((0..100).any(|_| weights.order(now)[0] == 0));
    }

    #[test]
    fn permits_follow_what_this_process_may_send() {
        let now = Instant::now();
        let mut weights = Weights::new(&[100.0, 0.5], now);
        let gap = |w: &mut Weights, g: usize| {
            let (parts, now) = (1, now + Duration::from_hours(1));
            let first = w.reserve(g, parts, now);
            (w.reserve(g, parts, now) - first).as_millis()
        };
        weights.pace(0.25, now);
        assert_eq!([gap(&mut weights, 0), gap(&mut weights, 1)], [40, 2_000]);
        // What it owes shrinks as it may send more, and is never owed for ever.
        weights.pace(0.0, now);
        assert_eq!(gap(&mut weights, 0), 1_000);
        weights.pace(2.0, now);
        assert_eq!(gap(&mut weights, 0), 5);
    }

    #[test]
    fn permits_are_each_gateways_own() {
        let now = Instant::now();
        let mut weights = Weights::new(&[100.0, 10.0], now);
        let gap = |w: &mut Weights, g| {
            let first = w.reserve(g, 2, now);
            w.reserve(g, 1, now) - first
        };
        assert_eq!(gap(&mut weights, 0).as_millis(), 20);
        assert_eq!(gap(&mut weights, 1).as_millis(), 200);
    }
}
