//! The engines on a server store, as they tell of themselves every second.

use super::{Result, Store};
use crate::clock::Millis;
use crate::domain::share::Report;

/// An engine that is there, or was lately.
#[derive(Debug, Clone, PartialEq)]
pub struct Engine {
    /// As in the leases it holds.
    pub owner: String,
    pub host: String,
    pub pid: i64,
    /// Comma-separated.
    pub roles: String,
    pub started_at: Millis,
    /// Milliseconds since it was last heard of.
    pub silent_ms: Millis,
    pub reports: Vec<Report>,
}

/// What an engine is, the same all its life.
#[derive(Debug, Clone)]
pub struct Identity {
    pub owner: String,
    pub host: String,
    pub pid: i64,
    /// Comma-separated.
    pub roles: String,
}

#[derive(sqlx::FromRow)]
struct Row {
    owner: String,
    host: String,
    pid: i64,
    roles: String,
    started_at: Millis,
    silent_ms: Millis,
    report: String,
}

impl Store {
    /// Says that an engine is there, and what its channels could do with.
    pub async fn engine_seen(&self, me: &Identity, reports: &[Report]) -> Result<()> {
        let now = self.pool.clock();
        let sql = format!(
            "INSERT INTO workers (owner, host, pid, roles, started_at, seen_at, report) VALUES ($1, $2, $3, $4, {now}, {now}, $5) \
             ON CONFLICT (owner) DO UPDATE SET seen_at = excluded.seen_at, report = excluded.report"
        );
        let report = serde_json::json!(reports).to_string();
        let mut tx = self.begin().await?;
        exec!(
            &mut tx,
            sqlx::query(sqlx::AssertSqlSafe(sql))
                .bind(&me.owner)
                .bind(&me.host)
                .bind(me.pid)
                .bind(&me.roles)
                .bind(report)
        )?;
        tx.commit().await
    }

    /// Forgets an engine that has drained: nothing of it is under way.
    pub async fn engine_left(&self, owner: &str) -> Result<()> {
        let mut tx = self.begin().await?;
        exec!(&mut tx, sqlx::query("DELETE FROM workers WHERE owner = $1").bind(owner))?;
        tx.commit().await
    }

    /// Forgets engines that were not heard of for `millis`. Returns how many.
    pub async fn forget_engines(&self, millis: Millis) -> Result<u64> {
        let sql = format!("DELETE FROM workers WHERE seen_at < {} - $1", self.pool.clock());
        let mut tx = self.begin().await?;
        let gone = exec!(&mut tx, sqlx::query(sqlx::AssertSqlSafe(sql)).bind(millis))?;
        tx.commit().await?;
        Ok(gone)
    }

    /// Every engine that is there or was lately, the oldest first.
    pub async fn engines(&self) -> Result<Vec<Engine>> {
        let sql = format!(
            "SELECT owner, host, pid, roles, started_at, {} - seen_at AS silent_ms, report FROM workers ORDER BY started_at, owner",
            self.pool.clock()
        );
        let rows: Vec<Row> = read!(self, |db| sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(db).await)?;
        let engine = |r: Row| Engine {
            // A newer gong may report what this one cannot read; it then counts as idle.
            reports: serde_json::from_str(&r.report).unwrap_or_default(),
            owner: r.owner,
            host: r.host,
            pid: r.pid,
            roles: r.roles,
            started_at: r.started_at,
            silent_ms: r.silent_ms,
        };
        Ok(rows.into_iter().map(engine).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::stores;

    #[tokio::test]
    async fn engines_come_tell_and_go() {
        for t in stores().await {
            let me = |owner: &str| Identity {
                owner: owner.to_owned(),
                host: "甲".to_owned(),
                pid: 7,
                roles: "workers".to_owned(),
            };
            t.store.engine_seen(&me("a"), &[]).await.unwrap();
            let report = Report { channel: 3, seq: 2, lane: Some(0), want: None, used: 12.5 };
            t.store.engine_seen(&me("a"), &[report]).await.unwrap();
            t.store.engine_seen(&me("b"), &[]).await.unwrap();
            let all = t.store.engines().await.unwrap();
            assert_eq!(all.iter().map(|e| e.owner.as_str()).collect::<Vec<_>>(), ["a", "b"], "{}", t.engine);
            assert_eq!(all[0].reports, [report]);
            assert!((0..5_000).contains(&all[0].silent_ms), "{}", all[0].silent_ms);
            t.store.engine_left("a").await.unwrap();
            assert_eq!(t.store.forget_engines(60_000).await.unwrap(), 0);
            assert_eq!(t.store.forget_engines(-60_000).await.unwrap(), 1);
            assert_eq!(t.store.engines().await.unwrap(), []);
        }
    }
}
