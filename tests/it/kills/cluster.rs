//! A broker of three nodes, which the engines reach by TLS, loses one after another.

use gong::domain::item::Lane;
use gong::queue::topology::queue_name;

use super::{Fleet, SLOW, SMALL, metric, rough};
use crate::fleet::told_to_end;
use crate::rabbit::rig::{Broker, LOCALHOST, PREFETCH, own_cluster};
use crate::rig::{SOON, until};
use crate::support::postgres_server;

/// How many nodes keep a copy of a queue, and of these how many are there.
fn copies(node: &Broker, queue: &str) -> (usize, usize) {
    let said = node.run(&["ctl", "list_queues", "--quiet", "--no-table-headers", "name", "members", "online"]);
    let line = said.lines().find(|line| line.split_whitespace().next() == Some(queue)).unwrap_or_default();
    let mut lists = line.split('\t').skip(1).map(|list| list.matches('@').count());
    (lists.next().unwrap_or(0), lists.next().unwrap_or(0))
}

/// Whichever is lost, the two others have all that waits, and the engines go on by them.
#[tokio::test(flavor = "multi_thread")]
async fn any_node_of_three_may_be_lost_and_no_message_is() {
    let (Some(server), Some((nodes, urls))) = (postgres_server(), own_cluster(3).await) else { return };
    let queue = format!("[queue]\nprefetch = {PREFETCH}\nca_file = \"{LOCALHOST}\"\nurl = {urls:?}");
    let fleet = Fleet::on(&server, &queue, SMALL, (rough(18), 2_500)).await.with_probe().await;
    let (planner, one, other) = (fleet.plan("planner"), fleet.work("one"), fleet.work("other"));
    fleet.rate(SLOW).await;
    let dispatch = fleet.load().await;
    fleet.goes_on(100).await;
    let lane = queue_name("sms", Lane::Prompt);
    for (lost, lives) in [(0, 1), (1, 2), (2, 0)] {
        until("all have a copy", SOON, async || copies(&nodes[lives], &lane) == (3, 3)).await;
        nodes[lost].run(&["kill"]);
        fleet.recovered("one of three nodes of the broker was killed").await;
        fleet.all_work(2).await;
        fleet.goes_on(50).await;
        fleet.assert_conserved().await;
        assert_eq!(copies(&nodes[lives], &lane), (3, 2), "it went on without that node");
        nodes[lost].run(&["start"]);
    }
    assert_eq!(metric(&fleet, "gong_queue_lost_total").await, Some(0.0), "nothing had to be published again");
    fleet.rate(3_000.0).await;
    fleet.balanced(dispatch, 0).await;
    for process in [one, other, planner] {
        told_to_end(process).await;
    }
    fleet.end().await;
}
