//! The line against a model of the store: whatever comes, in whatever order, what is with
//! the gateway is marked on disk, nothing goes twice, and nothing gets lost.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::channel::CLASS_ACCEPTED;
use crate::dispatch::job::Job;
use crate::dispatch::loading::Batch;
use crate::store::testing::stores;
use crate::store::tests::{approved, order};
use crate::store::turn::TAKEN;

const BATCHES: i64 = 4;
const ROWS: i64 = 6;

#[derive(Debug, Clone, Copy)]
enum Step {
    Lease(i64),
    Turn,
    /// The turn that runs is on disk, and the worker hears of it.
    Done,
    Fails,
    /// It is on disk, and the worker believes that it failed.
    Unheard,
    Send(usize),
    Answer(usize),
    GiveBack,
    Stop(i64),
    /// The store marks nothing of it any more.
    Pause(i64, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let batch = || 1..=BATCHES;
    prop_oneof![
        2 => batch().prop_map(Step::Lease),
        5 => Just(Step::Turn),
        5 => Just(Step::Done),
        1 => Just(Step::Fails),
        1 => Just(Step::Unheard),
        4 => (1..3_usize).prop_map(Step::Send),
        4 => any::<usize>().prop_map(Step::Answer),
        2 => Just(Step::GiveBack),
        1 => batch().prop_map(Step::Stop),
        1 => (batch(), any::<bool>()).prop_map(|(batch, on)| Step::Pause(batch, on)),
    ]
}

struct Stored {
    lease: Lease,
    leased: bool,
    paused: bool,
    marked_to: i64,
    queued: BTreeSet<i64>,
}

struct World {
    job: Arc<Job>,
    line: Line,
    store: Vec<Stored>,
    running: Option<Vec<BatchTurn>>,
    flying: Vec<(Lease, Row)>,
    sent: BTreeSet<(i64, i64)>,
}

fn ready(ordinal: i64) -> Ready {
    let out = Outgoing {
        client_id: uuid::Uuid::nil(),
        to: "".into(),
        title: "".into(),
        text: "".into(),
        html: None,
        facts: None,
        parts: 1,
        may_opt_out: false,
    };
    Ready { row: Row { ordinal, attempt: 1, failures: 0, target: ordinal, parts: 1 }, out }
}

fn answer(ordinal: i64) -> Record {
    let (class, code, handles) = (CLASS_ACCEPTED, String::new(), Vec::new());
    Record { ordinal, attempt: 1, class, code, at: 0, parts: 1, change: TAKEN, handles, gone: None }
}

impl World {
    fn new(job: Arc<Job>, window: usize) -> Self {
        let stored = |no| Stored {
            lease: Lease { no, dispatch_no: 1, lane: i32::try_from(no % 3).unwrap(), epoch: 0 },
            leased: false,
            paused: false,
            marked_to: 0,
            // Batches are of one dispatch, and of its ordinals every so many.
            queued: (0..ROWS).map(|i| i * BATCHES + no).collect(),
        };
        let (store, line) = ((1..=BATCHES).map(stored).collect(), Line::new(Window(window)));
        Self { job, line, store, running: None, flying: Vec::new(), sent: BTreeSet::new() }
    }

    fn stored(&mut self, no: i64) -> &mut Stored {
        self.store.iter_mut().find(|b| b.lease.no == no).unwrap()
    }

    fn lease(&mut self, no: i64) {
        let job = Arc::clone(&self.job);
        let batch = self.stored(no);
        if batch.leased || batch.queued.is_empty() {
            return;
        }
        (batch.leased, batch.lease.epoch) = (true, batch.lease.epoch + 1);
        let (lease, rows) = (batch.lease, batch.queued.iter().map(|o| ready(*o)).collect());
        self.line.add(Loaded::new(Batch { lease, job, rows, whole: true }));
    }

    /// What the store makes of a turn (store/turn.rs).
    fn write(&mut self, turns: &[BatchTurn]) -> Vec<Vec<i64>> {
        let one = |turn: &BatchTurn| {
            let batch = self.stored(turn.lease.no);
            if !batch.leased || batch.lease != turn.lease {
                return Vec::new();
            }
            for record in &turn.records {
                batch.queued.remove(&record.ordinal);
            }
            let mut marked: Vec<i64> =
                turn.mark.iter().copied().filter(|o| !batch.paused && batch.queued.contains(o)).collect();
            marked.sort_unstable();
            batch.marked_to = marked.last().copied().unwrap_or(0).max(turn.open_to);
            if turn.close {
                assert!(!turn.whole || batch.queued.is_empty(), "closed for good with rows in it");
                (batch.leased, batch.marked_to) = (false, 0);
            }
            marked
        };
        turns.iter().map(one).collect()
    }

