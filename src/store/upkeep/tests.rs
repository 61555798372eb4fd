//! What a restore leaves, and what may go out after it.

use super::*;
use crate::store::testing::{NOON, TestStore, stores};

/// An open dispatch with a delivery in each of these (state, reason); what is
/// `sending` comes first.
async fn dispatch(store: &Store, rows: &[(State, Reason)]) {
    let unit = store.save_unit("某局", "0873-5550000").await.unwrap();
    let mut tx = store.begin().await.unwrap();
    exec!(
        &mut tx,
        sqlx::query("INSERT INTO items (id, no, kind, version, unit_id, state, created_at, created_by) VALUES ('i', 1, 'notice', 1, $1, 'approved', 0, '')")
            .bind(unit)
    )
    .unwrap();
    let sql = "INSERT INTO dispatches (no, id, item_id, item_version, audience, canonical, mode, lane, plan, state, phase, \
               created_at, created_by, expires_at) VALUES (1, 'd', 'i', 1, '', '', 'live', 2, $1, 'active', 'done', 0, '', $2)";
    let plan = serde_json::to_string(&crate::domain::plan::Plan::parse("sms").unwrap()).unwrap();
    exec!(&mut tx, sqlx::query(sql).bind(plan).bind(NOON + 1_000_000_000)).unwrap();
    let sending = rows.iter().filter(|(state, _)| *state == State::Sending).count();
    let sql =
        "INSERT INTO batches (no, dispatch_no, channel, lane, size, state, marked_to) VALUES (7, 1, 1, 2, 9, 1, $1)";
    exec!(&mut tx, sqlx::query(sql).bind(i64::try_from(sending).unwrap())).unwrap();
    for (ordinal, (state, reason)) in (1_i64..).zip(rows) {
        let state = if *state == State::Sending { &State::Queued } else { state };
        let sql = "INSERT INTO deliveries (dispatch_no, ordinal, step, channel, target, variant, state, batch, reason) \
                   VALUES (1, $1, 0, 1, $1, 0, $2, 7, $3)";
        exec!(&mut tx, sqlx::query(sql).bind(ordinal).bind(state.code()).bind(reason.code())).unwrap();
    }
    tx.commit().await.unwrap();
}

async fn count(t: &TestStore, state: State, reason: Reason) -> i64 {
    let (state, reason) = (state.code(), reason.code());
    t.store.probe_count(format!("SELECT COUNT(*) FROM deliveries WHERE state = {state} AND reason = {reason}")).await
}

#[tokio::test]
async fn only_what_had_not_left_is_queued_again() {
    for t in stores().await {
        let rows = [
            (State::Sending, Reason::None),
            (State::Queued, Reason::None),
            (State::Deferred, Reason::QuietHours),
            (State::Retry, Reason::Temporary),
            (State::Uncertain, Reason::Repeat),
            (State::Sent, Reason::None),
            (State::Failed, Reason::Permanent),
        ];
        dispatch(&t.store, &rows).await;
        let done = t.store.mark_restored("王芳").await.unwrap();
        assert_eq!(done, Restored { dispatches: 1, uncertain: 5 }, "{}", t.engine);
        assert_eq!(count(&t, State::Uncertain, Reason::Restored).await, 3, "{}", t.engine);
        assert_eq!(count(&t, State::Uncertain, Reason::NoAnswer).await, 2, "{}", t.engine);
        // Marking a marked store again changes nothing.
        t.store.mark_restored("王芳").await.unwrap();
        assert_eq!(count(&t, State::Uncertain, Reason::Restored).await, 3, "{}", t.engine);
        let d = t.store.dispatch("1").await.unwrap();
        assert_eq!(d.state, "paused");
        assert_eq!(t.store.requeue_restored(&d, "王芳").await.unwrap(), 3, "{}", t.engine);
        assert_eq!(count(&t, State::Queued, Reason::None).await, 3, "{}", t.engine);
        assert_eq!(t.store.requeue_restored(&d, "王芳").await.unwrap(), 0);
        // The rest waits for receipts, and is unknown at last; it never repeats.
        t.store.steer_dispatch(1, "active", "王芳").await.unwrap();
        t.store.clock.advance(WAIT + 1);
        assert_eq!(t.store.take_due().await.unwrap(), 2, "{}", t.engine);
        assert_eq!(
            t.store.delivery_counts(1).await.unwrap().iter().find(|c| c.state == State::Unknown.code()).unwrap().n,
            2
        );
    }
}

#[tokio::test]
async fn a_copy_is_whole_and_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let all = stores().await;
    let t = &all[0];
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("copy.db");
    assert!(t.store.back_up(&copy).await.unwrap() > 0);
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    check_copy(&copy, &t.store.vault).await.unwrap();
    let other = check_copy(&copy, &Vault::from_key(&[8; 32])).await;
    assert!(matches!(other, Err(StoreError::WrongKey)));
    assert!(matches!(t.store.back_up(&copy).await, Err(StoreError::Refused(_))));
    for server in &all[1..] {
        assert!(matches!(server.store.back_up(&dir.path().join("x")).await, Err(StoreError::Refused(_))));
    }
}
