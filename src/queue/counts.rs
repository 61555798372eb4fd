//! What the broker's side of the queue counts, for Prometheus.

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
    pub blocked: Gauge,
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
        registry.register("queue_blocked", help, self.blocked.clone());
    }
}
