//! One turn of a worker: record what came back, give back what was not sent, mark
//! what goes next. One transaction, one commit; groups of some hundreds of rows
//! make it 60-95 times cheaper than row by row.
//!
//! Fencing: a row is touched only while it is `sending` (or, to mark, `queued`)
//! in the leased batch with the leased epoch. A late result finds nothing to
//! change and enters like a receipt.

mod attempts;
mod handles;

use serde_json::json;

use self::handles::Handles;
use super::batches::Lease;
use super::bulk::Numbers;
use super::receipts::Claim;
use super::{Result, Store, Tx};
use crate::channel::{CLASS_ACCEPTED, Class};
use crate::clock::Millis;
use crate::domain::delivery::{Reason, State, Word};

pub(super) const MARK_SQLITE: &str = "UPDATE deliveries SET state = 2, epoch = $3 WHERE dispatch_no = $1 \
     AND ordinal IN (SELECT value FROM json_each($5)) AND batch = $2 AND state = 1 \
     AND EXISTS (SELECT 1 FROM batches WHERE no = $2 AND epoch = $3 AND state = 1) \
     AND EXISTS (SELECT 1 FROM dispatches WHERE no = $1 AND state = 'active' AND expires_at > $4)";

// A server walks the rows of the batch between the first and the last that is asked for:
// without these bounds it would read the whole batch at every turn, and with the numbers
// as a condition of the index (hence `+ 0`) descend it once for each.
pub(super) const MARK_POSTGRES: &str = "UPDATE deliveries SET state = 2, epoch = $3 WHERE dispatch_no = $1 \
     AND batch = $2 AND ordinal BETWEEN $6 AND $7 AND ordinal + 0 = ANY($5) AND state = 1 \
     AND EXISTS (SELECT 1 FROM batches WHERE no = $2 AND epoch = $3 AND state = 1) \
     AND EXISTS (SELECT 1 FROM dispatches WHERE no = $1 AND state = 'active' AND expires_at > $4)";
pub(super) const TAKEN_POSTGRES: &str = "UPDATE deliveries SET state = $7, reason = 0, parts = $4, handed_at = COALESCE(handed_at, $5) \
     WHERE dispatch_no = $1 AND batch = $2 AND ordinal BETWEEN $8 AND $9 AND ordinal + 0 = ANY($6) AND epoch = $3 AND state = 2";

/// What became of one marked delivery.
#[derive(Debug, Clone)]
pub struct Record {
    pub ordinal: i64,
    /// The attempt that was made.
    pub attempt: i32,
    /// `channel::Class`, or [`CLASS_ACCEPTED`].
    pub class: i32,
    pub code: String,
    pub at: Millis,
    pub parts: i32,
    pub change: Change,
    /// The gateway's ids, one a part where it gives several.
    pub handles: Vec<String>,
    /// The target does not exist: mark its address.
    pub gone: Option<i64>,
}

/// The new state of a delivery that stops being `sending`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    pub state: State,
    pub reason: Reason,
    pub next_at: Option<Millis>,
    /// Added to the failures that count towards the limit.
    pub failures: i32,
    /// Added to the attempt number: 1 when the next try is a new attempt.
    pub attempts: i32,
}

/// Everything one batch needs in a turn.
#[derive(Debug)]
pub struct BatchTurn {
    pub lease: Lease,
    pub records: Vec<Record>,
    /// Marked, yet never sent: back to `queued`.
    pub unsent: Vec<i64>,
    /// Ordinals to mark.
    pub mark: Vec<i64>,
    /// Nothing of it is left after this turn.
    pub close: bool,
    /// It closes, and every row it had was marked: none can be queued still.
    pub whole: bool,
}

impl Store {
    /// Runs a turn; returns the ordinals that were marked, a list a batch. None are
    /// where the lease is lost or the dispatch is no longer active.
    pub async fn turn(&self, channel: i32, turns: &[BatchTurn]) -> Result<Vec<Vec<i64>>> {
        let now = self.now();
        let handles = Handles::of(turns);
        let mut tx = self.begin_hot().await?;
        let beside = if handles.ids.is_empty() { None } else { self.pool.spare() };
        if beside.is_none() {
            tx.keep_handles(channel, &handles).await?;
        }
        let (marked, kept) = tokio::join!(tx.go_through(channel, turns, now), handles.keep_beside(channel, beside));
        let marked = marked?;
        if let Some(kept) = kept? {
            kept.commit().await?;
        }
        crate::failpoint::at!("before_commit", turns.iter().any(|t| !t.records.is_empty()));
        tx.commit().await?;
        crate::failpoint::fails!("commit_answer", super::StoreError::Db(sqlx::Error::PoolTimedOut));
        self.look_for_waiting(channel, &handles.ids).await;
        Ok(marked)
    }

