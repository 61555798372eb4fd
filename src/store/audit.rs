//! The audit log: who did what, chained by hashes so that a changed or missing row shows.

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{Result, Store, Tx};
use crate::clock::Millis;
use crate::vault::hex;

/// One entry as it stands in the log.
#[derive(Debug, Clone, sqlx::FromRow, serde::Serialize)]
pub struct Entry {
    pub seq: i64,
    pub at: Millis,
    pub operator: String,
    pub action: String,
    pub subject: String,
    pub detail: String,
    pub hash: String,
}

const COLUMNS: &str = "SELECT seq, at, operator, action, subject, detail, hash FROM audit";

impl Tx {
    /// Appends an entry; it becomes true with the change it tells of, in one commit.
    /// `detail` holds ids and counts, never personal data.
    pub async fn append_audit(
        &mut self,
        at: Millis,
        operator: &str,
        (action, subject): (&str, &str),
        detail: &Value,
    ) -> Result<()> {
        // One appender at a time on PostgreSQL; SQLite has one writer anyway.
        if let Self::Postgres(_) = self {
            exec!(self, sqlx::query("SELECT pg_advisory_xact_lock(7031)"))?;
        }
        let last: Option<(i64, String)> =
            run!(self, |c| sqlx::query_as("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1")
                .fetch_optional(c)
                .await)?;
        let (seq, previous) = last.map_or((1, String::new()), |(seq, hash)| (seq + 1, hash));
        let mut entry = Entry {
            seq,
            at,
            operator: operator.to_owned(),
            action: action.to_owned(),
            subject: subject.to_owned(),
            detail: detail.to_string(),
            hash: String::new(),
        };
        entry.hash = chain(&previous, &entry);
        let sql =
            "INSERT INTO audit (seq, at, operator, action, subject, detail, hash) VALUES ($1, $2, $3, $4, $5, $6, $7)";
        exec!(
            self,
            sqlx::query(sql)
                .bind(entry.seq)
                .bind(entry.at)
                .bind(&entry.operator)
                .bind(&entry.action)
                .bind(&entry.subject)
                .bind(&entry.detail)
                .bind(&entry.hash)
        )?;
        Ok(())
    }
}

impl Store {
    /// Records an act that changes nothing else in the database, or whose changes were
    /// made chunk by chunk.
    pub async fn note_act(&self, operator: &str, action: &str, subject: &str, detail: &Value) -> Result<()> {
        let mut tx = self.begin().await?;
        tx.append_audit(self.now(), operator, (action, subject), detail).await?;
        tx.commit().await
    }

    /// Recomputes the chain. `Ok(Err(seq))` names the first entry that does not fit.
    pub async fn verify_audit(&self) -> Result<std::result::Result<i64, i64>> {
        let mut previous = String::new();
        let mut seen = 0;
        loop {
            let sql = format!("{COLUMNS} WHERE seq > $1 ORDER BY seq LIMIT 1000");
            let page: Vec<Entry> =
                read!(self, |db| sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(seen).fetch_all(db).await)?;
            if page.is_empty() {
                return Ok(Ok(seen));
            }
            for entry in page {
                if entry.seq != seen + 1 || entry.hash != chain(&previous, &entry) {
                    return Ok(Err(entry.seq));
                }
                seen = entry.seq;
                previous = entry.hash;
            }
        }
    }

    /// The newest entries, newest first.
    pub async fn audit_tail(&self, limit: i64) -> Result<Vec<Entry>> {
        let sql = format!("{COLUMNS} ORDER BY seq DESC LIMIT $1");
        Ok(read!(self, |db| sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(limit).fetch_all(db).await)?)
    }
}

/// SHA-256 over the previous hash and the entry's fields, each ended by a zero byte.
fn chain(previous: &str, entry: &Entry) -> String {
    let mut hash = Sha256::new();
    let (seq, at) = (entry.seq.to_string(), entry.at.to_string());
    for field in [previous, &seq, &at, &entry.operator, &entry.action, &entry.subject, &entry.detail] {
        hash.update(field.as_bytes());
        hash.update([0]);
    }
    hex(&hash.finalize())
}

#[cfg(test)]
mod tests {
    use crate::store::testing::{NOON, stores};

    #[tokio::test]
    async fn a_changed_or_missing_entry_shows() {
        for t in stores().await {
            let store = &t.store;
            for n in 0..3 {
                let mut tx = store.begin().await.unwrap();
                tx.append_audit(NOON + n, "张三", ("test", "subject"), &serde_json::json!({ "n": n })).await.unwrap();
                tx.commit().await.unwrap();
            }
            assert_eq!(store.verify_audit().await.unwrap(), Ok(3), "{}", t.engine);
            let mut tx = store.begin().await.unwrap();
            exec!(&mut tx, sqlx::query("UPDATE audit SET operator = '李四' WHERE seq = 2")).unwrap();
            tx.commit().await.unwrap();
            assert_eq!(store.verify_audit().await.unwrap(), Err(2), "{}", t.engine);
        }
    }
}
