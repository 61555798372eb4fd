//! A channel's rate divided among the engines that send on it: at every moment what
//! they may send together is at most the rate, whoever comes, goes or falls silent.

use serde::{Deserialize, Serialize};

/// Of the rate, what every engine has whatever it does, all of them together: the first
/// message of an idle one goes at once.
const BASE: f64 = 0.01;
/// Of the rate, what those whose work is less urgent have while others' is more.
const FLOOR: f64 = 0.04;
/// Changes below this part of the rate are not worth a word.
const DEAD_BAND: f64 = 0.005;

/// What an engine says of itself on one channel.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    pub channel: i32,
    /// The newest grant it obeys.
    pub seq: i64,
    /// The most urgent lane in which something of it waits to be sent.
    pub lane: Option<i32>,
    /// Parts a second it could do with; `None` for more than it has, whatever that is.
    pub want: Option<f64>,
    /// Parts a second it sends.
    pub used: f64,
}

/// An engine and what it may send at, in parts a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Holder {
    pub lane: Option<i32>,
    pub want: Option<f64>,
    /// The rate granted.
    pub rate: f64,
    /// What it may still send at: at least `rate`; more where it has not obeyed yet.
    pub held: f64,
    /// It was heard of lately. Who was not keeps what it has until that runs out.
    pub alive: bool,
}

/// The rates to grant now: lowered at once, raised only into what nobody holds.
#[must_use]
pub fn regrant(rate: f64, holders: &[Holder]) -> Vec<f64> {
    let targets = divide(rate, holders);
    let held: f64 = holders.iter().map(|h| h.held.max(h.rate)).sum();
    let raise = |h: &Holder, target: f64| (target - h.rate).max(0.0);
    let asked: f64 = holders.iter().zip(&targets).map(|(h, t)| raise(h, *t)).sum();
    let part = if asked > 0.0 { ((rate - held) / asked).clamp(0.0, 1.0) } else { 0.0 };
    let fits = holders.iter().map(|h| h.rate).sum::<f64>() <= rate;
    let grant = |(h, target): (&Holder, &f64)| {
        let new = if *target < h.rate { *target } else { h.rate + raise(h, *target) * part };
        let small = fits && h.rate > 0.0 && (new - h.rate).abs() < DEAD_BAND * rate;
        if small { h.rate } else { new }
    };
    holders.iter().zip(&targets).map(grant).collect()
}

/// What each is to have once all obey. The most urgent work first, the rest with a
/// floor; no one more than it can use, unless nobody else can.
fn divide(rate: f64, holders: &[Holder]) -> Vec<f64> {
    let living: Vec<usize> = (0..holders.len()).filter(|i| holders[*i].alive).collect();
    let mut shares: Vec<f64> = holders.iter().map(|h| h.rate).collect();
    if living.is_empty() {
        return shares;
    }
    let dead: f64 = holders.iter().filter(|h| !h.alive).map(|h| h.held.max(h.rate)).sum();
    let rate = (rate - dead).max(0.0);
    for i in &living {
        shares[*i] = rate * BASE / count(living.len());
    }
    let mut rest = rate * (1.0 - BASE);
    let urgent = living.iter().filter_map(|i| holders[*i].lane).min();
    let (first, others): (Vec<usize>, Vec<usize>) =
        living.iter().copied().filter(|i| holders[*i].lane.is_some()).partition(|i| holders[*i].lane == urgent);
    rest -= fill(&mut shares, holders, &others, rate * FLOOR);
    rest -= fill(&mut shares, holders, &first, rest);
    rest -= fill(&mut shares, holders, &others, rest);
    for i in &living {
        shares[*i] += rest / count(living.len());
    }
    shares
}

/// Gives `amount` to a group, to each what it wants or as much as to the others;
/// returns how much was taken.
fn fill(shares: &mut [f64], holders: &[Holder], group: &[usize], amount: f64) -> f64 {
    let lacks = |shares: &[f64], i: usize| holders[i].want.map_or(f64::INFINITY, |w| (w - shares[i]).max(0.0));
    let mut order = group.to_vec();
    order.sort_by(|a, b| lacks(shares, *a).total_cmp(&lacks(shares, *b)));
    let mut left = amount;
    for (at, i) in order.iter().enumerate() {
        let given = lacks(shares, *i).min(left / count(order.len() - at));
        shares[*i] += given;
        left -= given;
    }
    amount - left
}

