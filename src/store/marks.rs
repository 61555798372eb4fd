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
    ($what:literal, $deliveries:literal) => {
        concat!(
            "SELECT ",
            $what,
            " FROM ",
            $deliveries,
            " WHERE dispatch_no = $1 AND batch = $2 AND batch > 0 AND ordinal BETWEEN $3 AND $4 AND state = 1 ",
            "AND EXISTS (SELECT 1 FROM dispatches WHERE no = $1 AND state = 'active' AND expires_at > $5)"
        )
    };
}
// By their ends: a server takes as long to plan for a list of a thousand as to count them.
// The rows of a batch of second tries lie far apart, hence by the index of the batch,
// which a server finds by itself.
pub(super) const COUNT_POSTGRES: &str = queued!("COUNT(*)", "deliveries");
pub(super) const COUNT_SQLITE: &str = queued!("COUNT(*)", "deliveries INDEXED BY deliveries_batch");
pub(super) const QUEUED_POSTGRES: &str = queued!("ordinal", "deliveries");
pub(super) const QUEUED_SQLITE: &str = queued!("ordinal", "deliveries INDEXED BY deliveries_batch");

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
        let (Some(&first), Some(&last)) = (wanted.first(), wanted.last()) else { return Ok(wanted) };
        let (count, queued) = self.pick((COUNT_SQLITE, QUEUED_SQLITE), (COUNT_POSTGRES, QUEUED_POSTGRES));
        let ends = (first, last);
        // Most of the time no number is left out between them, and nothing has changed.
        let all = last - first + 1;
        if i64::try_from(wanted.len()) == Ok(all) && self.ask(count, turn.lease, ends, now).await? == [all] {
            return Ok(wanted);
        }
        let mut found = self.ask(queued, turn.lease, ends, now).await?;
        found.sort_unstable();
        wanted.retain(|ordinal| found.binary_search(ordinal).is_ok());
        Ok(wanted)
    }

    /// What one of these statements finds.
    async fn ask(
        &mut self,
        sql: &'static str,
        lease: Lease,
        (first, last): (i64, i64),
        now: Millis,
    ) -> Result<Vec<i64>> {
        Ok(run!(self, |c| sqlx::query_scalar(sql)
            .bind(lease.dispatch_no)
            .bind(lease.no)
            .bind(first)
            .bind(last)
            .bind(now)
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
