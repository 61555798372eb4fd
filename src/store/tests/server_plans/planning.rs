//! The planner's work, what subscribers are told, and letters of other systems, on large
//! tables: how many rows the server read for each.

use super::work::part;
use super::*;
use crate::domain::event;
use crate::store::intake::{Earlier, Letter};

/// Members a chunk.
const WIDTH: i64 = 2_000;
/// Index entries that a chunk may read: some a member, however large the tables are.
const CHUNK: i64 = WIDTH * 10;

/// As many people as deliveries, events that nobody heard and letters that were entered.
async fn fill_more(store: &Store, n: i64) {
    for sql in [
        "INSERT INTO regions (no, name, level) VALUES (1, '甲村', 'village')".to_owned(),
        format!(
            "INSERT INTO recipients (no, kind, counted, region_no, updated_at) SELECT g, 1, 1, 1, 0 FROM generate_series(1, {n}) g"
        ),
        format!(
            "INSERT INTO recipient_addresses (recipient_no, kind, priority, address_id, via) SELECT g, 1, 0, g, 1 FROM generate_series(1, {n}) g"
        ),
        format!(
            "INSERT INTO events (no, id, topic, body) SELECT g, 'e' || g, 'dispatch.created', '{{}}' FROM generate_series(1, {n}) g"
        ),
        format!(
            "INSERT INTO event_marks (dispatch_no, version, mark, done) SELECT 1000 + g, 1, '{{}}', 1 FROM generate_series(1, {n}) g"
        ),
        format!(
            "INSERT INTO intake (source, key, body_hash, answer, item_id, at) SELECT 'weather', 'k' || g, '', '{{}}', i.id, 0 FROM items i, generate_series(1, {n}) g"
        ),
        "UPDATE counters SET value = 150 WHERE name IN ('dispatch', 'event_dispatch')".to_owned(),
        format!("UPDATE counters SET value = {n} WHERE name = 'event'"),
        "ANALYZE".to_owned(),
    ] {
        execute(store, sql).await;
    }
}

pub(super) async fn reads_what_it_needs(store: &Store, n: i64) {
    fill_more(store, n).await;
    let item = store.items().await.unwrap().remove(0);
    let made = part(store, "create", 1_000, store.create_dispatch(&order(&item, 1))).await.unwrap();
    snapshot_and_step(store, &made, n).await;
    events(store, made.no).await;
    letters(store).await;
}

async fn snapshot_and_step(store: &Store, made: &Dispatch, n: i64) {
    let channels = [sms(500)];
    let mut cursor = n / 2;
    for last in [false, true] {
        let page = part(store, "audience", 4 * WIDTH, store.audience_page("TRUE", cursor, WIDTH)).await.unwrap();
        assert_eq!(i64::try_from(page.len()).unwrap(), WIDTH);
        let d = again(store, made).await;
        let job = Chunking { next_step_at: Some(NOON), ..job(&d, &channels) };
        let chunk = part(store, "snapshot", CHUNK, store.snapshot_chunk(&job, &page, last)).await.unwrap();
        assert_eq!((chunk.members, chunk.deliveries), (WIDTH, WIDTH));
        cursor = page[page.len() - 1];
    }
    let d = again(store, made).await;
    part(store, "begin a step", 1_000, store.begin_step(&d, 1)).await.unwrap();
    for done in [false, true] {
        let d = again(store, made).await;
        let chunk = part(store, "step", CHUNK, store.step_chunk(&job(&d, &channels), 1, WIDTH)).await.unwrap();
        assert_eq!((chunk.deliveries, chunk.done), (WIDTH, done), "nobody was reached before");
    }
}

async fn events(store: &Store, dispatch_no: i64) {
    let mut seen = part(store, "watch", 1_000, store.watched_dispatches(0)).await.unwrap();
    assert_eq!(seen.iter().map(|w| w.now.no).collect::<Vec<_>>(), [dispatch_no]);
    let counted = part(store, "count for events", 10 * WIDTH, store.delivery_counts(dispatch_no)).await.unwrap();
    assert_eq!(counted.iter().map(|c| c.n).sum::<i64>(), 4 * WIDTH);
    let now = seen[0].now.clone();
    let happened = event::of_dispatch(&mut seen[0].mark, &now, NOON);
    assert!(part(store, "lay down events", 1_000, store.lay_down_events(&seen, &happened)).await.unwrap());
    let pending = part(store, "pending events", 1_000, store.pending_events(500)).await.unwrap();
    assert_eq!(pending.len(), 500);
    part(store, "forget events", 2_000, store.forget_events(pending[499].no)).await.unwrap();
}

async fn letters(store: &Store) {
    let letter = |key| Letter { source: "weather", key, body: "{}" };
    let known = part(store, "a letter that is known", 100, store.earlier_letter(letter("k77"))).await.unwrap();
    assert_eq!(known, Some(Earlier::Other));
    let (by, content) = (store.acting(Some("甲")).await.unwrap(), content("大风"));
    let entered = store.enter_letter(letter("new"), &content, &by, |id, no| format!("{no} {id}"));
    assert!(part(store, "a new letter", 1_000, entered).await.unwrap().is_some());
}
