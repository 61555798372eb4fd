//! What came from the broker and is not acknowledged: tickets that wait for a worker,
//! the most urgent first, and those whose batch is under way. Bookkeeping only; no I/O.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::RangeInclusive;

use tokio::time::Instant;

use crate::store::batches::Lease;
use crate::store::outbox::Ticket;

/// A message on hand; `A` acknowledges it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held<A> {
    pub ticket: Ticket,
    pub lane: i32,
    pub since: Instant,
    pub acker: A,
}

/// The messages of one channel.
#[derive(Debug)]
pub(super) struct Shelf<A> {
    waiting: BTreeMap<i32, VecDeque<Held<A>>>,
    /// By the lease that they became.
    under_way: HashMap<(i64, i64), Held<A>>,
}

impl<A> Default for Shelf<A> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), under_way: HashMap::new() }
    }
}

impl<A> Shelf<A> {
    /// Puts a message behind those of its lane.
    pub(super) fn put(&mut self, held: Held<A>) {
        self.waiting.entry(held.lane).or_default().push_back(held);
    }

    /// Takes up to `most` of these lanes, the most urgent first.
    pub(super) fn take(&mut self, lanes: RangeInclusive<i32>, most: usize) -> Vec<Held<A>> {
        let mut taken = Vec::new();
        for (_, lane) in self.waiting.range_mut(lanes) {
            let n = lane.len().min(most - taken.len());
            taken.extend(lane.drain(..n));
        }
        taken
    }

    /// Puts back what was taken, in front and in its order.
    pub(super) fn put_back(&mut self, taken: Vec<Held<A>>) {
        for held in taken.into_iter().rev() {
            self.waiting.entry(held.lane).or_default().push_front(held);
        }
    }

    /// A message became a lease.
    pub(super) fn begin(&mut self, lease: Lease, held: Held<A>) {
        self.under_way.insert((lease.no, lease.epoch), held);
    }

    /// Takes the message that became this lease, once.
    pub(super) fn end(&mut self, lease: Lease) -> Option<Held<A>> {
        self.under_way.remove(&(lease.no, lease.epoch))
    }

    /// Takes everything that waits.
    pub(super) fn clear_waiting(&mut self) -> Vec<Held<A>> {
        std::mem::take(&mut self.waiting).into_values().flatten().collect()
    }

    /// Takes everything that is under way.
    pub(super) fn clear_under_way(&mut self) -> Vec<Held<A>> {
        std::mem::take(&mut self.under_way).into_values().collect()
    }

    /// Takes what came before then and waits still.
    pub(super) fn overdue_waiting(&mut self, before: Instant) -> Vec<Held<A>> {
        let mut overdue = Vec::new();
        for lane in self.waiting.values_mut() {
            let (old, young): (Vec<_>, Vec<_>) = lane.drain(..).partition(|held| held.since < before);
            lane.extend(young);
            overdue.extend(old);
        }
        overdue
    }

    /// Takes what came before then and is under way still.
    pub(super) fn overdue_under_way(&mut self, before: Instant) -> Vec<Held<A>> {
        self.under_way.extract_if(|_, held| held.since < before).map(|(_, held)| held).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn held(batch: i64, lane: i32) -> Held<i64> {
        Held { ticket: Ticket { batch, epoch: 0 }, lane, since: Instant::now(), acker: batch }
    }

    fn batches(held: &[Held<i64>]) -> Vec<i64> {
        held.iter().map(|h| h.ticket.batch).collect()
    }

    #[test]
    fn the_most_urgent_come_first_and_go_back_to_their_places() {
        let mut shelf = Shelf::default();
        for (batch, lane) in [(1, 2), (2, 2), (3, 0), (4, -1), (5, 2), (6, 1)] {
            shelf.put(held(batch, lane));
        }
        assert_eq!(batches(&shelf.take(-1..=0, 9)), [4, 3], "no less urgent lane than asked for");
        let taken = shelf.take(-1..=2, 3);
        assert_eq!(batches(&taken), [6, 1, 2]);
        shelf.put_back(taken);
        assert_eq!(batches(&shelf.take(2..=2, 1)), [1], "the routine alone, whatever is more urgent");
        shelf.put_back(vec![held(1, 2)]);
        assert_eq!(batches(&shelf.take(-1..=2, 9)), [6, 1, 2, 5]);
        assert!(shelf.take(-1..=2, 9).is_empty());
    }

    #[test]
    fn a_message_is_acknowledged_once_and_none_is_kept_for_ever() {
        let mut shelf = Shelf::default();
        let lease = |no, epoch| Lease { no, dispatch_no: 1, lane: 2, epoch };
        shelf.begin(lease(1, 1), held(1, 2));
        assert_eq!(shelf.end(lease(1, 2)), None, "another lease of the batch");
        assert!(shelf.end(lease(1, 1)).is_some() && shelf.end(lease(1, 1)).is_none());
        let start = Instant::now();
        let later = |held: Held<i64>| Held { since: start + Duration::from_secs(9), ..held };
        shelf.begin(lease(2, 1), Held { since: start, ..held(2, 2) });
        shelf.put(Held { since: start, ..held(3, 2) });
        shelf.put(later(held(4, 2)));
        shelf.begin(lease(5, 1), later(held(5, 2)));
        assert!(shelf.overdue_waiting(start).is_empty() && shelf.overdue_under_way(start).is_empty());
        let now = start + Duration::from_secs(1);
        assert_eq!(batches(&shelf.overdue_waiting(now)), [3]);
        assert_eq!(batches(&shelf.overdue_under_way(now)), [2]);
        assert_eq!(batches(&shelf.clear_waiting()), [4]);
    }
}
