//! Dead letters: what cannot be used is kept for a person to look at, with the reason.

use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicPublishOptions, BasicRejectOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel};

use super::error::QueueError;
use super::topology::DEAD;

/// Bytes kept of a message that is longer than any that could have been taken.
pub(super) const SHORT: usize = 4_096;

/// Moves a message to the dead letters and acknowledges it: whole, unless it is longer
/// than `whole` bytes. The channel must be one that confirms.
pub(super) async fn bury(channel: &Channel, delivery: &Delivery, whole: usize, why: &str) -> Result<(), QueueError> {
    let mut headers = FieldTable::default();
    for (key, value) in [("x-gong-reason", why), ("x-gong-queue", delivery.routing_key.as_str())] {
        headers.insert(key.into(), AMQPValue::LongString(value.into()));
    }
    let mut properties = BasicProperties::default().with_delivery_mode(2).with_headers(headers);
    if let Some(id) = delivery.properties.message_id() {
        properties = properties.with_message_id(id.clone());
    }
    let data = if delivery.data.len() <= whole {
        &delivery.data[..]
    } else {
        &delivery.data[..delivery.data.len().min(SHORT)]
    };
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let kept = channel.basic_publish(DEAD.into(), "".into(), options, data, properties).await?.await?;
    if kept.is_ack() && kept.take_message().is_none() {
        delivery.acker.ack(BasicAckOptions::default()).await?;
    } else {
        // The broker moves it itself then, with a reason of its own.
        delivery.acker.reject(BasicRejectOptions { requeue: false }).await?;
    }
    Ok(())
}
