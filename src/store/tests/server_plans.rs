//! The hot statements on a server whose tables are large: the plans go through indexes,
//! and reach one range of the ledger; and no part of the work itself reads a table from
//! end to end, as the server counts it.
//!
//! 100,000 deliveries are really there, in two ranges; `GONG_TEST_DELIVERIES=10000000`
//! makes it as many as one likes, with the same plans.

mod planning;
mod work;

use super::*;
use crate::store::purge::DROP_HANDLES;
use crate::store::receipts::{claims, handles::HANDLES_POSTGRES, meeting, parts, rows::KEEP};
use crate::store::testing::{TestStore, many_deliveries, stores};
use crate::store::{batches, marks, schedule, turn, waiting};

/// Ten dispatches, half of them in the second range, all done but a thousand rows of
/// the last; handles and receipts for every delivery.
async fn fill(t: &TestStore, n: i64) {
    let mut tx = t.store.begin().await.unwrap();
    tx.ready_range(100).await.unwrap();
    tx.commit().await.unwrap();
    let of = format!(
        "SELECT (g % 10) + CASE WHEN g % 10 < 5 THEN 1 ELSE 101 END AS d, g / 10 + 1 AS o, g FROM generate_series(0, {}) g",
        n - 1
    );
    let state = format!("CASE WHEN d = 110 AND o > {} THEN 1 ELSE 5 END", n / 10 - 1_000);
    for sql in [
        format!("INSERT INTO addresses (id, kind, hash, sealed) SELECT g, 1, int8send(g), '' FROM generate_series(1, {n}) g"),
        format!("INSERT INTO members (dispatch_no, ordinal, recipient_no, region_no, away, groups) SELECT d, o, o, 1, 0, '' FROM ({of}) x"),
        format!("INSERT INTO deliveries (dispatch_no, ordinal, step, channel, target, variant, state, batch) \
                 SELECT d, o, 0, 1, o, 0, {state}, g / 1000 + 1 FROM ({of}) x"),
        format!("INSERT INTO delivery_members (dispatch_no, member, delivery, via) SELECT d, o, o, 1 FROM ({of}) x"),
        // Some are of messages in parts, which have an index of their own.
        format!("INSERT INTO handles (channel, gateway_id, dispatch_no, ordinal, attempt, part, parts) \
                 SELECT 1, 'g' || g, d, o, 1, 1, CASE WHEN g > 1000 AND g % 7 = 3 THEN 2 ELSE 1 END FROM ({of}) x"),
        // Runs of two, so that there are as many as a gateway in no order leaves.
        format!("INSERT INTO attempts (dispatch_no, ordinal, attempt, batch, epoch, class, code, at, more) \
                 SELECT d, o, 1, 1, 1, 0, '', 0, 1 FROM ({of}) x WHERE o % 2 = 1"),
        format!("INSERT INTO receipts (no, channel, received_at, gateway_id, state, code, dispatch_no, ordinal, attempt) \
                 SELECT g, 1, 0, 'g' || g, 5, '', d, o, 1 FROM ({of}) x"),
        "INSERT INTO batches (no, dispatch_no, channel, lane, size, state) SELECT g, 110, 1, 2, 1000, CASE WHEN g < 5000 THEN 2 ELSE 0 END FROM generate_series(1, 5010) g".to_owned(),
        "INSERT INTO dispatches (no, id, item_id, item_version, audience, canonical, mode, lane, plan, state, phase, created_at, created_by, expires_at) \
         SELECT n, 'd' || n, id, 1, '', '', 'live', 2, '{}', 'active', 'done', 0, '', 9000000000000 FROM items, unnest(ARRAY[1,2,3,4,5,106,107,108,109,110]) n".to_owned(),
        "ANALYZE".to_owned(),
        // A dispatch of which no statistics know, as every new one is.
        "INSERT INTO deliveries (dispatch_no, ordinal, step, channel, target, variant, state, batch) SELECT 111, g, 0, 1, g, 0, 1, 900000 + g / 1000 FROM generate_series(1, 20000) g".to_owned(),
        "INSERT INTO members (dispatch_no, ordinal, recipient_no, region_no, away, groups) SELECT 111, g, g, 1, 0, '' FROM generate_series(1, 20000) g".to_owned(),
        "INSERT INTO dispatches (no, id, item_id, item_version, audience, canonical, mode, lane, plan, state, phase, created_at, created_by, expires_at) \
         SELECT 111, 'd111', id, 1, '', '', 'live', 0, '{}', 'active', 'done', 0, '', 9000000000000 FROM items".to_owned(),
        "INSERT INTO batches (no, dispatch_no, channel, lane, size, state) SELECT 900000 + g, 111, 1, 0, 1000, 0 FROM generate_series(0, 20) g".to_owned(),
        format!("UPDATE counters SET value = 1000000 + {n} WHERE name IN ('batch', 'receipt')"),
    ] {
        execute(&t.store, sql).await;
    }
}

