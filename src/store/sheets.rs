//! Sheets: deliveries to points, where each point is, and what hangs there of the same
//! chain of items.

use std::collections::HashMap;

use super::batches::Lease;
use super::dispatches::Dispatch;
use super::{Result, Store};
use crate::clock::Millis;
use crate::domain::delivery::State;
use crate::domain::recipient::masked;
use crate::domain::serial::Serial;
use crate::vault::{Owner, Vault};

/// Steps looked through for sheets of other dispatches: named, so that the index finds
/// them among a million messages. No plan has so many.
const STEPS: i32 = 32;

/// One sheet: a delivery and its point.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct SheetRow {
    pub ordinal: i64,
    pub state: i32,
    pub channel: i32,
    pub point_no: i64,
    pub point: String,
    pub code: Option<String>,
    /// Of the region it hangs in.
    pub region: String,
    pub level: String,
    pub town: Option<String>,
    pub village: Option<String>,
    /// When it was printed, and when it was hung up.
    pub handed_at: Option<Millis>,
    pub reached_at: Option<Millis>,
    phone_id: Option<i64>,
    phone_sealed: Option<Vec<u8>>,
}

impl SheetRow {
    #[must_use]
    pub const fn serial(&self, dispatch_no: i64) -> Serial {
        Serial { dispatch_no, ordinal: self.ordinal }
    }

    #[must_use]
    pub fn state(&self) -> State {
        State::from_code(self.state).unwrap_or(State::Planned)
    }

    /// The town it hangs in; empty outside any town.
    #[must_use]
    pub fn town(&self) -> &str {
        self.town.as_deref().unwrap_or_default()
    }

    /// The village, or what stands in its place below the town.
    #[must_use]
    pub fn village(&self) -> &str {
        let own = if self.level == "town" { "" } else { self.region.as_str() };
        self.village.as_deref().unwrap_or(own)
    }

    /// 镇 · 村 · 点位.
    #[must_use]
    pub fn place(&self) -> String {
        let parts = [self.town(), self.village(), self.point.as_str()];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" · ")
    }

    /// The keeper's telephone as far as it may be shown; empty without one.
    #[must_use]
    pub fn keeper_phone(&self, vault: &Vault) -> String {
        let (Some(id), Some(sealed)) = (self.phone_id, &self.phone_sealed) else { return String::new() };
        vault.open_text(Owner::Address(id), sealed).map_or_else(|_| String::new(), |phone| masked(&phone))
    }
}

/// The dispatch that came after another in its chain.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Successor {
    pub item_id: String,
    pub item_version: i32,
    pub created_at: Millis,
}

/// A sheet of the same chain of items at some point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Related {
    pub serial: Serial,
    /// Of its item.
    pub title: String,
}

/// Related sheets by the number of their point.
pub type ByPoint = HashMap<i64, Vec<Related>>;

/// Sheets by ordinal, and those of what came before that still hang at their points.
#[derive(Debug, Default)]
pub struct Boards {
    pub rows: HashMap<i64, SheetRow>,
    pub before: ByPoint,
}

fn rows_where(condition: &str) -> String {
    let above = |level: &str| {
        format!(
            "(SELECT a.name FROM region_closure c JOIN regions a ON a.no = c.ancestor \
             WHERE c.descendant = p.region_no AND a.level = '{level}' LIMIT 1)"
        )
    };
    format!(
        "SELECT d.ordinal, d.state, d.channel, p.no AS point_no, p.name AS point, p.code, r.name AS region, r.level, {} AS town, \
         {} AS village, d.handed_at, d.reached_at, p.phone_id, a.sealed AS phone_sealed \
         FROM deliveries d JOIN points p ON p.no = d.target JOIN regions r ON r.no = p.region_no \
         LEFT JOIN addresses a ON a.id = p.phone_id WHERE {condition}",
        above("town"),
        above("village"),
    )
}

fn list(numbers: &[i32]) -> String {
    // An empty list is not SQL; no channel has this number.
    let numbers: Vec<String> = numbers.iter().chain(&[-1]).map(ToString::to_string).collect();
    numbers.join(", ")
}

/// The steps looked through, as a list of SQL.
pub(super) fn steps() -> String {
    list(&(0..STEPS).collect::<Vec<_>>())
}

impl Store {
    /// The sheets of a dispatch on these channels, town by town.
    pub async fn sheets(&self, dispatch_no: i64, channels: &[i32]) -> Result<Vec<SheetRow>> {
        let condition = format!("d.dispatch_no = $1 AND d.step IN ({}) AND d.channel IN ({})", steps(), list(channels));
        let sql = format!("{} ORDER BY town, village, r.code, p.name, d.ordinal", rows_where(&condition));
        Ok(read!(self, |db| sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(dispatch_no).fetch_all(db).await)?)
    }

    /// One sheet, if the dispatch has it on one of these channels.
    pub async fn sheet(&self, serial: Serial, channels: &[i32]) -> Result<Option<SheetRow>> {
        let condition = format!("d.dispatch_no = $1 AND d.ordinal = $2 AND d.channel IN ({})", list(channels));
        let sql = rows_where(&condition);
        Ok(read!(self, |db| sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(serial.dispatch_no)
            .bind(serial.ordinal)
            .fetch_optional(db)
            .await)?)
    }

