//! What the metrics show of many engines on one server store: how many are there, who
//! leads and for how long nobody does, and how much of a channel's rate is granted.

use std::collections::BTreeMap;

use super::{Result, Store};
use crate::clock::Millis;

/// The roles that an engine may have, as the store keeps them.
pub const ROLES: [&str; 4] = ["planner", "scheduler", "workers", "web"];
/// An engine that was silent for longer, in milliseconds, is not there.
const ALIVE: Millis = 3_000;

/// A role that one engine at a time has.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct LedRole {
    pub role: String,
    /// The engine that had it last.
    pub owner: String,
    pub term: i64,
    /// Milliseconds since its lease was over, by the database's time; 0 while it lasts.
    pub vacant_ms: Millis,
}

/// Everybody who is there.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Crew {
    /// Every role that was ever taken.
    pub roles: Vec<LedRole>,
    /// How many engines have each role.
    pub engines: BTreeMap<&'static str, i64>,
    /// Parts a second that all engines together may send, by channel.
    pub granted: BTreeMap<i32, f64>,
}

impl Store {
    /// Looks who is there; `None` on the embedded engine, where one does everything.
    pub async fn crew(&self) -> Result<Option<Crew>> {
        if self.file.is_some() {
            return Ok(None);
        }
        let now = self.pool.clock();
        let sql = format!(
            "SELECT role, owner, term, CASE WHEN until_at < {now} THEN {now} - until_at ELSE 0 END AS vacant_ms FROM leaders ORDER BY role"
        );
        let roles = read!(self, |db| sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(db).await)?;
        let mut crew = Crew { roles, engines: ROLES.map(|role| (role, 0)).into(), ..Crew::default() };
        for engine in self.engines().await?.iter().filter(|e| e.silent_ms < ALIVE) {
            for role in engine.roles.split(',') {
                if let Some(n) = crew.engines.get_mut(role) {
                    *n += 1;
                }
            }
        }
        for share in self.shares().await?.iter().filter(|s| s.left_ms > 0) {
            *crew.granted.entry(share.channel).or_default() += share.rate;
        }
        Ok(Some(crew))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use crate::domain::share::Report;
    use crate::store::shares::Seat;
    use crate::store::testing::stores;
    use crate::store::workers::Identity;

    #[tokio::test]
    async fn engines_grants_and_vacant_seats_are_counted() {
        for t in stores().await {
            let store = &t.store;
            if t.engine == "sqlite" {
                assert_eq!(store.crew().await.unwrap(), None);
                continue;
            }
            assert_eq!(store.crew().await.unwrap().unwrap().engines["planner"], 0);
            let report = Report { channel: 1, seq: 0, lane: Some(2), want: None, used: 0.0 };
            for (owner, roles) in [("a", "planner,scheduler,web"), ("b", "workers"), ("c", "workers")] {
                let me = Identity { owner: owner.into(), host: String::new(), pid: 1, roles: roles.into() };
                let reports = if roles == "workers" { vec![report] } else { Vec::new() };
                store.engine_seen(&me, &reports).await.unwrap();
            }
            store.lead("scheduler", "a", 60_000).await.unwrap();
            store.lead("planner", "a", -20_000).await.unwrap();
            let seat = Seat { role: "scheduler", owner: "a", term: 1 };
            assert!(store.grant_shares(seat, &HashMap::from([(1, 100.0)])).await.unwrap());
            let crew = store.crew().await.unwrap().unwrap();
            assert_eq!(crew.engines, [("planner", 1), ("scheduler", 1), ("web", 1), ("workers", 2)].into());
            assert!((crew.granted[&1] - 100.0).abs() < 1.0, "{crew:?}");
            let led: Vec<_> = crew.roles.iter().map(|r| (r.role.as_str(), r.owner.as_str(), r.term)).collect();
            assert_eq!(led, [("planner", "a", 1), ("scheduler", "a", 1)]);
            assert_eq!(crew.roles[1].vacant_ms, 0);
            assert!((20_000..30_000).contains(&crew.roles[0].vacant_ms), "{crew:?}");
            // Given up a moment ago: nobody has it since a moment, not since ever.
            store.resign("scheduler", "a").await.unwrap();
            let vacant = store.crew().await.unwrap().unwrap().roles[1].vacant_ms;
            assert!((1..10_000).contains(&vacant), "{vacant}");
        }
    }
}
