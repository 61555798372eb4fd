//! What goes first, what waits for the morning, and what no longer goes at all.

#![allow(clippy::print_stdout)] // what was measured, for who reads a failure

use std::time::Duration;

use gong::clock::Clock;
use gong::domain::delivery::{Reason, State};
use gong::loopback::{Behaviour, Running, Span};
use gong::store::dispatches::Dispatch;
use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use crate::ledger::Ledger;
use crate::rabbit::rig::{broker, engines};
use crate::rig::{self, BUSY, Entry, SOON, delivery_of, stands, until};
use crate::site::{ALERT, NOTICE, Site, finished, gateway, in_state, wish};

const NIGHT: &str = "[quiet_hours]\nfrom = \"22:00\"\nto = \"07:00\"";
const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

fn quick() -> Behaviour {
    Behaviour { receipt_delay: Span::fixed(20), ..Behaviour::default() }
}

fn at(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap().as_millisecond()
}

/// Messages taken in `time` from now on.
async fn taken_in(gateway: &Running, time: Duration) -> u64 {
    let before = gateway.stats().messages;
    sleep(time).await;
    gateway.stats().messages - before
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_immediate_overtakes_and_the_routine_keeps_its_floor() {
    let gateway = gateway(quick()).await;
    let mut site = Site::new().await.with_kannel(gateway.addr, "rate = 100, in_flight = 16");
    let app = site.open().await;
    // Enough for several batches: they must not stand in the way.
    site.settle(&app, 6_000).await;
    let (notice, alert) = (site.approve(&app, NOTICE).await, site.approve(&app, ALERT).await);
    let serving = site.serve(&app).await;
    let routine = site.send(&app, &notice, &wish("all", "sms")).await;
    until("the routine runs", SOON, async || gateway.stats().messages >= 300).await;

    let asked = Clock::System.now();
    let urgent = site.send(&app, &alert, &wish("region:532532101200", "sms")).await;
    let urgent = finished(&app, urgent.no, SOON).await;
    let log = rig::log(gateway.addr).await;
    let of = |d: &Dispatch| -> Vec<&Entry> { log.iter().filter(|e| delivery_of(&app, e).0 == d.no).collect() };
    let alerts = of(&urgent);
    let (first, last) = (alerts[0].at_ms, alerts[alerts.len() - 1].at_ms);
    // How fast exactly is for `gong bench lanes`; in the queue behind the routine it would be a minute.
    assert!(first - asked <= 15_000, "the first immediate message came after {} ms", first - asked);
    let between = of(&routine).into_iter().filter(|e| first < e.at_ms && e.at_ms < last).count();
    let (n, floor) = (alerts.len(), between * 100 / (alerts.len() + between));
    println!("{n} immediate in {} ms, the first after {} ms; {between} routine between", last - first, first - asked);
    assert!(n > 1_000);
    let rate = i64::try_from(n).unwrap() * 1_000 / (last - first);
    assert!((50..=100).contains(&rate), "immediate messages went at {rate} a second of 100");
    assert!((4..=8).contains(&floor), "routine messages had {floor} % of the channel");

    steer(&app, &gateway).await;
    app.store.set_rate("sms", Some(5_000.0), "李四").await.unwrap();
    let routine = finished(&app, routine.no, SOON).await;
    assert_eq!(in_state(&app, routine.no, State::Delivered).await, routine.deliveries);
    assert_eq!(gateway.stats().duplicates, 0);
    serving.stop().await;
    gateway.stop().await;
}

/// The routine is sent when the urgent has taken the whole channel, and there is far more
/// of that than a worker holds.
#[tokio::test(flavor = "multi_thread")]
async fn the_floor_is_kept_however_long_the_urgent_lasts() {
    let mut sites = vec![("sqlite", Site::new().await)];
    if let Some(site) = Site::new().await.on_postgres().await {
        sites.push(("postgres", site));
    }
    let broker = broker().await;
    if let Some(broker) = &broker {
        sites.extend(engines(broker.url()).await);
    }
    for (store, site) in sites {
        Box::pin(floor_is_kept(store, site)).await;
    }
}

async fn floor_is_kept(store: &'static str, site: Site) {
    let gateway = gateway(quick()).await;
    // A batch is a minute's sends: small ones, so that their rows come to an end.
    let mut site = site.with_kannel(gateway.addr, "rate = 2, in_flight = 16");
    let app = site.open().await;
    site.settle(&app, 3_600).await;
    let (notice, alert) = (site.approve(&app, NOTICE).await, site.approve(&app, ALERT).await);
    app.store.set_rate("sms", Some(300.0), "李四").await.unwrap();
    let serving = site.serve(&app).await;
    let urgent = site.send(&app, &alert, &wish("all", "sms")).await;
    until("the urgent runs", SOON, async || gateway.stats().messages >= 300).await;
    let routine = site.send(&app, &notice, &wish("all", "sms")).await;
    let urgent = finished(&app, urgent.no, SOON).await;
    let log = rig::log(gateway.addr).await;
    let of =
        |d: &Dispatch| -> Vec<i64> { log.iter().filter(|e| delivery_of(&app, e).0 == d.no).map(|e| e.at_ms).collect() };
    let (urgent, routine) = (of(&urgent), of(&routine));
    let (first, last) = (routine.iter().min().copied().unwrap_or(i64::MAX), *urgent.iter().max().unwrap());
    let urgent = urgent.iter().filter(|at| first <= **at).count();
    let between = routine.iter().filter(|at| **at < last).count();
    println!("{store}: {urgent} immediate and {between} routine between");
    assert!(urgent > 2_000, "{store}: the first routine message came when {urgent} immediate ones were left");
    let floor = between * 100 / (urgent + between);
    assert!((4..=8).contains(&floor), "{store}: routine messages had {floor} % of the channel");
    serving.stop().await;
    gateway.stop().await;
}

/// A rate set, a channel stopped and opened again: each holds, within a second or a busy machine's few.
async fn steer(app: &gong::app::App, gateway: &Running) {
    let second = Duration::from_secs(1);
    app.store.set_rate("sms", Some(20.0), "李四").await.unwrap();
    // A busy machine may need another try to follow, or to be so fast; faster it must never be.
    for rate in [20_u32, 60] {
        app.store.set_rate("sms", Some(f64::from(rate)), "李四").await.unwrap();
        let mut tries = 0;
        until("the rate that was set", SOON, async || {
            sleep(second).await;
            let taken = taken_in(gateway, 2 * second).await;
            tries += 1;
            let most = u64::from(rate) * 23 / 10;
            assert!(taken <= most || tries < 3, "{taken} messages in two seconds at {rate} a second");
            (u64::from(rate) * 17 / 10..=most).contains(&taken)
        })
        .await;
    }
    app.store.pause_channel("sms", true, "李四").await.unwrap();
    stands(gateway).await;
    let at = Instant::now();
    let before = gateway.stats().messages;
    app.store.pause_channel("sms", false, "李四").await.unwrap();
    until("the channel goes on", SOON, async || gateway.stats().messages > before).await;
    assert!(at.elapsed() <= BUSY, "{:?}", at.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn routine_messages_wait_for_the_morning() {
    let gateway = gateway(quick()).await;
    let mut site = Site::new().await.with(NIGHT).with_kannel(gateway.addr, "rate = 500");
    let clock = Clock::held(at("2026-06-01T23:00:00+08:00"));
    let app = site.open_at(clock.clone()).await;
    site.settle(&app, 40).await;
    let (notice, alert) = (site.approve(&app, NOTICE).await, site.approve(&app, ALERT).await);
    let serving = site.serve(&app).await;
    let routine = site.send(&app, &notice, &wish("all", "sms")).await;
    let n = i64::try_from(Site::shares(40).0 + Site::shares(40).1).unwrap();
    until("deferred", SOON, async || in_state(&app, routine.no, State::Deferred).await == n).await;
    assert_eq!(gateway.stats().requests, 0);
    let urgent = site.send(&app, &alert, &wish("all", "sms")).await;
    assert_eq!(finished(&app, urgent.no, SOON).await.deliveries, n);
    clock.advance(8 * HOUR - MINUTE);
    sleep(Duration::from_millis(700)).await;
    assert_eq!(in_state(&app, routine.no, State::Deferred).await, n, "06:59 is still quiet");
    clock.advance(MINUTE);
    let routine = finished(&app, routine.no, SOON).await;
    assert_eq!(in_state(&app, routine.no, State::Delivered).await, n);
    serving.stop().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_night_falls_on_a_routine_dispatch_under_way() {
    let gateway = gateway(quick()).await;
    let mut site = Site::new().await.with(NIGHT).with_kannel(gateway.addr, "rate = 50, in_flight = 8");
    let clock = Clock::held(at("2026-06-01T21:59:30+08:00"));
    let app = site.open_at(clock.clone()).await;
    site.settle(&app, 400).await;
    let notice = site.approve(&app, NOTICE).await;
    let serving = site.serve(&app).await;
    let routine = site.send(&app, &notice, &wish("all", "sms")).await;
    until("under way", SOON, async || gateway.stats().messages >= 50).await;
    clock.advance(MINUTE);
    let at_ten = gateway.stats().messages;
    let planned = i64::try_from(Site::shares(400).0 + Site::shares(400).1).unwrap();
    let settled = async || {
        let deferred = in_state(&app, routine.no, State::Deferred).await;
        deferred + in_state(&app, routine.no, State::Delivered).await == planned && deferred > 0
    };
    until("what is left is deferred", SOON, settled).await;
    let late = gateway.stats().messages - at_ten;
    assert!(late <= 20, "{late} messages after ten o'clock");
    assert_eq!(taken_in(&gateway, Duration::from_millis(500)).await, 0);
    app.store.set_rate("sms", Some(1_000.0), "李四").await.unwrap();
    clock.advance(9 * HOUR);
    let routine = finished(&app, routine.no, SOON).await;
    assert_eq!(in_state(&app, routine.no, State::Delivered).await, planned);
    assert_eq!(i64::try_from(gateway.stats().messages).unwrap(), planned, "none twice");
    serving.stop().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_out_after_its_time() {
    let gateway = gateway(quick()).await;
    let mut site = Site::new().await.with_kannel(gateway.addr, "rate = 20, in_flight = 4");
    let clock = Clock::held(at("2026-06-01T12:00:00+08:00"));
    let app = site.open_at(clock.clone()).await;
    site.settle(&app, 200).await;
    let alert = site.approve(&app, &ALERT.replace("+++\n请", "expires_in = \"1h\"\n+++\n请")).await;
    let serving = site.serve(&app).await;
    let dispatch = site.send(&app, &alert, &wish("all", "sms")).await;
    until("under way", SOON, async || gateway.stats().messages >= 20).await;
    clock.advance(HOUR);
    let then = gateway.stats().messages;
    let done = finished(&app, dispatch.no, SOON).await;
    let sent = gateway.stats().messages;
    assert!(sent - then <= 4, "{} messages after they expired", sent - then);
    assert_eq!(in_state(&app, done.no, State::Delivered).await, i64::try_from(sent).unwrap());
    assert_eq!(in_state(&app, done.no, State::Failed).await, done.deliveries - i64::try_from(sent).unwrap());
    let ledger = Ledger::open(&site.database()).await;
    let reasons = ledger.pairs("SELECT reason, COUNT(*), 0 FROM deliveries WHERE state = 10 GROUP BY reason").await;
    assert_eq!(reasons.len(), 1);
    assert_eq!(reasons[0].0, i64::from(Reason::Expired.code()));
    ledger.assert_conserved().await;
    ledger.close().await;
    assert_eq!(taken_in(&gateway, Duration::from_millis(300)).await, 0);
    serving.stop().await;
    gateway.stop().await;
}
