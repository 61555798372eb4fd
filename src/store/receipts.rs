//! Receipts: kept first, matched when they can be, applied so that evidence only rises.

pub(super) mod claims;
pub mod rows;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use serde_json::json;

use self::rows::{KeptReceipt, ReceiptRows};
use super::{Result, Store, Tx};
use crate::channel::{Receipt, ReceiptKey};
use crate::clock::Millis;
use crate::domain::delivery::Word;
use crate::vault::Owner;

pub(super) const WAITING_SQLITE: &str = "SELECT no, gateway_id, state FROM receipts WHERE channel = $1 AND dispatch_no IS NULL \
     AND gateway_id IN (SELECT value FROM json_each($2)) ORDER BY no";

const HANDLES_SQLITE: &str = "SELECT h.gateway_id, h.dispatch_no, h.ordinal, h.attempt, h.part, h.parts FROM handles h \
     WHERE h.channel = $1 AND h.gateway_id IN (SELECT value FROM json_each($2))";
pub(super) const HANDLES_POSTGRES: &str = "SELECT h.gateway_id, h.dispatch_no, h.ordinal, h.attempt, h.part, h.parts FROM handles h \
     WHERE h.channel = $1 AND h.gateway_id IN (SELECT unnest($2::text[]) COLLATE \"C\") AND h.dispatch_no >= $3";

/// The advisory lock (with the channel's number) of those who store handles and
/// those who look for them.
pub(super) const HANDLES_LOCK: i32 = 7032;

/// What a gateway said, without the NULs that PostgreSQL's text cannot hold.
pub(super) fn storable(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "").into() } else { text.into() }
}

/// A word about one attempt of a delivery, matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    pub dispatch_no: i64,
    pub ordinal: i64,
    pub attempt: i32,
    /// (part, parts), where the gateway speaks of each part apart.
    pub part: Option<(i32, i32)>,
    pub word: Word,
    pub at: Millis,
}

/// What became of the receipts of one callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Taken {
    pub matched: usize,
    pub waiting: usize,
}

#[derive(sqlx::FromRow)]
struct Handle {
    gateway_id: String,
    dispatch_no: i64,
    ordinal: i64,
    attempt: i32,
    part: i32,
    parts: i32,
}

type Key = (i64, i64);

/// Receipts a transaction: well under 100 ms on either engine.
const CHUNK: usize = 500;

/// What is known of receipts when they are written.
struct Kept<'a> {
    /// The delivery of each, in order.
    matches: &'a [Option<Claim>],
    /// Dispatches whose data was destroyed; no raw text is kept of theirs.
    purged: &'a [i64],
    now: Millis,
}

impl Store {
    /// Keeps receipts (sealed as they came), matches those that can be and applies
    /// them: when this returns they are on disk. A long callback is kept in several
    /// transactions, so that others get their turn; where one fails the gateway repeats
    /// the whole, and what it says twice counts once.
    pub async fn record_receipts(&self, channel: i32, receipts: &[Receipt]) -> Result<Taken> {
        let mut taken = Taken::default();
        for some in receipts.chunks(CHUNK) {
            let now = self.record_some(channel, some).await?;
            taken = Taken { matched: taken.matched + now.matched, waiting: taken.waiting + now.waiting };
        }
        Ok(taken)
    }