/// The plan of a statement with these arguments, as the hot path or any other has it.
async fn plan(store: &Store, sql: &str, arguments: &str, hot: bool) -> String {
    plan_in(if hot { store.begin_hot().await } else { store.begin().await }.unwrap(), sql, arguments).await
}

async fn plan_in(mut tx: Tx, sql: &str, arguments: &str) -> String {
    let Tx::Postgres(t) = &mut tx else { return String::new() };
    let c = &mut **t;
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("PREPARE looked_at AS {sql}"))).execute(&mut *c).await.unwrap();
    let explain = format!("EXPLAIN EXECUTE looked_at ({arguments})");
    let lines: Vec<String> = sqlx::raw_sql(sqlx::AssertSqlSafe(explain))
        .fetch_all(&mut *c)
        .await
        .unwrap()
        .iter()
        .map(|row| sqlx::Row::get(row, 0))
        .collect();
    sqlx::raw_sql("DEALLOCATE looked_at").execute(&mut *c).await.unwrap();
    lines.join("\n")
}

const LARGE: [&str; 13] = [
    "deliveries",
    "members",
    "delivery_members",
    "attempts",
    "handles",
    "receipts",
    "addresses",
    "batches",
    "recipients",
    "recipient_addresses",
    "events",
    "event_marks",
    "intake",
];

/// Indexes that a statement walks from their beginning, and why it may: (how the statement
/// begins, index, reason).
const WALKED: [(&str, &str, &str); 1] = [(
    "DELETE FROM receipts",
    "receipts_unmatched",
    "the age stands in no index; this one holds what nobody matched for a week and no more, and the limit ends the walk",
)];

/// The table that a line of a plan reads, where it is a large one or a range of one.
fn large(line: &str) -> Option<String> {
    let table = line.split(" on ").nth(1)?.split(' ').next()?.to_owned();
    let whole = table.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('_');
    LARGE.contains(&whole).then_some(table)
}

/// Reads of large tables that begin at no place of an index: the table from end to end, or
/// an index from end to end, which takes as long and is all that a server does that may not
/// read the table.
fn unbounded(plan: &str, sql: &str) -> Vec<String> {
    let lines: Vec<&str> = plan.lines().collect();
    let is_node = |i: usize| i == 0 || lines[i].trim_start().starts_with("->");
    let mut wrong = Vec::new();
    for i in (0..lines.len()).filter(|i| is_node(*i)) {
        let end = (i + 1..lines.len()).find(|j| is_node(*j)).unwrap_or(lines.len());
        let has = |cond: &str| lines[i + 1..end].iter().any(|l| l.trim_start().starts_with(cond));
        let line = lines[i].trim();
        let bounded = match line {
            _ if line.contains("Bitmap Index Scan on ") => has("Index Cond: "),
            _ if large(line).is_none() => true,
            _ if line.contains("Bitmap Heap Scan on ") => has("Recheck Cond: "),
            _ if line.contains("Index Scan ") || line.contains("Index Only Scan ") => has("Index Cond: "),
            _ if line.contains("Tid Scan on ") || line.contains("Tid Range Scan on ") => has("TID Cond: "),
            // What is changed is found by the node beneath.
            _ => ["Insert on ", "Update on ", "Delete on "].iter().any(|w| line.contains(w)),
        };
        let walked =
            WALKED.iter().any(|(begins, index, _)| sql.starts_with(begins) && line.contains(&format!(" {index} ")));
        if !bounded && !walked {
            wrong.push(line.to_owned());
        }
    }
    wrong
}

fn reads_by_index(plan: &str, sql: &str) {
    let found = unbounded(plan, sql);
    assert!(found.is_empty(), "read from end to end: {found:?}\n{plan}\n{sql}");
}

