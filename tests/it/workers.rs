//! Many processes on one PostgreSQL: they share a rate, come and go, are killed, stood
//! still and told to end. The books are read by statements of their own.

#![allow(clippy::print_stdout)] // what was measured, for who reads a failure

mod drain;
mod leaders;
mod takeover;

use std::time::{Duration, Instant};

use gong::domain::delivery::State;
use gong::loopback::Behaviour;
use tokio::sync::Mutex;
use tokio::time::sleep;

use crate::fleet::{Fleet, UNPLANNED, prompt, told_to_end};
use crate::rabbit::rig::{Broker, broker};
use crate::rig::{self, Entry, SOON, delivery_of, until};
use crate::site::{ALERT, NOTICE, Site, finished, in_state, wish};
use crate::support::{Running, postgres_server};

/// They measure rates and times: one at a time.
static ALONE: Mutex<()> = Mutex::const_new(());
const SECOND: Duration = Duration::from_secs(1);
/// How long a shared rate is watched, and how often on a machine that stands still meanwhile.
const STEADY: Duration = Duration::from_secs(30);
const TRIES: u32 = 3;
/// What two fleets at once can well send on a busy machine, each.
const RATE: f64 = 50.0;
/// What every worker may have under way.
const IN_FLIGHT: u32 = 8;

/// Tries of which nobody knows what became.
const UNCERTAIN: &str = "SELECT COUNT(*) FROM tries WHERE class = 6";

/// Without a broker and beside one, where there is one: both at once, for most of the
/// time is waiting.
async fn both(limits: &str, (behaviour, n): (Behaviour, usize), test: impl AsyncFn(Fleet, Option<&Broker>)) {
    let Some(server) = postgres_server() else { return };
    let Some(fleet) = Fleet::new(limits, behaviour.clone(), n).await else { return };
    let Some(broker) = broker().await else { return test(fleet, None).await };
    let beside = Fleet::on(&server, &broker.settings(), limits, (behaviour, n)).await;
    tokio::join!(test(fleet, None), test(beside, Some(&broker)));
}

/// Messages a second between two moments of the gateway's clock.
fn rate_between(log: &[Entry], from: i64, to: i64) -> f64 {
    let n = log.iter().filter(|e| from <= e.at_ms && e.at_ms < to).count();
    #[allow(clippy::cast_precision_loss)]
    let rate = n as f64 * 1_000.0 / (to - from) as f64;
    rate
}

/// The most in any second between the two.
fn peak_between(log: &[Entry], from: i64, to: i64) -> f64 {
    let seconds = (from..to - 1_000).step_by(250);
    seconds.map(|at| rate_between(log, at, at + 1_000)).fold(0.0, f64::max)
}

/// The rate between two moments; neither on the whole nor in a second was it exceeded. A
/// gateway that stood still for a moment counts late what was `under_way` then.
fn rate_at_most(log: &[Entry], rate: f64, (from, to): (i64, i64), under_way: u32, what: &str) -> f64 {
    let (mean, peak) = (rate_between(log, from, to), peak_between(log, from, to));
    println!("{what}: {mean:.1} of {rate} a second, {peak} in one");
    #[allow(clippy::cast_precision_loss)]
    let late = f64::from(under_way) * 1_000.0 / (to - from) as f64;
    assert!(mean <= rate * 1.05 + late, "{what}: {mean} of {rate} a second");
    assert!(peak <= rate * 1.1 + f64::from(under_way), "{what}: {peak} in a second");
    mean
}

fn now() -> i64 {
    gong::clock::Clock::System.now()
}

/// A fleet that always has something to send.
struct Busy {
    fleet: Fleet,
    item: String,
    /// Every dispatch.
    sent: Vec<i64>,
}

impl Busy {
    async fn new(fleet: Fleet) -> Self {
        let item = fleet.site.approve(&fleet.app, NOTICE).await;
        Self { fleet, item, sent: Vec::new() }
    }

    /// Something to send for the next seconds.
    async fn keep(&mut self) {
        let queued = self.fleet.count("SELECT COUNT(*) FROM deliveries WHERE state IN (0, 1)").await;
        let unplanned = self.fleet.count(UNPLANNED).await;
        if queued < 1_000 && unplanned == 0 {
            self.sent.push(self.fleet.site.send(&self.fleet.app, &self.item, &wish("all", "sms")).await.no);
        }
    }

    /// The workers there are send the whole rate together, and never more: once they have
    /// found to it, for as long as a shift in it would show.
    async fn assert_shared(&mut self, workers: u32, what: &str) {
        let at = Instant::now();
        until(what, SOON, async || self.is_shared(5 * SECOND, workers, what).await).await;
        println!("{what}: so after {:?}", at.elapsed());
        for _ in 0..TRIES {
            if self.is_shared(STEADY, workers, what).await {
                return;
            }
        }
        panic!("{what}: not within 5 % of {RATE} in any of {TRIES} times {STEADY:?}");
    }

