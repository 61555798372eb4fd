//! What time brings: retries that are due, leases that ran out, steps that begin,
//! receipts that never came, dispatches that end.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::clock_guard::{ClockGuard, Seen};
use super::job::{receipt_wait, settling};
use super::retry::RetrySettings;
use super::worker::Way;
use crate::channel::Evidence;
use crate::clock::Millis;
use crate::cluster::leading::Leading;
use crate::store::batches::{Lease, Settling};
use crate::store::dispatches::Dispatch;
use crate::store::shares::GRANT;
use crate::store::{Result, Store};
use crate::telemetry::Counts;

/// How often due rows are looked for.
const TICK: Duration = Duration::from_millis(200);
/// Looking whether a dispatch has ended may scan it: it costs no more than this
/// share of the time.
const SCAN_SHARE: u32 = 20;

/// An engine that was silent for so long, in milliseconds, sends no more: the last
/// grant that it can have read has run out.
const SILENT: Millis = GRANT + 1_000;

/// How often old unmatched receipts are looked for, and how long they are kept, in
/// milliseconds: gateways repeat for three days at the most.
const FORGET_EVERY: Duration = Duration::from_hours(1);
const KEEP_UNMATCHED: Millis = 7 * 86_400_000;

/// How often receipts that a crash left unmatched are looked for.
const MATCH_EVERY: Duration = Duration::from_secs(1);

/// What the scheduler works with.
#[derive(Clone)]
pub struct Scheduler {
    pub store: Arc<Store>,
    pub retry: RetrySettings,
    pub ways: Arc<Vec<Way>>,
    pub wake: Arc<Notify>,
    pub stop: CancellationToken,
    pub counts: Arc<Counts>,
    /// One scheduler acts at a time.
    pub leading: Leading,
}

