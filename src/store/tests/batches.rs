//! Leases: who may send from a batch, and what becomes of the window of one who may not any more.

use std::collections::HashSet;

use super::*;
use crate::store::batches::Settling;
use crate::store::testing::stores;

#[tokio::test]
async fn the_most_urgent_batch_is_leased_first() {
    for t in stores().await {
        let store = &t.store;
        people(store, 4).await;
        let routine = planned(store, 4, 2, 2).await;
        let paused = planned(store, 1, 1, 0).await;
        let prompt = planned(store, 2, 2, 1).await;
        let immediate = planned(store, 2, 1, 0).await;
        let over = planned(store, 1, 1, 0).await;
        store.steer_dispatch(paused.no, "paused", "甲").await.unwrap();
        execute(store, format!("UPDATE dispatches SET expires_at = {NOON} WHERE no = {}", over.no)).await;

        assert_eq!(store.most_urgent_ready(SMS, -1).await.unwrap(), Some(0));
        assert_eq!(store.most_urgent_ready(SMS + 1, -1).await.unwrap(), None);
        assert!(store.lease_batches(SMS + 1, "w", -1..=2, 1).await.unwrap().is_empty());
        let mut order = Vec::new();
        while let Some(&lease) = store.lease_batches(SMS, "w", -1..=2, 1).await.unwrap().first() {
            assert_eq!(lease.epoch, 1);
            order.push((lease.lane, lease.dispatch_no));
            let ready = store.load_batch(lease).await.unwrap();
            assert!(ready.iter().all(|w| w.attempt == 1 && w.gone == Some(0) && w.vars_sealed.is_none()));
            if lease.lane == 0 && order.len() == 2 {
                // Immediate work only: the rest stays.
                assert!(store.lease_batches(SMS, "w", -1..=0, 1).await.unwrap().is_empty());
                assert_eq!(store.most_urgent_ready(SMS, -1).await.unwrap(), Some(1));
            }
        }
        let expected = [(0, immediate.no), (0, immediate.no), (1, prompt.no), (2, routine.no), (2, routine.no)];
        assert_eq!(order, expected, "{}", t.engine);
        store.steer_dispatch(paused.no, "active", "甲").await.unwrap();
        assert_eq!(lease(store).await.dispatch_no, paused.no);
    }
}

#[tokio::test]
async fn many_workers_lease_every_batch_once() {
    for t in stores().await {
        people(&t.store, 40).await;
        planned(&t.store, 40, 1, 1).await;
        let workers: Vec<_> = (0..6)
            .map(|w| {
                let store = t.store.clone();
                tokio::spawn(async move {
                    let mut mine = Vec::new();
                    while let Some(&lease) =
                        store.lease_batches(SMS, &format!("w{w}"), -1..=2, 1).await.unwrap().first()
                    {
                        mine.push(lease.no);
                    }
                    mine
                })
            })
            .collect();
        let mut all = Vec::new();
        for worker in workers {
            all.extend(worker.await.unwrap());
        }
        // A worker that finds the ready ones locked may leave early; nobody leases twice.
        assert_eq!(all.len(), all.iter().collect::<HashSet<_>>().len());
        while let Some(&lease) = t.store.lease_batches(SMS, "last", -1..=2, 1).await.unwrap().first() {
            all.push(lease.no);
        }
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 40, "{}", t.engine);
    }
}

