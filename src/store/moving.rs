//! Moves an embedded store into an empty PostgreSQL: every table, in one consistent
//! read, compared row by row, and marked so that no engine starts on the old one.

use futures_util::TryStreamExt as _;
use serde::Serialize;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

mod lines;

use self::lines::{Column, Sum, line};
use super::address::shown;
use super::lent::{Lent, Server};
use super::partitions::WIDTH;
use super::upkeep::Restored;
use super::{Pool, Result, Store, StoreError, Tx, migrate};
use crate::say;

/// Where an embedded store went, in `meta`.
const MOVED: &str = "moved_to";
/// Stands in the `meta` of a store while it is being moved into.
const MOVING: &str = "moving";
/// Bytes handed to COPY at once.
pub(super) const SLICE: usize = 1 << 16;

/// One table that was moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MovedTable {
    pub table: String,
    pub rows: u64,
    /// The sum of the hashes of its rows, alike on both sides.
    pub checksum: String,
}

/// A foreign key that is taken off while rows come in any order.
#[derive(sqlx::FromRow)]
struct Reference {
    table: String,
    name: String,
    definition: String,
}

impl Store {
    /// Refuses a store that was moved away, or into by halves.
    pub(super) async fn check_moved(&self) -> Result<()> {
        if let Some(to) = self.meta(MOVED).await? {
            return Err(StoreError::Moved { to });
        }
        match self.meta(MOVING).await? {
            Some(_) => Err(StoreError::HalfMoved),
            None => Ok(()),
        }
    }

    /// Copies every row of this embedded store into the database at `url`, which must
    /// be empty, and marks this one as moved. Nobody can write to it meanwhile; where
    /// anything fails nothing of it is marked and nothing stays in the new one.
    /// `progress` hears (rows copied, rows in all).
    ///
    /// # Errors
    /// When this store is no embedded one, the other is not empty, or what arrived is
    /// not what was sent.
    pub async fn move_to(&self, url: &str, progress: impl Fn(u64, u64)) -> Result<Vec<MovedTable>> {
        let Pool::Sqlite { write, .. } = &self.pool else {
            return Err(StoreError::Refused(say!("这个站点已经在用 PostgreSQL", "this site is on PostgreSQL already")));
        };
        if !url.starts_with("postgres:") && !url.starts_with("postgresql:") {
            return Err(StoreError::Url(url.to_owned()));
        }
        let (pool, _) = Pool::open(url).await?;
        let Pool::Postgres(server) = &pool else { return Err(StoreError::Url(url.to_owned())) };
        migrate::run(&pool, None, self.now()).await?;
        // Whoever wants to write waits, and then finds it moved.
        let mut from = write.begin_with("BEGIN IMMEDIATE").await?;
        let moved = bring(&mut from, server, &progress).await?;
        let to = shown(url);
        sqlx::query("INSERT INTO meta (key, value) VALUES ($1, $2)").bind(MOVED).bind(to).execute(&mut *from).await?;
        from.commit().await?;
        sqlx::query("DELETE FROM meta WHERE key = $1").bind(MOVING).execute(&server.pool).await?;
        sqlx::query("ANALYZE").execute(&server.pool).await?;
        pool.close().await;
        Ok(moved)
    }

    /// Refuses a store that was not moved away.
    pub(super) async fn need_moved(&self) -> Result<()> {
        match self.meta(MOVED).await? {
            Some(_) => Ok(()),
            None => Err(StoreError::Refused(say!(
                "这个数据库没有标记为搬走，没有改动任何东西",
                "this database is not marked as moved; nothing was changed"
            ))),
        }
    }

    /// Goes back to this embedded store, which was moved away. The new one may have sent
    /// since, so everything stands paused here before the mark that holds engines off goes.
    ///
    /// # Errors
    /// When it was not moved, or the database fails; then it stays marked.
    pub async fn take_back(&self, operator: &str) -> Result<Restored> {
        self.need_moved().await?;
        let restored = self.mark_restored(operator).await?;
        let mut tx = self.begin().await?;
        exec!(&mut tx, sqlx::query("DELETE FROM meta WHERE key = $1").bind(MOVED))?;
        tx.commit().await?;
        Ok(restored)
    }
}

/// One transaction over there: all of it arrives, and compares equal, or none of it.
async fn bring(from: &mut SqliteConnection, server: &Server, progress: &impl Fn(u64, u64)) -> Result<Vec<MovedTable>> {
    let tables = tables(from).await?;
    let mut all = 0;
    for table in &tables {
        all += count(from, table).await?;
    }
    let mut tx = Lent::begin(server, "BEGIN").await?;
    // The old one may take its time to be read.
    execute(&mut tx, "SET LOCAL idle_in_transaction_session_timeout = 0".to_owned()).await?;
    refuse_filled(&mut tx, &tables).await?;
    let references = references(&mut tx).await?;
    for r in &references {
        execute(&mut tx, format!("ALTER TABLE {} DROP CONSTRAINT {}", r.table, r.name)).await?;
    }
    execute(&mut tx, "TRUNCATE counters, meta".to_owned()).await?;
    tx = make_ranges(from, tx).await?;
    let (mut done, mut moved) = (0, Vec::with_capacity(tables.len()));
    for table in tables {
        let columns = columns(&mut tx, &table).await?;
        let sent = send(from, &mut tx, (&table, &columns), |rows| progress(done + rows, all)).await?;
        let arrived = read_back(&mut tx, &table, &columns).await?;
        if sent != arrived {
            let (s, a) = (sent.rows, arrived.rows);
            return Err(StoreError::Damaged(say!(
                "{table}：送出 {s} 行，收到 {a} 行，校验和不一致；新数据库里什么都没有留下",
                "{table}: {s} rows were sent and {a} arrived, or their checksums differ; nothing was left in the new database"
            )));
        }
        done += sent.rows;
        moved.push(MovedTable { table, rows: sent.rows, checksum: sent.to_string() });
    }
    for r in &references {
        execute(&mut tx, format!("ALTER TABLE {} ADD CONSTRAINT {} {}", r.table, r.name, r.definition)).await?;
    }
    // Until the old one is marked, nobody may start on the new one.
    sqlx::query("INSERT INTO meta (key, value) VALUES ($1, '1')").bind(MOVING).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(moved)
}

