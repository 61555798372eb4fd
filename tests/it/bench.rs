//! `gong bench` with processes, gateways and a broker of its own: it ends, measures what
//! it says, and leaves nothing behind.

#![allow(clippy::print_stdout)] // what was measured, for who reads a failure

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

/// Tries that a machine which does something else meanwhile may need.
const TRIES: u32 = 3;

/// Routine messages under way; a million where `GONG_TEST_ROUTINE` says so.
#[allow(clippy::disallowed_methods)] // tests have no config file
fn routine() -> String {
    std::env::var("GONG_TEST_ROUTINE").unwrap_or_else(|_| "60000".to_owned())
}

/// First within a second, last within a fifth more than the rate allows, and the routine
/// keeps its floor: all of it in one and the same try.
fn assert_overtakes(place: &[&str]) {
    let met = (0..TRIES).any(|_| {
        let report = measured(&[&["lanes", "--n", &routine(), "--rate", "1000"], place].concat());
        println!("{report}");
        assert!(report["n"].as_i64().unwrap() > 1_000, "{report}");
        let is = |key: &str| report[key].as_f64().unwrap();
        is("first_ms") <= 1_000.0
            && is("times_what_the_rate_allows") <= 1.2
            && (0.04..=0.08).contains(&is("routine_share"))
    });
    assert!(met, "in none of {TRIES} tries");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_immediate_dispatch_overtakes_a_routine_one() {
    tokio::task::block_in_place(|| assert_overtakes(&[]));
    let Some(server) = postgres_server() else { return };
    tokio::task::block_in_place(|| assert_overtakes(&["--store", &server]));
    let Some(broker) = rig::broker().await else { return };
    tokio::task::block_in_place(|| assert_overtakes(&["--store", &server, "--broker", broker.url()]));
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
