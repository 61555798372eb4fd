//! Receipts: in any order, twice, early, late, forged. Evidence only rises.

use super::*;
use crate::channel::{Receipt, ReceiptKey};
use crate::domain::delivery::{Event, Word, next};
use crate::domain::ids::DeliveryRef;
use crate::store::testing::stores;

const WORDS: [Word; 5] = [Word::Sent, Word::Undelivered, Word::Delivered, Word::Read, Word::Confirmed];

fn receipt(key: ReceiptKey, word: Option<Word>) -> Receipt {
    Receipt { key, word, gone: false, code: "R".into(), event_at: Some(NOON - 1), raw: "<raw>".into() }
}

fn by_id(ordinal: i64, word: Word) -> Receipt {
    receipt(ReceiptKey::Gateway(format!("g{ordinal}")), Some(word))
}

/// Every order of every choice of up to three words, and some with doubles.
fn histories() -> Vec<Vec<Word>> {
    let mut all: Vec<Vec<Word>> = vec![Vec::new()];
    let mut longest = all.clone();
    for _ in 0..3 {
        longest = longest.iter().flat_map(|h| WORDS.map(|w| [h.as_slice(), &[w]].concat())).collect();
        all.extend(longest.iter().cloned());
    }
    all
}

fn fold(start: State, words: &[Word], current: bool) -> State {
    words.iter().fold(start, |s, w| next(s, Event::Receipt { word: *w, current }).unwrap_or(s))
}

/// A dispatch whose every delivery was handed over as `g<ordinal>` and stands in `start`.
async fn handed(store: &Store, n: usize, start: State, attempt: i32) -> Dispatch {
    let n = i64::try_from(n).unwrap();
    let d = planned(store, n, 1_000, 1).await;
    let stored = if start == State::Sending { State::Queued } else { start };
    execute(
        store,
        format!("UPDATE deliveries SET state = {}, attempt = {attempt} WHERE dispatch_no = {}", stored.code(), d.no),
    )
    .await;
    if start == State::Sending {
        execute(store, format!("UPDATE batches SET state = 1, marked_to = {n} WHERE dispatch_no = {}", d.no)).await;
    }
    execute(store, "DELETE FROM handles").await;
    let rows: Vec<_> = (1..=n).map(|o| format!("{SMS}, 'g{o}', {}, {o}, 1, 1, 1", d.no)).collect();
    insert(store, "handles (channel, gateway_id, dispatch_no, ordinal, attempt, part, parts)", &rows).await;
    d
}

#[tokio::test]
async fn in_every_order_the_table_of_transitions_decides() {
    let all = histories();
    let starts =
        [State::Sent, State::Uncertain, State::Unknown, State::Retry, State::Sending, State::Failed, State::Queued];
    for t in stores().await {
        people(&t.store, i64::try_from(all.len()).unwrap()).await;
        for start in starts {
            for (attempt, current) in [(1, true), (2, false)] {
                let d = handed(&t.store, all.len(), start, attempt).await;
                for step in 0..3 {
                    let said: Vec<Receipt> =
                        (1..).zip(&all).filter_map(|(o, h)| Some(by_id(o, *h.get(step)?))).collect();
                    t.store.record_receipts(SMS, &said).await.unwrap();
                }
                check(&t.store, &d, start, (&all, current)).await;
                if start == State::Sent && current {
                    // The same history in one callback.
                    let d = handed(&t.store, all.len(), start, attempt).await;
                    let said: Vec<Receipt> =
                        (1..).zip(&all).flat_map(|(o, h)| h.iter().map(move |w| by_id(o, *w))).collect();
                    t.store.record_receipts(SMS, &said).await.unwrap();
                    check(&t.store, &d, start, (&all, current)).await;
                }
            }
        }
    }
}

async fn check(store: &Store, d: &Dispatch, start: State, (all, current): (&[Vec<Word>], bool)) {
    for (row, words) in rows(store, d.no).await.iter().zip(all) {
        let expected = fold(start, words, current);
        assert_eq!(row.state(), expected, "{start:?} {words:?} current: {current}");
        let moved = expected != start;
        assert_eq!(row.handed_at.is_some(), moved, "{start:?} {words:?}");
        let arrived = matches!(expected, State::Delivered | State::Read | State::Confirmed);
        assert_eq!(row.reached_at.is_some(), moved && arrived, "{start:?} {words:?}");
        assert_eq!(row.seen_at.is_some(), moved && matches!(expected, State::Read | State::Confirmed));
    }
}

