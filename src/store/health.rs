//! What `gong check` asks of the database.

use super::{Result, Store};
use crate::clock::Millis;

/// People are counted up to here: how many more there are takes a server long to say.
pub const COUNTED: i64 = 1_000_000;

/// How much there is, and when things last happened.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Health {
    /// One more than [`COUNTED`] where there are more than that.
    pub people: i64,
    pub regions: i64,
    pub villages: i64,
    /// Villages without an officer of their own to call.
    pub villages_without_officer: i64,
    /// The first time on record: how long there has been something to back up.
    pub first_at: Option<Millis>,
    pub backup_at: Option<Millis>,
}

impl Store {
    /// Writes a fact and reads the counts: the database can be written and read. Takes no
    /// longer where there are tens of millions of people.
    ///
    /// # Errors
    /// When it cannot.
    pub async fn health(&self) -> Result<Health> {
        self.set_meta("checked_at", &self.now().to_string()).await?;
        let sql = "SELECT (SELECT COUNT(*) FROM (SELECT 1 FROM recipients WHERE counted = 1 AND status = 1 LIMIT $1) AS first) AS people, \
                   (SELECT COUNT(*) FROM regions) AS regions, \
                   (SELECT COUNT(*) FROM regions WHERE level = 'village') AS villages, \
                   (SELECT COUNT(*) FROM regions g WHERE g.level = 'village' \
                    AND NOT EXISTS (SELECT 1 FROM duty_officers o WHERE o.region_no = g.no)) AS villages_without_officer, \
                   (SELECT MIN(at) FROM audit) AS first_at, \
                   (SELECT MAX(at) FROM audit WHERE action = 'backup') AS backup_at";
        Ok(read!(self, |db| sqlx::query_as(sql).bind(COUNTED + 1).fetch_one(db).await)?)
    }

    /// The newest time on record, if there is any.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn newest_time(&self) -> Result<Option<Millis>> {
        let sql = "SELECT MAX(at) FROM (SELECT MAX(at) AS at FROM audit UNION ALL \
                   SELECT MAX(created_at) AS at FROM dispatches) AS times";
        Ok(read!(self, |db| sqlx::query_scalar(sql).fetch_one(db).await)?)
    }
}

#[cfg(test)]
mod tests {
    use crate::store::operators::Role;
    use crate::store::testing::{NOON, stores};

    #[tokio::test]
    async fn an_empty_store_is_healthy_and_remembers_the_newest_time() {
        for t in stores().await {
            let empty = t.store.health().await.unwrap();
            assert_eq!((empty.people, empty.regions), (0, 0), "{}", t.engine);
            assert_eq!(t.store.newest_time().await.unwrap(), None, "{}", t.engine);
            let unit = t.store.save_unit("某县应急管理局", "0873-3420000").await.unwrap();
            t.store.save_operator("张三", &unit, &[Role::Admin]).await.unwrap();
            let health = t.store.health().await.unwrap();
            assert_eq!((health.first_at, health.backup_at), (Some(NOON), None), "{}", t.engine);
            assert_eq!(t.store.newest_time().await.unwrap(), Some(NOON), "{}", t.engine);
            t.store.clock.advance(1_000);
            t.store.note_act("张三", "backup", "database", &serde_json::json!({})).await.unwrap();
            let health = t.store.health().await.unwrap();
            assert_eq!((health.first_at, health.backup_at), (Some(NOON), Some(NOON + 1_000)), "{}", t.engine);
            assert_eq!(t.store.newest_time().await.unwrap(), Some(NOON + 1_000), "{}", t.engine);
        }
    }
}
