//! The links to the database and to the broker: cut and healed, and gone
//! without a word.

use std::time::{Duration, Instant};

use gong::loopback::{Behaviour, Span};

use super::{Fleet, SLOW, SMALL, rough};
use crate::fleet::{HELD_BY_THE_SILENT, PAST_A_LEASE, TAKEN_OVER, pid, prompt, told_to_end};
use crate::proxy::{Proxy, port_of};
use crate::rabbit::faults::tls_before;
use crate::rabbit::rig::{LOCALHOST, broker};
use crate::rig::{SOON, until};
use crate::support::{Running, postgres_server, tell};

const SECOND: Duration = Duration::from_secs(1);

/// Planner and workers that reach their servers by these ports.
fn start(fleet: &Fleet) -> Vec<Running> {
    vec![fleet.plan("planner"), fleet.work("one"), fleet.work("other")]
}

/// The link is away for so long.
async fn outage(proxy: &Proxy, time: Duration) {
    proxy.cut();
    tokio::time::sleep(time).await;
    proxy.heal();
}

async fn end(fleet: Fleet, processes: Vec<Running>) {
    for process in processes.into_iter().rev() {
        told_to_end(process).await;
    }
    fleet.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_link_to_the_database_is_cut_and_goes_silent() {
    let Some(server) = postgres_server() else { return };
    let proxy = Proxy::to(port_of(&server)).await;
    let mut fleet = Fleet::on(&server, "", SMALL, (rough(8), 2_500)).await.with_probe().await;
    fleet.swaps.push((format!(":{}/", port_of(&server)), format!(":{}/", proxy.port)));
    let processes = start(&fleet);
    fleet.rate(SLOW).await;
    let dispatch = fleet.load().await;
    fleet.goes_on(100).await;
    for _ in 0..2 {
        outage(&proxy, SECOND).await;
        fleet.recovered("the link to the database was cut").await;
        fleet.all_work(2).await;
        fleet.goes_on(50).await;
        fleet.assert_conserved().await;
    }
    // Nobody holds anything any more by the time it is back.
    outage(&proxy, PAST_A_LEASE).await;
    fleet.recovered("the link to the database was cut past a lease").await;
    fleet.all_work(2).await;
    fleet.goes_on(50).await;
    fleet.assert_conserved().await;
    // The server's host loses its power, and is back at once: nobody will ever answer
    // what was asked before.
    proxy.silence();
    proxy.heal();
    fleet.recovered("the link to the database went silent").await;
    fleet.all_work(2).await;
    fleet.goes_on(50).await;
    fleet.assert_conserved().await;
    fleet.rate(3_000.0).await;
    fleet.balanced(dispatch, 2 * 2).await;
    end(fleet, processes).await;
}

/// What is marked of a batch may be this much, and goes out by two a few seconds: whoever
/// did not stop by itself would send on what others have taken over.
const MARKED: &str = "rate = 2, in_flight = 2, window = 64, idempotent = false";
/// More than an engine takes at once that does not know yet that it has company.
const PEOPLE: usize = 2_400;

/// One worker of two hears nothing of the database any more, though it reaches the gateway.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_alone_is_cut_off_stops_before_others_have_its_batches() {
    let Some(server) = postgres_server() else { return };
    // No receipt says of what it sends that it has arrived, before others have it.
    let slow = Behaviour { latency: Span::fixed(2_000), ..prompt() };
    let mute = Behaviour { receipt_delay: Span::fixed(20_000), ..slow.clone() };
    let mut fleet = Fleet::on(&server, "", MARKED, (mute, PEOPLE)).await.with_probe().await;
    let (to_database, to_gateway) = (Proxy::to(port_of(&server)).await, Proxy::to(fleet.gateway.addr.port()).await);
    fleet.swaps = vec![
        (format!(":{}/", port_of(&server)), format!(":{}/", to_database.port)),
        (format!("\"http://{}\"", fleet.gateway.addr), format!("\"http://127.0.0.1:{}\"", to_gateway.port)),
    ];
    let one = fleet.work("one");
    until("it works", SOON, async || fleet.working().await == 1).await;
    fleet.swaps.clear();
    let (planner, other) = (fleet.plan("planner"), fleet.work("other"));
    until("both are there", SOON, async || fleet.working().await == 2).await;
    fleet.rate(100.0).await;
    let dispatch = fleet.load().await;
    // Each in seconds of its own: two requests leave together, and then none for as long.
    until("one sends", SOON, async || uses(&fleet, &one).await).await;
    until("the other sends", SOON, async || uses(&fleet, &other).await).await;
    fleet.goes_on(6).await;

    let (at, before) = (Instant::now(), to_gateway.sent());
    to_database.silence();
    until("its batches are taken over", SOON, async || fleet.count(TAKEN_OVER).await > 0).await;
    tell("a worker was cut off from the database, others have its batches", at.elapsed());
    let sent = to_gateway.sent();
    assert!(sent > before, "what it had marked it sent on, while it might");
    until("all of them are", SOON, async || fleet.count(HELD_BY_THE_SILENT).await == 0).await;
    fleet.gateway.behave(slow).unwrap();
    fleet.goes_on(8).await;
    until("its leases have ended, too", SOON, async || at.elapsed() > PAST_A_LEASE).await;
    assert_eq!(to_gateway.sent(), sent, "it handed over what others have");
    fleet.assert_conserved().await;

    fleet.gateway.behave(rough(16)).unwrap();
    // So slow that something is left when it is back, on the busiest machine.
    fleet.rate(5.0).await;
    to_database.heal();
    fleet.recovered("a worker was cut off from the database past its lease").await;
    until("it sends again", SOON, async || to_gateway.sent() > sent && uses(&fleet, &one).await).await;
    assert!(fleet.log_of("one").contains("leases were lost"));
    // What it heard of what it had sent, it told when it could.
    let late = "SELECT COUNT(*) FROM tries t JOIN tries l USING (dispatch_no, ordinal, attempt, batch) \
                WHERE t.code = 'takeover' AND l.class = 0 AND l.epoch < t.epoch";
    assert!(fleet.count(late).await > 0, "late results are kept");
    fleet.rate(3_000.0).await;
    // Its window of 64 and no more.
    fleet.balanced(dispatch, 2).await;
    end(fleet, vec![planner, one, other]).await;
}

