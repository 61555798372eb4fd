//! Leasing a batch and making it ready: rows read, opened and rendered ahead of
//! their marking, so that the window holds nothing but sends.

use std::collections::{HashMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;

use futures_util::future::join_all;
use tracing::Instrument as _;

use super::disk::last_lane;
use super::job::{Job, Ready};
use super::outcome::MISCONFIGURED_WAIT;
use super::worker::{Tools, Way};
use crate::domain::delivery::Reason;
use crate::domain::item::Lane;
use crate::store::batches::Lease;
use crate::store::dispatches::Mode;
use crate::store::sheets::Boards;
use crate::store::turn::{BatchTurn, Record};
use crate::store::{Result, StoreError};

/// A leased batch, ready to be marked.
pub struct Batch {
    pub lease: Lease,
    pub job: Arc<Job>,
    pub rows: Vec<Ready>,
    /// These are all the rows it has.
    pub whole: bool,
}

/// Batches leased in one transaction.
const TOGETHER: i64 = 4;
/// Where other engines wait for batches, too, or few of the rows may go.
const SHARED: i64 = 1;

/// Leases and prepares the most urgent batches of these lanes; none when none is ready.
pub async fn next_batches(tools: &Tools, way: &Way, wanted: RangeInclusive<Lane>) -> Result<Vec<Batch>> {
    let (first, last) = (wanted.start().number(), wanted.end().number());
    let lanes = first..=last_lane(tools.control.borrow().low_disk).min(last);
    let routine_alone = first == Lane::Routine.number();
    // At night it would but be put off, batch by batch, while something urgent goes.
    if lanes.is_empty() || routine_alone && tools.quiet.until(tools.store.now()).is_some() {
        return Ok(Vec::new());
    }
    let most = if routine_alone || tools.control.borrow().is_shared() { SHARED } else { TOGETHER };
    loop {
        crate::failpoint::at!("before_claim");
        let leases = tools.queue.lease(way.no, &tools.owner, lanes.clone(), most).await?;
        if leases.is_empty() {
            return Ok(Vec::new());
        }
        let prepared =
            join_all(leases.into_iter().map(|lease| tools.store.soon(prepare_or_put_off(tools, way, lease)))).await;
        // What failed has given its lease back; what did not goes on.
        let failed = prepared.iter().all(Result::is_err);
        let mut batches = Vec::with_capacity(prepared.len());
        for one in prepared {
            match one {
                Ok(batch) => batches.extend(batch),
                Err(error) if failed => return Err(error),
                Err(error) => tracing::warn!(channel = way.name, %error, "cannot load a batch; trying again"),
            }
        }
        if !batches.is_empty() {
            return Ok(batches);
        }
    }
}

/// `None` where it was put off.
async fn prepare_or_put_off(tools: &Tools, way: &Way, lease: Lease) -> Result<Option<Batch>> {
    if lease.lane == Lane::Routine as i32
        && let Some(until) = tools.quiet.until(tools.store.now())
    {
        tools.store.defer_batch(lease, until, Reason::QuietHours).await?;
        tools.queue.settled(way.no, &[lease]);
        return Ok(None);
    }
    let span = tracing::info_span!("load", channel = way.name, dispatch = lease.dispatch_no, batch = lease.no);
    match prepare(tools, way, lease).instrument(span).await {
        Ok(batch) => Ok(Some(batch)),
        // What is wrong with one dispatch must not stop the others behind it.
        Err(error @ (StoreError::Refused(_) | StoreError::Damaged(_))) => {
            tracing::error!(dispatch = lease.dispatch_no, batch = lease.no, %error, "cannot be prepared; put off");
            let until = tools.store.now() + MISCONFIGURED_WAIT;
            tools.store.defer_batch(lease, until, Reason::Misconfigured).await?;
            tools.queue.settled(way.no, &[lease]);
            tools.counts.put_off.inc();
            tools.counts.unready.note((lease.dispatch_no, Some(way.name.clone())), tokio::time::Instant::now());
            Ok(None)
        }
        Err(error) => let_go(tools, way, (lease, error)).await,
    }
}

async fn let_go(tools: &Tools, way: &Way, (lease, error): (Lease, StoreError)) -> Result<Option<Batch>> {
    tools.store.release_batch(lease).await?;
    tools.queue.settled(way.no, &[lease]);
    Err(error)
}

async fn prepare(tools: &Tools, way: &Way, lease: Lease) -> Result<Batch> {
    let job = tools.jobs.job(lease.dispatch_no, way).await?;
    let mut rows = tools.store.load_batch(lease).await?;
    if job.dispatch.mode == Mode::Call {
        tools.jobs.fill_call(lease, way, &mut rows).await?;
    }
    let boards =
        if job.is_sheets() { tools.store.boards(&job.dispatch, lease, way.no).await? } else { Boards::default() };
    let (rows, unsendable) = {
        let (job, store) = (Arc::clone(&job), Arc::clone(&tools.store));
        // A thousand texts with variables take some milliseconds of one core.
        tokio::task::spawn_blocking(move || job.prepare(&store, lease, rows, &boards))
            .await
            .map_err(|e| crate::store::StoreError::Damaged(e.to_string()))?
    };
    tracing::debug!(ready = rows.len(), unsendable = unsendable.len(), "loaded");
    let whole = unsendable.is_empty();
    if !whole {
        let rows: Vec<_> = unsendable.into_iter().map(|u| (u.ordinal, u.attempt, u.reason, u.code)).collect();
        tools.store.refuse_queued(lease, &rows).await?;
    }
    Ok(Batch { lease, job, rows, whole })
}

/// A batch in the line: what of it waits, is marked, under way, or to be recorded.
pub struct Loaded {
    pub lease: Lease,
    pub job: Arc<Job>,
    pub ready: VecDeque<Ready>,
    /// Asked to be marked by the turn that runs now.
    asked: HashMap<i64, Ready>,
    want: usize,
    /// Marked and not yet written back.
    pub open: usize,
    pub records: Vec<Record>,
    /// Marked and given back, which the store has not heard of.
    pub unsent: usize,
    /// The highest ordinal that was given to the gateway, and the highest that is marked.
    sent_to: i64,
    marked_to: i64,
    pub stopped: bool,
    /// Every row it had was marked as asked, up to now.
    whole: bool,
}

impl Loaded {
    #[must_use]
    pub fn new(batch: Batch) -> Self {
        Self {
            lease: batch.lease,
            job: batch.job,
            ready: batch.rows.into(),
            asked: HashMap::new(),
            want: 0,
            open: 0,
            records: Vec::new(),
            unsent: 0,
            sent_to: 0,
            marked_to: 0,
            stopped: false,
            whole: batch.whole,
        }
    }

    #[must_use]
    pub fn is_recorded(&self) -> bool {
        self.records.is_empty() && self.unsent == 0
    }

    /// Wants up to `n` more rows marked; says how many.
    pub fn want(&mut self, n: usize) -> usize {
        let n = n.min(self.ready.len() - self.want);
        self.want += n;
        n
    }

    /// A row that was marked and not sent: it is marked anew later. Whatever else of this
    /// batch is in the line comes back with it.
    pub fn give_back(&mut self, row: Ready) {
        self.forget();
        self.wait(row);
    }

    /// Back among those that wait to be marked, in the order of the store.
    fn wait(&mut self, row: Ready) {
        let at = self.ready.partition_point(|other| other.row.ordinal < row.row.ordinal);
        self.ready.insert(at, row);
    }

    /// A row that was marked and will not be sent, like whatever else of this batch is in
    /// the line.
    pub fn forget(&mut self) {
        self.unsent += 1;
        self.marked_to = self.sent_to;
    }

    /// A row goes to the gateway.
    pub fn goes(&mut self, ordinal: i64) {
        self.sent_to = self.sent_to.max(ordinal);
    }

    /// What this batch brings to a turn; `None` when nothing.
    pub fn turn(&mut self) -> Option<BatchTurn> {
        let mut records = std::mem::take(&mut self.records);
        // Answers come in any order; the store goes through its rows in theirs.
        records.sort_unstable_by_key(|r| r.ordinal);
        let unsent = std::mem::take(&mut self.unsent);
        let mark: Vec<i64> = self
            .ready
            .drain(..std::mem::take(&mut self.want))
            .map(|row| {
                let ordinal = row.row.ordinal;
                self.asked.insert(ordinal, row);
                ordinal
            })
            .collect();
        let open = self.open - records.len() - unsent;
        let open_to = if open == 0 { 0 } else { self.marked_to };
        let close = self.ready.is_empty() && mark.is_empty() && open == 0;
        let idle = records.is_empty() && unsent == 0 && mark.is_empty() && !close;
        let whole = self.whole && !self.stopped && unsent == 0;
        (!idle).then_some(BatchTurn { lease: self.lease, records, unsent, mark, open_to, close, whole })
    }

    /// A turn is on disk; returns the rows that were marked. Those asked for and not
    /// marked have changed meanwhile, or their dispatch stands still.
    pub fn turned(&mut self, turn: &BatchTurn, marked: &[i64]) -> Vec<Ready> {
        self.open = self.open + marked.len() - turn.records.len() - turn.unsent;
        self.marked_to = marked.last().copied().unwrap_or(0).max(self.marked_to);
        let mut rows = Vec::with_capacity(marked.len());
        for ordinal in marked {
            rows.extend(self.asked.remove(ordinal));
        }
        // Where none of them was marked the lease is lost, or the dispatch stands still:
        // whoever leases the batch next goes on.
        if marked.is_empty() && !turn.mark.is_empty() {
            self.stopped = true;
            self.ready.clear();
        }
        self.whole &= self.asked.is_empty();
        self.asked.clear();
        rows
    }

    /// Nothing of the turn happened: its parts go back where they came from.
    pub fn turn_failed(&mut self, turn: BatchTurn) {
        self.records.extend(turn.records);
        self.unsent += turn.unsent;
        for (_, row) in std::mem::take(&mut self.asked) {
            // What was stopped meanwhile waits for the next lease.
            if !self.stopped {
                self.wait(row);
            }
        }
    }
}