    fn end_turn(&mut self, on_disk: bool, heard: bool) {
        let Some(turns) = self.running.take() else { return };
        let marked = if on_disk { self.write(&turns) } else { Vec::new() };
        if heard {
            self.line.turned(&turns, &marked);
        } else {
            self.line.turn_failed(turns);
            self.line.give_back();
        }
    }

    fn send(&mut self, most: usize) {
        for (lease, row) in self.line.take_request(most, |_| ()).rows {
            assert!(self.sent.insert((lease.no, row.ordinal)), "{} goes twice", row.ordinal);
            self.flying.push((lease, row));
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Lease(no) => self.lease(no),
            Step::Turn if self.running.is_none() => self.running = self.line.next_turn(true, Duration::ZERO),
            Step::Turn => {}
            Step::Done => self.end_turn(true, true),
            Step::Fails => self.end_turn(false, false),
            Step::Unheard => self.end_turn(true, false),
            Step::Send(most) => self.send(most),
            Step::Answer(_) if self.flying.is_empty() => {}
            Step::Answer(which) => {
                let (lease, row) = self.flying.remove(which % self.flying.len());
                self.line.record(lease, answer(row.ordinal));
            }
            Step::GiveBack => self.line.give_back(),
            Step::Stop(no) => self.line.stop_where(|lease| lease.no == no),
            Step::Pause(no, on) => self.stored(no).paused = on,
        }
    }

    /// Whatever may have left and is not recorded would be doubted by a takeover.
    fn check(&self) {
        for batch in &self.store {
            let out = batch.queued.iter().rfind(|o| self.sent.contains(&(batch.lease.no, **o)));
            let doubted = if batch.leased { batch.marked_to } else { 0 };
            assert!(out.is_none_or(|o| *o <= doubted), "{out:?} of {:?} is out, marked to {doubted}", batch.lease);
        }
        assert!(self.line.open <= self.line.window.size(), "more is marked than the window takes");
    }

    /// Told to stop, a worker hears out what is under way, and nothing stays in doubt.
    fn drain(&mut self) {
        for _ in 0..20 {
            self.line.stop_where(|_| true);
            self.end_turn(true, true);
            while !self.flying.is_empty() {
                self.take(Step::Answer(0));
            }
            self.running = self.line.next_turn(false, Duration::ZERO);
            self.check();
        }
        assert!(self.running.is_none() && self.line.is_settled(), "it never comes to rest");
        for batch in &self.store {
            let held = self.line.leases().contains(&batch.lease);
            assert!(held || !batch.leased, "{:?} is leased, and nobody has it", batch.lease);
            assert!(batch.queued.iter().all(|o| !self.sent.contains(&(batch.lease.no, *o))));
        }
    }
}

async fn job() -> Arc<Job> {
    let t = stores().await.remove(0);
    let item = approved(&t.store).await;
    Arc::new(Job::of(t.store.create_dispatch(&order(&item, 2)).await.unwrap()))
}

#[tokio::test]
async fn a_turn_marks_as_many_as_it_records() {
    let mut world = World::new(job().await, 4);
    for step in [Step::Lease(1), Step::Turn, Step::Done, Step::Send(4), Step::Answer(0)] {
        world.take(step);
    }
    assert!(world.line.next_turn(true, Duration::MAX).is_none(), "one of four is not worth a turn");
    world.take(Step::Answer(0));
    let turns = world.line.next_turn(true, Duration::MAX).unwrap();
    assert_eq!((turns[0].records.len(), turns[0].mark.len()), (2, 2), "while the other two are under way");
}

#[tokio::test]
async fn the_store_always_knows_what_is_under_way() {
    let job = job().await;
    let steps = (1..8_usize, proptest::collection::vec(step(), 1..80));
    proptest!(ProptestConfig::with_cases(2_000), |((window, steps) in steps)| {
        let mut world = World::new(Arc::clone(&job), window);
        for step in steps {
            world.take(step);
            world.check();
        }
        world.drain();
    });
}
