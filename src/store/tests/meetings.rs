//! Receipts and the handles of their messages, stored at the same time by many: every
//! one finds the other, and nobody waits in a circle.

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::*;
use crate::channel::{Receipt, ReceiptKey};
use crate::domain::delivery::Word;
use crate::domain::ids::DeliveryRef;
use crate::store::receipts::{Fate, GROUP};
use crate::store::testing::{TestStore, stores};

fn said(id: &str, word: Word) -> Receipt {
    let key = ReceiptKey::Gateway(id.into());
    Receipt { key, word: Some(word), gone: false, code: "R".into(), event_at: None, raw: "<raw>".into() }
}

/// All have met but a few at most, whose rows others held at every try, as on a busy
/// machine: those the scheduler finds.
async fn all_met(t: &TestStore, few: i64) {
    let left = t.store.unmatched_receipts().await.unwrap();
    assert!(left <= few, "{}: {left} are left", t.engine);
    let mut after = t.store.match_left(SMS, "").await.unwrap();
    while !after.is_empty() {
        after = t.store.match_left(SMS, &after).await.unwrap();
    }
    assert_eq!(t.store.unmatched_receipts().await.unwrap(), 0, "{}", t.engine);
}

/// Workers store handles in turns of all sizes, and two processes' worth of desks keep
/// words about the same messages, disordered and doubled, by the ids of their two parts
/// or by ours.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn thousands_meet_whoever_comes_first() {
    const N: i64 = 1_200;
    const WORKERS: i64 = 3;
    for t in stores().await {
        people(&t.store, N).await;
        let d = planned(&t.store, N, N / WORKERS, 1).await;
        let mut tasks = Vec::new();
        for worker in 0..WORKERS {
            let (store, lease) = (t.store.clone(), lease(&t.store).await);
            tasks.push(tokio::spawn(async move {
                let mut rng = StdRng::seed_from_u64(worker.unsigned_abs());
                let mut mine: Vec<i64> = store.load_batch(lease).await.unwrap().iter().map(|w| w.ordinal).collect();
                mark(&store, lease, &mine).await;
                mine.shuffle(&mut rng);
                let mut rest = mine.as_slice();
                while !rest.is_empty() {
                    let (some, more) = rest.split_at(rng.random_range(1..80).min(rest.len()));
                    rest = more;
                    let ids = |o: &i64| [format!("g{o}-1"), format!("g{o}-2")];
                    let records = some.iter().map(|o| taken(*o, &ids(o).each_ref().map(String::as_str)));
                    record(&store, lease, records.collect()).await;
                }
            }));
        }
        for desk in 0..4_u64 {
            let store = t.store.clone();
            let client = store.vault.clone();
            let no = u32::try_from(d.no).unwrap();
            tasks.push(tokio::spawn(async move {
                let mut rng = StdRng::seed_from_u64(10 + desk);
                let mut words: Vec<Receipt> = Vec::new();
                for o in (1..=N).filter(|o| o.unsigned_abs() % 2 == desk % 2) {
                    for word in [Word::Sent, Word::Delivered, Word::Delivered] {
                        words.push(said(&format!("g{o}-{}", 1 + desk / 2), word));
                    }
                    if o % 7 == 0 {
                        let of = DeliveryRef { dispatch_no: no, ordinal: u32::try_from(o).unwrap(), attempt: 1 };
                        let key = ReceiptKey::Client(client.client_id(of));
                        words.push(Receipt { key, ..said("", Word::Sent) });
                    }
                }
                words.shuffle(&mut rng);
                let mut rest = words.as_slice();
                while !rest.is_empty() {
                    let (some, more) = rest.split_at(rng.random_range(1..250).min(rest.len()));
                    rest = more;
                    let fates = store.record_group(SMS, some).await.unwrap();
                    assert!(!fates.contains(&Fate::Held));
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        let kept = N * 2 * 3 + N / 7 * 2;
        all_met(&t, kept / 50).await;
        let now = rows(&t.store, d.no).await;
        assert!(now.iter().all(|r| r.state() == State::Delivered && r.handed_at.is_some()), "{}", t.engine);
        assert_eq!(t.store.probe_count("SELECT COUNT(*) FROM receipts".into()).await, kept, "{}", t.engine);
    }
}

/// The handle is written but not committed when the callback looks: the turn looks
/// after its commit.
#[tokio::test]
async fn an_answer_that_commits_last_finds_the_receipt() {
    for t in stores().await.into_iter().filter(|t| t.engine == "postgres") {
        people(&t.store, 2).await;
        let d = planned(&t.store, 2, 10, 1).await;
        let lease = lease(&t.store).await;
        mark(&t.store, lease, &[1, 2]).await;
        let mut slow = t.store.begin().await.unwrap();
        hold(&mut slow, "UPDATE deliveries SET failures = failures WHERE ordinal = 2").await;
        let store = t.store.clone();
        let answer =
            tokio::spawn(async move { record(&store, lease, vec![taken(1, &["g1"]), taken(2, &["g2"])]).await });
        until_blocked(&t.store, &mut slow, 1, || answer.is_finished()).await;
        let taken = t.store.record_receipts(SMS, &[said("g1", Word::Delivered)]).await.unwrap();
        assert_eq!(taken.waiting, 1);
        slow.commit().await.unwrap();
        answer.await.unwrap();
        assert_eq!(states(&t.store, d.no).await[0], State::Delivered);
        assert_eq!(t.store.unmatched_receipts().await.unwrap(), 0);
    }
}

/// Who records receipts never waits for a row: the others of the group are on disk at
/// once, and the held one as soon as it is free, or not at all.
#[tokio::test]
async fn a_delivery_in_other_hands_is_left_out_and_recorded_when_it_is_free() {
    for t in stores().await.into_iter().filter(|t| t.engine == "postgres") {
        people(&t.store, 2).await;
        let d = planned(&t.store, 2, 10, 1).await;
        let lease = lease(&t.store).await;
        mark(&t.store, lease, &[1, 2]).await;
        record(&t.store, lease, vec![taken(1, &["g1"]), taken(2, &["g2"])]).await;
        for freed in [true, false] {
            let before = t.store.probe_count("SELECT COUNT(*) FROM receipts".into()).await;
            let mut slow = t.store.begin().await.unwrap();
            hold(&mut slow, "UPDATE deliveries SET failures = failures WHERE ordinal = 2").await;
            let (store, word) = (t.store.clone(), if freed { Word::Delivered } else { Word::Read });
            let group =
                tokio::spawn(async move { store.record_group(SMS, &[said("g2", word), said("g1", word)]).await });
            while t.store.probe_count("SELECT COUNT(*) FROM receipts".into()).await == before {
                tokio::task::yield_now().await;
            }
            assert_eq!(states(&t.store, d.no).await[0], word.state());
            if freed {
                slow.commit().await.unwrap();
                assert_eq!(group.await.unwrap().unwrap(), [Fate::Matched; 2]);
                assert_eq!(states(&t.store, d.no).await, [State::Delivered; 2]);
            } else {
                assert_eq!(group.await.unwrap().unwrap(), [Fate::Held, Fate::Matched]);
                slow.commit().await.unwrap();
                assert_eq!(states(&t.store, d.no).await, [State::Read, State::Delivered]);
            }
        }
    }
}

/// Rows as a crash between commit and second look leaves them, among many that no
/// message of ours will ever be found for.
#[tokio::test]
async fn what_a_crash_left_unmatched_is_found_page_by_page() {
    for t in stores().await {
        let store = &t.store;
        assert_eq!(store.match_left(SMS, "").await.unwrap(), "");
        people(store, 3).await;
        let d = planned(store, 3, 10, 1).await;
        execute(store, "UPDATE deliveries SET state = 3").await;
        let foreign: Vec<Receipt> = (0..GROUP + 100).map(|n| said(&format!("f{n:05}"), Word::Read)).collect();
        store.record_receipts(SMS, &foreign).await.unwrap();
        let early = ["a1", "f00200", "z3"].map(|id| said(id, Word::Delivered));
        store.record_receipts(SMS, &early).await.unwrap();
        let handles: Vec<_> = ["a1", "f00200", "z3"]
            .iter()
            .zip(1..)
            .map(|(id, o)| format!("{SMS}, '{id}', {}, {o}, 1, 1, 1", d.no))
            .collect();
        insert(store, "handles (channel, gateway_id, dispatch_no, ordinal, attempt, part, parts)", &handles).await;
        let after = store.match_left(SMS, "").await.unwrap();
        assert!(after.starts_with('f'), "{after} on {}", t.engine);
        assert_eq!(store.match_left(SMS, &after).await.unwrap(), "", "{}", t.engine);
        let expected = [State::Delivered, State::Read, State::Delivered];
        assert_eq!(states(store, d.no).await, expected, "{}", t.engine);
        assert_eq!(store.unmatched_receipts().await.unwrap(), i64::try_from(foreign.len()).unwrap() - 1);
        // Another channel's page is its own.
        assert_eq!(store.match_left(SMS + 1, "").await.unwrap(), "");
    }
}
