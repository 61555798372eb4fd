//! However much is due or has to be swept, nobody waits long for the scheduler.

use super::*;
use crate::domain::delivery::State;
use crate::domain::item::Lane;
use crate::store::dispatches::Dispatch;
use crate::store::items::Item;
use crate::store::testing::{NOON, TestStore, stores};
use crate::store::tests::{approved, order};
use tokio::task::JoinHandle;

/// Enough to keep a scheduler busy for many seconds: what comes before their end did not
/// wait for it, however slow the machine is.
const MANY: i64 = 200_000;
const PATIENCE: Duration = Duration::from_mins(5);

/// A dispatch of `n` deliveries in this state, due at once where they wait for a time.
async fn dispatch(store: &Store, item: &Item, lane: Lane, (n, state): (i64, State)) -> Dispatch {
    let made = store.create_dispatch(&order(item, lane.number())).await.unwrap();
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
    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

/// Waits until there is a row of these.
async fn until_any(store: &Store, rows: &str) {
    let at = Instant::now();
    let sql = format!("SELECT COUNT(*) FROM (SELECT 1 FROM {rows} LIMIT 1) AS found");
    while store.probe_count(sql.clone()).await == 0 {
        assert!(at.elapsed() < PATIENCE, "it never came to that: {sql}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn rows(no: i64, state: State) -> String {
    format!("deliveries WHERE dispatch_no = {no} AND state = {}", state.code())
}

async fn count(store: &Store, no: i64, state: State) -> i64 {
    store.probe_count(format!("SELECT COUNT(*) FROM {}", rows(no, state))).await
}

/// A scheduler that makes others wait does so each time; a test that stood still for
/// some seconds on a busy machine, and saw nothing of it, looks again.
async fn assert_overtakes(engine: &str, mut left: impl AsyncFnMut() -> i64) {
    for _ in 0..5 {
        let left = left().await;
        println!("{engine}: {left} left");
        if left > 0 {
            return;
        }
    }
    panic!("{engine}: it waited until all of it was done");
}

/// What is left of a flood when others had their turn and the scheduler was stopped.
async fn left_of_a_flood(store: &Store, item: &Item) -> i64 {
    let flood = dispatch(store, item, Lane::Routine, (MANY, State::Deferred)).await;
    let (no, running) = (flood.no, start(store));
    until_any(store, &format!("batches WHERE dispatch_no = {no}")).await;
    // A worker dies, and an alert has a retry that is due.
    store
        .probe_write(format!(
            "INSERT INTO batches (no, dispatch_no, channel, lane, size, state, owner, lease_until) \
             VALUES (-{no}, {no}, 1, 0, 1, 1, 'w', 1)"
        ))
        .await;
    until_any(store, &format!("batches WHERE no = -{no} AND state = 0")).await;
    let alert = dispatch(store, item, Lane::Immediate, (1, State::Retry)).await;
    until_any(store, &rows(alert.no, State::Queued)).await;
    running.stop().await;
    count(store, no, State::Deferred).await
}

/// Makes the embedded engine as slow as a server: it would sweep what is large here
/// between two rounds of the scheduler.
async fn slow_down(t: &TestStore) {
    if t.engine == "sqlite" {
        let steps = "WITH RECURSIVE g (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM g WHERE i < 100) SELECT i FROM g";
        let sql = format!("CREATE TRIGGER slow AFTER UPDATE ON deliveries BEGIN SELECT COUNT(*) FROM ({steps}); END");
        t.store.probe_write(sql).await;
    }
}

/// What is left of a large dispatch that is swept when an alert had its retry and the
/// scheduler was stopped; another sweeps that.
async fn left_of_a_sweep(store: &Store, item: &Item) -> i64 {
    let large = dispatch(store, item, Lane::Routine, (2 * MANY, State::Queued)).await;
    let alert = dispatch(store, item, Lane::Immediate, (1, State::Retry)).await;
    let soon = store.now() + 100;
    store.probe_write(format!("UPDATE deliveries SET next_at = {soon} WHERE dispatch_no = {}", alert.no)).await;
    store.steer_dispatch(large.no, "cancelled", "甲").await.unwrap();
    let running = start(store);
    until_any(store, &rows(large.no, State::Cancelled)).await;
    store.clock.advance(100);
    until_any(store, &rows(alert.no, State::Queued)).await;
    running.stop().await;
    let left = count(store, large.no, State::Queued).await;
    let running = start(store);
    until_any(store, &format!("dispatches WHERE no = {} AND finished_at IS NOT NULL", large.no)).await;
    assert_eq!(count(store, large.no, State::Cancelled).await, 2 * MANY);
    running.stop().await;
    left
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_what_is_due_keeps_nobody_waiting() {
    for t in stores().await {
        let item = approved(&t.store).await;
        assert_overtakes(t.engine, async || left_of_a_flood(&t.store, &item).await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_dispatch_that_is_swept_keeps_nobody_waiting() {
    for t in stores().await {
        let item = approved(&t.store).await;
        slow_down(&t).await;
        assert_overtakes(t.engine, async || left_of_a_sweep(&t.store, &item).await).await;
    }
}
