//! Batches: the unit that is queued and leased. The row is the outbox; who holds
//! its newest epoch may send from it.

use std::ops::RangeInclusive;

use super::{Result, Store, Tx};
use crate::clock::Millis;
use crate::domain::delivery::{Reason, State};

/// How long a lease lasts without a heartbeat, in milliseconds.
pub const LEASE: Millis = 30_000;

/// After its engine's last sign of life a lease runs no longer than this, unless the
/// engine renewed it silently and so is not dead. In milliseconds.
const LAST_RENEWED: Millis = LEASE + 2_000;

const READY: i32 = 0;
const LEASED: i32 = 1;
const DONE: i32 = 2;

pub(super) const MOST_URGENT: &str = "SELECT b.lane FROM batches b JOIN dispatches d ON d.no = b.dispatch_no \
     WHERE b.channel = $1 AND b.state = 0 AND d.state = 'active' AND d.expires_at > $2 AND b.lane >= $3 ORDER BY b.lane, b.no LIMIT 1";

/// Leases what is ready: `$1` channel, `$2` owner, `$3` until, `$4` now, `$5` the first
/// lane, `$6` the last, `$7` at most.
pub(super) fn lease_sql(lock: &str) -> String {
    format!(
        "UPDATE batches SET state = {LEASED}, owner = $2, lease_until = $3, epoch = epoch + 1 WHERE no IN \
             (SELECT b.no FROM batches b JOIN dispatches d ON d.no = b.dispatch_no \
              WHERE b.channel = $1 AND b.state = {READY} AND d.state = 'active' AND d.expires_at > $4 AND b.lane BETWEEN $5 AND $6 ORDER BY b.lane, b.no LIMIT $7{lock}) \
             RETURNING no, dispatch_no, lane, epoch"
    )
}

/// A leased batch: the epoch is the fencing token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct Lease {
    pub no: i64,
    pub dispatch_no: i64,
    pub lane: i32,
    pub epoch: i64,
}

/// What a takeover does with the window it finds.
#[derive(Debug, Clone, Copy)]
pub struct Settling {
    /// May this delivery be repeated under the same client id?
    pub repeat: bool,
    /// When it is repeated, or given up as unknown.
    pub at: Millis,
    /// Only a lease that ran out before this is taken; [`Millis::MAX`] for any.
    pub leased_before: Millis,
}

impl Store {
    /// The database's own time, in epoch milliseconds: leases go by it.
    pub async fn db_now(&self) -> Result<Millis> {
        let sql = format!("SELECT {}", self.pool.clock());
        Ok(read!(self, |db| sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(db).await)?)
    }

    /// Leases the most urgent ready batches of a channel within these lanes, at most
    /// `most`, the most urgent first.
    pub async fn lease_batches(
        &self,
        channel: i32,
        owner: &str,
        lanes: RangeInclusive<i32>,
        most: i64,
    ) -> Result<Vec<Lease>> {
        // Most of the time nothing is ready; a read finds that out without the write lock.
        if self.most_urgent_ready(channel, *lanes.start()).await?.is_none_or(|lane| lane > *lanes.end()) {
            return Ok(Vec::new());
        }
        let (until, now) = (self.db_now().await? + LEASE, self.now());
        let mut tx = self.begin_hot().await?;
        let sql = lease_sql(tx.pick("", " FOR UPDATE OF b SKIP LOCKED"));
        let mut leases: Vec<Lease> = run!(&mut tx, |c| sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(channel)
            .bind(owner)
            .bind(until)
            .bind(now)
            .bind(*lanes.start())
            .bind(*lanes.end())
            .bind(most)
            .fetch_all(c)
            .await)?;
        tx.commit().await?;
        leases.sort_unstable_by_key(|l| (l.lane, l.no));
        Ok(leases)
    }

    /// The lane of the most urgent ready batch of an active dispatch, from a lane on.
    pub async fn most_urgent_ready(&self, channel: i32, first_lane: i32) -> Result<Option<i32>> {
        let now = self.now();
        Ok(read!(self, |db| sqlx::query_scalar(MOST_URGENT)
            .bind(channel)
            .bind(now)
            .bind(first_lane)
            .fetch_optional(db)
            .await)?)
    }

