//! The engine on a channel that takes everything at once: what is left is claiming,
//! marking, rendering and recording, every result on disk.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Map;
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use super::site::{Ask, CHANNEL, Site};
use super::{Measured, Run, Settings, peak, rehearsal};
use crate::channel::CLASS_ACCEPTED;
use crate::domain::delivery::State;
use crate::domain::item::Lane;
use crate::store::Store;
use crate::store::batches::Lease;
use crate::store::dispatches::Dispatch;
use crate::store::turn::{BatchTurn, Record, TAKEN};
use crate::telemetry::Counts;

/// How often we look whether it is done.
const LOOK: Duration = Duration::from_millis(20);

pub(super) async fn run(settings: &Settings, n: i64) -> anyhow::Result<Measured> {
    let site = Site::open(settings, rehearsal(), None).await?;
    site.people(persons_for(n)).await?;
    let (mut runs, mut details) = (Vec::new(), Map::new());
    for _ in 0..settings.runs {
        let (n, took, turns, held) = engine(&site, Ask::default()).await?;
        site.app.store.empty_ledger().await?;
        let group = n / turns.max(1);
        let bare = bare(&site, usize::try_from(group).unwrap_or(1)).await?;
        site.app.store.empty_ledger().await?;
        details.insert("turns".into(), turns.into());
        details.insert("group".into(), group.into());
        runs.push(Run::new(n, took, bare, held));
    }
    site.close().await?;
    let ceiling =
        "the same mark, write-back and append statements in groups of the same size, arguments made beforehand";
    Ok(Measured { name: "dispatch", ceiling, runs, details })
}

/// Persons of whom about `n` deliveries come: some share a phone, some have none.
pub(super) fn persons_for(n: i64) -> i64 {
    n * 100 / 86 + 1
}

/// An engine at work, warmed up on a village.
pub(super) struct Warm {
    pub wake: Arc<Notify>,
    pub counts: Arc<Counts>,
    stop: oneshot::Sender<()>,
    running: JoinHandle<anyhow::Result<()>>,
}

impl Warm {
    /// Starts an engine, which answers on `listener` where there is one, and waits
    /// until it has sent to a village.
    pub async fn start(site: &Site, ask: Ask, listener: Option<TcpListener>) -> anyhow::Result<Self> {
        let village = site.planned_of(ask.village()).await?;
        let engine = site.app.start_engine().await?;
        let (wake, counts) = (Arc::clone(&engine.wake), engine.counts());
        let (stop, stopped) = oneshot::channel::<()>();
        let until = async {
            let _ = stopped.await;
        };
        let running = tokio::spawn(engine.run(listener, until));
        wait_done(&site.app.store, village.no).await?;
        Ok(Self { wake, counts, stop, running })
    }

    /// Lets it send a dispatch that was held back; until all of it is recorded.
    pub async fn send(&self, site: &Site, dispatch: &Dispatch) -> anyhow::Result<()> {
        self.let_go(site, dispatch).await?;
        wait_done(&site.app.store, dispatch.no).await
    }

    /// The same, without waiting for it.
    pub async fn let_go(&self, site: &Site, dispatch: &Dispatch) -> anyhow::Result<()> {
        site.app.store.hold_batches(dispatch.no, false).await?;
        self.wake.notify_waiters();
        Ok(())
    }

    /// Messages that were taken since it began.
    pub fn sent(&self) -> u64 {
        self.counts.answered(CHANNEL).accepted
    }

    /// Drains it.
    pub async fn end(self) -> anyhow::Result<()> {
        drop(self.stop);
        self.running.await?
    }
}