/// Tables of a store, in SQLite's list of them.
async fn tables(from: &mut SqliteConnection) -> Result<Vec<String>> {
    let sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name <> '_sqlx_migrations' ORDER BY name";
    Ok(sqlx::query_scalar(sql).fetch_all(from).await?)
}

async fn count(from: &mut SqliteConnection, table: &str) -> Result<u64> {
    let sql = format!("SELECT COUNT(*) FROM {table}");
    let rows: i64 = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(from).await?;
    Ok(u64::try_from(rows).unwrap_or(0))
}

/// A new schema has counters, and nothing else.
async fn refuse_filled(to: &mut PgConnection, tables: &[String]) -> Result<()> {
    for table in tables.iter().filter(|t| *t != "counters" && *t != "meta") {
        let sql = format!("SELECT EXISTS (SELECT 1 FROM {table})");
        let filled: bool = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut *to).await?;
        if filled {
            return Err(StoreError::Refused(say!(
                "目标数据库不是空的（{table} 里有数据），没有改动任何东西。请另建一个空的数据库",
                "the database to move into is not empty ({table} has rows); nothing was changed. Make an empty one"
            )));
        }
    }
    Ok(())
}

async fn references(to: &mut PgConnection) -> Result<Vec<Reference>> {
    let sql = "SELECT conrelid::regclass::text AS table, quote_ident(conname) AS name, pg_get_constraintdef(oid) AS definition \
               FROM pg_constraint WHERE contype = 'f' AND conparentid = 0 AND connamespace = current_schema()::regnamespace ORDER BY 1, 2";
    Ok(sqlx::query_as(sql).fetch_all(to).await?)
}

async fn execute(to: &mut PgConnection, sql: String) -> Result<()> {
    sqlx::query(AssertSqlSafe(sql)).execute(to).await?;
    Ok(())
}

/// The ranges of the ledger that the old dispatches need.
async fn make_ranges(from: &mut SqliteConnection, tx: Lent) -> Result<Lent> {
    let sql = format!("SELECT DISTINCT no / {WIDTH} * {WIDTH} FROM dispatches");
    let starts: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(from).await?;
    let mut tx = Tx::Postgres(tx);
    for start in starts {
        tx.ready_range(start).await?;
    }
    match tx {
        Tx::Postgres(tx) => Ok(tx),
        Tx::Sqlite(_) => Err(StoreError::Damaged("not a server".to_owned())),
    }
}

async fn columns(to: &mut PgConnection, table: &str) -> Result<Vec<Column>> {
    let sql = "SELECT column_name::text, data_type::text FROM information_schema.columns \
               WHERE table_schema = current_schema() AND table_name = $1 ORDER BY ordinal_position";
    let found: Vec<(String, String)> = sqlx::query_as(sql).bind(table).fetch_all(to).await?;
    found.into_iter().map(|(name, kind)| Column::new(name, &kind)).collect()
}

fn list(columns: &[Column]) -> String {
    columns.iter().map(|c| format!("\"{}\"", c.name)).collect::<Vec<_>>().join(", ")
}

async fn send(
    from: &mut SqliteConnection,
    to: &mut PgConnection,
    (table, columns): (&str, &[Column]),
    progress: impl Fn(u64),
) -> Result<Sum> {
    let list = list(columns);
    let mut copy = to.copy_in_raw(&format!("COPY {table} ({list}) FROM STDIN")).await?;
    let (mut sum, mut out) = (Sum::default(), Vec::with_capacity(SLICE * 2));
    let sql = format!("SELECT {list} FROM {table}");
    let mut rows = sqlx::query(AssertSqlSafe(sql)).fetch(from);
    while let Some(row) = rows.try_next().await? {
        let row: SqliteRow = row;
        let at = out.len();
        line(&row, columns, &mut out)?;
        sum.add(&out[at..]);
        out.push(b'\n');
        if out.len() >= SLICE {
            copy.send(out.as_slice()).await?;
            out.clear();
            progress(sum.rows);
        }
    }
    copy.send(out.as_slice()).await?;
    copy.finish().await?;
    progress(sum.rows);
    Ok(sum)
}

async fn read_back(to: &mut PgConnection, table: &str, columns: &[Column]) -> Result<Sum> {
    let list = list(columns);
    let mut rows = to.copy_out_raw(&format!("COPY (SELECT {list} FROM {table}) TO STDOUT")).await?;
    let (mut sum, mut rest) = (Sum::default(), Vec::new());
    while let Some(bytes) = rows.try_next().await? {
        rest.extend_from_slice(&bytes);
        let mut begun = 0;
        while let Some(end) = rest[begun..].iter().position(|b| *b == b'\n') {
            sum.add(&rest[begun..begun + end]);
            begun += end + 1;
        }
        rest.drain(..begun);
    }
    Ok(sum)
}
