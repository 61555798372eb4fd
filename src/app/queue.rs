//! The queue of an engine: the batch table, or a broker with its relay.

use std::sync::Arc;

use super::App;
use super::engine::Common;
use crate::dispatch::retry::RetrySettings;
use crate::queue::relay::Relay;
use crate::queue::{Queue, QueueError, QueueSettings, Rabbit};

/// Pauses between tries to reach the broker, in milliseconds: the first and the longest.
const FIRST: u64 = 200;
const LONGEST: u64 = 5_000;

impl App {
    /// The settings of the queue, with its files from the configuration's folder.
    #[must_use]
    pub fn queue_settings(&self) -> QueueSettings {
        let mut settings = self.config.queue.clone();
        if !settings.ca_file.as_os_str().is_empty() {
            settings.ca_file = self.config.path(&settings.ca_file);
        }
        settings
    }

    pub(super) fn queue(&self, common: &Common) -> Result<Queue, QueueError> {
        let settings = self.queue_settings();
        if settings.url.is_empty() {
            return Ok(Queue::Embedded(Arc::clone(&self.store)));
        }
        let retry = RetrySettings { initial_ms: FIRST, max_ms: LONGEST, ..self.config.retry.clone() };
        let pauses = Arc::new(move |failures: i32| retry.interval(failures - 1));
        let (store, wake) = (Arc::clone(&self.store), Arc::clone(&common.wake));
        let rabbit = Rabbit::new(&settings, (store, wake), pauses, common.counts.queue.clone())?;
        Ok(Queue::Rabbit(rabbit))
    }
}

impl Common {
    /// Publishes what becomes ready, where there is a broker.
    pub(super) fn relay(&self, queue: &Queue) {
        let Queue::Rabbit(rabbit) = queue else { return };
        self.supervise(
            Relay {
                rabbit: Arc::clone(rabbit),
                channels: self.ways.iter().map(|way| (way.no, way.name.clone())).collect(),
                wake: Arc::clone(&self.wake),
                stop: self.stop.clone(),
            }
            .run(),
        );
    }
}
