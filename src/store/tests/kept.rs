//! Connections that the hot path keeps: in a good state, never more than there are, and
//! gone with their server and their store.

use std::time::Duration;

use super::*;
use crate::store::Pool;
use crate::store::testing::stores;

fn idle(store: &Store) -> usize {
    match &store.pool {
        Pool::Postgres(server) => server.idle(),
        Pool::Sqlite { .. } => 0,
    }
}

async fn until_idle(store: &Store, n: usize) {
    let kept = async {
        while idle(store) != n {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), kept).await.unwrap_or_else(|_| panic!("{} are kept", idle(store)));
}

/// Keeps as many as it may.
async fn fill(store: &Store) {
    let hot = [store.begin_hot().await.unwrap(), store.begin_hot().await.unwrap(), store.begin_hot().await.unwrap()];
    for tx in hot {
        tx.commit().await.unwrap();
    }
    until_idle(store, 3).await;
}

#[tokio::test]
async fn what_is_kept_has_no_transaction_and_no_answer_left_in_it() {
    for t in stores().await.iter().filter(|t| t.engine == "postgres") {
        let store = &t.store;
        let mut tx = store.begin_hot().await.unwrap();
        hold(&mut tx, "UPDATE counters SET value = value + 1000 WHERE name = 'dispatch'").await;
        let slow = async {
            let sql = "SELECT g, (SELECT pg_sleep(0.2)) FROM generate_series(1, 10000) g";
            run!(&mut tx, |c| sqlx::query(sql).execute(c).await.map(drop))
        };
        let slow = tokio::time::timeout(Duration::from_millis(20), slow).await;
        assert!(slow.is_err(), "it was given up in the middle of its answer");
        drop(tx);
        until_idle(store, 1).await;
        let mut tx = store.begin_hot().await.unwrap();
        let seen: i64 = run!(&mut tx, |c| sqlx::query_scalar("SELECT value FROM counters WHERE name = 'dispatch'")
            .fetch_one(c)
            .await)
        .unwrap();
        assert!(seen < 1000, "it was rolled back");
        tx.commit().await.unwrap();
        assert_eq!(idle(store), 1);
    }
}

#[tokio::test]
async fn nobody_waits_for_what_lies_idle() {
    for t in stores().await.iter().filter(|t| t.engine == "postgres") {
        let store = &t.store;
        fill(store).await;
        let soon = Duration::from_secs(10);
        let mut all = Vec::new();
        for n in 1..=12 {
            all.push(
                tokio::time::timeout(soon, store.begin())
                    .await
                    .unwrap_or_else(|_| panic!("waited for the {n}th"))
                    .unwrap(),
            );
        }
        assert_eq!(idle(store), 0);
        // Whoever waits gets what the hot path has done with.
        let hot = all.pop().unwrap();
        drop(hot);
        let hot = store.begin_hot().await.unwrap();
        let next = store.begin();
        tokio::pin!(next);
        assert!(tokio::time::timeout(Duration::from_millis(50), &mut next).await.is_err(), "there are twelve");
        hot.commit().await.unwrap();
        tokio::time::timeout(soon, next).await.expect("it came back").unwrap();
    }
}

#[tokio::test]
async fn a_server_that_was_restarted_costs_a_few_tries() {
    for t in stores().await.iter().filter(|t| t.engine == "postgres") {
        let store = &t.store;
        fill(store).await;
        let ours = "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid() \
                    AND application_name = current_setting('application_name')";
        assert!(store.probe_count(ours.into()).await >= 2);
        let mut failed = 0;
        while store.begin_hot().await.is_err() {
            failed += 1;
            assert!(failed <= 12, "it never recovers");
        }
    }
}

#[test]
fn a_store_may_outlive_its_runtime() {
    let first = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut all = first.block_on(stores());
    for t in all.iter().filter(|t| t.engine == "postgres") {
        first.block_on(async {
            // One that came back after a rollback, and one that was committed.
            drop(t.store.begin_hot().await.unwrap());
            until_idle(&t.store, 1).await;
        });
    }
    let server = all.pop().filter(|t| t.engine == "postgres");
    let open = server.as_ref().map(|t| first.block_on(t.store.begin_hot()).unwrap());
    drop(first);
    drop(open);
    drop(server);
}
