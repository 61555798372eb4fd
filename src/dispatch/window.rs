//! The line of one worker: leased batches, what of them is marked, under way, and
//! waiting to be recorded. Bookkeeping only; no I/O.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::job::{Ready, Row};
use super::loading::Loaded;
use crate::channel::{Limits, Outcome, Outgoing};
use crate::clock::Millis;
use crate::domain::item::Lane;
use crate::store::batches::Lease;
use crate::store::turn::{BatchTurn, Record};

/// Of every hundred messages this many are routine ones, whatever is urgent.
const ROUTINE_FLOOR: usize = 5;
/// A turn is due when this many results or marks wait, whatever the window.
const GROUP: usize = 1_000;
/// A turn marks at most this many rows: it is to stay under 100 ms.
const MARKS: usize = 4 * GROUP;
/// Rows of a lane that are kept ready, at least and at most about.
const LEAST: usize = 500;
const AHEAD: usize = 2 * MARKS;

/// How many deliveries may be `sending` at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window(usize);

impl Window {
    /// For a gateway of which one answer is awaited.
    pub const ONE: Self = Self(1);

    /// One second's sends, or what the channel declares (twice the in-flight limit where it
    /// does not), whichever is less; one at least.
    #[must_use]
    pub fn of(rate: f64, limits: &Limits) -> Self {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates, which is meant
        let second = rate.ceil() as usize;
        Self(second.min(limits.window.unwrap_or(2 * limits.in_flight * limits.batch)).max(1))
    }

    #[must_use]
    pub fn size(self) -> usize {
        self.0
    }
}

/// A delivery whose answer came.
#[derive(Debug)]
pub struct Sent {
    pub batch: Lease,
    pub row: Row,
    pub outcome: Outcome,
    pub at: Millis,
}

/// What goes in one request: its messages, and the row of each.
#[derive(Debug, Default)]
pub struct Request {
    pub rows: Vec<(Lease, Row)>,
    pub messages: Vec<Outgoing>,
}

impl Request {
    fn push(&mut self, (lease, ready): (Lease, Ready)) {
        self.rows.push((lease, ready.row));
        self.messages.push(ready.out);
    }
}

/// What stands between a batch in the store and the gateway.
pub struct Line {
    window: Window,
    batches: Vec<Loaded>,
    /// Marked, in the order in which they go.
    to_send: VecDeque<(Lease, Ready)>,
    /// The permit of the first in `to_send`.
    permit: Option<Instant>,
    /// Everything `sending` in the store.
    open: usize,
    routine_credit: usize,
    oldest_record: Option<Instant>,
}

impl Line {
    #[must_use]
    pub fn new(window: Window) -> Self {
        Self {
            window,
            batches: Vec::new(),
            to_send: VecDeque::new(),
            permit: None,
            open: 0,
            routine_credit: 0,
            oldest_record: None,
        }
    }

    pub fn set_window(&mut self, window: Window) {
        self.window = window;
    }