#[allow(clippy::cast_precision_loss)] // engines
fn count(n: usize) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn idle(rate: f64) -> Holder {
        Holder { lane: None, want: Some(0.0), rate, held: rate, alive: true }
    }

    fn hungry(lane: i32, rate: f64) -> Holder {
        Holder { lane: Some(lane), want: None, ..idle(rate) }
    }

    /// Grants again and again, each obeyed at once, until nothing changes.
    fn settled(rate: f64, mut holders: Vec<Holder>) -> Vec<f64> {
        for _ in 0..20 {
            let rates = regrant(rate, &holders);
            for (h, rate) in holders.iter_mut().zip(rates) {
                (h.rate, h.held) = (rate, rate);
            }
        }
        holders.iter().map(|h| h.rate).collect()
    }

    #[test]
    fn one_alone_has_everything_and_idle_ones_share_alike() {
        for (rates, each) in
            [(settled(100.0, vec![idle(0.0)]), 100.0), (settled(100.0, vec![idle(0.0), idle(100.0)]), 50.0)]
        {
            assert!(rates.iter().all(|r| (r - each).abs() < 0.6), "{rates:?}");
        }
    }

    #[test]
    fn what_one_does_not_need_the_other_has() {
        let rates = settled(100.0, vec![hungry(2, 50.0), idle(50.0)]);
        assert!(rates[0] >= 99.0 && rates[1] > 0.0, "{rates:?}");
        let slow = Holder { lane: Some(2), want: Some(12.0), ..idle(50.0) };
        let rates = settled(100.0, vec![slow, hungry(2, 50.0)]);
        assert!((11.0..=13.0).contains(&rates[0]) && rates[1] >= 87.0, "{rates:?}");
    }

    #[test]
    fn the_urgent_go_first_and_the_rest_keeps_a_floor() {
        let rates = settled(100.0, vec![hungry(0, 33.0), hungry(2, 33.0), hungry(2, 33.0)]);
        assert!(rates[0] >= 94.0, "{rates:?}");
        assert!(rates[1] >= 1.5 && rates[2] >= 1.5, "{rates:?}");
        // An urgent one that cannot use it all leaves the rest to them.
        let slow = Holder { lane: Some(0), want: Some(10.0), ..idle(50.0) };
        let rates = settled(100.0, vec![slow, hungry(2, 50.0)]);
        assert!(rates[1] >= 88.0, "{rates:?}");
    }

    #[test]
    fn nothing_is_raised_before_it_was_let_go() {
        let lowered = Holder { held: 100.0, ..idle(50.0) };
        assert!(regrant(100.0, &[lowered, hungry(0, 0.0)])[1] <= 0.0);
        let silent = Holder { alive: false, ..idle(60.0) };
        let rates = regrant(100.0, &[silent, hungry(0, 0.0)]);
        assert!(rates[0] >= 60.0 && (39.9..=40.0).contains(&rates[1]), "{rates:?}");
    }

    fn holder() -> impl Strategy<Value = Holder> {
        let want = prop_oneof![Just(None), (0.0..300.0).prop_map(Some)];
        (prop::option::of(-1..3), want, any::<bool>()).prop_map(|(lane, want, alive)| Holder {
            lane,
            want,
            rate: 0.0,
            held: 0.0,
            alive,
        })
    }

    proptest! {
        /// Whatever is wanted, heard and obeyed in whatever order: what all may send at
        /// is never above the rate.
        #[test]
        fn the_sum_never_exceeds_the_rate(
            rounds in prop::collection::vec((prop::collection::vec((holder(), any::<bool>()), 4), any::<bool>()), 1..40),
        ) {
            let rate = 100.0;
            let mut held = [(0.0_f64, 0.0_f64); 4];
            for (round, _) in rounds {
                let holders: Vec<Holder> =
                    round.iter().zip(&held).map(|((h, _), (rate, held))| Holder { rate: *rate, held: *held, ..*h }).collect();
                let rates = regrant(rate, &holders);
                for (i, rate) in rates.iter().enumerate() {
                    // Who obeys holds what it was granted, who does not may hold the most of it.
                    held[i] = (*rate, if round[i].1 { *rate } else { held[i].1.max(*rate) });
                }
                let sum: f64 = held.iter().map(|h| h.1).sum();
                prop_assert!(sum <= rate * 1.000_001, "{held:?}");
            }
        }
    }
}
