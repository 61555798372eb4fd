//! The broker of a bench: a virtual host in which no gong lives, left as it was found;
//! and its ceiling, a bare publish with confirms and a bare consume.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, ExchangeDeclareOptions, ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ExchangeKind};

use super::site::CHANNEL;
use crate::domain::item::Lane;
use crate::planner::REHEARSAL;
use crate::queue::QueueSettings;
use crate::queue::events::EVENTS;
use crate::queue::link::Link;
use crate::queue::message::encode;
use crate::queue::settings::BrokerUrl;
use crate::queue::topology::{DEAD, EXCHANGE, queue_name};
use crate::say;
use crate::store::outbox::Ticket;

/// The queue of the bare client.
const BARE: &str = "gong.bench.bare";

/// The settings of a queue on this broker.
pub(super) fn settings(url: &str) -> QueueSettings {
    QueueSettings { url: vec![BrokerUrl::new(url)], ..QueueSettings::default() }
}

/// A virtual host that was found empty.
pub(super) struct Broker {
    link: Link,
}

impl Broker {
    /// Enters the virtual host of an address.
    ///
    /// # Errors
    /// When it cannot be reached, or a gong lives there: its messages would go to the
    /// bench, and be thrown away.
    pub async fn enter(url: &str) -> anyhow::Result<Self> {
        let broker = Self::entered(url)?;
        let connection = broker.link.connect("gong bench").await?;
        let channel = connection.create_channel().await?;
        let passive = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        let found = channel.exchange_declare(EXCHANGE.into(), ExchangeKind::Direct, passive, FieldTable::default());
        let taken = found.await.is_ok();
        connection.close(200, "done".into()).await?;
        let shown = BrokerUrl::new(url);
        anyhow::ensure!(
            !taken,
            say!(
                "{shown} 这个虚拟主机里已有 gong。测试要用一个空的：rabbitmqctl add_vhost bench",
                "a gong lives in the virtual host of {shown}. A bench wants one of its own: rabbitmqctl add_vhost bench"
            )
        );
        Ok(broker)
    }

    /// The same without a look around, for who has entered before.
    pub fn entered(url: &str) -> anyhow::Result<Self> {
        Ok(Self { link: Link::new(&settings(url))? })
    }

    /// Removes all that gong declared.
    pub async fn clean(&self) -> anyhow::Result<()> {
        let connection = self.link.connect("gong bench").await?;
        let channel = connection.create_channel().await?;
        let lanes = [CHANNEL, REHEARSAL].into_iter().flat_map(|name| Lane::SERVED.map(|lane| queue_name(name, lane)));
        for queue in lanes.chain([DEAD.to_owned(), BARE.to_owned()]) {
            // What is not there is deleted as well.
            channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await?;
        }
        for exchange in [EXCHANGE, DEAD, EVENTS] {
            channel.exchange_delete(exchange.into(), ExchangeDeleteOptions::default()).await?;
        }
        connection.close(200, "done".into()).await?;
        Ok(())
    }

    /// Publishes `n` batch messages to a quorum queue, `window` at a time, each
    /// confirmed, and consumes and acknowledges them meanwhile.
    pub async fn bare(&self, n: i64, window: usize, prefetch: u16) -> anyhow::Result<Duration> {
        let connection = self.link.connect("gong bench").await?;
        let channel = connection.create_channel().await?;
        let mut quorum = FieldTable::default();
        quorum.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        channel.queue_declare(BARE.into(), QueueDeclareOptions::durable(), quorum).await?;
        let began = Instant::now();
        let (published, consumed) = tokio::join!(publish(&channel, n, window), consume(&connection, n, prefetch));
        published?;
        consumed?;
        let took = began.elapsed();
        channel.queue_delete(BARE.into(), QueueDeleteOptions::default()).await?;
        connection.close(200, "done".into()).await?;
        Ok(took)
    }
}

async fn publish(channel: &Channel, n: i64, window: usize) -> anyhow::Result<()> {
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let properties = BasicProperties::default().with_delivery_mode(2).with_content_type("application/json".into());
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    for from in (0..n).step_by(window) {
        let sent = (from..n.min(from + i64::try_from(window)?)).map(|batch| {
            let (body, properties) = (encode(Ticket { batch, epoch: 0 }), properties.clone());
            async move {
                let sent = channel.basic_publish("".into(), BARE.into(), options, &body, properties).await?;
                anyhow::Ok(sent.await?.is_ack())
            }
        });
        for confirmed in join_all(sent).await {
            anyhow::ensure!(confirmed?, "the broker refused a message");
        }
    }
    Ok(())
}

async fn consume(connection: &Connection, n: i64, prefetch: u16) -> anyhow::Result<()> {
    let channel = connection.create_channel().await?;
    channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    let mut consumer = channel.basic_consume(BARE.into(), "bench".into(), options, FieldTable::default()).await?;
    for _ in 0..n {
        let Some(delivery) = consumer.next().await else { anyhow::bail!("the broker ended the consumer") };
        delivery?.acker.ack(BasicAckOptions::default()).await?;
    }
    // One after the other: a channel must not close while the answer to this is on its way.
    channel.basic_cancel("bench".into(), BasicCancelOptions::default()).await?;
    drop(consumer);
    channel.close(200, "done".into()).await?;
    Ok(())
}