    /// Fails queued rows of a leased batch that can never be handed over:
    /// (ordinal, attempt, reason, word for the ledger).
    pub async fn refuse_queued(&self, lease: Lease, rows: &[(i64, i32, Reason, String)]) -> Result<()> {
        let at = self.now();
        let record = |(ordinal, attempt, reason, code): &(i64, i32, Reason, String)| Record {
            ordinal: *ordinal,
            attempt: *attempt,
            class: Class::Permanent as i32,
            code: code.clone(),
            at,
            parts: 0,
            change: Change { state: State::Failed, reason: *reason, next_at: None, failures: 0, attempts: 0 },
            handles: Vec::new(),
            gone: None,
        };
        let records: Vec<Record> = rows.iter().map(record).collect();
        let mut turn = BatchTurn {
            lease,
            mark: records.iter().map(|r| r.ordinal).collect(),
            records,
            unsent: Vec::new(),
            close: false,
            whole: false,
        };
        let mut tx = self.begin_hot().await?;
        tx.hold_back(std::slice::from_ref(&turn)).await?;
        // Through `sending`, as every delivery goes; nobody sees it in between.
        let marked = tx.mark(&turn, at).await?;
        // A row that changed meanwhile was not refused, and the ledger must not say so.
        turn.records.retain(|r| marked.binary_search(&r.ordinal).is_ok());
        let changed = tx.record_other(lease, &turn.records.iter().collect::<Vec<_>>()).await?;
        tx.append_attempts(&turn, changed == turn.records.len() as u64).await?;
        tx.commit().await
    }
}

impl Tx {
    /// Everything a turn does, but for its handles; returns what was marked, a list a batch.
    async fn go_through(&mut self, channel: i32, turns: &[BatchTurn], now: Millis) -> Result<Vec<Vec<i64>>> {
        let mut marked = Vec::with_capacity(turns.len());
        self.hold_back(turns).await?;
        for turn in turns {
            self.record(channel, turn).await?;
            self.give_back(turn).await?;
            marked.push(self.mark(turn, now).await?);
        }
        let (whole, other): (Vec<_>, Vec<_>) = turns.iter().filter(|t| t.close).partition(|t| t.whole);
        self.close_whole(&whole.iter().map(|t| t.lease).collect::<Vec<_>>()).await?;
        for turn in &other {
            self.unmark(turn.lease).await?;
        }
        self.close_batches(&other.iter().map(|t| t.lease).collect::<Vec<_>>()).await?;
        Ok(marked)
    }

    /// On a server others write at the same time. A takeover of one of these batches
    /// comes wholly before or after the turn.
    async fn hold_back(&mut self, turns: &[BatchTurn]) -> Result<()> {
        if let Self::Sqlite(_) = self {
            return Ok(());
        }
        let batches: Vec<i64> = turns.iter().map(|t| t.lease.no).collect();
        let sql = "SELECT no FROM batches WHERE no = ANY($1) ORDER BY no FOR UPDATE";
        exec!(self, sqlx::query(sql).bind(Numbers(&batches)))?;
        Ok(())
    }

    /// Marks queued rows as `sending`, rechecking lease, cancel, pause and expiry.
    async fn mark(&mut self, turn: &BatchTurn, now: Millis) -> Result<Vec<i64>> {
        if turn.mark.is_empty() {
            return Ok(Vec::new());
        }
        let lease = turn.lease;
        let sql = self.pick(MARK_SQLITE, MARK_POSTGRES);
        let (first, last) = bounds(&turn.mark);
        let changed = exec!(
            self,
            sqlx::query(sql)
                .bind(lease.dispatch_no)
                .bind(lease.no)
                .bind(lease.epoch)
                .bind(now)
                .bind(Numbers(&turn.mark))
                .bind(first)
                .bind(last)
        )?;
        // A turn that is repeated because its answer was lost finds its rows marked.
        let mut marked = if changed == turn.mark.len() as u64 {
            turn.mark.clone()
        } else {
            self.marked_of(lease, &turn.mark).await?
        };
        marked.sort_unstable();
        Ok(marked)
    }

