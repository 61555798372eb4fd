//! The batch row as the outbox of a message broker: what is to be published, what the
//! broker confirmed, what a message may claim. The store is the truth; a message that
//! is lost, doubled or late changes nothing here.

use std::collections::HashSet;

use serde_json::json;

use super::batches::{LEASE, Lease};
use super::{Result, Store};
use crate::clock::Millis;

/// What a message of the broker says: a batch, and the epoch it was ready with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket {
    pub batch: i64,
    pub epoch: i64,
}

/// A queue of the broker: a channel and a lane, by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneOf {
    pub channel: i32,
    pub lane: i32,
}

/// How many ready batches of one queue the broker has confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct Published {
    pub channel: i32,
    pub lane: i32,
    pub n: i64,
    /// Those confirmed before the first and before the second of the times asked for.
    pub before_first: i64,
    pub before_second: i64,
}

/// The pairs of a JSON text: (batch, epoch).
const PAIRS_SQLITE: &str = "SELECT value->>0, value->>1 FROM json_each($1)";
const PAIRS_POSTGRES: &str = "SELECT (j->>0)::bigint, (j->>1)::bigint FROM json_array_elements($1::json) j";

/// Of every queue asked for, its oldest batches that are not published and may go.
pub(super) const UNPUBLISHED_SQLITE: &str = "SELECT b.channel, b.lane, b.no, b.epoch FROM json_each($1) q CROSS JOIN batches b ON b.no IN \
     (SELECT x.no FROM batches x CROSS JOIN dispatches d ON d.no = x.dispatch_no WHERE x.channel = q.value->>0 AND x.lane = q.value->>1 \
      AND x.state = 0 AND x.published_epoch <> x.epoch AND d.state = 'active' AND d.expires_at > $2 \
      AND NOT EXISTS (SELECT 1 FROM channels c WHERE c.no = x.channel AND c.paused <> 0) ORDER BY x.no LIMIT $3)";
const UNPUBLISHED_POSTGRES: &str = "SELECT (q->>0)::int, (q->>1)::int, b.no, b.epoch FROM json_array_elements($1::json) q CROSS JOIN LATERAL \
     (SELECT x.no, x.epoch FROM batches x JOIN dispatches d ON d.no = x.dispatch_no WHERE x.channel = (q->>0)::int AND x.lane = (q->>1)::int \
      AND x.state = 0 AND x.published_epoch <> x.epoch AND d.state = 'active' AND d.expires_at > $2 \
      AND NOT EXISTS (SELECT 1 FROM channels c WHERE c.no = x.channel AND c.paused <> 0) ORDER BY x.no LIMIT $3) b";
pub(super) const PUBLISHED: &str = "SELECT channel, lane, COUNT(*) AS n, \
     CAST(SUM(CASE WHEN published_at < $1 THEN 1 ELSE 0 END) AS BIGINT) AS before_first, \
     CAST(SUM(CASE WHEN published_at < $2 THEN 1 ELSE 0 END) AS BIGINT) AS before_second \
     FROM batches WHERE state = 0 AND published_epoch = epoch GROUP BY channel, lane";

impl Store {
    /// Ready batches of active dispatches that no message stands for, at most `most` a
    /// queue, the most urgent first; none of a paused channel.
    pub async fn unpublished(&self, queues: &[LaneOf], most: i64) -> Result<Vec<(LaneOf, Ticket)>> {
        if queues.is_empty() {
            return Ok(Vec::new());
        }
        let sql = self.pool.pick(UNPUBLISHED_SQLITE, UNPUBLISHED_POSTGRES);
        let (queues, now) = (json!(queues.iter().map(|q| (q.channel, q.lane)).collect::<Vec<_>>()), self.now());
        let rows: Vec<(i32, i32, i64, i64)> =
            read!(self, |db| sqlx::query_as(sql).bind(queues.to_string()).bind(now).bind(most).fetch_all(db).await)?;
        let mut all: Vec<_> = rows
            .into_iter()
            .map(|(channel, lane, batch, epoch)| (LaneOf { channel, lane }, Ticket { batch, epoch }))
            .collect();
        all.sort_unstable_by_key(|(of, ticket)| (of.lane, ticket.batch));
        Ok(all)
    }

