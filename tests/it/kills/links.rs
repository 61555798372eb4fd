//! The links to the database and to the broker: cut and healed, and gone
//! without a word.

use std::time::Duration;

use super::{Fleet, SMALL, rough, tell};
use crate::fleet::told_to_end;
use crate::proxy::{Proxy, port_of};
use crate::rabbit::rig::broker;
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
    let mut fleet = Fleet::on(&server, "", SMALL, (rough(8), 2_500)).await;
    fleet.swaps.push((format!(":{}/", port_of(&server)), format!(":{}/", proxy.port)));
    let processes = start(&fleet);
    fleet.rate(100.0).await;
    let dispatch = fleet.alert().await;
    fleet.goes_on(100).await;
    for _ in 0..2 {
        outage(&proxy).await;
        tell("the link to the database was cut", fleet.goes_on(50).await);
        fleet.assert_conserved().await;
    }
    // The server's host loses its power, and is back at once: nobody will ever answer
    // what was asked before.
    proxy.silence();
    proxy.heal();
    tell("the link to the database went silent", fleet.goes_on(50).await);
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
    let fleet = Fleet::on(&server, &queue, SMALL, (rough(9), 3_000)).await;
    let processes = start(&fleet);
    fleet.rate(80.0).await;
    let dispatch = fleet.alert().await;
    fleet.goes_on(100).await;
    outage(&proxy).await;
    tell("the link to the broker was cut", fleet.goes_on(100).await);
    fleet.assert_conserved().await;
    proxy.silence();
    proxy.heal();
    tell("the link to the broker went silent", fleet.goes_on(400).await);
    fleet.assert_conserved().await;
    fleet.rate(3_000.0).await;
    fleet.balanced(dispatch, 0).await;
    end(fleet, processes).await;
}