#[test]
fn an_index_without_a_condition_is_read_from_end_to_end() {
    let good = "Update on batches  (cost=0.4..8 rows=1)\n  ->  Index Scan using batches_pkey on batches  (cost=1)\n        \
                Index Cond: (no = 1)\n        ->  Seq Scan on channels  (cost=1)";
    assert_eq!(unbounded(good, ""), Vec::<String>::new());
    let bitmap = |of: &str| {
        format!(
            "Bitmap Heap Scan on deliveries_100  (cost=1)\n  Recheck Cond: (a = 1)\n  ->  Bitmap Index Scan on x  (cost=1){of}"
        )
    };
    assert_eq!(unbounded(&bitmap("\n        Index Cond: (a = 1)"), ""), Vec::<String>::new());
    for bad in [
        "Index Scan using deliveries_100_pkey on deliveries_100 d  (cost=1)\n  Filter: (state = 1)",
        "Index Only Scan Backward using deliveries_100_pkey on deliveries_100  (cost=1)",
        "Seq Scan on receipts  (cost=1)\n  Filter: (no = 1)",
        "Parallel Seq Scan on receipts r  (cost=1)",
        "Tid Scan on handles_100  (cost=1)\n  Filter: (no = 1)",
        &bitmap(""),
    ] {
        assert_eq!(unbounded(bad, "").len(), 1, "{bad}");
    }
}

#[tokio::test]
async fn nothing_hot_reads_a_table_from_end_to_end() {
    for t in stores().await.iter().filter(|t| t.engine == "postgres") {
        approved(&t.store).await;
        let began = std::time::Instant::now();
        fill(t, many_deliveries()).await;
        println!("{} deliveries laid down in {:.0?}", many_deliveries(), began.elapsed());
        hot_statements_go_by_index(t).await;
        work::reads_what_it_needs(&t.store, many_deliveries()).await;
        planning::reads_what_it_needs(&t.store, many_deliveries()).await;
    }
}

async fn hot_statements_go_by_index(t: &TestStore) {
    // Some that nobody has matched, of which the statistics do not know, and then do.
    execute(&t.store, "INSERT INTO receipts (no, channel, received_at, gateway_id, state, code) SELECT 900000000 + g, 1 + g % 2, 0, 'u' || g, 5, '' FROM generate_series(1, 500) g").await;
    every_case_goes_by_index(t).await;
    execute(&t.store, "ANALYZE receipts").await;
    every_case_goes_by_index(t).await;
    execute(&t.store, "DELETE FROM receipts WHERE dispatch_no IS NULL").await;
}

async fn every_case_goes_by_index(t: &TestStore) {
    let lease = batches::lease_sql(" FOR UPDATE OF b SKIP LOCKED");
    let list = "'{1,2,3,4,5,6,7,8,9}'";
    let ids = format!("'{{{}}}'", (1..=500).map(|n| format!("g{n}")).collect::<Vec<_>>().join(","));
    // (statement, arguments, on the hot path, the one range of deliveries or handles)
    let range = schedule::within("state = 3 AND (channel = 1 AND handed_at <= 1)");
    let any = format!("SELECT EXISTS (SELECT 1 FROM deliveries WHERE {range})");
    let move_on = format!("UPDATE deliveries SET state = 4 WHERE {range}");
    let forget = schedule::forget_sql(&t.store.pool);
    let cases = [
        (batches::MOST_URGENT, "1, 1, 2".to_owned(), false, ""),
        (&*lease, "1, 'w', 1, 1, 2, 2, 10".to_owned(), true, ""),
        (waiting::MEMBERS, format!("111, {list}"), true, "members_100"),
        (waiting::ROWS, "111, 900003".to_owned(), true, "deliveries_100"),
        (waiting::ADDRESSES, list.to_owned(), true, ""),
        (waiting::NEIGHBOURS, "1, 2000".to_owned(), true, ""),
        (marks::COUNT_POSTGRES, "111, 900003, 1, 9, 1".to_owned(), true, "deliveries_100"),
        (marks::QUEUED_POSTGRES, "111, 900003, 1, 9, 1".to_owned(), true, "deliveries_100"),
        (turn::TAKEN_POSTGRES, format!("111, '{{900003,900004}}', 1, 3, 1, 1, {list}, 1, 9"), true, "deliveries_100"),
        (HANDLES_POSTGRES, format!("1, {ids}, 101"), true, "handles_100"),
        (HANDLES_POSTGRES, format!("1, {ids}, 0"), true, ""),
        (DROP_HANDLES, "111, '(0,0)', '(500,0)'".to_owned(), false, "handles_100"),
        (KEEP, "1, 1, '{1}', '{a}', '{1}', '{a}', '{1}', '{1}', '{1}', '{1}', '{a}'".to_owned(), true, ""),
        (claims::LOCK_FREE, "'{111,111}', '{1,2}'".to_owned(), true, ""),
        (claims::RAISE, "'{111}', '{1}', '{5}', '{1}', '{1}', '{1}'".to_owned(), true, ""),
        (parts::NOTE_POSTGRES, "1, '{101}', '{1}', '{1}', '{1}', '{3}'".to_owned(), true, ""),
        (parts::SAID_POSTGRES, "1, '{101}', '{1}', '{1}'".to_owned(), true, ""),
        (meeting::WAITING_POSTGRES, "1, '{g1,g2,g3}'".to_owned(), true, ""),
        (meeting::STILL_WAITING, "'{1,2,3}'".to_owned(), true, ""),
        (meeting::ANY_WAITS, "1".to_owned(), true, ""),
        (meeting::LEFT, "1, 'g1', 500".to_owned(), true, ""),
        (&*any, "111, 0, 5000".to_owned(), false, "deliveries_100"),
        (&*move_on, "111, 0, 5000".to_owned(), false, "deliveries_100"),
        (&*forget, "1".to_owned(), false, ""),
    ];
    for (sql, arguments, hot, range) in cases {
        let plan = plan(&t.store, sql, &arguments, hot).await;
        assert!(!plan.is_empty());
        reads_by_index(&plan, sql);
        let other = range.replace("_100", "_0");
        assert!(
            range.is_empty() || (plan.contains(range) && !plan.contains(&other)),
            "not {range} alone:\n{plan}\n{sql}"
        );
    }
}