    /// Which of these rows are marked: asked only where some had changed meanwhile, or a
    /// turn before this one marked them and nobody heard that it was on disk.
    async fn marked_of(&mut self, lease: Lease, ordinals: &[i64]) -> Result<Vec<i64>> {
        let sql = self.pick(
            "SELECT ordinal FROM deliveries WHERE dispatch_no = $1 AND ordinal IN (SELECT value FROM json_each($4)) \
             AND batch = $2 AND epoch = $3 AND state = 2",
            "SELECT ordinal FROM deliveries WHERE dispatch_no = $1 AND ordinal = ANY($4) AND batch = $2 AND epoch = $3 AND state = 2",
        );
        Ok(run!(self, |c| sqlx::query_scalar(sql)
            .bind(lease.dispatch_no)
            .bind(lease.no)
            .bind(lease.epoch)
            .bind(Numbers(ordinals))
            .fetch_all(c)
            .await)?)
    }

    async fn give_back(&mut self, turn: &BatchTurn) -> Result<()> {
        if turn.unsent.is_empty() {
            return Ok(());
        }
        let sql = self.pick(
            "UPDATE deliveries SET state = 1 WHERE dispatch_no = $1 AND ordinal IN (SELECT value FROM json_each($4)) \
             AND batch = $2 AND epoch = $3 AND state = 2",
            "UPDATE deliveries SET state = 1 WHERE dispatch_no = $1 AND ordinal = ANY($4) AND batch = $2 AND epoch = $3 AND state = 2",
        );
        let (lease, unsent) = (turn.lease, Numbers(&turn.unsent));
        exec!(self, sqlx::query(sql).bind(lease.dispatch_no).bind(lease.no).bind(lease.epoch).bind(unsent))?;
        Ok(())
    }

    async fn record(&mut self, channel: i32, turn: &BatchTurn) -> Result<()> {
        if turn.records.is_empty() {
            return Ok(());
        }
        let (taken, other): (Vec<&Record>, Vec<&Record>) = turn.records.iter().partition(|r| r.change.is_taken());
        let mut changed = self.record_taken(turn.lease, &taken).await?;
        changed += self.record_other(turn.lease, &other).await?;
        let first = changed == turn.records.len() as u64;
        self.append_attempts(turn, first).await?;
        self.mark_gone(&turn.records).await?;
        if !first {
            self.enter_late(channel, turn).await?;
        }
        Ok(())
    }

    /// The common case: the gateway took them. One group a state and number of parts.
    async fn record_taken(&mut self, lease: Lease, taken: &[&Record]) -> Result<u64> {
        let mut changed = 0;
        let mut rest = taken.to_vec();
        while let Some((state, parts)) = rest.first().map(|r| (r.change.state, r.parts)) {
            let (same, others): (Vec<&Record>, Vec<&Record>) =
                rest.into_iter().partition(|r| (r.change.state, r.parts) == (state, parts));
            rest = others;
            let rows: Vec<i64> = same.iter().map(|r| r.ordinal).collect();
            let (first, last) = bounds(&rows);
            let at = same.iter().map(|r| r.at).max().unwrap_or(0);
            let sql = self.pick(
                "UPDATE deliveries SET state = $7, reason = 0, parts = $4, handed_at = COALESCE(handed_at, $5) WHERE dispatch_no = $1 \
                 AND ordinal IN (SELECT value FROM json_each($6)) AND batch = $2 AND epoch = $3 AND state = 2",
                TAKEN_POSTGRES,
            );
            changed += exec!(
                self,
                sqlx::query(sql)
                    .bind(lease.dispatch_no)
                    .bind(lease.no)
                    .bind(lease.epoch)
                    .bind(parts)
                    .bind(at)
                    .bind(Numbers(&rows))
                    .bind(state.code())
                    .bind(first)
                    .bind(last)
            )?;
        }
        Ok(changed)
    }

