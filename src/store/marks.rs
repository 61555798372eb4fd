//! Marks: which deliveries of a leased batch may be on their way to a gateway. They are
//! on disk before anything is sent, so that a crash leaves no doubt about the others.
//!
//! A batch goes out in the order of its ordinals, so that one number says it for all: a
//! delivery that stands `queued`, and not beyond the `marked_to` of its batch, is
//! `sending`. To mark a thousand costs what marking one does, and no row is written
//! before its result is. A batch that nobody holds has 0 there.
//!
//! Where rows were given back while later ones were under way, the mark stays beyond
//! them until those are recorded: a crash then doubts a few that never left.

use super::batches::Lease;
use super::bulk::Numbers;
use super::turn::BatchTurn;
use super::{Result, Tx};
use crate::clock::Millis;

/// Whether a row of `deliveries`, by that name, is under way.
macro_rules! under_way {
    ($row:literal) => {
        concat!(
            "(",
            $row,
            ".state = 1 AND EXISTS (SELECT 1 FROM batches b WHERE b.no = ",
            $row,
            ".batch AND b.marked_to >= ",
            $row,
            ".ordinal))"
        )
    };
}
pub(super) use under_way;

/// The state of such a row: `sending` (2) where it is under way.
macro_rules! state {
    ($row:literal) => {
        concat!("CASE WHEN ", $crate::store::marks::under_way!($row), " THEN 2 ELSE ", $row, ".state END")
    };
}
pub(super) use state;

const HOLD_SQLITE: &str =
    "SELECT no, epoch, marked_to FROM batches WHERE no IN (SELECT value FROM json_each($1)) AND state = 1";
const HOLD_POSTGRES: &str =
    "SELECT no, epoch, marked_to FROM batches WHERE no = ANY($1) AND state = 1 ORDER BY no FOR UPDATE";

macro_rules! queued {
    ($what:literal, $which:literal) => {
        concat!(
            "SELECT ",
            $what,
            " FROM deliveries WHERE dispatch_no = $1 AND batch = $2 AND ",
            $which,
            " AND state = 1 AND EXISTS (SELECT 1 FROM dispatches WHERE no = $1 AND state = 'active' AND expires_at > $4)"
        )
    };
}
macro_rules! sqlite {
    ($what:literal) => {
        queued!($what, "ordinal IN (SELECT value FROM json_each($3))")
    };
}
// A server walks the rows of the batch between the first and the last that is asked for:
// without these bounds it would read the whole batch at every turn, and with the numbers
// as a condition of the index (hence `+ 0`) descend it once for each.
macro_rules! postgres {
    ($what:literal) => {
        queued!($what, "ordinal BETWEEN $5 AND $6 AND ordinal + 0 = ANY($3)")
    };
}
pub(super) const COUNT_SQLITE: &str = sqlite!("COUNT(*)");
pub(super) const COUNT_POSTGRES: &str = postgres!("COUNT(*)");

impl Tx {
    /// Holds batches, so that a takeover or a sweep of one comes wholly before or after
    /// this transaction. Says how far each is marked; `None` where its lease is lost.
    pub(super) async fn hold(&mut self, leases: &[Lease]) -> Result<Vec<Option<i64>>> {
        let batches: Vec<i64> = leases.iter().map(|l| l.no).collect();
        let sql = self.pick(HOLD_SQLITE, HOLD_POSTGRES);
        let held: Vec<(i64, i64, i64)> =
            run!(self, |c| sqlx::query_as(sql).bind(Numbers(&batches)).fetch_all(c).await)?;
        let of = |lease: &Lease| {
            held.iter().find(|(no, epoch, _)| (*no, *epoch) == (lease.no, lease.epoch)).map(|(.., to)| *to)
        };
        Ok(leases.iter().map(of).collect())
    }

    /// The same with one.
    pub(super) async fn hold_one(&mut self, lease: Lease) -> Result<Option<i64>> {
        Ok(self.hold(&[lease]).await?.pop().flatten())
    }

    /// Those of the rows to mark that may be: still queued, of a dispatch that is neither
    /// paused, called off nor over. In order.
    pub(super) async fn queued(&mut self, turn: &BatchTurn, now: Millis) -> Result<Vec<i64>> {
        let mut wanted = turn.mark.clone();
        wanted.sort_unstable();
        if wanted.is_empty() {
            return Ok(wanted);
        }
        let sql = self.pick(COUNT_SQLITE, COUNT_POSTGRES);
        let n = self.ask(sql, turn.lease, &wanted, now).await?;
        // Most of the time nothing has changed.
        if n.first().is_some_and(|n| usize::try_from(*n) == Ok(wanted.len())) {
            return Ok(wanted);
        }
        let sql = self.pick(sqlite!("ordinal"), postgres!("ordinal"));
        let mut found = self.ask(sql, turn.lease, &wanted, now).await?;
        found.sort_unstable();
        Ok(found)
    }

    /// What one of these statements finds; `wanted` is in order, and not empty.
    async fn ask(&mut self, sql: &'static str, lease: Lease, wanted: &[i64], now: Millis) -> Result<Vec<i64>> {
        Ok(run!(self, |c| sqlx::query_scalar(sql)
            .bind(lease.dispatch_no)
            .bind(lease.no)
            .bind(Numbers(wanted))
            .bind(now)
            .bind(wanted.first())
            .bind(wanted.last())
            .fetch_all(c)
            .await)?)
    }

    /// Says of batches that are held how far they are marked.
    pub(super) async fn set_marks(&mut self, marks: &[(i64, i64)]) -> Result<()> {
        if marks.is_empty() {
            return Ok(());
        }
        let sql = self.pick(
            "UPDATE batches SET marked_to = j.t FROM (SELECT value->>0 AS n, value->>1 AS t FROM json_each($1)) j WHERE no = j.n",
            "UPDATE batches SET marked_to = (j->>1)::bigint FROM json_array_elements($1::json) j WHERE no = (j->>0)::bigint",
        );
        exec!(self, sqlx::query(sql).bind(serde_json::json!(marks).to_string()))?;
        Ok(())
    }

    /// Holds the open batches of a dispatch: what of it is under way stays known, and
    /// nobody whose clock is behind begins with another.
    pub(super) async fn hold_all_of(&mut self, dispatch_no: i64) -> Result<()> {
        if let Self::Postgres(t) = self {
            let sql = "SELECT no FROM batches WHERE dispatch_no = $1 AND state IN (0, 1) ORDER BY no FOR UPDATE";
            sqlx::query(sql).bind(dispatch_no).execute(&mut **t).await?;
        }
        Ok(())
    }
}
