//! What notice boards add to reach: the households they cover, and the sheets a town.

use sqlx::AssertSqlSafe;

use super::Tally;
use super::sql::Wording;
use crate::domain::delivery::State;
use crate::domain::reach::TownSheets;
use crate::store::serving::POINT_AREAS;
use crate::store::{Result, Tx};

/// Unique active households served by posted points: those a point names, or, where
/// it names none, all that live in its regions, or else in its own. Returns their number.
pub(super) async fn count_covered(tx: &mut Tx, dispatch_no: i64, wording: &Wording, tally: &mut Tally) -> Result<i64> {
    let sql = format!(
        "WITH posted AS (
             SELECT DISTINCT d.target AS no FROM deliveries d WHERE d.dispatch_no = $1 AND {posted}
         ), served AS (
             SELECT COALESCE(h.merged_into, h.no) AS no
             FROM posted p JOIN point_households ph ON ph.point_no = p.no
             JOIN recipients h ON h.no = ph.recipient_no
             WHERE h.kind = 2 AND h.status = 1
             UNION
             SELECT COALESCE(h.merged_into, h.no)
             FROM posted p JOIN ({POINT_AREAS}) pa ON pa.point_no = p.no
             JOIN region_closure rc ON rc.ancestor = pa.region_no
             JOIN recipients h ON h.region_no = rc.descendant
             WHERE h.kind = 2 AND h.status = 1
         )
         SELECT h.region_no, COUNT(*) FROM served s JOIN recipients h ON h.no = s.no GROUP BY h.region_no",
        posted = wording.posted()
    );
    let rows: Vec<(i64, i64)> = run!(tx, |c| sqlx::query_as(AssertSqlSafe(sql)).bind(dispatch_no).fetch_all(c).await)?;
    for (region, n) in &rows {
        tally.regions.entry(*region).or_default().covered_households += n;
    }
    Ok(rows.iter().map(|(_, n)| n).sum())
}

/// Sheets by the town their point hangs in (or its own region, above any town).
pub(super) async fn count_sheets(tx: &mut Tx, dispatch_no: i64, wording: &Wording) -> Result<Vec<TownSheets>> {
    let (printed, posted, down) = (State::Printed.code(), State::Posted.code(), State::TakenDown.code());
    let sum = |condition: &str| format!("CAST(SUM(CASE WHEN {condition} THEN 1 ELSE 0 END) AS BIGINT)");
    let sql = format!(
        "SELECT t.no AS region_no, t.name, COUNT(*) AS planned, {} AS printed, {} AS posted, {} AS taken_down \
         FROM deliveries d JOIN points p ON p.no = d.target \
         JOIN regions t ON t.no = COALESCE((SELECT c.ancestor FROM region_closure c JOIN regions a ON a.no = c.ancestor \
           WHERE c.descendant = p.region_no AND a.level = 'town' LIMIT 1), p.region_no) \
         WHERE d.dispatch_no = $1 AND {} GROUP BY t.no, t.code, t.name ORDER BY t.code, t.name",
        sum(&format!("d.state IN ({printed}, {posted}, {down})")),
        sum(&format!("d.state = {posted} OR (d.state = {down} AND d.reached_at IS NOT NULL)")),
        sum(&format!("d.state = {down}")),
        wording.points(),
    );
    let rows: Vec<(i64, String, i64, i64, i64, i64)> =
        run!(tx, |c| sqlx::query_as(AssertSqlSafe(sql)).bind(dispatch_no).fetch_all(c).await)?;
    let row = |(region_no, name, planned, printed, posted, taken_down)| TownSheets {
        region_no,
        name,
        planned,
        printed,
        posted,
        taken_down,
    };
    Ok(rows.into_iter().map(row).collect())
}
