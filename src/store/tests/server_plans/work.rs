//! The work itself on large tables, part by part: what a worker, a callback, the relay,
//! the scheduler and the monitor do, and how many rows the server read for it.

use std::time::Instant;

use super::*;
use crate::channel::{Receipt, ReceiptKey};
use crate::domain::delivery::Word;
use crate::domain::ids::DeliveryRef;
use crate::store::Pool;
use crate::store::batches::Settling;
use crate::store::outbox::LaneOf;

/// The dispatch that is new, and its neighbour with a thousand rows left.
const NEW: i64 = 111;
const OLD: i64 = 110;

/// Rows read from end to end, and index entries read, of the large tables so far.
async fn read_so_far(store: &Store) -> (i64, i64) {
    let Pool::Postgres(server) = &store.pool else { return (0, 0) };
    // Each connection keeps its counts for a while; all of them tell theirs now.
    server.keep_none();
    let mut all = Vec::new();
    for _ in 0..server.pool.options().get_max_connections() {
        all.push(server.pool.acquire().await.unwrap());
    }
    for c in &mut all {
        sqlx::raw_sql("SELECT pg_stat_force_next_flush()").execute(&mut **c).await.unwrap();
    }
    let large = LARGE.join("|");
    let sql = format!(
        "SELECT (SELECT COALESCE(SUM(seq_tup_read), 0)::bigint FROM pg_stat_user_tables WHERE schemaname = current_schema() AND relname ~ '^({large})(_[0-9]+)?$'), \
         (SELECT COALESCE(SUM(idx_tup_read), 0)::bigint FROM pg_stat_user_indexes WHERE schemaname = current_schema() AND relname ~ '^({large})(_[0-9]+)?$')"
    );
    sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_one(&mut *all[0]).await.unwrap()
}

/// Does a part of the work, which may read `most` index entries and nothing else.
pub(super) async fn part<T>(store: &Store, what: &str, most: i64, work: impl Future<Output = T>) -> T {
    let before = read_so_far(store).await;
    let began = Instant::now();
    let done = work.await;
    let took = began.elapsed();
    let after = read_so_far(store).await;
    let (scanned, found) = (after.0 - before.0, after.1 - before.1);
    println!("{what}: {took:.1?}, {found} index entries");
    assert_eq!(scanned, 0, "{what} reads a large table from end to end");
    assert!(found <= most, "{what} reads {found} index entries, not {most}");
    done
}

fn said(key: ReceiptKey) -> Receipt {
    Receipt { key, word: Some(Word::Delivered), gone: false, code: String::new(), event_at: None, raw: "r".to_owned() }
}

pub(super) async fn reads_what_it_needs(store: &Store, n: i64) {
    let leases = part(store, "claim", 200, store.lease_batches(SMS, "w", -1..=2, 4)).await.unwrap();
    assert_eq!(leases.iter().map(|l| l.no).collect::<Vec<_>>(), [900_000, 900_001, 900_002, 900_003]);
    send_and_hear(store, leases[1]).await;
    part(store, "heartbeat", 500, store.heartbeat("w", &leases)).await.unwrap();
    let other: Vec<i64> = (2_000..3_000).collect();
    assert_eq!(mark(store, leases[2], &other).await.len(), 1_000);
    let settling = Settling { repeat: true, at: NOON, leased_before: i64::MAX };
    let window = part(store, "takeover", 10_000, store.take_over(leases[2], settling)).await.unwrap();
    assert_eq!(window, 1_000);
    part(store, "give back", 10_000, store.release_batch(leases[3])).await.unwrap();
    part(store, "put off", 10_000, store.defer_batch(leases[0], NOON + DAY, Reason::QuietHours)).await.unwrap();
    for moved in [1_000, 100] {
        assert_eq!(part(store, "retry", 20_000, store.take_due()).await.unwrap(), moved);
    }
    receipts(store).await;
    relay(store).await;
    part(store, "gauges", 30_000, store.gauges()).await.unwrap();
    part(store, "size", 0, store.database_size()).await.unwrap();
    part(store, "orphans", 1_000, store.orphaned_batches(i64::MAX)).await.unwrap();
    part(store, "orphans of the silent", 1_000, store.orphans_of_the_silent(i64::MAX)).await.unwrap();
    ends(store, n).await;
}