    /// Renews the leases that this owner works on; returns those that it has no more:
    /// taken over, or closed. One that got lost on the way (its load failed) runs out
    /// and is taken over.
    pub async fn heartbeat(&self, owner: &str, held: &[Lease]) -> Result<Vec<Lease>> {
        let until = self.db_now().await? + LEASE;
        let mut tx = self.begin().await?;
        // In the order in which turns lock their batches.
        let sql = tx.pick(
            "UPDATE batches SET lease_until = $2 WHERE (no, epoch) IN (SELECT value->>0, value->>1 FROM json_each($3)) AND owner = $1 AND state = 1 \
             RETURNING no, epoch",
            "UPDATE batches SET lease_until = $2 WHERE no IN (SELECT no FROM batches WHERE owner = $1 AND state = 1 AND (no, epoch) IN \
             (SELECT (j->>0)::bigint, (j->>1)::bigint FROM json_array_elements($3::json) j) ORDER BY no FOR UPDATE) RETURNING no, epoch",
        );
        let pairs: Vec<_> = held.iter().map(|l| (l.no, l.epoch)).collect();
        let pairs = serde_json::json!(pairs).to_string();
        let kept: Vec<(i64, i64)> =
            run!(&mut tx, |c| sqlx::query_as(sql).bind(owner).bind(until).bind(pairs).fetch_all(c).await)?;
        tx.commit().await?;
        Ok(held.iter().filter(|l| !kept.contains(&(l.no, l.epoch))).copied().collect())
    }

    /// Gives a leased batch back: what is still queued in it waits for the next lease.
    /// Nothing of it may be under way.
    pub async fn release_batch(&self, lease: Lease) -> Result<()> {
        let mut tx = self.begin_hot().await?;
        // Whatever its marks say was marked by a turn of which nobody heard that it was on
        // disk: it never left.
        let sql = format!(
            "UPDATE batches SET state = {READY}, owner = '', lease_until = NULL, marked_to = 0 \
             WHERE no = $1 AND epoch = $2 AND state = {LEASED}"
        );
        exec!(&mut tx, sqlx::query(sqlx::AssertSqlSafe(sql)).bind(lease.no).bind(lease.epoch))?;
        tx.commit().await
    }

    /// Batches whose lease ran out before `before` ([`Millis::MAX`]: all leased ones),
    /// each with its channel.
    pub async fn orphaned_batches(&self, before: Millis) -> Result<Vec<(Lease, i32)>> {
        let sql = "SELECT no, dispatch_no, lane, epoch, channel FROM batches WHERE state = 1 AND lease_until < $1 ORDER BY lane, no LIMIT 1000";
        let rows: Vec<(i64, i64, i32, i64, i32)> =
            read!(self, |db| sqlx::query_as(sql).bind(before).fetch_all(db).await)?;
        Ok(rows
            .into_iter()
            .map(|(no, dispatch_no, lane, epoch, channel)| (Lease { no, dispatch_no, lane, epoch }, channel))
            .collect())
    }

    /// Batches of engines that were not heard of since `silent_since`, while their
    /// leases still run, each with its channel; and until when a lease may run that was
    /// renewed before its engine fell silent.
    pub async fn orphans_of_the_silent(&self, silent_since: Millis) -> Result<Vec<(Lease, i32, Millis)>> {
        let sql = format!(
            "SELECT b.no, b.dispatch_no, b.lane, b.epoch, b.channel, w.seen_at + {LAST_RENEWED} AS until_at FROM batches b \
             JOIN workers w ON w.owner = b.owner WHERE b.state = {LEASED} AND w.seen_at < $1 AND b.lease_until < w.seen_at + {LAST_RENEWED} \
             ORDER BY b.lane, b.no LIMIT 1000"
        );
        let rows: Vec<(i64, i64, i32, i64, i32, i64)> =
            read!(self, |db| sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(silent_since).fetch_all(db).await)?;
        let orphan = |(no, dispatch_no, lane, epoch, channel, until): (i64, i64, i32, i64, i32, i64)| {
            (Lease { no, dispatch_no, lane, epoch }, channel, until)
        };
        Ok(rows.into_iter().map(orphan).collect())
    }

    /// Takes a batch from a worker that is gone: raises the epoch, turns its window
    /// into `uncertain`, says so in the ledger, and makes the rest ready, in one
    /// transaction. Returns how many were in the window.
    pub async fn take_over(&self, lease: Lease, settling: Settling) -> Result<u64> {
        let mut tx = self.begin_hot().await?;
        // Its owner may have renewed it since it was found.
        let sql = format!(
            "SELECT marked_to FROM batches WHERE no = $1 AND epoch = $2 AND state = {LEASED} AND lease_until < $3{}",
            tx.pick("", " FOR UPDATE")
        );
        let marked_to: Option<i64> = run!(&mut tx, |c| sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
            .bind(lease.no)
            .bind(lease.epoch)
            .bind(settling.leased_before)
            .fetch_optional(c)
            .await)?;
        let Some(marked_to) = marked_to else { return Ok(0) };
        let new = Lease { epoch: lease.epoch + 1, ..lease };
        let window = if marked_to > 0 { tx.doubt(new, marked_to, settling, self.now()).await? } else { 0 };
        let sql = format!(
            "UPDATE batches SET state = {READY}, owner = '', lease_until = NULL, epoch = $2, marked_to = 0 WHERE no = $1"
        );
        exec!(&mut tx, sqlx::query(sqlx::AssertSqlSafe(sql)).bind(lease.no).bind(new.epoch))?;
        tx.commit().await?;
        Ok(window)
    }
}

