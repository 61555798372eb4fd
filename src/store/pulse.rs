//! Signs of life of a database server, on a connection of their own.

use sqlx::Postgres;
use sqlx::pool::PoolConnection;

use super::{Pool, Result, Store};

/// A connection that is used for nothing else.
pub struct Pulse(PoolConnection<Postgres>);

impl Store {
    /// Connects for it; `None` where the store is a file.
    pub async fn pulse(&self) -> Result<Option<Pulse>> {
        match &self.pool {
            Pool::Sqlite { .. } => Ok(None),
            Pool::Postgres(pool) => Ok(Some(Pulse(pool.acquire().await?))),
        }
    }
}

impl Pulse {
    /// Asks for a sign of life; waits for it as long as it takes.
    pub async fn beat(&mut self) -> Result<()> {
        sqlx::query("SELECT 1").execute(&mut *self.0).await?;
        Ok(())
    }
}
