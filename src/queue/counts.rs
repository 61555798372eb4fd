//! What the broker's side of the queue counts, for Prometheus.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Counts of messages; each message stands for one batch.
#[derive(Debug, Clone, Default)]
pub struct QueueCounts {
    /// Confirmed by the broker.
    pub published: Counter,
    /// Refused by the broker because the queue is full.
    pub refused: Counter,
    /// Dropped: the batch had gone on without them.
    pub stale: Counter,
    /// Moved to the dead letters because they could not be read.
    pub poison: Counter,
    /// Published again because the broker did not have them any more.
    pub lost: Counter,
    /// Connections to the broker that broke or could not be made.
    pub broken: Counter,
    /// 1 while the broker takes nothing for want of memory or disk.
    pub blocked: Blocked,
    /// What lies in the queue of dead letters, whoever moved it there; 0 where another
    /// process reads it.
    pub dead: Gauge,
    /// Letters of other systems entered, or answered again.
    pub entered: Counter,
    /// Letters that were not.
    pub turned_away: Counter,
    /// Events confirmed by the broker.
    pub told: Counter,
}

impl QueueCounts {
    /// Shows them under `/metrics`.
    pub fn register(&self, registry: &mut Registry) {
        let all = [
            ("queue_published", "Messages confirmed by the broker", &self.published),
            ("queue_refused", "Messages refused by the broker because a queue is full", &self.refused),
            ("queue_stale", "Messages dropped because their batch had gone on", &self.stale),
            ("queue_poison", "Messages moved to the dead letters", &self.poison),
            ("queue_lost", "Messages published again because the broker lost them", &self.lost),
            ("queue_broken", "Connections to the broker that broke or could not be made", &self.broken),
            ("intake_entered", "Letters of other systems that were entered, or answered again", &self.entered),
            ("intake_turned_away", "Letters of other systems that were refused", &self.turned_away),
            ("events_told", "Events confirmed by the broker", &self.told),
        ];
        for (name, help, counter) in all {
            registry.register(name, help, counter.clone());
        }
        let help = "1 while the broker takes nothing for want of memory or disk";
        registry.register("queue_blocked", help, self.blocked.shown.clone());
        let help = "Messages in the queue of dead letters, whoever moved them there";
        registry.register("queue_dead_letters", help, self.dead.clone());
    }
}

/// 1 while the broker takes nothing on any connection of this process. It says so to
/// those alone that have something to publish.
#[derive(Debug, Clone, Default)]
pub struct Blocked {
    shown: Gauge,
    connections: Arc<Mutex<u32>>,
}

impl Blocked {
    #[must_use]
    pub fn get(&self) -> i64 {
        self.shown.get()
    }

    /// One connection more, until this is dropped.
    pub(super) fn one(&self) -> OneBlocked {
        self.change(|n| n + 1);
        OneBlocked(self.clone())
    }

    fn change(&self, by: impl FnOnce(u32) -> u32) {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        *connections = by(*connections);
        self.shown.set(i64::from(*connections > 0));
    }
}

/// A connection on which the broker takes nothing.
pub(super) struct OneBlocked(Blocked);

impl Drop for OneBlocked {
    fn drop(&mut self) {
        self.0.change(|n| n.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_broker_takes_nothing_until_it_takes_from_every_connection() {
        let blocked = Blocked::default();
        let (relay, events) = (blocked.one(), blocked.clone().one());
        drop(relay);
        assert_eq!(blocked.get(), 1);
        drop(events);
        assert_eq!(blocked.get(), 0);
    }
}
