//! The two folders of migrations make the same schema.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use gong::clock::Clock;
use gong::store::{Store, StoreError, migrate};
use gong::vault::Vault;
use sqlx::migrate::Migrator;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Row as _, SqlitePool};

use crate::source;
use crate::support::{Gong, postgres_server};

/// What a schema consists of, in words that both engines share: `table.column` or
/// the columns of an index, and what is said of it.
type Schema = BTreeMap<String, String>;

/// A server enters a gateway's ids by their hash and without a key, where one file keeps
/// the rows in the order of theirs.
const HANDLES: [(&str, &str); 2] = [
    ("index of handles on (dispatch_no ordinal attempt) handles_delivery", "unique=false primary=false partial=true"),
    ("index of handles on (gateway_id) handles_gateway", "unique=false primary=false partial=false"),
];

fn is_of_handles(what: &str) -> bool {
    what.starts_with("index of handles ")
}

#[test]
fn both_folders_hold_the_same_numbers() {
    let names = |engine: &str| -> Vec<String> {
        let folder = format!("migrations/{engine}");
        source::files(&folder).iter().map(|f| f.path.rsplit('/').next().unwrap().to_owned()).collect()
    };
    let sqlite = names("sqlite");
    assert!(!sqlite.is_empty());
    assert_eq!(sqlite, names("postgres"));
}

#[tokio::test]
async fn both_engines_get_the_same_schema() {
    let sqlite = sqlite_schema().await;
    assert!(sqlite.len() > 100, "only {} facts found", sqlite.len());
    let Some(server) = postgres_server() else {
        return;
    };
    let postgres = postgres_schema(&server).await;
    let mut differences = Vec::new();
    for (what, here) in sqlite.iter().filter(|(what, _)| !is_of_handles(what)) {
        let there = postgres.get(what).map_or("absent", String::as_str);
        // A lone INTEGER PRIMARY KEY is SQLite's rowid: 64 bits, whatever it is called.
        let same = ["bigint", "integer"].iter().any(|kind| here.replace("rowid", kind) == there);
        if !same {
            differences.push(format!("{what}: {here} in SQLite, {there} in PostgreSQL"));
        }
    }
    let missing = postgres.keys().filter(|what| !sqlite.contains_key(*what) && !is_of_handles(what));
    differences.extend(missing.map(|what| format!("{what}: only in PostgreSQL")));
    assert!(differences.is_empty(), "\n{}", differences.join("\n"));
    let of_handles = postgres.iter().filter(|(what, _)| is_of_handles(what));
    assert_eq!(of_handles.map(|(what, how)| (what.as_str(), how.as_str())).collect::<Vec<_>>(), HANDLES);
}

/// No file may grow beyond a limit, as on a full disk: the program refuses, and the
/// database is what it was.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_the_program_does_not_migrate() {
    let gong = Gong::new();
    gong.run(["init", "--name", "某局", "--phone", "0873-5550000"]).ok();
    let file = gong.dir().join("data/gong.db");
    std::fs::remove_file(&file).unwrap();
    let options = SqliteConnectOptions::new().filename(&file).create_if_missing(true);
    let pool = SqlitePool::connect_with(options.clone()).await.unwrap();
    let all = Migrator::new(Path::new("migrations/sqlite")).await.unwrap();
    all.run_to(1, &pool).await.unwrap();
    sqlx::query("INSERT INTO channels (no, name) VALUES (1, hex(randomblob(500000)))").execute(&pool).await.unwrap();
    pool.close().await;
    let mut command = Command::new("sh");
    let script = "trap '' XFSZ; ulimit -f 400; exec \"$0\" status";
    let done = command.args(["-c", script, env!("CARGO_BIN_EXE_gong")]).current_dir(gong.dir()).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(!done.status.success() && said.contains("备份没有成功"), "{said}");
    let pool = SqlitePool::connect_with(options).await.unwrap();
    let version: i64 = sqlx::query_scalar("SELECT MAX(version) FROM _sqlx_migrations").fetch_one(&pool).await.unwrap();
    assert_eq!(version, 1);
    let names = std::fs::read_dir(file.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name());
    let left: Vec<_> = names.filter(|n| n.to_string_lossy().contains("before-migration")).collect();
    assert!(left.is_empty(), "a broken copy was left behind: {left:?}");
}

async fn open_once(url: &str) {
    let store = Store::open(url, Vault::from_key(&[7; 32]), Clock::System).await.unwrap();
    store.close().await;
}

