//! Whom a dispatch reached, counted by the database. A million members never come
//! into memory: they are counted by ranges of ordinals, so that neither our memory
//! nor the database's grows with the audience, all inside one snapshot.

mod boards;
mod doors;
#[cfg(test)]
mod oracle;
mod results;
mod sql;
mod unreached;

use std::collections::BTreeMap;

use futures_util::TryStreamExt as _;
use jiff::Timestamp;
use sqlx::AssertSqlSafe;

pub use doors::{Door, DoorFilter, OpenDoor};
pub use results::{NameCard, Outcome, Standing as MemberStanding};
pub use unreached::UnreachedRow;

use super::lent::Lent;
use super::{Pool, Result, Store, StoreError, Tx};
use crate::clock::Millis;
use crate::domain::delivery::State;
use crate::domain::reach::facts::Facts;
use crate::domain::reach::regions::{Leaf, Node, Tree};
use crate::domain::reach::{ChannelKinds, ChannelRow, GroupRow, People, ReachReport, Standing, time_to};
use crate::say;
use sql::Wording;

/// Members or deliveries counted by one statement.
const RANGE: i64 = 250_000;

/// What the report needs of the dispatch itself.
#[derive(sqlx::FromRow)]
struct Head {
    mode: String,
    created_at: i64,
    effective_at: Option<i64>,
    purged_at: Option<i64>,
    reach: Option<String>,
}

impl Store {
    /// Counts the reach of a dispatch as of `now`. After a purge it is the report
    /// kept before it, with the time of its counting.
    ///
    /// # Errors
    /// When there is no such dispatch, a kept report does not parse, or the
    /// database fails.
    pub async fn reach(&self, dispatch_no: i64, kinds: &ChannelKinds, now: Millis) -> Result<ReachReport> {
        let mut tx = self.snapshot().await?;
        let head = head(&mut tx, dispatch_no).await?;
        if let (Some(_), Some(kept)) = (head.purged_at, &head.reach) {
            return serde_json::from_str(kept).map_err(|e| StoreError::Damaged(format!("dispatches.reach: {e}")));
        }
        let wording = Wording::new(kinds, head.effective_at);
        let mut tally = count_people(&mut tx, dispatch_no, &wording).await?;
        let first_reached = first_reached(&mut tx, dispatch_no, &wording, head.created_at).await?;
        let households = count_households(&mut tx, dispatch_no, &mut tally).await?;
        let covered_households = boards::count_covered(&mut tx, dispatch_no, &wording, &mut tally).await?;
        let sheets = boards::count_sheets(&mut tx, dispatch_no, &wording).await?;
        let by_channel = count_channels(&mut tx, dispatch_no, kinds).await?;
        let regions: Vec<i64> = tally.regions.keys().copied().collect();
        let tree = region_tree(&mut tx, &regions).await?;
        let time = |percent| time_to(&first_reached, tally.all.audience, percent);
        Ok(ReachReport {
            as_of: timestamp(now),
            covered_households,
            sheets,
            by_region: tree.sum(&tally.regions),
            parts: by_channel.iter().map(|c| c.parts).sum(),
            cost_milli: by_channel.iter().map(|c| c.cost_milli).sum(),
            by_channel,
            time_to_50_s: time(50),
            time_to_90_s: time(90),
            time_to_99_s: time(99),
            households,
            by_group: name_groups(&mut tx, tally.groups).await?,
            people: tally.all,
            dispatch_no,
            mode: head.mode,
            effective_at: head.effective_at.map(timestamp),
        })
    }

    /// How many members an electronic channel first reached in each second since the
    /// dispatch was made; empty after a purge.
    ///
    /// # Errors
    /// When there is no such dispatch, or the database fails.
    pub async fn reach_over_time(&self, dispatch_no: i64, kinds: &ChannelKinds) -> Result<BTreeMap<i64, i64>> {
        let mut tx = self.snapshot().await?;
        let head = head(&mut tx, dispatch_no).await?;
        first_reached(&mut tx, dispatch_no, &Wording::new(kinds, head.effective_at), head.created_at).await
    }

    /// A read transaction in which every statement sees the same moment.
    async fn snapshot(&self) -> Result<Tx> {
        Ok(match &self.pool {
            Pool::Sqlite { read, .. } => Tx::Sqlite(read.begin().await?),
            Pool::Postgres(server) => {
                // A report counts millions between two statements, and holds nobody up.
                let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL idle_in_transaction_session_timeout = 0";
                Tx::Postgres(Lent::begin(server, begin).await?)
            }
        })
    }
}

fn timestamp(at: Millis) -> Timestamp {
    Timestamp::from_millisecond(at).unwrap_or_default()
}

async fn head(tx: &mut Tx, dispatch_no: i64) -> Result<Head> {
    let sql = "SELECT mode, created_at, effective_at, purged_at, reach FROM dispatches WHERE no = $1";
    run!(tx, |c| sqlx::query_as(sql).bind(dispatch_no).fetch_optional(c).await)?.ok_or_else(|| {
        StoreError::Refused(say!(
            "没有发布任务 {dispatch_no}，请核对编号",
            "there is no dispatch {dispatch_no}; check the number"
        ))
    })
}

