//! The two engines behind one enum, and the macros that run one body on either.

use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use sqlx::pool::PoolOptions;
use sqlx::postgres::PgConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqliteSynchronous};
use sqlx::{Connection as _, Database, Executor as _, Row as _, Sqlite, Transaction};
use tokio::sync::Mutex;

use super::lent::{Lent, Server};
use super::{Result, StoreError, address};

/// How long a statement waits for another process's write transaction. Ours stay
/// under 100 ms, so this is patience for a slow disk, not for contention.
const BUSY: Duration = Duration::from_secs(30);
/// The hot path touches rows by their keys, some hundreds at a time. A server that has
/// not counted a table since it grew (a dispatch grows by a million rows within
/// seconds) would rather read it from end to end; and a plan made for any dispatch
/// would lock every partition there is. Who holds a lock and stands still is thrown out
/// before `lock_timeout` ends the wait for it. Sent with the BEGIN, it costs no round trip.
const HOT: &str = "BEGIN; SET LOCAL enable_seqscan = off; SET LOCAL plan_cache_mode = force_custom_plan; \
    SET LOCAL lock_timeout = '12s'";
/// How long a server may take to answer a connection that has nothing to ask.
const PING: Duration = Duration::from_secs(3);
/// A connection that answered this short a time ago is not asked again.
pub(super) const FRESH: Duration = Duration::from_secs(1);
/// How long the last ones may take to give their connections back.
const CLOSES: Duration = Duration::from_secs(10);
const READERS: u32 = 4;
const CONNECTIONS: u32 = 12;
/// Receipt numbers that are reserved at once where that takes a commit.
const RESERVED: i64 = 10_000;

/// The open engine.
#[derive(Debug, Clone)]
pub enum Pool {
    /// One writer, so that writers queue in the process instead of in the file.
    Sqlite {
        read: SqlitePool,
        write: SqlitePool,
        /// Receipt numbers that this process has reserved and not used yet.
        receipts: Arc<Mutex<Range<i64>>>,
    },
    Postgres(Server),
}

/// A write transaction on either engine.
#[derive(Debug)]
pub enum Tx {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Lent),
}

/// Runs a body against the pool: `read!(store, |db| sqlx::query("…").fetch_all(db).await)`.
macro_rules! read {
    ($store:expr, |$db:ident| $body:expr) => {
        match &$store.pool {
            $crate::store::Pool::Sqlite { read, .. } => {
                let $db = read;
                $body
            }
            $crate::store::Pool::Postgres(server) => match $crate::store::lent::Lent::of(server).await {
                Ok(mut lent) => {
                    let $db = &mut *lent;
                    $body
                }
                Err(error) => Err(error.into()),
            },
        }
    };
}

/// Runs a body inside a transaction: `run!(tx, |c| sqlx::query("…").execute(c).await)`.
macro_rules! run {
    ($tx:expr, |$c:ident| $body:expr) => {
        match $tx {
            $crate::store::Tx::Sqlite(t) => {
                let $c = &mut **t;
                $body
            }
            $crate::store::Tx::Postgres(t) => {
                let $c = &mut **t;
                $body
            }
        }
    };
}

/// Executes one statement inside a transaction and returns the rows it touched.
macro_rules! exec {
    ($tx:expr, $query:expr) => {
        run!($tx, |c| $query.execute(c).await.map(|done| done.rows_affected()))
    };
}

/// What is asked of a connection to a server, whoever set it up: its tables lie on
/// flash and in memory, and compiling a statement takes longer than running ours.
/// Whoever looks at the connections sees which process each is of, and which schema.
///
/// A process that stands still, or whose machine is gone, must not keep its locks from
/// the others: between two statements of ours lie milliseconds, so seconds are the end
/// of a transaction, and before a silent engine is taken over. The rest finds a machine
/// that is gone without a word, in a quarter of a minute instead of hours.
fn greeting() -> String {
    let (version, process) = (env!("CARGO_PKG_VERSION"), std::process::id());
    format!(
        "SET random_page_cost = 1.1; SET jit = off; SET idle_in_transaction_session_timeout = '8s'; \
         SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 3; SET tcp_keepalives_count = 3; \
         SET tcp_user_timeout = '15s'; \
         SELECT set_config('application_name', 'gong {version} #{process} ' || COALESCE(current_schema(), ''), false)"
    )
}

