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

/// Rows whose time has come; `$1` is now.
pub(super) fn due_sql() -> String {
    let (retry, uncertain, deferred) = (State::Retry.code(), State::Uncertain.code(), State::Deferred.code());
    format!(
        // From the dispatches on: what a paused one has waiting is not even looked at.
        "SELECT d.dispatch_no, d.ordinal, d.channel, p.lane, d.state, d.reason FROM dispatches p CROSS JOIN deliveries d \
         WHERE p.finished_at IS NULL AND p.state = 'active' AND p.expires_at > $1 AND d.dispatch_no = p.no \
         AND d.next_at IS NOT NULL AND d.next_at <= $1 AND d.state IN ({retry}, {uncertain}, {deferred}) LIMIT {CHUNK}"
    )
}

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
        self.take_due_at(self.now(), true).await
    }

    /// The same as of `now`; nothing is given up where that is not to be believed.
    pub async fn take_due_at(&self, now: Millis, believed: bool) -> Result<usize> {
        let is_over = |row: &Due| row.state == State::Uncertain.code() && row.reason != Reason::Repeat.code();
        let mut due: Vec<Due> =
            read!(self, |db| sqlx::query_as(sqlx::AssertSqlSafe(due_sql())).bind(now).fetch_all(db).await)?;
        due.retain(|row| believed || !is_over(row));
        if due.is_empty() {
            return Ok(0);
        }
        let mut again: BTreeMap<(i64, i32, i32), Vec<i64>> = BTreeMap::new();
        let mut lost: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        for row in &due {
            if is_over(row) {
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

    /// Makes due at once what waits on these channels because credentials or a
    /// declaration were wrong: a worker that starts anew may have mended them. Returns
    /// how many are due.
    pub async fn retry_misconfigured(&self, channels: &[i32]) -> Result<u64> {
        let channels: Vec<String> = channels.iter().map(ToString::to_string).collect();
        let now = self.now();
        let which = format!(
            "next_at IS NOT NULL AND next_at > {now} AND state = {} AND reason = {} AND channel IN ({})",
            State::Retry.code(),
            Reason::Misconfigured.code(),
            channels.join(",")
        );
        let mut due = 0;
        for dispatch in self.dispatches(true).await? {
            due += self.move_rows(dispatch.no, &which, &format!("next_at = {now}")).await?;
        }
        Ok(due)
    }

    /// Ends what was not handed over yet: of a dispatch that was cancelled, or whose
    /// time is over. Uncertain rows can only become unknown. Returns the rows moved.
    pub async fn sweep_dispatch(&self, no: i64, cancelled: bool) -> Result<u64> {
        let stoppable: Vec<String> =
            State::ALL.iter().filter(|s| s.is_stoppable()).map(|s| s.code().to_string()).collect();
        let (to, reason) =
            if cancelled { (State::Cancelled, Reason::Operator) } else { (State::Failed, Reason::Expired) };
        let (uncertain, unknown) = (State::Uncertain.code(), State::Unknown.code());
        let which = format!("state IN ({}, {uncertain})", stoppable.join(","));
        let change = format!(
            "state = CASE WHEN state = {uncertain} THEN {unknown} ELSE {} END, reason = {}, next_at = NULL",
            to.code(),
            reason.code()
        );
        let moved = self.move_rows(no, &which, &change).await?;
        if moved == 0 {
            let mut tx = self.begin().await?;
            let sql =
                "UPDATE batches SET state = 2, owner = '', lease_until = NULL WHERE dispatch_no = $1 AND state = 0";
            exec!(&mut tx, sqlx::query(sql).bind(no))?;
            // Nothing is planned for it any more.
            let sql = "UPDATE dispatches SET phase = 'done', step_due_at = NULL WHERE no = $1 AND phase <> 'done'";
            exec!(&mut tx, sqlx::query(sql).bind(no))?;
            tx.commit().await?;
        }
        Ok(moved)
    }

    /// `sent` deliveries of a channel whose receipt did not come in its time become
    /// unknown. Returns how many.
    pub async fn give_up_waiting(&self, dispatch_no: i64, channel: i32, handed_before: Millis) -> Result<u64> {
        let which = format!("channel = {channel} AND state = {} AND handed_at <= {handed_before}", State::Sent.code());
        self.move_rows(dispatch_no, &which, &format!("state = {}", State::Unknown.code())).await
    }

    /// Changes the rows of a dispatch that `which` names. They are looked for outside
    /// any transaction, a page at a time, since most looks find nothing; the writing
    /// statement checks again.
    async fn move_rows(&self, dispatch_no: i64, which: &str, change: &str) -> Result<u64> {
        let (mut after, mut moved) = (0_i64, 0);
        loop {
            let sql = format!(
                "SELECT ordinal FROM deliveries WHERE dispatch_no = $1 AND ordinal > $2 AND {which} ORDER BY ordinal LIMIT {SWEEP}"
            );
            let page: Vec<i64> = self
                .at_last(async {
                    Ok(read!(self, |db| sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
                        .bind(dispatch_no)
                        .bind(after)
                        .fetch_all(db)
                        .await)?)
                })
                .await?;
            let Some(last) = page.last() else { return Ok(moved) };
            after = *last;
            moved += self.at_last(self.move_page(dispatch_no, &page, (which, change))).await?;
        }
    }

    async fn move_page(&self, dispatch_no: i64, page: &[i64], (which, change): (&str, &str)) -> Result<u64> {
        let mut tx = self.begin().await?;
        let these = tx.pick(
            "SELECT value FROM json_each($2)",
            "SELECT CAST(j AS BIGINT) FROM json_array_elements_text($2::json) j",
        );
        let sql = format!("UPDATE deliveries SET {change} WHERE dispatch_no = $1 AND ordinal IN ({these}) AND {which}");
        let json = json!(page).to_string();
        let moved = exec!(&mut tx, sqlx::query(sqlx::AssertSqlSafe(sql)).bind(dispatch_no).bind(json))?;
        tx.commit().await?;
        Ok(moved)
    }

    /// Forgets receipts that came before `before` and never met their message.
    pub async fn forget_unmatched(&self, before: Millis) -> Result<u64> {
        let mut tx = self.begin().await?;
        let sql = "DELETE FROM receipts WHERE dispatch_no IS NULL AND received_at < $1";
        let gone = exec!(&mut tx, sqlx::query(sql).bind(before))?;
        tx.commit().await?;
        Ok(gone)
    }

    /// Puts the queued rows of a leased batch to sleep until then, and closes the batch.
    pub async fn defer_batch(&self, lease: super::batches::Lease, until: Millis, why: Reason) -> Result<u64> {
        let mut tx = self.begin().await?;
        let sql = format!(
            "UPDATE deliveries SET state = {}, reason = {}, next_at = $2 WHERE batch = $1 AND batch > 0 AND state = {}{} \
             AND EXISTS (SELECT 1 FROM batches WHERE no = $1 AND epoch = $3 AND state = 1)",
            State::Deferred.code(),
            why.code(),
            State::Queued.code(),
            tx.within(lease)
        );
        let moved = exec!(&mut tx, sqlx::query(sqlx::AssertSqlSafe(sql)).bind(lease.no).bind(until).bind(lease.epoch))?;
        tx.close_batches(&[lease]).await?;
        tx.commit().await?;
        Ok(moved)
    }
}
