//! The callbacks of a channel that come together are kept together: one transaction and
//! one commit for all of them, and each is answered when that is done. A gateway that
//! calls back once a message costs a commit each time otherwise. Two such groups of a
//! channel are at work, one prepared while the other is written; they may end in any
//! order, for evidence only rises.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::IntakeError;
use crate::channel::Receipt;
use crate::store::receipts::{AT_ONCE, Fate, GROUP, Taken};
use crate::store::{Store, StoreError};

/// Receipts that may wait in a line: some seconds' worth, so that a gateway is told to
/// come again before it gives up by itself.
const ROOM: u32 = 20_000;
/// So many receipts make a group that is worth its commit, where they come as fast as they
/// are written: the next group is gathered meanwhile.
const ENOUGH: usize = 100;
/// As fast as that: enough have come within this time.
const FAST: Duration = Duration::from_millis(10);
/// Where they come more slowly, so many: a commit keeps those waiting who send.
const MANY: usize = 200;
/// While they come one upon the other a smaller group waits for more, so long at the most.
const GATHER: Duration = Duration::from_millis(40);
/// Silence that ends the waiting, since those who are under way may all wait for us: so
/// short at the least, and so long at the most where it was seen that they do not.
const QUIET: RangeInclusive<Duration> = Duration::from_millis(2)..=Duration::from_millis(10);

type Answer = Result<Taken, Arc<StoreError>>;

/// A callback's receipts on their way to disk.
struct Waiting {
    receipts: Vec<Receipt>,
    answer: oneshot::Sender<Answer>,
    _room: OwnedSemaphorePermit,
}

/// The way to the task that writes the receipts of a channel.
pub(super) struct Line {
    inbox: mpsc::UnboundedSender<Waiting>,
    room: Arc<Semaphore>,
}

impl Line {
    /// Starts the task; it ends when the line is gone and what waited is answered.
    pub(super) fn open(store: Arc<Store>, channel: i32, groups: Counter) -> Self {
        let (inbox, waiting) = mpsc::unbounded_channel();
        tokio::spawn(write(Recorder { store, channel, groups }, waiting));
        Self { inbox, room: Arc::new(Semaphore::new(ROOM as usize)) }
    }

    /// Keeps the receipts of one callback: they are on disk when this returns. They are
    /// written even if the caller goes away meanwhile.
    ///
    /// # Errors
    /// When too many wait already, or they cannot be written.
    pub(super) async fn keep(&self, receipts: Vec<Receipt>) -> Result<Taken, IntakeError> {
        if receipts.is_empty() {
            return Ok(Taken::default());
        }
        // A callback larger than the line has it for itself.
        let n = u32::try_from(receipts.len()).map_or(ROOM, |n| n.min(ROOM));
        let room = Arc::clone(&self.room).try_acquire_many_owned(n).map_err(|_| IntakeError::Busy)?;
        let (answer, answered) = oneshot::channel();
        self.inbox.send(Waiting { receipts, answer, _room: room }).map_err(|_| IntakeError::Busy)?;
        // No answer: the writing broke, which the log shows.
        answered.await.map_err(|_| IntakeError::Busy)?.map_err(IntakeError::Store)
    }
}

#[derive(Clone)]
struct Recorder {
    store: Arc<Store>,
    channel: i32,
    groups: Counter,
}

async fn write(recorder: Recorder, mut inbox: mpsc::UnboundedReceiver<Waiting>) {
    let mut line = VecDeque::new();
    // A lone callback waits for nobody.
    let mut crowded = false;
    let mut quiet = *QUIET.start();
    let free = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        if line.is_empty() {
            let Some(first) = inbox.recv().await else { return };
            line.push_back(first);
        }
        // Who comes while others are written did not wait for them: more may come.
        quiet = next_quiet(quiet, free.available_permits() < AT_ONCE);
        // Whoever comes while others are written goes with the next group.
        let Ok(turn) = Arc::clone(&free).acquire_owned().await else { return };
        gather(&mut line, &mut inbox, crowded.then_some(quiet)).await;
        let group = next_group(&mut line);
        crowded = group.len() > 1 || !line.is_empty();
        // A task of its own: what breaks there breaks this group.
        let recorder = recorder.clone();
        let store = Arc::clone(&recorder.store);
        store.spawn(async move {
            let _turn = turn;
            recorder.keep(group).await;
        });
    }
}