/// Plans a dispatch, has a warm engine send it; deliveries, time, turns, memory.
pub(super) async fn engine(site: &Site, ask: Ask) -> anyhow::Result<(i64, Duration, i64, u64)> {
    let dispatch = site.held(ask.clone()).await?;
    let warm = Warm::start(site, ask, None).await?;
    let before = warm.counts.turns.get();
    peak::reset();
    let began = Instant::now();
    warm.send(site, &dispatch).await?;
    let took = began.elapsed();
    let held = peak::read();
    let turns = i64::try_from(warm.counts.turns.get() - before).unwrap_or(i64::MAX);
    warm.end().await?;
    check_sent(&site.app.store, dispatch.no, dispatch.deliveries).await?;
    Ok((dispatch.deliveries, took, turns, held))
}

/// Waits until every batch is done.
pub(super) async fn wait_done(store: &Store, dispatch_no: i64) -> anyhow::Result<()> {
    while store.open_batches(dispatch_no).await? > 0 {
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// A bench that loses a message measures nothing.
pub(super) async fn check_sent(store: &Store, dispatch_no: i64, n: i64) -> anyhow::Result<()> {
    let counts = store.delivery_counts(dispatch_no).await?;
    let sent: i64 = counts.iter().filter(|c| c.state >= State::Sent.code()).map(|c| c.n).sum();
    anyhow::ensure!(sent == n, "{sent} of {n} deliveries were handed over: {counts:?}");
    Ok(())
}

async fn bare(site: &Site, group: usize) -> anyhow::Result<Duration> {
    let store = &site.app.store;
    let dispatch = site.planned().await?;
    let channel = store.channel_no(CHANNEL).await?;
    let mut rows: Vec<(Lease, i64)> = Vec::new();
    let lanes = Lane::Call.number()..=Lane::Routine.number();
    for lease in store.lease_batches(channel, "bare", lanes, i64::MAX).await? {
        rows.extend(store.load_batch(lease).await?.into_iter().map(|row| (lease, row.ordinal)));
    }
    let turns = turns(&rows, group.max(1), store.now());
    store.settle().await?;
    let began = Instant::now();
    for turn in &turns {
        store.turn(channel, turn).await?;
    }
    let took = began.elapsed();
    check_sent(store, dispatch.no, dispatch.deliveries).await?;
    Ok(took)
}

/// Each turn marks a group and records the one before.
fn turns(rows: &[(Lease, i64)], group: usize, at: i64) -> Vec<Vec<BatchTurn>> {
    let mut left: HashMap<i64, usize> = HashMap::new();
    for (lease, _) in rows {
        *left.entry(lease.no).or_default() += 1;
    }
    let groups: Vec<&[(Lease, i64)]> = rows.chunks(group).collect();
    let mut turns = Vec::with_capacity(groups.len() + 1);
    for at_group in 0..=groups.len() {
        let mut turn: Vec<BatchTurn> = Vec::new();
        let recorded = at_group.checked_sub(1).map_or(&[][..], |i| groups[i]);
        for (lease, ordinal) in recorded {
            let batch = of_batch(&mut turn, *lease);
            batch.records.push(record(*ordinal, at));
            if let Some(left) = left.get_mut(&lease.no) {
                *left -= 1;
                batch.close = *left == 0;
                batch.whole = batch.close;
            }
        }
        for (lease, ordinal) in groups.get(at_group).copied().unwrap_or_default() {
            of_batch(&mut turn, *lease).mark.push(*ordinal);
        }
        turns.push(turn);
    }
    turns
}

fn of_batch(turn: &mut Vec<BatchTurn>, lease: Lease) -> &mut BatchTurn {
    let at = turn.iter().position(|t| t.lease.no == lease.no).unwrap_or_else(|| {
        turn.push(BatchTurn {
            lease,
            records: Vec::new(),
            unsent: 0,
            mark: Vec::new(),
            open_to: 0,
            close: false,
            whole: false,
        });
        turn.len() - 1
    });
    &mut turn[at]
}

fn record(ordinal: i64, at: i64) -> Record {
    Record {
        ordinal,
        attempt: 1,
        class: CLASS_ACCEPTED,
        code: "rehearsal".to_owned(),
        at,
        parts: 1,
        change: TAKEN,
        handles: Vec::new(),
        gone: None,
    }
}
