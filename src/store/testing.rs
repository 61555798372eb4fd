//! Stores for the storage tests: SQLite in a fresh folder always, PostgreSQL in a
//! fresh schema when `GONG_TEST_POSTGRES` names a server.

use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;

use super::Store;
use crate::clock::Clock;
use crate::vault::Vault;

/// Monday 2026-06-01 10:00 in Beijing.
pub(crate) const NOON: i64 = 1_780_279_200_000;

/// An open store that cleans up after itself, and the name of its engine.
pub(crate) struct TestStore {
    pub store: Store,
    pub engine: &'static str,
    _dir: TempDir,
}

/// One fresh store an engine, each with a clock held at [`NOON`].
pub(crate) async fn stores() -> Vec<TestStore> {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("gong.db").display());
    let mut all = vec![TestStore { store: open(&url).await, engine: "sqlite", _dir: dir }];
    if let Some(url) = server_url().await {
        all.push(TestStore { store: open(&url).await, engine: "postgres", _dir: tempfile::tempdir().unwrap() });
    }
    all
}

/// The address of a fresh, empty schema, when a server was named.
pub(crate) async fn server_url() -> Option<String> {
    let server = postgres_server()?;
    let schema = format!("t_{}", uuid::Uuid::now_v7().simple());
    let mut admin = PgConnection::connect(&server).await.unwrap();
    sqlx::query(sqlx::AssertSqlSafe(format!("CREATE SCHEMA {schema}"))).execute(&mut admin).await.unwrap();
    let joint = if server.contains('?') { '&' } else { '?' };
    Some(format!("{server}{joint}options[search_path]={schema}"))
}

async fn open(url: &str) -> Store {
    Store::open(url, Vault::from_key(&[7; 32]), Clock::held(NOON)).await.unwrap()
}

#[allow(clippy::disallowed_methods)] // tests have no config file
pub(crate) fn postgres_server() -> Option<String> {
    std::env::var("GONG_TEST_POSTGRES").ok().filter(|url| !url.is_empty())
}

/// How many deliveries make a large table: 100,000, or as `GONG_TEST_DELIVERIES` says.
#[allow(clippy::disallowed_methods)] // tests have no config file
pub(crate) fn many_deliveries() -> i64 {
    std::env::var("GONG_TEST_DELIVERIES").ok().and_then(|n| n.parse().ok()).unwrap_or(100_000)
}

/// Looks straight into the tables, for tests outside the store.
impl Store {
    pub(crate) async fn probe_count(&self, sql: String) -> i64 {
        read!(self, |db| sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(db).await).unwrap()
    }

    /// Writes straight into them.
    pub(crate) async fn probe_write(&self, sql: String) {
        let mut tx = self.begin().await.unwrap();
        exec!(&mut tx, sqlx::query(sqlx::AssertSqlSafe(sql))).unwrap();
        tx.commit().await.unwrap();
    }

    pub(crate) async fn probe_lines(&self, sql: String) -> Vec<String> {
        read!(self, |db| sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(db).await).unwrap()
    }

    /// Runs a statement that only a test has a use for.
    pub(crate) async fn probe_run(&self, sql: &'static str) {
        let mut tx = self.begin().await.unwrap();
        exec!(&mut tx, sqlx::query(sql)).unwrap();
        tx.commit().await.unwrap();
    }

    /// A key and the sealed bytes beside it.
    pub(crate) async fn probe_sealed(&self, sql: &'static str) -> (i64, Vec<u8>) {
        read!(self, |db| sqlx::query_as(sql).fetch_one(db).await).unwrap()
    }
}
