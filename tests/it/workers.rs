//! Many processes on one PostgreSQL: they share a rate, come and go, are killed, stood
//! still and told to end. The books are read by statements of their own.

#![allow(clippy::print_stdout)] // what was measured, for who reads a failure

use std::time::{Duration, Instant};

use gong::domain::delivery::State;
use gong::loopback::Behaviour;
use rustix::process::Signal;
use tokio::sync::Mutex;
use tokio::time::sleep;

use crate::fleet::{Fleet, pid, prompt, signal, told_to_end};
use crate::rabbit::rig::broker;
use crate::rig::{self, Entry, SOON, delivery_of, until};
use crate::site::{ALERT, NOTICE, Site, finished, in_state, wish};
use crate::support::postgres_server;

/// They measure rates and times: one at a time.
static ALONE: Mutex<()> = Mutex::const_new(());
const SECOND: Duration = Duration::from_secs(1);

/// Messages a second between two moments of the gateway's clock.
fn rate_between(log: &[Entry], from: i64, to: i64) -> f64 {
    let n = log.iter().filter(|e| from <= e.at_ms && e.at_ms < to).count();
    #[allow(clippy::cast_precision_loss)]
    let rate = n as f64 * 1_000.0 / (to - from) as f64;
    rate
}

/// The rate between two moments; neither on the whole nor in a second was it exceeded.
fn rate_at_most(log: &[Entry], rate: f64, from: i64, to: i64, what: &str) -> f64 {
    let mean = rate_between(log, from, to);
    println!("{what}: {mean:.1} of {rate} a second");
    assert!(mean <= rate * 1.05, "{what}: {mean} of {rate} a second");
    for at in (from..to - 1_000).step_by(250) {
        let second = rate_between(log, at, at + 1_000);
        assert!(second <= rate * 1.1, "{what}: {second} in the second from {}", at - from);
    }
    mean
}

/// The workers there are send the whole rate of 100 a second together, and never more. A
/// busy machine may need another try to be so fast.
async fn assert_shared(fleet: &Fleet, what: &str) {
    until(what, SOON, async || {
        let from = now();
        sleep(5 * SECOND).await;
        let to = now();
        rate_at_most(&rig::log(fleet.gateway.addr).await, 100.0, from, to, what) >= 95.0
    })
    .await;
}

