//! What time brings: retries, the end of waiting, the end of a dispatch.

use super::*;
use crate::store::testing::stores;

async fn put(store: &Store, d: &Dispatch, ordinal: i64, (state, reason): (State, Reason), next_at: Option<i64>) {
    let next = next_at.map_or("NULL".into(), |at| at.to_string());
    let sql = format!(
        "UPDATE deliveries SET state = {}, reason = {}, next_at = {next}, batch = CASE WHEN {0} = 1 THEN batch ELSE 0 END \
         WHERE dispatch_no = {} AND ordinal = {ordinal}",
        state.code(),
        reason.code(),
        d.no
    );
    assert_eq!(execute(store, sql).await, 1);
}

#[tokio::test]
async fn what_is_due_is_packed_again() {
    for t in stores().await {
        let store = &t.store;
        people(store, 8).await;
        let d = planned(store, 8, 10, 1).await;
        let waiting = planned(store, 1, 10, 0).await;
        let at = Some(NOON + 100);
        put(store, &d, 1, (State::Retry, Reason::Temporary), at).await;
        put(store, &d, 2, (State::Deferred, Reason::QuietHours), at).await;
        put(store, &d, 3, (State::Uncertain, Reason::Repeat), at).await;
        put(store, &d, 4, (State::Uncertain, Reason::NoAnswer), at).await;
        put(store, &d, 5, (State::Retry, Reason::Throttled), Some(NOON + 101)).await;
        put(store, &d, 6, (State::Sent, Reason::None), at).await;
        put(store, &waiting, 1, (State::Retry, Reason::Temporary), at).await;
        store.steer_dispatch(waiting.no, "paused", "甲").await.unwrap();
        assert_eq!(store.take_due().await.unwrap(), 0, "before their time");
        store.clock.advance(100);
        assert_eq!(store.take_due().await.unwrap(), 4, "{}", t.engine);
        assert_eq!(store.take_due().await.unwrap(), 0, "once");
        let now = rows(store, d.no).await;
        let states: Vec<_> = now.iter().map(Row::state).collect();
        let (queued, retry) = (State::Queued, State::Retry);
        assert_eq!(states, [queued, queued, queued, State::Unknown, retry, State::Sent, queued, queued]);
        assert_eq!(now[2].reason, Reason::Repeat.code(), "a repeat stays flagged");
        let batch = now[0].batch;
        assert!(batch > 0 && now[..3].iter().all(|r| r.batch == batch && r.next_at.is_none()));
        let sized = format!("SELECT CAST(size AS BIGINT) FROM batches WHERE no = {batch}");
        assert_eq!(store.probe_count(sized).await, 3);
        assert_eq!(self::states(store, waiting.no).await, [retry], "a paused dispatch waits");
        store.steer_dispatch(waiting.no, "active", "甲").await.unwrap();
        assert_eq!(store.take_due().await.unwrap(), 1);
        let (emptied, lease) = (lease(store).await, lease(store).await);
        assert!(store.load_batch(emptied).await.unwrap().is_empty());
        assert_eq!((lease.dispatch_no, lease.lane), (waiting.no, 0));
        assert_eq!(store.load_batch(lease).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_clock_in_doubt_ends_no_dispatch_and_gives_nobody_up() {
    for t in stores().await {
        let store = &t.store;
        people(store, 3).await;
        let d = planned(store, 3, 10, 1).await;
        put(store, &d, 1, (State::Uncertain, Reason::Repeat), Some(NOON)).await;
        put(store, &d, 2, (State::Uncertain, Reason::NoAnswer), Some(NOON)).await;
        let expired = store.dispatch(&d.no.to_string()).await.unwrap().expires_at + 1;
        assert_eq!(store.take_due_at(expired, true).await.unwrap(), 0, "{}", t.engine);
        assert_eq!(store.take_due_at(expired, false).await.unwrap(), 1, "{}", t.engine);
        assert_eq!(states(store, d.no).await, [State::Queued, State::Uncertain, State::Queued]);
    }
}

#[tokio::test]
async fn what_is_urgent_is_packed_before_whatever_was_due_earlier() {
    for t in stores().await {
        let store = &t.store;
        people(store, 1_100).await;
        let routine = planned(store, 1_100, 1_000, 2).await;
        let waits = format!("UPDATE deliveries SET state = 12, next_at = {NOON}, batch = 0");
        execute(store, waits).await;
        let alert = planned(store, 2, 10, 0).await;
        put(store, &alert, 2, (State::Retry, Reason::Temporary), Some(NOON)).await;
        assert_eq!(store.take_due().await.unwrap(), 1_000, "{}", t.engine);
        assert_eq!(states(store, alert.no).await, [State::Queued; 2]);
        assert_eq!(store.take_due().await.unwrap(), 101);
        assert!(states(store, routine.no).await.iter().all(|s| *s == State::Queued));
    }
}

#[tokio::test]
async fn the_last_open_delivery_is_found_wherever_it_is() {
    for t in stores().await {
        let store = &t.store;
        people(store, 5).await;
        let d = planned(store, 5, 10, 1).await;
        execute(store, format!("UPDATE deliveries SET state = {}", State::Delivered.code())).await;
        // Far apart, so that whole ranges between them hold nothing.
        execute(store, "UPDATE deliveries SET ordinal = ordinal * 7000").await;
        let mut open = 0;
        for at in [3, 5, 1, 4] {
            put(store, &d, at * 7_000, (State::Uncertain, Reason::Repeat), Some(NOON)).await;
            assert!(!store.finish_dispatch(d.no, &[SMS], &mut open).await.unwrap());
            assert_eq!(open, at * 7_000, "{}", t.engine);
            put(store, &d, at * 7_000, (State::Delivered, Reason::None), None).await;
        }
        assert!(store.finish_dispatch(d.no, &[SMS], &mut open).await.unwrap());
    }
}

#[tokio::test]
async fn what_was_misconfigured_is_due_for_who_serves_its_channel() {
    for t in stores().await {
        let store = &t.store;
        people(store, 5).await;
        let d = planned(store, 5, 10, 1).await;
        let later = Some(NOON + 3_600_000);
        put(store, &d, 1, (State::Retry, Reason::Misconfigured), later).await;
        put(store, &d, 2, (State::Retry, Reason::Temporary), later).await;
        put(store, &d, 3, (State::Deferred, Reason::Misconfigured), later).await;
        put(store, &d, 4, (State::Deferred, Reason::QuietHours), later).await;
        assert_eq!(store.retry_misconfigured(&[SMS + 1]).await.unwrap(), 0, "{}", t.engine);
        assert_eq!(store.retry_misconfigured(&[SMS + 1, SMS]).await.unwrap(), 2, "{}", t.engine);
        assert_eq!(store.take_due().await.unwrap(), 2);
        let states: Vec<_> = rows(store, d.no).await.iter().map(Row::state).collect();
        assert_eq!(states, [State::Queued, State::Retry, State::Queued, State::Deferred, State::Queued]);
    }
}

#[tokio::test]
async fn a_called_off_dispatch_stops_what_has_not_left() {
    let all = [
        (State::Sending, State::Sending),
        (State::Queued, State::Cancelled),
        (State::Planned, State::Cancelled),
        (State::Retry, State::Cancelled),
        (State::Deferred, State::Cancelled),
        (State::Uncertain, State::Unknown),
        (State::Sent, State::Sent),
        (State::Delivered, State::Delivered),
        (State::Failed, State::Failed),
        (State::Suppressed, State::Suppressed),
    ];
    for t in stores().await {
        let store = &t.store;
        people(store, 10).await;
        for cancelled in [true, false] {
            let d = planned(store, 10, 10, 1).await;
            let lease = lease(store).await;
            mark(store, lease, &[1]).await;
            for (ordinal, (from, _)) in (1..).zip(all).skip(2) {
                put(store, &d, ordinal, (from, Reason::None), None).await;
            }
            assert!(!store.finish_dispatch(d.no, &[SMS], &mut 0).await.unwrap());
            if cancelled {
                store.steer_dispatch(d.no, "cancelled", "甲").await.unwrap();
            } else {
                execute(store, format!("UPDATE dispatches SET expires_at = {NOON} WHERE no = {}", d.no)).await;
            }
            assert_eq!(store.sweep_dispatch(d.no, cancelled).await.unwrap(), 5, "{}", t.engine);
            assert_eq!(store.sweep_dispatch(d.no, cancelled).await.unwrap(), 0);
            let expected: Vec<_> = all
                .iter()
                .map(|(_, to)| if *to == State::Cancelled && !cancelled { State::Failed } else { *to })
                .collect();
            let now = rows(store, d.no).await;
            assert_eq!(now.iter().map(Row::state).collect::<Vec<_>>(), expected, "{}", t.engine);
            let reason = if cancelled { Reason::Operator } else { Reason::Expired };
            assert_eq!(now[1].reason, reason.code());
            assert!(store.lease_batches(SMS, "w", -1..=2, 1).await.unwrap().is_empty());
            let ready = format!("SELECT COUNT(*) FROM batches WHERE state <> 2 AND dispatch_no = {}", d.no);
            assert_eq!(store.probe_count(ready.clone()).await, 1, "that of what is under way");
            ends(store, &d, lease, cancelled).await;
            assert_eq!(store.probe_count(ready).await, 0);
        }
    }
}

async fn ends(store: &Store, d: &Dispatch, lease: Lease, cancelled: bool) {
    assert!(!store.finish_dispatch(d.no, &[], &mut 0).await.unwrap(), "one is on its way");
    let records = vec![thrown(1, Class::Permanent, State::Failed, None)];
    run(store, BatchTurn { records, close: true, ..turn(lease) }).await;
    assert!(!store.finish_dispatch(d.no, &[SMS], &mut 0).await.unwrap(), "one waits for its receipt");
    execute(store, format!("UPDATE deliveries SET handed_at = {NOON} WHERE dispatch_no = {} AND state = 3", d.no))
        .await;
    assert_eq!(store.give_up_waiting(d.no, &[(SMS, NOON - 1)]).await.unwrap(), 0);
    assert_eq!(store.give_up_waiting(d.no, &[(SMS + 1, NOON)]).await.unwrap(), 0);
    assert_eq!(store.give_up_waiting(d.no, &[(SMS, NOON)]).await.unwrap(), 1);
    assert_eq!(states(store, d.no).await[6], State::Unknown);
    assert!(store.finish_dispatch(d.no, &[SMS], &mut 0).await.unwrap());
    assert!(!store.finish_dispatch(d.no, &[SMS], &mut 0).await.unwrap(), "once");
    let done = again(store, d).await;
    assert_eq!(done.finished_at, Some(NOON));
    assert_eq!(done.state, if cancelled { "cancelled" } else { "finished" });
    assert!(store.dispatches(true).await.unwrap().iter().all(|o| o.no != d.no));
}

#[tokio::test]
async fn an_accepted_message_is_final_where_no_receipt_comes() {
    for t in stores().await {
        let store = &t.store;
        people(store, 1).await;
        let d = planned(store, 1, 10, 1).await;
        put(store, &d, 1, (State::Sent, Reason::None), None).await;
        assert!(!store.finish_dispatch(d.no, &[SMS + 1, SMS], &mut 0).await.unwrap());
        execute(store, "UPDATE dispatches SET phase = 'waiting'").await;
        assert!(!store.finish_dispatch(d.no, &[SMS + 1], &mut 0).await.unwrap(), "a step is left");
        execute(store, "UPDATE dispatches SET phase = 'done'").await;
        assert!(store.finish_dispatch(d.no, &[SMS + 1], &mut 0).await.unwrap(), "{}", t.engine);
    }
}

#[tokio::test]
async fn quiet_hours_put_a_batch_to_sleep() {
    for t in stores().await {
        let store = &t.store;
        people(store, 3).await;
        let d = planned(store, 3, 10, 2).await;
        let lease = lease(store).await;
        mark(store, lease, &[1]).await;
        assert_eq!(store.defer_batch(lease, NOON + 50, crate::domain::delivery::Reason::QuietHours).await.unwrap(), 2);
        let now = rows(store, d.no).await;
        assert_eq!(now[0].state(), State::Sending);
        assert!(now[1..].iter().all(|r| r.state() == State::Deferred && r.next_at == Some(NOON + 50)));
        assert!(now[1..].iter().all(|r| r.reason == Reason::QuietHours.code()), "{}", t.engine);
        store.clock.advance(50);
        assert_eq!(store.take_due().await.unwrap(), 2);
        assert_eq!(states(store, d.no).await[1..], [State::Queued; 2]);
    }
}

/// A batch that is deferred under a window still in flight must not be lost with it.
#[tokio::test]
async fn a_window_in_flight_survives_the_quiet_hours() {
    for t in stores().await {
        let store = &t.store;
        people(store, 2).await;
        let d = planned(store, 2, 10, 2).await;
        let first = lease(store).await;
        mark(store, first, &[1]).await;
        store.defer_batch(first, NOON + 50, crate::domain::delivery::Reason::QuietHours).await.unwrap();
        record(store, first, vec![taken(1, &["a"])]).await;
        assert_eq!(states(store, d.no).await, [State::Sent, State::Deferred], "{}", t.engine);
    }
}

#[tokio::test]
async fn what_is_open_is_listed_however_many_have_finished_since() {
    for t in stores().await {
        let store = &t.store;
        people(store, 4).await;
        let open = planned(store, 4, 10, 1).await;
        let columns = "item_id, item_version, audience, canonical, mode, lane, lane_reason, plan, list_no, state, phase, \
            step, step_due_at, cursor_no, members, deliveries, expected, created_at, created_by, expires_at";
        for later in 1..=25 {
            let no = open.no + later;
            let copy = format!(
                "INSERT INTO dispatches (no, id, finished_at, {columns}) \
                 SELECT {no}, 'later-{no}', {NOON}, {columns} FROM dispatches WHERE no = {}",
                open.no
            );
            assert_eq!(execute(store, copy).await, 1);
        }
        let listed: Vec<i64> = store.dispatches(false).await.unwrap().iter().map(|d| d.no).collect();
        let mut expected: Vec<i64> = (open.no + 6..=open.no + 25).rev().collect();
        expected.push(open.no);
        assert_eq!(listed, expected, "{}", t.engine);
        let error = store.steer_dispatch(open.no + 25, "active", "甲").await.unwrap_err().to_string();
        assert!(error.contains("现在是“进行中”，不能改为“进行中”"), "{error}");
    }
}
