//! The snapshot: everybody, to members, deliveries and batches.

use std::time::{Duration, Instant};

use serde_json::{Map, json};

use super::site::Site;
use super::{Measured, Run, Settings, peak, rehearsal};
use crate::planner::Pace;
use crate::store::bare::Mark;

pub(super) async fn run(settings: &Settings, n: i64) -> anyhow::Result<Measured> {
    let site = Site::open(settings, rehearsal(), None).await?;
    site.people(n).await?;
    let (mut runs, mut details) = (Vec::new(), Map::new());
    for counted in settings.rounds() {
        let (run, marks, longest) = once(&site).await?;
        anyhow::ensure!(run.n == n, "the snapshot has {} members, not {n}", run.n);
        details.insert("deliveries".into(), marks.last().map_or(0, |m| m.deliveries).into());
        details.insert("chunks".into(), marks.len().into());
        details.insert("longest_step_ms".into(), json!(longest.as_secs_f64() * 1000.0));
        if counted {
            runs.push(run);
        }
        site.app.store.empty_ledger().await?;
    }
    site.close().await?;
    let ceiling = "INSERT ... SELECT of the same members, deliveries, links and batches, chunk by chunk, into tables of the same indexes";
    Ok(Measured { name: "snapshot", ceiling, runs, details })
}

async fn once(site: &Site) -> anyhow::Result<(Run, Vec<Mark>, Duration)> {
    let store = &site.app.store;
    let dispatch = site.dispatch().await?;
    let first = store.mark_of(dispatch.no).await?;
    let planner = site.planner().await?;
    store.open_bare_snapshot().await?;
    let (mut pace, mut took, mut longest) = (Pace::default(), Duration::ZERO, Duration::ZERO);
    let mut marks = Vec::new();
    peak::reset();
    loop {
        let began = Instant::now();
        let more = planner.step(&mut pace).await?;
        took += began.elapsed();
        longest = longest.max(began.elapsed());
        if !more {
            break;
        }
        marks.push(store.mark_of(dispatch.no).await?);
    }
    let held = peak::read();
    store.settle().await?;
    let mut bare = Duration::ZERO;
    let mut from = first;
    for to in &marks {
        let began = Instant::now();
        store.bare_snapshot(dispatch.no, from, *to).await?;
        bare += began.elapsed();
        from = *to;
    }
    Ok((Run::new(from.members, took, bare, held), marks, longest))
}