impl Scheduler {
    /// Runs until told to stop.
    pub async fn run(self) {
        let newest = self.store.soon(self.store.health()).await.ok().and_then(|h| h.newest_at).unwrap_or(0);
        let mut guard = ClockGuard::new(self.store.clock.clone(), newest);
        let mut scans: HashMap<i64, Instant> = HashMap::new();
        let mut forget_at = Instant::now();
        let (mut match_at, mut looked) = (Instant::now(), HashMap::new());
        while !self.stop.is_cancelled() {
            let seen = guard.now();
            if self.leading.holds()
                && let Err(error) = self.tick(&mut scans, seen).await
            {
                tracing::warn!(%error, "the scheduler could not do its round; trying again");
            }
            if forget_at <= Instant::now() && self.leading.holds() {
                self.forget().await;
                forget_at = Instant::now() + FORGET_EVERY;
            }
            if match_at <= Instant::now() && self.leading.holds() {
                let began = Instant::now();
                self.match_left(&mut looked).await;
                match_at = Instant::now() + (began.elapsed() * SCAN_SHARE).max(MATCH_EVERY);
            }
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = tokio::time::sleep(TICK) => {}
            }
        }
    }

    async fn tick(&self, scans: &mut HashMap<i64, Instant>, seen: Seen) -> Result<()> {
        if seen.steady {
            self.take_over(false).await?;
            if self.leading.is_contested() {
                self.take_over_from_the_silent().await?;
            }
        }
        while self.store.soon(self.store.take_due_at(seen.at, seen.steady)).await? > 0 {
            self.wake.notify_waiters();
        }
        let open = self.store.soon(self.store.dispatches(true)).await?;
        self.counts.open_dispatches.set(i64::try_from(open.len()).unwrap_or(i64::MAX));
        scans.retain(|no, _| open.iter().any(|d| d.no == *no));
        for dispatch in open {
            if scans.get(&dispatch.no).is_some_and(|at| *at > Instant::now()) {
                continue;
            }
            let began = Instant::now();
            // One that cannot be ended must not keep the others from it.
            if let Err(error) = self.end(&dispatch, seen).await {
                tracing::warn!(dispatch = dispatch.no, %error, "cannot be ended now; trying again");
            }
            scans.insert(dispatch.no, Instant::now() + (began.elapsed() * SCAN_SHARE).max(TICK));
        }
        Ok(())
    }

    async fn forget(&self) {
        match self.store.at_last(self.store.forget_unmatched(self.store.now() - KEEP_UNMATCHED)).await {
            Ok(0) => {}
            Ok(receipts) => tracing::warn!(receipts, "forgot receipts that no message of ours was ever found for"),
            Err(error) => tracing::warn!(%error, "cannot forget old receipts"),
        }
    }

    /// Looks at some of what is unmatched; `looked` says how far, by the channel's number.
    async fn match_left(&self, looked: &mut HashMap<i32, String>) {
        for way in self.ways.iter() {
            let after = looked.entry(way.no).or_default();
            match self.store.soon(self.store.match_left(way.no, after)).await {
                Ok(next) => *after = next,
                Err(error) => tracing::warn!(channel = way.name, %error, "cannot look for unmatched receipts"),
            }
        }
    }

    /// Takes over batches whose worker is gone; `all` when the engine that held
    /// them must be dead because we hold its lock.
    pub async fn take_over(&self, all: bool) -> Result<()> {
        loop {
            let before = if all { Millis::MAX } else { self.store.soon(self.store.db_now()).await? };
            let orphans = self.store.soon(self.store.orphaned_batches(before)).await?;
            if orphans.is_empty() {
                return Ok(());
            }
            for (lease, channel) in orphans {
                self.store.soon(self.take_batch(lease, channel, before)).await?;
            }
            self.wake.notify_waiters();
        }
    }

    /// Takes over batches of engines that fell silent, before their leases run out: by
    /// their own clocks their grants have ended, so nothing of them goes out any more,
    /// and before they send again they ask for their leases.
    async fn take_over_from_the_silent(&self) -> Result<()> {
        let silent_since = self.store.soon(self.store.db_now()).await? - SILENT;
        for (lease, channel, until) in self.store.soon(self.store.orphans_of_the_silent(silent_since)).await? {
            self.store.soon(self.take_batch(lease, channel, until)).await?;
            self.wake.notify_waiters();
        }
        Ok(())
    }

    async fn take_batch(&self, lease: Lease, channel: i32, leased_before: Millis) -> Result<()> {
        let way = self.ways.iter().find(|w| w.no == channel);
        let settling = Settling { leased_before, ..settling(&self.store, &self.retry, (lease, way)).await? };
        let window = self.store.take_over(lease, settling).await?;
        tracing::warn!(
            batch = lease.no,
            dispatch = lease.dispatch_no,
            window,
            "took over a batch; its window is uncertain"
        );
        Ok(())
    }

    /// Ends what was called off or has expired, gives up receipts that are overdue,
    /// and closes the dispatch when nothing is left.
    async fn end(&self, dispatch: &Dispatch, Seen { at, steady }: Seen) -> Result<()> {
        let cancelled = dispatch.state == "cancelled";
        if cancelled || steady && dispatch.expires_at <= at {
            self.store.sweep_dispatch(dispatch.no, cancelled).await?;
        }
        let waits: Vec<&Way> = self.ways.iter().filter(|w| w.channel.limits().evidence == Evidence::Receipts).collect();
        for way in waits.iter().filter(|_| steady) {
            let before = at - receipt_wait(&*way.channel);
            self.store.give_up_waiting(dispatch.no, way.no, before).await?;
        }
        let dispatch = self.store.soon(self.store.dispatch(&dispatch.no.to_string())).await?;
        if dispatch.phase == "done" {
            let waits: Vec<i32> = if dispatch.mode == crate::store::dispatches::Mode::Dry {
                Vec::new()
            } else {
                waits.iter().map(|w| w.no).collect()
            };
            if self.store.at_last(self.store.finish_dispatch(dispatch.no, &waits)).await? {
                tracing::info!(dispatch = dispatch.no, "finished");
            }
        }
        Ok(())
    }
}
