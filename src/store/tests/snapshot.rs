//! Snapshots in chunks of any width against a slow and obvious choice over small random worlds.

mod world;

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;
use crate::store::testing::stores;
use world::{Lists, MAIL, Planned, VISIT, World};

const WORLDS: u64 = 30;

fn channels(batch_size: i64) -> [StepChannel; 3] {
    [
        sms(batch_size),
        StepChannel { no: MAIL, stands_for: MAIL, kind: Target::Address(AddressKind::Email), batch_size },
        StepChannel { no: VISIT, stands_for: VISIT, kind: Target::Visit, batch_size: 1 },
    ]
}

struct Setting<'a> {
    predicate: &'a str,
    opt_out_kind: Option<&'a str>,
    defer_until: Option<i64>,
    channels: &'a [StepChannel],
}

/// Takes the snapshot in chunks of random width, some of them dropped half-way or
/// written from an old view; returns the dispatch as planned.
async fn snapshot(store: &Store, new: &NewDispatch, s: &Setting<'_>, rng: &mut StdRng, widest: i64) -> Dispatch {
    let mut d = store.create_dispatch(new).await.unwrap();
    let made = d.clone();
    while d.phase == "snapshot" {
        let width = rng.random_range(1..=widest);
        let page = store.audience_page(s.predicate, d.cursor_no, width).await.unwrap();
        let last = i64::try_from(page.len()).unwrap() < width;
        let job = Chunking {
            dispatch: &d,
            channels: s.channels,
            opt_out_kind: s.opt_out_kind,
            defer_until: s.defer_until,
            next_step_at: Some(NOON + 60_000),
        };
        let chunk = store.snapshot_chunk(&job, &page, last);
        if rng.random_bool(0.2) {
            // Killed somewhere on the way: all of the chunk is there, or nothing.
            let patience = std::time::Duration::from_micros(rng.random_range(0..2_000));
            drop(tokio::time::timeout(patience, chunk).await);
        } else if let Ok(chunk) = chunk.await
            && chunk.done != last
        {
            // A server may commit what was dropped after all, later than we looked.
            let now = again(store, &d).await;
            assert_ne!((now.phase, now.cursor_no), (d.phase.clone(), d.cursor_no));
        }
        if d.members > 0 && rng.random_bool(0.2) {
            let stale = Chunking { dispatch: &made, ..job };
            let first = store.audience_page(s.predicate, 0, 1).await.unwrap();
            assert!(store.snapshot_chunk(&stale, &first, false).await.is_err(), "written twice");
        }
        d = again(store, &d).await;
    }
    d
}

#[tokio::test]
async fn any_chunking_writes_what_a_slow_choice_says() {
    for t in stores().await {
        let mut rng = StdRng::seed_from_u64(5);
        for seed in 0..WORLDS {
            let lists = [Lists::None, Lists::Some, Lists::All][usize::try_from(seed % 3).unwrap()];
            let world = World::random(&mut rng, lists, i64::try_from(seed).unwrap());
            world.write(&t.store).await;
            let predicate = world.predicate();
            let honoured = (seed % 2 == 0).then_some("policy");
            let defer_until = (seed % 5 == 0).then_some(NOON + 9_000);
            let size = rng.random_range(1..6);
            let setting =
                Setting { predicate: &predicate, opt_out_kind: honoured, defer_until, channels: &channels(size) };
            let item = approved(&t.store).await;
            let new = NewDispatch { list_no: world.list_no(), ..order(&item, 2) };
            for widest in [1_000, 7, 3] {
                let d = snapshot(&t.store, &new, &setting, &mut rng, widest).await;
                let found = Planned::read(&t.store, &d).await;
                let meant = world.plan(honoured, defer_until);
                assert_eq!(found, meant, "{} seed {seed} widest {widest}", t.engine);
                ledger_adds_up(&t.store, &d, size).await;
                estimate_agrees(&t.store, &world, &setting, &meant).await;
                if widest == 3 {
                    next_step(&t.store, &d, &world, &mut rng).await;
                }
            }
        }
    }
}

/// Numbers without gaps, batches that hold what they say, counts that are counts.
async fn ledger_adds_up(store: &Store, d: &Dispatch, size: i64) {
    let count = |sql: &str| store.probe_count(sql.replace("$1", &d.no.to_string()));
    assert_eq!(count("SELECT COUNT(*) FROM members WHERE dispatch_no = $1").await, d.members);
    assert_eq!(count("SELECT COALESCE(MAX(ordinal), 0) FROM members WHERE dispatch_no = $1").await, d.members);
    assert_eq!(count("SELECT COUNT(*) FROM deliveries WHERE dispatch_no = $1").await, d.deliveries);
    assert_eq!(count("SELECT COALESCE(MAX(ordinal), 0) FROM deliveries WHERE dispatch_no = $1").await, d.deliveries);
    let wrong = "SELECT COUNT(*) FROM batches b WHERE b.dispatch_no = $1 AND (b.lane <> 2 OR b.state <> 0 OR b.size <> \
                 (SELECT COUNT(*) FROM deliveries d WHERE d.batch = b.no AND d.dispatch_no = $1 AND d.channel = b.channel))";
    assert_eq!(count(wrong).await, 0);
    assert_eq!(count(&format!("SELECT COUNT(*) FROM batches WHERE dispatch_no = $1 AND size > {size}")).await, 0);
    let homeless = "SELECT COUNT(*) FROM deliveries d WHERE d.dispatch_no = $1 AND (d.state = 1) <> (d.batch > 0)";
    assert_eq!(count(homeless).await, 0);
    let lost = "SELECT COUNT(*) FROM deliveries d WHERE d.dispatch_no = $1 AND d.batch > 0 \
                AND NOT EXISTS (SELECT 1 FROM batches b WHERE b.no = d.batch AND b.dispatch_no = $1)";
    assert_eq!(count(lost).await, 0);
}

