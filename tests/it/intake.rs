//! `gong.intake` and `gong.events` over a real RabbitMQ: what other systems hand in, and
//! what they are told.

mod alarm;
mod sender;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use gong::app::App;
use gong::app::intake::IntakeDesk;
use gong::loopback::Behaviour;
use gong::queue::counts::QueueCounts;
use gong::queue::intake::{Clerk, Intake, Letter, Verdict};
use gong::queue::settings::BrokerUrl;
use gong::queue::{QueueSettings, Rabbit};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::sender::{Envelope, Sender, dead, heard_until, signed, subscriber};
use crate::proxy::Proxy;
use crate::rabbit::rig::{broker, engine, engines, own_broker, sqlite};
use crate::rig::{SOON, until};
use crate::site::{ALERT, Site, finished, gateway, wish};

const WEATHER: &str = "[intake.sources.weather]\noperator = \"张三\"\nuser = \"guest\"";
const LIMIT: Duration = Duration::from_mins(2);

fn letter(title: &str) -> String {
    json!({
        "kind": "alert", "title": title, "level": "red", "phone": "0873-5550000", "area_text": "河口镇沿河各村",
        "actions": ["立即转移到高处"], "body": "请沿河各村立即转移。", "expires_in": "+6h",
    })
    .to_string()
}

