//! Receipts: kept first, matched when they can be, applied so that evidence only rises.
//!
//! Several at once on a server, and beside the turns of workers: who records receipts
//! never waits for a delivery's row. What another transaction holds just now is left
//! out and recorded a moment later, so nobody can wait for us in a circle. Addresses and
//! deliveries that are free, then the handles of these deliveries alone.

pub(super) mod claims;
pub(super) mod handles;
pub(super) mod meeting;
pub(super) mod parts;
pub mod rows;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use serde_json::json;

use self::claims::{Raised, Wait};
use self::rows::{KeptReceipt, ReceiptRows};
use super::{Result, Store, StoreError, Tx};
use crate::channel::{Receipt, ReceiptKey};
use crate::clock::Millis;
use crate::domain::delivery::Word;
use crate::vault::Owner;

/// How long rows that others hold are left alone before the next try, in milliseconds:
/// transactions of ours stay under 100 ms.
const PAUSES: [u64; 8] = [1, 2, 5, 10, 20, 50, 200, 1_000];

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

/// What became of one receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Matched,
    /// Kept; its message is not known (yet).
    Waiting,
    /// Not kept: another transaction held its delivery all the time.
    Held,
}

impl Taken {
    /// Counts the fates of a callback's receipts.
    ///
    /// # Errors
    /// When one of them could not be kept: the callback has to be repeated.
    pub fn of(fates: &[Fate]) -> Result<Self> {
        let n = |fate| fates.iter().filter(|f| **f == fate).count();
        if n(Fate::Held) > 0 {
            return Err(StoreError::Held);
        }
        Ok(Self { matched: n(Fate::Matched), waiting: n(Fate::Waiting) })
    }
}

impl Claim {
    fn key(&self) -> Key {
        (self.dispatch_no, self.ordinal)
    }
}

type Key = (i64, i64);

/// Receipts a transaction: well under 100 ms on either engine.
pub const GROUP: usize = 500;

/// Calls of [`Store::record_group`] for one channel that are worth making at once: the
/// database works on one group, or brings it to the disk, while the other is sealed here.
pub const AT_ONCE: usize = 2;

/// A receipt's number, and what came sealed for the row of that number.
type Sealed = (i64, Vec<u8>);

/// What is known of receipts when they are written.
struct Kept<'a> {
    /// The delivery of each, in order.
    matches: &'a [Option<Claim>],
    /// Deliveries that others hold: their receipts are not written.
    held: &'a HashSet<Key>,
    /// Deliveries of dispatches whose data was destroyed: what a gateway says of them
    /// afterwards (numbers, names) must not bring it back.
    purged: &'a HashSet<Key>,
    sealed: Vec<Sealed>,
    now: Millis,
}

impl Store {
    /// Keeps receipts (sealed as they came), matches those that can be and applies
    /// them: when this returns they are on disk. A long callback is kept in several
    /// transactions, so that others get their turn; where one fails the gateway repeats
    /// the whole, and what it says twice counts once.
    ///
    /// # Errors
    /// When the database fails, or another transaction holds a delivery for seconds.
    pub async fn record_receipts(&self, channel: i32, receipts: &[Receipt]) -> Result<Taken> {
        let mut taken = Taken::default();
        for some in receipts.chunks(GROUP) {
            let now = Taken::of(&self.record_group(channel, some).await?)?;
            taken = Taken { matched: taken.matched + now.matched, waiting: taken.waiting + now.waiting };
        }
        Ok(taken)
    }

