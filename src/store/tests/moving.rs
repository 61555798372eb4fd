//! An embedded store moves to a server with everything in it, and goes on there.

use tempfile::TempDir;

use super::*;
use crate::clock::Clock;
use crate::store::moving::SLICE;
use crate::store::testing::{server_url, stores};
use crate::store::{Pool, StoreError};
use crate::vault::Vault;

async fn columns(store: &Store, table: &str) -> Vec<(String, String, i64)> {
    let Pool::Sqlite { read, .. } = &store.pool else { unreachable!() };
    sqlx::query_as("SELECT name, type, pk FROM pragma_table_info($1)").bind(table).fetch_all(read).await.unwrap()
}

async fn references(store: &Store, table: &str) -> Vec<(String, String, String)> {
    let Pool::Sqlite { read, .. } = &store.pool else { unreachable!() };
    let sql = "SELECT \"from\", \"table\", COALESCE(\"to\", 'no') FROM pragma_foreign_key_list($1)";
    sqlx::query_as(sql).bind(table).fetch_all(read).await.unwrap()
}

/// A row with awkward values in every table that has none yet.
async fn fill_the_rest(store: &Store, tables: &[String]) {
    // Twice, for rows that refer to rows that came later.
    for table in tables.iter().chain(tables) {
        if store.probe_count(format!("SELECT COUNT(*) FROM {table}")).await > 0 {
            continue;
        }
        let references = references(store, table).await;
        let mut values = Vec::new();
        for (name, kind, _) in columns(store, table).await {
            let other = references.iter().find(|r| r.0 == name);
            values.push(match (other, kind.as_str()) {
                (Some((_, table, to)), _) => format!("(SELECT {to} FROM {table} LIMIT 1)"),
                (None, "TEXT") => format!("'a' || char(9) || 'b' || char(10) || '\\N\\喆' || '{name}'"),
                (None, "BLOB") => "x'00ff5c0a'".to_owned(),
                (None, "DOUBLE PRECISION" | "REAL") => "0.25".to_owned(),
                (None, _) => "7".to_owned(),
            });
        }
        execute(store, format!("INSERT OR IGNORE INTO {table} VALUES ({})", values.join(", "))).await;
    }
}

async fn tables(store: &Store) -> Vec<String> {
    let sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name <> '_sqlx_migrations' ORDER BY name";
    store.probe_lines(sql.into()).await
}

async fn open(url: &str) -> crate::store::Result<Store> {
    Store::open(url, Vault::from_key(&[7; 32]), Clock::held(NOON)).await
}

/// An embedded store with `n` people, and its address.
async fn embedded(dir: &TempDir, n: i64) -> (Store, String) {
    let url = format!("sqlite:{}", dir.path().join("gong.db").display());
    let store = open(&url).await.unwrap();
    people(&store, n).await;
    (store, url)
}

