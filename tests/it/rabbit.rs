//! RabbitMQ, a real one: everything goes through it, and nothing depends on it.

pub mod faults;
pub mod rig;

use std::collections::BTreeSet;
use std::time::Duration;

use gong::domain::delivery::State;
use gong::domain::item::Lane;
use gong::loopback::Behaviour;
use gong::queue::topology::{EXCHANGE, declare_ends, queue_name, routing_key};
use lapin::options::{BasicGetOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel};
use serde_json::Value;
use tokio::time::Instant;

use self::rig::{Broker, ROUTINE, books, broker, engine, engines, held};
use crate::rig::{BUSY, Entry, SOON, delivery_of, log, stands, until};
use crate::site::{ALERT, NOTICE, finished, gateway, in_state, wish};

/// Nothing but the way there.
const FAST: &str = "rate = 100000, in_flight = 64, evidence = \"accept_only\"";
/// The same, and every message has its receipts, a callback each.
const HEARD: &str = "rate = 100000, in_flight = 64";
/// A batch is a minute's sends: small ones, so that there are many.
const SMALL: &str = "rate = 2, in_flight = 16";

/// A queue of our own that hears all that gong publishes to the immediate lane: nobody's
/// message goes missing for that.
async fn listener(server: &Broker) -> Channel {
    let channel = server.channel().await;
    declare_ends(&channel).await.unwrap();
    channel.queue_declare("heard".into(), QueueDeclareOptions::durable(), FieldTable::default()).await.unwrap();
    let key = routing_key("sms", Lane::Immediate);
    let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
    channel.queue_bind("heard".into(), EXCHANGE.into(), key.into(), options, arguments).await.unwrap();
    channel
}

/// Whatever gong published names a batch and its epoch, and nothing about anybody: neither
/// in the body nor in a header. How many there were.
async fn names_nobody(channel: &Channel) -> usize {
    let bare = BasicProperties::default().with_delivery_mode(2).with_content_type("application/json".into());
    let mut batches = BTreeSet::new();
    while let Some(heard) = channel.basic_get("heard".into(), BasicGetOptions { no_ack: true }).await.unwrap() {
        assert_eq!(heard.delivery.properties, bare);
        let text = String::from_utf8(heard.delivery.data.clone()).unwrap();
        let body: serde_json::Map<String, Value> = serde_json::from_str(&text).unwrap();
        assert_eq!(body.keys().collect::<Vec<_>>(), ["batch", "epoch"], "{text}");
        let (batch, epoch) = (body["batch"].as_u64().unwrap(), body["epoch"].as_u64().unwrap());
        // Nothing is hidden behind a doubled key, or in a comment.
        assert_eq!(text, format!("{{\"batch\":{batch},\"epoch\":{epoch}}}"));
        batches.insert(batch);
    }
    batches.len()
}

