//! Random histories: people, places, deliveries and boards, and how they are written down.

use std::collections::{BTreeMap, BTreeSet};

use rand::Rng as _;
use rand::rngs::StdRng;
use sqlx::AssertSqlSafe;

use super::{BOARD, GONE, MAIL, SMS, VISIT};
use crate::domain::delivery::State;
use crate::store::Tx;
use crate::store::testing::NOON;

pub(super) struct Household {
    pub(super) no: i64,
    pub(super) region: i64,
    pub(super) status: i32,
    pub(super) merged_into: Option<i64>,
}

pub(super) struct Member {
    pub(super) ordinal: i64,
    pub(super) recipient: i64,
    pub(super) household: Option<i64>,
    pub(super) region: i64,
    pub(super) away: bool,
    pub(super) groups: Vec<i64>,
}

pub(super) struct Delivery {
    pub(super) ordinal: i64,
    pub(super) channel: i32,
    pub(super) target: i64,
    pub(super) state: State,
    pub(super) parts: i64,
    pub(super) handed: Option<i64>,
    pub(super) reached: Option<i64>,
    pub(super) seen: Option<i64>,
    /// (member, via)
    pub(super) to: Vec<(i64, i32)>,
}

pub(super) struct Point {
    pub(super) no: i64,
    pub(super) households: BTreeSet<i64>,
    pub(super) regions: BTreeSet<i64>,
}

pub(super) struct World {
    pub(super) dispatch: i64,
    pub(super) effective: Option<i64>,
    /// region → parent
    pub(super) regions: BTreeMap<i64, Option<i64>>,
    pub(super) households: Vec<Household>,
    pub(super) members: Vec<Member>,
    pub(super) deliveries: Vec<Delivery>,
    pub(super) points: Vec<Point>,
}

// Making histories -----------------------------------------------------------

fn pick<T: Copy>(rng: &mut StdRng, from: &[T]) -> T {
    from[rng.random_range(0..from.len())]
}

fn some<T>(rng: &mut StdRng, chance: f64, value: T) -> Option<T> {
    rng.random_bool(chance).then_some(value)
}

fn people(rng: &mut StdRng, base: i64, regions: &[i64]) -> (Vec<Household>, Vec<Member>) {
    let mut households: Vec<Household> = (1..=rng.random_range(1..15))
        .map(|i| Household {
            no: base + i,
            region: pick(rng, regions),
            status: if rng.random_bool(0.1) { 2 } else { 1 },
            merged_into: None,
        })
        .collect();
    if households.len() > 3 {
        households[0].merged_into = Some(base + 2);
    }
    let mut ordinal = 0;
    let members = (0..rng.random_range(0..60))
        .map(|i| {
            ordinal += rng.random_range(1..4);
            let household = households[rng.random_range(0..households.len())].no;
            // A few are households themselves, and a few live in none.
            let (recipient, household) = match rng.random_range(0..10) {
                0 => (household, None),
                1 => (base + 100 + i, None),
                _ => (base + 100 + i, Some(household)),
            };
            let groups = (1..=3).filter(|_| rng.random_bool(0.3)).collect();
            Member { ordinal, recipient, household, region: pick(rng, regions), away: rng.random_bool(0.2), groups }
        })
        .collect();
    (households, members)
}

fn delivery(rng: &mut StdRng, ordinal: i64, members: &[Member], points: &[Point]) -> Delivery {
    let channel = pick(rng, &[SMS, SMS, SMS, MAIL, MAIL, BOARD, BOARD, VISIT, GONE]);
    let state = match channel {
        BOARD => pick(rng, &[State::Planned, State::Printed, State::Posted, State::TakenDown, State::Cancelled]),
        VISIT => pick(rng, &[State::Listed, State::Told, State::Absent, State::Moved, State::Refused]),
        _ => State::ALL[rng.random_range(0..15)],
    };
    let mut time = |chance| rng.random_bool(chance).then(|| NOON + rng.random_range(-3_000..100_000));
    let reached = time(if state == State::TakenDown { 0.5 } else { 0.1 });
    let (handed, seen) = (time(0.3), time(0.05));
    let mut to = BTreeMap::new();
    if channel != BOARD && !members.is_empty() {
        for _ in 0..rng.random_range(1..4) {
            to.insert(members[rng.random_range(0..members.len())].ordinal, rng.random_range(1..=4));
        }
    }
    Delivery {
        ordinal,
        channel,
        target: if channel == BOARD { points[rng.random_range(0..points.len())].no } else { ordinal },
        state,
        parts: rng.random_range(0..4),
        handed,
        reached: reached.or_else(|| (state == State::Delivered && rng.random_bool(0.9)).then_some(NOON + 5_000)),
        seen,
        to: to.into_iter().collect(),
    }
}

pub(super) fn world(rng: &mut StdRng, dispatch: i64) -> World {
    let base = dispatch * 1_000;
    let regions: BTreeMap<i64, Option<i64>> =
        (1..=rng.random_range(1..10)).map(|i| (base + i, (i > 1).then(|| base + rng.random_range(1..i)))).collect();
    let numbers: Vec<i64> = regions.keys().copied().collect();
    let (households, members) = people(rng, base, &numbers);
    let points: Vec<Point> = (1..=3)
        .map(|i| Point {
            no: base + i,
            households: households.iter().filter(|_| i != 2 && rng.random_bool(0.3)).map(|h| h.no).collect(),
            regions: numbers.iter().filter(|_| rng.random_bool(0.3)).copied().collect(),
        })
        .collect();
    let deliveries = (1..=rng.random_range(0..100)).map(|i| delivery(rng, i * 2, &members, &points)).collect();
    let effective = some(rng, 0.5, NOON + 40_000);
    World { dispatch, effective, regions, households, members, deliveries, points }
}