async fn items(app: &App) -> usize {
    app.store.items().await.unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_becomes_an_item_that_waits_for_review_and_is_answered_the_same_again() {
    let Some(broker) = broker().await else { return };
    for (store, site) in engines(broker.url()).await {
        let mut site = site.with(WEATHER);
        let app = site.open().await;
        let (serving, counts) = engine(&mut site, &app).await;
        let mut weather = Sender::new(&broker).await;
        let key = format!("{store}-1");
        let answer = weather.ask(signed(&key), &letter("暴雨红色预警")).await;
        let said: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(
            (&said["ok"], &said["version"], &said["state"]),
            (&json!(true), &json!(1), &json!("draft")),
            "{said}"
        );
        let item = app.store.item(said["item"].as_str().unwrap()).await.unwrap();
        assert_eq!((item.content.title.as_str(), item.created_by.as_str()), ("暴雨红色预警", "张三"));
        // It waits for a reviewer, and nothing of it can be sent.
        assert_eq!(item.state, "draft", "{store}");
        assert!(app.store.approvals(&item.id).await.unwrap().is_empty());
        assert!(app.store.dispatches(false).await.unwrap().is_empty());
        assert!(app.prepare(&item.no.to_string(), &wish("all", "sms"), "李四").await.is_err());
        // The same again, and three times at once.
        for _ in 0..3 {
            weather.tell(signed(&key), letter("暴雨红色预警").as_bytes()).await;
        }
        for _ in 0..3 {
            assert_eq!(weather.hear().await, answer, "{store}: byte for byte");
        }
        let other = weather.refused(signed(&key), &letter("暴雨橙色预警")).await;
        assert_eq!(other.0, "key_reused");
        assert_eq!(items(&app).await, 1, "{store}");
        assert_eq!(
            weather.ask(signed(&key), &letter("暴雨红色预警")).await,
            answer,
            "what was refused changed nothing"
        );
        assert_eq!((counts.queue.entered.get(), counts.queue.turned_away.get()), (5, 1));
        serving.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_answered_with_its_field_and_what_nobody_can_use_is_kept() {
    let Some(broker) = broker().await else { return };
    let mut site = sqlite(broker.url()).await.with(WEATHER);
    let app = site.open().await;
    let (serving, _) = engine(&mut site, &app).await;
    let mut weather = Sender::new(&broker).await;
    let wrong = "{\n  \"kind\": \"alert\",\n  \"title\": \"暴雨\",\n  \"level\": \"purple\"\n}";
    assert_eq!(weather.refused(signed("k-1"), wrong).await, ("bad_item".to_owned(), json!("level"), json!(4)));
    let lacks = letter("暴雨").replace("0873-5550000", "");
    let (code, field, _) = weather.refused(signed("k-1"), &lacks).await;
    assert_eq!((code.as_str(), field), ("bad_item", json!("phone")));
    let (code, _, line) = weather.refused(signed("k-1"), "{\n\"kind\": oops}").await;
    assert_eq!((code.as_str(), line), ("not_json", json!(2)));
    assert_eq!(dead(&broker).await, ("not_json".to_owned(), b"{\n\"kind\": oops}".to_vec()));
    // A refusal uses no key up.
    let answer = weather.ask(signed("k-1"), &letter("暴雨")).await;
    assert!(answer.starts_with("{\"ok\":true"), "{answer}");
    for (envelope, code) in [
        (Envelope { user: None, ..signed("k-2") }, "unknown_source"),
        (Envelope { user: None, source: Some("weather"), ..signed("k-2") }, "unknown_source"),
        (Envelope { source: Some("police"), ..signed("k-2") }, "unknown_source"),
        (Envelope { key: None, ..signed("k-2") }, "no_key"),
    ] {
        assert_eq!(weather.refused(envelope, &letter("暴雨")).await.0, code);
        assert_eq!(dead(&broker).await.0, code);
    }
    // Its sender does not listen: somebody else must see it.
    weather.tell(Envelope { hears: false, ..signed("k-3") }, wrong.as_bytes()).await;
    assert_eq!(dead(&broker).await.0, "bad_item");
    let huge = format!("{{\"kind\":\"notice\",\"body\":\"{}\"}}", "水".repeat(400_000));
    assert_eq!(weather.refused(signed("k-4"), &huge).await.0, "too_large");
    assert_eq!(dead(&broker).await.1.len(), 4_096, "no more is kept than tells what it was");
    weather.tell(signed("k-5"), b"\xff\xfe").await;
    assert!(weather.hear().await.contains("not_utf8"));
    assert_eq!(items(&app).await, 1);
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_the_database_does_not_take_holds_up_no_other() {
    let Some(broker) = broker().await else { return };
    for (store, site) in engines(broker.url()).await {
        let mut site = site.with(WEATHER);
        let app = site.open().await;
        let (serving, _) = engine(&mut site, &app).await;
        let mut weather = Sender::new(&broker).await;
        // PostgreSQL's text holds no NUL; SQLite's does.
        let odd = weather.ask(signed(&format!("{store}-1")), &letter("暴雨\0")).await;
        assert_eq!(odd.contains("cannot_enter"), store == "postgres", "{store}: {odd}");
        let next = weather.ask(signed(&format!("{store}-2")), &letter("山洪")).await;
        assert!(next.starts_with("{\"ok\":true"), "{store}: {next}");
        serving.stop().await;
    }
}

/// Enters a letter and never comes back from it.
struct Dying {
    desk: IntakeDesk,
    entered: Arc<Notify>,
}

impl Clerk for Dying {
    async fn enter(&self, letter: &Letter) -> gong::store::Result<Verdict> {
        self.desk.enter(letter).await?;
        self.entered.notify_one();
        std::future::pending().await
    }
}

/// The database answers, and takes nothing for a while, as one whose disk is full.
struct Full {
    desk: IntakeDesk,
    left: AtomicU32,
}

impl Clerk for Full {
    async fn enter(&self, letter: &Letter) -> gong::store::Result<Verdict> {
        if self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() {
            return Err(sqlx::Error::WorkerCrashed.into());
        }
        self.desk.enter(letter).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_waits_for_a_database_that_takes_nothing() {
    let Some(broker) = broker().await else { return };
    let site = sqlite(broker.url()).await.with(WEATHER);
    let app = site.open().await;
    let clerk = Full { desk: app.intake_desk().unwrap(), left: AtomicU32::new(12) };
    let (rabbit, stop) = (rabbit(&app, broker.url().to_owned()), CancellationToken::new());
    let intake = tokio::spawn(Intake { rabbit, clerk, longest: 1 << 20, stop: stop.clone() }.run());
    let mut weather = Sender::new(&broker).await;
    let answer = weather.ask(signed("k-1"), &letter("暴雨")).await;
    assert!(answer.starts_with("{\"ok\":true"), "{answer}");
    assert_eq!(items(&app).await, 1);
    stop.cancel();
    intake.await.unwrap();
}

fn rabbit(app: &App, url: String) -> Arc<Rabbit> {
    let settings = QueueSettings { url: vec![BrokerUrl::new(url)], ..QueueSettings::default() };
    let (store, wake) = (Arc::clone(&app.store), Arc::default());
    Rabbit::new(&settings, (store, wake), Arc::new(|_| 50), QueueCounts::default()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_dies_between_commit_and_acknowledgement_doubles_nothing() {
    let Some(broker) = broker().await else { return };
    let mut site = sqlite(broker.url()).await.with(WEATHER);
    let app = site.open().await;
    let proxy = Proxy::to(broker.port()).await;
    let entered = Arc::new(Notify::new());
    let clerk = Dying { desk: app.intake_desk().unwrap(), entered: Arc::clone(&entered) };
    let (rabbit, stop) = (rabbit(&app, broker.by(proxy.port)), CancellationToken::new());
    let dying = Intake { rabbit, clerk, longest: 1 << 20, stop };
    let dying = tokio::spawn(dying.run());
    let mut weather = Sender::new(&broker).await;
    weather.tell(signed("k-1"), letter("暴雨").as_bytes()).await;
    entered.notified().await;
    dying.abort();
    proxy.cut();
    assert_eq!(items(&app).await, 1, "it is on disk, and nobody was told");
    let (serving, _) = engine(&mut site, &app).await;
    let answer = weather.hear().await;
    assert!(answer.starts_with("{\"ok\":true"), "{answer}");
    assert_eq!(weather.ask(signed("k-1"), &letter("暴雨")).await, answer);
    assert_eq!(items(&app).await, 1);
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_outlast_a_restart_of_the_broker_and_of_gong() {
    let Some(broker) = own_broker().await else { return };
    let mut site = sqlite(broker.url()).await.with(WEATHER);
    let app = site.open().await;
    let (serving, _) = engine(&mut site, &app).await;
    let mut weather = Sender::new(&broker).await;
    let answer = weather.ask(signed("k-1"), &letter("暴雨")).await;
    serving.stop().await;
    weather.tell(signed("k-2"), letter("山洪").as_bytes()).await;
    broker.run(&["stop"]);
    broker.run(&["start"]);
    let (serving, _) = engine(&mut site, &app).await;
    until("the letter that waited is entered", SOON, async || items(&app).await == 2).await;
    broker.run(&["stop"]);
    broker.run(&["start"]);
    let mut weather = Sender::new(&broker).await;
    assert_eq!(weather.ask(signed("k-1"), &letter("暴雨")).await, answer);
    assert!(weather.ask(signed("k-2"), &letter("山洪")).await.starts_with("{\"ok\":true"));
    assert_eq!(items(&app).await, 2);
    serving.stop().await;
}

/// Nothing of the fixtures' people, and no text of an item.
fn assert_impersonal(all: &[(String, String)]) {
    let body = all.iter().map(|(_, body)| body.as_str()).collect::<String>();
    for personal in ["居民", "1390000", "1380000", "张三", "李四", "王五", "p1", "暴雨", "转移", "河口", "5550000"]
    {
        assert!(!body.contains(personal), "an event holds {personal}: {body}");
    }
}

fn topics(all: &[(String, String)]) -> Vec<&str> {
    all.iter().map(|(topic, _)| topic.as_str()).collect()
}

fn bodies(all: &[(String, String)]) -> Vec<Value> {
    all.iter().map(|(_, body)| serde_json::from_str(body).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_subscribes_is_told_how_a_dispatch_goes_and_nothing_about_anybody() {
    let Some(broker) = broker().await else { return };
    for (store, site) in engines(broker.url()).await {
        let gateway = gateway(Behaviour { receipt_delay: "5".parse().unwrap(), ..Behaviour::default() }).await;
        let mut site = site.with_kannel(gateway.addr, "rate = 100000, in_flight = 64");
        let app = site.open().await;
        site.settle(&app, 200).await;
        let (serving, counts) = engine(&mut site, &app).await;
        let item = site.approve(&app, ALERT).await;
        // Nobody listens: it goes all the same, and nothing heaps up.
        let unheard = site.send(&app, &item, &wish("all", "sms")).await;
        finished(&app, unheard.no, LIMIT).await;
        until("all of it is told", SOON, async || app.store.watched_dispatches(0).await.unwrap().is_empty()).await;
        until("nothing is left to publish", SOON, async || app.store.pending_events(1).await.unwrap().is_empty()).await;
        // Counted a moment after they are forgotten.
        until("they are counted", SOON, async || counts.queue.told.get() >= 4).await;
        let mut office = subscriber(&broker).await;
        let dispatch = site.send(&app, &item, &wish("all", "sms")).await;
        let all = heard_until(&mut office, "dispatch.finished").await;
        let done = finished(&app, dispatch.no, LIMIT).await;
        assert_eq!(topics(&all)[..2], ["dispatch.created", "dispatch.started"], "{store}");
        let (said, no) = (bodies(&all), item.parse::<i64>().unwrap());
        assert!(said.windows(2).all(|two| two[0]["no"].as_i64() < two[1]["no"].as_i64()), "{store}: in order");
        assert!(said.iter().all(|e| e["dispatch"]["id"] == done.id.as_str() && e["item"]["no"] == no));
        let last = said.last().unwrap();
        let states = last["states"].as_object().unwrap();
        assert_eq!(states.values().map(|n| n.as_i64().unwrap()).sum::<i64>(), done.deliveries, "{store}: {last}");
        assert_eq!(states["delivered"], json!(done.deliveries));
        let delivered = said.iter().rfind(|e| e["event"] == "delivery.delivered").unwrap();
        assert_eq!((&delivered["count"], &delivered["channels"]["sms"]), (&states["delivered"], &states["delivered"]));
        let changes: i64 =
            said.iter().filter(|e| e["state"] == "delivered").map(|e| e["change"].as_i64().unwrap()).sum();
        assert_eq!(changes, done.deliveries, "{store}: the changes add up");
        assert_impersonal(&all);
        serving.stop().await;
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pause_resume_and_cancel_are_told_and_a_cut_line_only_delays_them() {
    let Some(broker) = broker().await else { return };
    let gateway = gateway(Behaviour::default()).await;
    let proxy = Proxy::to(broker.port()).await;
    let mut site: Site = sqlite(&broker.by(proxy.port)).await;
    site = site.with_kannel(gateway.addr, "rate = 2, in_flight = 4");
    let app = site.open().await;
    site.settle(&app, 200).await;
    let (serving, _) = engine(&mut site, &app).await;
    until("gong publishes events", SOON, async || exists(&broker).await).await;
    let mut office = subscriber(&broker).await;
    let item = site.approve(&app, ALERT).await;
    let dispatch = site.send(&app, &item, &wish("all", "sms")).await;
    heard_until(&mut office, "dispatch.started").await;
    app.store.steer_dispatch(dispatch.no, "paused", "李四").await.unwrap();
    heard_until(&mut office, "dispatch.paused").await;
    proxy.cut();
    app.store.steer_dispatch(dispatch.no, "active", "李四").await.unwrap();
    proxy.heal();
    heard_until(&mut office, "dispatch.resumed").await;
    app.store.steer_dispatch(dispatch.no, "cancelled", "李四").await.unwrap();
    let all = heard_until(&mut office, "dispatch.finished").await;
    assert!(topics(&all).contains(&"dispatch.cancelled"), "{:?}", topics(&all));
    let end = bodies(&all).pop().unwrap();
    assert_eq!(end["dispatch"]["state"], "cancelled");
    assert!(end["states"]["cancelled"].as_i64().unwrap() > 0, "{end}");
    assert_impersonal(&all);
    serving.stop().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_is_to_be_told_nothing_is_counted_or_declared() {
    let Some(broker) = broker().await else { return };
    let mut site = sqlite(broker.url()).await.with("[events]\nenabled = false");
    let app = site.open().await;
    site.settle(&app, 20).await;
    let (serving, counts) = engine(&mut site, &app).await;
    let item = site.approve(&app, ALERT).await;
    let dispatch = site.send(&app, &item, &wish("all", "rehearsal")).await;
    finished(&app, dispatch.no, LIMIT).await;
    assert_eq!((counts.queue.told.get(), exists(&broker).await), (0, false));
    assert_eq!(app.store.watched_dispatches(0).await.unwrap().len(), 1, "nobody has looked at it");
    serving.stop().await;
}

/// Whether gong has declared its exchange of events.
async fn exists(broker: &crate::rabbit::rig::Broker) -> bool {
    use lapin::options::ExchangeDeclareOptions;
    let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    let channel = broker.channel().await;
    let kind = lapin::ExchangeKind::Topic;
    channel.exchange_declare("gong.events".into(), kind, options, lapin::types::FieldTable::default()).await.is_ok()
}
