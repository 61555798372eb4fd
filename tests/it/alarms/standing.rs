//! What `/metrics` says of work that waits, while it waits and when it is done: read from a
//! real engine, over its own port.

use std::cell::Cell;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::routing::post;
use axum::{Json, Router};
use gong::app::App;
use gong::domain::delivery::State;
use serde_json::json;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use tokio::net::TcpListener;

use crate::rig::{SOON, call_back, get, sample, until};
use crate::site::{ALERT, NOTICE, Site, finished, in_state, wish};
use crate::support;

/// Lanes in which something waits here, and those in which nothing does.
const WAITING: [&str; 2] = ["immediate", "routine"];
const EMPTY: [&str; 2] = ["call", "prompt"];
const PEOPLE: usize = 40;
/// Parts a second: as the site declares it, and as an operator slows it.
const DECLARED: f64 = 500.0;
const SLOW: f64 = 2.0;

/// A gateway of the signed JSON format that names what it takes m1, m2 and so on, and
/// calls nobody back.
async fn numbering() -> SocketAddr {
    let taken = Arc::new(AtomicUsize::new(0));
    let answer = move || {
        let id = format!("m{}", taken.fetch_add(1, Ordering::SeqCst) + 1);
        async move { Json(json!({ "code": 0, "id": id, "ids": [id] })) }
    };
    let app = Router::new().route("/v1/messages", post(answer));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    at
}

fn of_lane(metrics: &str, what: &str, lane: &str) -> f64 {
    let name = format!("gong_lane_{what}{{channel=\"sms\",lane=\"{lane}\"}}");
    sample(metrics, &name).unwrap_or_else(|| panic!("no {name} in\n{metrics}"))
}

fn of_channel(metrics: &str, what: &str) -> f64 {
    sample(metrics, &format!("gong_channel_{what}{{channel=\"sms\"}}")).unwrap()
}

fn used(metrics: &str, pool: &str, state: &str) -> f64 {
    sample(metrics, &format!("gong_pool_connections{{pool=\"{pool}\",state=\"{state}\"}}")).unwrap_or_default()
}

/// The metrics once they are like this.
async fn once(site: &Site, what: &str, mut like: impl FnMut(&str) -> bool) -> String {
    let mut metrics = String::new();
    until(what, SOON, async || {
        metrics = get(site.address(), "/metrics").await;
        // Before the first look there are no gauges.
        sample(&metrics, "gong_lane_backlog_seconds{channel=\"sms\",lane=\"routine\"}").is_some() && like(&metrics)
    })
    .await;
    metrics
}

/// Two dispatches wait because an operator stopped the channel.
async fn stopped(site: &Site, app: &App, n: f64) {
    // What is set last says that all of it was set.
    let metrics = once(site, "both wait", |m| {
        WAITING.iter().all(|lane| of_lane(m, "messages", lane) >= n) && of_lane(m, "backlog_seconds", "routine") > 0.0
    })
    .await;
    #[allow(clippy::cast_precision_loss)] // far below 2^52
    let oldest = (app.store.now() - app.store.dispatch("1").await.unwrap().created_at) as f64 / 1000.0;
    for lane in WAITING {
        let of = |what| of_lane(&metrics, what, lane);
        assert_eq!((of("messages"), of("leased_batches"), of("stalled_seconds")), (n, 0.0, 0.0), "{lane}: {metrics}");
        assert!(of("ready_batches") >= 1.0, "{lane}: {metrics}");
        assert!(of("oldest_seconds") > 0.0 && of("oldest_seconds") <= oldest, "{lane}, {oldest} s: {metrics}");
        assert_eq!(of("backlog_seconds").to_string(), (n / DECLARED).to_string(), "{lane}: {metrics}");
        let open = sample(&metrics, &format!("gong_dispatches{{lane=\"{lane}\",state=\"active\"}}"));
        assert_eq!(open, Some(1.0), "{lane}: {metrics}");
    }
    nothing_in(&metrics, &EMPTY);
    assert_eq!((of_channel(&metrics, "rate"), of_channel(&metrics, "paused")), (DECLARED, 1.0), "{metrics}");
    assert_eq!(sample(&metrics, "gong_receipts_unmatched"), Some(0.0), "{metrics}");
    // They wait on.
    let before = of_lane(&metrics, "oldest_seconds", "immediate");
    once(site, "the oldest grows older", |m| of_lane(m, "oldest_seconds", "immediate") > before + 1.0).await;
}

fn nothing_in(metrics: &str, lanes: &[&str]) {
    for lane in lanes {
        for what in
            ["messages", "ready_batches", "leased_batches", "oldest_seconds", "stalled_seconds", "backlog_seconds"]
        {
            assert_eq!(of_lane(metrics, what, lane).to_string(), "0", "{what} of {lane}: {metrics}");
        }
    }
}

