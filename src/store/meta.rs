//! Facts about the database itself: whose key, and whether it stands paused.

use super::{Result, Store, StoreError};

impl Store {
    /// A fact under `key`, if it was ever set.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn meta(&self, key: &str) -> Result<Option<String>> {
        Ok(read!(self, |db| sqlx::query_scalar("SELECT value FROM meta WHERE key = $1")
            .bind(key)
            .fetch_optional(db)
            .await)?)
    }

    /// Sets the fact under `key`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn set_meta(&self, key: &str, value: &str) -> Result<()> {
        let mut tx = self.begin().await?;
        let sql =
            "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        exec!(&mut tx, sqlx::query(sql).bind(key).bind(value))?;
        tx.commit().await
    }

    /// The first opening binds the database to the key; every later one compares.
    pub(super) async fn check_key(&self) -> Result<()> {
        match self.meta("key_check").await? {
            None => self.set_meta("key_check", self.vault.check_value()).await,
            Some(known) if known == self.vault.check_value() => Ok(()),
            Some(_) => Err(StoreError::WrongKey),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;
    use crate::clock::Clock;
    use crate::store::testing::stores;
    use crate::vault::Vault;

    #[tokio::test]
    async fn a_database_opens_only_with_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", dir.path().join("gong.db").display());
        Store::open(&url, Vault::from_key(&[1; 32]), Clock::System).await.unwrap().close().await;
        let wrong = Store::open(&url, Vault::from_key(&[2; 32]), Clock::System).await;
        assert!(matches!(wrong, Err(StoreError::WrongKey)));
        let right = Store::open(&url, Vault::from_key(&[1; 32]), Clock::System).await.unwrap();
        let mut tx = right.begin().await.unwrap();
        assert_eq!(tx.take_numbers("address", 5).await.unwrap(), 1);
        assert_eq!(tx.take_numbers("address", 1).await.unwrap(), 6);
    }

    #[tokio::test]
    async fn receipt_numbers_are_reserved_once_by_whoever_asks_at_the_same_time() {
        for t in stores().await {
            let pool = &t.store.pool;
            assert_eq!(pool.reserve_receipts(3).await.unwrap(), 1, "{}", t.engine);
            let all = join_all((0..8).map(|_| pool.reserve_receipts(10))).await;
            let mut firsts: Vec<i64> = all.into_iter().map(Result::unwrap).collect();
            firsts.sort_unstable();
            assert_eq!(firsts, (0..8).map(|i| 4 + i * 10).collect::<Vec<_>>(), "{}", t.engine);
        }
    }

    /// Where they are kept in memory, another process has others, and none is handed out
    /// again by the next one.
    #[tokio::test]
    async fn receipt_numbers_of_two_processes_differ() {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", dir.path().join("gong.db").display());
        let open = || async { Store::open(&url, Vault::from_key(&[1; 32]), Clock::System).await.unwrap() };
        let (one, other) = (open().await, open().await);
        let mut taken = std::collections::BTreeSet::new();
        for n in [1, 9_999, 1, 500, 9_700, 20_000, 3] {
            for store in [&one, &other] {
                let first = store.pool.reserve_receipts(n).await.unwrap();
                assert!((first..first + n).all(|no| taken.insert(no)), "{n} from {first}");
            }
        }
        let next = open().await.pool.reserve_receipts(1).await.unwrap();
        assert!(taken.last().is_some_and(|last| *last < next), "{next} after {:?}", taken.last());
    }
}
