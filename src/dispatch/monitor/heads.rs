//! Whether lanes move: the oldest batch of each channel and lane, how long it has been
//! the oldest, and how long nothing of it went through though it could have.
//!
//! A lane that waits its turn at the channel's rate moves; one that nobody serves does not.

use std::collections::HashMap;

use tokio::time::Instant;

use crate::store::gauges::LaneRow;
use crate::telemetry::gauges::LaneNow;

/// The oldest batch as it was seen last.
#[derive(Debug, Clone, Copy)]
struct Head {
    no: i64,
    left: i64,
    since: Instant,
    moved: Instant,
}

/// The oldest batch of each channel and lane.
#[derive(Debug, Default)]
pub struct Heads {
    of: HashMap<(i32, i32), Head>,
}

impl Heads {
    /// Sees what waits now. `stopped` names lanes that are meant to stand still (paused,
    /// quiet hours); `rate` is messages a second of a channel.
    pub fn see(
        &mut self,
        (rows, left): (&[LaneRow], &HashMap<i64, i64>),
        now: Instant,
        stopped: impl Fn(i32, i32) -> bool,
        rate: impl Fn(i32) -> f64,
    ) -> HashMap<(i32, i32), LaneNow> {
        let mut lanes: HashMap<(i32, i32), LaneNow> = HashMap::new();
        let mut oldest: HashMap<(i32, i32), i64> = HashMap::new();
        for row in rows {
            let at = (row.channel, row.lane);
            let lane = lanes.entry(at).or_default();
            let batches = if row.state == 0 { &mut lane.ready } else { &mut lane.leased };
            *batches += row.batches;
            lane.messages += row.messages;
            let head = oldest.entry(at).or_insert(row.head);
            *head = row.head.min(*head);
        }
        self.of.retain(|at, _| oldest.contains_key(at));
        for (at, no) in oldest {
            let left = left.get(&no).copied().unwrap_or(0);
            let fresh = Head { no, left, since: now, moved: now };
            let head = self.of.entry(at).or_insert(fresh);
            if head.no != no {
                *head = fresh;
            } else if head.left != left || stopped(at.0, at.1) {
                (head.left, head.moved) = (left, now);
            }
            if let Some(lane) = lanes.get_mut(&at) {
                lane.oldest = now.duration_since(head.since).as_secs_f64();
                lane.stalled = now.duration_since(head.moved).as_secs_f64();
                #[allow(clippy::cast_precision_loss)] // far below 2^52
                let messages = lane.messages as f64;
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
        LaneRow { channel: 1, lane, state, batches: 2, messages: 100, head }
    }

    #[test]
    fn a_lane_stalls_when_nothing_of_its_oldest_batch_moves() {
        let start = Instant::now();
        let at = |s: u64| start + Duration::from_secs(s);
        let mut heads = Heads::default();
        let mut see = |rows: &[LaneRow], left: i64, s, held: bool| {
            let left = rows.iter().map(|r| (r.head, left)).collect();
            heads.see((rows, &left), at(s), |_, _| held, |_| 50.0).remove(&(1, 0)).unwrap_or_default()
        };
        let rows = [row(0, 0, 9), row(0, 1, 7)];
        let first = see(&rows, 100, 0, false);
        assert_eq!((first.ready, first.leased, first.messages), (2, 2, 200));
        assert_eq!([first.oldest, first.stalled, first.backlog].map(whole), [0, 0, 4]);
        assert_eq!(whole(see(&rows, 100, 30, false).stalled), 30);
        // One message went through: it moves, and its oldest batch is still as old.
        let moved = see(&rows, 99, 40, false);
        assert_eq!([moved.oldest, moved.stalled].map(whole), [40, 0]);
        assert_eq!(whole(see(&rows, 99, 90, true).stalled), 0, "held on purpose");
        assert_eq!(whole(see(&rows, 99, 100, false).stalled), 10);
        assert_eq!(whole(see(&[row(0, 1, 8)], 99, 110, false).oldest), 0, "the next batch");
        assert_eq!(see(&[], 0, 120, false), LaneNow::default());
        assert_eq!(whole(see(&[row(0, 1, 8)], 99, 130, false).stalled), 0, "it was empty between");
    }
}
