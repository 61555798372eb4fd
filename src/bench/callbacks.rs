//! Sends, and beside them receipts over HTTP at a steady rate: one a callback or several,
//! over many connections, to the web side of the engine that sends.
//!
//! Who calls back is a thread of this process, while in life it is another machine: what
//! the calling itself takes from the sends is told apart by the same sends beside the same
//! calls to an address that answers each at once and keeps nothing.
//!
//! A dispatch goes out in parts: beside nothing, beside calls that are kept nowhere, beside
//! callbacks, and so on in turn. So the three are seconds from each other, and whatever the
//! database does meanwhile (its checkpoints above all) meets them alike.

use std::collections::HashSet;
use std::iter;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Map, json};
use tokio::net::TcpListener;

use super::caller::{Caller, Heard, Requests};
use super::channels::{FAST, kannel, limits, windowed};
use super::dispatch::{Warm, check_sent, persons_for, wait_done};
use super::gateway::{PASSWORD, Process};
use super::site::{Ask, BACK, Site};
use super::{Measured, Run, Settings, median, peak, receipts, rehearsal};
use crate::channel::registry::ChannelSettings;
use crate::clock::Millis;
use crate::domain::delivery::State;
use crate::loopback::json::{Item, Signer};
use crate::store::dispatches::Dispatch;

/// What there may be beside the sends: nothing, calls kept nowhere, callbacks.
const KINDS: usize = 3;
const ALONE: usize = 0;
const EMPTY: usize = 1;
const BESIDE: usize = 2;
/// Parts of a dispatch that are timed, of one more: the last goes out more slowly, for
/// there is less and less of it.
const PARTS: u64 = 6 * KINDS as u64;
/// The share of a part in which the calls before it die away and its own get under way.
const LEAD: u64 = 4;
/// How often we look how far the sends are.
const LOOK: Duration = Duration::from_millis(1);

pub(super) async fn run(settings: &Settings, n: i64) -> anyhow::Result<Measured> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let addr = listener.local_addr()?;
    let (gateway, channel) = sends_over(settings)?;
    let site = Site::open_heard(settings, channel, (&format!("http://{addr}"), settings.numbers)).await?;
    site.people(persons_for(n)).await?;
    let empty = empty_endpoint().await?;
    let (mut runs, mut heard, mut of_empty) = (Vec::new(), Vec::new(), Vec::new());
    for (turn, counts) in settings.rounds().enumerate() {
        // The messages that the receipts are about.
        let about = site.held(Ask::default()).await?;
        site.app.store.make_up_sent(about.no).await?;
        let dispatch = site.held(Ask::default()).await?;
        let warm = Warm::start(&site, Ask::default(), Some(TcpListener::from_std(listener.try_clone()?)?)).await?;
        let requests = Arc::new(requests(&site, &about, settings.numbers)?);
        let callers =
            [None, Some(Caller::open(empty, Arc::clone(&requests)).await?), Some(Caller::open(addr, requests).await?)];
        peak::reset();
        warm.let_go(&site, &dispatch).await?;
        let parts = parts(&warm, &dispatch, (&callers, turn)).await?;
        let held = peak::read();
        wait_done(&site.app.store, dispatch.no).await?;
        drop(callers);
        warm.end().await?;
        check_sent(&site.app.store, dispatch.no, dispatch.deliveries).await?;
        check(&site, (about.no, settings.numbers), &parts.heard).await?;
        if counts {
            runs.push(parts.run(held));
            of_empty.push(parts.seconds_a_message(EMPTY) / parts.seconds_a_message(BESIDE));
            heard.extend(parts.heard);
        }
        site.app.store.empty_ledger().await?;
    }
    site.close().await?;
    drop(gateway);
    let mut details = Map::new();
    details.insert("latency_ms".into(), settings.latency_ms.into());
    details.insert("receipts_a_callback".into(), settings.numbers.into());
    #[allow(clippy::cast_precision_loss)] // a count of receipts
    let receipts_per_second = median(heard.iter().map(Heard::per_second)) * settings.numbers as f64;
    details.insert("receipts_per_second".into(), receipts_per_second.round().into());
    details.insert("answered_ms_median".into(), median(heard.iter().map(|h| h.ms(50))).into());
    details.insert("answered_ms_p99".into(), median(heard.iter().map(|h| h.ms(99))).into());
    details.insert("not_taken".into(), heard.iter().map(|h| h.refused).sum::<u64>().into());
    details.insert("ratio_to_calls_kept_nowhere".into(), median(of_empty.into_iter()).into());
    let ceiling = "the sends of the same dispatch with no callback beside them";
    Ok(Measured { name: "callbacks", ceiling, runs, details })
}

