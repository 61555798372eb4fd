//! Receipts and the handles of their messages find each other, whichever came first.
//!
//! Neither side sees what the other has not committed. So both look again after their
//! own commit: whoever commits last sees the other's. What a crash between commit and
//! look leaves behind is found by [`Store::match_left`].

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use serde_json::json;

use super::claims::Wait;
use super::{Claim, Fate, GROUP, Key, storable};
use crate::channel::{Receipt, ReceiptKey};
use crate::domain::delivery::Word;
use crate::store::{Pool, Result, Store, Tx};

pub(in crate::store) const WAITING_SQLITE: &str = "SELECT no, gateway_id, state FROM receipts WHERE channel = $1 AND dispatch_no IS NULL \
     AND gateway_id IN (SELECT value FROM json_each($2)) ORDER BY no";

pub(in crate::store) const WAITING_POSTGRES: &str = "SELECT no, gateway_id, state FROM receipts WHERE channel = $1 AND dispatch_no IS NULL \
     AND gateway_id IN (SELECT unnest($2::text[]) COLLATE \"C\") ORDER BY no";

/// Of those with a message: the one that is sure of it goes first, the other sees that it
/// is done. To lock what may have none would hide it from the one that knows.
///
/// Said as `IS NULL` it would offer the index of all that wait, and a server that believes
/// them few reads that from end to end.
pub(in crate::store) const STILL_WAITING: &str =
    "SELECT no FROM receipts WHERE no = ANY ($1) AND COALESCE(dispatch_no, 0) = 0 ORDER BY no FOR NO KEY UPDATE";

pub(in crate::store) const ANY_WAITS: &str =
    "SELECT no FROM receipts WHERE channel = $1 AND dispatch_no IS NULL LIMIT 1";

/// Ids in their order, after the one where the last look ended.
pub(in crate::store) const LEFT: &str = "SELECT gateway_id FROM receipts WHERE channel = $1 AND dispatch_no IS NULL AND gateway_id > $2 \
     ORDER BY gateway_id LIMIT $3";

/// Before each try, in milliseconds; after the last one it is left to [`Store::match_left`].
const TRIES: [u64; 4] = [0, 2, 10, 50];

/// A receipt that waits: number, gateway's id, state.
type Waiting = (i64, String, i32);

impl Store {
    /// The second look of those who record receipts, at what stayed unmatched.
    pub(super) async fn look_again(&self, channel: i32, receipts: &[Receipt], fates: &[Fate]) {
        let waiting = receipts.iter().zip(fates).filter(|(_, fate)| **fate == Fate::Waiting);
        let ids: Vec<Cow<'_, str>> = waiting.filter_map(|(r, _)| gateway_id(&r.key)).collect();
        if !ids.is_empty() {
            self.meet_if_can(channel, &ids).await;
        }
    }

    /// The second look of those who stored the handles `ids`: cheap while nothing waits.
    pub(in crate::store) async fn look_for_waiting(&self, channel: i32, ids: &[Cow<'_, str>]) {
        if ids.is_empty() {
            return;
        }
        match self.any_waits(channel).await {
            Ok(false) => {}
            Ok(true) => self.meet_if_can(channel, ids).await,
            Err(error) => tracing::warn!(channel, %error, "cannot look for early receipts; the scheduler will"),
        }
    }

    /// Matches what a crash left unmatched, page by page: `after` is where the last look
    /// ended, and what is returned where this one did; empty at the end.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn match_left(&self, channel: i32, after: &str) -> Result<String> {
        if after.is_empty() && !self.any_waits(channel).await? {
            return Ok(String::new());
        }
        let page = i64::try_from(GROUP).unwrap_or(i64::MAX);
        let mut tx = self.begin_hot().await?;
        let ids: Vec<String> =
            run!(&mut tx, |c| sqlx::query_scalar(LEFT).bind(channel).bind(after).bind(page).fetch_all(c).await)?;
        tx.commit().await?;
        let next = if ids.len() < GROUP { None } else { ids.last().cloned() };
        let ids: BTreeSet<Cow<'_, str>> = ids.into_iter().map(Cow::from).collect();
        self.meet(channel, &ids.into_iter().collect::<Vec<_>>()).await?;
        Ok(next.unwrap_or_default())
    }

    async fn any_waits(&self, channel: i32) -> Result<bool> {
        if let Pool::Sqlite { read, .. } = &self.pool {
            let any: Option<i64> = sqlx::query_scalar(ANY_WAITS).bind(channel).fetch_optional(read).await?;
            return Ok(any.is_some());
        }
        let mut tx = self.begin_hot().await?;
        let any: Option<i64> = run!(&mut tx, |c| sqlx::query_scalar(ANY_WAITS).bind(channel).fetch_optional(c).await)?;
        tx.commit().await?;
        Ok(any.is_some())
    }

