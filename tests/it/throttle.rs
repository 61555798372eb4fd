//! The pace of a channel over a minute: throttled by its gateway, met by a ceiling,
//! with long texts.

#![allow(clippy::print_stdout)] // what was measured, for who reads a failure

use std::time::Duration;

use gong::app::App;
use gong::domain::delivery::State;
use gong::loopback::{Behaviour, Running, Span, Stats};
use tokio::time::Instant;

use crate::rig::{self, SOON, until};
use crate::site::{ALERT, Site, finished, gateway, in_state, wish};

const MINUTE: Duration = Duration::from_mins(1);
/// How far a rate may be off.
const OFF: f64 = 0.05;

/// Sends ALERT to `people` over a channel with these `limits`, measures for a minute
/// what `count` counts, a second, lets the rest go, and checks that none failed.
async fn minute(people: usize, limits: &str, behaviour: Behaviour, count: fn(&Stats) -> u64) -> f64 {
    let gateway = gateway(behaviour).await;
    let mut site = Site::new().await.with_kannel(gateway.addr, limits);
    let app = site.open().await;
    site.settle(&app, people).await;
    let item = site.approve(&app, ALERT).await;
    let prepared = app.prepare(&item, &wish("all", "sms"), "李四").await.unwrap();
    assert_eq!(prepared.preview.channels[0].parts_each, 1, "{}", prepared.preview.sample);
    let dispatch = app.store.create_dispatch(&prepared.new).await.unwrap();
    let serving = site.serve(&app).await;
    until("a first request", SOON, async || gateway.stats().requests > 0).await;
    let (began, before) = (Instant::now(), count(&gateway.stats()));
    tokio::time::sleep(MINUTE).await;
    let after = gateway.stats();
    let rate = per_second(count(&after) - before, began.elapsed());
    let left = dispatch_left(&app, dispatch.no).await;
    assert!(left > 0, "there was not work for a minute: {after:?}");
    hurry(&app, &gateway).await;
    let done = finished(&app, dispatch.no, MINUTE).await;
    assert_eq!(in_state(&app, done.no, State::Failed).await, 0);
    assert_eq!(in_state(&app, done.no, State::Delivered).await, done.deliveries);
    assert_eq!(gateway.stats().duplicates, 0);
    serving.stop().await;
    gateway.stop().await;
    rate
}

async fn dispatch_left(app: &App, no: i64) -> i64 {
    in_state(app, no, State::Queued).await
}

/// The gateway takes what comes, and the channel sends it.
async fn hurry(app: &App, gateway: &Running) {
    gateway.behave(quick()).unwrap();
    app.store.set_rate("sms", Some(3_000.0), "李四").await.unwrap();
}

fn quick() -> Behaviour {
    Behaviour { receipt_delay: Span::fixed(20), ..Behaviour::default() }
}

#[allow(clippy::cast_precision_loss)] // counts of a minute
fn per_second(n: u64, time: Duration) -> f64 {
    n as f64 / time.as_secs_f64()
}

#[tokio::test(flavor = "multi_thread")]
async fn rates_hold_within_a_twentieth() {
    let half = Behaviour { throttle: 0.5, retry_after: 1, ..quick() };
    let ceiling = Behaviour { rate: 60.0, burst: 6, ..quick() };
    let (half, ceiling, ()) = tokio::join!(
        // Half of what is asked is throttled, so 60 requests a second take 30 people.
        minute(2_600, "rate = 60, in_flight = 16", half, |s| s.requests),
        minute(4_800, "rate = 120, in_flight = 16", ceiling, |s| s.messages),
        long_texts(),
    );
    println!("half throttled: {half:.1} requests a second of 60; ceiling: {ceiling:.1} taken of 60");
    assert!((half / 60.0 - 1.0).abs() <= OFF, "half throttled: {half:.1} requests a second, not 60");
    assert!((ceiling / 60.0 - 1.0).abs() <= OFF, "at a ceiling of 60: {ceiling:.1} messages a second");
}

/// 200 parts a second are 100 texts of two parts, evenly.
async fn long_texts() {
    let gateway = gateway(quick()).await;
    let mut site = Site::new().await.with_kannel(gateway.addr, "rate = 200, in_flight = 8");
    let app = site.open().await;
    site.settle(&app, 2_500).await;
    let item = site.approve(&app, &ALERT.replace("河口镇沿河各村", &"河口镇沿河各村，".repeat(8))).await;
    let prepared = app.prepare(&item, &wish("all", "sms"), "李四").await.unwrap();
    assert_eq!(prepared.preview.channels[0].parts_each, 2, "{}", prepared.preview.sample);
    assert_eq!(prepared.preview.parts, 2 * prepared.preview.deliveries);
    let dispatch = app.store.create_dispatch(&prepared.new).await.unwrap();
    let serving = site.serve(&app).await;
    let done = finished(&app, dispatch.no, MINUTE).await;
    assert_eq!(in_state(&app, done.no, State::Delivered).await, done.deliveries);
    let times: Vec<i64> = rig::log(gateway.addr).await.iter().map(|e| e.at_ms).collect();
    let (first, last) = (*times.first().unwrap(), *times.last().unwrap());
    let lasted = Duration::from_millis(u64::try_from(last - first).unwrap());
    let rate = per_second(times.len() as u64, lasted);
    assert!((rate / 100.0 - 1.0).abs() <= OFF, "{rate:.1} texts of two parts a second");
    let mut slices = vec![0; usize::try_from((last - first) / 100 + 1).unwrap()];
    for at in times {
        slices[usize::try_from((at - first) / 100).unwrap()] += 1;
    }
    let most = slices.iter().max().unwrap();
    println!("long texts: {rate:.1} a second, at most {most} in a tenth of one");
    assert!(*most <= 20, "{most} texts in a tenth of a second, whose share is 10");
    serving.stop().await;
    gateway.stop().await;
}
