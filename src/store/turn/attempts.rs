//! What was heard of each attempt, entered into the ledger; never changed after.

use std::collections::BTreeMap;

use super::BatchTurn;
use crate::clock::Millis;
use crate::store::bulk::Numbers;
use crate::store::receipts::storable;
use crate::store::{Result, Tx};

macro_rules! insert {
    ($ordinals:literal $ending:literal) => {
        concat!(
            "INSERT INTO attempts (dispatch_no, ordinal, attempt, batch, epoch, class, code, at) SELECT $1, ",
            $ordinals,
            ", $4, $2, $3, $5, $6, $7",
            $ending
        )
    };
}

const SQLITE: &str = insert!("value" " FROM json_each($8) WHERE true ON CONFLICT DO NOTHING");
const FIRST_POSTGRES: &str = insert!("unnest($8::bigint[])" "");
const AGAIN_POSTGRES: &str = insert!("unnest($8::bigint[])" " ON CONFLICT DO NOTHING");

impl Tx {
    /// One statement for each different word that was heard: most turns hear one. `first`:
    /// all of these rows were `sending` until this transaction, so nobody has entered an
    /// attempt of theirs under this lease, and a server need not look whether somebody has.
    pub(super) async fn append_attempts(&mut self, turn: &BatchTurn, first: bool) -> Result<()> {
        let mut heard: BTreeMap<(i32, i32, &str), (Vec<i64>, Millis)> = BTreeMap::new();
        for r in &turn.records {
            let same = heard.entry((r.attempt, r.class, &r.code)).or_default();
            same.0.push(r.ordinal);
            same.1 = same.1.max(r.at);
        }
        let lease = turn.lease;
        for ((attempt, class, code), (mut ordinals, at)) in heard {
            // In order, one page of the key after the other.
            ordinals.sort_unstable();
            let sql = self.pick(SQLITE, if first { FIRST_POSTGRES } else { AGAIN_POSTGRES });
            exec!(
                self,
                sqlx::query(sql)
                    .bind(lease.dispatch_no)
                    .bind(lease.no)
                    .bind(lease.epoch)
                    .bind(attempt)
                    .bind(class)
                    .bind(storable(code))
                    .bind(at)
                    .bind(Numbers(&ordinals))
            )?;
        }
        Ok(())
    }
}
