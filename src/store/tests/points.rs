//! Which points get a sheet: chunks of any width against a slow and obvious choice, and
//! what follows an earlier item.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;
use crate::domain::item::Relation;
use crate::store::testing::stores;

pub(super) const BOARD: i32 = 7;
const WORLDS: i64 = 40;
/// Region → the one above.
const TREE: [(i64, Option<i64>); 7] =
    [(1, None), (2, Some(1)), (3, Some(1)), (4, Some(2)), (5, Some(2)), (6, Some(3)), (7, Some(3))];

pub(super) fn board(batch_size: i64) -> StepChannel {
    StepChannel { no: BOARD, stands_for: BOARD, kind: Target::Point, batch_size }
}

fn above(region: i64) -> Vec<i64> {
    let parents: BTreeMap<_, _> = TREE.into_iter().collect();
    std::iter::successors(Some(region), |r| parents[r]).collect()
}

#[derive(Debug)]
struct Point {
    no: i64,
    region: i64,
    households: BTreeSet<i64>,
    regions: BTreeSet<i64>,
}

/// Persons by number: household and region.
struct World {
    people: BTreeMap<i64, (Option<i64>, i64)>,
    households: BTreeMap<i64, i64>,
    points: Vec<Point>,
}

impl World {
    fn random(rng: &mut StdRng) -> Self {
        let households: BTreeMap<i64, i64> =
            (1..=rng.random_range(1..8)).map(|no| (no, rng.random_range(1..=7))).collect();
        let people = (100..100 + rng.random_range(1..25))
            .map(|no| {
                let household =
                    rng.random_bool(0.7).then(|| rng.random_range(1..=i64::try_from(households.len()).unwrap()));
                (no, (household, household.map_or_else(|| rng.random_range(1..=7), |h| households[&h])))
            })
            .collect();
        let some = |rng: &mut StdRng, all: Vec<i64>| all.into_iter().filter(|_| rng.random_bool(0.3)).collect();
        let points = (1..=rng.random_range(1..8))
            .map(|no| {
                let kind = rng.random_range(0..3);
                let (homes, regions) = (households.keys().copied().collect(), (1..=7).collect());
                Point {
                    no,
                    region: rng.random_range(1..=7),
                    households: if kind == 0 { some(rng, homes) } else { BTreeSet::new() },
                    regions: if kind == 2 { BTreeSet::new() } else { some(rng, regions) },
                }
            })
            .collect();
        Self { people, households, points }
    }

    /// The points that serve one of these.
    fn serving(&self, people: &[i64]) -> BTreeSet<i64> {
        let serves = |p: &Point, no: &i64| {
            let (household, region) = self.people[no];
            if !p.households.is_empty() {
                return household.is_some_and(|h| p.households.contains(&h));
            }
            let up = above(region);
            if p.regions.is_empty() { up.contains(&p.region) } else { up.iter().any(|r| p.regions.contains(r)) }
        };
        self.points.iter().filter(|p| people.iter().any(|no| serves(p, no))).map(|p| p.no).collect()
    }

    async fn write(&self, store: &Store) {
        for table in ["point_regions", "point_households", "points", "recipients"] {
            execute(store, format!("DELETE FROM {table}")).await;
        }
        let mut rows: Vec<String> =
            self.households.iter().map(|(no, region)| format!("{no}, 2, 0, NULL, {region}, 0")).collect();
        let null = |n: Option<i64>| n.map_or("NULL".to_owned(), |n| n.to_string());
        rows.extend(self.people.iter().map(|(no, (h, region))| format!("{no}, 1, 1, {}, {region}, 0", null(*h))));
        insert(store, "recipients (no, kind, counted, household_no, region_no, updated_at)", &rows).await;
        let rows: Vec<String> =
            self.points.iter().map(|p| format!("{0}, 'p{0}', 'board', {1}", p.no, p.region)).collect();
        insert(store, "points (no, name, kind, region_no)", &rows).await;
        let pairs = |of: fn(&Point) -> &BTreeSet<i64>| -> Vec<String> {
            self.points.iter().flat_map(|p| of(p).iter().map(|x| format!("{}, {x}", p.no))).collect()
        };
        insert(store, "point_households (point_no, recipient_no)", &pairs(|p| &p.households)).await;
        insert(store, "point_regions (point_no, region_no)", &pairs(|p| &p.regions)).await;
    }
}