    /// Nothing is marked, under way or unrecorded.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.open == 0 && self.batches.iter().all(Loaded::is_recorded)
    }

    /// The leases held.
    pub fn leases(&self) -> Vec<Lease> {
        self.batches.iter().map(|b| b.lease).collect()
    }

    /// The least urgent lane of which another batch is wanted: too little of it, and
    /// of what is more urgent, is waiting. `None` when nothing is wanted.
    #[must_use]
    pub fn wanted_lane(&self) -> Option<Lane> {
        let enough = self.window.size().clamp(LEAST, AHEAD);
        Lane::SERVED.into_iter().rev().find(|lane| {
            let up_to = self.batches.iter().filter(|b| b.lease.lane <= lane.number());
            up_to.map(|b| b.ready.len()).sum::<usize>() < enough
        })
    }

    /// Whether the routine lane's floor is due while something more urgent goes, and
    /// nothing of that lane is here: of itself no batch of it would come.
    #[must_use]
    pub fn owes_routine(&self) -> bool {
        let waits = |routine| {
            let of = move |b: &&Loaded| (b.lease.lane == Lane::Routine.number()) == routine;
            self.batches.iter().filter(of).any(|b| !b.ready.is_empty())
        };
        self.routine_credit >= 100 && waits(false) && !waits(true)
    }

    /// Takes a batch. Before the first of a lane whatever is less urgent gives way, so
    /// that it does not wait behind what was marked earlier.
    pub fn add(&mut self, batch: Loaded) {
        let lane = batch.lease.lane;
        if self.batches.iter().all(|b| b.lease.lane > lane) {
            self.give_back();
        }
        self.batches.push(batch);
        self.batches.sort_by_key(|b| (b.lease.lane, b.lease.no));
    }

    /// Returns what is marked and not on its way to its batches, to be marked again.
    pub fn give_back(&mut self) {
        self.permit = None;
        while let Some((lease, row)) = self.to_send.pop_back() {
            if let Some(batch) = self.batches.iter_mut().find(|b| b.lease == lease) {
                batch.give_back(row);
            }
        }
    }

    /// Whether a doubtful delivery of this batch may be repeated.
    #[must_use]
    pub fn repeatable(&self, batch: Lease) -> Option<bool> {
        self.batches.iter().find(|b| b.lease == batch).map(|b| b.job.repeatable)
    }

    /// Gives up everything not handed over of the batches that `stopped` names.
    pub fn stop_where(&mut self, stopped: impl Fn(Lease) -> bool) {
        for batch in &mut self.batches {
            if !batch.stopped && stopped(batch.lease) {
                batch.stopped = true;
                batch.ready.clear();
            }
        }
        let batches = &mut self.batches;
        let before = self.to_send.len();
        self.to_send.retain(|(lease, _)| match batches.iter_mut().find(|b| b.lease == *lease) {
            Some(batch) if batch.stopped => {
                batch.forget();
                false
            }
            _ => true,
        });
        if self.to_send.len() < before {
            self.permit = None;
        }
    }

    /// The next turn, when one is due: results to write, rows to give back, rows to mark.
    pub fn next_turn(&mut self, may_mark: bool, flush: Duration) -> Option<Vec<BatchTurn>> {
        let size = self.window.size();
        let waiting: usize = self.batches.iter().map(|b| b.ready.len()).sum();
        let most = if may_mark { waiting.min(MARKS) } else { 0 };
        let room_without = |leaving: usize| size.saturating_sub(self.open - leaving).min(most);
        let unsent: usize = self.batches.iter().map(|b| b.unsent).sum();
        let records: usize = self.batches.iter().map(|b| b.records.len() + b.unsent).sum();
        let room = room_without(unsent);
        let ripe = records >= (size / 2).clamp(1, GROUP)
            || self.oldest_record.is_some_and(|at| at.elapsed() >= flush)
            || records > 0 && self.open == records
            || unsent > 0;
        let wanted = room >= (size / 2).clamp(1, GROUP) || room > 0 && room == waiting;
        let closing = self.batches.iter().any(|b| b.is_recorded() && b.open == 0 && b.ready.is_empty());
        if !ripe && !wanted && !closing {
            return None;
        }
        // What leaves in this turn makes room in it: the next are marked while the gateway
        // still has the rest of the window, not a turn later.
        self.choose_marks(room_without(records));
        self.oldest_record = None;
        let turns: Vec<BatchTurn> = self.batches.iter_mut().filter_map(Loaded::turn).collect();
        (!turns.is_empty()).then_some(turns)
    }

    /// Most urgent first; routine rows keep their floor.
    fn choose_marks(&mut self, mut room: usize) {
        self.routine_credit += room * ROUTINE_FLOOR;
        let routine = |b: &Loaded| b.lease.lane == Lane::Routine as i32;
        if self.batches.first().is_some_and(|b| !routine(b)) {
            let mut floor = (self.routine_credit / 100).min(room);
            for batch in self.batches.iter_mut().filter(|b| routine(b)) {
                let n = batch.want(floor);
                floor -= n;
                room -= n;
                self.routine_credit -= n * 100;
            }
        }
        for batch in &mut self.batches {
            room -= batch.want(room);
        }
        // One row costs a hundred, so even a small window must be able to save that up.
        self.routine_credit = self.routine_credit.min((self.window.size() * ROUTINE_FLOOR).max(100));
    }

    /// A turn is on disk: what was marked goes into the line, closed batches leave.
    pub fn turned(&mut self, turns: &[BatchTurn], marked: &[Vec<i64>]) {
        for (turn, marked) in turns.iter().zip(marked) {
            let Some(at) = self.batches.iter().position(|b| b.lease == turn.lease) else { continue };
            self.open -= turn.records.len() + turn.unsent;
            self.open += marked.len();
            let batch = &mut self.batches[at];
            let rows = batch.turned(turn, marked);
            let lease = batch.lease;
            if batch.stopped {
                for _ in rows {
                    batch.forget();
                }
            } else {
                self.to_send.extend(rows.into_iter().map(|row| (lease, row)));
            }
            if turn.close {
                self.batches.remove(at);
            }
        }
    }

    /// The store refused a turn: nothing of it happened; keep it for the next.
    pub fn turn_failed(&mut self, turns: Vec<BatchTurn>) {
        for turn in turns {
            if let Some(batch) = self.batches.iter_mut().find(|b| b.lease == turn.lease) {
                batch.turn_failed(turn);
            }
        }
        self.oldest_record = Some(Instant::now());
    }

    /// When the first in line may go; takes its permit the first time it is asked.
    pub fn next_send_at(&mut self, reserve: impl FnOnce(u32) -> Instant) -> Option<Instant> {
        let parts = self.to_send.front()?.1.row.parts;
        Some(*self.permit.get_or_insert_with(|| reserve(parts)))
    }

    /// Gives up the permit of the first in line; says from when it held.
    pub fn forget_permit(&mut self) -> Option<Instant> {
        self.permit.take()
    }

    /// The most urgent lane of which something is still to be sent.
    #[must_use]
    pub fn waiting_lane(&self) -> Option<i32> {
        let marked = self.to_send.iter().map(|(lease, _)| lease.lane);
        let ready = self.batches.iter().filter(|b| !b.ready.is_empty()).map(|b| b.lease.lane);
        marked.chain(ready).min()
    }

    /// Takes what goes in one request: the first, and with it others of the same text
    /// up to `batch`; `reserve` takes their permits.
    pub fn take_request(&mut self, batch: usize, mut reserve: impl FnMut(u32)) -> Request {
        self.permit = None;
        let mut request = Request::default();
        while request.rows.len() < batch {
            let first = request.messages.first();
            let same = |(_, next): &(Lease, Ready)| first.is_none_or(|first| first.text == next.out.text);
            if !self.to_send.front().is_some_and(same) {
                break;
            }
            if let Some(next) = self.to_send.pop_front() {
                if first.is_some() {
                    reserve(next.1.row.parts);
                }
                if let Some(batch) = self.batches.iter_mut().find(|b| b.lease == next.0) {
                    batch.goes(next.1.row.ordinal);
                }
                request.push(next);
            }
        }
        request
    }

    /// An answer, decided upon, waits to be written.
    pub fn record(&mut self, batch: Lease, record: Record) {
        if let Some(b) = self.batches.iter_mut().find(|b| b.lease == batch) {
            b.records.push(record);
            self.oldest_record.get_or_insert_with(Instant::now);
        }
    }

    /// When results must be written at the latest.
    #[must_use]
    pub fn flush_at(&self, flush: Duration) -> Option<Instant> {
        self.oldest_record.map(|at| at + flush)
    }
}

#[cfg(test)]
mod model;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::declaration::LimitsSpec;

    fn window(rate: f64, declared: Option<usize>) -> usize {
        let spec = LimitsSpec { in_flight: Some(16), batch: Some(2), window: declared, ..LimitsSpec::default() };
        let (limits, _) = spec.over(&LimitsSpec::default(), false).unwrap();
        Window::of(rate, &limits).size()
    }

    #[test]
    fn a_window_is_what_is_declared_and_never_more_than_a_seconds_sends() {
        assert_eq!(window(1e6, None), 64);
        assert_eq!(window(1e6, Some(500)), 500);
        assert_eq!(window(99.5, Some(500)), 100);
        assert_eq!(window(0.1, None), 1);
    }
}