/// People by the place and the groups they were frozen with.
#[derive(Default)]
struct Tally {
    all: People,
    regions: BTreeMap<i64, Leaf>,
    groups: BTreeMap<i64, People>,
}

/// Members that share everything the report tells apart.
#[derive(sqlx::FromRow)]
struct Alike {
    region_no: i64,
    groups: String,
    away: i32,
    bits: i32,
    n: i64,
}

impl Tally {
    fn add(&mut self, alike: &Alike) {
        let facts = Facts { bits: alike.bits, away: alike.away != 0 };
        self.all.add(facts, alike.n);
        self.regions.entry(alike.region_no).or_default().people.add(facts, alike.n);
        for group in alike.groups.split(',').filter_map(|g| g.parse().ok()) {
            self.groups.entry(group).or_default().add(facts, alike.n);
        }
    }
}

/// The ranges of ordinals of a dispatch in `table`, each (after, up to).
async fn ranges(tx: &mut Tx, table: &str, dispatch_no: i64) -> Result<Vec<(i64, i64)>> {
    // Apart, so that SQLite answers each from the key instead of reading all rows.
    let sql = format!(
        "SELECT COALESCE((SELECT MIN(ordinal) FROM {table} WHERE dispatch_no = $1), 1) - 1,
                COALESCE((SELECT MAX(ordinal) FROM {table} WHERE dispatch_no = $1), 0)"
    );
    let (first, last): (i64, i64) =
        run!(tx, |c| sqlx::query_as(AssertSqlSafe(sql)).bind(dispatch_no).fetch_one(c).await)?;
    Ok(std::iter::successors(Some(first), |after| after.checked_add(RANGE))
        .take_while(|after| *after < last)
        .map(|after| (after, after.saturating_add(RANGE)))
        .collect())
}

async fn count_people(tx: &mut Tx, dispatch_no: i64, wording: &Wording) -> Result<Tally> {
    // The range stands on `dm` too: PostgreSQL does not carry it over the join.
    let sql = format!(
        "SELECT region_no, groups, away, bits, COUNT(*) AS n FROM (
             SELECT m.region_no, m.groups, m.away, {bits} AS bits
             FROM members m
             LEFT JOIN delivery_members dm ON dm.dispatch_no = m.dispatch_no AND dm.member = m.ordinal
                                          AND dm.member > $2 AND dm.member <= $3
             LEFT JOIN deliveries d ON d.dispatch_no = dm.dispatch_no AND d.ordinal = dm.delivery
             WHERE m.dispatch_no = $1 AND m.ordinal > $2 AND m.ordinal <= $3
             GROUP BY m.dispatch_no, m.ordinal
         ) one GROUP BY region_no, groups, away, bits",
        bits = wording.bits()
    );
    let mut tally = Tally::default();
    for (after, upto) in ranges(tx, "members", dispatch_no).await? {
        run!(tx, |c| {
            let query = sqlx::query_as(AssertSqlSafe(sql.clone())).bind(dispatch_no).bind(after).bind(upto);
            let mut rows = query.fetch(c);
            while let Some(alike) = rows.try_next().await? {
                tally.add(&alike);
            }
        });
    }
    Ok(tally)
}

/// How many members were first reached in each second since the dispatch was made.
/// Seconds are rounded up: by then they *had been* reached.
async fn first_reached(
    tx: &mut Tx,
    dispatch_no: i64,
    wording: &Wording,
    created_at: Millis,
) -> Result<BTreeMap<i64, i64>> {
    let sql = format!(
        "SELECT CASE WHEN at <= $4 THEN 0 ELSE (at - $4 + 999) / 1000 END AS second, COUNT(*) FROM (
             SELECT MIN(d.reached_at) AS at
             FROM delivery_members dm
             JOIN deliveries d ON d.dispatch_no = dm.dispatch_no AND d.ordinal = dm.delivery
             WHERE dm.dispatch_no = $1 AND dm.member > $2 AND dm.member <= $3
               AND {electronic} AND d.reached_at IS NOT NULL
             GROUP BY dm.member
         ) one GROUP BY 1",
        electronic = wording.electronic()
    );
    let mut seconds = BTreeMap::new();
    for (after, upto) in ranges(tx, "members", dispatch_no).await? {
        run!(tx, |c| {
            let query = sqlx::query_as::<_, (i64, i64)>(AssertSqlSafe(sql.clone()))
                .bind(dispatch_no)
                .bind(after)
                .bind(upto)
                .bind(created_at);
            let mut rows = query.fetch(c);
            while let Some((second, n)) = rows.try_next().await? {
                *seconds.entry(second).or_default() += n;
            }
        });
    }
    Ok(seconds)
}