    /// Whether they send it so for this long, without a break.
    async fn is_shared(&mut self, time: Duration, workers: u32, what: &str) -> bool {
        let from = now();
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.keep().await;
            sleep(SECOND).await;
        }
        let log = rig::log(self.fleet.gateway.addr).await;
        let mean = rate_at_most(&log, RATE, (from, now()), workers * IN_FLIGHT, what);
        (0.95..=1.05).contains(&(mean / RATE))
    }

    /// Both send, and what they are granted is no more than the channel has.
    async fn assert_granted(&self) {
        until("both send", SOON, async || {
            let shown = self.fleet.site.run(&["workers", "--json"]).ok().json();
            let sms = |key: &str| -> Vec<f64> {
                let engines = shown["engines"].as_array().unwrap().iter();
                let channels = engines.flat_map(|e| e["channels"].as_array().unwrap().clone());
                channels.filter(|c| c["name"] == "sms").map(|c| c[key].as_f64().unwrap()).collect()
            };
            assert!(sms("share").iter().sum::<f64>() <= RATE + 0.000_1, "{shown}");
            sms("rate").len() == 2 && sms("rate").iter().all(|r| *r > 0.2 * RATE)
        })
        .await;
        let said = self.fleet.site.run(&["status", "--lang", "en"]).ok().stdout;
        assert!(said.contains("planner (leads)") && said.contains("alive"), "{said}");
    }

    async fn join(&self, name: &str, workers: usize) -> Running {
        let process = self.fleet.work(name);
        until("it is there", SOON, async || self.fleet.working().await == workers).await;
        process
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_share_a_rate_and_come_and_go() {
    let _alone = ALONE.lock().await;
    // The gateway knows what it had: what a killed worker leaves in doubt comes once.
    let behaviour = Behaviour { dedupe: true, ..prompt() };
    // A batch is a minute's sends: small ones, so that there are some for everybody.
    both(&format!("rate = 2, in_flight = {IN_FLIGHT}, idempotent = true"), (behaviour, 1_500), come_and_go).await;
}

async fn come_and_go(fleet: Fleet, _: Option<&Broker>) {
    fleet.app.store.set_rate("sms", Some(RATE), "李四").await.unwrap();
    let planner = fleet.plan("planner");
    let mut busy = Busy::new(fleet).await;
    let first = busy.join("first", 1).await;
    let second = busy.join("second", 2).await;
    busy.keep().await;
    busy.fleet.sending(200).await;
    let from = now();
    busy.assert_shared(2, "two workers").await;
    busy.assert_granted().await;
    let third = busy.join("third", 3).await;
    busy.assert_shared(3, "a third joins").await;
    let took = told_to_end(first).await;
    assert!(took < 10 * SECOND, "it drained for {took:?}");
    assert_eq!(busy.fleet.count("SELECT COUNT(*) FROM deliveries WHERE state = 11").await, 0);
    busy.assert_shared(3, "one leaves").await;
    let fourth = busy.join("fourth", 3).await;
    assert_eq!(busy.fleet.count(UNCERTAIN).await, 0, "none was ever uncertain");
    drop(third);
    // What it was granted is nobody's before its time is over.
    busy.assert_shared(3, "one is killed").await;
    let log = rig::log(busy.fleet.gateway.addr).await;
    rate_at_most(&log, RATE, (from, now()), 3 * IN_FLIGHT, "in all that time");

    let Busy { fleet, sent, .. } = busy;
    fleet.app.store.set_rate("sms", Some(3_000.0), "李四").await.unwrap();
    for no in sent {
        let done = finished(&fleet.app, no, SOON).await;
        assert_eq!(in_state(&fleet.app, done.no, State::Delivered).await, done.deliveries);
    }
    for process in [second, fourth, planner] {
        told_to_end(process).await;
    }
    let doubted = fleet.count(UNCERTAIN).await;
    assert!(doubted <= 2 * i64::from(IN_FLIGHT), "{doubted} are more than the window of the killed");
    assert_eq!(fleet.count("SELECT COUNT(*) FROM workers").await, 1, "all but the killed took their leave");
    fleet.assert_conserved().await;
    assert_eq!(fleet.gateway.stats().duplicates, 0);
    fleet.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_serves_its_own_channels_and_no_others() {
    let _alone = ALONE.lock().await;
    both("rate = 100, in_flight = 16", (prompt(), 300), serves_its_own).await;
}

async fn serves_its_own(fleet: Fleet, _: Option<&Broker>) {
    let work = |channel: &str| fleet.start(&["work", "--channels", channel], &format!("{channel}.log"));
    let planner = fleet.plan("planner");
    let rehearses = work("rehearsal");
    until("it is there", SOON, async || fleet.working().await == 1).await;
    let item = fleet.site.approve(&fleet.app, NOTICE).await;
    let waits = fleet.site.send(&fleet.app, &item, &wish("all", "sms")).await;
    until("it is planned", SOON, async || fleet.count(UNPLANNED).await == 0).await;
    let goes = fleet.site.send(&fleet.app, &item, &wish("all", "rehearsal")).await;
    let goes = finished(&fleet.app, goes.no, SOON).await;
    assert!(goes.deliveries > 100, "{goes:?}");
    assert_eq!(fleet.gateway.stats().messages, 0, "nobody here serves it");
    let deliveries = fleet.app.store.dispatch(&waits.no.to_string()).await.unwrap().deliveries;
    assert_eq!(in_state(&fleet.app, waits.no, State::Queued).await, deliveries);

    let sends = work("sms");
    let done = finished(&fleet.app, waits.no, SOON).await;
    assert_eq!(in_state(&fleet.app, done.no, State::Delivered).await, done.deliveries);
    for process in [rehearses, sends, planner] {
        told_to_end(process).await;
    }
    fleet.assert_conserved().await;
    fleet.end().await;
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
    rate_at_most(&log, 100.0, (first, last), 0, "both lanes");
    fleet.app.store.set_rate("sms", Some(3_000.0), "李四").await.unwrap();
    let routine = finished(&fleet.app, routine.no, SOON).await;
    assert_eq!(in_state(&fleet.app, routine.no, State::Delivered).await, routine.deliveries);
    for process in [one, other, planner] {
        told_to_end(process).await;
    }
    assert_eq!(fleet.count(UNCERTAIN).await, 0);
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
