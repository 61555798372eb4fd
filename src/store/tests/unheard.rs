//! What nobody heard of: turns that are on disk while their workers believe that they
//! failed, and processes that stand still with locks in their hands.

use std::time::Duration;

use super::*;
use crate::store::batches::Settling;
use crate::store::testing::stores;

/// A dispatch of six in one batch, of which a turn marked three that nobody heard of.
async fn unheard(store: &Store) -> (Dispatch, Lease) {
    let d = planned(store, 6, 10, 1).await;
    let lease = lease(store).await;
    mark(store, lease, &[1, 2, 3]).await;
    (d, lease)
}

/// Whether a dispatch ends once all that can be sent of it is.
async fn ends(store: &Store, no: i64) -> bool {
    while let Some(&lease) = store.lease_batches(SMS, "w", -1..=2, 1).await.unwrap().first() {
        let ready: Vec<i64> = store.load_batch(lease).await.unwrap().iter().map(|w| w.ordinal).collect();
        let marked = mark(store, lease, &ready).await;
        let records = marked.iter().map(|o| taken(*o, &[])).collect();
        run(store, BatchTurn { records, close: true, whole: marked.len() == ready.len(), ..turn(lease) }).await;
    }
    store.finish_dispatch(no, &[], &mut 0).await.unwrap()
}

#[tokio::test]
async fn a_turn_of_which_nobody_heard_is_taken_up_by_the_next() {
    for t in stores().await {
        let store = &t.store;
        people(store, 6).await;
        let (d, lease) = unheard(store).await;
        // The same again, as a worker does to whom the turn had failed.
        assert_eq!(mark(store, lease, &[1, 2, 3]).await, [1, 2, 3], "{}", t.engine);
        let next =
            BatchTurn { records: vec![taken(1, &["a"])], unsent: 1, mark: vec![3, 4], open_to: 2, ..turn(lease) };
        assert_eq!(store.turn(SMS, std::slice::from_ref(&next)).await.unwrap(), [[3, 4]]);
        assert_eq!(store.turn(SMS, &[next]).await.unwrap(), [[3, 4]], "{}: its answer may be repeated", t.engine);
        let told = "SELECT COUNT(*) FROM tries".to_owned();
        assert_eq!(store.probe_count(told).await, 1);
        let records = [2, 3, 4].map(|o| taken(o, &[])).to_vec();
        run(store, BatchTurn { records, mark: vec![5, 6], ..turn(lease) }).await;
        let records = [5, 6].map(|o| taken(o, &[])).to_vec();
        run(store, BatchTurn { records, close: true, whole: true, ..turn(lease) }).await;
        assert!(ends(store, d.no).await, "{}: {:?}", t.engine, states(store, d.no).await);
        assert_eq!(states(store, d.no).await, [State::Sent; 6]);
    }
}

#[tokio::test]
async fn what_a_turn_marked_unheard_waits_again_when_its_batch_goes() {
    for t in stores().await {
        let store = &t.store;
        people(store, 6).await;
        for released in [true, false] {
            let (d, lease) = unheard(store).await;
            if released {
                store.release_batch(lease).await.unwrap();
            } else {
                run(store, BatchTurn { close: true, ..turn(lease) }).await;
            }
            assert_eq!(states(store, d.no).await, [State::Queued; 6], "{}", t.engine);
            assert!(ends(store, d.no).await, "{}: {:?}", t.engine, states(store, d.no).await);
            assert_eq!(store.probe_count("SELECT COUNT(*) FROM tries WHERE class = 6".into()).await, 0);
        }
        // Nobody leases from one that was called off.
        let (d, lease) = unheard(store).await;
        store.steer_dispatch(d.no, "cancelled", "甲").await.unwrap();
        run(store, BatchTurn { close: true, ..turn(lease) }).await;
        store.sweep_dispatch(d.no, true).await.unwrap();
        store.sweep_dispatch(d.no, true).await.unwrap();
        assert_eq!(states(store, d.no).await, [State::Cancelled; 6], "{}", t.engine);
        assert!(store.finish_dispatch(d.no, &[], &mut 0).await.unwrap(), "{}", t.engine);
    }
}

/// Whoever leases a batch finds no marks on it: whatever ends a lease ends its marks.
#[tokio::test]
async fn a_batch_that_nobody_holds_has_no_marks() {
    for t in stores().await {
        let store = &t.store;
        people(store, 6).await;
        let (_, lease) = unheard(store).await;
        let mut tx = store.begin().await.unwrap();
        let given_up = "UPDATE batches SET state = 0, owner = '', lease_until = NULL";
        let refused = exec!(&mut tx, sqlx::query(given_up)).map_err(crate::store::StoreError::from);
        assert!(refused.unwrap_err().to_string().to_lowercase().contains("check constraint"), "{}", t.engine);
        drop(tx);
        assert_eq!(marked_to(store, lease).await, 3);
    }
}

/// A worker stopped in mid-turn, on a machine that is there still.
#[tokio::test]
async fn who_stands_still_with_a_lock_keeps_the_others_for_seconds_only() {
    for t in stores().await.iter().filter(|t| t.engine == "postgres") {
        let store = &t.store;
        people(store, 2).await;
        let d = planned(store, 2, 10, 1).await;
        let lease = lease(store).await;
        let mut frozen = store.begin_hot().await.unwrap();
        hold(&mut frozen, "SELECT no FROM batches FOR UPDATE").await;
        hold(&mut frozen, "UPDATE batches SET marked_to = 2").await;
        let settling = Settling { repeat: true, at: NOON, leased_before: i64::MAX };
        let taken = tokio::time::timeout(Duration::from_secs(30), store.take_over(lease, settling)).await;
        assert_eq!(taken.expect("it waits for who stands still").unwrap(), 0, "its turn was rolled back");
        assert_eq!(states(store, d.no).await, [State::Queued; 2]);
        assert!(frozen.commit().await.is_err(), "and it hears of that");
    }
}