#[tokio::test]
async fn a_store_moves_whole_and_its_dispatch_goes_on() {
    let Some(url) = server_url().await else { return };
    let dir = tempfile::tempdir().unwrap();
    let (old, old_url) = embedded(&dir, 8).await;
    let d = planned(&old, 8, 4, 1).await;
    let half = lease(&old).await;
    assert_eq!(mark(&old, half, &[1, 2, 3, 4]).await.len(), 4);
    let records = (1..=4).map(|o| taken(o, &[&format!("g{o}")])).collect();
    run(&old, BatchTurn { records, close: true, whole: true, ..turn(half) }).await;
    // A dispatch of another range, and its row.
    execute(&old, "INSERT INTO dispatches SELECT 250, 'x', item_id, item_version, audience, canonical, mode, lane, lane_reason, plan, list_no, 'finished', phase, \
        step, step_due_at, cursor_no, members, deliveries, expected, created_at, created_by, expires_at, effective_at, 1, purged_at, reach, parent_no FROM dispatches LIMIT 1").await;
    execute(&old, "INSERT INTO deliveries (dispatch_no, ordinal, step, channel, target, variant, state, batch) VALUES (250, 1, 0, 1, 1, 0, 5, 0)").await;
    let tables = tables(&old).await;
    fill_the_rest(&old, &tables).await;
    for table in &tables {
        assert!(old.probe_count(format!("SELECT COUNT(*) FROM {table}")).await > 0, "{table} is empty");
    }

    let heard = std::cell::Cell::new((0, 0));
    let moved = old.move_to(&url, |done, all| heard.set((done, all))).await.unwrap();
    assert_eq!(moved.iter().map(|m| m.table.clone()).collect::<Vec<_>>(), tables);
    assert!(moved.iter().all(|m| m.rows > 0), "{moved:?}");
    let rows: u64 = moved.iter().map(|m| m.rows).sum();
    assert_eq!(heard.get(), (rows, rows));
    old.close().await;
    let error = open(&old_url).await.unwrap_err();
    assert!(matches!(&error, StoreError::Moved { .. }), "{error}");

    let new = open(&url).await.unwrap();
    assert_eq!(new.probe_count("SELECT COUNT(*) FROM deliveries_200".into()).await, 1);
    let sent = states(&new, d.no).await;
    assert_eq!(sent.iter().filter(|s| **s == State::Sent).count(), 4);
    assert_eq!(states(&new, 250).await.len(), 1);
    let rest = lease(&new).await;
    let waiting: Vec<i64> = new.load_batch(rest).await.unwrap().iter().map(|w| w.ordinal).collect();
    assert_eq!(waiting, [5, 6, 7, 8]);
    assert_eq!(mark(&new, rest, &waiting).await, waiting);
    let records = waiting.iter().map(|o| taken(*o, &[])).collect();
    run(&new, BatchTurn { records, close: true, whole: true, ..turn(rest) }).await;
    assert!(states(&new, d.no).await.iter().all(|s| *s == State::Sent));
    // The next dispatch has a number after the last.
    let next = new.begin().await.unwrap().next_dispatch_no().await.unwrap();
    assert!(next > d.no, "{next}");
    new.close().await;

    // The way back: the mark goes, and whoever is not empty is not moved into.
    let old = Store::open_moved(&old_url, Vault::from_key(&[7; 32]), Clock::held(NOON)).await.unwrap();
    let restored = old.take_back("王五").await.unwrap();
    assert!(restored.dispatches > 0 && old.dispatch(&d.no.to_string()).await.unwrap().state == "paused");
    assert!(old.take_back("王五").await.is_err());
    old.close().await;
    let old = open(&old_url).await.unwrap();
    let error = old.move_to(&url, |_, _| ()).await.unwrap_err();
    assert!(matches!(&error, StoreError::Refused(_)), "{error}");
    assert!(open(&old_url).await.is_ok(), "a move that was refused marks nothing");
}

/// What goes wrong on the way into a table over there.
const SPOILERS: [(&str, &str, &str); 3] = [
    ("is lost", "members", "IF NEW.ordinal = 3 THEN RETURN NULL; END IF; RETURN NEW;"),
    ("is changed", "deliveries", "IF NEW.ordinal = 3 THEN NEW.state := 5; END IF; RETURN NEW;"),
    (
        "is changed where it can hardly be seen",
        "addresses",
        "IF NEW.id = 3 THEN NEW.sealed := NEW.sealed || '\\x00'; END IF; RETURN NEW;",
    ),
];

#[tokio::test]
async fn a_store_of_which_a_row_goes_wrong_on_the_way_is_not_moved() {
    let Some(url) = server_url().await else { return };
    let dir = tempfile::tempdir().unwrap();
    let (old, old_url) = embedded(&dir, 8).await;
    let d = planned(&old, 8, 4, 1).await;
    let new = open(&url).await.unwrap();
    for (what, table, body) in SPOILERS {
        for sql in [
            format!("CREATE OR REPLACE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$"),
            format!("CREATE TRIGGER spoil BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION spoil()"),
        ] {
            execute(&new, sql).await;
        }
        let error = old.move_to(&url, |_, _| ()).await.unwrap_err();
        let arrived = if what == "is lost" { 7 } else { 8 };
        let said =
            [format!("{table}："), "送出 8 行".to_owned(), format!("收到 {arrived} 行"), "校验和不一致".to_owned()];
        let text = error.to_string();
        assert!(matches!(error, StoreError::Damaged(_)) && said.iter().all(|s| text.contains(s)), "{what}: {text}");
        // Nothing stays over there, and here everything goes on.
        for table in ["members", "deliveries", "addresses", "dispatches", "items"] {
            assert_eq!(new.probe_count(format!("SELECT COUNT(*) FROM {table}")).await, 0, "{what}: {table}");
        }
        let again = open(&old_url).await.expect("a move that failed marks nothing");
        assert_eq!(states(&again, d.no).await.len(), 8, "{what}");
        again.close().await;
        execute(&new, format!("DROP TRIGGER spoil ON {table}")).await;
    }
    // It moves once nothing is in the way.
    let moved = old.move_to(&url, |_, _| ()).await.unwrap();
    assert_eq!(moved.iter().find(|m| m.table == "members").map(|m| m.rows), Some(8));
    old.close().await;
    assert!(matches!(open(&old_url).await.unwrap_err(), StoreError::Moved { .. }));
    assert_eq!(states(&new, d.no).await.len(), 8);
}