    /// The broker confirmed messages of these. Returns how many were still ready.
    pub async fn confirm_published(&self, tickets: &[Ticket]) -> Result<u64> {
        let now = self.now();
        self.change_ready(tickets, &format!("published_epoch = epoch, published_at = {now}")).await
    }

    /// No message stands for these any more: the relay publishes them when they may go.
    /// Returns how many were still ready.
    pub async fn unpublish(&self, tickets: &[Ticket]) -> Result<u64> {
        self.change_ready(tickets, "published_epoch = -1").await
    }

    async fn change_ready(&self, tickets: &[Ticket], change: &str) -> Result<u64> {
        if tickets.is_empty() {
            return Ok(0);
        }
        let mut tx = self.begin().await?;
        let pairs = tx.pick(PAIRS_SQLITE, PAIRS_POSTGRES);
        let sql = format!("UPDATE batches SET {change} WHERE (no, epoch) IN ({pairs}) AND state = 0");
        let changed = exec!(&mut tx, sqlx::query(sqlx::AssertSqlSafe(sql)).bind(pairs_of(tickets)))?;
        tx.commit().await?;
        Ok(changed)
    }

    /// How many ready batches each queue should hold messages of, and how many of them
    /// were confirmed before each of two times.
    pub async fn published(&self, first: Millis, second: Millis) -> Result<Vec<Published>> {
        Ok(read!(self, |db| sqlx::query_as(PUBLISHED).bind(first).bind(second).fetch_all(db).await)?)
    }

    /// Takes back the word that the broker holds the `most` longest confirmed batches of
    /// a queue, confirmed before `before`: it lost them. Returns how many.
    pub async fn publish_again(&self, of: LaneOf, before: Millis, most: i64) -> Result<u64> {
        let mut tx = self.begin().await?;
        let sql = "UPDATE batches SET published_epoch = -1 WHERE state = 0 AND published_epoch = epoch AND no IN \
                   (SELECT no FROM batches WHERE channel = $1 AND lane = $2 AND state = 0 AND published_epoch = epoch \
                    AND published_at < $3 ORDER BY published_at, no LIMIT $4)";
        let again = exec!(&mut tx, sqlx::query(sql).bind(of.channel).bind(of.lane).bind(before).bind(most))?;
        tx.commit().await?;
        Ok(again)
    }

    /// Leases exactly those batches of a channel that are still ready with the epoch of
    /// their message and whose dispatch may send, the most urgent first.
    pub async fn claim_batches(&self, channel: i32, owner: &str, tickets: &[Ticket]) -> Result<Vec<Lease>> {
        if tickets.is_empty() {
            return Ok(Vec::new());
        }
        let (until, now) = (self.db_now().await? + LEASE, self.now());
        let mut tx = self.begin().await?;
        let pairs = tx.pick(PAIRS_SQLITE, PAIRS_POSTGRES);
        // In the order in which turns lock their batches; one that another worker holds is its.
        // The plus signs keep the engines from walking whatever is ready.
        let lock = tx.pick("", " ORDER BY b.no FOR UPDATE OF b SKIP LOCKED");
        let sql = format!(
            "UPDATE batches SET state = 1, owner = $3, lease_until = $4, epoch = epoch + 1 WHERE no IN \
             (SELECT b.no FROM batches b JOIN dispatches d ON d.no = b.dispatch_no WHERE (b.no, b.epoch) IN ({pairs}) \
              AND +b.channel = $2 AND +b.state = 0 AND d.state = 'active' AND d.expires_at > $5{lock}) \
             RETURNING no, dispatch_no, lane, epoch"
        );
        let mut leases: Vec<Lease> = run!(&mut tx, |c| sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(pairs_of(tickets))
            .bind(channel)
            .bind(owner)
            .bind(until)
            .bind(now)
            .fetch_all(c)
            .await)?;
        tx.commit().await?;
        leases.sort_unstable_by_key(|l| (l.lane, l.no));
        Ok(leases)
    }
}

impl Lease {
    /// The message that this lease was taken by.
    #[must_use]
    pub const fn ticket(self) -> Ticket {
        Ticket { batch: self.no, epoch: self.epoch - 1 }
    }
}

fn pairs_of(tickets: &[Ticket]) -> String {
    let mut seen = HashSet::new();
    let pairs: Vec<_> = tickets.iter().filter(|t| seen.insert(**t)).map(|t| (t.batch, t.epoch)).collect();
    json!(pairs).to_string()
}
