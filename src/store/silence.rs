//! Since when the receipts of a channel stay out: from the first message that its gateway
//! took after the newest receipt, or ever. Kept here, for a silence lasts longer than a
//! process, and who sends is seldom who hears.

use serde_json::json;

use super::{Result, Store};
use crate::clock::Millis;

/// Begins the keys in `meta`; the number of the channel follows.
const PREFIX: &str = "unheard:";

/// One row a channel, `[since, sent, last]`: whoever notes a silence that is known adds to
/// it, and leaves its beginning.
const NOTE_SQLITE: &str = "INSERT INTO meta (key, value) SELECT value->>0, value->>1 FROM json_each($1) WHERE true \
     ON CONFLICT (key) DO UPDATE SET value = \
     json_array(meta.value->>0, (meta.value->>1) + (excluded.value->>1), excluded.value->>2)";
const NOTE_POSTGRES: &str = "INSERT INTO meta (key, value) SELECT j->>0, j->>1 FROM json_array_elements($1::json) j \
     ON CONFLICT (key) DO UPDATE SET value = json_build_array((meta.value::json->>0)::bigint, \
     (meta.value::json->>1)::bigint + (excluded.value::json->>1)::bigint, (excluded.value::json->>2)::bigint)::text";

/// Messages of a channel that its gateway took, and no receipt came after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Silence {
    pub channel: i32,
    /// When the first of them was taken, in epoch milliseconds.
    pub since: Millis,
    /// How many they are.
    pub sent: i64,
    /// When the last of them was taken.
    pub last: Millis,
}

fn key(channel: i32) -> String {
    format!("{PREFIX}{channel}")
}

impl Store {
    /// Every channel whose receipts stay out.
    pub async fn silences(&self) -> Result<Vec<Silence>> {
        let sql = "SELECT key, value FROM meta WHERE key >= 'unheard:' AND key < 'unheard;' ORDER BY key";
        let rows: Vec<(String, String)> = read!(self, |db| sqlx::query_as(sql).fetch_all(db).await)?;
        let read = |(key, value): &(String, String)| {
            let channel = key.strip_prefix(PREFIX)?.parse().ok()?;
            let (since, sent, last) = serde_json::from_str(value).ok()?;
            Some(Silence { channel, since, sent, last })
        };
        Ok(rows.iter().filter_map(read).collect())
    }

    /// Notes messages that nothing was heard of: a silence that is not known begins, one
    /// that is known grows.
    pub async fn note_silences(&self, of: &[Silence]) -> Result<()> {
        let rows: Vec<_> = of.iter().map(|s| (key(s.channel), json!([s.since, s.sent, s.last]).to_string())).collect();
        let sql = self.pool.pick(NOTE_SQLITE, NOTE_POSTGRES);
        let mut tx = self.begin().await?;
        exec!(&mut tx, sqlx::query(sql).bind(json!(rows).to_string()))?;
        tx.commit().await
    }

    /// Forgets the silences of these channels: something was heard.
    pub async fn end_silences(&self, channels: &[i32]) -> Result<()> {
        let keys: Vec<_> = channels.iter().map(|channel| key(*channel)).collect();
        let sql = self.pool.pick(
            "DELETE FROM meta WHERE key IN (SELECT value FROM json_each($1))",
            "DELETE FROM meta WHERE key IN (SELECT json_array_elements_text($1::json))",
        );
        let mut tx = self.begin().await?;
        exec!(&mut tx, sqlx::query(sql).bind(json!(keys).to_string()))?;
        tx.commit().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{NOON, stores};

    fn silence(channel: i32, since: Millis, sent: i64) -> Silence {
        Silence { channel, since, sent, last: since + 5 }
    }

    #[tokio::test]
    async fn a_silence_keeps_its_beginning_and_counts_what_was_sent_into_it() {
        for t in stores().await {
            let store = &t.store;
            assert_eq!(store.silences().await.unwrap(), [], "{}", t.engine);
            store.note_silences(&[silence(2, NOON, 7), silence(11, NOON + 1, 1)]).await.unwrap();
            // Two processes send; one of them began later.
            store.note_silences(&[silence(2, NOON + 60_000, 30)]).await.unwrap();
            let grown = Silence { sent: 37, last: NOON + 60_005, ..silence(2, NOON, 7) };
            assert_eq!(store.silences().await.unwrap(), [silence(11, NOON + 1, 1), grown], "{}", t.engine);
            assert_eq!(store.gauges().await.unwrap().silences.len(), 2, "{}", t.engine);
            store.end_silences(&[2, 5]).await.unwrap();
            assert_eq!(store.silences().await.unwrap(), [silence(11, NOON + 1, 1)], "{}", t.engine);
            // It begins anew, not where the last one did.
            store.note_silences(&[silence(2, NOON + 90_000, 1)]).await.unwrap();
            assert_eq!(store.silences().await.unwrap()[1], silence(2, NOON + 90_000, 1), "{}", t.engine);
        }
    }

    #[tokio::test]
    async fn other_facts_are_no_silences() {
        for t in stores().await {
            t.store.set_meta("unheard", "[1,2,3]").await.unwrap();
            t.store.set_meta("unheard:x", "[1,2,3]").await.unwrap();
            assert!(t.store.claim_alarm("receipts:sms", 60_000).await.unwrap());
            t.store.end_silences(&[1]).await.unwrap();
            assert_eq!(t.store.silences().await.unwrap(), [], "{}", t.engine);
            assert_eq!(t.store.meta("unheard").await.unwrap().as_deref(), Some("[1,2,3]"), "{}", t.engine);
        }
    }
}
