//! A connection to a server, lent by the pool and given back within bounds.
//!
//! The pool asks a connection that comes back whether it still answers, and waits for
//! that as long as it takes: over a line that went dead without a word a place in the
//! pool would be lost each time, and closing the pool would never end.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnection, PgPool};
use sqlx::{Executor as _, Postgres};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::pool::FRESH;

/// How long a connection may take to come back.
const COMES_BACK: Duration = Duration::from_secs(3);
/// How many the hot path keeps: a turn, its handles, and what is loaded meanwhile.
const KEPT: usize = 3;

/// Connections that the hot path has just used, to be used again before all others. The
/// pool goes round: each statement would run in the server process that has rested
/// longest, and whose plans and catalogue the processor has long forgotten.
#[derive(Debug, Clone, Default)]
pub struct Kept(Arc<Mutex<Stack>>);

#[derive(Debug, Default)]
struct Stack {
    connections: Vec<(PoolConnection<Postgres>, Instant)>,
    closed: bool,
}

impl Kept {
    /// The one that was used last, if that was just now; others go back to the pool, which
    /// asks whether they still answer.
    fn take(&self) -> Option<PoolConnection<Postgres>> {
        let mut stack = self.0.lock().ok()?;
        let (connection, since) = stack.connections.pop()?;
        if since.elapsed() < FRESH {
            return Some(connection);
        }
        stack.give_up();
        drop(Lent::new(connection, None));
        None
    }

    /// Keeps it, or gives it back where there are enough.
    fn keep(&self, connection: PoolConnection<Postgres>) -> Option<PoolConnection<Postgres>> {
        let Ok(mut stack) = self.0.lock() else { return Some(connection) };
        if stack.closed || stack.connections.len() >= KEPT {
            return Some(connection);
        }
        stack.connections.push((connection, Instant::now()));
        None
    }

    /// How many lie idle here.
    pub(super) fn idle(&self) -> usize {
        self.0.lock().map_or(0, |stack| stack.connections.len())
    }

    /// Keeps none from now on.
    pub(super) fn close(&self) {
        if let Ok(mut stack) = self.0.lock() {
            stack.closed = true;
            stack.give_up();
        }
    }
}

impl Stack {
    fn give_up(&mut self) {
        for (connection, _) in self.connections.drain(..) {
            drop(Lent::new(connection, None));
        }
    }
}

impl Drop for Stack {
    /// Their pool is gone, and perhaps the runtime: they are closed as they stand.
    fn drop(&mut self) {
        for (connection, _) in self.connections.drain(..) {
            drop(connection.leak());
        }
    }
}

/// A connection that goes back to its pool when this is dropped, or is closed when its
/// line is dead; a transaction that is still open is rolled back first.
#[derive(Debug)]
pub struct Lent {
    /// There until this is dropped.
    connection: Option<PoolConnection<Postgres>>,
    in_transaction: bool,
    /// Where it goes rather than to its pool.
    kept: Option<Kept>,
}

impl Lent {
    fn new(connection: PoolConnection<Postgres>, kept: Option<&Kept>) -> Self {
        Self { connection: Some(connection), in_transaction: false, kept: kept.cloned() }
    }

    pub(crate) async fn of(pool: &PgPool) -> sqlx::Result<Self> {
        Ok(Self::new(pool.acquire().await?, None))
    }

    /// One that is idle.
    pub(super) fn spare(pool: &PgPool, kept: &Kept) -> Option<Self> {
        let connection = kept.take().or_else(|| pool.try_acquire())?;
        Some(Self::new(connection, Some(kept)))
    }

    /// Begins a transaction with this statement, and what is sent with it.
    pub(super) async fn begin(pool: &PgPool, statement: &'static str) -> sqlx::Result<Self> {
        Self::of(pool).await?.in_transaction(statement).await
    }

    /// The same on a connection that was just used, and that stays at hand.
    pub(super) async fn begin_hot(pool: &PgPool, kept: &Kept, statement: &'static str) -> sqlx::Result<Self> {
        let connection = match kept.take() {
            Some(connection) => connection,
            None => pool.acquire().await?,
        };
        Self::new(connection, Some(kept)).in_transaction(statement).await
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
        let kept = self.kept.take();
        if !self.in_transaction
            && let Some(kept) = &kept
        {
            match kept.keep(connection) {
                Some(back) => connection = back,
                None => return,
            }
        }
        // Whoever gives it up while it comes back closes it, and its place is free.
        connection.close_on_drop();
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(timeout(COMES_BACK, come_back(connection, self.in_transaction, kept)));
        }
    }
}

async fn come_back(mut connection: PoolConnection<Postgres>, in_transaction: bool, kept: Option<Kept>) {
    if in_transaction && connection.execute(sqlx::raw_sql("ROLLBACK")).await.is_err() {
        return;
    }
    let back = match kept {
        Some(kept) => kept.keep(connection),
        None => Some(connection),
    };
    if let Some(mut connection) = back {
        connection.return_to_pool().await;
    }
}
