//! A connection to a server, lent by the pool and given back within bounds.
//!
//! The pool asks a connection that comes back whether it still answers, and waits for
//! that as long as it takes: over a line that went dead without a word a place in the
//! pool would be lost each time, and closing the pool would never end.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnection, PgPool};
use sqlx::{Executor as _, Postgres};
use tokio::runtime::Handle;
use tokio::time::timeout;

/// How long a connection may take to come back.
const COMES_BACK: Duration = Duration::from_secs(3);

/// A connection that goes back to its pool when this is dropped, or is closed when its
/// line is dead; a transaction that is still open is rolled back first.
#[derive(Debug)]
pub struct Lent {
    /// There until this is dropped.
    connection: Option<PoolConnection<Postgres>>,
    in_transaction: bool,
}

impl Lent {
    pub(crate) async fn of(pool: &PgPool) -> sqlx::Result<Self> {
        Ok(Self { connection: Some(pool.acquire().await?), in_transaction: false })
    }

    /// One that is idle.
    pub(super) fn spare(pool: &PgPool) -> Option<Self> {
        pool.try_acquire().map(|connection| Self { connection: Some(connection), in_transaction: false })
    }

    /// Begins a transaction with this statement, and what is sent with it.
    pub(super) async fn begin(pool: &PgPool, statement: &'static str) -> sqlx::Result<Self> {
        Self::of(pool).await?.in_transaction(statement).await
    }

    pub(super) async fn in_transaction(mut self, statement: &'static str) -> sqlx::Result<Self> {
        self.in_transaction = true;
        self.execute(sqlx::raw_sql(statement)).await?;
        Ok(self)
    }

    pub(super) async fn commit(mut self) -> sqlx::Result<()> {
        self.execute(sqlx::raw_sql("COMMIT")).await?;
        self.in_transaction = false;
        Ok(())
    }
}

impl Deref for Lent {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.connection.as_ref().unwrap_or_else(|| unreachable!("it is there until the end"))
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.connection.as_mut().unwrap_or_else(|| unreachable!("it is there until the end"))
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        // Whoever gives it up while it comes back closes it, and its place is free.
        connection.close_on_drop();
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(timeout(COMES_BACK, come_back(connection, self.in_transaction)));
        }
    }
}

async fn come_back(mut connection: PoolConnection<Postgres>, in_transaction: bool) {
    if in_transaction && connection.execute(sqlx::raw_sql("ROLLBACK")).await.is_err() {
        return;
    }
    connection.return_to_pool().await;
}
