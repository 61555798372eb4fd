//! Who may send how fast: grants that run out, written by the leading scheduler alone.
//!
//! A lowered grant binds at once whoever reads it. What it frees goes to others only
//! when its engine says that it obeys, or when the old grant has run out by the
//! database's time; so what all may send together never exceeds the channel's rate.

use std::collections::{BTreeMap, HashMap};

use serde_json::json;

use super::workers::Engine;
use super::{Result, Store};
use crate::clock::Millis;
use crate::domain::share::{Holder, Report, regrant};

/// A grant lasts this long after the last sign of life of its engine, in milliseconds:
/// longer than it takes another scheduler to lead, so that nobody stops for that.
pub const GRANT: Millis = 12_000;
/// An engine that was silent for longer gets nothing more.
const ALIVE: Millis = 3_000;
/// A grant that still lasts almost as long as it can is not written anew.
const EXTEND: Millis = 1_000;

/// What an engine may send on a channel.
#[derive(Debug, Clone, Copy, PartialEq, sqlx::FromRow)]
pub struct Grant {
    pub channel: i32,
    /// Parts a second.
    pub rate: f64,
    pub seq: i64,
    /// Milliseconds until it runs out, from before it was read.
    pub left_ms: Millis,
}

/// A grant as it stands in the store.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct ShareRow {
    pub channel: i32,
    pub owner: String,
    pub rate: f64,
    pub seq: i64,
    /// Milliseconds.
    pub left_ms: Millis,
    pub held: f64,
    pub held_ms: Millis,
}

/// Who grants.
#[derive(Debug, Clone, Copy)]
pub struct Seat<'a> {
    pub role: &'a str,
    pub owner: &'a str,
    pub term: i64,
}

impl Store {
    /// What an engine may send now.
    pub async fn grants_of(&self, owner: &str) -> Result<Vec<Grant>> {
        let sql = format!(
            "SELECT channel, rate, seq, until_at - {} AS left_ms FROM shares WHERE owner = $1",
            self.pool.clock()
        );
        Ok(read!(self, |db| sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(owner).fetch_all(db).await)?)
    }

    /// Every grant.
    pub async fn shares(&self) -> Result<Vec<ShareRow>> {
        let now = self.pool.clock();
        let sql = format!(
            "SELECT channel, owner, rate, seq, until_at - {now} AS left_ms, held, held_until - {now} AS held_ms \
             FROM shares ORDER BY channel, owner"
        );
        Ok(read!(self, |db| sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(db).await)?)
    }

    /// Divides the rates (parts a second, by channel) among the engines that report to
    /// serve them. `false`, and nothing is written, when another scheduler leads.
    pub async fn grant_shares(&self, seat: Seat<'_>, rates: &HashMap<i32, f64>) -> Result<bool> {
        let (engines, shares) = (self.engines().await?, self.shares().await?);
        let mut changes = Vec::new();
        for (channel, sides) in sides(&engines, &shares) {
            let Some(rate) = rates.get(&channel) else { continue };
            let holders: Vec<Holder> = sides.iter().map(Side::holder).collect();
            let granted = regrant(*rate, &holders);
            changes.extend(sides.iter().zip(granted).filter_map(|(side, rate)| side.change(rate)));
        }
        let gone = shares.iter().any(|s| engines.iter().all(|e| e.owner != s.owner));
        if changes.is_empty() && !gone {
            return Ok(true);
        }
        self.write_shares(seat, &changes).await
    }

