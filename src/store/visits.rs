//! Results of visits: what was found at the door, entered by hand or read from the
//! list that came back. One row a visit, appended; the delivery's state follows by the
//! table of transitions.

use std::collections::HashMap;

use super::bulk::{Cell, Col, Rows};
use super::dispatches::Dispatch;
use super::recipients::Keep;
use super::{Result, Store, StoreError, Tx};
use crate::clock::Millis;
use crate::domain::delivery::{Event, State, next};
use crate::domain::plan::VISIT;
use crate::domain::visit::VisitResult;
use crate::vault::Owner;

/// Visits written to the minute: a second one within it is told apart.
const MINUTE: Millis = 60_000;

/// The door-knock list of a dispatch: which of its deliveries are doors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoorList {
    pub dispatch_no: i64,
    /// Number of the visiting channel.
    pub channel: i32,
    /// The steps that visit, from 0.
    pub steps: Vec<i32>,
    /// The ordinal before the first door's; the rest is a row's number.
    pub base: i64,
}

impl DoorList {
    /// The number of a delivery on the list, from 1; it never changes.
    #[must_use]
    pub const fn row(&self, ordinal: i64) -> i64 {
        ordinal - self.base
    }

    pub(super) fn steps_sql(&self) -> String {
        self.steps.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}

/// Which door.
#[derive(Clone, PartialEq, Eq)]
pub enum Knocked {
    /// By its number on the list.
    Row(i64),
    /// By the keyed hash of the household's number.
    Household(Vec<u8>),
}

/// What one visit came to. It has no `Debug`: it names who knocked.
#[derive(Clone)]
pub struct Visit {
    pub door: Knocked,
    pub result: VisitResult,
    /// When, if it was written down.
    pub at: Option<Millis>,
    /// Who knocked.
    pub by: Option<String>,
}

/// What became of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// Written down.
    Added,
    /// It was there already.
    Unchanged,
    /// No such row, or household, on this list.
    NotListed,
    /// The door stands in a state that this result does not change.
    Closed(State),
}

/// A door as it stands while results are gone through.
struct Standing {
    state: State,
    reached_at: Option<Millis>,
    /// Time and result of every visit.
    visits: Vec<(Millis, String)>,
    moved: bool,
}

impl Store {
    /// The doors of a dispatch; `None` where it visits nobody yet.
    pub async fn door_list(&self, dispatch: &Dispatch) -> Result<Option<DoorList>> {
        let visits = |(at, step): (usize, &crate::domain::plan::Step)| {
            step.channels.iter().any(|c| c == VISIT).then(|| i32::try_from(at).unwrap_or(i32::MAX))
        };
        let steps: Vec<i32> = dispatch.plan.steps.iter().enumerate().filter_map(visits).collect();
        if steps.is_empty() {
            return Ok(None);
        }
        let channel = self.channel_no(VISIT).await?;
        let mut list = DoorList { dispatch_no: dispatch.no, channel, steps, base: 0 };
        let sql = format!(
            "SELECT MIN(ordinal) FROM deliveries WHERE dispatch_no = $1 AND step IN ({}) AND channel = $2",
            list.steps_sql()
        );
        let first: Option<i64> = read!(self, |db| sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
            .bind(dispatch.no)
            .bind(channel)
            .fetch_one(db)
            .await)?;
        Ok(first.map(|first| {
            list.base = first - 1;
            list
        }))
    }

    /// Writes results in one transaction, in their order, and says what became of each.
    /// The same results again change nothing.
    ///
    /// # Errors
    /// When the database fails; then nothing of it happened.
    pub async fn record_visits(
        &self,
        list: &DoorList,
        all: &[Visit],
        (operator, keep): (&str, Keep),
    ) -> Result<Vec<Recorded>> {
        let mut tx = self.begin().await?;
        let (doors, mut standing) = standing(&mut tx, list, all).await?;
        let now = self.now();
        let mut rows = Rows::default();
        let mut recorded = Vec::with_capacity(all.len());
        for (visit, ordinal) in all.iter().zip(doors) {
            let Some((ordinal, door)) = ordinal.and_then(|o| Some((o, standing.get_mut(&o)?))) else {
                recorded.push(Recorded::NotListed);
                continue;
            };
            let outcome = door.take(visit, now);
            if let Ok(at) = outcome {
                let owner = Owner::Visit(list.dispatch_no, ordinal);
                let by = visit.by.as_deref().map(|by| self.vault.seal(owner, by.as_bytes()));
                rows.push(&[
                    ordinal.into(),
                    Cell::Text(visit.result.name()),
                    Cell::Text(operator),
                    at.into(),
                    by.as_deref().into(),
                ]);
            }
            recorded.push(outcome.map_or_else(|why| why, |_| Recorded::Added));
        }
        write(&mut tx, list.dispatch_no, rows, &standing).await?;
        if keep == Keep::Commit {
            tx.commit().await?;
        }
        Ok(recorded)
    }
}

