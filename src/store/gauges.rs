//! What the metrics show of the store: work that waits, leases, connections. Read on a
//! timer, a few aggregates over small indexes, never a scan of deliveries.

use std::collections::HashMap;
use std::path::Path;

use super::crew::Crew;
use super::silence::Silence;
use super::{Pool, Result, Store};
use crate::clock::Millis;

/// Receipts looked at for the newest of each channel.
const NEWEST: i64 = 2_000;

const LANES: &str = "SELECT b.channel, b.lane, b.state, COUNT(*) AS batches, CAST(SUM(b.size) AS BIGINT) AS messages, \
     MIN(b.no) AS head, MIN(d.created_at) AS since FROM batches b JOIN dispatches d ON d.no = b.dispatch_no \
     WHERE b.state = 0 AND d.finished_at IS NULL AND d.state = 'active' AND d.expires_at > $1 GROUP BY b.channel, b.lane, b.state \
     UNION ALL SELECT b.channel, b.lane, b.state, COUNT(*), CAST(SUM(b.size) AS BIGINT), MIN(b.no), MIN(d.created_at) \
     FROM batches b JOIN dispatches d ON d.no = b.dispatch_no \
     WHERE b.state = 1 AND d.finished_at IS NULL AND d.state = 'active' AND d.expires_at > $1 GROUP BY b.channel, b.lane, b.state";

/// Batches of one channel and lane in one state that an active dispatch waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct LaneRow {
    pub channel: i32,
    pub lane: i32,
    /// 0 ready, 1 leased.
    pub state: i32,
    pub batches: i64,
    /// Deliveries these batches were made of, those gone through included.
    pub messages: i64,
    /// The oldest batch.
    pub head: i64,
    /// When the oldest dispatch that waits here was started, in epoch milliseconds.
    pub since: Millis,
}

/// Dispatches that have not finished, by lane.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct OpenRow {
    pub lane: i32,
    pub state: String,
    pub n: i64,
    /// How many of them are still being planned.
    pub planning: i64,
}

/// One look at the store.
#[derive(Debug, Default)]
pub struct Gauges {
    pub lanes: Vec<LaneRow>,
    /// Deliveries left in each oldest batch, by the batch's number.
    pub left: HashMap<i64, i64>,
    pub open: Vec<OpenRow>,
    /// Leases that ran out and were not taken over yet.
    pub expired_leases: i64,
    pub unmatched: i64,
    /// The newest receipt of each channel that had one of late, in epoch milliseconds.
    pub newest_receipts: Vec<(i32, Millis)>,
    /// Channels that sent and heard nothing after it.
    pub silences: Vec<Silence>,
    /// The engines on a server store.
    pub crew: Option<Crew>,
}

/// Connections of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolUse {
    pub name: &'static str,
    pub open: u32,
    pub idle: u32,
    pub most: u32,
}

impl Store {
    /// Reads all of it.
    pub async fn gauges(&self) -> Result<Gauges> {
        let now = self.now();
        let lanes: Vec<LaneRow> = read!(self, |db| sqlx::query_as(LANES).bind(now).fetch_all(db).await)?;
        let left = self.left_in(&lanes).await?;
        let open = "SELECT lane, state, COUNT(*) AS n, \
                    CAST(SUM(CASE WHEN phase IN ('snapshot', 'plan') THEN 1 ELSE 0 END) AS BIGINT) AS planning \
                    FROM dispatches WHERE finished_at IS NULL GROUP BY lane, state";
        let open = read!(self, |db| sqlx::query_as(open).fetch_all(db).await)?;
        let leases = "SELECT COUNT(*) FROM batches WHERE state = 1 AND lease_until < $1";
        let db_now = self.db_now().await?;
        let expired_leases = read!(self, |db| sqlx::query_scalar(leases).bind(db_now).fetch_one(db).await)?;
        let newest = "SELECT channel, MAX(received_at) FROM \
                      (SELECT channel, received_at FROM receipts ORDER BY no DESC LIMIT $1) AS late GROUP BY channel";
        let newest_receipts = read!(self, |db| sqlx::query_as(newest).bind(NEWEST).fetch_all(db).await)?;
        let silences = self.silences().await?;
        let unmatched = self.unmatched_receipts().await?;
        let crew = self.crew().await?;
        Ok(Gauges { lanes, left, open, expired_leases, unmatched, newest_receipts, silences, crew })
    }

