//! One turn of a worker: what it records, marks and gives back.

use super::*;
use crate::store::batches::Settling;
use crate::store::testing::stores;

#[tokio::test]
async fn a_turn_records_what_came_back_and_marks_what_is_next() {
    for t in stores().await {
        let store = &t.store;
        people(store, 8).await;
        let d = planned(store, 8, 20, 1).await;
        let lease = lease(store).await;
        assert_eq!(mark(store, lease, &[6, 2, 1, 3, 4, 5]).await, [1, 2, 3, 4, 5, 6]);
        let gone = Record { gone: Some(4), ..thrown(4, Class::AddressGone, State::Failed, None) };
        let records = vec![
            taken(1, &["a"]),
            taken(2, &["b1", "b2", "b3"]),
            thrown(3, Class::Temporary, State::Retry, Some(NOON + 10)),
            gone,
            thrown(5, Class::Unknown, State::Uncertain, Some(NOON + 20)),
        ];
        let next = BatchTurn { records, unsent: 1, mark: vec![6, 7, 1], ..turn(lease) };
        assert_eq!(run(store, next).await, [6, 7], "{}: a row that is sent is not marked again", t.engine);
        let now = rows(store, d.no).await;
        let seen: Vec<_> = now.iter().map(|r| (r.state(), r.attempt, r.failures, r.parts, r.next_at)).collect();
        let expected = [
            (State::Sent, 1, 0, 1, None),
            (State::Sent, 1, 0, 3, None),
            (State::Retry, 2, 1, 0, Some(NOON + 10)),
            (State::Failed, 1, 0, 0, None),
            (State::Uncertain, 1, 1, 0, Some(NOON + 20)),
            (State::Sending, 1, 0, 0, None),
            (State::Sending, 1, 0, 0, None),
            (State::Queued, 1, 0, 0, None),
        ];
        assert_eq!(seen, expected, "{}", t.engine);
        assert_eq!((now[0].handed_at, now[2].handed_at), (Some(NOON + 1), None));
        let gone = store.probe_lines("SELECT CAST(id AS TEXT) FROM addresses WHERE gone = 1".into()).await;
        assert_eq!(gone, ["4"]);
        let tried = "SELECT CAST(ordinal AS TEXT) || ':' || class || ':' || code FROM tries ORDER BY ordinal";
        assert_eq!(store.probe_lines(tried.into()).await, ["1:0:0", "2:0:0", "3:2:503", "4:4:503", "5:6:503"]);
        let handles =
            "SELECT gateway_id || ':' || ordinal || ':' || part || '/' || parts FROM handles ORDER BY gateway_id";
        assert_eq!(store.probe_lines(handles.into()).await, ["a:1:1/1", "b1:2:1/3", "b2:2:2/3", "b3:2:3/3"]);
    }
}

#[tokio::test]
async fn addresses_that_do_not_exist_are_marked_in_one_go() {
    for t in stores().await {
        let store = &t.store;
        people(store, 5).await;
        planned(store, 5, 10, 1).await;
        let lease = lease(store).await;
        mark(store, lease, &[1, 2, 3, 4, 5]).await;
        let gone = |o: i64| Record { gone: Some(o), ..thrown(o, Class::AddressGone, State::Failed, None) };
        let records = vec![gone(5), taken(2, &[]), gone(1), thrown(4, Class::Permanent, State::Failed, None)];
        run(store, BatchTurn { records, ..turn(lease) }).await;
        let marked = "SELECT CAST(id AS TEXT) FROM addresses WHERE gone = 1 ORDER BY id";
        assert_eq!(store.probe_lines(marked.into()).await, ["1", "5"], "{}", t.engine);
    }
}

#[tokio::test]
async fn only_rows_that_were_refused_are_said_to_be() {
    for t in stores().await {
        let store = &t.store;
        people(store, 3).await;
        let d = planned(store, 3, 10, 1).await;
        let lease = lease(store).await;
        // One was cancelled between its loading and now.
        execute(store, format!("UPDATE deliveries SET state = {} WHERE ordinal = 2", State::Cancelled.code())).await;
        let refused: Vec<_> = (1..=2).map(|o| (o, 1, Reason::Permanent, "no text".to_owned())).collect();
        store.refuse_queued(lease, &refused).await.unwrap();
        assert_eq!(states(store, d.no).await, [State::Failed, State::Cancelled, State::Queued], "{}", t.engine);
        let tried = "SELECT CAST(ordinal AS TEXT) FROM tries ORDER BY ordinal";
        assert_eq!(store.probe_lines(tried.into()).await, ["1"], "{}", t.engine);
        // Nothing at all where the dispatch stands still.
        store.steer_dispatch(d.no, "paused", "甲").await.unwrap();
        store.refuse_queued(lease, &[(3, 1, Reason::Permanent, "no text".to_owned())]).await.unwrap();
        assert_eq!(store.probe_lines(tried.into()).await, ["1"], "{}", t.engine);
    }
}

