//! Sends, and beside them receipts over HTTP at a steady rate: one a callback, over many
//! connections, to the web side of the engine that sends.
//!
//! Who calls back is a thread of this process, while in life it is another machine: what
//! the calling itself takes from the sends is told apart by the same sends beside the same
//! calls to an address that answers each at once and keeps nothing.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Map;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::connection::Connection;
use super::dispatch::{check_sent, persons_for, wait_done};
use super::site::{BACK, Site};
use super::{Measured, Run, Settings, median, peak, receipts};
use crate::domain::delivery::State;

/// Callbacks a second.
const RATE: u32 = 5_000;
/// Connections that they come over.
const CONNECTIONS: usize = 256;

pub(super) async fn run(settings: &Settings, n: i64) -> anyhow::Result<Measured> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let addr = listener.local_addr()?;
    let site = Site::open_heard(settings, &format!("http://{addr}")).await?;
    site.people(persons_for(n)).await?;
    let empty = empty_endpoint().await?;
    let (mut runs, mut heard, mut of_empty) = (Vec::new(), Vec::new(), Vec::new());
    for (turn, counts) in settings.rounds().enumerate() {
        let listen = || TcpListener::from_std(listener.try_clone()?);
        // The messages that the receipts are about.
        let Sends { dispatch_no, n, .. } = sends(&site, listen()?, None).await?;
        let requests = Arc::new(requests(&site, (dispatch_no, n)));
        let calls = [None, Some(empty), Some(addr)].map(|to| to.map(|to| (to, Arc::clone(&requests))));
        let mut took = [Duration::ZERO; 3];
        peak::reset();
        // Whoever comes later finds a larger ledger: they take turns.
        for at in (0..3).map(|i| (i + turn) % 3) {
            let sends = sends(&site, listen()?, calls[at].clone()).await?;
            took[at] = sends.took;
            heard.extend(sends.heard.filter(|_| at == 2));
        }
        check(&site, dispatch_no, heard.last()).await?;
        let [alone, beside_empty, beside] = took;
        if counts {
            of_empty.push(beside_empty.as_secs_f64() / beside.as_secs_f64());
            runs.push(Run::new(n, beside, alone, peak::read()));
        } else {
            heard.clear();
        }
        site.app.store.empty_ledger().await?;
    }
    site.close().await?;
    let mut details = Map::new();
    details.insert("receipts_per_second".into(), median(heard.iter().map(|h| h.per_second)).round().into());
    details.insert("answered_ms_median".into(), median(heard.iter().map(|h| h.median_ms)).into());
    details.insert("answered_ms_p99".into(), median(heard.iter().map(|h| h.p99_ms)).into());
    details.insert("not_taken".into(), heard.iter().map(|h| h.refused).sum::<u64>().into());
    details.insert("ratio_to_calls_kept_nowhere".into(), median(of_empty.into_iter()).into());
    let ceiling = "the same sends with no callback beside them";
    Ok(Measured { name: "callbacks", ceiling, runs, details })
}

/// Answers every call at once, on the threads that gong's own web side runs on; until the
/// process ends.
async fn empty_endpoint() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let routes = axum::Router::new().fallback(async || "");
    tokio::spawn(axum::serve(listener, routes).into_future());
    Ok(addr)
}

/// A dispatch that was sent, and what was heard beside it.
struct Sends {
    dispatch_no: i64,
    n: i64,
    took: Duration,
    heard: Option<Heard>,
}

/// Plans a dispatch and runs an engine with its web side over it, called back `by` these or by nobody.
async fn sends(site: &Site, listener: TcpListener, by: Option<Calls>) -> anyhow::Result<Sends> {
    let dispatch = site.planned().await?;
    let (stop, stopped) = oneshot::channel::<()>();
    let began = Instant::now();
    let engine = site.app.start_engine().await?;
    let serving = tokio::spawn(engine.serve(listener, async {
        let _ = stopped.await;
    }));
    let caller = by.map(Caller::start);
    wait_done(&site.app.store, dispatch.no).await?;
    let took = began.elapsed();
    // The engine still listens: whatever is under way is answered.
    let heard = match caller {
        Some(caller) => Some(caller.stop().await?),
        None => None,
    };
    drop(stop);
    serving.await??;
    check_sent(&site.app.store, dispatch.no, dispatch.deliveries).await?;
    Ok(Sends { dispatch_no: dispatch.no, n: dispatch.deliveries, took, heard })
}

