//! `gong.intake`: other systems hand items in. Each message is answered when what it
//! said is on disk, and acknowledged after that, so that one which comes twice is
//! answered twice and entered once.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    ExchangeDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, Consumer, ExchangeKind};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::dead::bury;
use super::error::QueueError;
use super::link;
use super::rabbit::Rabbit;
use super::steady::steady;
use super::topology::{self, DEAD};
use crate::{say, store};

/// The exchange and the queue. Who may write to the exchange need not be allowed to
/// write to any other.
pub const INTAKE: &str = "gong.intake";

/// Messages and bytes that may wait; more are refused to their publisher.
const MAX_LENGTH: i32 = 10_000;
const MAX_BYTES: i32 = 256 << 20;
/// As of every queue of gong's.
const DELIVERIES: i32 = 20;
/// Messages on hand.
const PREFETCH: u16 = 8;
/// Before the database is tried again.
const PAUSE: Duration = Duration::from_secs(1);
/// How often the database says of a letter itself that it does not take it, before it
/// is believed: what another letter has just written may be the reason.
const TRIES: u32 = 3;

/// A message as it came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Letter {
    /// Who says to have sent it: the header `source`.
    pub source: Option<String>,
    /// The broker's user who published it: `user_id`, which the broker checks.
    pub user: Option<String>,
    /// The header `idempotency-key`, or `message_id`.
    pub key: Option<String>,
    pub body: Vec<u8>,
}

/// What became of a letter, and the answer to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// On disk.
    Entered(String),
    /// Its sender can mend it.
    Refused { answer: String, why: &'static str },
    /// Nobody knows its sender, or it cannot be read.
    Rejected { answer: String, why: &'static str },
}

/// Whoever reads letters.
pub trait Clerk: Send + Sync + 'static {
    /// Decides on a letter; what is entered is on disk when this returns.
    fn enter(&self, letter: &Letter) -> impl Future<Output = store::Result<Verdict>> + Send;
}

/// The consumer of the intake.
pub struct Intake<C> {
    pub rabbit: Arc<Rabbit>,
    pub clerk: C,
    /// Bytes of the longest letter that can be entered.
    pub longest: usize,
    pub stop: CancellationToken,
}

impl<C: Clerk> Intake<C> {
    /// Runs until told to stop; whatever the broker does.
    pub async fn run(self) {
        steady(&self.rabbit, &self.stop, "intake", || self.serve()).await;
    }

    async fn serve(&self) -> Result<(), QueueError> {
        let connection = self.rabbit.link.connect("gong intake").await?;
        let channel = connection.create_channel().await?;
        declare(&channel).await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions::default();
        let mut consumer =
            channel.basic_consume(INTAKE.into(), "intake".into(), options, FieldTable::default()).await?;
        tokio::select! {
            done = self.take_in((&connection, &channel), &mut consumer) => done?,
            () = link::watch(&connection, "intake", &self.rabbit.counts.blocked) => {}
        }
        link::close(&connection).await
    }

