//! Attempts are kept as runs, and read as what they were.

use super::*;
use crate::store::testing::stores;

const TRIES: &str =
    "SELECT ordinal || ':' || attempt || ':' || class || ':' || code FROM tries ORDER BY ordinal, epoch";

async fn rows_of_attempts(store: &Store) -> i64 {
    store.probe_count("SELECT COUNT(*) FROM attempts".into()).await
}

/// A dispatch of `n` deliveries in one batch, all of them marked.
async fn marked(store: &Store, n: i64) -> Lease {
    people(store, n).await;
    planned(store, n, n, 1).await;
    let lease = lease(store).await;
    mark(store, lease, &(1..=n).collect::<Vec<_>>()).await;
    lease
}

#[tokio::test]
async fn deliveries_that_heard_the_same_share_a_row() {
    for t in stores().await {
        let store = &t.store;
        let lease = marked(store, 2_400).await;
        let all: Vec<i64> = (1..=2_400).collect();
        // Answers come in any order; one gateway word differs.
        let mut records: Vec<Record> = all.iter().rev().filter(|o| **o != 9).map(|o| taken(*o, &[])).collect();
        records.push(thrown(9, Class::Permanent, State::Failed, None));
        record(store, lease, records).await;
        assert_eq!(rows_of_attempts(store).await, 1 + 1 + 3, "{}: 1–8, 9, and 10–2400 in three", t.engine);
        let tries = store.probe_lines(TRIES.into()).await;
        let expected: Vec<String> =
            all.iter().map(|o| format!("{o}:1:{}", if *o == 9 { "4:503" } else { "0:0" })).collect();
        assert_eq!(tries.len(), 2_400, "{}", t.engine);
        for line in expected.iter().filter(|l| !l.starts_with("9:")) {
            assert!(tries.contains(line), "{line} on {}", t.engine);
        }
        assert_eq!(tries.iter().filter(|l| l.starts_with("9:") && l.ends_with(":503")).count(), 1);
    }
}

#[tokio::test]
async fn a_repeated_turn_enters_nothing_twice_whatever_runs_it_had() {
    for t in stores().await {
        let store = &t.store;
        let lease = marked(store, 6).await;
        record(store, lease, [2, 3, 4].map(|o| taken(o, &[])).to_vec()).await;
        assert_eq!(rows_of_attempts(store).await, 1, "{}", t.engine);
        // Of a turn of which nobody heard, the answers come again, and others with them.
        record(store, lease, [1, 2, 3, 4, 5].map(|o| taken(o, &[])).to_vec()).await;
        record(store, lease, [4, 5, 6].map(|o| taken(o, &[])).to_vec()).await;
        let tries = store.probe_lines(TRIES.into()).await;
        assert_eq!(tries, (1..=6).map(|o| format!("{o}:1:0:0")).collect::<Vec<_>>(), "{}", t.engine);
    }
}

#[tokio::test]
async fn a_receipt_before_the_answer_leaves_the_others_their_run() {
    for t in stores().await {
        let store = &t.store;
        let lease = marked(store, 6).await;
        execute(store, format!("UPDATE deliveries SET state = {} WHERE ordinal = 3", State::Delivered.code())).await;
        record(store, lease, (1..=6).map(|o| taken(o, &[])).collect()).await;
        assert_eq!(rows_of_attempts(store).await, 3, "{}: 1–2, 3, 4–6", t.engine);
        record(store, lease, (1..=6).map(|o| taken(o, &[])).collect()).await;
        let tries = store.probe_lines(TRIES.into()).await;
        assert_eq!(tries, (1..=6).map(|o| format!("{o}:1:0:0")).collect::<Vec<_>>(), "{}", t.engine);
    }
}

#[tokio::test]
async fn whoever_asks_after_one_delivery_finds_its_run() {
    for t in stores().await {
        let store = &t.store;
        let lease = marked(store, 1_500).await;
        let silent = 300..1_400;
        let heard = |o: i64| {
            if silent.contains(&o) { thrown(o, Class::Unknown, State::Uncertain, None) } else { taken(o, &[]) }
        };
        record(store, lease, (1..=1_500).map(heard).collect()).await;
        let asked = format!(
            "SELECT COUNT(*) FROM deliveries d WHERE d.dispatch_no = {} AND EXISTS (SELECT 1 FROM attempts t WHERE {} AND t.class = 6)",
            lease.dispatch_no,
            crate::store::turn::attempts::tried!("t", "d")
        );
        let found = store.probe_count(asked.clone()).await;
        assert_eq!(found, 1_100, "{}: {} rows", t.engine, rows_of_attempts(store).await);
        assert_eq!(store.probe_count(format!("{asked} AND NOT d.ordinal BETWEEN 300 AND 1399")).await, 0);
    }
}
