//! What receipts claim of deliveries, folded in: evidence only rises.

use std::collections::{BTreeMap, BTreeSet};

use super::{Claim, Key};
use crate::clock::Millis;
use crate::domain::delivery::{Event, State, Word, next};
use crate::store::bulk::Rows;
use crate::store::marks::state;
use crate::store::{Result, StoreError, Tx};

#[derive(sqlx::FromRow, serde::Deserialize)]
struct Current {
    dispatch_no: i64,
    ordinal: i64,
    state: i32,
    attempt: i32,
    /// 1 where the data of its dispatch was destroyed.
    purged: i32,
}

/// A delivery while claims are folded into it.
pub(super) struct Raised {
    pub(super) purged: bool,
    attempt: i32,
    state: State,
    handed: Option<Millis>,
    reached: Option<Millis>,
    seen: Option<Millis>,
}

/// Whether to wait for rows that another transaction holds, or to leave them out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    Yes,
    No,
}

impl Tx {
    /// Folds claims into their deliveries by the table of transitions.
    pub(in crate::store) async fn apply_claims(&mut self, channel: i32, claims: &[Claim]) -> Result<()> {
        let keys: BTreeSet<Key> = claims.iter().map(Claim::key).collect();
        let rows = self.lock_deliveries(&keys, Wait::Yes).await?;
        self.fold_claims(channel, claims, rows).await
    }

    /// The same with deliveries that are locked already.
    pub(super) async fn fold_claims(
        &mut self,
        channel: i32,
        claims: &[Claim],
        mut rows: BTreeMap<Key, Raised>,
    ) -> Result<()> {
        for claim in self.join_parts(channel, claims).await? {
            if let Some(row) = rows.get_mut(&claim.key()) {
                raise(row, &claim);
            }
        }
        rows.retain(|_, r| r.handed.is_some());
        if rows.is_empty() { Ok(()) } else { self.write_raised(&rows).await }
    }

    /// Reads deliveries; on a server they are locked, in the order of their keys, and
    /// those that another transaction holds lack where we do not wait.
    pub(super) async fn lock_deliveries(&mut self, keys: &BTreeSet<Key>, wait: Wait) -> Result<BTreeMap<Key, Raised>> {
        if keys.is_empty() {
            return Ok(BTreeMap::new());
        }
        let found: Vec<Current> = match self {
            Self::Sqlite(t) => {
                let keys: Rows = keys.iter().map(|(d, o)| [(*d).into(), (*o).into()]).collect();
                let json: String = sqlx::query_scalar(READ_SQLITE).bind(keys.into_json()).fetch_one(&mut **t).await?;
                serde_json::from_str(&json).map_err(|e| StoreError::Damaged(e.to_string()))?
            }
            Self::Postgres(t) => {
                sqlx::query_as(if wait == Wait::Yes { LOCK } else { LOCK_FREE })
                    .bind(keys.iter().map(|k| k.0).collect::<Vec<_>>())
                    .bind(keys.iter().map(|k| k.1).collect::<Vec<_>>())
                    .fetch_all(&mut **t)
                    .await?
            }
        };
        let entry = |row: Current| {
            let state = State::from_code(row.state)?;
            let (purged, attempt) = (row.purged != 0, row.attempt);
            let raised = Raised { purged, attempt, state, handed: None, reached: None, seen: None };
            Some(((row.dispatch_no, row.ordinal), raised))
        };
        Ok(found.into_iter().filter_map(entry).collect())
    }

    async fn write_raised(&mut self, raised: &BTreeMap<Key, Raised>) -> Result<()> {
        if let Self::Postgres(t) = self {
            let column = |of: fn(&Raised) -> Option<Millis>| raised.values().map(of).collect::<Vec<_>>();
            sqlx::query(RAISE)
                .bind(raised.keys().map(|k| k.0).collect::<Vec<_>>())
                .bind(raised.keys().map(|k| k.1).collect::<Vec<_>>())
                .bind(raised.values().map(|r| r.state.code()).collect::<Vec<_>>())
                .bind(column(|r| r.handed))
                .bind(column(|r| r.reached))
                .bind(column(|r| r.seen))
                .execute(&mut **t)
                .await?;
            return Ok(());
        }
        let rows = raised.iter().map(|((d, o), r)| {
            [(*d).into(), (*o).into(), r.state.code().into(), r.handed.into(), r.reached.into(), r.seen.into()]
        });
        let sql = "UPDATE deliveries SET state = j.state, reason = 0, next_at = NULL, handed_at = COALESCE(handed_at, j.handed), \
             reached_at = COALESCE(reached_at, j.reached), seen_at = COALESCE(seen_at, j.seen) \
             FROM (SELECT value->>0 AS dn, value->>1 AS o, value->>2 AS state, value->>3 AS handed, value->>4 AS reached, value->>5 AS seen FROM json_each($1)) j \
             WHERE deliveries.dispatch_no = j.dn AND deliveries.ordinal = j.o";
        exec!(self, sqlx::query(sql).bind(rows.collect::<Rows>().into_json()))?;
        Ok(())
    }
}

/// The rows as one JSON text: handed over one by one they cost the driver more than
/// finding them does the database.
const READ_SQLITE: &str = concat!(
    "SELECT json_group_array(json_array(d.dispatch_no, d.ordinal, ",
    state!("d"),
    ", d.attempt, p.purged_at IS NOT NULL)) FROM (SELECT value->>0 AS dn, value->>1 AS o FROM json_each($1)) j \
     JOIN deliveries d ON d.dispatch_no = j.dn AND d.ordinal = j.o LEFT JOIN dispatches p ON p.no = d.dispatch_no"
);

macro_rules! lock {
    ($how:literal) => {
        concat!(
            "SELECT d.dispatch_no, d.ordinal, ",
            state!("d"),
            " AS state, d.attempt, (p.purged_at IS NOT NULL)::int AS purged \
             FROM unnest($1::bigint[], $2::bigint[]) AS j (dn, o) \
             JOIN deliveries d ON d.dispatch_no = j.dn AND d.ordinal = j.o LEFT JOIN dispatches p ON p.no = d.dispatch_no \
             ORDER BY d.dispatch_no, d.ordinal FOR NO KEY UPDATE OF d",
            $how
        )
    };
}

/// Arrays: of dispatch and ordinal.
const LOCK: &str = lock!("");
pub(in crate::store) const LOCK_FREE: &str = lock!(" SKIP LOCKED");

/// Arrays on a server: of dispatch, ordinal, state, and three times.
pub(in crate::store) const RAISE: &str = "UPDATE deliveries SET state = j.state, reason = 0, next_at = NULL, \
     handed_at = COALESCE(deliveries.handed_at, j.handed), reached_at = COALESCE(deliveries.reached_at, j.reached), \
     seen_at = COALESCE(deliveries.seen_at, j.seen) \
     FROM unnest($1::bigint[], $2::bigint[], $3::int[], $4::bigint[], $5::bigint[], $6::bigint[]) \
     AS j (dn, o, state, handed, reached, seen) WHERE deliveries.dispatch_no = j.dn AND deliveries.ordinal = j.o";

/// Raises a delivery by one claim, if the table of transitions lets it.
fn raise(row: &mut Raised, claim: &Claim) {
    let event = Event::Receipt { word: claim.word, current: claim.attempt == row.attempt };
    let Some(state) = next(row.state, event) else { return };
    row.state = state;
    row.handed.get_or_insert(claim.at);
    if claim.word >= Word::Delivered {
        row.reached.get_or_insert(claim.at);
    }
    if claim.word >= Word::Read {
        row.seen.get_or_insert(claim.at);
    }
}
