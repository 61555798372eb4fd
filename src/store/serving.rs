//! Which points serve whom: the households a point names, or, where it names none,
//! all that live in its regions, or, where it names no regions either, in its own.
//! What follows an earlier item goes to the points where that one hangs.

use super::dispatches::{Dispatch, Mode};
use super::estimate::{ChannelEstimate, members};
use super::{Result, Store};
use crate::domain::delivery::State;

/// (point_no, region_no): the regions that points without households serve, whole.
pub(super) const POINT_AREAS: &str = "SELECT pr.point_no, pr.region_no FROM point_regions pr \
     WHERE NOT EXISTS (SELECT 1 FROM point_households ph WHERE ph.point_no = pr.point_no) \
     UNION ALL SELECT p.no, p.region_no FROM points p \
     WHERE NOT EXISTS (SELECT 1 FROM point_households ph WHERE ph.point_no = p.no) \
     AND NOT EXISTS (SELECT 1 FROM point_regions pr WHERE pr.point_no = p.no)";

/// Points that serve someone of `people` (rows with recipient, household and region).
fn serving(people: &str) -> String {
    format!(
        "SELECT ph.point_no AS no FROM ({people}) w JOIN point_households ph ON ph.recipient_no IN (w.household_no, w.recipient_no) \
         UNION SELECT pa.point_no FROM (SELECT DISTINCT rc.ancestor FROM ({people}) w \
         JOIN region_closure rc ON rc.descendant = w.region_no) g JOIN ({POINT_AREAS}) pa ON pa.region_no = g.ancestor"
    )
}

/// The points (`no`) that serve the members of a span.
pub(super) fn points_of(span: &str) -> String {
    serving(&format!("SELECT m.recipient_no, m.household_no, m.region_no FROM members m WHERE {span}"))
}

/// Fills `chosen` with points; what stands in `member` keeps them apart and links nobody,
/// for a point serves many.
pub(super) fn chosen(points: &str) -> String {
    format!("INSERT INTO chosen (member, target, via, variant) SELECT s.no, s.no, 1, 0 FROM ({points}) s")
}

/// Points where sheets of the chain before an item hang, or hung, or may hang: `$1` the
/// item, `$2` the mode, `$3` the channel. None for an item that corrects, lifts or
/// withdraws nothing.
fn followed() -> String {
    let hung = [State::Printed, State::Posted, State::TakenDown, State::Uncertain, State::Unknown];
    let hung: Vec<String> = hung.iter().map(|s| s.code().to_string()).collect();
    format!(
        "WITH RECURSIVE chain (id) AS (\
           SELECT target_id FROM item_relations WHERE item_id = $1 AND relation IN ('corrects', 'lifts', 'withdraws') \
           UNION SELECT r.target_id FROM item_relations r JOIN chain c ON r.item_id = c.id WHERE r.relation <> 'interprets'\
         ) SELECT DISTINCT e.target AS no FROM chain JOIN dispatches o ON o.item_id = chain.id \
         JOIN deliveries e ON e.dispatch_no = o.no WHERE o.mode = $2 AND e.step IN ({}) AND e.channel = $3 AND e.target > 0 AND (e.state IN ({}) OR {})",
        super::sheets::steps(),
        hung.join(", "),
        super::marks::under_way!("e")
    )
}

impl Store {
    /// The points that an item's sheets go to because those of the chain it corrects,
    /// lifts or withdraws hang there; none where nothing of it was printed.
    pub async fn followed_points(&self, item_id: &str, mode: Mode, channel: i32) -> Result<Vec<i64>> {
        let sql = followed();
        Ok(read!(self, |db| sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
            .bind(item_id)
            .bind(mode.name())
            .bind(channel)
            .fetch_all(db)
            .await)?)
    }

    /// How many points a channel of sheets would print for.
    pub(super) async fn estimate_points(&self, predicate: &str) -> Result<ChannelEstimate> {
        let people =
            format!("SELECT m.no AS recipient_no, m.household_no, m.region_no FROM ({}) m", members(predicate));
        let sql = format!("SELECT CAST(COUNT(*) AS BIGINT) FROM ({}) s", serving(&people));
        let n: i64 = read!(self, |db| sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(db).await)?;
        Ok(ChannelEstimate::of_targets(n))
    }
}

impl super::Tx {
    /// Fills `chosen` with the points that follow an earlier item; whether there is any,
    /// so that the item goes there and nowhere else. They are laid down with the first
    /// chunk of a step.
    pub(super) async fn choose_followed(&mut self, d: &Dispatch, channel: i32, first: bool) -> Result<bool> {
        let sql = followed();
        let points: Vec<i64> = run!(self, |c| sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
            .bind(&d.item_id)
            .bind(d.mode.name())
            .bind(channel)
            .fetch_all(c)
            .await)?;
        if points.is_empty() || !first {
            return Ok(!points.is_empty());
        }
        let list = self.pick(
            "SELECT value AS no FROM json_each($1)",
            "SELECT CAST(j AS BIGINT) AS no FROM json_array_elements_text($1::json) j",
        );
        let json = serde_json::json!(points).to_string();
        exec!(self, sqlx::query(sqlx::AssertSqlSafe(chosen(list))).bind(json))?;
        Ok(true)
    }
}