fn next_quiet(quiet: Duration, more_may_come: bool) -> Duration {
    if more_may_come { (quiet * 2).min(*QUIET.end()) } else { (quiet / 2).max(*QUIET.start()) }
}

/// Takes what has come, and in a crowd what still comes until it is `quiet`.
async fn gather(line: &mut VecDeque<Waiting>, inbox: &mut mpsc::UnboundedReceiver<Waiting>, quiet: Option<Duration>) {
    let (began, mut fresh) = (Instant::now(), Vec::new());
    let mut receipts: usize = line.iter().map(|w| w.receipts.len()).sum();
    loop {
        while receipts < GROUP
            && let Ok(one) = inbox.try_recv()
        {
            receipts += one.receipts.len();
            line.push_back(one);
        }
        let Some(quiet) = quiet else { return };
        let until = (Instant::now() + quiet).min(began + GATHER);
        let wanted = if began.elapsed() < FAST { ENOUGH } else { MANY };
        if receipts >= wanted || until <= Instant::now() {
            return;
        }
        match timeout_at(until, inbox.recv_many(&mut fresh, 1)).await {
            Ok(1..) => {
                receipts += fresh.iter().map(|w| w.receipts.len()).sum::<usize>();
                line.extend(fresh.drain(..));
            }
            Ok(0) | Err(_) => return,
        }
    }
}

/// Callbacks of up to [`GROUP`] receipts, and one at the least.
fn next_group(line: &mut VecDeque<Waiting>) -> Vec<Waiting> {
    let (mut group, mut receipts) = (Vec::new(), 0);
    while let Some(next) = line.front() {
        receipts += next.receipts.len();
        if receipts > GROUP && !group.is_empty() {
            break;
        }
        group.extend(line.pop_front());
    }
    group
}

impl Recorder {
    /// Writes a group and answers it. Where it fails each callback is tried by itself,
    /// so that one that cannot be written takes no other with it.
    async fn keep(&self, mut group: Vec<Waiting>) {
        let counts: Vec<usize> = group.iter().map(|w| w.receipts.len()).collect();
        let receipts: Vec<Receipt> = group.iter_mut().flat_map(|w| std::mem::take(&mut w.receipts)).collect();
        if group.len() == 1 {
            return self.answer_each(group, &counts, &receipts).await;
        }
        self.groups.inc();
        match self.store.soon(self.store.record_group(self.channel, &receipts)).await {
            Ok(fates) => {
                let mut fates = fates.as_slice();
                for (waiting, n) in group.into_iter().zip(counts) {
                    let (own, rest): (&[Fate], _) = fates.split_at(n);
                    fates = rest;
                    // Whoever asked may be gone.
                    let _ = waiting.answer.send(Taken::of(own).map_err(Arc::new));
                }
            }
            Err(error) if error.is_of_the_data() => {
                tracing::warn!(channel = self.channel, callbacks = group.len(), %error, "a group of callbacks cannot be kept; trying each");
                self.answer_each(group, &counts, &receipts).await;
            }
            // It would be no better for each of them.
            Err(error) => {
                let error = Arc::new(error);
                for waiting in group {
                    let _ = waiting.answer.send(Err(Arc::clone(&error)));
                }
            }
        }
    }

    async fn answer_each(&self, group: Vec<Waiting>, counts: &[usize], mut receipts: &[Receipt]) {
        for (waiting, n) in group.into_iter().zip(counts) {
            let (own, rest) = receipts.split_at(*n);
            receipts = rest;
            self.groups.inc();
            let taken = self.store.soon(self.store.record_receipts(self.channel, own)).await;
            let _ = waiting.answer.send(taken.map_err(Arc::new));
        }
    }
}

#[cfg(test)]
mod tests;
