//! Another system, as gong's broker sees it: it hands in, hears answers, subscribes.

use std::time::Duration;

use futures_util::StreamExt as _;
use gong::queue::events::EVENTS;
use gong::queue::intake::INTAKE;
use lapin::options::{
    BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Consumer};
use serde_json::Value;

use crate::rabbit::rig::Broker;
use crate::rig::{SOON, until};

/// A system that hands items in, as the broker's user guest.
pub struct Sender {
    channel: Channel,
    answers: Consumer,
    reply_to: String,
}

/// What a sender says of itself, and whether it wants to hear.
#[derive(Clone, Copy)]
pub struct Envelope<'a> {
    pub source: Option<&'a str>,
    pub user: Option<&'a str>,
    pub key: Option<&'a str>,
    pub hears: bool,
}

/// As it should be.
pub fn signed(key: &str) -> Envelope<'_> {
    Envelope { source: None, user: Some("guest"), key: Some(key), hears: true }
}

impl Sender {
    /// Connects once gong takes letters.
    pub async fn new(broker: &Broker) -> Self {
        until("gong takes letters", SOON, async || broker.depth(INTAKE).await.is_some_and(|(_, n)| n > 0)).await;
        let channel = broker.channel().await;
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        let queue = channel.queue_declare("".into(), options, FieldTable::default()).await.unwrap();
        let reply_to = queue.name().to_string();
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let answers =
            channel.basic_consume(reply_to.as_str().into(), "".into(), options, FieldTable::default()).await.unwrap();
        Self { channel, answers, reply_to }
    }

    /// Hands a letter in.
    pub async fn tell(&self, envelope: Envelope<'_>, body: &[u8]) {
        let mut properties = BasicProperties::default().with_delivery_mode(2);
        if let Some(user) = envelope.user {
            properties = properties.with_user_id(user.into());
        }
        if let Some(key) = envelope.key {
            properties = properties.with_message_id(key.into());
        }
        if let Some(source) = envelope.source {
            let mut headers = FieldTable::default();
            headers.insert("source".into(), AMQPValue::LongString(source.into()));
            properties = properties.with_headers(headers);
        }
        if envelope.hears {
            properties = properties.with_reply_to(self.reply_to.as_str().into()).with_correlation_id("c-1".into());
        }
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let sent = self.channel.basic_publish(INTAKE.into(), "".into(), options, body, properties).await.unwrap();
        let kept = sent.await.unwrap();
        assert!(kept.is_ack() && kept.take_message().is_none(), "the intake takes it");
    }

    /// The next answer, word for word.
    pub async fn hear(&mut self) -> String {
        let came = tokio::time::timeout(SOON, self.answers.next()).await.expect("an answer comes");
        let answer = came.unwrap().unwrap();
        assert_eq!(answer.properties.correlation_id().as_ref().unwrap().as_str(), "c-1");
        String::from_utf8(answer.data).unwrap()
    }

    /// Hands in and hears.
    pub async fn ask(&mut self, envelope: Envelope<'_>, body: &str) -> String {
        self.tell(envelope, body.as_bytes()).await;
        self.hear().await
    }

    /// Hands in what is refused: (code, field, line).
    pub async fn refused(&mut self, envelope: Envelope<'_>, body: &str) -> (String, Value, Value) {
        let answer: Value = serde_json::from_str(&self.ask(envelope, body).await).unwrap();
        let error = &answer["error"];
        assert_eq!(answer["ok"], false, "{answer}");
        assert!(!error["message"].as_str().unwrap().is_empty());
        (error["code"].as_str().unwrap().to_owned(), error["field"].clone(), error["line"].clone())
    }
}

/// The next dead letter: its reason and its bytes.
pub async fn dead(broker: &Broker) -> (String, Vec<u8>) {
    let channel = broker.channel().await;
    let mut found = None;
    until("a dead letter comes", SOON, async || {
        found = channel.basic_get("gong.dead".into(), BasicGetOptions { no_ack: true }).await.unwrap();
        found.is_some()
    })
    .await;
    let found = found.unwrap().delivery;
    let headers = found.properties.headers().clone().unwrap();
    match headers.inner().get("x-gong-reason") {
        Some(AMQPValue::LongString(why)) => (why.to_string(), found.data),
        other => panic!("no reason: {other:?}"),
    }
}

/// A queue that hears every event from now on.
pub async fn subscriber(broker: &Broker) -> Consumer {
    let channel = broker.channel().await;
    let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare("".into(), options, FieldTable::default()).await.unwrap();
    let options = QueueBindOptions::default();
    channel.queue_bind(queue.name().clone(), EVENTS.into(), "#".into(), options, FieldTable::default()).await.unwrap();
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    channel.basic_consume(queue.name().clone(), "".into(), options, FieldTable::default()).await.unwrap()
}

/// (topic, body) of every event until one of this topic.
pub async fn heard_until(consumer: &mut Consumer, topic: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    loop {
        let came = tokio::time::timeout(Duration::from_mins(2), consumer.next()).await;
        let event = came.unwrap_or_else(|_| panic!("{topic} never came: {all:?}")).unwrap().unwrap();
        let body = String::from_utf8(event.data).unwrap();
        let parsed: Value = serde_json::from_str(&body).unwrap();
        let key = event.routing_key.to_string();
        assert_eq!(parsed["event"], key.as_str());
        assert_eq!(event.properties.message_id().as_ref().unwrap().as_str(), parsed["id"]);
        all.push((key.clone(), body));
        if key == topic {
            return all;
        }
    }
}