// Writing them down ----------------------------------------------------------

/// Rows of a snapshot: its members, and which delivery reaches which of them.
pub(in crate::store) const MEMBERS: &str =
    "members (dispatch_no, ordinal, recipient_no, household_no, region_no, away, groups)";
pub(in crate::store) const LINKS: &str = "delivery_members (dispatch_no, member, delivery, via)";

pub(in crate::store) async fn insert(tx: &mut Tx, into: &str, rows: &[String]) {
    if !rows.is_empty() {
        let sql = format!("INSERT INTO {into} VALUES ({})", rows.join("), ("));
        exec!(tx, sqlx::query(AssertSqlSafe(sql))).unwrap();
    }
}

/// A live dispatch with the item and the unit it needs.
pub(in crate::store) async fn new_dispatch(tx: &mut Tx, no: i64, created_at: i64, effective_at: Option<i64>) {
    insert(tx, "units (id, name, phone, created_at)", &[format!("'u{no}', 'u{no}', '', 0")]).await;
    let item = format!("'i{no}', {no}, 'notice', 1, 'u{no}', 'approved', 0, ''");
    insert(tx, "items (id, no, kind, version, unit_id, state, created_at, created_by)", &[item]).await;
    let columns = "dispatches (no, id, item_id, item_version, audience, canonical, mode, lane, plan, state, phase,
                               created_at, created_by, expires_at, effective_at)";
    let effective = null(effective_at);
    let row = format!(
        "{no}, 'd{no}', 'i{no}', 1, '', '', 'live', 2, '{{}}', 'active', 'done', {created_at}, '', 0, {effective}"
    );
    insert(tx, columns, &[row]).await;
}

fn null(value: Option<i64>) -> String {
    value.map_or("NULL".into(), |v| v.to_string())
}

pub(super) async fn write(tx: &mut Tx, w: &World) {
    let no = w.dispatch;
    new_dispatch(tx, no, NOON, w.effective).await;
    let rows: Vec<_> = w.regions.iter().map(|(r, up)| format!("{r}, 'r{r}', 'custom', {}", null(*up))).collect();
    insert(tx, "regions (no, name, level, parent_no)", &rows).await;
    let closure: Vec<_> =
        w.regions.keys().flat_map(|r| above(w, *r).into_iter().map(move |up| format!("{up}, {r}"))).collect();
    insert(tx, "region_closure (ancestor, descendant)", &closure).await;
    let mut rows: Vec<_> = w
        .households
        .iter()
        .map(|h| format!("{}, 2, 0, {}, {}, {}, 0", h.no, h.status, h.region, null(h.merged_into)))
        .collect();
    let persons = w.members.iter().filter(|m| m.recipient > no * 1_000 + 99);
    rows.extend(persons.map(|m| format!("{}, 1, 1, 1, {}, NULL, 0", m.recipient, m.region)));
    insert(tx, "recipients (no, kind, counted, status, region_no, merged_into, updated_at)", &rows).await;
    let rows: Vec<_> = w.points.iter().map(|p| format!("{0}, 'p{0}', 'board', {1}", p.no, no * 1_000 + 1)).collect();
    insert(tx, "points (no, name, kind, region_no)", &rows).await;
    let of = |list: fn(&Point) -> &BTreeSet<i64>| -> Vec<_> {
        w.points.iter().flat_map(|p| list(p).iter().map(|x| format!("{}, {x}", p.no))).collect()
    };
    insert(tx, "point_households (point_no, recipient_no)", &of(|p| &p.households)).await;
    insert(tx, "point_regions (point_no, region_no)", &of(|p| &p.regions)).await;
    write_ledger(tx, w).await;
}

async fn write_ledger(tx: &mut Tx, w: &World) {
    let no = w.dispatch;
    tx.ready_range(no).await.unwrap();
    let member = |m: &Member| {
        let mut groups: Vec<String> = m.groups.iter().map(ToString::to_string).collect();
        if !groups.is_empty() {
            groups.insert(0, String::new());
            groups.push(String::new());
        }
        let groups = groups.join(",");
        let (household, away) = (null(m.household), i32::from(m.away));
        format!("{no}, {}, {}, {household}, {}, {away}, '{groups}'", m.ordinal, m.recipient, m.region)
    };
    insert(tx, MEMBERS, &w.members.iter().map(member).collect::<Vec<_>>()).await;
    let delivery = |d: &Delivery| {
        let (handed, reached, seen) = (null(d.handed), null(d.reached), null(d.seen));
        let (ordinal, channel, target, state) = (d.ordinal, d.channel, d.target, d.state.code());
        format!(
            "{no}, {ordinal}, 0, {channel}, {target}, {ordinal}, {state}, 0, {}, {handed}, {reached}, {seen}",
            d.parts
        )
    };
    let columns = "deliveries (dispatch_no, ordinal, step, channel, target, variant, state, batch, parts,
                               handed_at, reached_at, seen_at)";
    insert(tx, columns, &w.deliveries.iter().map(delivery).collect::<Vec<_>>()).await;
    let links: Vec<_> = w
        .deliveries
        .iter()
        .flat_map(|d| d.to.iter().map(move |(member, via)| format!("{no}, {member}, {}, {via}", d.ordinal)))
        .collect();
    insert(tx, LINKS, &links).await;
}

/// The region and all above it.
pub(super) fn above(w: &World, region: i64) -> Vec<i64> {
    std::iter::successors(Some(region), |r| w.regions[r]).collect()
}