/// What `gong plan` promises is what the snapshot writes, to the row.
async fn estimate_agrees(store: &Store, world: &World, s: &Setting<'_>, meant: &Planned) {
    if world.lists == Lists::Some {
        return; // refused before it is sent: someone's variables are missing
    }
    for channel in s.channels {
        let personal = world.lists == Lists::All && channel.kind != Target::Visit;
        let e = store.estimate_channel(s.predicate, channel.kind, personal, s.opt_out_kind).await.unwrap();
        let of = |what: &dyn Fn(i32) -> bool| {
            i64::try_from(meant.deliveries.iter().filter(|d| d.channel == channel.no && what(d.state)).count()).unwrap()
        };
        let links: Vec<_> = meant.links.iter().filter(|l| l.channel == channel.no).collect();
        let via = links.iter().filter(|l| l.via == 2).count();
        assert_eq!(e.addressable, i64::try_from(links.len()).unwrap());
        assert_eq!(e.via_household, i64::try_from(via).unwrap());
        assert_eq!(e.targets, of(&|_| true), "{:?}", channel.kind);
        assert_eq!(e.suppressed, of(&|state| state == State::Suppressed.code()));
    }
    let none = world.unaddressed();
    let (n, first) = store.unaddressed(s.predicate, &[1, 2], 4).await.unwrap();
    assert_eq!(n, i64::try_from(none.len()).unwrap());
    let first: Vec<i64> = first.iter().map(|u| u.no).collect();
    assert_eq!(first, none[..none.len().min(4)]);
}

/// Some are reached; the door-knock list holds the households of the rest, once each.
async fn next_step(store: &Store, planned: &Dispatch, world: &World, rng: &mut StdRng) {
    assert_eq!((planned.phase.as_str(), planned.step_due_at), ("waiting", Some(NOON + 60_000)));
    let mut reached = BTreeSet::new();
    for row in rows(store, planned.no).await {
        if row.state() == State::Queued && rng.random_bool(0.5) {
            reached.insert(row.ordinal);
        }
    }
    let list: Vec<String> = reached.iter().map(ToString::to_string).collect();
    if !list.is_empty() {
        let sql = format!(
            "UPDATE deliveries SET state = 4, reached_at = 1 WHERE dispatch_no = {} AND ordinal IN ({})",
            planned.no,
            list.join(",")
        );
        execute(store, sql).await;
    }
    store.begin_step(planned, 1).await.unwrap();
    let visits = [channels(1)[2]];
    let mut d = again(store, planned).await;
    assert_eq!((d.phase.as_str(), d.step, d.cursor_no), ("plan", 1, 0));
    while d.phase == "plan" {
        let job = Chunking { opt_out_kind: Some("policy"), defer_until: Some(NOON + 1), ..job(&d, &visits) };
        store.step_chunk(&job, 1, rng.random_range(1..9)).await.unwrap();
        d = again(store, &d).await;
    }
    assert_eq!((d.phase.as_str(), d.step_due_at, d.members), ("done", None, planned.members));
    let sql = format!(
        "SELECT CAST(dm.member AS TEXT) || ':' || dm.delivery FROM delivery_members dm WHERE dm.dispatch_no = {}",
        d.no
    );
    let told: BTreeSet<i64> = store
        .probe_lines(sql)
        .await
        .iter()
        .filter_map(|l| l.split_once(':').map(|(m, o)| (m.parse().unwrap(), o.parse::<i64>().unwrap())))
        .filter(|(_, o): &(i64, i64)| reached.contains(o))
        .map(|(m, _)| m)
        .collect();
    let left = world.homes_without(&told);
    let sql = format!(
        "SELECT CAST(target AS TEXT) FROM deliveries WHERE dispatch_no = {} AND step = 1 AND state = 30 ORDER BY target",
        d.no
    );
    let listed: Vec<i64> = store.probe_lines(sql).await.iter().map(|l| l.parse().unwrap()).collect();
    assert_eq!(listed, left, "visits");
    assert_eq!(d.deliveries, planned.deliveries + i64::try_from(left.len()).unwrap());
}
