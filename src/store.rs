//! All SQL. One file a subject; every statement runs on SQLite and PostgreSQL.
//!
//! A function here is one fact or one transaction and is named for it. Reads go
//! through `read!`, writes through a [`Tx`] and `run!`; both macros compile the
//! same body for either engine.

#[macro_use]
pub mod pool;
#[macro_use]
mod bulk;
pub mod address;
pub mod audience;
pub mod audit;
pub mod bare;
pub mod batches;
pub mod calls;
pub mod channels;
pub mod crew;
pub mod dispatches;
pub mod doubtful;
pub mod error;
pub mod estimate;
pub mod events;
pub mod gauges;
pub mod groups;
pub mod health;
pub mod intake;
pub mod items;
pub mod leaders;
mod lent;
pub mod lists;
pub mod made_up;
mod marks;
pub mod merges;
pub mod meta;
pub mod migrate;
pub mod moving;
pub mod operators;
pub mod optouts;
pub mod outbox;
pub mod owner;
pub mod partitions;
pub mod points;
pub mod postings;
pub mod posts;
pub mod progress;
pub mod purge;
pub mod reach;
pub mod receipts;
pub mod recipients;
pub mod regions;
pub mod replies;
pub mod schedule;
pub mod schema;
pub mod serving;
pub mod shares;
pub mod sheets;
pub mod silence;
pub mod snapshot;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
pub(crate) mod tests;
mod time;
pub mod trial;
pub mod turn;
pub mod upkeep;
pub mod visits;
pub mod waiting;
pub mod workers;

use std::path::PathBuf;
use std::time::Duration;

pub use error::StoreError;
pub use pool::{Pool, Tx};

use crate::clock::Clock;
use crate::vault::Vault;

/// Longer than the server itself lets anybody wait for a lock.
const PATIENCE: Duration = Duration::from_secs(20);
/// A chunk of the planner's or a page of a large dispatch, on a slow disk, with room.
const LONG_PATIENCE: Duration = Duration::from_mins(3);

/// A result of the store.
pub type Result<T> = std::result::Result<T, StoreError>;

/// The open store: the database, the key to what is sealed in it, and the clock.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) pool: Pool,
    pub vault: Vault,
    pub clock: Clock,
    /// The database file, where the engine is the embedded one.
    pub file: Option<PathBuf>,
}

impl Store {
    /// Opens the database at `url` (`sqlite:PATH` or `postgres://…`), migrates it
    /// to this program's schema, if it is embedded or empty, and checks that the key
    /// belongs to it.
    ///
    /// # Errors
    /// When it cannot be reached, was written by a newer gong, belongs to another key,
    /// is a server's that has to be migrated first, or was moved away.
    pub async fn open(url: &str, vault: Vault, clock: Clock) -> Result<Self> {
        let store = Self::reached(url, vault, clock).await?;
        store.check_moved().await?;
        store.check_key().await?;
        Ok(store)
    }

    /// Opens an embedded store that was moved away.
    ///
    /// # Errors
    /// As `open`, and when it was not moved.
    pub async fn open_moved(url: &str, vault: Vault, clock: Clock) -> Result<Self> {
        let store = Self::reached(url, vault, clock).await?;
        store.need_moved().await?;
        store.check_key().await?;
        Ok(store)
    }

    async fn reached(url: &str, vault: Vault, clock: Clock) -> Result<Self> {
        let (pool, file) = Pool::open(url).await?;
        let mut store = Self { pool, vault, clock, file };
        store.follow_clock().await?;
        migrate::run(&store.pool, store.file.as_deref(), store.now()).await?;
        Ok(store)
    }

    /// Begins a write transaction; it rolls back unless committed.
    ///
    /// # Errors
    /// When the database is busy beyond its time-out or gone.
    pub async fn begin(&self) -> Result<Tx> {
        Ok(self.pool.begin().await?)
    }

    /// The same for the hot path, on a server that keeps to its indexes.
    pub(crate) async fn begin_hot(&self) -> Result<Tx> {
        Ok(self.pool.begin_hot().await?)
    }

    /// Asks a server for what takes it milliseconds, and no longer than `PATIENCE`: a
    /// line can go dead without a word. What was asked may have happened all the same.
    ///
    /// # Errors
    /// When it does not answer, or with what it answers.
    pub async fn soon<T>(&self, asked: impl Future<Output = Result<T>>) -> Result<T> {
        self.within(PATIENCE, asked).await
    }

    /// The same for what may take it minutes.
    ///
    /// # Errors
    /// When it does not answer, or with what it answers.
    pub async fn at_last<T>(&self, asked: impl Future<Output = Result<T>>) -> Result<T> {
        self.within(LONG_PATIENCE, asked).await
    }

    async fn within<T>(&self, limit: Duration, asked: impl Future<Output = Result<T>>) -> Result<T> {
        if let Pool::Sqlite { .. } = self.pool {
            return asked.await;
        }
        tokio::time::timeout(limit, asked).await.unwrap_or(Err(StoreError::Silent(limit.as_secs())))
    }

    /// Starts a task that does little but ask the database. The embedded engine answers
    /// from a thread outside the runtime, and whom that wakes waits behind every task that
    /// is ready, once a statement: there it gets a thread of its own, which is woken at once.
    pub fn spawn(&self, asking: impl Future<Output = ()> + Send + 'static) {
        match self.pool {
            Pool::Sqlite { .. } => {
                let runtime = tokio::runtime::Handle::current();
                drop(tokio::task::spawn_blocking(move || runtime.block_on(asking)));
            }
            Pool::Postgres(..) => drop(tokio::spawn(asking)),
        }
    }

    /// Now, in epoch milliseconds: on a server by the database's clock, which all who
    /// work on it share.
    #[must_use]
    pub fn now(&self) -> crate::clock::Millis {
        self.clock.now()
    }

    /// Closes every connection, after a checkpoint of the embedded store.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}
