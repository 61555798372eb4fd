//! What falls due: retries, deferred and uncertain deliveries, receipts that never
//! came, dispatches that expired or were called off. Set-based, in chunks.

use std::collections::BTreeMap;

use serde_json::json;

use super::batches::Lease;
use super::marks::under_way;
use super::{Pool, Result, Store, Tx};
use crate::clock::Millis;
use crate::domain::delivery::{Reason, State};

/// Rows taken up in one transaction.
const CHUNK: i64 = 1_000;
/// Rows of a dispatch looked at in one statement and changed in one transaction, so
/// that neither is long, however large the dispatch.
pub(super) const RANGE: i64 = 5_000;

/// Rows whose time has come, those of the most urgent dispatches first; `$1` is now, and
/// a dispatch that was to end by `$2` is over. Of each dispatch no more are read than are
/// taken, however many are due, and what a paused one has waiting is not even looked at.
pub(super) fn due_sql(pool: &Pool) -> String {
    let states = [State::Retry, State::Uncertain, State::Deferred].map(|s| s.code().to_string()).join(",");
    let open = "finished_at IS NULL AND state = 'active' AND expires_at > $2";
    let due =
        format!("dispatch_no = p.no AND next_at IS NOT NULL AND next_at <= $1 AND state IN ({states}) LIMIT {CHUNK}");
    let columns = "d.dispatch_no, d.ordinal, d.channel, p.lane, d.state, d.reason";
    pool.pick(
        format!(
            "SELECT {columns} FROM (SELECT no, lane FROM dispatches WHERE {open}) p CROSS JOIN deliveries d \
             WHERE d.dispatch_no = p.no AND d.ordinal IN (SELECT ordinal FROM deliveries WHERE {due}) ORDER BY p.lane, p.no LIMIT {CHUNK}"
        ),
        format!(
            "SELECT {columns} FROM (SELECT no, lane FROM dispatches WHERE {open} ORDER BY lane, no) p CROSS JOIN LATERAL \
             (SELECT dispatch_no, ordinal, channel, state, reason FROM deliveries WHERE {due}) d ORDER BY p.lane, p.no LIMIT {CHUNK}"
        ),
    )
}

/// Rows of a dispatch (`$1`) after one ordinal (`$2`) up to another (`$3`).
pub(super) fn within(which: &str) -> String {
    format!("dispatch_no = $1 AND ordinal > $2 AND ordinal <= $3 AND ({which})")
}

/// Receipts that came before `$1` and never met their message, a number of them. A server
/// that joins the table with their numbers would rather read all of it than so many by key.
pub(super) fn forget_sql(pool: &Pool) -> String {
    let old = format!("SELECT no FROM receipts WHERE dispatch_no IS NULL AND received_at < $1 LIMIT {RANGE}");
    pool.pick(
        format!("DELETE FROM receipts WHERE no IN ({old})"),
        format!("DELETE FROM receipts WHERE no = ANY (ARRAY({old}))"),
    )
}