    /// The same for receipts of several callbacks, in one transaction: says what became
    /// of each.
    ///
    /// # Errors
    /// When the database fails; then none of them is kept.
    pub async fn record_group(&self, channel: i32, receipts: &[Receipt]) -> Result<Vec<Fate>> {
        let mut fates = vec![Fate::Held; receipts.len()];
        let mut pauses = PAUSES.iter();
        loop {
            let left: Vec<usize> = (0..fates.len()).filter(|i| fates[*i] == Fate::Held).collect();
            if left.is_empty() {
                break;
            }
            let some: Vec<&Receipt> = left.iter().map(|i| &receipts[*i]).collect();
            match self.record_some(channel, &some).await {
                Ok(now) => left.iter().zip(now).for_each(|(i, fate)| fates[*i] = fate),
                Err(error) if error.is_conflict() => {}
                // The others are kept.
                Err(error) if left.len() < fates.len() => {
                    tracing::warn!(channel, %error, "some receipts of a group could not be kept");
                    break;
                }
                Err(error) => return Err(error),
            }
            if fates.contains(&Fate::Held) {
                let Some(pause) = pauses.next() else { break };
                tokio::time::sleep(Duration::from_millis(*pause)).await;
            }
        }
        self.look_again(channel, receipts, &fates).await;
        Ok(fates)
    }

