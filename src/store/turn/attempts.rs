//! What was heard of each attempt, entered into the ledger; never changed after.
//!
//! A turn mostly hears one word of hundreds of deliveries that follow one another. Such
//! a *run* is one row: the first of them, and how many more. The view `tries` has one row
//! for each try again, for whoever reads the ledger by hand.

use std::collections::BTreeMap;

use super::BatchTurn;
use crate::clock::Millis;
use crate::store::bulk::{Col, Rows};
use crate::store::{Result, Tx};

/// Most deliveries in a run (as the schema says, too): so far back begins the run of a
/// delivery at the most.
const LONGEST: i64 = 1_000;

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

/// Not entered yet, under the same lease.
const NEW: &str = concat!(
    " WHERE NOT EXISTS (SELECT 1 FROM attempts a WHERE ",
    tried!("a", "src"),
    " AND a.attempt = src.attempt AND a.batch = src.batch AND a.epoch = src.epoch)"
);

impl Tx {
    /// Enters what these batches heard. `first`: all of these rows were `sending` until
    /// this transaction, so nobody has entered an attempt of theirs under this lease, and
    /// nobody need look whether somebody has.
    pub(super) async fn append_attempts(&mut self, turns: &[&BatchTurn], first: bool) -> Result<()> {
        let mut rows = Rows::default();
        for turn in turns {
            push(&mut rows, turn, if first { LONGEST } else { 1 });
        }
        let (list, source) = (Col::list(&COLUMNS), self.source(&COLUMNS));
        let which = if first { "" } else { NEW };
        self.bulk(format!("INSERT INTO attempts ({list}) SELECT {list} FROM {source}{which}"), rows).await?;
        Ok(())
    }
}

/// The runs of a batch, of up to `longest` deliveries.
fn push(rows: &mut Rows, turn: &BatchTurn, longest: i64) {
    let mut heard: BTreeMap<(i32, i32, &str), (Vec<i64>, Millis)> = BTreeMap::new();
    for r in &turn.records {
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
