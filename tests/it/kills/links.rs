//! The links to the database and to the broker: cut and healed, and gone
//! without a word.

use std::time::Duration;

use super::{Fleet, SLOW, SMALL, rough};
use crate::fleet::told_to_end;
use crate::proxy::{Proxy, port_of};
use crate::rabbit::faults::tls_before;
use crate::rabbit::rig::broker;
use crate::rig::{SOON, until};
use crate::support::{Running, postgres_server};

/// Planner and workers that reach their servers by these ports.
fn start(fleet: &Fleet) -> Vec<Running> {
    vec![fleet.plan("planner"), fleet.work("one"), fleet.work("other")]
}

/// The link is away for a second.
async fn outage(proxy: &Proxy) {
    proxy.cut();
    tokio::time::sleep(Duration::from_secs(1)).await;
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
        outage(&proxy).await;
        fleet.recovered("the link to the database was cut").await;
        fleet.goes_on(50).await;
        fleet.assert_conserved().await;
    }
    // The server's host loses its power, and is back at once: nobody will ever answer
    // what was asked before.
    proxy.silence();
    proxy.heal();
    fleet.recovered("the link to the database went silent").await;
    fleet.goes_on(50).await;
    fleet.assert_conserved().await;
    fleet.rate(3_000.0).await;
    fleet.balanced(dispatch, 2).await;
    end(fleet, processes).await;
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
    outage(&proxy).await;
    fleet.recovered("the link to the broker was cut").await;
    fleet.goes_on(50).await;
    fleet.assert_conserved().await;
    proxy.silence();
    proxy.heal();
    fleet.recovered("the link to the broker went silent").await;
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
    let ca = concat!(env!("CARGO_MANIFEST_DIR"), "/src/channel/email/tests/localhost.pem");
    let queue =
        format!("[queue]\nprefetch = 1\nca_file = \"{ca}\"\nurl = [\"{}\", \"{by_tls}\"]", broker.by(plain.port));
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