/// Somebody from outside holds what three of ours want to write; connections stand used
/// for as long, and are free again.
async fn pool_in_use(site: &Site, app: &App, pool: &str) {
    let released = Cell::new(false);
    // Their wait may end before ours does, on a busy machine.
    let writer = async || {
        while !released.get() {
            let _ = app.store.set_rate("sms", Some(SLOW), "李四").await;
        }
    };
    let waited = async {
        let holds = |m: &str| used(m, pool, "used") >= used(m, pool, "most").min(3.0);
        let metrics = if app.store.file.is_some() {
            let other = SqlitePool::connect_with(SqliteConnectOptions::new().filename(site.database())).await.unwrap();
            let held = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
            let metrics = once(site, "they are in use", holds).await;
            released.set(true);
            held.rollback().await.unwrap();
            other.close().await;
            metrics
        } else {
            let other = support::pool(&app.config.store.url).await;
            let mut held = other.begin().await.unwrap();
            sqlx::query("LOCK TABLE channels IN SHARE MODE").execute(&mut *held).await.unwrap();
            let metrics = once(site, "they are in use", holds).await;
            released.set(true);
            held.rollback().await.unwrap();
            other.close().await;
            metrics
        };
        let of = |state| used(&metrics, pool, state);
        assert!(of("most") >= 1.0 && of("used") + of("idle") <= of("most"), "{metrics}");
    };
    tokio::join!(writer(), writer(), writer(), waited);
    once(site, "they are free", |m| used(m, pool, "used") < used(m, pool, "most").min(3.0)).await;
}

/// The bytes free where the site lies, as the system says.
fn free(site: &Site) -> f64 {
    let done = Command::new("df").args(["-B1", "--output=avail"]).arg(site.dir.path()).output().unwrap();
    String::from_utf8(done.stdout).unwrap().lines().nth(1).unwrap().trim().parse().unwrap()
}

async fn what_waits_is_shown(site: Site, pool: &str, under: &str) {
    let mut site = site.with_json(numbering().await, &format!("rate = {DECLARED}, in_flight = 4"));
    let app = site.open().await;
    site.settle(&app, PEOPLE).await;
    let (own, household, _) = Site::shares(PEOPLE);
    let n = own + household;
    #[allow(clippy::cast_precision_loss)] // far below 2^52
    let each = n as f64;
    app.store.pause_channel("sms", true, "李四").await.unwrap();
    let (alert, notice) = (site.approve(&app, ALERT).await, site.approve(&app, NOTICE).await);
    let serving = site.serve(&app).await;
    let mut sent = Vec::new();
    for item in [alert, notice] {
        sent.push(site.send(&app, &item, &wish("all", "sms")).await);
    }
    stopped(&site, &app, each).await;

    // Receipts ahead of their messages, by ids that no message has yet.
    let ids: Vec<String> = (1..=2 * n).map(|i| format!("m{i}")).collect();
    let answer = call_back(site.address(), &ids).await;
    assert_eq!(answer.split(' ').nth(1), Some("200"), "{answer}");
    let unmatched = |m: &str| sample(m, "gong_receipts_unmatched");
    let metrics = once(&site, "they are unmatched", |m| unmatched(m) == Some(2.0 * each)).await;
    assert_eq!(sample(&metrics, "gong_receipts_total{channel=\"sms\"}"), Some(2.0 * each), "{metrics}");
    let (shown, free) = (sample(&metrics, &format!("gong_disk_free_bytes{{under=\"{under}\"}}")), free(&site));
    assert!(shown.is_some_and(|bytes| bytes > free / 2.0 && bytes < free * 2.0), "{shown:?} of {free}");
    assert_eq!(sample(&metrics, "gong_low_disk"), Some(0.0), "{metrics}");
    pool_in_use(&site, &app, pool).await;

    // It goes on, slowly: a worker has the batch.
    app.store.pause_channel("sms", false, "李四").await.unwrap();
    let metrics = once(&site, "a worker has it", |m| {
        // The last that is set.
        of_lane(m, "leased_batches", "immediate") >= 1.0 && of_lane(m, "backlog_seconds", "routine") > each / DECLARED
    })
    .await;
    assert_eq!(of_lane(&metrics, "backlog_seconds", "routine").to_string(), (each / SLOW).to_string(), "{metrics}");
    let stands = [of_channel(&metrics, "rate"), of_channel(&metrics, "paused")].map(|n| n.to_string());
    assert_eq!(stands, [SLOW.to_string(), "0".to_owned()], "{metrics}");

    app.store.set_rate("sms", None, "李四").await.unwrap();
    for dispatch in &sent {
        let done = finished(&app, dispatch.no, SOON).await;
        assert_eq!(in_state(&app, done.no, State::Delivered).await, i64::try_from(n).unwrap());
    }
    let metrics = once(&site, "nothing waits", |m| {
        of_lane(m, "messages", "routine") + unmatched(m).unwrap_or(1.0) == 0.0 && !m.contains("gong_dispatches{")
    })
    .await;
    nothing_in(&metrics, &[&WAITING[..], &EMPTY[..]].concat());
    assert_eq!(of_channel(&metrics, "rate").to_string(), DECLARED.to_string(), "{metrics}");
    let accepted = "gong_answers_total{channel=\"sms\",class=\"accepted\"}";
    assert_eq!(sample(&metrics, accepted), Some(2.0 * each), "{metrics}");
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_on_one_machine_is_shown_and_then_it_is_nothing() {
    what_waits_is_shown(Site::new().await, "write", "database").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_on_a_server_is_shown_and_then_it_is_nothing() {
    if let Some(site) = Site::new().await.on_postgres().await {
        what_waits_is_shown(site, "postgres", "site").await;
    }
}