    async fn meet_if_can(&self, channel: i32, ids: &[Cow<'_, str>]) {
        if let Err(error) = self.meet(channel, ids).await {
            tracing::warn!(channel, %error, "cannot match receipts now; the scheduler will");
        }
    }

    async fn meet(&self, channel: i32, ids: &[Cow<'_, str>]) -> Result<()> {
        for pause in TRIES {
            if pause > 0 {
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            match self.meet_once(channel, ids).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Says whether everything that can be matched is.
    async fn meet_once(&self, channel: i32, ids: &[Cow<'_, str>]) -> Result<bool> {
        let ids: Vec<&str> = ids.iter().map(AsRef::as_ref).collect();
        let mut tx = self.begin_hot().await?;
        let waiting = tx.waiting(channel, &ids).await?;
        let waited: HashSet<&str> = waiting.iter().map(|(_, id, _)| id.as_str()).collect();
        let handles = tx.handles(channel, &waited.into_iter().collect::<Vec<_>>()).await?;
        let now = self.now();
        let mut found: Vec<(i64, Claim, bool)> = waiting
            .iter()
            .filter_map(|(no, id, state)| {
                let word = word_of(*state);
                Some((*no, handles.get(id)?.claim(word.unwrap_or(Word::Sent), now), word.is_some()))
            })
            .collect();
        tx.keep_waiting(&mut found).await?;
        if found.is_empty() {
            tx.commit().await?;
            return Ok(true);
        }
        let keys: BTreeSet<Key> = found.iter().map(|(_, claim, _)| claim.key()).collect();
        let rows = tx.lock_deliveries(&keys, Wait::No).await?;
        let held = tx.held_by_others(&keys, &rows).await?;
        let free: Vec<&(i64, Claim, bool)> = found.iter().filter(|(_, c, _)| !held.contains(&c.key())).collect();
        tx.enter_matches(&free.iter().map(|(no, claim, _)| (*no, *claim)).collect::<Vec<_>>()).await?;
        let claims: Vec<Claim> = free.iter().filter(|(.., says)| *says).map(|(_, claim, _)| *claim).collect();
        tx.fold_claims(channel, &claims, rows).await?;
        tx.commit().await?;
        Ok(held.is_empty())
    }
}

impl Tx {
    async fn waiting(&mut self, channel: i32, ids: &[&str]) -> Result<Vec<Waiting>> {
        Ok(match self {
            Self::Sqlite(t) => {
                let list = json!(ids).to_string();
                sqlx::query_as(WAITING_SQLITE).bind(channel).bind(list).fetch_all(&mut **t).await?
            }
            Self::Postgres(t) => sqlx::query_as(WAITING_POSTGRES).bind(channel).bind(ids).fetch_all(&mut **t).await?,
        })
    }

    /// Drops what another has matched meanwhile, and on a server locks the rest.
    async fn keep_waiting(&mut self, found: &mut Vec<(i64, Claim, bool)>) -> Result<()> {
        let Self::Postgres(t) = self else { return Ok(()) };
        if !found.is_empty() {
            let numbers: Vec<i64> = found.iter().map(|(no, ..)| *no).collect();
            let still: Vec<i64> = sqlx::query_scalar(STILL_WAITING).bind(numbers).fetch_all(&mut **t).await?;
            found.retain(|(no, ..)| still.binary_search(no).is_ok());
        }
        Ok(())
    }

    async fn enter_matches(&mut self, matches: &[(i64, Claim)]) -> Result<()> {
        match self {
            Self::Sqlite(t) => {
                let rows: Vec<_> = matches.iter().map(|(no, c)| (no, c.dispatch_no, c.ordinal, c.attempt)).collect();
                let sql = "UPDATE receipts SET dispatch_no = j.dn, ordinal = j.o, attempt = j.attempt FROM (SELECT value->>0 AS no, \
                     value->>1 AS dn, value->>2 AS o, value->>3 AS attempt FROM json_each($1)) j WHERE receipts.no = j.no";
                sqlx::query(sql).bind(json!(rows).to_string()).execute(&mut **t).await?;
            }
            Self::Postgres(t) => {
                let of = |at: fn(&Claim) -> i64| matches.iter().map(|(_, c)| at(c)).collect::<Vec<_>>();
                let sql = "UPDATE receipts SET dispatch_no = j.dn, ordinal = j.o, attempt = j.attempt \
                     FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::int[]) AS j (no, dn, o, attempt) WHERE receipts.no = j.no";
                sqlx::query(sql)
                    .bind(matches.iter().map(|(no, _)| *no).collect::<Vec<_>>())
                    .bind(of(|c| c.dispatch_no))
                    .bind(of(|c| c.ordinal))
                    .bind(matches.iter().map(|(_, c)| c.attempt).collect::<Vec<_>>())
                    .execute(&mut **t)
                    .await?;
            }
        }
        Ok(())
    }
}

fn gateway_id(key: &ReceiptKey) -> Option<Cow<'_, str>> {
    if let ReceiptKey::Gateway(id) = key { Some(storable(id)) } else { None }
}

fn word_of(state: i32) -> Option<Word> {
    [Word::Sent, Word::Undelivered, Word::Delivered, Word::Read, Word::Confirmed]
        .into_iter()
        .find(|w| w.state().code() == state)
}