async fn sqlite_schema() -> Schema {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("gong.db").display());
    open_once(&url).await;
    let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
    // A rowid table lets its key be NULL on paper; PostgreSQL never does.
    let columns = "SELECT t.name, c.name, CASE WHEN c.type = 'INTEGER' AND c.pk > 0
            AND (SELECT COUNT(*) FROM pragma_table_info(t.name) WHERE pk > 0) = 1 THEN 'rowid' ELSE c.type END, c.\"notnull\" OR c.pk > 0, COALESCE(c.dflt_value, '')
         FROM sqlite_schema t, pragma_table_info(t.name) c
         WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%' AND t.name <> '_sqlx_migrations'";
    // Keys come from the table: a rowid alias (INTEGER PRIMARY KEY) has no index to list.
    let indexes = "SELECT t.name, CASE i.origin WHEN 'c' THEN i.name ELSE '' END, i.\"unique\", 0, i.partial,
            (SELECT group_concat(name, ' ') FROM (SELECT name FROM pragma_index_info(i.name) ORDER BY seqno))
         FROM sqlite_schema t, pragma_index_list(t.name) i
         WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%' AND t.name <> '_sqlx_migrations' AND i.origin <> 'pk'
         UNION ALL
         SELECT t.name, '', 1, 1, 0,
            (SELECT group_concat(name, ' ') FROM (SELECT name FROM pragma_table_info(t.name) WHERE pk > 0 ORDER BY pk)) AS key
         FROM sqlite_schema t
         WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%' AND t.name <> '_sqlx_migrations' AND key IS NOT NULL";
    let mut schema = Schema::new();
    for row in sqlx::query(columns).fetch_all(&pool).await.unwrap() {
        let default: String = row.get(4);
        add_column(&mut schema, (row.get(0), row.get(1)), row.get(2), row.get(3), &default);
    }
    for row in sqlx::query(indexes).fetch_all(&pool).await.unwrap() {
        let flags = [row.get(2), row.get(3), row.get(4)];
        add_index(&mut schema, row.get(0), row.get(1), row.get(5), flags);
    }
    schema
}

async fn postgres_schema(server: &str) -> Schema {
    let name = format!("it_{}", uuid::Uuid::now_v7().simple());
    let admin = crate::support::pool(server).await;
    sqlx::query(AssertSqlSafe(format!("CREATE SCHEMA {name}"))).execute(&admin).await.unwrap();
    let joint = if server.contains('?') { '&' } else { '?' };
    open_once(&format!("{server}{joint}options[search_path]={name}")).await;
    let columns = "SELECT table_name::text, column_name::text, data_type::text, is_nullable = 'NO', COALESCE(column_default, '')::text
         FROM information_schema.columns WHERE table_schema = $1 AND table_name <> '_sqlx_migrations'
         AND (SELECT relkind IN ('r', 'p') AND NOT relispartition FROM pg_class WHERE oid = format('%I.%I', table_schema, table_name)::regclass)";
    let indexes = "SELECT t.relname::text,
            CASE WHEN EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conindid = x.indexrelid AND k.contype IN ('p', 'u'))
                 THEN '' ELSE i.relname::text END,
            x.indisunique, x.indisprimary, x.indpred IS NOT NULL,
            (SELECT string_agg(pg_get_indexdef(x.indexrelid, n, true), ' ' ORDER BY n) FROM generate_series(1, x.indnkeyatts) n)
         FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid
         JOIN pg_namespace s ON s.oid = t.relnamespace
         WHERE s.nspname = $1 AND t.relname <> '_sqlx_migrations' AND NOT t.relispartition";
    let mut schema = Schema::new();
    for row in sqlx::query(columns).bind(&name).fetch_all(&admin).await.unwrap() {
        let default: String = row.get(4);
        add_column(&mut schema, (row.get(0), row.get(1)), row.get(2), row.get(3), &default);
    }
    for row in sqlx::query(indexes).bind(&name).fetch_all(&admin).await.unwrap() {
        let flags = [row.get(2), row.get(3), row.get(4)];
        add_index(&mut schema, row.get(0), row.get(1), row.get(5), flags);
    }
    sqlx::query(AssertSqlSafe(format!("DROP SCHEMA {name} CASCADE"))).execute(&admin).await.unwrap();
    schema
}

