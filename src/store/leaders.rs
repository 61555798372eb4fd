//! Who acts in a role that one engine at a time has: a lease by the database's time.
//! Whatever a leader writes is fenced besides, for its clock may have stood still.

use super::pool::Pool;
use super::{Result, Store, Tx};
use crate::clock::Millis;

/// A role and the engine that has it.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Leader {
    pub role: String,
    pub owner: String,
    /// By the database's time; over when it is past.
    pub until_at: Millis,
    /// One more with every change of owner.
    pub term: i64,
}

impl Pool {
    /// The database's own time in epoch milliseconds, as an expression.
    pub(super) fn clock(&self) -> &'static str {
        self.pick(
            "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
            "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)",
        )
    }
}

impl Store {
    /// Takes a role, or keeps it, for `millis` from now; returns the term, or `None`
    /// while another engine has it.
    pub async fn lead(&self, role: &str, owner: &str, millis: Millis) -> Result<Option<i64>> {
        let now = self.pool.clock();
        // On a server the clock stands before the lock is had, which makes the lease shorter.
        let sql = format!(
            "INSERT INTO leaders (role, owner, until_at, term) VALUES ($1, $2, {now} + $3, 1) \
             ON CONFLICT (role) DO UPDATE SET owner = excluded.owner, until_at = excluded.until_at, \
             term = CASE WHEN leaders.owner = excluded.owner THEN leaders.term ELSE leaders.term + 1 END \
             WHERE leaders.owner = excluded.owner OR leaders.until_at < {now} RETURNING term"
        );
        let mut tx = self.begin().await?;
        let term: Option<i64> = run!(&mut tx, |c| sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
            .bind(role)
            .bind(owner)
            .bind(millis)
            .fetch_optional(c)
            .await)?;
        tx.commit().await?;
        Ok(term)
    }

    /// Gives a role up, so that another engine can take it at once.
    pub async fn resign(&self, role: &str, owner: &str) -> Result<()> {
        let mut tx = self.begin().await?;
        // A moment ago, so that nobody thinks that the seat was empty since ever.
        let sql = format!("UPDATE leaders SET until_at = {} - 1 WHERE role = $1 AND owner = $2", self.pool.clock());
        exec!(&mut tx, sqlx::query(sqlx::AssertSqlSafe(sql)).bind(role).bind(owner))?;
        tx.commit().await
    }

    /// Every role that was ever taken.
    pub async fn leaders(&self) -> Result<Vec<Leader>> {
        let sql = "SELECT role, owner, until_at, term FROM leaders ORDER BY role";
        Ok(read!(self, |db| sqlx::query_as(sql).fetch_all(db).await)?)
    }
}

impl Tx {
    /// Whether this owner still has the role in this term; it keeps it until the
    /// transaction ends.
    pub(super) async fn still_leads(&mut self, role: &str, owner: &str, term: i64) -> Result<bool> {
        let sql = self.pick(
            "SELECT term FROM leaders WHERE role = $1 AND owner = $2 AND term = $3 AND until_at > CAST(unixepoch('subsec') * 1000 AS INTEGER)",
            "SELECT term FROM leaders WHERE role = $1 AND owner = $2 AND term = $3 \
             AND until_at > CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT) FOR SHARE",
        );
        let found: Option<i64> =
            run!(self, |c| sqlx::query_scalar(sql).bind(role).bind(owner).bind(term).fetch_optional(c).await)?;
        Ok(found.is_some())
    }
}

#[cfg(test)]
mod tests {
    use crate::store::testing::stores;

    #[tokio::test]
    async fn one_leads_until_it_resigns_or_its_time_is_over() {
        for t in stores().await {
            let lead = async |owner: &str, millis| t.store.lead("planner", owner, millis).await.unwrap();
            assert_eq!(lead("a", 60_000).await, Some(1), "{}", t.engine);
            assert_eq!(lead("b", 60_000).await, None);
            assert_eq!(t.store.lead("scheduler", "b", 60_000).await.unwrap(), Some(1), "roles are apart");
            assert_eq!(lead("a", 60_000).await, Some(1), "renewed in the same term");
            t.store.resign("planner", "b").await.unwrap();
            assert_eq!(lead("b", 60_000).await, None, "only who has it can give it up");
            t.store.resign("planner", "a").await.unwrap();
            assert_eq!(lead("b", -1).await, Some(2));
            assert_eq!(lead("a", 60_000).await, Some(3), "its time was over at once");
            let roles: Vec<_> =
                t.store.leaders().await.unwrap().into_iter().map(|l| (l.role, l.owner, l.term)).collect();
            assert_eq!(roles, [("planner".into(), "a".into(), 3), ("scheduler".into(), "b".into(), 1)]);
        }
    }

    #[tokio::test]
    async fn many_at_once_make_one_leader() {
        for t in stores().await {
            let all = (0..8).map(|i| {
                let store = t.store.clone();
                async move { store.lead("planner", &format!("engine {i}"), 60_000).await.unwrap() }
            });
            let won = futures_util::future::join_all(all).await.into_iter().flatten().count();
            assert_eq!(won, 1, "{}", t.engine);
        }
    }
}