#[tokio::test]
async fn a_receipt_may_come_before_the_answer() {
    for t in stores().await {
        let store = &t.store;
        people(store, 4).await;
        let d = planned(store, 4, 10, 1).await;
        let lease = lease(store).await;
        mark(store, lease, &[1, 2, 3, 4]).await;
        let client = |ordinal: u32| {
            ReceiptKey::Client(store.vault.client_id(DeliveryRef {
                dispatch_no: u32::try_from(d.no).unwrap(),
                ordinal,
                attempt: 1,
            }))
        };
        let early = [
            receipt(client(1), Some(Word::Delivered)),
            receipt(client(2), Some(Word::Undelivered)),
            receipt(client(3), Some(Word::Sent)),
            by_id(4, Word::Read),
            // Kept, and acted on by nobody.
            receipt(client(1), None),
        ];
        let done = store.record_receipts(SMS, &early).await.unwrap();
        assert_eq!((done.matched, done.waiting), (4, 1), "{}", t.engine);
        let expected = [State::Delivered, State::Undelivered, State::Sending, State::Sending];
        assert_eq!(states(store, d.no).await, expected);
        record(store, lease, (1..=4).map(|o| taken(o, &[format!("g{o}").as_str()])).collect()).await;
        let now = rows(store, d.no).await;
        let states: Vec<_> = now.iter().map(Row::state).collect();
        assert_eq!(states, [State::Delivered, State::Undelivered, State::Sent, State::Read], "{}", t.engine);
        assert!(now.iter().all(|r| r.handed_at.is_some() && r.parts == 1), "{now:?}");
        assert_eq!(store.unmatched_receipts().await.unwrap(), 0);
        assert_eq!(store.probe_count("SELECT COUNT(*) FROM receipts".into()).await, 5);
        assert_eq!(store.record_receipts(SMS, &[]).await.unwrap().matched, 0);
    }
}

#[tokio::test]
async fn foreign_and_forged_receipts_wait_and_touch_nothing() {
    for t in stores().await {
        let store = &t.store;
        people(store, 1).await;
        let d = handed(store, 1, State::Sent, 1).await;
        let forged = uuid::Uuid::from_u128(0x0190_0000_0000_8000_8000_0000_0000_0001);
        let odd = Receipt { code: "\0\u{1}x".into(), ..receipt(ReceiptKey::Gateway("\0'\"".into()), Some(Word::Read)) };
        let said = [receipt(ReceiptKey::Client(forged), Some(Word::Read)), odd];
        assert_eq!(store.record_receipts(SMS, &said).await.unwrap().waiting, 2, "{}", t.engine);
        // Another channel's ids are other ids.
        assert_eq!(store.record_receipts(SMS + 1, &[by_id(1, Word::Read)]).await.unwrap().waiting, 1);
        assert_eq!(states(store, d.no).await, [State::Sent]);
        let (no, raw) = store.probe_sealed("SELECT no, raw_sealed FROM receipts ORDER BY no LIMIT 1").await;
        assert_eq!(store.vault.open_text(Owner::Receipt(no), &raw).unwrap(), "<raw>");
    }
}

/// Others get their turn between the parts of a long callback.
#[tokio::test]
async fn thousands_of_receipts_do_not_keep_others_waiting() {
    const N: i64 = 4_000;
    for t in stores().await {
        people(&t.store, 1).await;
        handed(&t.store, 1, State::Sent, 1).await;
        let said: Vec<Receipt> = (1..=N).map(|o| by_id(o, Word::Delivered)).collect();
        let store = t.store.clone();
        let callback = tokio::spawn(async move { store.record_receipts(SMS, &said).await.unwrap() });
        let mut between = 0;
        while !callback.is_finished() {
            let mut tx = t.store.begin().await.unwrap();
            let sql = "SELECT COUNT(*) FROM receipts";
            let n: i64 = run!(&mut tx, |c| sqlx::query_scalar(sql).fetch_one(c).await).unwrap();
            tx.commit().await.unwrap();
            between += i64::from(n > 0 && n < N);
        }
        let taken = callback.await.unwrap();
        assert_eq!((taken.matched, taken.waiting), (1, 3_999), "{}", t.engine);
        assert!(between > 0, "{}: nobody got a turn", t.engine);
    }
}

#[tokio::test]
async fn a_receipt_after_a_purge_brings_nothing_personal_back() {
    for t in stores().await {
        let store = &t.store;
        people(store, 2).await;
        let purged = planned(store, 2, 10, 1).await;
        let kept = planned(store, 2, 10, 1).await;
        execute(store, format!("UPDATE dispatches SET purged_at = 1 WHERE no = {}", purged.no)).await;
        let of = |d: &Dispatch| DeliveryRef { dispatch_no: u32::try_from(d.no).unwrap(), ordinal: 1, attempt: 1 };
        let said =
            [&purged, &kept].map(|d| receipt(ReceiptKey::Client(store.vault.client_id(of(d))), Some(Word::Delivered)));
        assert_eq!(store.record_receipts(SMS, &said).await.unwrap().matched, 2, "{}", t.engine);
        let raw = "SELECT CAST(dispatch_no AS TEXT) FROM receipts WHERE raw_sealed IS NOT NULL";
        assert_eq!(store.probe_lines(raw.into()).await, [kept.no.to_string()], "{}", t.engine);
        // The word itself counts: it is about a delivery, and about nobody.
        assert_eq!(states(store, purged.no).await[0], State::Delivered, "{}", t.engine);
    }
}