impl Standing {
    /// Takes a result in: the time under which it is written down, or why it is not.
    fn take(&mut self, visit: &Visit, now: Millis) -> std::result::Result<Millis, Recorded> {
        let name = visit.result.name();
        let same = self.state == visit.result.state();
        let known = |at| self.visits.iter().any(|(t, result)| (at..at + MINUTE).contains(t) && result == name);
        if visit.at.map_or(same, known) {
            return Err(Recorded::Unchanged);
        }
        match next(self.state, Event::Visited(visit.result)) {
            Some(state) => {
                self.state = state;
                self.moved = true;
            }
            // Another visit with the same end is worth knowing.
            None if same => {}
            None => return Err(Recorded::Closed(self.state)),
        }
        let mut at = visit.at.unwrap_or(now);
        while self.visits.iter().any(|(t, _)| *t == at) {
            at += 1;
        }
        if visit.result == VisitResult::Told {
            self.reached_at.get_or_insert(at);
        }
        self.visits.push((at, name.to_owned()));
        Ok(at)
    }
}

/// The door of each result, and how the doors stand. On a server the rows stay locked.
async fn standing(tx: &mut Tx, list: &DoorList, all: &[Visit]) -> Result<(Vec<Option<i64>>, HashMap<i64, Standing>)> {
    let (no, channel, steps) = (list.dispatch_no, list.channel, list.steps_sql());
    let (mut by_row, mut by_hash) = (Rows::default(), Rows::default());
    for (place, visit) in (0_i64..).zip(all) {
        match &visit.door {
            Knocked::Row(row) => by_row.push(&[place.into(), list.base.saturating_add(*row).into()]),
            Knocked::Household(hash) => by_hash.push(&[place.into(), Cell::Bytes(hash)]),
        }
    }
    let lock = tx.pick("", " FOR UPDATE OF d");
    let columns = "src.place, d.ordinal, d.state, d.reached_at";
    let rows = tx.source(&[Col::Int("place"), Col::Int("ordinal")]);
    let rows = format!(
        "SELECT {columns} FROM {rows} CROSS JOIN deliveries d WHERE d.dispatch_no = {no} AND d.ordinal = src.ordinal \
         AND d.channel = {channel} ORDER BY d.ordinal{lock}"
    );
    let homes = tx.source(&[Col::Int("place"), Col::Bytes("hash")]);
    let homes = format!(
        "SELECT {columns} FROM {homes} CROSS JOIN recipients h CROSS JOIN deliveries d WHERE h.ext_hash = src.hash \
         AND d.dispatch_no = {no} AND d.step IN ({steps}) AND d.channel = {channel} AND d.target = h.no AND d.variant = 0 \
         ORDER BY d.ordinal{lock}"
    );
    let mut found: Vec<(i64, i64, i32, Option<i64>)> = bulk_read!(tx, (i64, i64, i32, Option<i64>), rows, by_row)?;
    found.extend(bulk_read!(tx, (i64, i64, i32, Option<i64>), homes, by_hash)?);
    let mut doors = vec![None; all.len()];
    let mut standing = HashMap::new();
    for (place, ordinal, state, reached_at) in found {
        let state =
            State::from_code(state).ok_or_else(|| StoreError::Damaged(format!("deliveries.state = {state}")))?;
        if let Some(door) = usize::try_from(place).ok().and_then(|place| doors.get_mut(place)) {
            // In their order: of two steps that visit the same household the later one counts.
            *door = Some(ordinal);
        }
        standing.insert(ordinal, Standing { state, reached_at, visits: Vec::new(), moved: false });
    }
    let source = tx.source(&[Col::Int("ordinal")]);
    let sql = format!(
        "SELECT v.ordinal, v.at, v.result FROM {source} CROSS JOIN visits v WHERE v.dispatch_no = {no} AND v.ordinal = src.ordinal"
    );
    for (ordinal, at, result) in bulk_read!(tx, (i64, i64, String), sql, Rows::column(standing.keys().copied()))? {
        if let Some(door) = standing.get_mut(&ordinal) {
            door.visits.push((at, result));
        }
    }
    Ok((doors, standing))
}

async fn write(tx: &mut Tx, no: i64, visits: Rows, standing: &HashMap<i64, Standing>) -> Result<()> {
    let source = tx.source(&[
        Col::Int("ordinal"),
        Col::Text("result"),
        Col::Text("operator"),
        Col::Int("at"),
        Col::Bytes("by_sealed"),
    ]);
    let sql = format!(
        "INSERT INTO visits (dispatch_no, ordinal, result, operator, at, by_sealed) \
         SELECT {no}, ordinal, result, operator, at, by_sealed FROM {source}"
    );
    tx.bulk(sql, visits).await?;
    let mut rows = Rows::default();
    for (ordinal, door) in standing.iter().filter(|(_, door)| door.moved) {
        rows.push(&[(*ordinal).into(), door.state.code().into(), door.reached_at.into()]);
    }
    let source = tx.source(&[Col::Int("ordinal"), Col::Int("state"), Col::Int("reached_at")]);
    let sql = format!(
        "UPDATE deliveries SET state = src.state, reached_at = src.reached_at FROM {source} \
         WHERE deliveries.dispatch_no = {no} AND deliveries.ordinal = src.ordinal"
    );
    tx.bulk(sql, rows).await?;
    Ok(())
}
