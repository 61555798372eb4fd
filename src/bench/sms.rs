//! The engine over HTTP, to a gateway in another process: one request a message, or
//! many numbers in each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Map;
use tokio::net::TcpListener;

use super::channels::{FAST, kannel, limits, many, windowed};
use super::dispatch::{self, Warm, check_sent, persons_for};
use super::gateway::Process;
use super::site::{Ask, CHANNEL, Site};
use super::{Measured, Run, Settings, bare_client, peak};
use crate::channel::Evidence;
use crate::channel::declaration::LimitsSpec;
use crate::domain::delivery::State;
use crate::planner::REHEARSAL;
use crate::store::Store;

const LOOK: Duration = Duration::from_millis(20);
pub(super) async fn run(settings: &Settings, n: i64) -> anyhow::Result<Measured> {
    let in_flight = settings.at_once();
    let gateway = Process::start(settings.latency_ms.unwrap_or(0), settings.receipts)?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let public_url = format!("http://{}", listener.local_addr()?);
    let evidence = if settings.receipts { Evidence::Receipts } else { Evidence::AcceptOnly };
    let limits = LimitsSpec { evidence: Some(evidence), ..limits(FAST, in_flight) };
    let channel = if settings.numbers > 1 {
        many(&gateway.url(), LimitsSpec { batch: Some(settings.numbers), ..limits })
    } else {
        kannel(&gateway.url(), windowed(limits))
    };
    let site = Site::open(settings, channel, Some(public_url.clone())).await?;
    site.people(persons_for(n)).await?;
    let mut runs = Vec::new();
    let mut details = Map::new();
    for _ in 0..settings.runs {
        let listener = TcpListener::from_std(listener.try_clone()?)?;
        let (n, took, turns, held) = engine(&site, settings.receipts, listener).await?;
        site.app.store.empty_ledger().await?;
        let bare = if settings.numbers > 1 {
            let (_, took, _, _) = dispatch::engine(&site, Ask { plan: REHEARSAL, ..Ask::default() }).await?;
            site.app.store.empty_ledger().await?;
            took
        } else {
            let requests = bare_client::requests(gateway.addr, &format!("{public_url}/callbacks/{CHANNEL}"), n)?;
            bare_client::send(requests, in_flight).await?
        };
        details.insert("turns".into(), turns.into());
        runs.push(Run::new(n, took, bare, held));
    }
    site.close().await?;
    details.insert("latency_ms".into(), settings.latency_ms.unwrap_or(0).into());
    details.insert("in_flight".into(), in_flight.into());
    details.insert("numbers".into(), settings.numbers.into());
    details.insert("receipts".into(), settings.receipts.into());
    let ceiling = if settings.numbers > 1 {
        "the same dispatch on the rehearsal channel, which sends nothing"
    } else {
        "a plain HTTP client with as many requests under way, rendered beforehand, to the same gateway"
    };
    Ok(Measured { name: "sms", ceiling, runs, details })
}

async fn engine(site: &Site, receipts: bool, listener: TcpListener) -> anyhow::Result<(i64, Duration, u64, u64)> {
    let dispatch = site.held(Ask::default()).await?;
    let store = Arc::clone(&site.app.store);
    let warm = Warm::start(site, Ask::default(), Some(listener)).await?;
    let before = warm.counts.turns.get();
    peak::reset();
    let began = Instant::now();
    warm.send(site, &dispatch).await?;
    if receipts {
        wait_delivered(&store, dispatch.no, dispatch.deliveries).await?;
    }
    let took = began.elapsed();
    let (held, turns) = (peak::read(), warm.counts.turns.get() - before);
    warm.end().await?;
    check_sent(&store, dispatch.no, dispatch.deliveries).await?;
    Ok((dispatch.deliveries, took, turns, held))
}

async fn wait_delivered(store: &Store, dispatch_no: i64, n: i64) -> anyhow::Result<()> {
    loop {
        let counts = store.delivery_counts(dispatch_no).await?;
        if counts.iter().filter(|c| c.state == State::Delivered.code()).map(|c| c.n).sum::<i64>() == n {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}