/// Where to call, and the requests.
type Calls = (SocketAddr, Arc<Vec<String>>);

fn requests(site: &Site, (dispatch_no, n): (i64, i64)) -> Vec<String> {
    let queries = receipts::queries(&site.app.store, dispatch_no, n);
    let request =
        |query| format!("GET /callbacks/{BACK}?{} HTTP/1.1\r\nHost: localhost\r\n\r\n", receipts::joined(query));
    queries.iter().map(request).collect()
}

/// Every receipt that was answered is on disk, and what it says was applied.
async fn check(site: &Site, dispatch_no: i64, heard: Option<&Heard>) -> anyhow::Result<()> {
    let counts = site.app.store.delivery_counts(dispatch_no).await?;
    let delivered = counts.iter().find(|c| c.state == State::Delivered.code()).map_or(0, |c| c.n);
    let answered = heard.map_or(0, |h| h.told);
    anyhow::ensure!(delivered >= answered, "{answered} receipts were answered, {delivered} deliveries know of it");
    Ok(())
}

/// What came of the callbacks.
struct Heard {
    /// Deliveries of which a receipt was answered.
    told: i64,
    refused: u64,
    /// Of those that fell due before it was told to stop.
    per_second: f64,
    /// From when each was due, not from when it was our turn to send it.
    median_ms: f64,
    p99_ms: f64,
}

/// A gateway that calls back from a thread of its own, at its own pace, until it is told
/// to stop.
struct Caller {
    stop: CancellationToken,
    thread: JoinHandle<anyhow::Result<Heard>>,
}

impl Caller {
    fn start(calls: Calls) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(call(calls, stopped))
        });
        Self { stop, thread }
    }

    async fn stop(self) -> anyhow::Result<Heard> {
        self.stop.cancel();
        let ended = tokio::task::spawn_blocking(|| self.thread.join()).await?;
        ended.map_err(|_| anyhow::anyhow!("the caller broke"))?
    }
}

/// Of which delivery each receipt was that was taken, and how long that took; how many were
/// not taken.
type Called = (Vec<(usize, Duration)>, u64);

async fn call((to, requests): Calls, stop: CancellationToken) -> anyhow::Result<Heard> {
    let (next, began) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let mut callers: JoinSet<anyhow::Result<Called>> = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (requests, next, stop) = (Arc::clone(&requests), Arc::clone(&next), stop.clone());
        callers.spawn(async move {
            let (mut connection, mut took, mut refused) = (Connection::connect(to).await?, Vec::new(), 0);
            while !stop.is_cancelled() {
                let no = next.fetch_add(1, Ordering::Relaxed);
                let due = began + Duration::from_secs(1) * u32::try_from(no)? / RATE;
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = tokio::time::sleep_until(due.into()) => {}
                }
                let of = usize::try_from(no)? % requests.len();
                if let 200..300 = connection.call(requests[of].as_bytes()).await? {
                    took.push((of, due.elapsed()));
                } else {
                    refused += 1;
                }
            }
            Ok((took, refused))
        });
    }
    stop.cancelled().await;
    let lasted = began.elapsed();
    let (mut took, mut told, mut refused) = (Vec::new(), HashSet::new(), 0);
    while let Some(done) = callers.join_next().await {
        let (some, not) = done??;
        told.extend(some.iter().map(|(of, _)| *of));
        took.extend(some.into_iter().map(|(_, took)| took));
        refused += not;
    }
    took.sort_unstable();
    let at = |share: usize| took.get(took.len() * share / 100).map_or(0.0, |t| t.as_secs_f64() * 1e3);
    #[allow(clippy::cast_precision_loss)] // counts of receipts
    let per_second = took.len() as f64 / lasted.as_secs_f64();
    Ok(Heard { told: i64::try_from(told.len())?, refused, per_second, median_ms: at(50), p99_ms: at(99) })
}