/// Whether a connection answers. One whose line is dead never says so by itself.
async fn answers(c: &mut PgConnection) -> sqlx::Result<bool> {
    match tokio::time::timeout(PING, c.ping()).await {
        Ok(answered) => answered.map(|()| true),
        Err(late) => Err(sqlx::Error::Io(late.into())),
    }
}

/// What all pools have in common. Connections are not replaced for their age: the task that
/// would do it can spin for ever, and keep a process from ending (sqlx issue 3645). Whether
/// a line is dead is asked elsewhere, where there is one.
fn options<DB: Database>() -> PoolOptions<DB> {
    PoolOptions::new().acquire_timeout(BUSY).test_before_acquire(false).idle_timeout(None).max_lifetime(None)
}

impl Pool {
    /// Connects; says where the file is when the engine is the embedded one.
    ///
    /// # Errors
    /// When the address is malformed or the database cannot be reached.
    pub async fn open(url: &str) -> Result<(Self, Option<PathBuf>)> {
        if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            let server = address::server(url)?;
            let opened = options()
                .max_connections(CONNECTIONS)
                .before_acquire(|c, meta| {
                    Box::pin(async move { if meta.idle_for < FRESH { Ok(true) } else { answers(c).await } })
                })
                .after_connect(|c: &mut PgConnection, _| {
                    Box::pin(async move { c.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(greeting()))).await.map(drop) })
                })
                .connect_with(server.clone())
                .await;
            return match opened {
                Ok(pool) => Ok((Self::Postgres(Server::of(pool)), None)),
                Err(error) => Err(address::unreachable(url, &server, error).await),
            };
        }
        if !url.starts_with("sqlite:") {
            return Err(StoreError::Url(url.to_owned()));
        }
        let writing = SqliteConnectOptions::from_str(url)?
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // Accepted means on disk: every commit reaches it.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY)
            .foreign_keys(true)
            .pragma("cache_size", "-16000")
            .pragma("temp_store", "MEMORY")
            .pragma("journal_size_limit", "67108864");
        let file = writing.get_filename().to_path_buf();
        super::owner::check(&file)?;
        // After a failed write (a full disk) SQLite has rolled back by itself, and the
        // connection's own count of transactions is off for good: it is replaced.
        let write = options()
            .max_connections(1)
            .before_acquire(|c: &mut SqliteConnection, _| {
                let at_rest = !c.is_in_transaction();
                Box::pin(std::future::ready(Ok(at_rest)))
            })
            .connect_with(writing.clone())
            .await?;
        // The writer goes back to the pages it has just written; readers pass by.
        let reading = writing.pragma("cache_size", "-4000");
        let read = options().max_connections(READERS).connect_with(reading).await?;
        Ok((Self::Sqlite { read, write, receipts: Arc::default() }, Some(file)))
    }

    pub(crate) async fn begin(&self) -> sqlx::Result<Tx> {
        match self {
            Self::Sqlite { write, .. } => write.begin_with("BEGIN IMMEDIATE").await.map(Tx::Sqlite),
            Self::Postgres(server) => Lent::begin(server, "BEGIN").await.map(Tx::Postgres),
        }
    }

    /// Begins a transaction of the hot path.
    pub(crate) async fn begin_hot(&self) -> sqlx::Result<Tx> {
        match self {
            Self::Sqlite { .. } => self.begin().await,
            Self::Postgres(server) => Lent::begin_hot(server, HOT).await.map(Tx::Postgres),
        }
    }

    /// A second connection to a server, where one is free at once: who waited for it while
    /// holding the first could wait for ever.
    pub(super) fn spare(&self) -> Option<Lent> {
        match self {
            Self::Sqlite { .. } => None,
            Self::Postgres(server) => Lent::spare(server),
        }
    }

    /// Takes the next `n` receipt numbers before the transaction that needs them, so that
    /// nobody else waits for that one; returns the first. Numbers of a transaction that
    /// fails are never used, nor those that a process reserved and did not come to use.
    pub(super) async fn reserve_receipts(&self, n: i64) -> Result<i64> {
        match self {
            Self::Sqlite { receipts, .. } => {
                let mut left = receipts.lock().await;
                if left.end - left.start < n {
                    let many = n.max(RESERVED);
                    let mut tx = self.begin().await?;
                    let first = tx.take_numbers("receipt", many).await?;
                    tx.commit().await?;
                    *left = first..first + many;
                }
                left.start += n;
                Ok(left.start - n)
            }
            Self::Postgres(server) => {
                // One round trip and, as one message, one transaction; the disk is not waited
                // for. What a crash loses of it, it loses together with whatever used the numbers.
                let sql = format!(
                    "SET LOCAL synchronous_commit = off; \
                     UPDATE counters SET value = value + {n} WHERE name = 'receipt' RETURNING value"
                );
                let mut lent = Lent::of(server).await?;
                let rows = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).fetch_all(&mut *lent).await?;
                let last: i64 = rows.first().ok_or(sqlx::Error::RowNotFound)?.try_get(0)?;
                Ok(last - n + 1)
            }
        }
    }

    /// Picks the wording of a statement that the engines spell differently.
    pub(crate) fn pick<T>(&self, sqlite: T, postgres: T) -> T {
        match self {
            Self::Sqlite { .. } => sqlite,
            Self::Postgres(..) => postgres,
        }
    }

    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite { read, write, .. } => {
                read.close().await;
                write.close().await;
            }
            // What a part of the engine that was given up still holds never comes back.
            Self::Postgres(server) => {
                server.keep_none();
                drop(tokio::time::timeout(CLOSES, server.pool.close()).await);
            }
        }
    }
}

