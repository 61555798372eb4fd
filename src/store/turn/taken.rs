//! What the gateway took, written back: the common case.

use std::collections::BTreeMap;

use super::attempts::Doubted;
use super::{BatchTurn, Record};
use crate::clock::Millis;
use crate::store::bulk::Numbers;
use crate::store::{Result, Tx};

pub(in crate::store) const TAKEN_SQLITE: &str = "UPDATE deliveries SET state = $4, reason = 0, parts = $5, epoch = $3, handed_at = COALESCE(handed_at, $6) \
     WHERE dispatch_no = $1 AND ordinal IN (SELECT value FROM json_each($7)) AND batch IN (SELECT value FROM json_each($2)) AND state = 1";

// A server walks the rows of the batches between the first and the last that is asked for:
// without these bounds it would read whole batches at every turn, and with the numbers
// as a condition of the index (hence `+ 0`) descend it once for each.
pub(in crate::store) const TAKEN_POSTGRES: &str = "UPDATE deliveries SET state = $4, reason = 0, parts = $5, epoch = $3, handed_at = COALESCE(handed_at, $6) \
     WHERE dispatch_no = $1 AND batch = ANY($2) AND ordinal BETWEEN $8 AND $9 AND ordinal + 0 = ANY($7) AND state = 1";

/// Of these, the rows that carry the word of this lease.
const DONE_SQLITE: &str = "SELECT ordinal FROM deliveries WHERE dispatch_no = $1 AND ordinal IN (SELECT value FROM json_each($2)) \
     AND epoch = $3 AND state = $4";
const DONE_POSTGRES: &str =
    "SELECT ordinal FROM deliveries WHERE dispatch_no = $1 AND ordinal = ANY($2) AND epoch = $3 AND state = $4";

/// Rows of one dispatch that a turn changes alike, whichever batch they are of.
pub(super) struct Taken<'a> {
    dispatch_no: i64,
    epoch: i64,
    state: i32,
    parts: i32,
    batches: Vec<i64>,
    ordinals: Vec<i64>,
    at: Millis,
    records: Vec<&'a Record>,
}

/// What was taken, in as few groups as there are kinds of it: most turns have one.
pub(super) fn groups<'a>(turns: &[&'a BatchTurn]) -> Vec<Taken<'a>> {
    let mut groups: BTreeMap<(i64, i64, i32, i32), Taken<'a>> = BTreeMap::new();
    for turn in turns {
        let lease = turn.lease;
        for record in turn.records.iter().filter(|r| r.change.is_taken()) {
            let (state, parts) = (record.change.state.code(), record.parts);
            let group = groups.entry((lease.dispatch_no, lease.epoch, state, parts)).or_insert_with(|| Taken {
                dispatch_no: lease.dispatch_no,
                epoch: lease.epoch,
                state,
                parts,
                batches: Vec::new(),
                ordinals: Vec::new(),
                at: 0,
                records: Vec::new(),
            });
            if group.batches.last() != Some(&lease.no) {
                group.batches.push(lease.no);
            }
            group.ordinals.push(record.ordinal);
            group.at = group.at.max(record.at);
            group.records.push(record);
        }
    }
    groups.into_values().collect()
}

impl Taken<'_> {
    pub(super) fn len(&self) -> u64 {
        self.records.len() as u64
    }
}

impl Tx {
    /// Returns how many rows it changed: fewer where a receipt was faster.
    pub(super) async fn record_taken(&mut self, group: &Taken<'_>) -> Result<u64> {
        let sql = self.pick(TAKEN_SQLITE, TAKEN_POSTGRES);
        let (first, last) = bounds(&group.ordinals);
        Ok(exec!(
            self,
            sqlx::query(sql)
                .bind(group.dispatch_no)
                .bind(Numbers(&group.batches))
                .bind(group.epoch)
                .bind(group.state)
                .bind(group.parts)
                .bind(group.at)
                .bind(Numbers(&group.ordinals))
                .bind(first)
                .bind(last)
        )?)
    }

    /// Of a group of which only `changed` rows did, enters those whose row had changed
    /// before, and says which may have been entered under this lease already: these, and
    /// all where some bear the word of this lease that did not change now.
    pub(super) async fn enter_late_of(
        &mut self,
        channel: i32,
        (group, changed): (&Taken<'_>, u64),
        doubted: &mut Doubted,
    ) -> Result<()> {
        let sql = self.pick(DONE_SQLITE, DONE_POSTGRES);
        let mut done: Vec<i64> = run!(self, |c| sqlx::query_scalar(sql)
            .bind(group.dispatch_no)
            .bind(Numbers(&group.ordinals))
            .bind(group.epoch)
            .bind(group.state)
            .fetch_all(c)
            .await)?;
        done.sort_unstable();
        let is_late = |r: &&&Record| done.binary_search(&r.ordinal).is_err();
        let repeated = done.len() as u64 > changed;
        let not_new = group.records.iter().filter(|r| repeated || is_late(r));
        doubted.extend(not_new.map(|r| (group.dispatch_no, r.ordinal)));
        self.enter_late(channel, group.dispatch_no, group.records.iter().filter(is_late).copied().collect()).await
    }
}

/// The least and the greatest.
fn bounds(ordinals: &[i64]) -> (i64, i64) {
    ordinals.iter().fold((i64::MAX, i64::MIN), |(first, last), o| (first.min(*o), last.max(*o)))
}