    async fn record_some(&self, channel: i32, receipts: &[Receipt]) -> Result<Taken> {
        let now = self.now();
        let mut tx = self.begin_hot().await?;
        if let Tx::Postgres(_) = tx {
            // A worker that stores the handles of this channel goes before or after.
            let sql = "SELECT pg_advisory_xact_lock($1, $2)";
            exec!(&mut tx, sqlx::query(sql).bind(HANDLES_LOCK).bind(channel))?;
        }
        let matches = tx.match_receipts(self, channel, receipts).await?;
        let purged = tx.purged_of(&matches).await?;
        let kept = Kept { matches: &matches, purged: &purged, now };
        tx.insert_receipts(self, channel, receipts, &kept).await?;
        let claims: Vec<Claim> = receipts
            .iter()
            .zip(&matches)
            .filter_map(|(r, m)| {
                let (m, word) = (m.as_ref()?, r.word?);
                Some(Claim { word, at: now, ..*m })
            })
            .collect();
        tx.apply_claims(channel, &claims).await?;
        let gone: Vec<Key> = receipts
            .iter()
            .zip(&matches)
            .filter(|(r, _)| r.gone)
            .filter_map(|(_, m)| m.as_ref().map(|m| (m.dispatch_no, m.ordinal)))
            .collect();
        tx.mark_targets_gone(&gone).await?;
        tx.commit().await?;
        let known = matches.iter().flatten().count();
        Ok(Taken { matched: known, waiting: receipts.len() - known })
    }

    /// Receipts that wait for their message, over all channels.
    pub async fn unmatched_receipts(&self) -> Result<i64> {
        let sql = "SELECT COUNT(*) FROM receipts WHERE dispatch_no IS NULL";
        Ok(read!(self, |db| sqlx::query_scalar(sql).fetch_one(db).await)?)
    }
}

impl Tx {
    /// The delivery each receipt speaks of; `None` where it is not known (yet).
    async fn match_receipts(
        &mut self,
        store: &Store,
        channel: i32,
        receipts: &[Receipt],
    ) -> Result<Vec<Option<Claim>>> {
        let ids: Vec<Cow<'_, str>> = receipts
            .iter()
            .filter_map(|r| if let ReceiptKey::Gateway(id) = &r.key { Some(storable(id)) } else { None })
            .collect();
        let handles = self.handles(channel, &ids.iter().map(AsRef::as_ref).collect::<Vec<_>>()).await?;
        let claim = |h: &Handle| Claim {
            dispatch_no: h.dispatch_no,
            ordinal: h.ordinal,
            attempt: h.attempt,
            part: (h.parts > 1).then_some((h.part, h.parts)),
            word: Word::Sent,
            at: 0,
        };
        Ok(receipts
            .iter()
            .map(|r| match &r.key {
                ReceiptKey::Gateway(id) => handles.get(storable(id).as_ref()).map(claim),
                ReceiptKey::Client(id) => store.vault.read_client_id(*id).map(|of| Claim {
                    dispatch_no: i64::from(of.dispatch_no),
                    ordinal: i64::from(of.ordinal),
                    attempt: i32::from(of.attempt),
                    part: None,
                    word: Word::Sent,
                    at: 0,
                }),
            })
            .collect())
    }

    /// Marks the addresses that these deliveries went to: they do not exist.
    async fn mark_targets_gone(&mut self, deliveries: &[Key]) -> Result<()> {
        if deliveries.is_empty() {
            return Ok(());
        }
        let sql = self.pick(
            "UPDATE addresses SET gone = 1 WHERE id IN (SELECT d.target FROM json_each($1) j \
             JOIN deliveries d ON d.dispatch_no = j.value->>0 AND d.ordinal = j.value->>1)",
            "UPDATE addresses SET gone = 1 WHERE id IN (SELECT d.target FROM json_array_elements($1::json) j \
             JOIN deliveries d ON d.dispatch_no = (j->>0)::bigint AND d.ordinal = (j->>1)::bigint)",
        );
        exec!(self, sqlx::query(sql).bind(json!(deliveries).to_string()))?;
        Ok(())
    }