#[tokio::test]
async fn one_turn_serves_several_batches() {
    for t in stores().await {
        let store = &t.store;
        people(store, 6).await;
        planned(store, 6, 3, 1).await;
        let (a, b) = (lease(store).await, lease(store).await);
        let turns = [
            BatchTurn { mark: vec![1, 2, 3], ..turn(a) },
            // Rows of another batch are not marked under this lease.
            BatchTurn { mark: vec![3, 4], ..turn(b) },
        ];
        assert_eq!(store.turn(SMS, &turns).await.unwrap(), [vec![1, 2, 3], vec![4]], "{}", t.engine);
    }
}

#[tokio::test]
async fn nothing_is_marked_once_a_dispatch_is_stopped() {
    for t in stores().await {
        let store = &t.store;
        people(store, 3).await;
        let d = planned(store, 3, 10, 1).await;
        let lease = lease(store).await;
        assert_eq!(mark(store, lease, &[1]).await, [1]);
        store.steer_dispatch(d.no, "paused", "甲").await.unwrap();
        assert!(mark(store, lease, &[2]).await.is_empty(), "{}", t.engine);
        store.steer_dispatch(d.no, "active", "甲").await.unwrap();
        assert_eq!(mark(store, lease, &[2]).await, [2]);
        store.clock.advance(DAY);
        assert!(mark(store, lease, &[3]).await.is_empty());
        // What was handed over is recorded all the same.
        record(store, lease, vec![taken(1, &["a"])]).await;
        assert_eq!(states(store, d.no).await, [State::Sent, State::Sending, State::Queued]);
    }
}

#[tokio::test]
async fn a_late_acceptance_is_evidence_and_a_late_failure_is_not() {
    for t in stores().await {
        let store = &t.store;
        people(store, 4).await;
        let d = planned(store, 4, 10, 1).await;
        let old = lease(store).await;
        mark(store, old, &[1, 2, 3, 4]).await;
        store.take_over(old, Settling { repeat: true, at: NOON + 5, leased_before: i64::MAX }).await.unwrap();
        // All four are due again, and 1 went out under the new lease before the old worker spoke.
        store.clock.advance(10);
        store.take_due().await.unwrap();
        let (emptied, new) = (lease(store).await, lease(store).await);
        assert_eq!(emptied.no, old.no);
        let (second, third) = (thrown(2, Class::Permanent, State::Failed, None), taken(3, &["a1", "a2"]));
        assert_eq!(mark(store, new, &[1]).await, [1]);
        record(store, old, vec![taken(1, &["c"]), second, third, taken(4, &[])]).await;
        let now = rows(store, d.no).await;
        let states: Vec<_> = now.iter().map(Row::state).collect();
        // 1 belongs to the new worker, whose answer decides; that it was handed over is known.
        assert_eq!(states, [State::Sending, State::Queued, State::Sent, State::Sent], "{}", t.engine);
        let handed: Vec<_> = now.iter().map(|r| r.handed_at.is_some()).collect();
        assert_eq!(handed, [true, false, true, true]);
        assert_eq!((now[2].parts, now[2].next_at, now[2].reason), (2, None, 0));
        assert!(mark(store, new, &[3, 4]).await.is_empty(), "what was taken does not go again");
        let told = "SELECT COUNT(*) FROM tries WHERE class = 3 AND ordinal = 2";
        assert_eq!(store.probe_count(told.into()).await, 1, "the ledger keeps the late failure");
        assert_eq!(store.probe_count("SELECT COUNT(*) FROM handles".into()).await, 3);
    }
}

#[tokio::test]
async fn rows_that_can_never_go_are_refused_through_the_ledger() {
    for t in stores().await {
        let store = &t.store;
        people(store, 3).await;
        let d = planned(store, 3, 10, 1).await;
        let lease = lease(store).await;
        mark(store, lease, &[1]).await;
        store.refuse_queued(lease, &[(2, 1, Reason::AddressGone, "gone".to_owned())]).await.unwrap();
        let now = rows(store, d.no).await;
        assert_eq!((now[1].state(), now[1].reason), (State::Failed, Reason::AddressGone.code()), "{}", t.engine);
        assert_eq!((now[0].state(), now[2].state()), (State::Sending, State::Queued));
        assert_eq!(store.probe_lines("SELECT code FROM tries".into()).await, ["gone"]);
        store.steer_dispatch(d.no, "paused", "甲").await.unwrap();
        store.refuse_queued(lease, &[(3, 1, Reason::Permanent, "x".into())]).await.unwrap();
        assert_eq!(rows(store, d.no).await[2].state(), State::Queued, "a paused dispatch stands still");
    }
}

#[tokio::test]
async fn what_gateways_say_is_kept_even_with_control_characters() {
    for t in stores().await {
        let store = &t.store;
        people(store, 1).await;
        let d = planned(store, 1, 10, 1).await;
        let lease = lease(store).await;
        mark(store, lease, &[1]).await;
        let odd = Record { code: "\0\u{1}'\"\\OK".into(), ..taken(1, &["\0id'\"\\"]) };
        record(store, lease, vec![odd]).await;
        assert_eq!(states(store, d.no).await, [State::Sent], "{}", t.engine);
        assert_eq!(store.probe_lines("SELECT gateway_id FROM handles".into()).await, ["id'\"\\"]);
    }
}