impl Tx {
    /// Of a batch whose lease ended: what its owner may have been sending is uncertain,
    /// and the ledger says so under the new lease. Returns how many rows.
    async fn doubt(&mut self, new: Lease, marked_to: i64, settling: Settling, now: Millis) -> Result<u64> {
        let queued = State::Queued.code();
        let marked = format!("batch = $1 AND batch > 0 AND state = {queued} AND ordinal <= $2{}", self.within(new));
        let sql = format!(
            "INSERT INTO attempts (dispatch_no, ordinal, attempt, batch, epoch, class, code, at) \
             SELECT dispatch_no, ordinal, attempt, batch, $3, {}, 'takeover', $4 FROM deliveries WHERE {marked}",
            crate::channel::Class::Unknown as i32
        );
        exec!(self, sqlx::query(sqlx::AssertSqlSafe(sql)).bind(new.no).bind(marked_to).bind(new.epoch).bind(now))?;
        let sql = format!(
            "UPDATE deliveries SET state = {}, reason = $3, next_at = $4, failures = failures + 1 WHERE {marked}",
            State::Uncertain.code()
        );
        let reason = if settling.repeat { Reason::Repeat } else { Reason::NoAnswer };
        let (reason, at) = (reason.code(), settling.at);
        Ok(exec!(self, sqlx::query(sqlx::AssertSqlSafe(sql)).bind(new.no).bind(marked_to).bind(reason).bind(at))?)
    }

    /// Where on a server the deliveries of a batch are: in one range of the ledger. The
    /// number stands in the statement, since these are rare.
    pub(super) fn within(&self, lease: Lease) -> String {
        self.pick(String::new(), format!(" AND dispatch_no = {}", lease.dispatch_no))
    }

    /// Closes batches of which every row went through.
    pub(super) async fn close_whole(&mut self, leases: &[Lease]) -> Result<()> {
        if leases.is_empty() {
            return Ok(());
        }
        let pairs = self.pick(
            "SELECT value->>0, value->>1 FROM json_each($1)",
            "SELECT (j->>0)::bigint, (j->>1)::bigint FROM json_array_elements($1::json) j",
        );
        let sql = format!(
            "UPDATE batches SET owner = '', lease_until = NULL, marked_to = 0, state = {DONE} WHERE (no, epoch) IN ({pairs}) AND state = {LEASED}"
        );
        let leases: Vec<_> = leases.iter().map(|l| (l.no, l.epoch)).collect();
        exec!(self, sqlx::query(sqlx::AssertSqlSafe(sql)).bind(serde_json::json!(leases).to_string()))?;
        Ok(())
    }

    /// Closes batches; one that has queued rows after all (its dispatch was paused
    /// while they were being marked) goes back to be leased again.
    pub(super) async fn close_batches(&mut self, leases: &[Lease]) -> Result<()> {
        for lease in leases {
            let within = self.within(*lease);
            let sql = format!(
                "UPDATE batches SET owner = '', lease_until = NULL, marked_to = 0, state = CASE WHEN EXISTS (SELECT 1 FROM deliveries \
                 WHERE batch = $1 AND batch > 0 AND state = 1{within}) THEN {READY} ELSE {DONE} END \
                 WHERE no = $1 AND epoch = $2 AND state = {LEASED}"
            );
            exec!(self, sqlx::query(sqlx::AssertSqlSafe(sql)).bind(lease.no).bind(lease.epoch))?;
        }
        Ok(())
    }

    /// A new ready batch of rows that are due again.
    pub(super) async fn add_batch(&mut self, dispatch_no: i64, channel: i32, lane: i32, size: i64) -> Result<i64> {
        let no = self.take_numbers("batch", 1).await?;
        let sql = "INSERT INTO batches (no, dispatch_no, channel, lane, size, state) VALUES ($1, $2, $3, $4, $5, 0)";
        exec!(
            self,
            sqlx::query(sql)
                .bind(no)
                .bind(dispatch_no)
                .bind(channel)
                .bind(lane)
                .bind(i32::try_from(size).unwrap_or(i32::MAX))
        )?;
        Ok(no)
    }
}
