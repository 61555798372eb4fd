//! What is under way, to whoever looks at the store meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::domain::audience::{Attributes, parse};
use crate::store::batches::Settling;
use crate::store::testing::stores;

/// What lifts a notice must follow whatever of it may be on its way.
#[tokio::test]
async fn who_is_being_told_counts_as_told() {
    for t in stores().await {
        let store = &t.store;
        people(store, 4).await;
        let d = planned(store, 4, 10, 1).await;
        let lease = lease(store).await;
        mark(store, lease, &[1, 2]).await;
        store.steer_dispatch(d.no, "cancelled", "甲").await.unwrap();
        store.sweep_dispatch(d.no, true).await.unwrap();
        let told = parse(&format!("told:{}", d.no)).unwrap();
        let audience = store.resolve_audience(&told, &Attributes::default(), 20_260_601).await.unwrap();
        let sql = format!("SELECT CAST(r.no AS TEXT) FROM recipients r WHERE {} ORDER BY r.no", audience.predicate);
        assert_eq!(store.probe_lines(sql).await, ["1", "2"], "{}", t.engine);
        // A post, and a sheet, that may stand there already.
        execute(store, "UPDATE deliveries SET target = 0 WHERE ordinal = 1").await;
        insert(store, "channels (no, name)", &["1, 'sms'".into()]).await;
        let posted = store.posted_on(std::slice::from_ref(&d.item_id)).await.unwrap();
        assert_eq!(posted, ["sms"], "{}", t.engine);
    }
}

/// A sweep that comes while a turn marks leaves what that turn marked.
#[tokio::test]
async fn a_sweep_waits_for_the_turn_that_marks() {
    for t in stores().await {
        let store = &t.store;
        people(store, 6).await;
        let d = planned(store, 6, 3, 1).await;
        let (a, b) = (lease(store).await, lease(store).await);
        mark(store, b, &[4]).await;
        let mut turning = store.begin_hot().await.unwrap();
        assert_eq!(turning.hold(&[a]).await.unwrap(), [Some(0)]);
        let next = BatchTurn { mark: vec![1, 2], ..turn(a) };
        assert_eq!(turning.queued(&next, NOON).await.unwrap(), [1, 2]);
        turning.set_marks(&[(a.no, 2)]).await.unwrap();
        let (done, sweeper) = (AtomicBool::new(false), store.clone());
        let sweep = async {
            if t.engine == "postgres" {
                sweeper.steer_dispatch(d.no, "cancelled", "甲").await.unwrap();
            }
            let moved = sweeper.sweep_dispatch(d.no, true).await.unwrap();
            done.store(true, Ordering::Release);
            moved
        };
        let turned = async {
            until_blocked(store, &mut turning, 1, || done.load(Ordering::Acquire)).await;
            assert!(!done.load(Ordering::Acquire), "{}", t.engine);
            turning.commit().await.unwrap();
        };
        assert_eq!(tokio::join!(sweep, turned).0, 3, "{}", t.engine);
        let (over, out) = (State::Cancelled, State::Sending);
        assert_eq!(states(store, d.no).await, [out, out, over, out, over, over], "{}", t.engine);
        // Its answers count; of the other nobody knows.
        record(store, a, vec![taken(1, &[]), taken(2, &[])]).await;
        store.take_over(b, Settling { repeat: false, at: NOON, leased_before: i64::MAX }).await.unwrap();
        store.sweep_dispatch(d.no, true).await.unwrap();
        assert_eq!(
            states(store, d.no).await,
            [State::Sent, State::Sent, over, State::Unknown, over, over],
            "{}",
            t.engine
        );
    }
}

/// A store in which every delivery that is under way is marked by itself.
#[tokio::test]
async fn what_was_sending_before_there_were_marks_is_doubted() {
    for t in stores().await {
        let store = &t.store;
        people(store, 6).await;
        let d = planned(store, 6, 2, 1).await;
        let first = lease(store).await;
        execute(store, "ALTER TABLE batches DROP COLUMN marked_to").await;
        // Of a leased batch, of a ready one, and of none.
        execute(store, "UPDATE deliveries SET state = 2 WHERE ordinal IN (1, 3)").await;
        execute(store, "UPDATE deliveries SET state = 2, batch = 0 WHERE ordinal = 5").await;
        let migration = store.pool.pick(
            include_str!("../../../migrations/sqlite/0008_marks.sql"),
            include_str!("../../../migrations/postgres/0008_marks.sql"),
        );
        let mut tx = store.begin().await.unwrap();
        run!(&mut tx, |c| sqlx::raw_sql(migration).execute(c).await.map(drop)).unwrap();
        tx.commit().await.unwrap();
        let [waits, out, doubted, lost] = [State::Queued, State::Sending, State::Uncertain, State::Unknown];
        assert_eq!(states(store, d.no).await, [out, waits, doubted, waits, doubted, waits], "{}", t.engine);
        store.take_over(first, Settling { repeat: true, at: NOON, leased_before: i64::MAX }).await.unwrap();
        assert_eq!(states(store, d.no).await, [doubted, waits, doubted, waits, doubted, waits], "{}", t.engine);
        store.take_due().await.unwrap();
        assert_eq!(
            states(store, d.no).await,
            [waits, waits, lost, waits, lost, waits],
            "{}: what may be repeated is",
            t.engine
        );
    }
}