/// A change of a dispatch's rows.
#[derive(Clone, Copy)]
struct Moving<'a> {
    which: &'a str,
    change: &'a str,
    /// Queued rows may be among them: what of those is under way must not change meanwhile.
    queued: bool,
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

    /// The same as of `now`; where that is not to be believed nothing is given up, and
    /// no dispatch has expired.
    pub async fn take_due_at(&self, now: Millis, believed: bool) -> Result<usize> {
        let is_over = |row: &Due| row.state == State::Uncertain.code() && row.reason != Reason::Repeat.code();
        let mut due = self.due(now, if believed { now } else { Millis::MIN }).await?;
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

    async fn due(&self, now: Millis, over: Millis) -> Result<Vec<Due>> {
        let sql = due_sql(&self.pool);
        if let Pool::Sqlite { read, .. } = &self.pool {
            return Ok(sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(now).bind(over).fetch_all(read).await?);
        }
        let mut tx = self.begin_walk().await?;
        Ok(run!(&mut tx, |c| sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(now).bind(over).fetch_all(c).await)?)
    }

    /// Begins a transaction in which a server walks its indexes as far as it must: it
    /// would rather collect all that is due, millions perhaps, and take the first of it.
    pub(super) async fn begin_walk(&self) -> Result<Tx> {
        let mut tx = self.begin_hot().await?;
        let sql = tx.pick("SELECT 1", "SET LOCAL enable_bitmapscan = off");
        exec!(&mut tx, sqlx::query(sql))?;
        Ok(tx)
    }

    /// Makes due at once what waits on these channels because credentials or a
    /// declaration were wrong: a worker that starts anew may have mended them. Returns
    /// how many are due.
    pub async fn retry_misconfigured(&self, channels: &[i32]) -> Result<u64> {
        let channels: Vec<String> = channels.iter().map(ToString::to_string).collect();
        let now = self.now();
        let which = format!(
            "next_at IS NOT NULL AND next_at > {now} AND state IN ({}, {}) AND reason = {} AND channel IN ({})",
            State::Retry.code(),
            State::Deferred.code(),
            Reason::Misconfigured.code(),
            channels.join(",")
        );
        let mut due = 0;
        for dispatch in self.dispatches(true).await? {
            let change = format!("next_at = {now}");
            due += self.move_rows(dispatch.no, Moving { which: &which, change: &change, queued: false }).await?;
        }
        Ok(due)
    }

    /// Ends what was not handed over yet: of a dispatch that was cancelled, or whose
    /// time is over. Uncertain rows can only become unknown; what is under way is left to
    /// its worker. Returns the rows moved.
    pub async fn sweep_dispatch(&self, no: i64, cancelled: bool) -> Result<u64> {
        let stoppable: Vec<String> =
            State::ALL.iter().filter(|s| s.is_stoppable()).map(|s| s.code().to_string()).collect();
        let (to, reason) =
            if cancelled { (State::Cancelled, Reason::Operator) } else { (State::Failed, Reason::Expired) };
        let (uncertain, unknown) = (State::Uncertain.code(), State::Unknown.code());
        let which = format!("state IN ({}, {uncertain}) AND NOT {}", stoppable.join(","), under_way!("deliveries"));
        let change = format!(
            "state = CASE WHEN state = {uncertain} THEN {unknown} ELSE {} END, reason = {}, next_at = NULL",
            to.code(),
            reason.code()
        );
        let moved = self.move_rows(no, Moving { which: &which, change: &change, queued: true }).await?;
        if moved == 0 {
            self.soon(self.drop_batches(no)).await?;
        }
        Ok(moved)
    }

    /// Nothing is left of a dispatch to send or to plan.
    async fn drop_batches(&self, no: i64) -> Result<()> {
        let mut tx = self.begin().await?;
        let sql = "UPDATE batches SET state = 2, owner = '', lease_until = NULL WHERE dispatch_no = $1 AND state = 0";
        exec!(&mut tx, sqlx::query(sql).bind(no))?;
        let sql = "UPDATE dispatches SET phase = 'done', step_due_at = NULL WHERE no = $1 AND phase <> 'done'";
        exec!(&mut tx, sqlx::query(sql).bind(no))?;
        tx.commit().await
    }

    /// `sent` deliveries whose receipt did not come in its time become unknown: those
    /// of each of these channels that were handed over before its time. Returns how many.
    pub async fn give_up_waiting(&self, dispatch_no: i64, handed_before: &[(i32, Millis)]) -> Result<u64> {
        if handed_before.is_empty() {
            return Ok(0);
        }
        let of = |(channel, before): &(i32, Millis)| format!("channel = {channel} AND handed_at <= {before}");
        let overdue: Vec<String> = handed_before.iter().map(of).collect();
        let which = format!("state = {} AND ({})", State::Sent.code(), overdue.join(" OR "));
        let change = format!("state = {}", State::Unknown.code());
        self.move_rows(dispatch_no, Moving { which: &which, change: &change, queued: false }).await
    }

    /// The highest ordinal of a dispatch's deliveries; 0 where it has none.
    pub(super) async fn last_ordinal(&self, dispatch_no: i64) -> Result<i64> {
        let sql = "SELECT COALESCE(MAX(ordinal), 0) FROM deliveries WHERE dispatch_no = $1";
        Ok(read!(self, |db| sqlx::query_scalar(sql).bind(dispatch_no).fetch_one(db).await)?)
    }

    /// Changes rows of a dispatch. They are looked for outside any transaction, a range at
    /// a time, since most looks find nothing; the writing statement checks again.
    async fn move_rows(&self, dispatch_no: i64, moving: Moving<'_>) -> Result<u64> {
        let last = self.soon(self.last_ordinal(dispatch_no)).await?;
        let (mut after, mut moved) = (0_i64, 0);
        while after < last {
            let to = after + RANGE;
            moved += self.soon(self.move_range((dispatch_no, after, to), moving)).await?;
            after = to;
        }
        Ok(moved)
    }

    async fn move_range(&self, (no, after, to): (i64, i64, i64), moving: Moving<'_>) -> Result<u64> {
        let within = within(moving.which);
        let sql = format!("SELECT EXISTS (SELECT 1 FROM deliveries WHERE {within})");
        let any: bool = read!(self, |db| sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
            .bind(no)
            .bind(after)
            .bind(to)
            .fetch_one(db)
            .await)?;
        if !any {
            return Ok(0);
        }
        let mut tx = self.begin().await?;
        if moving.queued {
            tx.hold_all_of(no).await?;
        }
        let sql = format!("UPDATE deliveries SET {} WHERE {within}", moving.change);
        let moved = exec!(&mut tx, sqlx::query(sqlx::AssertSqlSafe(sql)).bind(no).bind(after).bind(to))?;
        tx.commit().await?;
        Ok(moved)
    }

    /// Forgets receipts that came before `before` and never met their message.
    pub async fn forget_unmatched(&self, before: Millis) -> Result<u64> {
        let mut all = 0;
        loop {
            let mut tx = self.begin().await?;
            let gone = exec!(&mut tx, sqlx::query(sqlx::AssertSqlSafe(forget_sql(&self.pool))).bind(before))?;
            tx.commit().await?;
            all += gone;
            if gone == 0 {
                return Ok(all);
            }
        }
    }

    /// Puts the queued rows of a leased batch to sleep until then, and closes the batch
    /// unless something of it is under way.
    pub async fn defer_batch(&self, lease: Lease, until: Millis, why: Reason) -> Result<u64> {
        let mut tx = self.begin().await?;
        let Some(marked_to) = tx.hold_one(lease).await? else { return Ok(0) };
        let sql = format!(
            "UPDATE deliveries SET state = {}, reason = {}, next_at = $2 \
             WHERE batch = $1 AND batch > 0 AND state = {} AND ordinal > $3{}",
            State::Deferred.code(),
            why.code(),
            State::Queued.code(),
            tx.within(lease)
        );
        let moved = exec!(&mut tx, sqlx::query(sqlx::AssertSqlSafe(sql)).bind(lease.no).bind(until).bind(marked_to))?;
        if marked_to == 0 {
            tx.close_batches(&[lease]).await?;
        }
        tx.commit().await?;
        Ok(moved)
    }
}
