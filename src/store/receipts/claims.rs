//! What receipts claim of deliveries, folded in: evidence only rises.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Claim, Key};
use crate::clock::Millis;
use crate::domain::delivery::{Event, State, Word, next};
use crate::store::{Result, Tx};

#[derive(sqlx::FromRow)]
struct Current {
    dispatch_no: i64,
    ordinal: i64,
    state: i32,
    attempt: i32,
}

/// A delivery after its claims were folded in.
struct Raised {
    /// Its state when it was read.
    was: i32,
    attempt: i32,
    state: State,
    handed: Option<Millis>,
    reached: Option<Millis>,
    seen: Option<Millis>,
}

impl Tx {
    /// Folds claims into their deliveries by the table of transitions.
    pub(in crate::store) async fn apply_claims(&mut self, channel: i32, claims: &[Claim]) -> Result<()> {
        let claims = self.join_parts(channel, claims).await?;
        if claims.is_empty() {
            return Ok(());
        }
        // On a server a row may have changed since it was read; then both are done again.
        loop {
            let mut raised: BTreeMap<Key, Raised> = BTreeMap::new();
            for row in self.current(&claims).await? {
                let Some(state) = State::from_code(row.state) else { continue };
                let key = (row.dispatch_no, row.ordinal);
                raised.insert(
                    key,
                    Raised { was: row.state, attempt: row.attempt, state, handed: None, reached: None, seen: None },
                );
            }
            for claim in &claims {
                if let Some(row) = raised.get_mut(&(claim.dispatch_no, claim.ordinal)) {
                    raise(row, claim);
                }
            }
            raised.retain(|_, r| r.handed.is_some());
            if raised.is_empty() || self.write_raised(&raised).await? == raised.len() as u64 {
                return Ok(());
            }
        }
    }

    /// A message in parts is delivered when all its parts are: a claim about a part
    /// stays with the part until the last one agrees. One undelivered part is enough
    /// to call the message undelivered. A message that was repeated has several
    /// handles a part; whichever copy arrives will do.
    async fn join_parts(&mut self, channel: i32, claims: &[Claim]) -> Result<Vec<Claim>> {
        let mut whole = Vec::with_capacity(claims.len());
        for claim in claims {
            let Some((part, parts)) = claim.part else {
                whole.push(*claim);
                continue;
            };
            let sql = "UPDATE handles SET state = $6 WHERE channel = $1 AND dispatch_no = $2 AND ordinal = $3 AND attempt = $4 AND part = $5 AND state < $6";
            exec!(
                self,
                sqlx::query(sql)
                    .bind(channel)
                    .bind(claim.dispatch_no)
                    .bind(claim.ordinal)
                    .bind(claim.attempt)
                    .bind(part)
                    .bind(claim.word as i32 + 1)
            )?;
            let sql = "SELECT COUNT(DISTINCT part) FROM handles WHERE dispatch_no = $1 AND ordinal = $2 AND attempt = $3 AND channel = $4 AND state >= $5";
            let agreed: i64 = run!(self, |c| sqlx::query_scalar(sql)
                .bind(claim.dispatch_no)
                .bind(claim.ordinal)
                .bind(claim.attempt)
                .bind(channel)
                .bind(claim.word as i32 + 1)
                .fetch_one(c)
                .await)?;
            if claim.word < Word::Delivered || agreed >= i64::from(parts) {
                whole.push(Claim { part: None, ..*claim });
            }
        }
        Ok(whole)
    }

    async fn current(&mut self, claims: &[Claim]) -> Result<Vec<Current>> {
        let keys: Vec<Key> = claims.iter().map(|c| (c.dispatch_no, c.ordinal)).collect();
        let sql = self.pick(
            "SELECT d.dispatch_no, d.ordinal, d.state, d.attempt FROM (SELECT DISTINCT value->>0 AS dn, value->>1 AS o FROM json_each($1)) j \
             JOIN deliveries d ON d.dispatch_no = j.dn AND d.ordinal = j.o",
            CURRENT,
        );
        Ok(run!(self, |c| sqlx::query_as(sql).bind(json!(keys).to_string()).fetch_all(c).await)?)
    }

    /// Writes those that are still as they were read; returns how many.
    async fn write_raised(&mut self, raised: &BTreeMap<Key, Raised>) -> Result<u64> {
        if let Self::Postgres(t) = self {
            let column = |of: fn(&Raised) -> Option<Millis>| raised.values().map(of).collect::<Vec<_>>();
            let code = |of: fn(&Raised) -> i32| raised.values().map(of).collect::<Vec<_>>();
            let done = sqlx::query(RAISE)
                .bind(raised.keys().map(|k| k.0).collect::<Vec<_>>())
                .bind(raised.keys().map(|k| k.1).collect::<Vec<_>>())
                .bind(code(|r| r.state.code()))
                .bind(code(|r| r.was))
                .bind(column(|r| r.handed))
                .bind(column(|r| r.reached))
                .bind(column(|r| r.seen))
                .execute(&mut **t)
                .await?;
            return Ok(done.rows_affected());
        }
        let rows: Vec<_> =
            raised.iter().map(|((d, o), r)| (d, o, r.state.code(), r.handed, r.reached, r.seen)).collect();
        let sql = "UPDATE deliveries SET state = j.state, reason = 0, next_at = NULL, handed_at = COALESCE(handed_at, j.handed), \
             reached_at = COALESCE(reached_at, j.reached), seen_at = COALESCE(seen_at, j.seen) \
             FROM (SELECT value->>0 AS dn, value->>1 AS o, value->>2 AS state, value->>3 AS handed, value->>4 AS reached, value->>5 AS seen FROM json_each($1)) j \
             WHERE deliveries.dispatch_no = j.dn AND deliveries.ordinal = j.o";
        Ok(exec!(self, sqlx::query(sql).bind(json!(rows).to_string()))?)
    }
}

pub(in crate::store) const CURRENT: &str = "SELECT d.dispatch_no, d.ordinal, d.state, d.attempt FROM (SELECT DISTINCT (e->>0)::bigint AS dn, (e->>1)::bigint AS o \
             FROM json_array_elements($1::json) e) j JOIN deliveries d ON d.dispatch_no = j.dn AND d.ordinal = j.o";

/// Arrays on a server: of dispatch, ordinal, new state, old state, and three times.
pub(in crate::store) const RAISE: &str = "UPDATE deliveries SET state = j.state, reason = 0, next_at = NULL, \
     handed_at = COALESCE(deliveries.handed_at, j.handed), reached_at = COALESCE(deliveries.reached_at, j.reached), \
     seen_at = COALESCE(deliveries.seen_at, j.seen) \
     FROM unnest($1::bigint[], $2::bigint[], $3::int[], $4::int[], $5::bigint[], $6::bigint[], $7::bigint[]) \
     AS j (dn, o, state, was, handed, reached, seen) \
     WHERE deliveries.dispatch_no = j.dn AND deliveries.ordinal = j.o AND deliveries.state = j.was";

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
