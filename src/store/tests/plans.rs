//! The statements that run all the time find their rows by an index on the embedded engine.

use super::*;
use crate::store::testing::stores;
use crate::store::{batches, marks, outbox, receipts, schedule, turn, waiting};

/// As what is asked of single deliveries asks after their attempts.
pub(super) const TRIED: &str = concat!(
    "SELECT d.ordinal FROM deliveries d WHERE d.dispatch_no = $1 AND d.ordinal BETWEEN 1 AND 9 \
     AND (d.state = 3 OR EXISTS (SELECT 1 FROM attempts t WHERE ",
    turn::attempts::tried!("t", "d"),
    " AND t.class = 6))"
);

async fn plan(store: &Store, sql: &str) -> Vec<String> {
    // The writer knows what ANALYZE has found; a reader that was there before does not.
    let super::super::Pool::Sqlite { write, .. } = &store.pool else { return Vec::new() };
    let steps: Vec<(i64, i64, i64, String)> =
        sqlx::query_as(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"))).fetch_all(write).await.unwrap();
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
    let dispatch = planned(store, 50, 5, 1).await;
    // Of a table with one row any plan is a good one, and most dispatches and batches are over.
    let item = store.item(&dispatch.item_id).await.unwrap();
    for _ in 0..100 {
        store.create_dispatch(&order(&item, 1)).await.unwrap();
    }
    let no = dispatch.no;
    execute(store, format!("UPDATE dispatches SET finished_at = 1 WHERE no <> {no}")).await;
    let done = "WITH RECURSIVE g (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM g WHERE i < 1000) \
                INSERT INTO batches (no, dispatch_no, channel, lane, size, state) SELECT 1000 + i, $no, 1, 1, 1, 2 FROM g";
    execute(store, done.replace("$no", &no.to_string())).await;
    for analysed in [false, true] {
        if analysed {
            execute(store, "ANALYZE").await;
        }
        uses(store, batches::MOST_URGENT, &["batches_ready"]).await;
        uses(store, waiting::LOAD_SQLITE, &["deliveries_batch"]).await;
        uses(store, &schedule::due_sql(&store.pool), &["deliveries_due"]).await;
        for sql in [marks::COUNT_SQLITE, marks::QUEUED_SQLITE] {
            uses(store, sql, &["deliveries_batch", "SEARCH dispatches"]).await;
        }
        uses(store, turn::TAKEN_SQLITE, &["deliveries USING PRIMARY KEY"]).await;
        uses(store, TRIED, &["t USING PRIMARY KEY (dispatch_no=? AND ordinal>? AND ordinal<?)"]).await;
        uses(store, outbox::UNPUBLISHED_SQLITE, &["batches_outbox", "SEARCH d USING"]).await;
        uses(store, outbox::PUBLISHED, &["batches_published"]).await;
        uses(store, receipts::meeting::WAITING_SQLITE, &["receipts_unmatched"]).await;
    }
}
