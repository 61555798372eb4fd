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
/// A minute is measured in so many parts, for a busy machine may be late in some of them.
const PARTS: u32 = 4;

/// What went in a second.
#[derive(Debug)]
struct Pace {
    whole: f64,
    /// In the best part of the time.
    best: f64,
}

impl Pace {
    /// Never faster than `rate` on the whole, and as fast where nothing else was to do.
    fn assert_holds(&self, rate: f64, what: &str) {
        println!("{what}: {self:.1?} a second, of {rate}");
        assert!(self.whole <= rate * (1.0 + OFF) && self.best >= rate * (1.0 - OFF), "{what}: {self:?}, not {rate}");
    }
}

/// Sends ALERT to `people` over a channel with these `limits`, measures for a minute
/// what `count` counts, a second, lets the rest go, and checks that none failed.
async fn minute(people: usize, limits: &str, behaviour: Behaviour, count: fn(&Stats) -> u64) -> Pace {
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
    let mut best = 0.0_f64;
    for _ in 0..PARTS {
        let (began, before) = (Instant::now(), count(&gateway.stats()));
        tokio::time::sleep(MINUTE / PARTS).await;
        best = best.max(per_second(count(&gateway.stats()) - before, began.elapsed()));
    }
    let whole = per_second(count(&gateway.stats()) - before, began.elapsed());
    let left = in_state(&app, dispatch.no, State::Queued).await;
    assert!(left > 0, "there was not work for a minute: {:?}", gateway.stats());
    hurry(&app, &gateway).await;
    let done = finished(&app, dispatch.no, MINUTE).await;
    assert_eq!(in_state(&app, done.no, State::Failed).await, 0);
    assert_eq!(in_state(&app, done.no, State::Delivered).await, done.deliveries);
    assert_eq!(gateway.stats().duplicates, 0);
    serving.stop().await;
    gateway.stop().await;
    Pace { whole, best }
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
    half.assert_holds(60.0, "requests, half of them throttled");
    ceiling.assert_holds(60.0, "messages taken at a ceiling");
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
    let whole = per_second(times.len() as u64, lasted);
    let mut tenths = vec![0_u64; usize::try_from((last - first) / 100 + 1).unwrap()];
    for at in times {
        tenths[usize::try_from((at - first) / 100).unwrap()] += 1;
    }
    let best = tenths.windows(50).map(|five| per_second(five.iter().sum(), Duration::from_secs(5))).fold(0.0, f64::max);
    Pace { whole, best }.assert_holds(100.0, "texts of two parts");
    // Evenly: a second's share at once would be 100 (a busy machine is late with a few).
    let most = tenths.iter().max().unwrap();
    assert!(*most <= 40, "{most} texts in a tenth of a second, whose share is 10");
    serving.stop().await;
    gateway.stop().await;
}
