//! The statements that run all the time find their rows by an index on the embedded engine.

use super::*;
use crate::store::testing::stores;
use crate::store::{batches, outbox, receipts, schedule, turn};

async fn plan(store: &Store, sql: &str) -> Vec<String> {
    let super::super::Pool::Sqlite { read, .. } = &store.pool else { return Vec::new() };
    let steps: Vec<(i64, i64, i64, String)> =
        sqlx::query_as(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"))).fetch_all(read).await.unwrap();
    steps.into_iter().map(|s| s.3).collect()
}

/// The plan goes through these indexes, and reads no table from end to end.
async fn uses(store: &Store, sql: &str, indexes: &[&str]) {
    let steps = plan(store, sql).await;
    for index in indexes {
        assert!(steps.iter().any(|s| s.contains(index)), "{index} is not used:\n{}\n{sql}", steps.join("\n"));
    }
    let scanned = |s: &&String| s.starts_with("SCAN") && !s.contains("json_each") && !s.contains("VIRTUAL TABLE");
    let scan = steps.iter().find(scanned);
    // An ordered walk of a partial index is as long as the work that waits.
    let walk = |s: &String| {
        ["dispatches_open", "batches_ready", "batches_published"]
            .iter()
            .any(|i| s.contains(&format!("USING INDEX {i}")))
    };
    assert!(scan.is_none_or(walk), "reads from end to end:\n{}\n{sql}", steps.join("\n"));
}

#[tokio::test]
async fn hot_statements_use_their_indexes() {
    let store = &stores().await[0].store;
    people(store, 50).await;
    planned(store, 50, 5, 1).await;
    for analysed in [false, true] {
        if analysed {
            execute(store, "ANALYZE").await;
        }
        uses(store, batches::MOST_URGENT, &["batches_ready"]).await;
        uses(store, batches::LOAD_SQLITE, &["deliveries_batch"]).await;
        uses(store, &schedule::due_sql(&store.pool), &["deliveries_due"]).await;
        uses(store, &batches::strays_sql(""), &["deliveries_batch"]).await;
        uses(store, turn::MARK_SQLITE, &["deliveries USING PRIMARY KEY", "SEARCH batches USING"]).await;
        uses(store, outbox::UNPUBLISHED_SQLITE, &["batches_outbox", "SEARCH d USING"]).await;
        uses(store, outbox::PUBLISHED, &["batches_published"]).await;
        uses(store, receipts::meeting::WAITING_SQLITE, &["receipts_unmatched"]).await;
    }
}
