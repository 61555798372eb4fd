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

/// A server's pool, and beside it connections that the hot path has just used, to be used
/// again before all others. The pool goes round: each statement would run in the server
/// process that has rested longest, and whose plans and catalogue the processor has long
/// forgotten.
#[derive(Debug, Clone)]
pub struct Server {
    pub(super) pool: PgPool,
    stack: Arc<Mutex<Stack>>,
}

#[derive(Debug, Default)]
struct Stack {
    connections: Vec<(PoolConnection<Postgres>, Instant)>,
    closed: bool,
}

impl Server {
    pub(super) fn of(pool: PgPool) -> Self {
        Self { pool, stack: Arc::default() }
    }

    /// From the pool. Where that has none left, what lies idle here goes back first.
    async fn acquire(&self) -> sqlx::Result<PoolConnection<Postgres>> {
        if is_exhausted(&self.pool)
            && let Ok(mut stack) = self.stack.lock()
        {
            stack.give_up();
        }
        self.pool.acquire().await
    }

    /// The one that was used last, if that was just now; others go back to the pool, which
    /// asks whether they still answer.
    fn take(&self) -> Option<PoolConnection<Postgres>> {
        let mut stack = self.stack.lock().ok()?;
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
        let Ok(mut stack) = self.stack.lock() else { return Some(connection) };
        // Others may wait for one at an empty pool.
        if stack.closed || stack.connections.len() >= KEPT || is_exhausted(&self.pool) {
            return Some(connection);
        }
        stack.connections.push((connection, Instant::now()));
        None
    }

    /// How many lie idle here.
    pub(super) fn idle(&self) -> usize {
        self.stack.lock().map_or(0, |stack| stack.connections.len())
    }

    /// Keeps none from now on.
    pub(super) fn keep_none(&self) {
        if let Ok(mut stack) = self.stack.lock() {
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
    /// Who keeps it, rather than give it back to the pool.
    keeper: Option<Server>,
}

impl Lent {
    fn new(connection: PoolConnection<Postgres>, keeper: Option<&Server>) -> Self {
        Self { connection: Some(connection), in_transaction: false, keeper: keeper.cloned() }
    }

    pub(crate) async fn of(server: &Server) -> sqlx::Result<Self> {
        Ok(Self::new(server.acquire().await?, None))
    }

    /// One that is idle.
    pub(super) fn spare(server: &Server) -> Option<Self> {
        let connection = server.take().or_else(|| server.pool.try_acquire())?;
        Some(Self::new(connection, Some(server)))
    }

    /// Begins a transaction with this statement, and what is sent with it.
    pub(super) async fn begin(server: &Server, statement: &'static str) -> sqlx::Result<Self> {
        Self::of(server).await?.in_transaction(statement).await
    }

    /// The same on a connection that was just used, and that stays at hand.
    pub(super) async fn begin_hot(server: &Server, statement: &'static str) -> sqlx::Result<Self> {
        let connection = match server.take() {
            Some(connection) => connection,
            None => server.acquire().await?,
        };
        Self::new(connection, Some(server)).in_transaction(statement).await
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
        let mut keeper = self.keeper.take();
        if !self.in_transaction
            && let Some(keeper) = keeper.take()
        {
            match keeper.keep(connection) {
                Some(back) => connection = back,
                None => return,
            }
        }
        let returning = Returning(Some(connection));
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(timeout(COMES_BACK, returning.come_back(self.in_transaction, keeper)));
        }
    }
}

/// A connection on its way back: whoever gives it up meanwhile closes it, and its place is
/// free.
struct Returning(Option<PoolConnection<Postgres>>);

impl Returning {
    async fn come_back(mut self, in_transaction: bool, keeper: Option<Server>) {
        let Some(connection) = &mut self.0 else { return };
        if in_transaction && connection.execute(sqlx::raw_sql("ROLLBACK")).await.is_err() {
            return;
        }
        if let Some(keeper) = keeper {
            self.0 = self.0.take().and_then(|connection| keeper.keep(connection));
        }
        if let Some(mut connection) = self.0.take() {
            connection.return_to_pool().await;
        }
    }
}

impl Drop for Returning {
    fn drop(&mut self) {
        let Some(mut connection) = self.0.take() else { return };
        if Handle::try_current().is_ok() {
            connection.close_on_drop();
        } else {
            // Nobody is left to say goodbye to the server.
            drop(connection.leak());
        }
    }
}

/// Whoever wants a connection must wait until one comes back.
fn is_exhausted(pool: &PgPool) -> bool {
    pool.num_idle() == 0 && pool.size() >= pool.options().get_max_connections()
}
