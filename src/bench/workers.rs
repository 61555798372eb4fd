//! One `gong work` against two, at a gateway that takes its time; planner and workers
//! are processes of their own.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Map;

use super::channels::{FAST, kannel, limits};
use super::dispatch::{check_sent, persons_for, wait_done};
use super::gateway::Process;
use super::processes::{Gong, configuration};
use super::site::{CHANNEL, Site};
use super::{Measured, Run, Settings};
use crate::say;

/// Milliseconds the gateway takes, where none are asked for.
const LATENCY: u64 = 20;
/// Requests that a worker has under way: so few that the gateway limits it.
const IN_FLIGHT: usize = 64;
const LOOK: Duration = Duration::from_millis(20);
/// The first part of the messages warms up: one in so many.
const WARM_UP: i64 = 5;

/// What was measured with some workers.
struct Sent {
    n: i64,
    took: Duration,
    planner_peak: u64,
    worker_peak: u64,
}

pub(super) async fn run(settings: &Settings, n: i64) -> anyhow::Result<Measured> {
    anyhow::ensure!(
        settings.store.is_some(),
        say!("多个进程需要 PostgreSQL：请用 --store 指定", "several processes need PostgreSQL: name it with --store")
    );
    let (latency, in_flight) = (settings.latency_ms.unwrap_or(LATENCY), settings.in_flight.unwrap_or(IN_FLIGHT));
    let gateway = Process::start(latency, false)?;
    let site = Site::open(settings, kannel(&gateway.url(), limits(FAST, in_flight)), None).await?;
    site.people(persons_for(n)).await?;
    let file = configuration(&site, &gateway, (FAST, in_flight), settings)?;
    let (mut runs, mut details) = (Vec::new(), Map::new());
    let (mut planner_peak, mut worker_peak) = (0, 0);
    for _ in 0..settings.runs {
        let one = send(&site, &gateway, &file, 1).await?;
        let two = send(&site, &gateway, &file, 2).await?;
        for sent in [&one, &two] {
            planner_peak = sent.planner_peak.max(planner_peak);
            worker_peak = sent.worker_peak.max(worker_peak);
        }
        runs.push(Run::new(two.n, two.took, one.took, worker_peak));
    }
    site.close().await?;
    for (name, value) in [("planner_peak_bytes", planner_peak), ("worker_peak_bytes", worker_peak)] {
        details.insert(name.into(), value.into());
    }
    details.insert("latency_ms".into(), latency.into());
    details.insert("in_flight".into(), in_flight.into());
    let ceiling = "one worker; the ratio is what the second one brings";
    Ok(Measured { name: "workers", ceiling, runs, details })
}

/// Plans a dispatch in one process and sends it with so many others.
async fn send(site: &Site, gateway: &Process, file: &Path, workers: usize) -> anyhow::Result<Sent> {
    let store = &site.app.store;
    let at = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let mut planner = Gong::start(file, &["serve", "--no-workers", "--listen", &at])?;
    let dispatch = site.dispatch().await?;
    while store.dispatch(&dispatch.id).await?.phase == "snapshot" {
        planner.peak()?;
        tokio::time::sleep(LOOK).await;
    }
    let (n, warm) = (store.dispatch(&dispatch.id).await?.deliveries, gateway.messages().await?);
    let warm = warm + n / WARM_UP;
    let mut working = Vec::new();
    for _ in 0..workers {
        working.push(Gong::start(file, &["work", "--channels", CHANNEL])?);
    }
    while gateway.messages().await? < warm {
        working.iter_mut().try_for_each(|w| w.peak().map(drop))?;
        tokio::time::sleep(LOOK).await;
    }
    let began = Instant::now();
    wait_done(store, dispatch.no).await?;
    let took = began.elapsed();
    let planner_peak = planner.peak()?;
    let mut worker_peak = 0;
    for mut worker in working {
        worker_peak = worker.peak()?.max(worker_peak);
        worker.end().await?;
    }
    planner.end().await?;
    check_sent(store, dispatch.no, n).await?;
    store.empty_ledger().await?;
    Ok(Sent { n: n - n / WARM_UP, took, planner_peak, worker_peak })
}