/// The look-up that the whole snapshot hangs on: by its own index, not by whichever
/// begins with the number of a dispatch that nobody has counted yet.
#[tokio::test]
async fn a_new_dispatch_finds_its_targets_by_their_index() {
    for t in stores().await.iter().filter(|t| t.engine == "postgres") {
        approved(&t.store).await;
        fill(t, 20_000).await;
        let sql = "SELECT d.ordinal FROM deliveries d WHERE d.dispatch_no = $1 AND d.step = $2 AND d.channel = $3 AND d.target = $4 AND d.variant = $5";
        let plan = plan(&t.store, sql, "111, 0, 1, 5, 0", true).await;
        assert!(plan.contains("step"), "{plan}");
        let index = plan.lines().find(|l| l.contains("Index Cond")).unwrap_or_default();
        assert!(index.contains("target"), "{plan}");
    }
}

/// Each row's member by its key, not all members of a dispatch that nobody has counted yet.
#[tokio::test]
async fn a_batch_of_a_new_dispatch_finds_its_members_by_their_key() {
    for t in stores().await.iter().filter(|t| t.engine == "postgres") {
        approved(&t.store).await;
        fill(t, 20_000).await;
        let list: Vec<String> = (3_001..=4_000).map(|n| n.to_string()).collect();
        let plan = plan(&t.store, waiting::MEMBERS, &format!("111, '{{{}}}'", list.join(",")), true).await;
        let members = plan.lines().skip_while(|l| !l.contains(" on members")).find(|l| l.contains("Index Cond"));
        assert!(members.is_some_and(|l| l.contains("ordinal")), "{plan}");
    }
}

/// The attempts at a delivery, near its number and not among all of the dispatch.
#[tokio::test]
async fn the_attempts_at_a_delivery_are_found_by_its_number() {
    for t in stores().await.iter().filter(|t| t.engine == "postgres") {
        approved(&t.store).await;
        fill(t, 20_000).await;
        let append = t.store.begin_hot().await.unwrap().append_sql(turn::attempts::UNLESS_ENTERED);
        let row = "'[[111, 5, 1, 900000, 1, 0, \"OK\", 1, 0]]'";
        for (sql, arguments, hot) in [(plans::TRIED, "110", false), (plans::TRIED, "111", false), (&*append, row, true)]
        {
            let plan = plan(&t.store, sql, arguments, hot).await;
            let index = plan.lines().skip_while(|l| !l.contains(" on attempts_100")).find(|l| l.contains("Index Cond"));
            assert!(index.is_some_and(|l| l.matches("ordinal").count() > 2), "{plan}");
        }
    }
}

/// However many rows are due, no more are read than are taken.
#[tokio::test]
async fn what_is_due_is_walked_and_not_collected() {
    for t in stores().await.iter().filter(|t| t.engine == "postgres") {
        approved(&t.store).await;
        fill(t, many_deliveries()).await;
        let sql = schedule::due_sql(&t.store.pool);
        for analysed in [false, true] {
            execute(&t.store, "UPDATE deliveries SET state = 12, next_at = 1 WHERE dispatch_no IN (1, 110)").await;
            if analysed {
                execute(&t.store, "ANALYZE deliveries").await;
            }
            let plan = plan_in(t.store.begin_walk().await.unwrap(), &sql, "2, 2").await;
            let walks = plan.contains("next_at_idx on deliveries_100") && !plan.contains("Bitmap");
            assert!(walks, "{plan}");
            assert!(!plan.contains("Seq Scan on deliveries"), "{plan}");
        }
    }
}
