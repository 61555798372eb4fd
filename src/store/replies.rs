//! What came back by SMS: kept sealed with the number it came from.

use serde::Serialize;
use serde_json::json;

use super::{Result, Store, StoreError};
use crate::clock::Millis;
use crate::domain::calls::Meaning;
use crate::vault::Owner;

/// A reply as it was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub no: i64,
    pub channel: String,
    pub at: Millis,
    /// confirm, opt_out, other
    pub meaning: String,
    pub from: String,
    pub text: String,
}

/// How many replies of each meaning there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Replies {
    pub meaning: String,
    pub n: i64,
}

impl Store {
    /// Keeps a reply.
    ///
    /// # Errors
    /// When the database fails; the gateway must repeat it then.
    pub async fn keep_reply(&self, channel: i32, meaning: Meaning, (from, text): (&str, &str)) -> Result<()> {
        let mut tx = self.begin().await?;
        let no = tx.take_numbers("reply", 1).await?;
        let said = json!({ "from": from, "text": text }).to_string();
        let sealed = self.vault.seal(Owner::Reply(no), said.as_bytes());
        let sql = "INSERT INTO replies (no, channel, received_at, meaning, said_sealed) VALUES ($1, $2, $3, $4, $5)";
        exec!(&mut tx, sqlx::query(sql).bind(no).bind(channel).bind(self.now()).bind(meaning.name()).bind(sealed))?;
        tx.commit().await
    }

    /// How many there are, by meaning.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn count_replies(&self) -> Result<Vec<Replies>> {
        let sql = "SELECT meaning, COUNT(*) AS n FROM replies GROUP BY meaning ORDER BY meaning";
        Ok(read!(self, |db| sqlx::query_as(sql).fetch_all(db).await)?)
    }

    /// The newest `limit` replies of a meaning, or of all.
    ///
    /// # Errors
    /// When sealed data does not open, or the database fails.
    pub async fn replies(&self, meaning: Option<Meaning>, limit: i64) -> Result<Vec<Kept>> {
        let sql = "SELECT r.no, c.name, r.received_at, r.meaning, r.said_sealed FROM replies r JOIN channels c ON c.no = r.channel \
                   WHERE r.meaning = $1 OR $1 = '' ORDER BY r.no DESC LIMIT $2";
        let wanted = meaning.map_or("", Meaning::name);
        let rows: Vec<(i64, String, Millis, String, Vec<u8>)> =
            read!(self, |db| sqlx::query_as(sql).bind(wanted).bind(limit).fetch_all(db).await)?;
        let open = |(no, channel, at, meaning, sealed): (i64, String, Millis, String, Vec<u8>)| {
            let (from, text) = self.open_reply(no, &sealed)?;
            Ok(Kept { no, channel, at, meaning, from, text })
        };
        rows.into_iter().map(open).collect()
    }

    /// Number and text of a reply.
    pub(super) fn open_reply(&self, no: i64, sealed: &[u8]) -> Result<(String, String)> {
        let said = self.vault.open_sealed(Owner::Reply(no), sealed)?;
        let said: serde_json::Value =
            serde_json::from_slice(&said).map_err(|e| StoreError::Damaged(format!("replies.said: {e}")))?;
        let word = |name: &str| said[name].as_str().unwrap_or_default().to_owned();
        Ok((word("from"), word("text")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::stores;

    #[tokio::test]
    async fn replies_are_sealed_counted_and_read() {
        for t in stores().await {
            let channel = t.store.channel_no("sms").await.unwrap();
            t.store.keep_reply(channel, Meaning::Other, ("13900000001", "我家进水了")).await.unwrap();
            t.store.keep_reply(channel, Meaning::OptOut, ("13900000002", "TD")).await.unwrap();
            let counts = t.store.count_replies().await.unwrap();
            assert_eq!(
                counts.iter().map(|c| (c.meaning.as_str(), c.n)).collect::<Vec<_>>(),
                [("opt_out", 1), ("other", 1)]
            );
            let all = t.store.replies(None, 10).await.unwrap();
            assert_eq!(all.iter().map(|r| r.text.as_str()).collect::<Vec<_>>(), ["TD", "我家进水了"], "{}", t.engine);
            let other = t.store.replies(Some(Meaning::Other), 10).await.unwrap();
            assert_eq!((other.len(), other[0].from.as_str()), (1, "13900000001"));
        }
    }
}
