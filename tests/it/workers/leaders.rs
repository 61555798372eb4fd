//! Who leads is killed, or told to end: another leads in all its roles.

use std::time::Instant;

use super::{ALONE, SECOND, UNCERTAIN, both, now, rate_at_most};
use crate::fleet::{Fleet, UNPLANNED, pid, prompt, told_to_end};
use crate::rabbit::rig::Broker;
use crate::rig::{self, SOON, delivery_of, until};
use crate::site::{ALERT, NOTICE, finished, wish};
use crate::support::Running;

/// What one process at a time does, and what of it there is beside a broker alone.
const ROLES: [&str; 2] = ["planner", "scheduler"];
const BESIDE_A_BROKER: [&str; 2] = ["relay", "events"];

#[tokio::test(flavor = "multi_thread")]
async fn another_leads_within_ten_seconds_and_sending_goes_on() {
    let _alone = ALONE.lock().await;
    both("rate = 100, in_flight = 16", (prompt(), 2_500), succession).await;
}

async fn succession(fleet: Fleet, broker: Option<&Broker>) {
    let beside = if broker.is_some() { &BESIDE_A_BROKER[..] } else { &[] };
    let roles = [&ROLES[..], beside].concat();
    let leads = async |process: &Running| {
        for role in &roles {
            until(role, SOON, async || fleet.leader(role).await == Some(pid(process))).await;
        }
    };
    let leader = fleet.plan("leader");
    leads(&leader).await;
    let second = fleet.plan_elsewhere("second");
    let worker = fleet.work("worker");
    let notice = fleet.site.approve(&fleet.app, NOTICE).await;
    let sent = fleet.site.send(&fleet.app, &notice, &wish("all", "sms")).await;
    until("it is planned", SOON, async || fleet.count(UNPLANNED).await == 0).await;
    fleet.sending(100).await;
    for role in &roles {
        assert_eq!(fleet.leader(role).await, Some(pid(&leader)), "who leads goes on leading: {role}");
    }

    let (at, from) = (Instant::now(), now());
    drop(leader);
    leads(&second).await;
    let took = at.elapsed();
    println!("another leads {took:?} after kill -9");
    assert!(took < 10 * SECOND, "{took:?}");
    let log = rig::log(fleet.gateway.addr).await;
    let mean = rate_at_most(&log, 100.0, (from, now()), 16, "while nobody leads");
    // A busy machine is slower than the rate; one that waits for a leader sends nothing.
    assert!(mean >= 5.0, "{mean} a second while nobody leads");
    let urgent = arrives(&fleet, "532532101200").await;

    let third = fleet.plan("third");
    let waits = async || fleet.app.store.engines().await.unwrap().iter().any(|engine| engine.pid == pid(&third));
    until("a third waits", SOON, waits).await;
    let at = Instant::now();
    told_to_end(second).await;
    leads(&third).await;
    println!("another leads {:?} after SIGTERM", at.elapsed());
    assert!(at.elapsed() < 10 * SECOND, "{:?}", at.elapsed());
    // Those before it are as urgent.
    fleet.app.store.set_rate("sms", Some(3_000.0), "李四").await.unwrap();
    let last = arrives(&fleet, "532532102200").await;
    for no in [urgent, last, sent.no] {
        finished(&fleet.app, no, SOON).await;
    }
    told_to_end(worker).await;
    told_to_end(third).await;
    fleet.assert_conserved().await;
    assert_eq!(fleet.count(UNCERTAIN).await, 0);
    assert_eq!(fleet.gateway.stats().duplicates, 0);
    fleet.end().await;
}

/// What is sent now is planned by who leads now, beside a broker published by it, and
/// comes to the gateway. Its number.
async fn arrives(fleet: &Fleet, village: &str) -> i64 {
    let (at, mut since) = (Instant::now(), 0);
    let alert = fleet.site.approve(&fleet.app, ALERT).await;
    let sent = fleet.site.send(&fleet.app, &alert, &wish(&format!("region:{village}"), "sms")).await;
    until("its first message is at the gateway", SOON, async || {
        let fresh = rig::log_since(fleet.gateway.addr, &mut since).await;
        fresh.iter().any(|entry| delivery_of(&fleet.app, entry).0 == sent.no)
    })
    .await;
    println!("the first message of a new dispatch after {:?}", at.elapsed());
    sent.no
}