/// One batch: loaded, marked, recorded.
async fn send_and_hear(store: &Store, lease: Lease) {
    let rows = part(store, "load", 10_000, store.load_batch(lease)).await.unwrap();
    let ordinals: Vec<i64> = rows.iter().map(|r| r.ordinal).collect();
    assert_eq!(ordinals, (1_000..2_000).collect::<Vec<_>>());
    let marked = part(store, "mark", 10_000, mark(store, lease, &ordinals)).await;
    assert_eq!(marked, ordinals);
    let heard = |o: i64| match o {
        1_900..1_950 => thrown(o, Class::Temporary, State::Retry, Some(NOON)),
        1_950.. => thrown(o, Class::Unknown, State::Uncertain, Some(NOON)),
        _ => taken(o, &[&format!("h{o}")]),
    };
    let records = ordinals.into_iter().map(heard).collect();
    let end = BatchTurn { records, close: true, whole: true, ..turn(lease) };
    part(store, "record", 20_000, run(store, end)).await;
}

async fn receipts(store: &Store) {
    let by_handle: Vec<_> = (1_000..1_500).map(|o| said(ReceiptKey::Gateway(format!("h{o}")))).collect();
    let known = part(store, "receipts by handle", 10_000, store.record_receipts(SMS, &by_handle)).await.unwrap();
    assert_eq!(known.matched, 500);
    let id = |ordinal| store.vault.client_id(DeliveryRef { dispatch_no: 111, ordinal, attempt: 1 });
    let by_client: Vec<_> = (1_500..1_900).map(|o| said(ReceiptKey::Client(id(o)))).collect();
    let known = part(store, "receipts by client id", 10_000, store.record_receipts(SMS, &by_client)).await.unwrap();
    assert_eq!(known.matched, 400);
    let reached = "SELECT COUNT(*) FROM deliveries WHERE dispatch_no = 111 AND state = 4";
    assert_eq!(store.probe_count(reached.to_owned()).await, 900);
    let late: Vec<_> = (0..100).map(|g| said(ReceiptKey::Gateway(format!("g{g}")))).collect();
    let known = part(store, "receipts of old dispatches", 10_000, store.record_receipts(SMS, &late)).await.unwrap();
    assert_eq!(known.matched, 100);
    let strange: Vec<_> = (0..100).map(|g| said(ReceiptKey::Gateway(format!("x{g}")))).collect();
    let known = part(store, "receipts of nobody", 10_000, store.record_receipts(SMS, &strange)).await.unwrap();
    assert_eq!(known.waiting, 100);
    let unmatched = part(store, "unmatched receipts", 1_000, store.unmatched_receipts()).await.unwrap();
    assert_eq!(unmatched, 100);
}

async fn relay(store: &Store) {
    let queues = [LaneOf { channel: SMS, lane: 0 }, LaneOf { channel: SMS, lane: 2 }];
    let waiting = part(store, "relay", 1_000, store.unpublished(&queues, 10)).await.unwrap();
    let tickets: Vec<_> = waiting.iter().map(|(_, ticket)| *ticket).collect();
    assert!(tickets.len() > 10);
    part(store, "confirm", 1_000, store.confirm_published(&tickets)).await.unwrap();
    part(store, "sweep", 1_000, store.published(NOON, NOON)).await.unwrap();
    part(store, "publish again", 1_000, store.publish_again(queues[0], i64::MAX, 3)).await.unwrap();
    let claimed = part(store, "claim by message", 1_000, store.claim_batches(SMS, "w", &tickets[3..5])).await;
    assert_eq!(claimed.unwrap().len(), 2);
}

/// Whether a dispatch has ended may take a look at every row of it, and at no other.
async fn ends(store: &Store, n: i64) {
    let whole = n / 10 + 10_000;
    part(store, "receipts overdue", whole, store.give_up_waiting(OLD, &[(SMS, NOON)])).await.unwrap();
    let mut open = 0;
    let ended = part(store, "the end of a dispatch", whole, store.finish_dispatch(OLD, &[SMS], &mut open)).await;
    assert!(!ended.unwrap());
    let swept = part(store, "cancel", 100_000, store.sweep_dispatch(NEW, true)).await.unwrap();
    assert!(swept > 15_000, "{swept}");
}