impl Tx {
    /// Commits: from here on it is on disk.
    ///
    /// # Errors
    /// When the database cannot make it durable; then nothing of it happened.
    pub async fn commit(self) -> Result<()> {
        match self {
            Self::Sqlite(t) => t.commit().await?,
            Self::Postgres(t) => t.commit().await?,
        }
        Ok(())
    }

    /// Picks the wording of a statement that the engines spell differently.
    pub(crate) fn pick<T>(&self, sqlite: T, postgres: T) -> T {
        match self {
            Self::Sqlite(_) => sqlite,
            Self::Postgres(..) => postgres,
        }
    }

    /// Takes the next `n` numbers of `counter` and returns the first.
    ///
    /// # Errors
    /// When the counter does not exist or the database fails.
    pub async fn take_numbers(&mut self, counter: &str, n: i64) -> Result<i64> {
        let last: i64 = run!(self, |c| sqlx::query_scalar(
            "UPDATE counters SET value = value + $2 WHERE name = $1 RETURNING value"
        )
        .bind(counter)
        .bind(n)
        .fetch_one(c)
        .await)?;
        Ok(last - n + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::stores;

    #[tokio::test]
    async fn no_pool_has_the_task_that_may_spin() {
        for t in stores().await {
            let ages = match &t.store.pool {
                Pool::Sqlite { read, write, .. } => [read.options(), write.options()]
                    .map(|o| (o.get_idle_timeout(), o.get_max_lifetime(), o.get_min_connections()))
                    .to_vec(),
                Pool::Postgres(Server { pool, .. }) => {
                    let o = pool.options();
                    vec![(o.get_idle_timeout(), o.get_max_lifetime(), o.get_min_connections())]
                }
            };
            assert!(ages.iter().all(|age| *age == (None, None, 0)), "{ages:?}");
        }
    }
}