    async fn write_shares(&self, seat: Seat<'_>, changes: &[serde_json::Value]) -> Result<bool> {
        let mut tx = self.begin().await?;
        if !tx.still_leads(seat.role, seat.owner, seat.term).await? {
            return Ok(false);
        }
        // Who has left is not among the engines any more; it had drained before.
        exec!(&mut tx, sqlx::query("DELETE FROM shares WHERE owner NOT IN (SELECT owner FROM workers)"))?;
        let rows = tx.pick(
            "SELECT value->>0 AS channel, value->>1 AS owner, value->>2 AS rate, value->>3 AS seq, value->>4 AS lasts, \
             value->>5 AS held, value->>6 AS held_lasts FROM json_each($1)",
            "SELECT (j->>0)::int AS channel, j->>1 AS owner, (j->>2)::double precision AS rate, (j->>3)::bigint AS seq, (j->>4)::bigint AS lasts, \
             (j->>5)::double precision AS held, (j->>6)::bigint AS held_lasts FROM json_array_elements($1::json) j",
        );
        let now = self.pool.clock();
        let sql = format!(
            "INSERT INTO shares (channel, owner, rate, seq, until_at, held, held_until) \
             SELECT g.channel, g.owner, g.rate, g.seq, {now} + g.lasts, g.held, {now} + g.held_lasts FROM ({rows}) g \
             WHERE g.owner IN (SELECT owner FROM workers) \
             ON CONFLICT (channel, owner) DO UPDATE SET rate = excluded.rate, seq = excluded.seq, until_at = excluded.until_at, \
             held = excluded.held, held_until = excluded.held_until"
        );
        exec!(&mut tx, sqlx::query(sqlx::AssertSqlSafe(sql)).bind(json!(changes).to_string()))?;
        tx.commit().await?;
        Ok(true)
    }
}

/// An engine on a channel: what it says, and what it was granted.
struct Side<'a> {
    engine: &'a Engine,
    report: Report,
    share: Option<&'a ShareRow>,
}

fn sides<'a>(engines: &'a [Engine], shares: &'a [ShareRow]) -> BTreeMap<i32, Vec<Side<'a>>> {
    let mut all: BTreeMap<i32, Vec<Side<'a>>> = BTreeMap::new();
    for engine in engines {
        for report in &engine.reports {
            let share = shares.iter().find(|s| s.channel == report.channel && s.owner == engine.owner);
            all.entry(report.channel).or_default().push(Side { engine, report: *report, share });
        }
    }
    all
}

