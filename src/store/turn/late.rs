//! Results that come after something else was known of their delivery.

use serde_json::json;

use super::{Record, TAKEN};
use crate::channel::CLASS_ACCEPTED;
use crate::domain::delivery::Word;
use crate::store::receipts::Claim;
use crate::store::{Result, Tx};

impl Tx {
    /// Results that found their row in another state: a receipt was faster, or the
    /// batch was taken over. "The gateway took it" is evidence all the same.
    pub(super) async fn enter_late(&mut self, channel: i32, dispatch_no: i64, mut taken: Vec<&Record>) -> Result<()> {
        // A sheet printed by a worker that was fenced is printed again, over the same file.
        taken.retain(|r| r.class == CLASS_ACCEPTED && r.change == TAKEN);
        if taken.is_empty() {
            return Ok(());
        }
        let rows: Vec<_> = taken.iter().map(|r| (r.ordinal, r.parts, r.at, dispatch_no)).collect();
        let sql = self.pick(
            "UPDATE deliveries SET parts = MAX(deliveries.parts, j.parts), handed_at = COALESCE(deliveries.handed_at, j.at) FROM (SELECT value->>0 AS ordinal, \
             value->>1 AS parts, value->>2 AS at, value->>3 AS dn FROM json_each($1)) j WHERE deliveries.dispatch_no = j.dn AND deliveries.ordinal = j.ordinal",
            "UPDATE deliveries SET parts = GREATEST(deliveries.parts, j.parts), handed_at = COALESCE(deliveries.handed_at, j.at) \
             FROM (SELECT (e->>0)::bigint AS ordinal, (e->>1)::int AS parts, (e->>2)::bigint AS at, (e->>3)::bigint AS dn FROM json_array_elements($1::json) e) j \
             WHERE deliveries.dispatch_no = j.dn AND deliveries.ordinal = j.ordinal",
        );
        exec!(self, sqlx::query(sql).bind(json!(rows).to_string()))?;
        let claims: Vec<Claim> = taken
            .iter()
            .map(|r| Claim {
                dispatch_no,
                ordinal: r.ordinal,
                attempt: r.attempt,
                part: None,
                word: Word::Sent,
                at: r.at,
            })
            .collect();
        self.apply_claims(channel, &claims).await
    }
}
