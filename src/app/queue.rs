//! The queue of an engine: the batch table, or a broker with its relay.

use std::sync::Arc;
use std::time::Duration;

use super::App;
use super::engine::Common;
use crate::cluster::leading::Leading;
use crate::dispatch::retry::RetrySettings;
use crate::queue::relay::Relay;
use crate::queue::{Queue, QueueError, Rabbit};

/// Pauses between tries to reach the broker, in milliseconds: the first and the longest.
const FIRST: u64 = 200;
const LONGEST: u64 = 5_000;
/// The role of who publishes.
const RELAY: &str = "relay";
/// How often an engine looks whether it leads.
const LOOK: Duration = Duration::from_millis(200);

impl App {
    pub(super) fn queue(&self, common: &Common) -> Result<Queue, QueueError> {
        let settings = self.config.queue_settings();
        if settings.url.is_empty() {
            return Ok(Queue::Embedded(Arc::clone(&self.store)));
        }
        let retry = RetrySettings { initial_ms: FIRST, max_ms: LONGEST, ..self.config.retry.clone() };
        let pauses = Arc::new(move |failures: i32| retry.interval(failures - 1));
        let (store, wake) = (Arc::clone(&self.store), Arc::clone(&common.wake));
        let rabbit = Rabbit::new(&settings, (store, wake), pauses, common.counts.queue.clone())?;
        Ok(Queue::Rabbit(rabbit))
    }

    /// Publishes what becomes ready, where there is a broker. One engine at a time does.
    pub(super) fn start_relay(&self, common: &Common, queue: &Queue) {
        let Queue::Rabbit(rabbit) = queue else { return };
        let relay = Relay {
            rabbit: Arc::clone(rabbit),
            channels: common.ways.iter().map(|way| (way.no, way.name.clone())).collect(),
            wake: Arc::clone(&common.wake),
            stop: common.stop.clone(),
        };
        match self.seat(common, RELAY) {
            None => common.supervise(async move { relay.run().await }),
            Some((seat, leading)) => common.supervise(seat.lead(publish_while(relay, leading))),
        }
    }
}

/// Runs the relay in the times in which this engine leads.
async fn publish_while(relay: Relay, leading: Leading) {
    let becomes = async |wanted: bool| {
        while leading.holds() != wanted {
            tokio::time::sleep(LOOK).await;
        }
    };
    while !relay.stop.is_cancelled() {
        tokio::select! {
            () = relay.stop.cancelled() => return,
            () = becomes(true) => {}
        }
        // Broken off anywhere, it has published doubles at the worst.
        tokio::select! {
            () = relay.run() => {}
            () = becomes(false) => {}
        }
    }
}