    /// Takes letters until told to stop.
    async fn take_in(
        &self,
        (connection, channel): (&Connection, &Channel),
        consumer: &mut Consumer,
    ) -> Result<(), QueueError> {
        loop {
            let came = tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                came = consumer.next() => came,
            };
            // The queue was deleted under it.
            let delivery = came.ok_or_else(|| QueueError::Missing(INTAKE.to_owned()))??;
            let Some(verdict) = self.decide(&read(&delivery)).await else { return Ok(()) };
            // Where the end comes first the letter comes again, and is answered the same.
            link::answered(connection, &self.stop, self.answer(channel, &delivery, &verdict)).await?;
        }
    }

    async fn answer(&self, channel: &Channel, delivery: &Delivery, verdict: &Verdict) -> Result<(), QueueError> {
        let (Verdict::Entered(answer) | Verdict::Refused { answer, .. } | Verdict::Rejected { answer, .. }) = verdict;
        if let Verdict::Refused { why, .. } | Verdict::Rejected { why, .. } = verdict {
            self.rabbit.counts.turned_away.inc();
            tracing::warn!(why, "a letter to gong.intake was not entered");
        } else {
            self.rabbit.counts.entered.inc();
        }
        let heard = reply(channel, delivery, answer).await?;
        match verdict {
            Verdict::Rejected { why, .. } => bury(channel, delivery, self.longest, why).await,
            // Its sender did not want to hear; somebody must see it.
            Verdict::Refused { why, .. } if !heard => bury(channel, delivery, self.longest, why).await,
            Verdict::Entered(_) | Verdict::Refused { .. } => {
                delivery.acker.ack(BasicAckOptions::default()).await?;
                Ok(())
            }
        }
    }

    /// Waits for a database that is away, full or read-only: a letter given back would
    /// count as delivered, and die of it. Only one that itself cannot be stored makes way
    /// for the others. `None` when the end came first; the broker has the letter still.
    async fn decide(&self, letter: &Letter) -> Option<Verdict> {
        let mut refused = 0;
        loop {
            match self.rabbit.store.soon(self.clerk.enter(letter)).await {
                Ok(verdict) => return Some(verdict),
                Err(error) => {
                    tracing::warn!(%error, refused, "cannot enter a letter of gong.intake now; trying again");
                    refused += u32::from(error.is_of_the_data());
                }
            }
            if refused >= TRIES {
                return Some(impossible());
            }
            tokio::select! {
                () = self.stop.cancelled() => return None,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }
}

/// The answer to a letter that the database does not take.
fn impossible() -> Verdict {
    let (why, message) = (
        "cannot_enter",
        say!(
            "数据库存不下这条消息，没有录入。请查看 gong 的日志",
            "the database does not take this message; nothing was entered. See gong's log"
        ),
    );
    let answer = json!({ "ok": false, "error": { "code": why, "field": null, "line": null, "message": message, "problems": [] } });
    Verdict::Rejected { answer: answer.to_string(), why }
}

/// Declares the exchange, the queue and where dead letters go.
async fn declare(channel: &Channel) -> Result<(), QueueError> {
    topology::declare_ends(channel).await?;
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    topology::declare_exchange(channel, INTAKE, ExchangeKind::Fanout, durable).await?;
    let mut arguments = FieldTable::default();
    let text = |value: &str| AMQPValue::LongString(value.into());
    for (name, value) in [
        ("x-queue-type", text("quorum")),
        ("x-dead-letter-exchange", text(DEAD)),
        ("x-overflow", text("reject-publish")),
        ("x-delivery-limit", AMQPValue::LongInt(DELIVERIES)),
        ("x-max-length", AMQPValue::LongInt(MAX_LENGTH)),
        ("x-max-length-bytes", AMQPValue::LongInt(MAX_BYTES)),
    ] {
        arguments.insert(name.into(), value);
    }
    topology::declare(channel, INTAKE, arguments).await?;
    topology::bind(channel, INTAKE, INTAKE, "").await
}

fn read(delivery: &Delivery) -> Letter {
    let properties = &delivery.properties;
    let short = |value: &Option<ShortString>| value.as_ref().map(ToString::to_string);
    let header = |name: &str| match properties.headers().as_ref()?.inner().get(name)? {
        AMQPValue::LongString(text) => Some(text.to_string()),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    };
    Letter {
        source: header("source"),
        user: short(properties.user_id()),
        key: header("idempotency-key").or_else(|| short(properties.message_id())),
        body: delivery.data.clone(),
    }
}

/// Answers where the sender said; whether it did. A queue of gong's own is none: a
/// sender may not write to it, and gong does not write there for anybody.
async fn reply(channel: &Channel, delivery: &Delivery, answer: &str) -> Result<bool, QueueError> {
    let asked = &delivery.properties;
    let Some(to) = asked.reply_to().as_ref().filter(|to| !to.as_str().is_empty() && !to.as_str().starts_with("gong."))
    else {
        return Ok(false);
    };
    let mut properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_content_type("application/json".into())
        .with_app_id("gong".into());
    if let Some(id) = asked.correlation_id().as_ref().or(asked.message_id().as_ref()) {
        properties = properties.with_correlation_id(id.clone());
    }
    // Not mandatory: amq.rabbitmq.reply-to is no queue, and would be returned. A sender
    // that is gone asks again, under the same key.
    let options = BasicPublishOptions::default();
    channel.basic_publish("".into(), to.clone(), options, answer.as_bytes(), properties).await?.await?;
    Ok(true)
}
