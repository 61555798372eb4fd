//! What gong declares at the broker, the same each time: an exchange, a durable quorum
//! queue a channel and lane, and where dead letters go. Quorum queues refuse
//! `x-max-priority`, so every lane has a queue of its own.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ExchangeKind};

use super::error::{QueueError, is_different, is_missing};
use crate::domain::item::Lane;

/// The exchange of batches; the routing key is `CHANNEL.LANE`.
pub const EXCHANGE: &str = "gong";
/// The exchange and the queue of dead letters.
pub const DEAD: &str = "gong.dead";

/// The broker itself takes no more than this into a queue. gong stops long before
/// (`[queue] depth`); this holds where something else publishes.
const MAX_LENGTH: i32 = 100_000;
/// After so many deliveries without an acknowledgement a message is a dead letter; the
/// sweep then publishes its batch anew.
const DELIVERIES: i32 = 20;

/// The routing key of a channel's lane.
#[must_use]
pub fn routing_key(channel: &str, lane: Lane) -> String {
    format!("{channel}.{}", lane.name())
}

/// The queue of a channel's lane.
#[must_use]
pub fn queue_name(channel: &str, lane: Lane) -> String {
    format!("{EXCHANGE}.{}", routing_key(channel, lane))
}

/// How a queue stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depth {
    /// Messages that no consumer has.
    pub messages: u32,
    pub consumers: u32,
}

/// Declares the exchanges and the queue of dead letters.
pub async fn declare_ends(channel: &Channel) -> Result<(), QueueError> {
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    for (name, kind) in [(EXCHANGE, ExchangeKind::Direct), (DEAD, ExchangeKind::Fanout)] {
        declare_exchange(channel, name, kind, durable).await?;
    }
    let mut dead = FieldTable::default();
    dead.insert("x-queue-type".into(), text("quorum"));
    dead.insert("x-max-length".into(), AMQPValue::LongInt(MAX_LENGTH));
    declare(channel, DEAD, dead).await?;
    bind(channel, DEAD, DEAD, "").await
}

/// Declares the queues of a channel.
pub async fn declare_lanes(channel: &Channel, name: &str) -> Result<(), QueueError> {
    for lane in Lane::SERVED {
        let queue = queue_name(name, lane);
        declare(channel, &queue, lane_arguments()).await?;
        bind(channel, &queue, EXCHANGE, &routing_key(name, lane)).await?;
    }
    Ok(())
}

fn lane_arguments() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("quorum"));
    arguments.insert("x-dead-letter-exchange".into(), text(DEAD));
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(DELIVERIES));
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(MAX_LENGTH));
    arguments.insert("x-overflow".into(), text("reject-publish"));
    arguments
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

pub(super) async fn declare_exchange(
    channel: &Channel,
    name: &str,
    kind: ExchangeKind,
    options: ExchangeDeclareOptions,
) -> Result<(), QueueError> {
    let declared = channel.exchange_declare(name.into(), kind, options, FieldTable::default()).await;
    declared.map_err(|e| worded(name, e))
}

pub(super) async fn declare(channel: &Channel, name: &str, arguments: FieldTable) -> Result<(), QueueError> {
    let declared = channel.queue_declare(name.into(), QueueDeclareOptions::durable(), arguments).await;
    declared.map(drop).map_err(|e| worded(name, e))
}

pub(super) async fn bind(channel: &Channel, queue: &str, exchange: &str, key: &str) -> Result<(), QueueError> {
    let options = QueueBindOptions::default();
    Ok(channel.queue_bind(queue.into(), exchange.into(), key.into(), options, FieldTable::default()).await?)
}

fn worded(name: &str, error: lapin::Error) -> QueueError {
    if is_different(&error) {
        return QueueError::Different { name: name.to_owned(), why: error.to_string() };
    }
    error.into()
}

/// How a queue stands; `None` where there is none. An AMQP channel of its own is used,
/// since the broker closes one that asks for what does not exist.
pub async fn depth(connection: &Connection, queue: &str) -> Result<Option<Depth>, QueueError> {
    let channel = connection.create_channel().await?;
    let passive = QueueDeclareOptions::durable().passive();
    match channel.queue_declare(queue.into(), passive, FieldTable::default()).await {
        Ok(queue) => {
            let depth = Depth { messages: queue.message_count(), consumers: queue.consumer_count() };
            // Its number is free again.
            channel.close(200, "done".into()).await?;
            Ok(Some(depth))
        }
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lane_of_a_channel_has_a_queue_of_its_own() {
        let names = Lane::SERVED.map(|lane| queue_name("sms", lane));
        assert_eq!(names, ["gong.sms.call", "gong.sms.immediate", "gong.sms.prompt", "gong.sms.routine"]);
        assert!(names.iter().all(|name| name != DEAD), "a channel has no lane called dead");
    }
}