    async fn record_some(&self, channel: i32, receipts: &[&Receipt]) -> Result<Vec<Fate>> {
        let now = self.now();
        let n = i64::try_from(receipts.len()).unwrap_or(i64::MAX);
        let first = self.pool.reserve_receipts(n).await?;
        // No lock is held while we seal.
        let seal = |(no, r): (i64, &&Receipt)| (no, self.vault.seal(Owner::Receipt(no), r.raw.as_bytes()));
        let sealed: Vec<Sealed> = (first..).zip(receipts).map(seal).collect();
        let mut tx = self.begin_hot().await?;
        let matches = tx.match_receipts(self, channel, receipts).await?;
        tx.mark_targets_gone(receipts, &matches).await?;
        let keys: BTreeSet<Key> = matches.iter().flatten().map(Claim::key).collect();
        let rows = tx.lock_deliveries(&keys, Wait::No).await?;
        let held = tx.held_by_others(&keys, &rows).await?;
        let is_held = |m: &Option<Claim>| m.is_some_and(|m| held.contains(&m.key()));
        let mut purged: HashSet<Key> = rows.iter().filter(|(_, row)| row.purged).map(|(key, _)| *key).collect();
        purged.extend(tx.purged_without_rows(&keys, &rows).await?);
        let kept = Kept { matches: &matches, held: &held, purged: &purged, sealed, now };
        tx.insert_receipts(self, channel, receipts, kept).await?;
        let claims: Vec<Claim> = receipts
            .iter()
            .zip(&matches)
            .filter_map(|(r, m)| {
                let (m, word) = (m.as_ref()?, r.word?);
                // The parts of what is not ours are not, either.
                rows.contains_key(&m.key()).then_some(Claim { word, at: now, ..*m })
            })
            .collect();
        tx.fold_claims(channel, &claims, rows).await?;
        tx.commit().await?;
        let fate = |m: &Option<Claim>| match m {
            None => Fate::Waiting,
            m if is_held(m) => Fate::Held,
            Some(_) => Fate::Matched,
        };
        Ok(matches.iter().map(fate).collect())
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
        receipts: &[&Receipt],
    ) -> Result<Vec<Option<Claim>>> {
        let ids: Vec<Cow<'_, str>> = receipts
            .iter()
            .filter_map(|r| if let ReceiptKey::Gateway(id) = &r.key { Some(storable(id)) } else { None })
            .collect();
        let handles = self.handles(channel, &ids.iter().map(AsRef::as_ref).collect::<Vec<_>>()).await?;
        Ok(receipts
            .iter()
            .map(|r| match &r.key {
                ReceiptKey::Gateway(id) => handles.get(storable(id).as_ref()).map(|h| h.claim(Word::Sent, 0)),
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

    /// Marks the addresses that do not exist. One that is held is being marked by another:
    /// nothing else changes an address.
    async fn mark_targets_gone(&mut self, receipts: &[&Receipt], matches: &[Option<Claim>]) -> Result<()> {
        let gone = receipts.iter().zip(matches).filter(|(r, _)| r.gone);
        let deliveries: Vec<Key> = gone.filter_map(|(_, m)| m.as_ref().map(Claim::key)).collect();
        if deliveries.is_empty() {
            return Ok(());
        }
        let sql = self.pick(
            "UPDATE addresses SET gone = 1 WHERE id IN (SELECT d.target FROM json_each($1) j \
             JOIN deliveries d ON d.dispatch_no = j.value->>0 AND d.ordinal = j.value->>1)",
            "UPDATE addresses SET gone = 1 WHERE id IN (SELECT a.id FROM json_array_elements($1::json) j \
             JOIN deliveries d ON d.dispatch_no = (j->>0)::bigint AND d.ordinal = (j->>1)::bigint \
             JOIN addresses a ON a.id = d.target AND a.gone = 0 FOR NO KEY UPDATE OF a SKIP LOCKED)",
        );
        exec!(self, sqlx::query(sql).bind(json!(deliveries).to_string()))?;
        Ok(())
    }

    async fn insert_receipts(
        &mut self,
        store: &Store,
        channel: i32,
        receipts: &[&Receipt],
        kept: Kept<'_>,
    ) -> Result<()> {
        let numbered = receipts.iter().zip(kept.matches).zip(kept.sealed);
        let free = numbered.filter(|((_, m), _)| !m.is_some_and(|m| kept.held.contains(&m.key())));
        let rows = free.map(|((r, m), (no, sealed))| {
            let to = m.as_ref().map(|m| (m.dispatch_no, m.ordinal, m.attempt));
            let purged = m.is_some_and(|m| kept.purged.contains(&m.key()));
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
                raw_sealed: (!purged).then_some(sealed),
            }
        });
        let rows = ReceiptRows::new(&store.pool, rows.collect());
        self.keep_receipts(channel, kept.now, &rows).await
    }

    /// The same of deliveries that are no longer there.
    async fn purged_without_rows(&mut self, keys: &BTreeSet<Key>, rows: &BTreeMap<Key, Raised>) -> Result<Vec<Key>> {
        let missing: Vec<Key> = keys.iter().filter(|k| !rows.contains_key(*k)).copied().collect();
        if missing.is_empty() {
            return Ok(missing);
        }
        let dispatches: BTreeSet<i64> = missing.iter().map(|k| k.0).collect();
        let sql = self.pick(
            "SELECT no FROM dispatches WHERE purged_at IS NOT NULL AND no IN (SELECT value FROM json_each($1))",
            "SELECT no FROM dispatches WHERE purged_at IS NOT NULL AND no = ANY (translate($1, '[]', '{}')::bigint[])",
        );
        let purged: Vec<i64> =
            run!(self, |c| sqlx::query_scalar(sql).bind(json!(dispatches).to_string()).fetch_all(c).await)?;
        Ok(missing.into_iter().filter(|k| purged.contains(&k.0)).collect())
    }

    /// Those of the deliveries that exist and could not be locked.
    async fn held_by_others(&mut self, keys: &BTreeSet<Key>, rows: &BTreeMap<Key, Raised>) -> Result<HashSet<Key>> {
        let Self::Postgres(t) = self else { return Ok(HashSet::new()) };
        let missing: Vec<&Key> = keys.iter().filter(|k| !rows.contains_key(*k)).collect();
        if missing.is_empty() {
            return Ok(HashSet::new());
        }
        let sql = "SELECT d.dispatch_no, d.ordinal FROM unnest($1::bigint[], $2::bigint[]) AS j (dn, o) \
                   JOIN deliveries d ON d.dispatch_no = j.dn AND d.ordinal = j.o";
        let (dispatches, ordinals): (Vec<i64>, Vec<i64>) = missing.into_iter().copied().unzip();
        let found: Vec<Key> = sqlx::query_as(sql).bind(dispatches).bind(ordinals).fetch_all(&mut **t).await?;
        Ok(found.into_iter().collect())
    }
}