    /// The newest dispatch, in the same mode, of what came after in the chain: a later
    /// item that updates, corrects, lifts or withdraws, or a later version.
    pub async fn successor(&self, dispatch: &Dispatch) -> Result<Option<Successor>> {
        let sql = "WITH RECURSIVE later (id) AS (\
                     SELECT item_id FROM item_relations WHERE target_id = $1 AND relation <> 'interprets' \
                     UNION SELECT r.item_id FROM item_relations r JOIN later l ON r.target_id = l.id WHERE r.relation <> 'interprets'\
                   ) SELECT d.item_id, d.item_version, d.created_at FROM dispatches d WHERE d.mode = $3 AND d.no > $4 \
                   AND (d.item_id IN (SELECT id FROM later) OR (d.item_id = $1 AND d.item_version > $2)) ORDER BY d.no DESC LIMIT 1";
        Ok(read!(self, |db| sqlx::query_as(sql)
            .bind(&dispatch.item_id)
            .bind(dispatch.item_version)
            .bind(dispatch.mode.name())
            .bind(dispatch.no)
            .fetch_optional(db)
            .await)?)
    }

    /// What the sheets of a leased batch are made with.
    pub async fn boards(&self, dispatch: &Dispatch, lease: Lease, channel: i32) -> Result<Boards> {
        let sql = rows_where("d.batch = $1 AND d.batch > 0");
        let rows: Vec<SheetRow> =
            read!(self, |db| sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(lease.no).fetch_all(db).await)?;
        let before = self.sheets_before(dispatch, &[channel]).await?;
        Ok(Boards { rows: rows.into_iter().map(|row| (row.ordinal, row)).collect(), before })
    }

    /// By point, the sheets that hang or may hang there of earlier versions of the item
    /// and of the items it follows; the interpretation of a policy replaces nothing.
    pub async fn sheets_before(&self, dispatch: &Dispatch, channels: &[i32]) -> Result<ByPoint> {
        let chain = "SELECT target_id FROM item_relations WHERE item_id = $1 AND relation <> 'interprets' \
             UNION SELECT r.target_id FROM item_relations r JOIN chain c ON r.item_id = c.id WHERE r.relation <> 'interprets'";
        let hanging = [State::Printed, State::Posted, State::Uncertain, State::Unknown];
        let which = "o.no < $4 AND (o.item_id IN (SELECT id FROM chain) OR (o.item_id = $1 AND o.item_version < $2))";
        self.sheets_of_chain(dispatch, (chain, which), &hanging, channels).await
    }

    /// By point, the sheets that replaced those of this dispatch, oldest first.
    pub async fn sheets_after(&self, dispatch: &Dispatch, channels: &[i32]) -> Result<ByPoint> {
        let chain = "SELECT item_id FROM item_relations WHERE target_id = $1 AND relation <> 'interprets' \
             UNION SELECT r.item_id FROM item_relations r JOIN chain c ON r.target_id = c.id WHERE r.relation <> 'interprets'";
        let printed = [State::Printed, State::Posted, State::TakenDown];
        let which = "o.no > $4 AND (o.item_id IN (SELECT id FROM chain) OR (o.item_id = $1 AND o.item_version > $2))";
        self.sheets_of_chain(dispatch, (chain, which), &printed, channels).await
    }

    async fn sheets_of_chain(
        &self,
        dispatch: &Dispatch,
        (chain, which): (&str, &str),
        states: &[State],
        channels: &[i32],
    ) -> Result<ByPoint> {
        let states: Vec<i32> = states.iter().map(|s| s.code()).collect();
        let sql = format!(
            "WITH RECURSIVE chain (id) AS ({chain}) SELECT e.target, e.dispatch_no, e.ordinal, v.title FROM dispatches o \
             JOIN item_versions v ON v.item_id = o.item_id AND v.version = o.item_version \
             JOIN deliveries e ON e.dispatch_no = o.no WHERE {which} AND o.mode = $3 \
             AND e.step IN ({}) AND e.channel IN ({}) AND e.state IN ({}) AND e.target > 0 ORDER BY e.dispatch_no, e.ordinal",
            steps(),
            list(channels),
            list(&states),
        );
        let found: Vec<(i64, i64, i64, String)> = read!(self, |db| sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(&dispatch.item_id)
            .bind(dispatch.item_version)
            .bind(dispatch.mode.name())
            .bind(dispatch.no)
            .fetch_all(db)
            .await)?;
        let mut by_point = ByPoint::new();
        for (point, dispatch_no, ordinal, title) in found {
            by_point.entry(point).or_default().push(Related { serial: Serial { dispatch_no, ordinal }, title });
        }
        Ok(by_point)
    }

    /// The ledger's words about printed sheets that begin with `prefix`, each with how
    /// many sheets it was said of.
    pub async fn sheet_words(&self, dispatch_no: i64, prefix: &str) -> Result<Vec<(String, i64)>> {
        let printed = list(&[State::Printed.code(), State::Posted.code(), State::TakenDown.code()]);
        let sql = format!(
            "SELECT t.code, COUNT(DISTINCT t.ordinal) FROM tries t JOIN deliveries d ON d.dispatch_no = t.dispatch_no \
             AND d.ordinal = t.ordinal WHERE t.dispatch_no = $1 AND d.state IN ({printed}) AND t.code LIKE $2 GROUP BY t.code ORDER BY t.code"
        );
        Ok(read!(self, |db| sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(dispatch_no)
            .bind(format!("{prefix}%"))
            .fetch_all(db)
            .await)?)
    }
}
