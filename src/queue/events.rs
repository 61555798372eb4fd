//! `gong.events`: a topic exchange on which whoever subscribes is told of dispatches and
//! deliveries. gong publishes and waits for nobody: what fits no queue the broker drops,
//! and a queue that is full loses by its owner's choice.

use std::sync::Arc;
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions};
use lapin::{BasicProperties, Channel, Connection, ExchangeKind};
use tokio_util::sync::CancellationToken;

use super::error::QueueError;
use super::link;
use super::rabbit::Rabbit;
use super::steady::steady;
use super::topology;
use crate::store;
use crate::store::events::Pending;

/// The exchange; the routing key is the event's name.
pub const EVENTS: &str = "gong.events";

/// How often it is looked for something to tell.
const EVERY: Duration = Duration::from_secs(1);
/// Events published together.
const ROUND: i64 = 500;

/// Whoever sees what is to be told.
pub trait Lookout: Send + Sync + 'static {
    /// Whether this engine is the one to tell.
    fn leads(&self) -> bool;
    /// Lays down in the store what has happened since the last look.
    fn look(&self) -> impl Future<Output = store::Result<()>> + Send;
}

/// The publisher of events.
pub struct Events<L> {
    pub rabbit: Arc<Rabbit>,
    pub lookout: L,
    pub stop: CancellationToken,
}

impl<L: Lookout> Events<L> {
    /// Runs until told to stop; whatever the broker does.
    pub async fn run(self) {
        steady(&self.rabbit, &self.stop, "events", || self.serve()).await;
    }

    async fn serve(&self) -> Result<(), QueueError> {
        let connection = self.rabbit.link.connect("gong events").await?;
        let channel = connection.create_channel().await?;
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        topology::declare_exchange(&channel, EVENTS, ExchangeKind::Topic, durable).await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        tokio::select! {
            done = self.keep_telling(&connection, &channel) => done?,
            () = link::watch(&connection, "events", &self.rabbit.counts.blocked) => {}
        }
        link::close(&connection).await
    }

    /// Looks and publishes until told to stop.
    async fn keep_telling(&self, connection: &Connection, channel: &Channel) -> Result<(), QueueError> {
        while !self.stop.is_cancelled() {
            if self.lookout.leads() && !connection.status().blocked() {
                // Nothing new is laid down before the old is gone: there are never many.
                self.publish(connection, channel).await?;
                self.rabbit.store.at_last(self.lookout.look()).await?;
                self.publish(connection, channel).await?;
            }
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = tokio::time::sleep(EVERY) => {}
            }
        }
        Ok(())
    }

    /// Publishes all that was laid down, in order, and forgets it when it is confirmed.
    async fn publish(&self, connection: &Connection, channel: &Channel) -> Result<(), QueueError> {
        loop {
            let store = &self.rabbit.store;
            let pending = store.soon(store.pending_events(ROUND)).await?;
            let Some(last) = pending.last().map(|event| event.no) else { return Ok(()) };
            let refused = link::answered(connection, &self.stop, tell(channel, &pending)).await?;
            if refused > 0 {
                tracing::warn!(refused, "a subscriber's queue is full; it loses these events");
            }
            store.soon(store.forget_events(last)).await?;
            self.rabbit.counts.told.inc_by(pending.len() as u64);
        }
    }
}

/// How many a subscriber's full queue refused.
async fn tell(channel: &Channel, pending: &[Pending]) -> Result<usize, QueueError> {
    let mut sent = Vec::with_capacity(pending.len());
    for event in pending {
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_content_type("application/json".into())
            .with_app_id("gong".into())
            .with_type(event.topic.as_str().into())
            .with_message_id(event.id.as_str().into());
        let (key, options) = (event.topic.as_str().into(), BasicPublishOptions::default());
        sent.push(channel.basic_publish(EVENTS.into(), key, options, event.body.as_bytes(), properties).await?);
    }
    let mut refused = 0;
    for confirm in sent {
        refused += usize::from(!confirm.await?.is_ack());
    }
    Ok(refused)
}
