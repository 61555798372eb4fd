//! Random histories of workers, crashes, receipts, clocks and operators: whatever
//! happens, no delivery is lost, stuck, or sent by two.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;
use crate::channel::{Receipt, ReceiptKey};
use crate::domain::delivery::Word;
use crate::store::batches::Settling;
use crate::store::testing::stores;

const PEOPLE: i64 = 12;

/// A worker's view: its lease, and what it has marked and not yet recorded.
struct Worker {
    lease: Lease,
    window: Vec<(i64, i32)>,
}

struct History<'a> {
    store: &'a Store,
    rng: StdRng,
    workers: Vec<Worker>,
    /// Every (ordinal, attempt) handed over.
    sent: Vec<(i64, i64, i32)>,
    best: BTreeMap<(i64, i64), u8>,
}

impl History<'_> {
    async fn step(&mut self, dispatches: &[i64]) {
        let (store, dice) = (self.store, self.rng.random_range(0..20));
        match dice {
            0..=3 => {
                if let Some(&lease) = store.lease_batches(SMS, "w", -1..=2, 1).await.unwrap().first() {
                    self.workers.push(Worker { lease, window: Vec::new() });
                }
            }
            4..=11 if !self.workers.is_empty() => self.work().await,
            12 if !self.workers.is_empty() => {
                let at = self.rng.random_range(0..self.workers.len());
                let settling =
                    Settling { repeat: self.rng.random_bool(0.5), at: store.now() + 5, leased_before: i64::MAX };
                store.take_over(self.workers[at].lease, settling).await.unwrap();
            }
            13 | 14 => self.hear().await,
            15 => {
                store.clock.advance(5);
                store.take_due().await.unwrap();
            }
            16 => {
                let no = dispatches[self.rng.random_range(0..dispatches.len())];
                let to = ["paused", "active"][self.rng.random_range(0..2)];
                drop(store.steer_dispatch(no, to, "甲").await);
            }
            17 if !self.workers.is_empty() && self.rng.random_bool(0.3) => {
                let worker = &self.workers[0];
                if worker.window.is_empty() {
                    store
                        .defer_batch(worker.lease, store.now() + 7, crate::domain::delivery::Reason::QuietHours)
                        .await
                        .unwrap();
                    self.workers.remove(0);
                }
            }
            _ => {}
        }
    }

    /// A turn of some worker, maybe one that lost its lease long ago.
    async fn work(&mut self) {
        let at = self.rng.random_range(0..self.workers.len());
        let lease = self.workers[at].lease;
        let mut next = turn(lease);
        for (ordinal, attempt) in std::mem::take(&mut self.workers[at].window) {
            let later = Some(self.store.now() + 5);
            let handle = format!("{}-{ordinal}-{attempt}", lease.dispatch_no);
            let made = match self.rng.random_range(0..6) {
                0 => thrown(ordinal, Class::Temporary, State::Retry, later),
                1 => thrown(ordinal, Class::Unknown, State::Uncertain, later),
                2 => thrown(ordinal, Class::Permanent, State::Failed, None),
                3 => {
                    next.unsent += 1;
                    continue;
                }
                _ => {
                    self.sent.push((lease.dispatch_no, ordinal, attempt));
                    taken(ordinal, &[handle.as_str()])
                }
            };
            next.records.push(Record { attempt, ..made });
        }
        let waiting = self.store.load_batch(lease).await.unwrap();
        let attempts: BTreeMap<i64, i32> = waiting.iter().map(|w| (w.ordinal, w.attempt)).collect();
        next.mark = attempts.keys().copied().take(self.rng.random_range(0..4)).collect();
        next.close = next.mark.is_empty();
        let close = next.close;
        let marked = run(self.store, next).await;
        if close {
            self.workers.remove(at);
        } else {
            self.workers[at].window = marked.into_iter().map(|o| (o, attempts[&o])).collect();
        }
    }

    async fn hear(&mut self) {
        if self.sent.is_empty() {
            return;
        }
        let (d, o, a) = self.sent[self.rng.random_range(0..self.sent.len())];
        let word = [Word::Sent, Word::Undelivered, Word::Delivered, Word::Read][self.rng.random_range(0..4)];
        let key = ReceiptKey::Gateway(format!("{d}-{o}-{a}"));
        let said =
            Receipt { key, word: Some(word), gone: false, code: String::new(), event_at: None, raw: String::new() };
        self.store.record_receipts(SMS, &[said]).await.unwrap();
    }

    async fn check(&mut self, dispatches: &[i64], why: &str) {
        for no in dispatches {
            let all = rows(self.store, *no).await;
            assert_eq!(all.len(), usize::try_from(PEOPLE).unwrap());
            for row in all {
                let waits = matches!(row.state(), State::Retry | State::Deferred | State::Uncertain);
                assert_eq!(row.next_at.is_some(), waits, "{why} {row:?}");
                let evidence = match row.state() {
                    State::Delivered => 1,
                    State::Read => 2,
                    _ => 0,
                };
                assert_eq!(row.reached_at.is_some(), evidence > 0, "{why} {row:?}");
                let best = self.best.entry((*no, row.ordinal)).or_default();
                assert!(evidence >= *best, "{why} evidence fell: {row:?}");
                *best = evidence;
            }
        }
        let stuck = "SELECT COUNT(*) FROM deliveries d WHERE (d.state = 1 AND NOT EXISTS (SELECT 1 FROM batches b WHERE b.no = d.batch AND b.state < 2)) \
                     OR d.state = 2";
        assert_eq!(self.store.probe_count(stuck.into()).await, 0, "{why}");
    }
}