#[tokio::test]
async fn a_takeover_makes_the_window_uncertain_and_fences_the_old_lease() {
    for t in stores().await {
        let store = &t.store;
        people(store, 4).await;
        for (repeat, reason) in [(true, Reason::Repeat), (false, Reason::NoAnswer)] {
            let d = planned(store, 4, 10, 1).await;
            let old = lease(store).await;
            assert_eq!(mark(store, old, &[1, 2]).await, [1, 2]);
            let settling = Settling { repeat, at: NOON + 5_000, leased_before: i64::MAX };
            assert_eq!(store.take_over(old, settling).await.unwrap(), 2, "{}", t.engine);
            assert_eq!(store.take_over(old, settling).await.unwrap(), 0, "once");
            let now = rows(store, d.no).await;
            for row in &now[..2] {
                assert_eq!((row.state(), row.reason), (State::Uncertain, reason.code()));
                assert_eq!((row.next_at, row.failures, row.attempt), (Some(NOON + 5_000), 1, 1));
            }
            let ledger = "SELECT CAST(ordinal AS TEXT) || ' ' || class || ' ' || code || ' ' || epoch FROM tries";
            let ledger = format!("{ledger} WHERE dispatch_no = {} ORDER BY ordinal", d.no);
            assert_eq!(store.probe_lines(ledger).await, ["1 6 takeover 2", "2 6 takeover 2"]);

            // The old worker is fenced: it marks nothing, fails nothing, gives nothing back, closes nothing.
            let late = vec![thrown(1, Class::Permanent, State::Failed, None)];
            let stale = BatchTurn { records: late, unsent: 1, mark: vec![3, 4], close: true, ..turn(old) };
            assert!(run(store, stale).await.is_empty());
            store.release_batch(old).await.unwrap();
            store.refuse_queued(old, &[(3, 1, Reason::Permanent, "x".into())]).await.unwrap();
            assert_eq!(store.defer_batch(old, NOON + 1, crate::domain::delivery::Reason::QuietHours).await.unwrap(), 0);
            assert_eq!(rows(store, d.no).await, now, "{}", t.engine);

            let new = lease(store).await;
            assert_eq!((new.no, new.epoch), (old.no, old.epoch + 2));
            assert_eq!(store.load_batch(new).await.unwrap().iter().map(|w| w.ordinal).collect::<Vec<_>>(), [3, 4]);
            assert!(mark(store, old, &[3, 4]).await.is_empty());
            assert_eq!(mark(store, new, &[3, 4]).await, [3, 4]);
            store.steer_dispatch(d.no, "cancelled", "甲").await.unwrap();
        }
    }
}

/// A takeover under way and a worker that marks at the same time: one of them wins.
#[tokio::test]
async fn a_mark_waits_for_the_takeover_it_runs_into() {
    for t in stores().await {
        people(&t.store, 2).await;
        let d = planned(&t.store, 2, 10, 1).await;
        let old = lease(&t.store).await;
        let mut takeover = t.store.begin().await.unwrap();
        hold(&mut takeover, "UPDATE batches SET state = 0, owner = '', lease_until = NULL, epoch = epoch + 1").await;
        let store = t.store.clone();
        let marking = tokio::spawn(async move { mark(&store, old, &[1, 2]).await });
        until_blocked(&t.store, &mut takeover, 1, || marking.is_finished()).await;
        takeover.commit().await.unwrap();
        assert!(marking.await.unwrap().is_empty(), "{}", t.engine);
        assert_eq!(states(&t.store, d.no).await, [State::Queued; 2]);
    }
}

#[tokio::test]
async fn a_batch_closes_only_when_nothing_waits_in_it() {
    for t in stores().await {
        let store = &t.store;
        people(store, 2).await;
        planned(store, 2, 10, 1).await;
        let first = lease(store).await;
        let state = || store.probe_count("SELECT CAST(state AS BIGINT) FROM batches".into());
        mark(store, first, &[1]).await;
        run(store, BatchTurn { records: vec![taken(1, &["a"])], close: true, ..turn(first) }).await;
        assert_eq!(state().await, 0, "a queued row brings it back");
        let second = lease(store).await;
        assert_eq!((second.no, second.epoch), (first.no, 2));
        store.release_batch(second).await.unwrap();
        assert_eq!(state().await, 0);
        let third = lease(store).await;
        mark(store, third, &[2]).await;
        run(store, BatchTurn { records: vec![taken(2, &["b"])], close: true, ..turn(third) }).await;
        assert_eq!(state().await, 2, "{}", t.engine);
        assert!(store.lease_batches(SMS, "w", -1..=2, 1).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_heartbeat_keeps_leases_and_orphans_are_found() {
    for t in stores().await {
        let store = &t.store;
        people(store, 2).await;
        planned(store, 2, 1, 1).await;
        let (a, b) = (
            store.lease_batches(SMS, "a", -1..=2, 1).await.unwrap()[0],
            store.lease_batches(SMS, "b", -1..=2, 1).await.unwrap()[0],
        );
        let orphans = async |all| -> Vec<Lease> {
            store
                .orphaned_batches(if all { i64::MAX } else { store.db_now().await.unwrap() })
                .await
                .unwrap()
                .into_iter()
                .map(|(lease, channel)| {
                    assert_eq!(channel, SMS);
                    lease
                })
                .collect()
        };
        assert!(orphans(false).await.is_empty());
        assert_eq!(orphans(true).await, [a, b]);
        execute(store, "UPDATE batches SET lease_until = 1000").await;
        assert_eq!(store.heartbeat("a", &[a, b]).await.unwrap(), [b]);
        assert_eq!(store.heartbeat("nobody", &[a]).await.unwrap(), [a]);
        assert_eq!(orphans(false).await, [b], "{}", t.engine);
    }
}
