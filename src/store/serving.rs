//! Which points serve whom: the households a point names, or, where it names none,
//! all that live in its regions.

use super::estimate::{ChannelEstimate, members};
use super::{Result, Store};

/// Points that serve someone of `people` (rows with recipient, household and region).
fn serving(people: &str) -> String {
    format!(
        "SELECT ph.point_no AS no FROM ({people}) w JOIN point_households ph ON ph.recipient_no IN (w.household_no, w.recipient_no) \
         UNION SELECT pr.point_no FROM (SELECT DISTINCT region_no FROM ({people}) w) g \
         JOIN region_closure rc ON rc.descendant = g.region_no JOIN point_regions pr ON pr.region_no = rc.ancestor \
         WHERE NOT EXISTS (SELECT 1 FROM point_households ph WHERE ph.point_no = pr.point_no)"
    )
}

/// The points that serve the members of a span, as the snapshot's target rows.
pub(super) fn point_rows(span: &str) -> String {
    let people = format!("SELECT m.recipient_no, m.household_no, m.region_no FROM members m WHERE {span}");
    // A point serves many: what stands in `member` keeps it apart and links nobody.
    format!("SELECT s.no AS member, s.no AS target, 1 AS via, 0 AS variant FROM ({}) s", serving(&people))
}

impl Store {
    /// How many points a channel of sheets would print for.
    pub(super) async fn estimate_points(&self, predicate: &str) -> Result<ChannelEstimate> {
        let people =
            format!("SELECT m.no AS recipient_no, m.household_no, m.region_no FROM ({}) m", members(predicate));
        let sql = format!(
            "SELECT CAST(COUNT(*) AS BIGINT) AS addressable, CAST(0 AS BIGINT) AS via_household, \
             CAST(COUNT(*) AS BIGINT) AS targets, CAST(0 AS BIGINT) AS suppressed FROM ({}) s",
            serving(&people)
        );
        Ok(read!(self, |db| sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_one(db).await)?)
    }
}