pub(super) async fn tree(store: &Store) {
    let level = |no: i64| ["county", "town", "village"][above(no).len() - 1];
    let rows: Vec<String> = TREE
        .iter()
        .map(|(no, up)| format!("{no}, 'r{no}', '{}', {}", level(*no), up.map_or("NULL".into(), |u| u.to_string())))
        .collect();
    insert(store, "regions (no, name, level, parent_no)", &rows).await;
    let rows: Vec<String> =
        TREE.iter().flat_map(|(no, _)| above(*no).into_iter().map(move |up| format!("{up}, {no}"))).collect();
    insert(store, "region_closure (ancestor, descendant)", &rows).await;
}

/// Plans step 0 for all people, in chunks of random width.
pub(super) async fn snapshot(store: &Store, new: &NewDispatch, predicate: &str, rng: &mut StdRng) -> Dispatch {
    let mut d = store.create_dispatch(new).await.unwrap();
    while d.phase == "snapshot" {
        let width = rng.random_range(1..9);
        let page = store.audience_page(predicate, d.cursor_no, width).await.unwrap();
        let last = i64::try_from(page.len()).unwrap() < width;
        let boards = [board(3)];
        let job = Chunking { next_step_at: Some(NOON + 1), ..job(&d, &boards) };
        store.snapshot_chunk(&job, &page, last).await.unwrap();
        d = again(store, &d).await;
    }
    d
}

/// The points of a step, each once.
pub(super) async fn sheets_at(store: &Store, d: &Dispatch, step: i32) -> BTreeSet<i64> {
    let sql = format!("SELECT CAST(target AS TEXT) FROM deliveries WHERE dispatch_no = {} AND step = {step}", d.no);
    let all: Vec<i64> = store.probe_lines(sql).await.iter().map(|l| l.parse().unwrap()).collect();
    let set: BTreeSet<i64> = all.iter().copied().collect();
    assert_eq!(set.len(), all.len(), "a point got two sheets");
    set
}

#[tokio::test]
async fn any_chunking_chooses_the_points_that_serve_somebody() {
    for t in stores().await {
        let store = &t.store;
        let mut rng = StdRng::seed_from_u64(11);
        tree(store).await;
        let item = approved(store).await;
        for seed in 0..WORLDS {
            let world = World::random(&mut rng);
            world.write(store).await;
            let everybody: Vec<i64> = world.people.keys().copied().collect();
            let d = snapshot(store, &order(&item, 2), "TRUE", &mut rng).await;
            let meant = world.serving(&everybody);
            assert_eq!(sheets_at(store, &d, 0).await, meant, "{} {seed} {:?}", t.engine, world.points);
            let e = store.estimate_channel("TRUE", Target::Point, false, None).await.unwrap();
            assert_eq!((e.targets, e.suppressed), (i64::try_from(meant.len()).unwrap(), 0), "{} {seed}", t.engine);
            let links = format!("SELECT COUNT(*) FROM delivery_members WHERE dispatch_no = {}", d.no);
            assert_eq!(store.probe_count(links).await, 0);
            assert_eq!(d.deliveries, i64::try_from(meant.len()).unwrap());
            later_step(store, &world, &d, &mut rng).await;
        }
    }
}