/// Over what messages go out: a gateway in another process where one is asked for, that
/// takes so long, else the channel that costs nothing and leaves no processor idle.
fn sends_over(settings: &Settings) -> anyhow::Result<(Option<Process>, ChannelSettings)> {
    let Some(latency) = settings.latency_ms else { return Ok((None, rehearsal())) };
    let gateway = Process::start(latency, false)?;
    let channel = kannel(&gateway.url(), windowed(limits(FAST, settings.at_once())));
    Ok((Some(gateway), channel))
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

/// What is called about the deliveries of a dispatch, in their order, with so many receipts
/// in each callback.
fn requests(site: &Site, about: &Dispatch, receipts: usize) -> anyhow::Result<Requests> {
    let mut ids = receipts::ids(&site.app.store, about.no, about.deliveries);
    let all = if receipts == 1 {
        ids.map(|id| of_one(&id)).collect()
    } else {
        let signer = Signer::new(PASSWORD).context("no secret")?;
        let now = site.app.store.now();
        let several = iter::from_fn(|| Some(ids.by_ref().take(receipts).collect::<Vec<_>>()));
        several.take_while(|ids| ids.len() == receipts).map(|ids| of_several(ids, &signer, now)).collect()
    };
    Ok(Requests::new(all, u32::try_from(receipts)?))
}

fn of_one(id: &str) -> String {
    format!("GET /callbacks/{BACK}?{} HTTP/1.1\r\nHost: localhost\r\n\r\n", receipts::joined(&receipts::query(id)))
}

fn of_several(ids: Vec<String>, signer: &Signer, now: Millis) -> String {
    let item = |id: String| Item {
        id: id.clone(),
        client_id: id,
        to: "13900000000".to_owned(),
        status: "DELIVRD",
        time: now,
        part: None,
    };
    let body = json!(ids.into_iter().map(item).collect::<Vec<_>>()).to_string();
    let signature = signer.sign(now.to_string().as_bytes(), body.as_bytes());
    format!(
        "POST /callbacks/{BACK} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nX-Timestamp: {now}\r\nX-Signature: {signature}\r\n\r\n{body}",
        body.len()
    )
}

/// How the parts of a dispatch went, by what was beside them.
#[derive(Default)]
struct Parts {
    /// Seconds a message, part by part.
    each: [Vec<f64>; KINDS],
    /// Of the callbacks that were kept.
    heard: Vec<Heard>,
    /// Messages that went out beside them.
    beside: u64,
}

impl Parts {
    /// The median of the parts: a disk that pauses would outweigh whatever was beside them.
    fn seconds_a_message(&self, kind: usize) -> f64 {
        median(self.each[kind].iter().copied())
    }

    /// As many messages beside the callbacks, and alone.
    #[allow(clippy::cast_precision_loss)] // counts of messages
    fn run(&self, held: u64) -> Run {
        let took = |kind| Duration::from_secs_f64(self.seconds_a_message(kind) * self.beside as f64);
        Run::new(i64::try_from(self.beside).unwrap_or(i64::MAX), took(BESIDE), took(ALONE), held)
    }
}

/// Times the parts of a dispatch that is going out, each beside something else; the order
/// changes from one round of the three to the next.
async fn parts(
    warm: &Warm,
    dispatch: &Dispatch,
    (callers, turn): (&[Option<Caller>; KINDS], usize),
) -> anyhow::Result<Parts> {
    let (before, n) = (warm.sent(), u64::try_from(dispatch.deliveries)?);
    let part_of = n / (PARTS + 1);
    anyhow::ensure!(part_of > 0, "{n} messages are too few to be told apart: take a larger --n");
    let mut parts = Parts::default();
    for part in 0..PARTS {
        let kind = (usize::try_from(part + part / KINDS as u64)? + turn) % KINDS;
        let calls = callers[kind].as_ref().map(Caller::start).transpose()?;
        let begins = before + part * part_of;
        let (from, began) = when_sent(warm, begins + part_of / LEAD).await;
        anyhow::ensure!(from < before + n, "{n} messages are gone too soon to be told apart: take a larger --n");
        // Many are told of at once where whole batches end together.
        let (until, ended) = when_sent(warm, (begins + part_of).max(from + 1)).await;
        #[allow(clippy::cast_precision_loss)] // counts of messages
        parts.each[kind].push((ended - began).as_secs_f64() / (until - from) as f64);
        if kind == BESIDE {
            parts.beside += until - from;
        }
        if let Some(calls) = calls {
            let heard = calls.stop().await?;
            parts.heard.extend((kind == BESIDE).then_some(heard));
        }
    }
    Ok(parts)
}

/// Waits until so many are sent; how many it were by then, and when.
async fn when_sent(warm: &Warm, n: u64) -> (u64, Instant) {
    loop {
        let sent = warm.sent();
        if sent >= n {
            return (sent, Instant::now());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Every receipt that was answered is on disk, and what it says was applied.
async fn check(site: &Site, (dispatch_no, receipts): (i64, usize), heard: &[Heard]) -> anyhow::Result<()> {
    let counts = site.app.store.delivery_counts(dispatch_no).await?;
    let delivered = counts.iter().find(|c| c.state == State::Delivered.code()).map_or(0, |c| c.n);
    let told: HashSet<usize> = heard.iter().flat_map(Heard::told).collect();
    let told = i64::try_from(told.len() * receipts)?;
    anyhow::ensure!(delivered >= told, "{told} receipts were answered, {delivered} deliveries know of it");
    Ok(())
}
