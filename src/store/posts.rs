//! Posts of accounts: one delivery for everybody, with target 0, that tells nobody in
//! particular.

use super::marks::under_way;
use super::turn::attempts::tried;
use super::{Result, Store};
use crate::channel::CLASS_ACCEPTED;
use crate::domain::delivery::State;

/// A post that does not stand in its account, and what was last said of it.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct HeldPost {
    pub channel: String,
    pub state: i32,
    /// [`crate::channel::Class`] as stored.
    pub class: i32,
    /// The gateway's own word.
    pub code: String,
}

/// It stands there, or may, like what is under way.
const OUT: [State; 3] = [State::Sent, State::Unknown, State::Uncertain];

impl Store {
    /// The posts of a dispatch that were tried and do not stand in their accounts.
    pub async fn held_posts(&self, dispatch_no: i64) -> Result<Vec<HeldPost>> {
        let sql = format!(
            "SELECT c.name AS channel, d.state, a.class, a.code FROM deliveries d JOIN channels c ON c.no = d.channel \
             JOIN attempts a ON {} \
             WHERE d.dispatch_no = $1 AND d.target = 0 AND d.state <> {} AND a.class <> {CLASS_ACCEPTED} \
             AND NOT EXISTS (SELECT 1 FROM attempts b WHERE {} AND b.at > a.at) \
             ORDER BY d.ordinal",
            tried!("a", "d"),
            State::Sent.code(),
            tried!("b", "d")
        );
        Ok(read!(self, |db| sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(dispatch_no).fetch_all(db).await)?)
    }

    /// The channels in whose accounts live dispatches of these items were posted, by name.
    pub async fn posted_on(&self, items: &[String]) -> Result<Vec<String>> {
        let list =
            self.pool.pick("SELECT value FROM json_each($1)", "SELECT value FROM json_array_elements_text($1::json)");
        let states: Vec<String> = OUT.iter().map(|s| s.code().to_string()).collect();
        let sql = format!(
            "SELECT DISTINCT c.name FROM dispatches p JOIN deliveries d ON d.dispatch_no = p.no JOIN channels c ON c.no = d.channel \
             WHERE p.item_id IN ({list}) AND p.mode = 'live' AND d.target = 0 AND (d.state IN ({}) OR {}) ORDER BY c.name",
            states.join(", "),
            under_way!("d")
        );
        let items = serde_json::json!(items).to_string();
        Ok(read!(self, |db| sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(items).fetch_all(db).await)?)
    }
}