/// Of those not reached by an electronic channel, the points.
async fn later_step(store: &Store, world: &World, d: &Dispatch, rng: &mut StdRng) {
    let everybody: Vec<i64> = world.people.keys().copied().collect();
    let (mut left, mut rows, mut links) = (Vec::new(), Vec::new(), Vec::new());
    for (member, no) in (1_i64..).zip(&everybody) {
        let reached = rng.random_bool(0.7);
        let ordinal = 1_000 + member;
        let at = if reached { "5" } else { "NULL" };
        rows.push(format!("{}, {ordinal}, 0, 1, {no}, 0, {}, 0, {at}", d.no, if reached { 4 } else { 10 }));
        links.push(format!("{}, {member}, {ordinal}, 1", d.no));
        if !reached {
            left.push(*no);
        }
    }
    insert(store, "deliveries (dispatch_no, ordinal, step, channel, target, variant, state, batch, reached_at)", &rows)
        .await;
    insert(store, "delivery_members (dispatch_no, member, delivery, via)", &links).await;
    store.begin_step(d, 1).await.unwrap();
    let mut d = again(store, d).await;
    let base = Dispatch { deliveries: 5_000, ..d.clone() };
    d = base;
    while d.phase == "plan" {
        store.step_chunk(&job(&d, &[board(3)]), 1, rng.random_range(1..6)).await.unwrap();
        let deliveries = d.deliveries;
        d = Dispatch { deliveries: deliveries + 100, ..again(store, &d).await };
    }
    assert_eq!(sheets_at(store, &d, 1).await, world.serving(&left), "of {left:?}");
}

/// An item that follows another, approved.
pub(super) async fn following(store: &Store, relation: Relation, item: &Item) -> Item {
    let (author, reviewer) = staff(store).await;
    let mut content = content("解除");
    content.relations.push((relation, item.id.clone()));
    let next = store.add_item(&content, &author).await.unwrap();
    store.approve_item(&next, ApprovalType::Review, &reviewer, "").await.unwrap();
    store.item(&next.id).await.unwrap()
}

#[tokio::test]
async fn what_lifts_an_item_goes_to_the_same_points_even_if_nobody_else_was_told() {
    for t in stores().await {
        let store = &t.store;
        let mut rng = StdRng::seed_from_u64(3);
        tree(store).await;
        insert(store, "recipients (no, kind, counted, region_no, updated_at)", &["100, 1, 1, 4, 0".into()]).await;
        let points: Vec<String> =
            [(1, 4), (2, 2), (3, 4), (4, 5)].iter().map(|(no, r)| format!("{no}, 'p{no}', 'board', {r}")).collect();
        insert(store, "points (no, name, kind, region_no)", &points).await;
        let item = approved(store).await;
        let first = snapshot(store, &order(&item, 2), "TRUE", &mut rng).await;
        assert_eq!(sheets_at(store, &first, 0).await, BTreeSet::from([1, 2, 3]));
        // One hangs, one was taken down after it had hung, one was called off.
        for (point, state) in [(1, State::Posted), (2, State::TakenDown), (3, State::Cancelled)] {
            let sql = format!(
                "UPDATE deliveries SET state = {} WHERE dispatch_no = {} AND target = {point}",
                state.code(),
                first.no
            );
            execute(store, sql).await;
        }
        // Since then a new board hangs where everybody sees it; it never had the alert.
        insert(store, "points (no, name, kind, region_no)", &["9, 'p9', 'board', 1".into()]).await;
        let update = following(store, Relation::Updates, &item).await;
        assert_eq!(store.followed_points(&update.id, Mode::Live, BOARD).await.unwrap(), Vec::<i64>::new());
        let lift = following(store, Relation::Lifts, &item).await;
        for predicate in ["1 = 0", "TRUE"] {
            let d = snapshot(store, &order(&lift, 2), predicate, &mut rng).await;
            assert_eq!(sheets_at(store, &d, 0).await, BTreeSet::from([1, 2]), "{} {predicate}", t.engine);
        }
        let mut followed = store.followed_points(&lift.id, Mode::Live, BOARD).await.unwrap();
        followed.sort_unstable();
        assert_eq!(followed, [1, 2]);
        assert!(store.followed_points(&lift.id, Mode::Drill, BOARD).await.unwrap().is_empty(), "of a drill");
        assert!(store.followed_points(&lift.id, Mode::Live, BOARD + 1).await.unwrap().is_empty(), "of another channel");
    }
}
