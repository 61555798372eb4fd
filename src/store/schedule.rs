//! What falls due: retries, deferred and uncertain deliveries, receipts that never
//! came, dispatches that expired or were called off. Set-based, in chunks.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Result, Store};
use crate::clock::Millis;
use crate::domain::delivery::{Reason, State};

/// Rows taken up in one transaction.
const CHUNK: i64 = 1_000;
/// Rows swept in one transaction when a dispatch ends.
const SWEEP: i64 = 5_000;

#[derive(sqlx::FromRow)]
struct Due {
    dispatch_no: i64,
    ordinal: i64,
    channel: i32,
    lane: i32,
    state: i32,
    reason: i32,
}

impl Store {
    /// Packs rows that are due again into new batches, and gives up those whose
    /// settling time is over. Returns how many rows moved.
    pub async fn take_due(&self) -> Result<usize> {
        let now = self.now();
        let (retry, uncertain, deferred) = (State::Retry.code(), State::Uncertain.code(), State::Deferred.code());
        let sql = format!(
            "SELECT d.dispatch_no, d.ordinal, d.channel, p.lane, d.state, d.reason FROM deliveries d JOIN dispatches p ON p.no = d.dispatch_no \
             WHERE d.next_at IS NOT NULL AND d.next_at <= $1 AND p.state = 'active' AND p.expires_at > $1 \
             AND d.state IN ({retry}, {uncertain}, {deferred}) ORDER BY d.next_at LIMIT {CHUNK}"
        );
        let due: Vec<Due> = read!(self, |db| sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(now).fetch_all(db).await)?;
        if due.is_empty() {
            return Ok(0);
        }
        let mut again: BTreeMap<(i64, i32, i32), Vec<i64>> = BTreeMap::new();
        let mut lost: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        for row in &due {
            if row.state == uncertain && row.reason != Reason::Repeat.code() {
                lost.entry(row.dispatch_no).or_default().push(row.ordinal);
            } else {
                again.entry((row.dispatch_no, row.channel, row.lane)).or_default().push(row.ordinal);
            }
        }
        let mut tx = self.begin().await?;
        for ((dispatch, channel, lane), ordinals) in again {
            let batch = tx.add_batch(dispatch, channel, lane, i64::try_from(ordinals.len()).unwrap_or(0)).await?;
            let sql = tx.pick(
                "UPDATE deliveries SET state = 1, next_at = NULL, batch = $3 WHERE dispatch_no = $1 AND ordinal IN (SELECT value FROM json_each($4)) \
                 AND state IN (9, 11, 12) AND next_at <= $2",
                "UPDATE deliveries SET state = 1, next_at = NULL, batch = $3 WHERE dispatch_no = $1 AND ordinal IN \
                 (SELECT CAST(j AS BIGINT) FROM json_array_elements_text($4::json) j) AND state IN (9, 11, 12) AND next_at <= $2",
            );
            exec!(&mut tx, sqlx::query(sql).bind(dispatch).bind(now).bind(batch).bind(json!(ordinals).to_string()))?;
        }
        for (dispatch, ordinals) in lost {
            let sql = tx.pick(
                "UPDATE deliveries SET state = 8, next_at = NULL WHERE dispatch_no = $1 AND ordinal IN (SELECT value FROM json_each($2)) AND state = 11",
                "UPDATE deliveries SET state = 8, next_at = NULL WHERE dispatch_no = $1 AND ordinal IN \
                 (SELECT CAST(j AS BIGINT) FROM json_array_elements_text($2::json) j) AND state = 11",
            );
            exec!(&mut tx, sqlx::query(sql).bind(dispatch).bind(json!(ordinals).to_string()))?;
        }
        tx.commit().await?;
        Ok(due.len())
    }