/// Unique households of the audience, put where they live; a household that is a
/// member itself counts too. Returns their number.
async fn count_households(tx: &mut Tx, dispatch_no: i64, tally: &mut Tally) -> Result<i64> {
    let sql = "SELECT h.region_no, COUNT(*) FROM (
                   SELECT DISTINCT COALESCE(h.merged_into, h.no) AS no
                   FROM (SELECT DISTINCT COALESCE(household_no, recipient_no) AS no
                         FROM members WHERE dispatch_no = $1) m
                   JOIN recipients h ON h.no = m.no AND h.kind = 2
               ) home JOIN recipients h ON h.no = home.no GROUP BY h.region_no";
    let rows: Vec<(i64, i64)> = run!(tx, |c| sqlx::query_as(sql).bind(dispatch_no).fetch_all(c).await)?;
    for (region, n) in &rows {
        tally.regions.entry(*region).or_default().households += n;
    }
    Ok(rows.iter().map(|(_, n)| n).sum())
}

/// Deliveries that share everything a channel's row tells apart.
#[derive(sqlx::FromRow)]
struct AlikeDeliveries {
    channel: i32,
    state: i32,
    handed: i32,
    reached: i32,
    seen: i32,
    n: i64,
    parts: i64,
}

async fn count_channels(tx: &mut Tx, dispatch_no: i64, kinds: &ChannelKinds) -> Result<Vec<ChannelRow>> {
    let sql = format!(
        "SELECT channel, state, handed, reached, seen, COUNT(*) AS n, CAST(SUM(parts) AS BIGINT) AS parts FROM (
             SELECT d.channel, d.state, d.parts,
                    CASE WHEN {handed} THEN 1 ELSE 0 END AS handed,
                    CASE WHEN {reached} THEN 1 ELSE 0 END AS reached,
                    CASE WHEN {seen} THEN 1 ELSE 0 END AS seen
             FROM deliveries d WHERE d.dispatch_no = $1 AND d.ordinal > $2 AND d.ordinal <= $3
         ) one GROUP BY channel, state, handed, reached, seen",
        handed = sql::handed(),
        reached = sql::reached(),
        seen = sql::seen()
    );
    let names: BTreeMap<i32, String> =
        run!(tx, |c| sqlx::query_as::<_, (i32, String)>("SELECT no, name FROM channels").fetch_all(c).await)?
            .into_iter()
            .collect();
    let mut rows: BTreeMap<i32, ChannelRow> = BTreeMap::new();
    for (after, upto) in ranges(tx, "deliveries", dispatch_no).await? {
        let found: Vec<AlikeDeliveries> = run!(tx, |c| sqlx::query_as(AssertSqlSafe(sql.clone()))
            .bind(dispatch_no)
            .bind(after)
            .bind(upto)
            .fetch_all(c)
            .await)?;
        for alike in found {
            let kind = kinds.get(&alike.channel).copied();
            let standing = Standing {
                state: state(alike.state)?,
                handed: alike.handed != 0,
                reached: alike.reached != 0,
                seen: alike.seen != 0,
            };
            let name = || names.get(&alike.channel).cloned().unwrap_or_else(|| format!("#{}", alike.channel));
            rows.entry(alike.channel).or_insert_with(|| ChannelRow::new(name(), kind)).add(
                kind,
                standing,
                alike.n,
                alike.parts,
            );
        }
    }
    Ok(rows.into_values().collect())
}

fn state(code: i32) -> Result<State> {
    State::from_code(code).ok_or_else(|| StoreError::Damaged(format!("deliveries.state = {code}")))
}

/// Names the groups and leaves out the sensitive ones, which are never shown.
async fn name_groups(tx: &mut Tx, mut groups: BTreeMap<i64, People>) -> Result<Vec<GroupRow>> {
    let sql = "SELECT no, name FROM groups WHERE sensitive = 0 ORDER BY no";
    let names: Vec<(i64, String)> = run!(tx, |c| sqlx::query_as(sql).fetch_all(c).await)?;
    Ok(names
        .into_iter()
        .filter_map(|(group_no, name)| Some(GroupRow { group_no, name, people: groups.remove(&group_no)? }))
        .collect())
}

#[derive(sqlx::FromRow)]
struct Region {
    no: i64,
    parent_no: Option<i64>,
    code: Option<String>,
    name: String,
    level: String,
}

impl From<Region> for Node {
    fn from(r: Region) -> Self {
        Self { no: r.no, parent_no: r.parent_no, code: r.code, name: r.name, level: r.level }
    }
}

/// These regions and all above them.
async fn region_tree(tx: &mut Tx, regions: &[i64]) -> Result<Tree> {
    let list =
        tx.pick("SELECT value FROM json_each($1)", "SELECT value::bigint FROM json_array_elements_text($1::json)");
    let sql = format!(
        "SELECT no, parent_no, code, name, level FROM regions WHERE no IN (
             SELECT ancestor FROM region_closure WHERE descendant IN ({list}))"
    );
    let wanted = serde_json::json!(regions).to_string();
    let rows: Vec<Region> = run!(tx, |c| sqlx::query_as(AssertSqlSafe(sql)).bind(wanted).fetch_all(c).await)?;
    Ok(Tree::new(rows.into_iter().map(Node::from).collect()))
}
