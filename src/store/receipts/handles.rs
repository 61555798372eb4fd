//! The messages that receipts speak of, found by the ids that the gateway gave them.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use serde_json::json;

use super::Claim;
use crate::clock::Millis;
use crate::domain::delivery::Word;
use crate::store::{Result, Tx};

const HANDLES_SQLITE: &str = "SELECT h.gateway_id, h.dispatch_no, h.ordinal, h.attempt, h.part, h.parts FROM handles h \
     WHERE h.channel = $1 AND h.gateway_id IN (SELECT value FROM json_each($2))";
pub(in crate::store) const HANDLES_POSTGRES: &str = "SELECT h.gateway_id, h.dispatch_no, h.ordinal, h.attempt, h.part, h.parts FROM handles h \
     WHERE h.channel = $1 AND h.gateway_id IN (SELECT unnest($2::text[]) COLLATE \"C\") AND h.dispatch_no >= $3";

/// What a gateway's id speaks of.
#[derive(sqlx::FromRow)]
pub(super) struct Handle {
    gateway_id: String,
    dispatch_no: i64,
    ordinal: i64,
    attempt: i32,
    part: i32,
    parts: i32,
}

impl Handle {
    pub fn claim(&self, word: Word, at: Millis) -> Claim {
        let part = (self.parts > 1).then_some((self.part, self.parts));
        Claim { dispatch_no: self.dispatch_no, ordinal: self.ordinal, attempt: self.attempt, part, word, at }
    }
}

impl Tx {
    pub(super) async fn handles(&mut self, channel: i32, ids: &[&str]) -> Result<HashMap<String, Handle>> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let found: Vec<Handle> = match self {
            Self::Sqlite(t) => {
                let list = json!(ids).to_string();
                sqlx::query_as(HANDLES_SQLITE).bind(channel).bind(list).fetch_all(&mut **t).await?
            }
            Self::Postgres(_) => self.handles_on_server(channel, ids).await?,
        };
        Ok(by_id(found))
    }

    /// First among the dispatches at work, which are in the newest ranges of the ledger;
    /// through all ranges only for what is not there.
    async fn handles_on_server(&mut self, channel: i32, ids: &[&str]) -> Result<Vec<Handle>> {
        let Self::Postgres(t) = self else { return Ok(Vec::new()) };
        let oldest = "SELECT COALESCE((SELECT MIN(no) FROM dispatches WHERE finished_at IS NULL), (SELECT MAX(no) FROM dispatches), 0)";
        let oldest: i64 = sqlx::query_scalar(oldest).fetch_one(&mut **t).await?;
        let mut found: Vec<Handle> =
            sqlx::query_as(HANDLES_POSTGRES).bind(channel).bind(ids).bind(oldest).fetch_all(&mut **t).await?;
        let known: HashSet<&str> = found.iter().map(|h| h.gateway_id.as_str()).collect();
        let missing: Vec<&str> = ids.iter().copied().filter(|id| !known.contains(id)).collect();
        if !missing.is_empty() && oldest > 0 {
            let older: Vec<Handle> =
                sqlx::query_as(HANDLES_POSTGRES).bind(channel).bind(missing).bind(0_i64).fetch_all(&mut **t).await?;
            found.extend(older);
        }
        Ok(found)
    }
}

/// One handle an id. What was entered twice is its first attempt, whose parts are all
/// there; an id that a gateway uses again is the newest dispatch's.
fn by_id(mut found: Vec<Handle>) -> HashMap<String, Handle> {
    found.sort_by_key(|h| (h.dispatch_no, h.ordinal, Reverse(h.attempt)));
    found.into_iter().map(|h| (h.gateway_id.clone(), h)).collect()
}