fn now() -> i64 {
    gong::clock::Clock::System.now()
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_share_a_rate_and_come_and_go() {
    let _alone = ALONE.lock().await;
    let Some(fleet) = Fleet::new("rate = 100, in_flight = 16", prompt(), 6_000).await else { return };
    let planner = fleet.plan("planner");
    let first = fleet.work("first");
    let second = fleet.work("second");
    until("two workers", SOON, async || fleet.working().await == 2).await;
    let notice = fleet.site.approve(&fleet.app, NOTICE).await;
    let sent = fleet.site.send(&fleet.app, &notice, &wish("all", "sms")).await;
    fleet.sending(200).await;
    assert_shared(&fleet, "two workers").await;
    // Both send, and what they are granted is no more than the channel has.
    let shown = fleet.site.run(&["workers", "--json"]).ok().json();
    let sms = |key: &str| -> Vec<f64> {
        let engines = shown["engines"].as_array().unwrap().iter();
        let channels = engines.flat_map(|e| e["channels"].as_array().unwrap().clone());
        channels.filter(|c| c["name"] == "sms").map(|c| c[key].as_f64().unwrap()).collect()
    };
    assert!(sms("share").iter().sum::<f64>() <= 100.000_1, "{shown}");
    assert!(sms("rate").len() == 2 && sms("rate").iter().all(|r| *r > 20.0), "{shown}");
    let said = fleet.site.run(&["status", "--lang", "en"]).ok().stdout;
    assert!(said.contains("planner (leads)") && said.contains("alive"), "{said}");

    let third = fleet.work("third");
    until("three workers", SOON, async || fleet.working().await == 3).await;
    assert_shared(&fleet, "a third joins").await;
    let took = told_to_end(first).await;
    assert!(took < 10 * SECOND, "it drained for {took:?}");
    assert_eq!(fleet.count("SELECT COUNT(*) FROM deliveries WHERE state = 11").await, 0);
    assert_shared(&fleet, "one leaves").await;

    fleet.app.store.set_rate("sms", Some(3_000.0), "李四").await.unwrap();
    let done = finished(&fleet.app, sent.no, SOON).await;
    assert_eq!(in_state(&fleet.app, done.no, State::Delivered).await, done.deliveries);
    for process in [second, third, planner] {
        told_to_end(process).await;
    }
    assert_eq!(fleet.count("SELECT COUNT(*) FROM tries WHERE class = 6").await, 0, "none was ever uncertain");
    assert_eq!(fleet.count("SELECT COUNT(*) FROM workers").await, 0, "all took their leave");
    fleet.assert_conserved().await;
    assert_eq!(fleet.gateway.stats().duplicates, 0);
    fleet.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_leads_within_ten_seconds_and_sending_goes_on() {
    let _alone = ALONE.lock().await;
    let Some(fleet) = Fleet::new("rate = 100, in_flight = 16", prompt(), 4_000).await else { return };
    let leader = fleet.plan("leader");
    until("it leads", SOON, async || fleet.leader("scheduler").await == Some(pid(&leader))).await;
    until("it plans", SOON, async || fleet.leader("planner").await == Some(pid(&leader))).await;
    let second = fleet.plan_elsewhere("second");
    let worker = fleet.work("worker");
    let notice = fleet.site.approve(&fleet.app, NOTICE).await;
    let sent = fleet.site.send(&fleet.app, &notice, &wish("all", "sms")).await;
    fleet.sending(100).await;
    assert_eq!(fleet.leader("planner").await, Some(pid(&leader)), "who leads goes on leading");

    let (at, from) = (Instant::now(), now());
    drop(leader);
    for role in ["planner", "scheduler"] {
        until(role, SOON, async || fleet.leader(role).await == Some(pid(&second))).await;
    }
    let took = at.elapsed();
    println!("another leads {took:?} after kill -9");
    assert!(took < 10 * SECOND, "{took:?}");
    let log = rig::log(fleet.gateway.addr).await;
    let mean = rate_at_most(&log, 100.0, from, now(), "while nobody leads");
    assert!(mean >= 50.0, "{mean} a second while nobody leads");
    // What is sent now is planned by the new one.
    let alert = fleet.site.approve(&fleet.app, ALERT).await;
    let urgent = fleet.site.send(&fleet.app, &alert, &wish("region:532532101200", "sms")).await;
    until("it is planned", SOON, async || {
        fleet.app.store.dispatch(&urgent.no.to_string()).await.unwrap().phase == "done"
    })
    .await;

    let third = fleet.plan("third");
    until("a third waits", SOON, async || fleet.log_of("third").contains("serving")).await;
    sleep(2 * SECOND).await;
    let at = Instant::now();
    told_to_end(second).await;
    for role in ["planner", "scheduler"] {
        until(role, SOON, async || fleet.leader(role).await == Some(pid(&third))).await;
    }
    println!("another leads {:?} after SIGTERM", at.elapsed());
    assert!(at.elapsed() < 10 * SECOND, "{:?}", at.elapsed());
    fleet.app.store.set_rate("sms", Some(3_000.0), "李四").await.unwrap();
    finished(&fleet.app, urgent.no, SOON).await;
    finished(&fleet.app, sent.no, SOON).await;
    told_to_end(worker).await;
    told_to_end(third).await;
    fleet.assert_conserved().await;
    assert_eq!(fleet.count("SELECT COUNT(*) FROM tries WHERE class = 6").await, 0);
    assert_eq!(fleet.gateway.stats().duplicates, 0);
    fleet.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_killed_or_stands_still_is_taken_over_and_changes_nothing_wrongly() {
    let _alone = ALONE.lock().await;
    let (limits, slow) = ("rate = 100, in_flight = 20", Behaviour { latency: "200-400".parse().unwrap(), ..prompt() });
    let Some(server) = postgres_server() else { return };
    let Some(fleet) = Fleet::new(limits, slow.clone(), 5_000).await else { return };
    // Both at once, for most of the time is waiting.
    let Some(broker) = broker().await else { return killed_or_frozen(fleet).await };
    let queue = format!("[queue]\nprefetch = 2\nurl = [\"{}\"]", broker.url());
    let beside = Fleet::on(&server, &queue, limits, (slow, 5_000)).await;
    tokio::join!(killed_or_frozen(fleet), killed_or_frozen(beside));
}

async fn killed_or_frozen(fleet: Fleet) {
    let planner = fleet.plan("planner");
    let (killed, frozen, steady) = (fleet.work("killed"), fleet.work("frozen"), fleet.work("steady"));
    until("three workers", SOON, async || fleet.working().await == 3).await;
    let alert = fleet.site.approve(&fleet.app, ALERT).await;
    let sent = fleet.site.send(&fleet.app, &alert, &wish("all", "sms")).await;
    let used = async |pid: i64| {
        let engines = fleet.app.store.engines().await.unwrap();
        engines.iter().any(|e| e.pid == pid && e.reports.iter().any(|r| r.used > 1.0))
    };
    until("all send", SOON, async || used(pid(&killed)).await && used(pid(&frozen)).await && used(pid(&steady)).await)
        .await;
    let at = Instant::now();
    signal(&frozen, Signal::STOP);
    drop(killed);
    // What the two held is taken over, and the third sends it.
    let taken = "SELECT COUNT(*) FROM tries WHERE code = 'takeover'";
    until("taken over", SOON, async || fleet.count(taken).await > 0).await;
    println!("taken over {:?} after kill -9 and SIGSTOP", at.elapsed());
    assert!(at.elapsed() < 20 * SECOND, "{:?}", at.elapsed());
    let theirs = "SELECT COUNT(*) FROM batches b JOIN workers w ON w.owner = b.owner \
                  WHERE b.state = 1 AND w.seen_at < extract(epoch FROM clock_timestamp()) * 1000 - 10000";
    until("all is taken over", SOON, async || fleet.count(theirs).await == 0).await;
    until("31 s are over", SOON, async || at.elapsed() > 31 * SECOND).await;
    fleet.assert_conserved().await;
    fleet.app.store.set_rate("sms", Some(300.0), "李四").await.unwrap();
    signal(&frozen, Signal::CONT);
    until("it is back", SOON, async || used(pid(&frozen)).await || sent_all(&fleet, sent.no).await).await;
    fleet.app.store.set_rate("sms", Some(3_000.0), "李四").await.unwrap();
    let done = finished(&fleet.app, sent.no, SOON).await;
    assert_eq!(in_state(&fleet.app, done.no, State::Delivered).await, done.deliveries);
    let held = "SELECT COUNT(*) FROM batches WHERE state = 1";
    until("nothing is under way", SOON, async || fleet.count(held).await == 0).await;
    fleet.ledger.assert_settled().await;
    fleet.assert_flagged(done.deliveries).await;
    let windows = fleet.count(taken).await;
    assert!(windows <= 2 * 2 * 20, "{windows} are more than the windows of two");
    for process in [frozen, steady, planner] {
        told_to_end(process).await;
    }
    fleet.end().await;
}

async fn sent_all(fleet: &Fleet, no: i64) -> bool {
    fleet.app.store.dispatch(&no.to_string()).await.unwrap().finished_at.is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_urgent_have_almost_all_of_every_worker() {
    let _alone = ALONE.lock().await;
    let Some(fleet) = Fleet::new("rate = 100, in_flight = 32", prompt(), 8_000).await else { return };
    let planner = fleet.plan("planner");
    let (one, other) = (fleet.work("one"), fleet.work("other"));
    until("two workers", SOON, async || fleet.working().await == 2).await;
    let (notice, alert) = (fleet.site.approve(&fleet.app, NOTICE).await, fleet.site.approve(&fleet.app, ALERT).await);
    let routine = fleet.site.send(&fleet.app, &notice, &wish("all", "sms")).await;
    fleet.sending(400).await;
    let asked = now();
    let urgent = fleet.site.send(&fleet.app, &alert, &wish("region:532532101200", "sms")).await;
    let urgent = finished(&fleet.app, urgent.no, SOON).await;
    let log = rig::log(fleet.gateway.addr).await;
    let of = |no: i64| log.iter().filter(|e| delivery_of(&fleet.app, e).0 == no).map(|e| e.at_ms).collect::<Vec<_>>();
    let alerts = of(urgent.no);
    let (first, last) = (*alerts.iter().min().unwrap(), *alerts.iter().max().unwrap());
    let between = of(routine.no).iter().filter(|at| first < **at && **at < last).count();
    let alone = i64::try_from(alerts.len()).unwrap() * 1_000 / 100;
    println!(
        "{} urgent: first after {} ms, last after {} ms, alone {alone} ms; {between} routine between",
        alerts.len(),
        first - asked,
        last - asked
    );
    // How fast exactly is for `gong bench lanes`; behind the routine they would take 80 s more.
    assert!(first - asked <= 3_000, "the first came after {} ms", first - asked);
    assert!(last - asked <= alone * 15 / 10, "the last came after {} ms, alone {alone}", last - asked);
    assert!(between * 100 >= (alerts.len() + between) * 4, "routine kept {between} of {}", alerts.len() + between);
    rate_at_most(&log, 100.0, first, last, "both lanes");
    fleet.app.store.set_rate("sms", Some(3_000.0), "李四").await.unwrap();
    let routine = finished(&fleet.app, routine.no, SOON).await;
    assert_eq!(in_state(&fleet.app, routine.no, State::Delivered).await, routine.deliveries);
    for process in [one, other, planner] {
        told_to_end(process).await;
    }
    assert_eq!(fleet.count("SELECT COUNT(*) FROM tries WHERE class = 6").await, 0);
    fleet.assert_conserved().await;
    fleet.end().await;
}

/// An embedded store has one engine; a channel must be declared.
#[tokio::test(flavor = "multi_thread")]
async fn workers_alone_are_refused_where_they_cannot_be() {
    let site = Site::new().await.with_kannel("127.0.0.1:9".parse().unwrap(), "rate = 1");
    site.open().await.store.close().await;
    let refused = site.run(&["work"]);
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
    assert!(refused.stderr.contains("gong serve") && refused.stderr.contains("PostgreSQL"), "{}", refused.stderr);
    assert_eq!(site.run(&["serve", "--no-workers", "--listen", "127.0.0.1:0"]).code, Some(3));
    let shown = site.run(&["workers", "--json"]).ok().json();
    assert_eq!((&shown["embedded"], &shown["running"]), (&true.into(), &false.into()), "{shown}");
    let Some(fleet) = Fleet::new("rate = 1", prompt(), 1).await else { return };
    let unknown = fleet.site.run(&["work", "--channels", "sms,fax"]);
    assert_eq!(unknown.code, Some(2), "{}", unknown.stderr);
    assert!(unknown.stderr.contains("fax") && unknown.stderr.contains("rehearsal, sms"), "{}", unknown.stderr);
    fleet.end().await;
}
