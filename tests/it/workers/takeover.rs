//! A worker is killed and another stood still: what they held is taken over.

use std::time::Instant;

use gong::domain::delivery::State;
use gong::loopback::Behaviour;
use rustix::process::Signal;

use super::{ALONE, SECOND, both};
use crate::fleet::{Fleet, HELD, HELD_BY_THE_SILENT, PAST_A_LEASE, TAKEN_OVER, pid, prompt, signal, told_to_end};
use crate::rabbit::rig::Broker;
use crate::rig::{SOON, until};
use crate::site::{finished, in_state};
use crate::support::{Running, tell};

/// What a process has sent under the leases that it holds now.
async fn sent_by(fleet: &Fleet, process: &Running) -> i64 {
    let sql = "SELECT COUNT(*) FROM tries t JOIN batches b ON b.no = t.batch AND b.epoch = t.epoch \
               JOIN workers w ON w.owner = b.owner WHERE b.state = 1 AND w.pid = $1";
    sqlx::query_scalar(sql).bind(pid(process)).fetch_one(&fleet.pool).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_killed_or_stands_still_is_taken_over_and_changes_nothing_wrongly() {
    let _alone = ALONE.lock().await;
    let slow = Behaviour { latency: "200-400".parse().unwrap(), ..prompt() };
    // A batch is a minute's sends: small ones, so that there is one for who comes back.
    both("rate = 2, in_flight = 20", (slow, 3_500), killed_or_frozen).await;
}

async fn killed_or_frozen(fleet: Fleet, _: Option<&Broker>) {
    let fleet = fleet.with_probe().await;
    fleet.app.store.set_rate("sms", Some(100.0), "李四").await.unwrap();
    let planner = fleet.plan("planner");
    let (killed, frozen, steady) = (fleet.work("killed"), fleet.work("frozen"), fleet.work("steady"));
    until("three workers", SOON, async || fleet.working().await == 3).await;
    let sent = fleet.load().await;
    for process in [&killed, &frozen, &steady] {
        until("all send", SOON, async || sent_by(&fleet, process).await > 0).await;
    }
    let at = Instant::now();
    signal(&frozen, Signal::STOP);
    drop(killed);
    // What the two held is taken over, and the third sends it.
    until("taken over", SOON, async || fleet.count(TAKEN_OVER).await > 0).await;
    assert!(at.elapsed() < 20 * SECOND, "{:?}", at.elapsed());
    until("all is taken over", SOON, async || fleet.count(HELD_BY_THE_SILENT).await == 0).await;
    tell("kill -9 of a worker and SIGSTOP of another, a third has all they held", at.elapsed());
    until("its leases have ended, too", SOON, async || at.elapsed() > PAST_A_LEASE).await;
    fleet.assert_conserved().await;
    comes_back(&fleet, &frozen).await;
    fleet.recovered("a worker stood still past its lease, and goes on").await;
    fleet.gateway.behave(prompt()).unwrap();
    fleet.app.store.set_rate("sms", Some(3_000.0), "李四").await.unwrap();
    let done = finished(&fleet.app, sent, SOON).await;
    assert_eq!(in_state(&fleet.app, done.no, State::Delivered).await, done.deliveries);
    until("nothing is under way", SOON, async || fleet.count(HELD).await == 0).await;
    fleet.ledger.assert_whole(sent, fleet.people).await;
    fleet.ledger.assert_settled().await;
    fleet.assert_flagged(done.deliveries).await;
    let windows = fleet.count(TAKEN_OVER).await;
    assert!(windows <= 2 * 2 * 20, "{windows} are more than the windows of two");
    for process in [frozen, steady, planner] {
        told_to_end(process).await;
    }
    fleet.end().await;
}

/// Goes on after all it held was taken over: what it sends now it sends under new leases.
async fn comes_back(fleet: &Fleet, frozen: &Running) {
    let queued = fleet.count("SELECT COUNT(*) FROM deliveries WHERE state = 1").await;
    assert_eq!(sent_by(fleet, frozen).await, 0, "it holds nothing any more");
    fleet.app.store.set_rate("sms", Some(300.0), "李四").await.unwrap();
    let at = Instant::now();
    signal(frozen, Signal::CONT);
    until("it sends again", SOON, async || sent_by(fleet, frozen).await > 0).await;
    println!("who stood still sends again after {:?}; {queued} waited", at.elapsed());
}