    /// What is still to go through of the oldest batch of each channel and lane.
    async fn left_in(&self, lanes: &[LaneRow]) -> Result<HashMap<i64, i64>> {
        let heads: Vec<i64> = lanes.iter().map(|l| l.head).collect();
        if heads.is_empty() {
            return Ok(HashMap::new());
        }
        let heads = serde_json::json!(heads).to_string();
        // By the batch alone, whose number is nobody else's: with its dispatch beside it a
        // server that has not counted that yet walks through the whole of it.
        let rows: Vec<(i64, i64)> = match &self.pool {
            Pool::Sqlite { read, .. } => {
                let sql = "SELECT batch, COUNT(*) FROM deliveries WHERE batch IN (SELECT value FROM json_each($1)) \
                           AND batch > 0 AND state = 1 GROUP BY batch";
                sqlx::query_as(sql).bind(heads).fetch_all(read).await?
            }
            Pool::Postgres(..) => {
                let sql = "SELECT batch, COUNT(*) FROM deliveries WHERE batch = ANY (translate($1, '[]', '{}')::bigint[]) \
                           AND batch > 0 AND state = 1 GROUP BY batch";
                let mut tx = self.begin_hot().await?;
                run!(&mut tx, |c| sqlx::query_as(sql).bind(heads).fetch_all(c).await)?
            }
        };
        Ok(rows.into_iter().collect())
    }

    /// Bytes of the database: of the embedded file and its log, or of a server's database
    /// with its indexes. A server looks at each file of it for that: not every second.
    pub async fn database_size(&self) -> Result<i64> {
        match (&self.pool, &self.file) {
            (Pool::Sqlite { .. }, file) => Ok(file.as_deref().map_or(0, file_size)),
            (Pool::Postgres(..), _) => {
                let sql = "SELECT pg_database_size(current_database())";
                Ok(read!(self, |db| sqlx::query_scalar(sql).fetch_one(db).await)?)
            }
        }
    }

    /// How full the pools of this process are.
    #[must_use]
    pub fn pool_use(&self) -> Vec<PoolUse> {
        fn of<D: sqlx::Database>(name: &'static str, pool: &sqlx::Pool<D>, kept: usize) -> PoolUse {
            let idle = u32::try_from(pool.num_idle() + kept).unwrap_or(u32::MAX);
            PoolUse { name, open: pool.size(), idle, most: pool.options().get_max_connections() }
        }
        match &self.pool {
            Pool::Sqlite { read, write, .. } => vec![of("read", read, 0), of("write", write, 0)],
            Pool::Postgres(server) => vec![of("postgres", &server.pool, server.idle())],
        }
    }

    /// Whether this process is to tell an alarm: nobody told it within `repeat`
    /// milliseconds, by the database's clock. Of several processes one is.
    pub async fn claim_alarm(&self, key: &str, repeat: Millis) -> Result<bool> {
        let now = self.db_now().await?;
        let mut tx = self.begin().await?;
        let sql = "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value \
                   WHERE CAST(meta.value AS BIGINT) <= $3";
        let key = format!("alarm:{key}");
        let mine = exec!(&mut tx, sqlx::query(sql).bind(key).bind(now.to_string()).bind(now - repeat))? > 0;
        tx.commit().await?;
        Ok(mine)
    }

    /// Forgets that an alarm was told; says whether it had been.
    pub async fn clear_alarm(&self, key: &str) -> Result<bool> {
        let mut tx = self.begin().await?;
        let key = format!("alarm:{key}");
        let told = exec!(&mut tx, sqlx::query("DELETE FROM meta WHERE key = $1").bind(key))? > 0;
        tx.commit().await?;
        Ok(told)
    }
}