/// A server's database as the release before the ranges left it, with two dispatches.
async fn without_ranges(admin: &sqlx::PgPool) {
    let all = Migrator::new(Path::new("migrations/postgres")).await.unwrap();
    all.run_to(4, admin).await.unwrap();
    for sql in [
        "UPDATE counters SET value = 250 WHERE name = 'dispatch'",
        "INSERT INTO deliveries (dispatch_no, ordinal, step, channel, target, variant, state, batch) SELECT d, o, 0, 1, o, 0, 5, 1
         FROM unnest(ARRAY[1, 250]) d, generate_series(1, 1000) o",
        "INSERT INTO handles (channel, gateway_id, dispatch_no, ordinal, attempt, part, parts) SELECT channel, 'g' || ordinal, dispatch_no, ordinal, 1, 1, 1 FROM deliveries",
        "ANALYZE deliveries",
    ] {
        sqlx::query(sql).execute(admin).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_is_migrated_when_told_to_and_keeps_its_rows_in_ranges() {
    let Some(server) = postgres_server() else { return };
    let name = format!("it_{}", uuid::Uuid::now_v7().simple());
    let admin = crate::support::pool(&server).await;
    sqlx::query(AssertSqlSafe(format!("CREATE SCHEMA {name}"))).execute(&admin).await.unwrap();
    let joint = if server.contains('?') { '&' } else { '?' };
    let url = format!("{server}{joint}options[search_path]={name}");
    let direct = crate::support::pool(&url).await;
    without_ranges(&direct).await;
    let refused = Store::open(&url, Vault::from_key(&[7; 32]), Clock::System).await.unwrap_err();
    assert!(matches!(refused, StoreError::Older { .. }), "{refused}");
    let before = migrate::status(&url, 0).await.unwrap();
    let pending: Vec<i64> = before.steps.iter().filter(|s| s.applied_at.is_none()).map(|s| s.version).collect();
    assert_eq!(pending.first(), Some(&5), "{before:?}");
    migrate::migrate(&url, 0).await.unwrap();
    let after = migrate::status(&url, 0).await.unwrap();
    assert!(after.found == after.known && after.steps.iter().all(|s| s.applied_at.is_some()), "{after:?}");
    Store::open(&url, Vault::from_key(&[7; 32]), Clock::System).await.unwrap().close().await;

    let count = async |sql: &'static str| -> i64 { sqlx::query_scalar(sql).fetch_one(&direct).await.unwrap() };
    assert_eq!(count("SELECT COUNT(*) FROM deliveries").await, 2_000);
    assert_eq!(count("SELECT COUNT(*) FROM deliveries_0").await, 2_000);
    assert_eq!(count("SELECT COUNT(*) FROM handles_0").await, 2_000);
    let bounds: String =
        sqlx::query_scalar("SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE oid = 'deliveries_0'::regclass")
            .fetch_one(&direct)
            .await
            .unwrap();
    assert_eq!(bounds, "FOR VALUES FROM ('0') TO ('300')");
    // Every index of the whole has its part, so that none is missing on what was there.
    let parts = "SELECT COUNT(*) FROM pg_index w JOIN pg_inherits h ON h.inhparent = w.indexrelid WHERE w.indrelid = 'deliveries'::regclass";
    assert_eq!(
        count(parts).await,
        count("SELECT COUNT(*) FROM pg_index WHERE indrelid = 'deliveries'::regclass").await
    );
    let counted = "SELECT COUNT(*) FROM pg_stats WHERE tablename = 'deliveries_0' AND attname = 'dispatch_no' AND schemaname = current_schema()";
    assert_eq!(count(counted).await, 0, "what was counted of dispatch numbers is believed still");
    sqlx::query(AssertSqlSafe(format!("DROP SCHEMA {name} CASCADE"))).execute(&admin).await.unwrap();
}

fn add_column(schema: &mut Schema, (table, column): (String, String), kind: &str, required: bool, default: &str) {
    let kind = kind.to_lowercase().replace("bytea", "blob");
    // PostgreSQL writes a default with its type: `'-1'::integer`, `''::text`.
    let default = default.split("::").next().unwrap_or_default().trim_matches('\'');
    let null = if required { "not null" } else { "null" };
    schema.insert(format!("{table}.{column}"), format!("{kind} {null} default [{default}]"));
}

fn add_index(schema: &mut Schema, table: &str, name: &str, columns: &str, flags: [bool; 3]) {
    let [unique, primary, partial] = flags;
    let what = format!("index of {table} on ({columns}) {name}");
    schema.insert(what, format!("unique={unique} primary={primary} partial={partial}"));
}
