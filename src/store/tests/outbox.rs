//! The outbox of a broker: what is published, claimed, taken back.

use super::*;
use crate::store::batches::Settling;
use crate::store::outbox::{LaneOf, Ticket};
use crate::store::testing::stores;

const ROUTINE: LaneOf = LaneOf { channel: SMS, lane: 2 };
const URGENT: LaneOf = LaneOf { channel: SMS, lane: 0 };

async fn waiting(store: &Store) -> Vec<Ticket> {
    store.unpublished(&[ROUTINE, URGENT], 100).await.unwrap().into_iter().map(|(_, ticket)| ticket).collect()
}

async fn published(store: &Store) -> i64 {
    store.published(0, 0).await.unwrap().iter().map(|p| p.n).sum()
}

#[tokio::test]
async fn what_is_ready_waits_for_the_relay_until_it_is_confirmed() {
    for t in stores().await {
        let store = &t.store;
        people(store, 6).await;
        planned(store, 6, 2, 2).await;
        planned(store, 2, 2, 0).await;
        let all = store.unpublished(&[ROUTINE, URGENT], 100).await.unwrap();
        let lanes: Vec<i32> = all.iter().map(|(of, _)| of.lane).collect();
        assert_eq!(lanes, [0, 2, 2, 2], "{}: the urgent one first", t.engine);
        assert_eq!(store.unpublished(&[ROUTINE], 2).await.unwrap().len(), 2);
        assert!(store.unpublished(&[LaneOf { channel: SMS + 1, lane: 2 }], 9).await.unwrap().is_empty());
        let tickets: Vec<Ticket> = all.iter().map(|(_, ticket)| *ticket).collect();
        assert_eq!(store.confirm_published(&tickets).await.unwrap(), 4);
        assert!(waiting(store).await.is_empty());
        let shelf = store.published(NOON, NOON + 1).await.unwrap();
        let routine = shelf.iter().find(|p| p.lane == 2).unwrap();
        assert_eq!((routine.n, routine.before_first, routine.before_second), (3, 0, 3));
        // The broker lost two of them: the longest confirmed go again.
        assert_eq!(store.publish_again(ROUTINE, NOON + 1, 2).await.unwrap(), 2);
        assert_eq!(waiting(store).await, tickets[1..3]);
        assert_eq!(store.publish_again(ROUTINE, NOON, 2).await.unwrap(), 0, "confirmed too lately");
    }
}

#[tokio::test]
async fn a_message_claims_its_batch_once_and_only_with_its_epoch() {
    for t in stores().await {
        let store = &t.store;
        people(store, 6).await;
        planned(store, 6, 2, 2).await;
        let tickets = waiting(store).await;
        store.confirm_published(&tickets).await.unwrap();
        let stale = Ticket { epoch: 7, ..tickets[2] };
        assert!(store.claim_batches(SMS + 1, "w", &tickets).await.unwrap().is_empty(), "another channel's");
        let doubled = [tickets[1], tickets[0], tickets[0], stale];
        let leases = store.claim_batches(SMS, "w", &doubled).await.unwrap();
        assert_eq!(leases.iter().map(|l| l.ticket()).collect::<Vec<_>>(), tickets[..2], "{}", t.engine);
        assert!(store.claim_batches(SMS, "w2", &doubled).await.unwrap().is_empty());
        assert_eq!(published(store).await, 1, "what is leased is no longer in the broker's care");
        // Given back or taken over it is ready with another epoch, of which there is no message.
        store.release_batch(leases[0]).await.unwrap();
        let settling = Settling { repeat: false, at: NOON, leased_before: i64::MAX };
        store.take_over(leases[1], settling).await.unwrap();
        let now = waiting(store).await;
        assert_eq!(now, [Ticket { epoch: 1, ..tickets[0] }, Ticket { epoch: 2, ..tickets[1] }]);
        assert_eq!(store.confirm_published(&tickets[..2]).await.unwrap(), 0, "a late confirmation of an old epoch");
        assert_eq!(waiting(store).await, now);
    }
}

#[tokio::test]
async fn what_is_paused_is_neither_published_nor_claimed_and_comes_back() {
    for t in stores().await {
        let store = &t.store;
        people(store, 2).await;
        let d = planned(store, 2, 2, 2).await;
        let tickets = waiting(store).await;
        store.confirm_published(&tickets).await.unwrap();
        store.steer_dispatch(d.no, "paused", "张三").await.unwrap();
        assert!(store.claim_batches(SMS, "w", &tickets).await.unwrap().is_empty());
        assert_eq!(store.unpublish(&tickets).await.unwrap(), 1, "{}", t.engine);
        assert!(waiting(store).await.is_empty());
        store.steer_dispatch(d.no, "active", "张三").await.unwrap();
        assert_eq!(waiting(store).await, tickets);
        execute(store, &format!("INSERT INTO channels (no, name, paused) VALUES ({SMS}, 'sms', 1)")).await;
        assert!(waiting(store).await.is_empty(), "the channel is paused");
        execute(store, "UPDATE channels SET paused = 0").await;
        assert_eq!(
            store.claim_batches(SMS, "w", &tickets).await.unwrap().len(),
            1,
            "a message that comes late claims it all the same"
        );
    }
}

/// Another worker is in the middle of leasing the first batch: who comes takes the next.
#[tokio::test]
async fn what_another_is_leasing_is_passed_over_and_not_waited_for() {
    // An embedded store has one writer at a time.
    for t in stores().await.into_iter().filter(|t| t.engine == "postgres") {
        let store = &t.store;
        people(store, 6).await;
        planned(store, 6, 2, 2).await;
        let tickets = waiting(store).await;
        store.confirm_published(&tickets).await.unwrap();
        let mut other = store.begin().await.unwrap();
        let first = "SELECT no FROM batches ORDER BY no LIMIT 1 FOR UPDATE";
        exec!(&mut other, sqlx::query(first)).unwrap();
        let soon = std::time::Duration::from_secs(20);
        let of = |leases: Vec<Lease>| leases.into_iter().map(Lease::ticket).collect::<Vec<_>>();
        let leased = tokio::time::timeout(soon, store.lease_batches(SMS, "w", 0..=9, 1)).await;
        assert_eq!(of(leased.expect("nobody waits").unwrap()), tickets[1..2]);
        let claimed = tokio::time::timeout(soon, store.claim_batches(SMS, "w", &tickets)).await;
        assert_eq!(of(claimed.expect("nobody waits").unwrap()), tickets[2..3]);
        drop(other);
        assert_eq!(of(store.claim_batches(SMS, "w", &tickets).await.unwrap()), tickets[..1]);
    }
}