/// Bytes of the embedded database and of its log.
fn file_size(file: &Path) -> i64 {
    let mut log = file.as_os_str().to_owned();
    log.push("-wal");
    let of = |path: &Path| std::fs::metadata(path).map_or(0, |m| m.len());
    i64::try_from(of(file) + of(Path::new(&log))).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::LaneRow;
    use crate::store::testing::{NOON, stores};

    /// Dispatch 1 is active with three batches of lane 0, one leased; dispatch 2 is paused;
    /// dispatch 3 is active, was started later and has one batch there, too.
    const WORLD: &str = "INSERT INTO units (id, name, phone, created_at) VALUES ('u', 'u', '', 0);\
        INSERT INTO items (id, no, kind, version, unit_id, state, created_at, created_by) VALUES ('i', 1, 'alert', 1, 'u', 'approved', 0, '');\
        INSERT INTO dispatches (no, id, item_id, item_version, audience, canonical, mode, lane, plan, state, phase, created_at, created_by, expires_at) VALUES \
        (1, 'a', 'i', 1, '', '', 'live', 0, '{}', 'active', 'plan', 40, '', 9000000000000), \
        (2, 'b', 'i', 1, '', '', 'live', 2, '{}', 'paused', 'done', 10, '', 9000000000000), \
        (3, 'c', 'i', 1, '', '', 'live', 0, '{}', 'active', 'done', 90, '', 9000000000000);\
        INSERT INTO batches (no, dispatch_no, channel, lane, size, state, lease_until) VALUES \
        (1, 1, 1, 0, 10, 2, NULL), (2, 1, 1, 0, 10, 1, 5), (3, 1, 1, 0, 10, 0, NULL), (4, 1, 1, 0, 7, 0, NULL), (5, 2, 1, 2, 9, 0, NULL), (6, 3, 1, 0, 5, 0, NULL);\
        INSERT INTO deliveries (dispatch_no, ordinal, step, channel, target, variant, state, batch) VALUES \
        (1, 1, 0, 1, 1, 0, 1, 2), (1, 2, 0, 1, 2, 0, 1, 2), (1, 3, 0, 1, 3, 0, 4, 2), (1, 4, 0, 1, 4, 0, 1, 3);\
        INSERT INTO receipts (no, channel, received_at, gateway_id, state, code) VALUES (1, 1, 500, 'x', 4, ''), (2, 1, 700, 'y', 4, '')";

    #[tokio::test]
    async fn what_waits_is_counted_by_channel_and_lane() {
        for t in stores().await {
            let mut tx = t.store.begin().await.unwrap();
            for sql in WORLD.split(';') {
                run!(&mut tx, |c| sqlx::query(sqlx::AssertSqlSafe(sql.to_owned())).execute(c).await.map(|_| ()))
                    .unwrap();
            }
            tx.commit().await.unwrap();
            let mut seen = t.store.gauges().await.unwrap();
            seen.lanes.sort_by_key(|l| l.state);
            let row = |state, batches, messages, head| LaneRow {
                channel: 1,
                lane: 0,
                state,
                batches,
                messages,
                head,
                since: 40,
            };
            assert_eq!(seen.lanes, [row(0, 3, 22, 3), row(1, 1, 10, 2)], "{}", t.engine);
            assert_eq!((seen.left[&2], seen.left[&3]), (2, 1), "{}", t.engine);
            assert_eq!((seen.expired_leases, seen.unmatched), (1, 2), "{}", t.engine);
            assert_eq!(seen.newest_receipts, [(1, 700)], "{}", t.engine);
            seen.open.sort_by_key(|o| o.lane);
            let open: Vec<_> = seen.open.iter().map(|o| (o.lane, o.state.as_str(), o.n, o.planning)).collect();
            assert_eq!(open, [(0, "active", 2, 1), (2, "paused", 1, 0)], "{}", t.engine);
            assert!(t.store.now() == NOON && t.store.pool_use().iter().all(|p| p.open >= 1 && p.most >= p.open));
        }
    }

    #[tokio::test]
    async fn a_database_has_a_size_that_grows() {
        for t in stores().await {
            let before = t.store.database_size().await.unwrap();
            let many = t.store.pool.pick(
                "WITH RECURSIVE g (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM g WHERE i < 20000) \
                 INSERT INTO meta (key, value) SELECT 'k' || i, '0123456789012345678901234567890123456789' FROM g",
                "INSERT INTO meta (key, value) SELECT 'k' || i, '0123456789012345678901234567890123456789' FROM generate_series(1, 20000) i",
            );
            t.store.probe_run(many).await;
            let after = t.store.database_size().await.unwrap();
            assert!(before > 100_000 && after > before + 1_000_000, "{}: {before} {after}", t.engine);
        }
    }

    #[tokio::test]
    async fn batches_that_are_done_are_not_looked_at() {
        let t = &stores().await[0];
        let sql = format!("EXPLAIN QUERY PLAN {}", super::LANES);
        let steps: Vec<(i64, i64, i64, String)> =
            read!(t.store, |db| sqlx::query_as(sqlx::AssertSqlSafe(sql.replace("$1", "1"))).fetch_all(db).await)
                .unwrap();
        let steps: Vec<String> =
            steps.into_iter().map(|s| s.3).filter(|s| s.contains(" b ") || s.ends_with(" b")).collect();
        assert!(steps.len() == 2 && steps.iter().all(|s| s.contains("INDEX batches_")), "{steps:?}");
    }

    #[tokio::test]
    async fn an_alarm_is_told_by_one_process_and_again_after_its_interval() {
        for t in stores().await {
            let claim = async |repeat| t.store.claim_alarm("lane:sms:immediate", repeat).await.unwrap();
            assert!(claim(60_000).await);
            assert!(!claim(60_000).await, "{}: told a moment ago", t.engine);
            assert!(claim(-1).await, "{}: its interval is over", t.engine);
            assert!(t.store.clear_alarm("lane:sms:immediate").await.unwrap());
            assert!(!t.store.clear_alarm("lane:sms:immediate").await.unwrap(), "{}", t.engine);
            assert!(claim(60_000).await);
        }
    }
}