    async fn handles(&mut self, channel: i32, ids: &[&str]) -> Result<HashMap<String, Handle>> {
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
        Ok(found.into_iter().map(|h| (h.gateway_id.clone(), h)).collect())
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

    async fn insert_receipts(
        &mut self,
        store: &Store,
        channel: i32,
        receipts: &[Receipt],
        kept: &Kept<'_>,
    ) -> Result<()> {
        let first = self.take_numbers("receipt", i64::try_from(receipts.len()).unwrap_or(i64::MAX)).await?;
        let rows = receipts.iter().zip(kept.matches).zip(first..).map(|((r, m), no)| {
            let to = m.as_ref().map(|m| (m.dispatch_no, m.ordinal, m.attempt));
            let purged = to.is_some_and(|(dispatch, ..)| kept.purged.contains(&dispatch));
            KeptReceipt {
                no,
                gateway_id: if let ReceiptKey::Gateway(id) = &r.key {
                    storable(id).into_owned()
                } else {
                    String::new()
                },
                state: r.word.map_or(-1, |w| w.state().code()),
                code: storable(&r.code).into_owned(),
                event_at: r.event_at,
                to,
                raw_sealed: (!purged).then(|| store.vault.seal(Owner::Receipt(no), r.raw.as_bytes())),
            }
        });
        let rows = ReceiptRows::new(&store.pool, rows.collect());
        self.keep_receipts(channel, kept.now, &rows).await
    }

    /// Those of the dispatches spoken of whose people's data was destroyed: what a
    /// gateway says of them afterwards (numbers, names) must not bring it back.
    async fn purged_of(&mut self, matches: &[Option<Claim>]) -> Result<Vec<i64>> {
        let mut dispatches: Vec<i64> = matches.iter().flatten().map(|m| m.dispatch_no).collect();
        dispatches.sort_unstable();
        dispatches.dedup();
        if dispatches.is_empty() {
            return Ok(dispatches);
        }
        let sql = self.pick(
            "SELECT no FROM dispatches WHERE purged_at IS NOT NULL AND no IN (SELECT value FROM json_each($1))",
            "SELECT no FROM dispatches WHERE purged_at IS NOT NULL AND no = ANY (translate($1, '[]', '{}')::bigint[])",
        );
        Ok(run!(self, |c| sqlx::query_scalar(sql).bind(json!(dispatches).to_string()).fetch_all(c).await)?)
    }

    /// Receipts that came before their message's handle: their time is now.
    pub(super) async fn match_waiting(&mut self, store: &Store, channel: i32, ids: &[&str]) -> Result<()> {
        let any: Option<i64> = run!(self, |c| sqlx::query_scalar(
            "SELECT no FROM receipts WHERE channel = $1 AND dispatch_no IS NULL LIMIT 1"
        )
        .bind(channel)
        .fetch_optional(c)
        .await)?;
        if any.is_none() {
            return Ok(());
        }
        let sql = self.pick(
            WAITING_SQLITE,
            "SELECT no, gateway_id, state FROM receipts WHERE channel = $1 AND dispatch_no IS NULL AND gateway_id IN \
             (SELECT j COLLATE \"C\" FROM json_array_elements_text($2::json) j) ORDER BY no",
        );
        let waiting: Vec<(i64, String, i32)> =
            run!(self, |c| sqlx::query_as(sql).bind(channel).bind(json!(ids).to_string()).fetch_all(c).await)?;
        if waiting.is_empty() {
            return Ok(());
        }
        let handles = self.handles(channel, ids).await?;
        let mut claims = Vec::new();
        for (no, id, state) in waiting {
            let Some(handle) = handles.get(&id) else { continue };
            let sql = "UPDATE receipts SET dispatch_no = $2, ordinal = $3, attempt = $4 WHERE no = $1";
            exec!(self, sqlx::query(sql).bind(no).bind(handle.dispatch_no).bind(handle.ordinal).bind(handle.attempt))?;
            let Some(word) = word_of(state) else { continue };
            claims.push(Claim {
                dispatch_no: handle.dispatch_no,
                ordinal: handle.ordinal,
                attempt: handle.attempt,
                part: (handle.parts > 1).then_some((handle.part, handle.parts)),
                word,
                at: store.now(),
            });
        }
        self.apply_claims(channel, &claims).await
    }
}

fn word_of(state: i32) -> Option<Word> {
    [Word::Sent, Word::Undelivered, Word::Delivered, Word::Read, Word::Confirmed]
        .into_iter()
        .find(|w| w.state().code() == state)
}