    async fn record_other(&mut self, lease: Lease, other: &[&Record]) -> Result<u64> {
        if other.is_empty() {
            return Ok(0);
        }
        // The number of the dispatch stands in every row, so that SQLite looks each row
        // up by its whole key instead of walking the dispatch.
        let rows: Vec<_> = other
            .iter()
            .map(|r| {
                (
                    r.ordinal,
                    r.change.state.code(),
                    r.change.reason.code(),
                    r.change.next_at,
                    r.change.failures,
                    r.change.attempts,
                    lease.dispatch_no,
                )
            })
            .collect();
        let sql = self.pick(
            "UPDATE deliveries SET state = j.state, reason = j.reason, next_at = j.next_at, failures = deliveries.failures + j.failures, \
             attempt = deliveries.attempt + j.attempts FROM (SELECT value->>0 AS ordinal, value->>1 AS state, value->>2 AS reason, value->>3 AS next_at, \
             value->>4 AS failures, value->>5 AS attempts, value->>6 AS dn FROM json_each($3)) j \
             WHERE deliveries.dispatch_no = j.dn AND deliveries.ordinal = j.ordinal AND deliveries.batch = $1 AND deliveries.epoch = $2 AND deliveries.state = 2",
            "UPDATE deliveries SET state = j.state, reason = j.reason, next_at = j.next_at, failures = deliveries.failures + j.failures, \
             attempt = deliveries.attempt + j.attempts FROM (SELECT (e->>0)::bigint AS ordinal, (e->>1)::int AS state, (e->>2)::int AS reason, \
             (e->>3)::bigint AS next_at, (e->>4)::int AS failures, (e->>5)::int AS attempts, (e->>6)::bigint AS dn FROM json_array_elements($3::json) e) j \
             WHERE deliveries.dispatch_no = j.dn AND deliveries.ordinal = j.ordinal AND deliveries.batch = $1 AND deliveries.epoch = $2 AND deliveries.state = 2",
        );
        Ok(exec!(self, sqlx::query(sql).bind(lease.no).bind(lease.epoch).bind(json!(rows).to_string()))?)
    }

    async fn mark_gone(&mut self, records: &[Record]) -> Result<()> {
        for address in records.iter().filter_map(|r| r.gone) {
            exec!(self, sqlx::query("UPDATE addresses SET gone = 1 WHERE id = $1").bind(address))?;
        }
        Ok(())
    }

    /// Results that found their row in another state: a receipt was faster, or the
    /// batch was taken over. "The gateway took it" is evidence all the same.
    async fn enter_late(&mut self, channel: i32, turn: &BatchTurn) -> Result<()> {
        // A sheet printed by a worker that was fenced is printed again, over the same file.
        let taken: Vec<&Record> =
            turn.records.iter().filter(|r| r.class == CLASS_ACCEPTED && r.change == TAKEN).collect();
        if taken.is_empty() {
            return Ok(());
        }
        let rows: Vec<_> = taken.iter().map(|r| (r.ordinal, r.parts, r.at, turn.lease.dispatch_no)).collect();
        let sql = self.pick(
            "UPDATE deliveries SET parts = MAX(deliveries.parts, j.parts), handed_at = COALESCE(deliveries.handed_at, j.at) FROM (SELECT value->>0 AS ordinal, \
             value->>1 AS parts, value->>2 AS at, value->>3 AS dn FROM json_each($1)) j WHERE deliveries.dispatch_no = j.dn AND deliveries.ordinal = j.ordinal",
            "UPDATE deliveries SET parts = GREATEST(deliveries.parts, j.parts), handed_at = COALESCE(deliveries.handed_at, j.at) \
             FROM (SELECT (e->>0)::bigint AS ordinal, (e->>1)::int AS parts, (e->>2)::bigint AS at, (e->>3)::bigint AS dn FROM json_array_elements($1::json) e) j \
             WHERE deliveries.dispatch_no = j.dn AND deliveries.ordinal = j.ordinal",
        );
        exec!(self, sqlx::query(sql).bind(json!(rows).to_string()))?;
        let claims: Vec<Claim> = taken
            .iter()
            .map(|r| Claim {
                dispatch_no: turn.lease.dispatch_no,
                ordinal: r.ordinal,
                attempt: r.attempt,
                part: None,
                word: Word::Sent,
                at: r.at,
            })
            .collect();
        self.apply_claims(channel, &claims).await
    }
}

/// The least and the greatest.
fn bounds(ordinals: &[i64]) -> (i64, i64) {
    ordinals.iter().fold((i64::MAX, i64::MIN), |(first, last), o| (first.min(*o), last.max(*o)))
}

impl Change {
    /// Nothing of it is left to do: the gateway has it, or it lies in the print queue.
    fn is_taken(&self) -> bool {
        *self == TAKEN || *self == PRINTED
    }
}

/// What a sheet in the print queue does to a row.
pub const PRINTED: Change = Change { state: State::Printed, ..TAKEN };

/// What "the gateway took it" does to a row.
pub const TAKEN: Change = Change { state: State::Sent, reason: Reason::None, next_at: None, failures: 0, attempts: 0 };
