//! What time brings: retries that are due, leases that ran out, steps that begin,
//! receipts that never came, dispatches that end.
//!
//! What may be much goes by small pieces, so that neither who is to be taken over, nor
//! an urgent retry, nor the word to stop waits for it; how dispatches end has a task of
//! its own (`ending`).

mod ending;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::ending::Ending;
use super::clock_guard::{ClockGuard, Seen};
use super::job::settling;
use super::retry::RetrySettings;
use super::worker::Way;
use crate::clock::Millis;
use crate::cluster::leading::Leading;
use crate::store::batches::{Lease, Settling};
use crate::store::shares::GRANT;
use crate::store::{Result, Store};
use crate::telemetry::Counts;

/// How often due rows are looked for, and how long the scheduler stays with one kind of
/// work while there is more of another.
const TICK: Duration = Duration::from_millis(200);

/// An engine that was silent for so long, in milliseconds, sends no more: the last
/// grant that it can have read has run out.
const SILENT: Millis = GRANT + 1_000;

/// How often old unmatched receipts are looked for, and how long they are kept, in
/// milliseconds: gateways repeat for three days at the most.
const FORGET_EVERY: Duration = Duration::from_hours(1);
const KEEP_UNMATCHED: Millis = 7 * 86_400_000;

/// How often receipts that a crash left unmatched are looked for.
const MATCH_EVERY: Duration = Duration::from_secs(1);
/// It costs no more than this share of the time.
const MATCH_SHARE: u32 = 20;

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
        let newest = self.store.soon(self.store.newest_time()).await.ok().flatten().unwrap_or(0);
        let mut guard = ClockGuard::new(self.store.clock.clone(), newest);
        let (seen, shown) = watch::channel(guard.now());
        let ending = Ending { scheduler: self.clone(), seen: shown };
        // Boxed: what starts this passes it on from stack to stack.
        tokio::join!(
            Box::pin(self.rounds(guard, &seen)),
            Box::pin(self.unless_stopped(ending.run())),
            Box::pin(self.unless_stopped(self.forget())),
            Box::pin(self.unless_stopped(self.match_unmatched())),
        );
    }

    /// Of what runs beside the rounds nothing is lost when it is left anywhere.
    async fn unless_stopped(&self, part: impl Future<Output = ()>) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = part => {}
        }
    }

    async fn rounds(&self, mut guard: ClockGuard, seen: &watch::Sender<Seen>) {
        while !self.stop.is_cancelled() {
            let now = guard.now();
            seen.send_replace(now);
            if self.leading.holds() {
                match self.round(now).await {
                    Ok(true) => continue,
                    Ok(false) => {}
                    Err(error) => tracing::warn!(%error, "the scheduler could not do its round; trying again"),
                }
            }
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = tokio::time::sleep(TICK) => {}
            }
        }
    }

    /// Does a little of each; true when there is more.
    async fn round(&self, Seen { at, steady }: Seen) -> Result<bool> {
        let mut more = false;
        if steady && let Some(now) = self.lease_time(at).await? {
            more |= self.take_over(now).await?;
            if self.leading.is_contested() {
                more |= self.take_over_from_the_silent(now).await?;
            }
        }
        let until = Instant::now() + TICK;
        while self.store.soon(self.store.take_due_at(at, steady)).await? > 0 {
            self.wake.notify_waiters();
            if Instant::now() >= until {
                return Ok(true);
            }
        }
        Ok(more)
    }

    async fn forget(&self) {
        loop {
            if !self.leading.holds() {
                tokio::time::sleep(TICK).await;
                continue;
            }
            match self.store.at_last(self.store.forget_unmatched(self.store.now() - KEEP_UNMATCHED)).await {
                Ok(0) => {}
                Ok(receipts) => tracing::warn!(receipts, "forgot receipts that no message of ours was ever found for"),
                Err(error) => tracing::warn!(%error, "cannot forget old receipts"),
            }
            tokio::time::sleep(FORGET_EVERY).await;
        }
    }

    async fn match_unmatched(&self) {
        let mut looked = HashMap::new();
        loop {
            let began = Instant::now();
            if self.leading.holds() {
                self.match_left(&mut looked).await;
            }
            tokio::time::sleep((began.elapsed() * MATCH_SHARE).max(MATCH_EVERY)).await;
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

    /// Takes over every batch there is: the engine that held them must be dead, because
    /// we hold its lock.
    pub async fn take_over_all(&self) -> Result<()> {
        while self.take_over(Millis::MAX).await? {}
        Ok(())
    }

    /// The database's time, by which leases run out; `None` where it has jumped since the
    /// clock was looked at, which goes by what was last heard of it.
    async fn lease_time(&self, seen: Millis) -> Result<Option<Millis>> {
        let now = self.store.soon(self.store.db_now()).await?;
        Ok(ClockGuard::agrees(&self.store.clock, seen, now).then_some(now))
    }

    /// Takes over batches whose leases ran out before; true when there may be more.
    async fn take_over(&self, before: Millis) -> Result<bool> {
        let orphans = self.store.soon(self.store.orphaned_batches(before)).await?;
        self.take_batches(orphans.into_iter().map(|(lease, channel)| (lease, channel, before))).await
    }

    /// Takes over batches of engines that fell silent, before their leases run out: by
    /// their own clocks their grants have ended, so nothing of them goes out any more,
    /// and before they send again they ask for their leases.
    async fn take_over_from_the_silent(&self, now: Millis) -> Result<bool> {
        let silent_since = now - SILENT;
        self.take_batches(self.store.soon(self.store.orphans_of_the_silent(silent_since)).await?.into_iter()).await
    }

    /// Takes over some of these; true when it took any.
    async fn take_batches(&self, orphans: impl Iterator<Item = (Lease, i32, Millis)>) -> Result<bool> {
        let (until, mut took) = (Instant::now() + TICK, false);
        for (lease, channel, leased_before) in orphans {
            self.store.soon(self.take_batch(lease, channel, leased_before)).await?;
            self.wake.notify_waiters();
            took = true;
            if Instant::now() >= until {
                break;
            }
        }
        Ok(took)
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
}