/// The broker itself says that every lane has its quorum queue, whose dead letters go where
/// somebody looks.
fn lanes_are_safe(server: &Broker) {
    let said = server.run(&["ctl", "list_queues", "-p", &server.name, "name", "type", "arguments"]);
    for lane in Lane::SERVED {
        let name = queue_name("sms", lane);
        let row: Vec<&str> = said
            .lines()
            .map(|line| line.split('\t').collect::<Vec<_>>())
            .find(|row| row[0] == name)
            .unwrap_or_else(|| panic!("no {name}: {said}"));
        assert_eq!(row[1], "quorum", "{said}");
        for argument in ["{\"x-dead-letter-exchange\",\"gong.dead\"}", "{\"x-overflow\",\"reject-publish\"}"] {
            assert!(row[2].contains(argument), "{name} has no {argument}: {said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_go_through_the_broker_and_each_once() {
    let Some(server) = broker().await else { return };
    let heard = listener(&server).await;
    for (store, site) in engines(server.url()).await {
        let n = if store == "sqlite" { 5_000 } else { 20_000 };
        let gateway = gateway(Behaviour::default()).await;
        let mut site = site.with_kannel(gateway.addr, HEARD);
        let app = site.open().await;
        site.settle(&app, n).await;
        let (serving, counts) = engine(&mut site, &app).await;
        let item = site.approve(&app, ALERT).await;
        let dispatch = site.send(&app, &item, &wish("all", "sms")).await;
        let done = finished(&app, dispatch.no, Duration::from_mins(3)).await;
        assert_eq!(in_state(&app, done.no, State::Delivered).await, done.deliveries, "{store}");
        let stats = gateway.stats();
        assert_eq!((i64::try_from(stats.messages).unwrap(), stats.duplicates), (done.deliveries, 0), "{store}");
        let batches = u64::try_from(done.deliveries).unwrap().div_ceil(1_000);
        // Counted a moment after the workers have them.
        until("they are counted", SOON, async || counts.queue.published.get() >= batches).await;
        assert_eq!((counts.queue.poison.get(), counts.queue.lost.get()), (0, 0), "{store}");
        books(&app, &site).await;
        serving.stop().await;
        assert!(names_nobody(&heard).await as u64 >= batches, "{store}");
        // Each was acknowledged: nothing comes back when the consumers are gone.
        assert_eq!(held(&server, ROUTINE.replace("routine", "immediate").as_str()).await, (0, 0), "{store}");
        gateway.stop().await;
    }
    lanes_are_safe(&server);
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_and_doubled_messages_change_nothing() {
    let Some(server) = broker().await else { return };
    let gateway = gateway(Behaviour::default()).await;
    let mut site = rig::sqlite(server.url()).await.with_kannel(gateway.addr, SMALL);
    let app = site.open().await;
    site.settle(&app, 1_000).await;
    let (serving, counts) = engine(&mut site, &app).await;
    let item = site.approve(&app, NOTICE).await;
    let dispatch = site.send(&app, &item, &wish("all", "sms")).await;
    until("the first leave", SOON, async || gateway.stats().messages > 0).await;
    // Each batch three times, with the epochs that it has, had, and will have.
    for batch in 1..=9 {
        for epoch in [0, 0, 1, 2] {
            server.publish(ROUTINE, &format!("{{\"batch\":{batch},\"epoch\":{epoch}}}")).await;
        }
    }
    server.publish(ROUTINE, "{\"batch\":4000000000,\"epoch\":1}").await;
    app.store.set_rate("sms", Some(2_000.0), "李四").await.unwrap();
    let done = finished(&app, dispatch.no, SOON).await;
    let stats = gateway.stats();
    assert_eq!((i64::try_from(stats.messages).unwrap(), stats.duplicates), (done.deliveries, 0));
    until("the rest is dropped", SOON, async || counts.queue.stale.get() >= 20).await;
    books(&app, &site).await;
    serving.stop().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_goes_to_the_dead_letters_with_its_reason() {
    let Some(server) = broker().await else { return };
    let gateway = gateway(Behaviour::default()).await;
    let mut site = rig::sqlite(server.url()).await.with_kannel(gateway.addr, FAST);
    let app = site.open().await;
    site.settle(&app, 50).await;
    let (serving, counts) = engine(&mut site, &app).await;
    until("the queues are there", SOON, async || server.depth(ROUTINE).await.is_some_and(|(_, c)| c > 0)).await;
    server.publish(ROUTINE, "{\"batch\":\"seven\"}").await;
    until("it is buried", SOON, async || counts.queue.poison.get() == 1).await;
    until("it is seen", SOON, async || counts.queue.dead.get() == 1).await;
    let warned = || {
        let report = site.run(&["check", "--connect", "--json"]).json();
        let mut lines = report.as_array().unwrap().iter();
        lines
            .any(|l| l["name"] == "connect:dead" && l["state"] == "warn" && l["text"].to_string().contains("gong.dead"))
    };
    assert!(warned());
    let channel = server.channel().await;
    let dead = channel.basic_get("gong.dead".into(), BasicGetOptions { no_ack: true }).await.unwrap().unwrap();
    assert_eq!(dead.delivery.data, b"{\"batch\":\"seven\"}");
    let headers = dead.delivery.properties.headers().clone().unwrap();
    let header = |name: &str| match headers.inner().get(name) {
        Some(AMQPValue::LongString(text)) => text.to_string(),
        other => panic!("{name}: {other:?}"),
    };
    assert!(header("x-gong-reason").starts_with("not a batch message: invalid type"), "{}", header("x-gong-reason"));
    assert_eq!(header("x-gong-queue"), "sms.routine");
    until("somebody took it away", SOON, async || counts.queue.dead.get() == 0).await;
    assert!(!warned());
    // What comes behind it goes its way.
    let item = site.approve(&app, NOTICE).await;
    let dispatch = site.send(&app, &item, &wish("all", "sms")).await;
    finished(&app, dispatch.no, SOON).await;
    assert_eq!(counts.queue.poison.get(), 1);
    serving.stop().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pause_resume_and_cancel_hold_within_a_second_and_a_paused_channel_consumes_nothing() {
    let Some(server) = broker().await else { return };
    let gateway = gateway(Behaviour::default()).await;
    let mut site = rig::sqlite(server.url()).await.with_kannel(gateway.addr, SMALL);
    let app = site.open().await;
    site.settle(&app, 3_000).await;
    let (serving, counts) = engine(&mut site, &app).await;
    app.store.set_rate("sms", Some(200.0), "李四").await.unwrap();
    let item = site.approve(&app, NOTICE).await;
    let dispatch = site.send(&app, &item, &wish("all", "sms")).await;
    let sent = || gateway.stats().messages;
    for channel in [false, true] {
        let before = sent();
        until("it runs", SOON, async || sent() > before + 50).await;
        if channel {
            app.store.pause_channel("sms", true, "李四").await.unwrap();
        } else {
            app.store.steer_dispatch(dispatch.no, "paused", "李四").await.unwrap();
        }
        stands(&gateway).await;
        let stood = sent();
        if channel {
            assert_eq!(server.depth(ROUTINE).await.map(|(_, consumers)| consumers), Some(0));
            app.store.pause_channel("sms", false, "李四").await.unwrap();
        } else {
            app.store.steer_dispatch(dispatch.no, "active", "李四").await.unwrap();
        }
        let resumed = Instant::now();
        until("it goes on", SOON, async || sent() > stood).await;
        assert!(resumed.elapsed() < BUSY, "it went on after {:?}", resumed.elapsed());
    }
    app.store.steer_dispatch(dispatch.no, "cancelled", "李四").await.unwrap();
    let done = finished(&app, dispatch.no, SOON).await;
    let cancelled = in_state(&app, done.no, State::Cancelled).await;
    assert!(cancelled > 0);
    assert_eq!(cancelled + i64::try_from(sent()).unwrap(), done.deliveries);
    assert_eq!(counts.queue.lost.get(), 0, "what was paused is not taken for lost");
    books(&app, &site).await;
    serving.stop().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_immediate_dispatch_overtakes_a_routine_one() {
    let Some(server) = broker().await else { return };
    let gateway = gateway(Behaviour::default()).await;
    let mut site = rig::sqlite(server.url()).await.with_kannel(gateway.addr, SMALL);
    let app = site.open().await;
    site.settle(&app, 3_000).await;
    let (serving, _) = engine(&mut site, &app).await;
    app.store.set_rate("sms", Some(200.0), "李四").await.unwrap();
    let (notice, alert) = (site.approve(&app, NOTICE).await, site.approve(&app, ALERT).await);
    let routine = site.send(&app, &notice, &wish("all", "sms")).await;
    until("the routine runs", SOON, async || gateway.stats().messages >= 200).await;
    let asked = app.store.now();
    let urgent = site.send(&app, &alert, &wish("region:532532101200", "sms")).await;
    let urgent = finished(&app, urgent.no, SOON).await;
    assert!(app.store.dispatch(&routine.no.to_string()).await.unwrap().finished_at.is_none());
    let log = log(gateway.addr).await;
    let (alerts, others): (Vec<&Entry>, Vec<&Entry>) = log.iter().partition(|e| delivery_of(&app, e).0 == urgent.no);
    assert_eq!(i64::try_from(alerts.len()).unwrap(), urgent.deliveries);
    // How fast exactly is for `gong bench lanes`; behind the routine it would be the last.
    let (first, last) = (alerts[0].at_ms, alerts[alerts.len() - 1].at_ms);
    assert!(first - asked <= 15_000, "the first immediate message came after {} ms", first - asked);
    let between = others.iter().filter(|e| first < e.at_ms && e.at_ms < last).count();
    assert!(between * 100 <= 8 * (alerts.len() + between), "{between} routine between {} immediate ones", alerts.len());
    serving.stop().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_holds_no_more_than_it_may_and_a_full_one_is_waited_for() {
    let Some(server) = broker().await else { return };
    let gateway = gateway(Behaviour::default()).await;
    let depth = "[queue]\ndepth = 3\nprefetch = 1\n";
    let mut site = rig::sqlite_with(server.url(), depth).await.with_kannel(gateway.addr, SMALL);
    let app = site.open().await;
    site.settle(&app, 3_000).await;
    // The operator of the broker may allow less than gong does.
    server.ctl(&[
        "set_policy",
        "-p",
        &server.name,
        "short",
        "^gong[.]sms",
        "{\"max-length\":1}",
        "--apply-to",
        "queues",
    ]);
    let (serving, counts) = engine(&mut site, &app).await;
    app.store.set_rate("sms", Some(1_000.0), "李四").await.unwrap();
    let item = site.approve(&app, NOTICE).await;
    let dispatch = site.send(&app, &item, &wish("all", "sms")).await;
    let mut longest = 0;
    until("the queue refuses, and takes more as there is room", SOON, async || {
        longest = longest.max(server.depth(ROUTINE).await.map_or(0, |(messages, _)| messages));
        counts.queue.refused.get() > 0 && gateway.stats().messages > 1_200
    })
    .await;
    server.ctl(&["clear_policy", "-p", &server.name, "short"]);
    let mut done = false;
    while !done {
        longest = longest.max(server.depth(ROUTINE).await.map_or(0, |(messages, _)| messages));
        done = app.store.dispatch(&dispatch.no.to_string()).await.unwrap().finished_at.is_some();
    }
    assert!((1..=3).contains(&longest), "{longest} messages lay in the queue");
    let deliveries = finished(&app, dispatch.no, SOON).await.deliveries;
    assert_eq!(in_state(&app, dispatch.no, State::Delivered).await, deliveries);
    assert_eq!((i64::try_from(gateway.stats().messages).unwrap(), gateway.stats().duplicates), (deliveries, 0));
    books(&app, &site).await;
    serving.stop().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_of_another_making_is_refused_with_what_to_do() {
    let Some(server) = broker().await else { return };
    let channel = server.channel().await;
    let classic = channel.queue_declare(ROUTINE.into(), QueueDeclareOptions::durable(), FieldTable::default()).await;
    classic.unwrap();
    gong::queue::topology::declare_ends(&channel).await.unwrap();
    let error = gong::queue::topology::declare_lanes(&channel, "sms").await.unwrap_err().to_string();
    assert!(
        error.contains(ROUTINE) && error.contains("rabbitmqctl delete_queue") && error.contains("inequivalent arg"),
        "{error}"
    );
    // Twice the same is nothing new.
    let channel = server.channel().await;
    for _ in 0..2 {
        gong::queue::topology::declare_ends(&channel).await.unwrap();
        gong::queue::topology::declare_lanes(&channel, "email").await.unwrap();
    }
    let _: &Broker = &server;
}