impl Side<'_> {
    /// (rate, what it may still send at, for how long that can be).
    fn in_force(&self) -> (f64, f64, Millis) {
        let Some(share) = self.share.filter(|s| s.left_ms > 0) else { return (0.0, 0.0, 0) };
        let obeys = self.report.seq >= share.seq;
        if obeys || share.held_ms <= 0 {
            return (share.rate, share.rate, share.left_ms);
        }
        (share.rate, share.held.max(share.rate), share.held_ms)
    }

    fn holder(&self) -> Holder {
        let (rate, held, _) = self.in_force();
        let alive = self.engine.silent_ms < ALIVE;
        Holder { lane: self.report.lane, want: self.report.want, rate, held, alive }
    }

    /// The row to be written, as the statement takes it; `None` where it stands as it is.
    fn change(&self, granted: f64) -> Option<serde_json::Value> {
        let (rate, held, held_lasts) = self.in_force();
        let lasts = GRANT - self.engine.silent_ms;
        let (seq, left) = self.share.map_or((0, 0), |s| (s.seq, s.left_ms));
        let same = (granted - rate).abs() < f64::EPSILON;
        if self.engine.silent_ms >= ALIVE || same && left + EXTEND > lasts {
            return None;
        }
        let (seq, held, held_lasts) = if same {
            (seq, held, held_lasts)
        } else {
            // Until it obeys it may send at what it had, for as long as it had that.
            (seq + 1, held.max(rate), held_lasts.max(left).max(0))
        };
        Some(json!([self.report.channel, self.engine.owner, granted, seq, lasts, held, held_lasts]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{TestStore, stores};
    use crate::store::workers::Identity;

    const RATES: f64 = 100.0;
    const CHANNEL: i32 = 1;

    async fn tell(t: &TestStore, owner: &str, seq: i64, lane: Option<i32>, want: Option<f64>) {
        let me = Identity { owner: owner.to_owned(), host: String::new(), pid: 1, roles: String::new() };
        let report = Report { channel: CHANNEL, seq, lane, want, used: 0.0 };
        t.store.engine_seen(&me, &[report]).await.unwrap();
    }

    async fn grant(t: &TestStore, term: i64) -> bool {
        let seat = Seat { role: "scheduler", owner: "leader", term };
        t.store.grant_shares(seat, &HashMap::from([(CHANNEL, RATES)])).await.unwrap()
    }

    async fn of(t: &TestStore, owner: &str) -> Grant {
        t.store.grants_of(owner).await.unwrap()[0]
    }

    #[tokio::test]
    async fn what_is_lowered_is_raised_elsewhere_when_it_is_obeyed() {
        for t in stores().await {
            t.store.lead("scheduler", "leader", 60_000).await.unwrap();
            tell(&t, "a", 0, Some(2), None).await;
            assert!(grant(&t, 1).await);
            let a = of(&t, "a").await;
            assert!((a.rate - RATES).abs() < 1e-6 && (11_000..=GRANT).contains(&a.left_ms), "{a:?}");
            tell(&t, "a", a.seq, Some(2), None).await;
            // Another comes: the first is lowered, and the second waits for its word.
            tell(&t, "b", 0, Some(2), None).await;
            assert!(grant(&t, 1).await);
            assert!((of(&t, "a").await.rate - 50.0).abs() < 1.0);
            assert!(of(&t, "b").await.rate < 1e-6, "{}", t.engine);
            assert!(grant(&t, 1).await);
            assert!(of(&t, "b").await.rate < 1e-6, "not obeyed yet");
            let seq = of(&t, "a").await.seq;
            tell(&t, "a", seq, Some(2), None).await;
            assert!(grant(&t, 1).await);
            assert!((of(&t, "b").await.rate - 50.0).abs() < 1.0, "{:?}", of(&t, "b").await);
            // Who leaves lets go at once.
            t.store.engine_left("a").await.unwrap();
            assert!(grant(&t, 1).await);
            assert!((of(&t, "b").await.rate - RATES).abs() < 1.0);
            assert_eq!(t.store.shares().await.unwrap().len(), 1);
        }
    }

    #[tokio::test]
    async fn a_fenced_scheduler_grants_nothing() {
        for t in stores().await {
            t.store.lead("scheduler", "leader", -1).await.unwrap();
            tell(&t, "a", 0, None, Some(0.0)).await;
            assert!(!grant(&t, 1).await, "its time is over");
            t.store.lead("scheduler", "other", 60_000).await.unwrap();
            assert!(!grant(&t, 1).await, "{}", t.engine);
            assert_eq!(t.store.shares().await.unwrap(), []);
        }
    }

    #[tokio::test]
    async fn who_falls_silent_keeps_its_grant_until_it_runs_out() {
        for t in stores().await {
            t.store.lead("scheduler", "leader", 60_000).await.unwrap();
            tell(&t, "a", 9, Some(2), None).await;
            assert!(grant(&t, 1).await);
            let silent = async |ms: i64| {
                let mut tx = t.store.begin().await.unwrap();
                exec!(&mut tx, sqlx::query("UPDATE workers SET seen_at = seen_at - $1 WHERE owner = 'a'").bind(ms))
                    .unwrap();
                exec!(&mut tx, sqlx::query("UPDATE shares SET until_at = until_at - $1 WHERE owner = 'a'").bind(ms))
                    .unwrap();
                tx.commit().await.unwrap();
            };
            silent(6_000).await;
            tell(&t, "b", 0, Some(2), None).await;
            assert!(grant(&t, 1).await);
            assert!(of(&t, "b").await.rate < 1e-6, "a may still send: {}", t.engine);
            silent(7_000).await;
            assert!(grant(&t, 1).await);
            assert!(of(&t, "a").await.left_ms < 0);
            assert!((of(&t, "b").await.rate - RATES).abs() < 1e-6);
        }
    }
}
