//! Whether lanes move: the oldest batch of each channel and lane, and how long nothing of
//! it went through though it could have. How long the oldest message has waited comes from
//! the store, so that a restart does not make it young.
//!
//! A lane that waits its turn at the channel's rate moves; one that nobody serves does not.

use std::collections::HashMap;

use tokio::time::Instant;

use crate::clock::Millis;
use crate::store::gauges::LaneRow;
use crate::telemetry::gauges::LaneNow;

/// The oldest batch as it was seen last.
#[derive(Debug, Clone, Copy)]
struct Head {
    no: i64,
    left: i64,
    moved: Instant,
}

/// The oldest batch of each channel and lane.
#[derive(Debug, Default)]
pub struct Heads {
    of: HashMap<(i32, i32), Head>,
}

impl Heads {
    /// Sees what waits now, by the monotonic clock and by the store's. `stopped` names lanes that are meant to stand still (paused,
    /// quiet hours); `rate` is messages a second of a channel.
    pub fn see(
        &mut self,
        (rows, left): (&[LaneRow], &HashMap<i64, i64>),
        (now, store_now): (Instant, Millis),
        stopped: impl Fn(i32, i32) -> bool,
        rate: impl Fn(i32) -> f64,
    ) -> HashMap<(i32, i32), LaneNow> {
        let mut lanes: HashMap<(i32, i32), LaneNow> = HashMap::new();
        let mut oldest: HashMap<(i32, i32), (i64, Millis)> = HashMap::new();
        for row in rows {
            let at = (row.channel, row.lane);
            let lane = lanes.entry(at).or_default();
            let batches = if row.state == 0 { &mut lane.ready } else { &mut lane.leased };
            *batches += row.batches;
            lane.messages += row.messages;
            let (head, since) = oldest.entry(at).or_insert((row.head, row.since));
            (*head, *since) = (row.head.min(*head), row.since.min(*since));
        }
        self.of.retain(|at, _| oldest.contains_key(at));
        for (at, (no, since)) in oldest {
            let left = left.get(&no).copied().unwrap_or(0);
            let fresh = Head { no, left, moved: now };
            let head = self.of.entry(at).or_insert(fresh);
            if head.no != no {
                *head = fresh;
            } else if head.left != left || stopped(at.0, at.1) {
                (head.left, head.moved) = (left, now);
            }
            if let Some(lane) = lanes.get_mut(&at) {
                lane.stalled = now.duration_since(head.moved).as_secs_f64();
                #[allow(clippy::cast_precision_loss)] // far below 2^52
                let (messages, waits) = (lane.messages as f64, (store_now - since).max(0) as f64);
                lane.oldest = waits / 1000.0;
                lane.backlog = messages / rate(at.0).max(f64::MIN_POSITIVE);
            }
        }
        lanes
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn whole(seconds: f64) -> u64 {
        Duration::from_secs_f64(seconds).as_secs()
    }

    fn row(lane: i32, state: i32, head: i64) -> LaneRow {
        LaneRow { channel: 1, lane, state, batches: 2, messages: 100, head, since: 1_000 * head }
    }

    #[test]
    fn a_restart_does_not_make_what_waits_young() {
        let rows = [LaneRow { since: 1_000, ..row(0, 0, 9) }];
        let seen = Heads::default().see((&rows, &HashMap::new()), (Instant::now(), 7_201_000), |_, _| false, |_| 50.0);
        assert_eq!([seen[&(1, 0)].oldest, seen[&(1, 0)].stalled].map(whole), [7_200, 0]);
    }

    #[test]
    fn a_lane_stalls_when_nothing_of_its_oldest_batch_moves() {
        let start = Instant::now();
        let at = |s: u64| start + Duration::from_secs(s);
        let mut heads = Heads::default();
        // By the store's clock it is 60 s later.
        let mut see = |rows: &[LaneRow], left: i64, s: u64, held: bool| {
            let left = rows.iter().map(|r| (r.head, left)).collect();
            let store_now = 1_000 * (i64::try_from(s).unwrap() + 60);
            heads.see((rows, &left), (at(s), store_now), |_, _| held, |_| 50.0).remove(&(1, 0)).unwrap_or_default()
        };
        let rows = [row(0, 0, 9), row(0, 1, 7)];
        let first = see(&rows, 100, 0, false);
        assert_eq!((first.ready, first.leased, first.messages), (2, 2, 200));
        assert_eq!([first.oldest, first.stalled, first.backlog].map(whole), [53, 0, 4]);
        assert_eq!(whole(see(&rows, 100, 30, false).stalled), 30);
        // One message went through: it moves, and the oldest has waited as long as before.
        let moved = see(&rows, 99, 40, false);
        assert_eq!([moved.oldest, moved.stalled].map(whole), [93, 0]);
        assert_eq!(whole(see(&rows, 99, 90, true).stalled), 0, "held on purpose");
        assert_eq!(whole(see(&rows, 99, 100, false).stalled), 10);
        let next = see(&[row(0, 1, 8)], 99, 110, false);
        assert_eq!([next.oldest, next.stalled].map(whole), [162, 0], "the next batch");
        assert_eq!(see(&[], 0, 120, false), LaneNow::default());
        assert_eq!(whole(see(&[row(0, 1, 8)], 99, 130, false).stalled), 0, "it was empty between");
    }
}