#[tokio::test]
async fn no_history_loses_a_delivery() {
    for t in stores().await {
        people(&t.store, PEOPLE).await;
        for seed in 0..8 {
            let dispatches = [planned(&t.store, PEOPLE, 5, 1).await.no, planned(&t.store, PEOPLE, 3, 2).await.no];
            let mut history = History {
                store: &t.store,
                rng: StdRng::seed_from_u64(seed),
                workers: Vec::new(),
                sent: Vec::new(),
                best: BTreeMap::new(),
            };
            for step in 0..220 {
                history.step(&dispatches).await;
                history.check(&dispatches, &format!("{} seed {seed} step {step}", t.engine)).await;
            }
            assert!(history.sent.len() > 5, "too dull");
            settle(&t.store, &dispatches).await;
        }
    }
}

/// Everything that is left gets done, as the scheduler and one good worker do it.
async fn settle(store: &Store, dispatches: &[i64]) {
    for no in dispatches {
        drop(store.steer_dispatch(*no, "active", "甲").await);
    }
    for (lease, _) in store.orphaned_batches(i64::MAX).await.unwrap() {
        store.take_over(lease, Settling { repeat: true, at: store.now(), leased_before: i64::MAX }).await.unwrap();
    }
    for _ in 0..30 {
        store.clock.advance(10);
        store.take_due().await.unwrap();
        while let Some(&lease) = store.lease_batches(SMS, "good", -1..=2, 1).await.unwrap().first() {
            let due: Vec<i64> = store.load_batch(lease).await.unwrap().iter().map(|w| w.ordinal).collect();
            let marked = mark(store, lease, &due).await;
            let records = marked.into_iter().map(|o| taken(o, &[])).collect();
            run(store, BatchTurn { records, close: true, ..turn(lease) }).await;
        }
    }
    for no in dispatches {
        assert!(store.finish_dispatch(*no, &[], &mut 0).await.unwrap(), "dispatch {no}: {:?}", rows(store, *no).await);
    }
    assert_eq!(store.probe_count("SELECT COUNT(*) FROM batches WHERE state <> 2".into()).await, 0);
}
