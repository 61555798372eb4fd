//! However much is due or has to be swept, nobody waits long for the scheduler.

use super::*;
use crate::domain::delivery::State;
use crate::domain::item::{Content, ItemKind, Lane};
use crate::domain::plan::Plan;
use crate::store::dispatches::{Dispatch, Mode, NewDispatch};
use crate::store::items::{ApprovalType, Item};
use crate::store::operators::Role;
use crate::store::testing::{NOON, stores};
use tokio::task::JoinHandle;

/// Enough to keep a scheduler busy for many seconds.
const MANY: i64 = 200_000;
const SECOND: Duration = Duration::from_secs(1);

async fn approved(store: &Store) -> Item {
    let unit = store.save_unit("某县应急管理局", "0310-0000000").await.unwrap();
    for name in ["甲", "乙"] {
        store.save_operator(name, &unit, &[Role::Admin]).await.unwrap();
    }
    let (author, reviewer) = (store.acting(Some("甲")).await.unwrap(), store.acting(Some("乙")).await.unwrap());
    let content = Content { title: "停水通知".into(), body: "停水".into(), ..Content::new(ItemKind::Notice) };
    let item = store.add_item(&content, &author).await.unwrap();
    store.approve_item(&item, ApprovalType::Review, &reviewer, "").await.unwrap();
    store.item(&item.id).await.unwrap()
}

/// A dispatch of `n` deliveries in this state, due at once where they wait for a time.
async fn dispatch(store: &Store, item: &Item, lane: Lane, (n, state): (i64, State)) -> Dispatch {
    let new = NewDispatch {
        item_id: item.id.clone(),
        item_version: item.version,
        audience: "all".into(),
        canonical: "all".into(),
        mode: Mode::Live,
        lane: lane.number(),
        lane_reason: String::new(),
        plan: Plan::parse("sms").unwrap(),
        list_no: None,
        parent_no: None,
        expected: "{}".into(),
        created_by: "甲".into(),
        expires_at: NOON + 86_400_000,
        effective_at: None,
    };
    let made = store.create_dispatch(&new).await.unwrap();
    let due = if state == State::Queued || state == State::Planned { "NULL".to_owned() } else { NOON.to_string() };
    let (no, state) = (made.no, state.code());
    store
        .probe_write(format!(
            "INSERT INTO deliveries (dispatch_no, ordinal, step, channel, target, variant, state, batch, next_at) \
             WITH RECURSIVE g (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM g WHERE i < {n}) \
             SELECT {no}, i, 0, 1, i, 0, {state}, 0, {due} FROM g"
        ))
        .await;
    store.probe_write(format!("UPDATE dispatches SET phase = 'done' WHERE no = {no}")).await;
    made
}

struct Running {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn start(store: &Store) -> Running {
    let stop = CancellationToken::new();
    let scheduler = Scheduler {
        store: Arc::new(store.clone()),
        retry: RetrySettings::default(),
        ways: Arc::default(),
        wake: Arc::default(),
        stop: stop.clone(),
        counts: Arc::default(),
        leading: Leading::always(),
    };
    Running { stop, task: tokio::spawn(scheduler.run()) }
}

impl Running {
    /// Tells it to stop; how long that took.
    async fn stop(self) -> Duration {
        let at = Instant::now();
        self.stop.cancel();
        self.task.await.unwrap();
        at.elapsed()
    }
}

/// How long it takes until this count is not 0 any more.
async fn until_any(store: &Store, sql: String) -> Duration {
    let at = Instant::now();
    while store.probe_count(sql.clone()).await == 0 {
        assert!(at.elapsed() < 60 * SECOND, "it never came to that: {sql}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    at.elapsed()
}

fn count(no: i64, state: State) -> String {
    format!("SELECT COUNT(*) FROM deliveries WHERE dispatch_no = {no} AND state = {}", state.code())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_what_is_due_keeps_nobody_waiting() {
    for t in stores().await {
        let (store, item) = (&t.store, approved(&t.store).await);
        let flood = dispatch(store, &item, Lane::Routine, (MANY, State::Deferred)).await;
        let running = start(store);
        until_any(store, format!("SELECT COUNT(*) FROM batches WHERE dispatch_no = {}", flood.no)).await;
        // A worker dies, and an alert has a retry that is due.
        let sql = "INSERT INTO batches (no, dispatch_no, channel, lane, size, state, owner, lease_until) VALUES (-1, {}, 1, 0, 1, 1, 'w', 1)";
        store.probe_write(sql.replace("{}", &flood.no.to_string())).await;
        let taken_over = until_any(store, "SELECT COUNT(*) FROM batches WHERE no = -1 AND state = 0".into()).await;
        let alert = dispatch(store, &item, Lane::Immediate, (1, State::Retry)).await;
        let retried = until_any(store, count(alert.no, State::Queued)).await;
        let stopped = running.stop().await;
        let left = store.probe_count(count(flood.no, State::Deferred)).await;
        println!("{}: {taken_over:?} {retried:?} {stopped:?}, {left} left", t.engine);
        assert!(left > 0, "all of it was packed first");
        assert!(taken_over < 2 * SECOND && retried < 2 * SECOND && stopped < 2 * SECOND);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_dispatch_that_is_swept_keeps_nobody_waiting() {
    for t in stores().await {
        let (store, item) = (&t.store, approved(&t.store).await);
        let large = dispatch(store, &item, Lane::Routine, (2 * MANY, State::Queued)).await;
        let alert = dispatch(store, &item, Lane::Immediate, (1, State::Retry)).await;
        let soon = NOON + 100;
        store.probe_write(format!("UPDATE deliveries SET next_at = {soon} WHERE dispatch_no = {}", alert.no)).await;
        store.steer_dispatch(large.no, "cancelled", "甲").await.unwrap();
        let running = start(store);
        until_any(store, count(large.no, State::Cancelled)).await;
        store.clock.advance(100);
        let retried = until_any(store, count(alert.no, State::Queued)).await;
        let stopped = running.stop().await;
        let left = store.probe_count(count(large.no, State::Queued)).await;
        println!("{}: {retried:?} {stopped:?}, {left} left", t.engine);
        assert!(left > 0, "all of it was swept first");
        assert!(retried < 2 * SECOND && stopped < 2 * SECOND);
        // Another goes on where it stopped.
        let running = start(store);
        until_any(
            store,
            format!("SELECT COUNT(*) FROM dispatches WHERE no = {} AND finished_at IS NOT NULL", large.no),
        )
        .await;
        assert_eq!(store.probe_count(count(large.no, State::Cancelled)).await, 2 * MANY);
        running.stop().await;
    }
}