    /// Makes due at once what waits because credentials or a declaration were wrong:
    /// a site that starts anew may have mended them. Returns how many wait.
    pub async fn retry_misconfigured(&self) -> Result<u64> {
        let sql = format!(
            "UPDATE deliveries SET next_at = $1 WHERE next_at IS NOT NULL AND next_at > $1 AND state = {} AND reason = {}",
            State::Retry.code(),
            Reason::Misconfigured.code()
        );
        let mut tx = self.begin().await?;
        let due = exec!(&mut tx, sqlx::query(sqlx::AssertSqlSafe(sql)).bind(self.now()))?;
        tx.commit().await?;
        Ok(due)
    }

    /// Ends what was not handed over yet: a dispatch that was cancelled, or whose
    /// time is over. Uncertain rows can only become unknown. Returns the rows moved;
    /// call again until it is 0.
    pub async fn sweep_dispatch(&self, no: i64, cancelled: bool) -> Result<u64> {
        let stoppable: Vec<String> =
            State::ALL.iter().filter(|s| s.is_stoppable()).map(|s| s.code().to_string()).collect();
        let (to, reason) =
            if cancelled { (State::Cancelled, Reason::Operator) } else { (State::Failed, Reason::Expired) };
        let (uncertain, unknown) = (State::Uncertain.code(), State::Unknown.code());
        let sql = format!(
            "UPDATE deliveries SET state = CASE WHEN state = {uncertain} THEN {unknown} ELSE $2 END, reason = $3, next_at = NULL \
             WHERE dispatch_no = $1 AND ordinal IN (SELECT ordinal FROM deliveries WHERE dispatch_no = $1 \
             AND state IN ({}, {uncertain}) LIMIT {SWEEP})",
            stoppable.join(",")
        );
        let mut tx = self.begin().await?;
        let moved = exec!(&mut tx, sqlx::query(sqlx::AssertSqlSafe(sql)).bind(no).bind(to.code()).bind(reason.code()))?;
        if moved == 0 {
            let sql =
                "UPDATE batches SET state = 2, owner = '', lease_until = NULL WHERE dispatch_no = $1 AND state = 0";
            exec!(&mut tx, sqlx::query(sql).bind(no))?;
            // Nothing is planned for it any more.
            exec!(
                &mut tx,
                sqlx::query("UPDATE dispatches SET phase = 'done', step_due_at = NULL WHERE no = $1").bind(no)
            )?;
        }
        tx.commit().await?;
        Ok(moved)
    }

    /// `sent` deliveries of a channel whose receipt did not come in its time.
    pub async fn give_up_waiting(&self, dispatch_no: i64, channel: i32, handed_before: Millis) -> Result<u64> {
        let sql = format!(
            "UPDATE deliveries SET state = {} WHERE dispatch_no = $1 AND ordinal IN (SELECT ordinal FROM deliveries \
             WHERE dispatch_no = $1 AND channel = $2 AND state = {} AND handed_at <= $3 LIMIT {SWEEP})",
            State::Unknown.code(),
            State::Sent.code()
        );
        let mut tx = self.begin().await?;
        let moved =
            exec!(&mut tx, sqlx::query(sqlx::AssertSqlSafe(sql)).bind(dispatch_no).bind(channel).bind(handed_before))?;
        tx.commit().await?;
        Ok(moved)
    }

    /// Puts the queued rows of a leased batch to sleep until the quiet hours end, and
    /// closes the batch.
    pub async fn defer_batch(&self, lease: super::batches::Lease, until: Millis) -> Result<u64> {
        let mut tx = self.begin().await?;
        let sql = format!(
            "UPDATE deliveries SET state = {}, reason = {}, next_at = $2 WHERE batch = $1 AND batch > 0 AND state = {} \
             AND EXISTS (SELECT 1 FROM batches WHERE no = $1 AND epoch = $3 AND state = 1)",
            State::Deferred.code(),
            Reason::QuietHours.code(),
            State::Queued.code()
        );
        let moved = exec!(&mut tx, sqlx::query(sqlx::AssertSqlSafe(sql)).bind(lease.no).bind(until).bind(lease.epoch))?;
        tx.close_batches(&[lease]).await?;
        tx.commit().await?;
        Ok(moved)
    }
}
