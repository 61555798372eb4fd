//! What comes faster than it can be kept, or finds a server that takes nothing: it is told
//! to come again or waits where it is safe, and is not lost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use gong::domain::delivery::State;
use gong::loopback::{Behaviour, Span};
use tokio::net::TcpStream;

use super::{Fleet, SMALL, metric, shows, told_to};
use crate::fleet::{UNPLANNED, WAITS, prompt, told_to_end};
use crate::rabbit::rig::{PREFETCH, own_broker};
use crate::rig::{SOON, call_back, until};
use crate::site::{finished, in_state};
use crate::support::postgres_server;

/// A line holds 20,000 receipts (`src/receipts/line.rs`): one callback more than it has room for.
const CALLBACKS: usize = 41;
const EACH: usize = 500;

/// Offers receipts of messages that nobody knows until they are taken, as a gateway does;
/// counts the refusals.
async fn offer(to: SocketAddr, n: usize, refused: Arc<AtomicU32>) {
    let ids: Vec<String> = (0..EACH).map(|i| format!("fill-{n}-{i}")).collect();
    loop {
        let answer = call_back(to, &ids).await;
        let status = answer.split(' ').nth(1);
        if status == Some("200") {
            return;
        }
        assert!(status == Some("503") && answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
        refused.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// How many callbacks the server says that it has told to come again.
async fn busy(fleet: &Fleet) -> f64 {
    metric(fleet, "gong_callbacks_busy_total{channel=\"sms\"}").await.unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_that_find_no_room_are_refused_and_kept_when_they_come_again() {
    let Some(server) = postgres_server() else { return };
    let behaviour = Behaviour { receipt_delay: Span::fixed(0), receipt_batch: 10, ..Behaviour::default() };
    let fleet = Fleet::on(&server, "", "rate = 500, in_flight = 16", (behaviour, 200)).await;
    let (planner, worker) = (fleet.plan("planner"), fleet.work("worker"));
    until("the server serves", SOON, async || TcpStream::connect(fleet.site.address()).await.is_ok()).await;
    // No receipt is written while this is held.
    let mut held = fleet.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE receipts IN SHARE MODE").execute(&mut *held).await.unwrap();
    let refused = Arc::new(AtomicU32::new(0));
    let offer = |n| tokio::spawn(offer(fleet.site.address(), n, Arc::clone(&refused)));
    let offers: Vec<_> = (0..CALLBACKS).map(offer).collect();
    until("the line is full", SOON, async || busy(&fleet).await > 0.0).await;
    // The gateway's own find no room either.
    let dispatch = fleet.alert().await;
    let all = u64::try_from(CALLBACKS * EACH).unwrap();
    until("everything is sent", SOON, async || in_state(&fleet.app, dispatch, State::Sent).await >= 180).await;
    let ours = || f64::from(refused.load(Ordering::SeqCst));
    until("the gateway is refused", SOON, async || busy(&fleet).await > ours() + 5.0).await;
    assert_eq!(fleet.count("SELECT COUNT(*) FROM receipts").await, 0, "none is called kept that is not");
    held.rollback().await.unwrap();
    for offer in offers {
        offer.await.unwrap();
    }
    assert!(refused.load(Ordering::SeqCst) > 0);
    fleet.balanced(dispatch, 0).await;
    let kept = "SELECT COUNT(DISTINCT gateway_id) FROM receipts WHERE gateway_id LIKE 'fill-%'";
    assert_eq!(u64::try_from(fleet.count(kept).await).unwrap(), all);
    let twice = "SELECT COUNT(*) FROM receipts WHERE gateway_id LIKE 'fill-%'";
    assert_eq!(u64::try_from(fleet.count(twice).await).unwrap(), all, "what was refused was not kept");
    for process in [worker, planner] {
        told_to_end(process).await;
    }
    fleet.end().await;
}

const UNTOLD: &str = "SELECT COUNT(*) FROM batches WHERE state = 0 AND published_epoch <> epoch";

/// A slow gateway holds the workers up, and the broker then runs short of memory, and of disk.
#[tokio::test(flavor = "multi_thread")]
async fn workers_hold_no_more_than_they_may_and_a_broker_short_of_memory_or_disk_is_waited_for() {
    let (Some(server), Some(broker)) = (postgres_server(), own_broker().await) else { return };
    let heard = tempfile::NamedTempFile::new().unwrap();
    let slow = Behaviour { latency: Span::fixed(3_000), ..prompt() };
    let fleet =
        Fleet::on(&server, &(broker.settings() + &told_to(&heard)), SMALL, (slow, 1_500)).await.with_probe().await;
    let (mut planner, one, other) = (fleet.plan("planner"), fleet.work("one"), fleet.work("other"));
    fleet.rate(3_000.0).await;
    let first = fleet.load().await;
    let unacknowledged = || broker.unacknowledged("gong.sms.prompt");
    let most = 2 * PREFETCH;
    until("both have what they may", SOON, async || {
        let held = unacknowledged();
        assert!(held <= most, "{held} of {most}");
        held == most
    })
    .await;
    assert!(broker.depth("gong.sms.prompt").await.unwrap().0 > 0, "the others wait with the broker");
    // Between them and the next lies what must be buried, for each of the workers.
    for _ in 0..most {
        broker.publish("gong.sms.prompt", "none of ours").await;
    }
    let behind = fleet.load().await;
    until("they are with the broker", SOON, async || fleet.count(UNPLANNED).await + fleet.count(UNTOLD).await == 0)
        .await;

    broker.ctl(&["set_vm_memory_high_watermark", "0.00001"]);
    let second = fleet.load().await;
    shows(&fleet, "gong_queue_blocked", 1.0).await;
    assert!(fleet.log_of("planner").contains("short of memory or disk"));
    // What it has still goes out; what it has not waits in the store, and people are told.
    fleet.gateway.behave(prompt()).unwrap();
    for dispatch in [first, behind] {
        finished(&fleet.app, dispatch, SOON).await;
    }
    let rings = || std::fs::read_to_string(heard.path()).unwrap();
    until("the lane is said to stand still", SOON, async || rings().contains("lane:sms:prompt begins")).await;
    assert!(fleet.count(WAITS).await > 0);
    // Whoever is told to end meanwhile does, and whoever starts waits like the other.
    let took = told_to_end(planner).await;
    assert!(took < Duration::from_secs(30), "it ended after {took:?}");
    planner = fleet.plan("again");
    shows(&fleet, "gong_queue_blocked", 1.0).await;
    fleet.assert_conserved().await;

    broker.ctl(&["set_vm_memory_high_watermark", "absolute", "1GB"]);
    fleet.recovered("the broker was short of memory").await;
    shows(&fleet, "gong_queue_blocked", 0.0).await;

    // More than any disk has.
    broker.ctl(&["set_disk_free_limit", "1000000GB"]);
    let third = fleet.load().await;
    shows(&fleet, "gong_queue_blocked", 1.0).await;
    until("it waits in the store", SOON, async || fleet.count(WAITS).await > 0).await;
    broker.ctl(&["set_disk_free_limit", "50MB"]);
    fleet.recovered("the broker was short of disk").await;
    shows(&fleet, "gong_queue_blocked", 0.0).await;
    until("the dead are buried", SOON, async || broker.depth("gong.dead").await.unwrap().0 >= most).await;
    for dispatch in [first, behind, second, third] {
        fleet.balanced(dispatch, 0).await;
    }
    for process in [one, other, planner] {
        told_to_end(process).await;
    }
    fleet.end().await;
}