/// Whether an engine says that it sends.
async fn uses(fleet: &Fleet, engine: &Running) -> bool {
    let engines = fleet.app.store.engines().await.unwrap();
    let mine = engines.iter().filter(|e| e.pid == pid(engine) && e.silent_ms < 3_000);
    mine.flat_map(|e| &e.reports).any(|report| report.used > 0.3)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_link_to_the_broker_is_cut_and_goes_silent() {
    let (Some(server), Some(broker)) = (postgres_server(), broker().await) else { return };
    let proxy = Proxy::to(broker.port()).await;
    let queue = format!("[queue]\nprefetch = 1\nurl = [\"{}\"]", broker.by(proxy.port));
    let fleet = Fleet::on(&server, &queue, SMALL, (rough(9), 3_000)).await.with_probe().await;
    let processes = start(&fleet);
    fleet.rate(SLOW).await;
    let dispatch = fleet.load().await;
    fleet.goes_on(100).await;
    outage(&proxy, SECOND).await;
    fleet.recovered("the link to the broker was cut").await;
    fleet.all_work(2).await;
    fleet.goes_on(50).await;
    fleet.assert_conserved().await;
    proxy.silence();
    proxy.heal();
    fleet.recovered("the link to the broker went silent").await;
    fleet.all_work(2).await;
    fleet.goes_on(50).await;
    fleet.assert_conserved().await;
    fleet.rate(3_000.0).await;
    fleet.balanced(dispatch, 0).await;
    end(fleet, processes).await;
}

/// Two addresses of one broker, as of two nodes, the second by TLS: whichever is cut, the
/// engines go on by the other.
#[tokio::test(flavor = "multi_thread")]
async fn whichever_address_of_a_broker_is_cut_the_other_serves() {
    let (Some(server), Some(broker)) = (postgres_server(), broker().await) else { return };
    let (plain, tls) = (Proxy::to(broker.port()).await, Proxy::to(tls_before(broker.port()).await).await);
    let by_tls = broker.by(tls.port).replace("amqp://", "amqps://").replace("127.0.0.1", "localhost");
    let queue = format!(
        "[queue]\nprefetch = 1\nca_file = \"{LOCALHOST}\"\nurl = [\"{}\", \"{by_tls}\"]",
        broker.by(plain.port)
    );
    let fleet = Fleet::on(&server, &queue, SMALL, (rough(12), 2_000)).await.with_probe().await;
    let processes = start(&fleet);
    fleet.rate(SLOW).await;
    let dispatch = fleet.load().await;
    fleet.goes_on(100).await;
    assert_eq!(tls.carried(), 0, "the first address answers");
    for (cut, other) in [(&plain, &tls), (&tls, &plain)] {
        let before = other.carried();
        cut.cut();
        fleet.recovered("one of two addresses of the broker was cut").await;
        // The relay and each of the workers' channels.
        until("all are there by the other", SOON, async || other.carried() >= before + 5).await;
        fleet.goes_on(50).await;
        fleet.assert_conserved().await;
        cut.heal();
    }
    fleet.rate(3_000.0).await;
    fleet.balanced(dispatch, 0).await;
    let lost = "SELECT COUNT(*) FROM batches WHERE state <> 2";
    assert_eq!(fleet.count(lost).await, 0, "no batch is left over");
    end(fleet, processes).await;
}
