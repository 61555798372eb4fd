//! A worker is told to end while its gateway has many requests open.

use gong::domain::delivery::State;
use gong::loopback::{Behaviour, Span};

use super::{SECOND, UNCERTAIN, both, now};
use crate::fleet::{Fleet, HELD, UNPLANNED, WAITS, prompt, told_to_end};
use crate::rabbit::rig::{Broker, ROUTINE, held};
use crate::rig::{self, Entry, SOON, until};
use crate::site::{NOTICE, finished, in_state, wish};

/// How long the gateway keeps every request open, in milliseconds.
const OPEN_FOR: u16 = 1_500;

/// Requests that were open at a moment: taken, and answered later, for the gateway
/// answers none sooner.
fn open_at(log: &[Entry], moment: i64) -> usize {
    log.iter().filter(|e| e.at_ms <= moment && moment < e.at_ms + i64::from(OPEN_FOR)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_told_to_end_hears_every_answer_out_and_leaves_the_rest_to_others() {
    let slow = Behaviour { latency: Span::fixed(OPEN_FOR.into()), ..prompt() };
    // A batch is a minute's sends: small ones, so that there are many.
    both("rate = 2, in_flight = 32", (slow, 600), drain).await;
}

async fn drain(fleet: Fleet, broker: Option<&Broker>) {
    fleet.app.store.set_rate("sms", Some(500.0), "李四").await.unwrap();
    let (planner, worker) = (fleet.plan("planner"), fleet.work("worker"));
    let notice = fleet.site.approve(&fleet.app, NOTICE).await;
    let sent = fleet.site.send(&fleet.app, &notice, &wish("all", "sms")).await;
    until("20 answers are awaited", SOON, async || open_at(&rig::log(fleet.gateway.addr).await, now()) >= 20).await;
    let asked = now();
    let took = told_to_end(worker).await;
    let ended = now();
    let log = rig::log(fleet.gateway.addr).await;
    let open = open_at(&log, asked);
    println!("{open} requests were open when it was told to end; it took {took:?}");
    assert!(open >= 20, "{open} requests were open");
    assert_eq!(open_at(&log, ended), 0, "it ended before it had its answers");
    assert!(took < 20 * SECOND, "it drained for {took:?}");
    let handed = fleet.count("SELECT COUNT(*) FROM deliveries WHERE handed_at IS NOT NULL").await;
    assert_eq!(usize::try_from(handed).unwrap(), log.len(), "every answer is in the books");
    assert_eq!(fleet.count("SELECT COUNT(*) FROM deliveries WHERE state = 11").await, 0);
    assert_eq!(fleet.count(UNCERTAIN).await, 0);
    assert_eq!(fleet.count(HELD).await, 0, "it holds nothing");
    assert_eq!(fleet.working().await, 0);
    until("the rest waits", SOON, async || fleet.count(WAITS).await > 0 && fleet.count(UNPLANNED).await == 0).await;
    if let Some(broker) = broker {
        assert_given_back(&fleet, broker).await;
    }

    fleet.gateway.behave(prompt()).unwrap();
    let next = fleet.work("next");
    let done = finished(&fleet.app, sent.no, SOON).await;
    assert_eq!(in_state(&fleet.app, done.no, State::Delivered).await, done.deliveries);
    for process in [next, planner] {
        told_to_end(process).await;
    }
    let stats = fleet.gateway.stats();
    assert_eq!((stats.messages, stats.duplicates), (u64::try_from(done.deliveries).unwrap(), 0));
    assert_eq!(fleet.count(UNCERTAIN).await, 0);
    fleet.ledger.assert_settled().await;
    fleet.end().await;
}

/// The broker has one message for every batch that waits, and none is with anybody.
async fn assert_given_back(fleet: &Fleet, broker: &Broker) {
    until("what it had is acknowledged, and published again", SOON, async || {
        i64::from(held(broker, ROUTINE).await.0) == fleet.count(WAITS).await
    })
    .await;
    until("nothing is unacknowledged", SOON, async || broker.unacknowledged(ROUTINE) == 0).await;
}
