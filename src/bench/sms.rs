//! The engine over HTTP: one request a message, to a gateway in another process.

use std::time::{Duration, Instant};

use serde_json::Map;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::dispatch::{check_sent, persons_for, wait_done};
use super::gateway::{Process, USERNAME};
use super::site::{CHANNEL, Site};
use super::{Measured, Run, Settings, bare_client, peak};
use crate::channel::Evidence;
use crate::channel::declaration::LimitsSpec;
use crate::channel::registry::ChannelSettings;
use crate::domain::delivery::State;
use crate::store::Store;

const LOOK: Duration = Duration::from_millis(20);

pub(super) async fn run(settings: &Settings, n: i64) -> anyhow::Result<Measured> {
    let gateway = Process::start(settings.latency_ms, settings.receipts)?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let public_url = format!("http://{}", listener.local_addr()?);
    let site = Site::open(settings, channel(&gateway, settings), Some(public_url.clone())).await?;
    site.people(persons_for(n)).await?;
    let mut runs = Vec::new();
    let mut details = Map::new();
    for _ in 0..settings.runs {
        let listener = TcpListener::from_std(listener.try_clone()?)?;
        let (n, took, turns, held) = engine(&site, settings, listener).await?;
        site.app.store.empty_ledger().await?;
        let requests = bare_client::requests(gateway.addr, &format!("{public_url}/callbacks/{CHANNEL}"), n)?;
        let bare = bare_client::send(requests, settings.in_flight).await?;
        details.insert("turns".into(), turns.into());
        runs.push(Run::new(n, took, bare, held));
    }
    site.close().await?;
    details.insert("latency_ms".into(), settings.latency_ms.into());
    details.insert("in_flight".into(), settings.in_flight.into());
    details.insert("receipts".into(), settings.receipts.into());
    let ceiling = "a plain HTTP client with as many requests under way, rendered beforehand, to the same gateway";
    Ok(Measured { name: "sms", ceiling, runs, details })
}

fn channel(gateway: &Process, settings: &Settings) -> ChannelSettings {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    ChannelSettings {
        gateway: "kannel".to_owned(),
        gateways: Vec::new(),
        vars: [pair("url", &format!("http://{}", gateway.addr)), pair("username", USERNAME)].into(),
        secrets: [pair("password", "file:secret"), pair("token", "file:secret")].into(),
        limits: LimitsSpec {
            rate: Some(1e6),
            in_flight: Some(settings.in_flight),
            evidence: Some(if settings.receipts { Evidence::Receipts } else { Evidence::AcceptOnly }),
            ..LimitsSpec::default()
        },
        signature: None,
    }
}

async fn engine(site: &Site, settings: &Settings, listener: TcpListener) -> anyhow::Result<(i64, Duration, u64, u64)> {
    let dispatch = site.planned().await?;
    let store = std::sync::Arc::clone(&site.app.store);
    let (stop, stopped) = oneshot::channel::<()>();
    peak::reset();
    let began = Instant::now();
    let engine = site.app.start_engine().await?;
    let counts = engine.counts();
    let serving = tokio::spawn(engine.serve(listener, async {
        let _ = stopped.await;
    }));
    wait_done(&store, dispatch.no).await?;
    if settings.receipts {
        wait_delivered(&store, dispatch.no, dispatch.deliveries).await?;
    }
    let took = began.elapsed();
    let held = peak::read();
    drop(stop);
    serving.await??;
    check_sent(&store, dispatch.no, dispatch.deliveries).await?;
    Ok((dispatch.deliveries, took, counts.turns.get(), held))
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
