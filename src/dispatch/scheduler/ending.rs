//! How dispatches end: what was called off or has expired is swept, receipts that are
//! overdue are given up, and a dispatch of which nothing is left is closed.
//!
//! Of a large dispatch that is millions of rows, read or written; so it goes on beside
//! the scheduler's rounds, a few dispatches at a time, in statements that are short.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{Scheduler, TICK};
use crate::channel::Evidence;
use crate::clock::Millis;
use crate::dispatch::clock_guard::Seen;
use crate::dispatch::job::receipt_wait;
use crate::dispatch::worker::Way;
use crate::store::Result;
use crate::store::dispatches::{Dispatch, Mode};

/// Dispatches looked at together, so that small ones need not wait for a large one.
const TOGETHER: usize = 4;
/// Reading dispatches from end to end, all together, costs no more than this share of
/// the time.
const SCAN_SHARE: u32 = 20;

/// What ends dispatches.
#[derive(Clone)]
pub(super) struct Ending {
    pub scheduler: Scheduler,
    /// What the rounds saw of the clock last.
    pub seen: watch::Receiver<Seen>,
}

/// What is remembered of a dispatch from one look to the next.
#[derive(Debug, Clone, Copy)]
struct Look {
    /// A delivery of it that was not final.
    open: i64,
    /// It had been called off, or had expired.
    over: bool,
    /// It is not read from end to end before.
    scan_at: Instant,
}

impl Ending {
    /// Runs until it is dropped.
    pub async fn run(self) {
        let mut looks: HashMap<i64, Option<Look>> = HashMap::new();
        let mut queue: VecDeque<(Dispatch, u32)> = VecDeque::new();
        let mut running = JoinSet::new();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            while running.len() < TOGETHER
                && let Some((dispatch, open)) = queue.pop_front()
            {
                let new = Look { open: 0, over: false, scan_at: Instant::now() };
                // `None` while it is looked at.
                let look = looks.insert(dispatch.no, None).flatten().unwrap_or(new);
                running.spawn(self.clone().look(dispatch, look, open));
            }
            tokio::select! {
                Some(done) = running.join_next(), if !running.is_empty() => {
                    let (no, look) = done.unwrap_or_else(broke);
                    looks.insert(no, Some(look));
                }
                _ = tick.tick() => {
                    if !self.scheduler.leading.holds() {
                        // Whoever leads now does it.
                        running.shutdown().await;
                        (queue, looks) = (VecDeque::new(), HashMap::new());
                    } else if queue.is_empty() {
                        queue = self.due(&mut looks).await;
                    }
                }
            }
        }
    }

    /// The open dispatches that nobody looks at now, and how many are open.
    async fn due(&self, looks: &mut HashMap<i64, Option<Look>>) -> VecDeque<(Dispatch, u32)> {
        let store = &self.scheduler.store;
        let open = match store.soon(store.dispatches(true)).await {
            Ok(open) => open,
            Err(error) => {
                tracing::warn!(%error, "cannot see which dispatches are open; trying again");
                return VecDeque::new();
            }
        };
        self.scheduler.counts.open_dispatches.set(i64::try_from(open.len()).unwrap_or(i64::MAX));
        looks.retain(|no, look| look.is_none() || open.iter().any(|d| d.no == *no));
        let n = u32::try_from(open.len()).unwrap_or(u32::MAX);
        let busy = |d: &Dispatch| looks.get(&d.no).is_some_and(Option::is_none);
        open.into_iter().filter(|d| !busy(d)).map(|d| (d, n)).collect()
    }

    async fn look(self, dispatch: Dispatch, mut look: Look, open: u32) -> (i64, Look) {
        // One that cannot be ended must not keep the others from it.
        if let Err(error) = self.end(&dispatch, &mut look, open).await {
            tracing::warn!(dispatch = dispatch.no, %error, "cannot be ended now; trying again");
        }
        (dispatch.no, look)
    }

    async fn end(&self, dispatch: &Dispatch, look: &mut Look, open: u32) -> Result<()> {
        let store = &self.scheduler.store;
        let seen = *self.seen.borrow();
        let over = dispatch.state == "cancelled" || seen.steady && dispatch.expires_at <= seen.at;
        let began = Instant::now();
        if look.scan_at <= began || look.over != over {
            let moved = self.scan(dispatch, over, seen).await;
            let pause = if matches!(moved, Ok(1..)) { TICK } else { share(began.elapsed(), open) };
            *look = Look { over, scan_at: Instant::now() + pause, ..*look };
            moved?;
        }
        let dispatch = store.soon(store.dispatch(&dispatch.no.to_string())).await?;
        if dispatch.phase == "done" {
            let waits: Vec<i32> =
                if dispatch.mode == Mode::Dry { Vec::new() } else { self.waits().map(|w| w.no).collect() };
            if store.finish_dispatch(dispatch.no, &waits, &mut look.open).await? {
                tracing::info!(dispatch = dispatch.no, "finished");
            }
        }
        Ok(())
    }

    /// Ends what was called off or has expired, and gives up receipts that are overdue.
    async fn scan(&self, dispatch: &Dispatch, over: bool, Seen { at, steady }: Seen) -> Result<u64> {
        let store = &self.scheduler.store;
        let mut moved = 0;
        if over {
            moved += store.sweep_dispatch(dispatch.no, dispatch.state == "cancelled").await?;
        }
        if steady {
            let before = |way: &Way| (way.no, at - receipt_wait(&*way.channel));
            // What was handed over since the dispatch began cannot be overdue earlier.
            let overdue: Vec<(i32, Millis)> =
                self.waits().map(before).filter(|(_, before)| *before >= dispatch.created_at).collect();
            moved += store.give_up_waiting(dispatch.no, &overdue).await?;
        }
        Ok(moved)
    }

    /// The ways whose messages wait for receipts.
    fn waits(&self) -> impl Iterator<Item = &Way> {
        self.scheduler.ways.iter().filter(|w| w.channel.limits().evidence == Evidence::Receipts)
    }
}

/// How long a scan that took so long keeps one of `open` dispatches from the next.
fn share(took: Duration, open: u32) -> Duration {
    took.saturating_mul(SCAN_SHARE.saturating_mul(open)).max(TICK)
}

fn broke(error: JoinError) -> (i64, Look) {
    std::panic::resume_unwind(error.into_panic())
}
