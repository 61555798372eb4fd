//! Posts of accounts: one delivery for everybody, with target 0, that tells nobody in
//! particular.

use super::{Result, Store};
use crate::domain::delivery::State;

/// It stands there, or may.
const OUT: [State; 4] = [State::Sending, State::Sent, State::Unknown, State::Uncertain];

impl Store {
    /// The channels in whose accounts live dispatches of these items were posted, by name.
    pub async fn posted_on(&self, items: &[String]) -> Result<Vec<String>> {
        let list =
            self.pool.pick("SELECT value FROM json_each($1)", "SELECT value FROM json_array_elements_text($1::json)");
        let states: Vec<String> = OUT.iter().map(|s| s.code().to_string()).collect();
        let sql = format!(
            "SELECT DISTINCT c.name FROM dispatches p JOIN deliveries d ON d.dispatch_no = p.no JOIN channels c ON c.no = d.channel \
             WHERE p.item_id IN ({list}) AND p.mode = 'live' AND d.target = 0 AND d.state IN ({}) ORDER BY c.name",
            states.join(", ")
        );
        let items = serde_json::json!(items).to_string();
        Ok(read!(self, |db| sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(items).fetch_all(db).await)?)
    }
}