/// The callback looks for the message before the answer is on disk, the worker
/// looks for the receipt before the callback is: the two must still meet.
#[tokio::test]
async fn receipts_that_never_met_their_message_are_forgotten_and_others_kept() {
    for t in stores().await {
        let store = &t.store;
        people(store, 2).await;
        handed(store, 2, State::Sent, 1).await;
        let strange = |n: i64| receipt(ReceiptKey::Gateway(format!("nobody's {n}")), Some(Word::Delivered));
        let old: Vec<_> = std::iter::once(by_id(1, Word::Delivered)).chain((1..=3).map(strange)).collect();
        store.record_receipts(SMS, &old).await.unwrap();
        store.clock.advance(60_000);
        store.record_receipts(SMS, &[strange(4), by_id(2, Word::Delivered)]).await.unwrap();
        assert_eq!(store.forget_unmatched(NOON).await.unwrap(), 0, "{}: none is older", t.engine);
        assert_eq!(store.forget_unmatched(NOON + 1).await.unwrap(), 3, "{}", t.engine);
        assert_eq!(store.unmatched_receipts().await.unwrap(), 1);
        assert_eq!(store.probe_count("SELECT COUNT(*) FROM receipts".into()).await, 3, "{}", t.engine);
    }
}

#[tokio::test]
async fn a_receipt_and_its_answer_meet_when_they_cross() {
    for t in stores().await {
        people(&t.store, 1).await;
        let d = planned(&t.store, 1, 10, 1).await;
        let lease = lease(&t.store).await;
        mark(&t.store, lease, &[1]).await;
        let mut slow = t.store.begin().await.unwrap();
        hold(&mut slow, "UPDATE counters SET value = value WHERE name = 'receipt'").await;
        let (a, b) = (t.store.clone(), t.store.clone());
        let callback = tokio::spawn(async move { a.record_receipts(SMS, &[by_id(1, Word::Delivered)]).await });
        until_blocked(&t.store, &mut slow, 1, || callback.is_finished()).await;
        let answer = tokio::spawn(async move { record(&b, lease, vec![taken(1, &["g1"])]).await });
        until_blocked(&t.store, &mut slow, 2, || answer.is_finished()).await;
        slow.commit().await.unwrap();
        callback.await.unwrap().unwrap();
        answer.await.unwrap();
        assert_eq!(states(&t.store, d.no).await, [State::Delivered], "{}", t.engine);
        assert_eq!(t.store.unmatched_receipts().await.unwrap(), 0, "{}", t.engine);
    }
}

/// Workers record in the order they please while callbacks speak of the same rows.
#[tokio::test]
async fn workers_and_callbacks_do_not_block_each_other_for_good() {
    const N: i64 = 60;
    for t in stores().await {
        people(&t.store, N).await;
        let d = planned(&t.store, N, 20, 1).await;
        let client = |ordinal: i64| {
            let of = DeliveryRef {
                dispatch_no: u32::try_from(d.no).unwrap(),
                ordinal: u32::try_from(ordinal).unwrap(),
                attempt: 1,
            };
            receipt(ReceiptKey::Client(t.store.vault.client_id(of)), Some(Word::Delivered))
        };
        let mut tasks = Vec::new();
        for _ in 0..3 {
            let (store, lease) = (t.store.clone(), lease(&t.store).await);
            tasks.push(tokio::spawn(async move {
                let mine: Vec<i64> = store.load_batch(lease).await.unwrap().iter().map(|w| w.ordinal).collect();
                mark(&store, lease, &mine).await;
                for some in mine.chunks(7) {
                    record(&store, lease, some.iter().rev().map(|o| taken(*o, &[])).collect()).await;
                }
                run(&store, BatchTurn { close: true, ..turn(lease) }).await;
            }));
        }
        for from in 0..6 {
            let said: Vec<Receipt> = (1..=N).filter(|o| o % 6 == from || o % 5 == 0).map(client).collect();
            let store = t.store.clone();
            tasks.push(tokio::spawn(async move {
                store.record_receipts(SMS, &said).await.unwrap();
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        let now = rows(&t.store, d.no).await;
        // One that was still queued when its receipt came was never marked.
        assert!(now.iter().all(|r| r.state() == State::Delivered && r.handed_at.is_some()), "{}", t.engine);
    }
}

#[tokio::test]
async fn a_bounce_marks_the_address_that_does_not_exist() {
    for t in stores().await {
        people(&t.store, 3).await;
        let d = handed(&t.store, 3, State::Sent, 1).await;
        let of = DeliveryRef { dispatch_no: u32::try_from(d.no).unwrap(), ordinal: 2, attempt: 1 };
        let key = ReceiptKey::Client(t.store.vault.client_id(of));
        let gone = async || t.store.probe_count("SELECT COUNT(*) FROM addresses WHERE gone = 1".to_owned()).await;
        let before = gone().await;
        let forged = ReceiptKey::Client(uuid::Uuid::now_v7());
        for (key, is_gone, more) in [(key.clone(), false, 0), (forged, true, 0), (key.clone(), true, 1), (key, true, 1)]
        {
            let bounce = Receipt { gone: is_gone, ..receipt(key, Some(Word::Undelivered)) };
            t.store.record_receipts(SMS, &[bounce]).await.unwrap();
            assert_eq!(gone().await - before, more);
        }
    }
}
