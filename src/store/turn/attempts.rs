//! What was heard of each attempt, entered into the ledger; never changed after.
//!
//! A turn mostly hears one word of hundreds of deliveries that follow one another. Such
//! a *run* is one row: the first of them, and how many more. The view `tries` has one row
//! for each try again, for whoever reads the ledger by hand.

use std::collections::{BTreeMap, HashSet};

use super::{BatchTurn, Record};
use crate::clock::Millis;
use crate::store::bulk::{Col, Rows};
use crate::store::{Result, Tx};

/// Most deliveries in a run (as the schema says, too): so far back begins the run of a
/// delivery at the most.
const LONGEST: i64 = 1_000;

/// Deliveries of which an attempt under this lease may have been entered before, each by
/// its dispatch and ordinal: of a turn whose commit nobody heard of, say. Any other was
/// `sending` until this transaction, and nobody need look.
pub(super) type Doubted = HashSet<(i64, i64)>;

/// Whether an attempt, by that name, was one at a delivery of `$row`, as a condition that
/// the key of either is enough for.
macro_rules! tried {
    ($attempt:literal, $row:literal) => {
        concat!(
            $attempt,
            ".dispatch_no = ",
            $row,
            ".dispatch_no AND ",
            $attempt,
            ".ordinal BETWEEN ",
            $row,
            ".ordinal - 999 AND ",
            $row,
            ".ordinal AND ",
            $row,
            ".ordinal BETWEEN ",
            $attempt,
            ".ordinal AND ",
            $attempt,
            ".ordinal + ",
            $attempt,
            ".more"
        )
    };
}
pub(in crate::store) use tried;

const COLUMNS: [Col; 9] = [
    Col::Int("dispatch_no"),
    Col::Int("ordinal"),
    Col::Int("attempt"),
    Col::Int("batch"),
    Col::Int("epoch"),
    Col::Int("class"),
    Col::Text("code"),
    Col::Int("at"),
    Col::Int("more"),
];

/// Those that were not entered yet, under the same lease.
pub(in crate::store) const UNLESS_ENTERED: &str = concat!(
    " WHERE NOT EXISTS (SELECT 1 FROM attempts a WHERE ",
    tried!("a", "src"),
    " AND a.attempt = src.attempt AND a.batch = src.batch AND a.epoch = src.epoch)"
);

impl Tx {
    /// Enters what these batches heard.
    pub(super) async fn append_attempts(&mut self, turns: &[&BatchTurn], doubted: &Doubted) -> Result<()> {
        let (mut new, mut perhaps) = (Rows::default(), Rows::default());
        for turn in turns {
            let of = |r: &&Record| doubted.contains(&(turn.lease.dispatch_no, r.ordinal));
            push(&mut new, turn, turn.records.iter().filter(|r| !of(r)), LONGEST);
            push(&mut perhaps, turn, turn.records.iter().filter(of), 1);
        }
        self.bulk(self.append_sql(""), new).await?;
        self.bulk(self.append_sql(UNLESS_ENTERED), perhaps).await?;
        Ok(())
    }

    pub(in crate::store) fn append_sql(&self, which: &str) -> String {
        let (list, source) = (Col::list(&COLUMNS), self.source(&COLUMNS));
        format!("INSERT INTO attempts ({list}) SELECT {list} FROM {source}{which}")
    }
}

/// Some records of a batch, in runs of up to `longest` deliveries.
fn push<'a>(rows: &mut Rows, turn: &BatchTurn, records: impl Iterator<Item = &'a Record>, longest: i64) {
    let mut heard: BTreeMap<(i32, i32, &str), (Vec<i64>, Millis)> = BTreeMap::new();
    for r in records {
        let same = heard.entry((r.attempt, r.class, &r.code)).or_default();
        same.0.push(r.ordinal);
        same.1 = same.1.max(r.at);
    }
    let lease = turn.lease;
    for ((attempt, class, code), (mut ordinals, at)) in heard {
        ordinals.sort_unstable();
        for (first, more) in runs(&ordinals, longest) {
            rows.push(&[
                lease.dispatch_no.into(),
                first.into(),
                attempt.into(),
                lease.no.into(),
                lease.epoch.into(),
                class.into(),
                code.into(),
                at.into(),
                more.into(),
            ]);
        }
    }
}

/// Of numbers in order, those that follow one another: the first, and how many more.
fn runs(ordinals: &[i64], longest: i64) -> Vec<(i64, i64)> {
    let mut runs: Vec<(i64, i64)> = Vec::new();
    for &ordinal in ordinals {
        match runs.last_mut() {
            Some((first, more)) if *first + *more + 1 == ordinal && *more + 1 < longest => *more += 1,
            _ => runs.push((ordinal, 0)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_follow_one_another_are_a_run() {
        assert_eq!(runs(&[], LONGEST), []);
        assert_eq!(runs(&[7], LONGEST), [(7, 0)]);
        assert_eq!(runs(&[1, 2, 3, 5, 6, 9], LONGEST), [(1, 2), (5, 1), (9, 0)]);
        assert_eq!(runs(&[1, 2, 3], 1), [(1, 0), (2, 0), (3, 0)]);
        let long: Vec<i64> = (1..=2_001).collect();
        assert_eq!(runs(&long, LONGEST), [(1, 999), (1_001, 999), (2_001, 0)]);
    }
}
