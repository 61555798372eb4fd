//! `gong bench` with processes, gateways and a broker of its own: it ends, measures what
//! it says, and leaves nothing behind.

use serde_json::Value;

use crate::rabbit::rig::{self, Broker};
use crate::support::{Gong, postgres_server};

fn measured(args: &[&str]) -> Value {
    let gong = Gong::new();
    let run = gong.run([&["bench"], args, &["--runs", "1", "--json"]].concat());
    let report = run.ok().json();
    assert!(report["ratio"].as_f64().unwrap() > 0.0, "{report}");
    assert_eq!(std::fs::read_dir(gong.dir()).unwrap().count(), 0, "it left something behind");
    report
}

#[test]
fn an_immediate_dispatch_is_measured_beside_a_routine_one() {
    let report = measured(&["lanes", "--n", "6000", "--rate", "2000"]);
    assert!(report["n"].as_i64().unwrap() > 100, "{report}");
    assert!(report["first_ms"].as_i64().unwrap() > 0, "{report}");
    let share = report["routine_share"].as_f64().unwrap();
    assert!(share > 0.0 && share < 0.5, "{report}");
}

#[test]
fn many_numbers_a_request_are_measured_beside_the_rehearsal() {
    let report = measured(&["sms", "--n", "500", "--numbers", "100"]);
    assert_eq!(report["numbers"], 100, "{report}");
}

/// Few requests at once, so that results are written in small groups and the parts can be told
/// apart where the machine is busy.
#[test]
fn callbacks_are_kept_beside_the_sends() {
    for receipts in ["1", "20"] {
        let report =
            measured(&["callbacks", "--n", "6000", "--latency", "10", "--in-flight", "16", "--numbers", receipts]);
        assert!(report["n"].as_i64().unwrap() > 1_000, "{report}");
        assert!(report["receipts_per_second"].as_f64().unwrap() > 100.0 && report["not_taken"] == 0, "{report}");
        assert!(report["answered_ms_median"].as_f64().unwrap() > 0.0, "{report}");
    }
}

#[test]
fn one_worker_and_two_are_processes_with_memory_of_their_own() {
    let Some(server) = postgres_server() else { return };
    let report = measured(&["workers", "--n", "600", "--latency", "5", "--store", &server]);
    for who in ["worker_peak_bytes", "planner_peak_bytes"] {
        assert!(report[who].as_i64().unwrap() > 1 << 20, "{report}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_is_left_as_it_was_found() {
    let (Some(server), Some(broker)) = (postgres_server(), rig::broker().await) else { return };
    let with =
        |name: &'static str| [name, "--n", "300", "--store", &server, "--broker", broker.url()].map(str::to_owned);
    for name in ["queue", "dispatch"] {
        let args = with(name);
        let report = tokio::task::block_in_place(|| measured(&args.each_ref().map(String::as_str)));
        assert_eq!(report["queue"], "rabbitmq", "{report}");
        assert_eq!(broker.depth(rig::ROUTINE).await, None, "a queue is left");
    }
    in_anothers_house(&broker, &server).await;
}

/// Where a gong lives, nothing is measured and nothing is removed.
async fn in_anothers_house(broker: &Broker, server: &str) {
    let channel = broker.channel().await;
    gong::queue::topology::declare_ends(&channel).await.unwrap();
    gong::queue::topology::declare_lanes(&channel, "sms").await.unwrap();
    let gong = Gong::new();
    let run = tokio::task::block_in_place(|| {
        gong.run(["bench", "dispatch", "--n", "300", "--store", server, "--broker", broker.url()])
    });
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert!(run.stderr.contains("gong") && !run.stderr.contains(":guest@"), "{}", run.stderr);
    assert!(broker.depth(rig::ROUTINE).await.is_some());
}
