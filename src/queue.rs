//! Where ready batches wait: in their table alone, or also as messages of a broker.
//!
//! The store is the truth. A message says no more than "batch 7 was ready with epoch 3":
//! lost, doubled or late, it never loses or doubles a delivery.

pub mod counts;
mod dead;
pub mod error;
pub mod events;
mod inbox;
pub mod intake;
pub mod link;
pub mod message;
pub mod rabbit;
pub mod relay;
pub mod settings;
mod shelf;
mod steady;
pub mod topology;

use std::ops::RangeInclusive;
use std::sync::Arc;

pub use error::QueueError;
pub use rabbit::Rabbit;
pub use settings::QueueSettings;

use crate::store::batches::Lease;
use crate::store::turn::BatchTurn;
use crate::store::{Result, Store};

/// The engine of the queue.
#[derive(Clone)]
pub enum Queue {
    /// The batch table itself.
    Embedded(Arc<Store>),
    /// RabbitMQ 3.10 or newer.
    Rabbit(Arc<Rabbit>),
}

impl Queue {
    /// Whether messages of a channel may come to this worker from now on. One that is
    /// paused, or may not send, consumes nothing; what had come and was not leased goes back.
    pub fn consume(&self, channel: (i32, &str), on: bool) {
        if let Self::Rabbit(rabbit) = self {
            rabbit.consume(channel, on);
        }
    }

    /// Leases the most urgent batches of a channel within these lanes, at most `most`;
    /// none when none is ready, or no word of it has come.
    pub async fn lease(&self, channel: i32, owner: &str, lanes: RangeInclusive<i32>, most: i64) -> Result<Vec<Lease>> {
        match self {
            Self::Embedded(store) => store.soon(store.lease_batches(channel, owner, lanes, most)).await,
            Self::Rabbit(rabbit) => rabbit.lease(channel, owner, lanes, most).await,
        }
    }

    /// These were closed, released, deferred or lost, and that is on disk: their messages
    /// have done their work.
    pub fn settled(&self, channel: i32, leases: &[Lease]) {
        if let Self::Rabbit(rabbit) = self {
            rabbit.settled(channel, leases);
        }
    }

    /// A turn is on disk: the batches that it closed are settled.
    pub fn turned(&self, channel: i32, turns: &[BatchTurn]) {
        let closed: Vec<Lease> = turns.iter().filter(|t| t.close).map(|t| t.lease).collect();
        crate::failpoint::at!("before_ack", !closed.is_empty());
        self.settled(channel, &closed);
    }

    /// Ends a channel's part, when its leases have been returned: gives back what was not leased and closes its connection.
    pub async fn leave(&self, channel: i32) {
        if let Self::Rabbit(rabbit) = self {
            rabbit.leave(channel).await;
        }
    }
}
