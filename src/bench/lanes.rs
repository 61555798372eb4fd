//! An immediate dispatch that starts while a routine one runs, on a channel with a rate:
//! when its first message is at the gateway, and when its last, beside the same
//! dispatch alone.

use std::time::Duration;

use serde_json::{Map, json};

use super::channels::{FAST, kannel, limits};
use super::dispatch::{Warm, check_sent, persons_for};
use super::gateway::Process;
use super::site::{Ask, CHANNEL, Site, WHO};
use super::{Measured, Run, Settings, peak};
use crate::clock::{Clock, Millis};
use crate::domain::item::Lane;
use crate::store::dispatches::Dispatch;

const LOOK: Duration = Duration::from_millis(20);
/// Parts of the bench's text.
const PARTS: f64 = 2.0;
/// One of the twenty towns: a twentieth of everybody.
const TOWN: &str = "region:990101100000";

/// How an immediate dispatch fared, in milliseconds from its order on.
struct Urgent {
    n: i64,
    first: Millis,
    last: Millis,
    /// Of all that left between its first and its last, the share that was not its own.
    others: f64,
}

impl Urgent {
    /// How much later its last message was than with the whole channel to itself, which
    /// carries `rate` parts a second.
    #[allow(clippy::cast_precision_loss)]
    fn times_allowed(&self, rate: f64) -> f64 {
        self.last as f64 / 1000.0 / (self.n as f64 * PARTS / rate)
    }
}

pub(super) async fn run(settings: &Settings, n: i64) -> anyhow::Result<Measured> {
    let gateway = Process::start(settings.latency_ms.unwrap_or(0), false)?;
    let in_flight = settings.at_once();
    let site = Site::open(settings, kannel(&gateway.url(), limits(settings.rate, in_flight)), None).await?;
    site.people(persons_for(n)).await?;
    let (mut runs, mut details) = (Vec::new(), Map::new());
    let (mut first, mut floor, mut allowed) = (0, f64::MAX, 0.0_f64);
    for _ in 0..settings.runs {
        let warm = Warm::start(&site, Ask::default(), None).await?;
        peak::reset();
        let alone = urgent(&site, &gateway, &warm).await?;
        let routine = routine(&site, &gateway, settings.rate).await?;
        let beside = urgent(&site, &gateway, &warm).await?;
        // What is left of the routine one need not take its time.
        site.app.store.set_rate(CHANNEL, Some(FAST), WHO).await?;
        let routine = finished(&site, &routine).await?;
        let held = peak::read();
        site.app.store.set_rate(CHANNEL, None, WHO).await?;
        warm.end().await?;
        check_sent(&site.app.store, routine.no, routine.deliveries).await?;
        site.app.store.empty_ledger().await?;
        (first, floor) = (first.max(beside.first), floor.min(beside.others));
        allowed = allowed.max(beside.times_allowed(settings.rate));
        let took = |ms: Millis| Duration::from_millis(ms.unsigned_abs());
        details.insert("alone_first_ms".into(), alone.first.into());
        runs.push(Run::new(beside.n, took(beside.last), took(alone.last), held));
    }
    site.close().await?;
    details.insert("first_ms".into(), first.into());
    details.insert("times_what_the_rate_allows".into(), json!(allowed));
    details.insert("routine_share".into(), json!(floor));
    details.insert("rate".into(), json!(settings.rate));
    details.insert("routine".into(), n.into());
    let ceiling = "the same immediate dispatch with nothing else under way";
    Ok(Measured { name: "lanes", ceiling, runs, details })
}

/// Starts a routine dispatch to everybody and waits until a second's messages of it
/// are gone; most of it may still be unplanned.
async fn routine(site: &Site, gateway: &Process, rate: f64) -> anyhow::Result<Dispatch> {
    #[allow(clippy::cast_possible_truncation)] // a second's messages
    let enough = gateway.messages().await? + (rate / PARTS) as i64;
    let dispatch = site.dispatch().await?;
    while gateway.messages().await? < enough {
        anyhow::ensure!(!done(site, dispatch.no).await?, "the routine dispatch is too small to measure beside");
        tokio::time::sleep(LOOK).await;
    }
    Ok(dispatch)
}

/// Sends to a town at once, and reads from the gateway how that went.
async fn urgent(site: &Site, gateway: &Process, warm: &Warm) -> anyhow::Result<Urgent> {
    let (since, asked) = (gateway.messages().await?, Clock::System.now());
    let ask = Ask { audience: TOWN.to_owned(), lane: Lane::Immediate, ..Ask::default() };
    let dispatch = site.dispatch_of(ask).await?;
    warm.wake.notify_waiters();
    let dispatch = finished(site, &dispatch).await?;
    let took = gateway.took(since).await?;
    let vault = &site.app.store.vault;
    let own = |id| vault.read_client_id(id).is_some_and(|of| i64::from(of.dispatch_no) == dispatch.no);
    let times: Vec<Millis> = took.iter().filter(|(id, _)| own(*id)).map(|(_, at)| *at).collect();
    let (Some(first), Some(last)) = (times.first(), times.last()) else {
        anyhow::bail!("the gateway has none of the immediate dispatch");
    };
    let all = took.iter().filter(|(_, at)| first <= at && at <= last).count();
    #[allow(clippy::cast_precision_loss)] // counts of messages
    let others = (all - times.len().min(all)) as f64 / all.max(1) as f64;
    Ok(Urgent { n: i64::try_from(times.len())?, first: first - asked, last: last - asked, others })
}

async fn finished(site: &Site, dispatch: &Dispatch) -> anyhow::Result<Dispatch> {
    while !done(site, dispatch.no).await? {
        tokio::time::sleep(LOOK).await;
    }
    Ok(site.app.store.dispatch(&dispatch.id).await?)
}

/// All of it is planned and recorded.
async fn done(site: &Site, no: i64) -> anyhow::Result<bool> {
    let open = site.app.store.dispatches(true).await?;
    if open.iter().any(|d| d.no == no && d.phase == "snapshot") {
        return Ok(false);
    }
    Ok(site.app.store.open_batches(no).await? == 0)
}