/// The rows of a table, as text that says the same on both engines.
async fn told(store: &Store, table: &str, columns: &[&str]) -> Vec<String> {
    let hex = |c: &&str| store.pool.pick(format!("lower(hex({c}))"), format!("encode({c}, 'hex')"));
    let plain = |c: &&str| format!("COALESCE(CAST({c} AS TEXT), '-')");
    let is_blob = |c: &&str| matches!(*c, "hash" | "sealed");
    let told: Vec<String> = columns.iter().map(|c| if is_blob(c) { hex(c) } else { plain(c) }).collect();
    let told = told.join(" || '|' || ");
    let mut lines = store.probe_lines(format!("SELECT {told} FROM {table}")).await;
    lines.sort_unstable();
    lines
}

/// Thousands of people fill a slice of COPY many times over, a text is longer than one, and
/// a row in the last of them counts like one in the first.
#[tokio::test]
async fn thousands_move_in_many_slices_and_each_row_arrives_as_it_was() {
    const MANY: i64 = 6_000;
    let Some(url) = server_url().await else { return };
    let dir = tempfile::tempdir().unwrap();
    let (old, _) = embedded(&dir, MANY).await;
    let d = planned(&old, MANY, 1_000, 1).await;
    // What has to be escaped, longer than a slice.
    let long = "甲\t\\乙\n".repeat(SLICE / 4);
    execute(&old, format!("INSERT INTO meta (key, value) VALUES ('long', '{long}')")).await;
    let tables: [(&str, &[&str]); 4] = [
        ("addresses", &["id", "kind", "hash", "sealed", "gone"]),
        ("members", &["dispatch_no", "ordinal", "recipient_no", "region_no"]),
        ("deliveries", &["dispatch_no", "ordinal", "channel", "target", "state", "batch", "next_at"]),
        ("recipient_addresses", &["recipient_no", "kind", "address_id"]),
    ];
    let mut before = Vec::new();
    for (table, columns) in tables {
        let lines = told(&old, table, columns).await;
        assert_eq!(i64::try_from(lines.len()).unwrap(), MANY, "{table}");
        before.push(lines);
    }

    let new = open(&url).await.unwrap();
    for sql in [
        format!(
            "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN IF NEW.id = {MANY} - 1 THEN NEW.gone := 1; END IF; RETURN NEW; END $$"
        ),
        "CREATE TRIGGER spoil BEFORE INSERT ON addresses FOR EACH ROW EXECUTE FUNCTION spoil()".to_owned(),
    ] {
        execute(&new, sql).await;
    }
    let error = old.move_to(&url, |_, _| ()).await.unwrap_err();
    assert!(matches!(&error, StoreError::Damaged(text) if text.contains("addresses")), "{error}");
    execute(&new, "DROP TRIGGER spoil ON addresses").await;

    let heard = std::cell::RefCell::new(Vec::new());
    let moved = old.move_to(&url, |done, _| heard.borrow_mut().push(done)).await.unwrap();
    // Each table is told of at its end, and after each slice.
    let (heard, ends) = (heard.into_inner(), moved.len());
    assert!(heard.is_sorted() && heard.len() > ends + 20, "{} times for {ends} tables", heard.len());
    let again = old.probe_lines("SELECT value FROM meta WHERE key = 'long'".into()).await;
    assert!(
        long.len() > 2 * SLICE && again == new.probe_lines("SELECT value FROM meta WHERE key = 'long'".into()).await
    );
    for ((table, columns), before) in tables.iter().zip(before) {
        let sum = moved.iter().find(|m| m.table == *table).unwrap();
        assert_eq!(sum.rows, before.len() as u64);
        assert!(told(&new, table, columns).await == before, "{table} is another");
    }
    // What was sealed over here is opened over there.
    let rest = lease(&new).await;
    let waiting = new.load_batch(rest).await.unwrap();
    assert_eq!((rest.dispatch_no, waiting.len()), (d.no, 1_000));
    for row in &waiting {
        let sealed = row.address_sealed.as_ref().unwrap();
        let phone = new.vault.open_sealed(Owner::Address(row.target), sealed).unwrap();
        assert_eq!(phone, format!("139{:08}", row.target).into_bytes());
    }
}

#[tokio::test]
async fn a_server_is_not_moved() {
    for t in stores().await.iter().filter(|t| t.engine == "postgres") {
        assert!(matches!(t.store.move_to("postgres://x/y", |_, _| ()).await, Err(StoreError::Refused(_))));
    }
}
