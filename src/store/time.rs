//! The clock of a database that several machines share: what is due and what has expired
//! goes by it, whatever their own clocks show.

use std::time::Instant;

use super::{Pool, Result, Store};
use crate::clock::Clock;

impl Store {
    /// From now on a server's clock is followed in place of the system's.
    pub(super) async fn follow_clock(&mut self) -> Result<()> {
        if let (Pool::Postgres(..), Clock::System) = (&self.pool, &self.clock) {
            // The first question also pays for the connection.
            self.db_now().await?;
            let asked = Instant::now();
            self.clock = Clock::followed(asked, self.db_now().await?);
        }
        Ok(())
    }

    /// Looks at the clock that is followed, if any is; to be done every few seconds.
    pub async fn hear_clock(&self) -> Result<()> {
        if let Clock::Followed(_) = &self.clock {
            let asked = Instant::now();
            self.clock.hear(asked, self.db_now().await?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Millis;
    use crate::store::testing::server_url;
    use crate::vault::Vault;

    const MINUTE: Millis = 60_000;

    /// Makes the clock of a schema's sessions go wrong by so many minutes.
    async fn skew(server: &sqlx::PgPool, minutes: i64) {
        let sql = format!(
            "CREATE OR REPLACE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE sql \
             AS 'SELECT pg_catalog.clock_timestamp() + interval ''{minutes} minutes'''"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(server).await.unwrap();
    }

    #[tokio::test]
    async fn on_a_server_time_is_the_databases() {
        let Some(url) = server_url().await else { return };
        // What the schema has goes before what the system has.
        let url = format!("{url},pg_catalog");
        let server = sqlx::PgPool::connect(&url).await.unwrap();
        let off =
            |store: &Store, minutes: i64| (store.now() - Clock::System.now() - minutes * MINUTE).abs() < MINUTE / 4;
        skew(&server, -40).await;
        let vault = || Vault::from_key(&[7; 32]);
        let store = Store::open(&url, vault(), Clock::System).await.unwrap();
        assert!(off(&store, -40), "this machine's clock is 40 minutes ahead");
        skew(&server, 60).await;
        assert!(off(&store, -40));
        store.hear_clock().await.unwrap();
        assert!(off(&store, 60), "the database's clock has jumped");
        let held = Store::open(&url, vault(), Clock::held(7)).await.unwrap();
        held.hear_clock().await.unwrap();
        assert_eq!(held.now(), 7, "a test's clock is its own");
    }
}
