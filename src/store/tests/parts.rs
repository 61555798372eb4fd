//! Messages in parts: delivered when every part is, undelivered when one is.

use super::*;
use crate::channel::{Receipt, ReceiptKey};
use crate::domain::delivery::Word;
use crate::store::testing::{TestStore, stores};

fn word(id: &str, word: Word) -> Receipt {
    let key = ReceiptKey::Gateway(id.into());
    Receipt { key, word: Some(word), gone: false, code: "DELIVRD".into(), event_at: None, raw: "{}".into() }
}

/// One message handed over in parts with these ids.
async fn in_parts(t: &TestStore, ids: &[&str]) -> (Dispatch, Lease) {
    people(&t.store, 1).await;
    let d = planned(&t.store, 1, 10, 1).await;
    let lease = lease(&t.store).await;
    mark(&t.store, lease, &[1]).await;
    record(&t.store, lease, vec![taken(1, ids)]).await;
    (d, lease)
}

async fn say(store: &Store, d: &Dispatch, id: &str, what: Word) -> State {
    store.record_receipts(SMS, &[word(id, what)]).await.unwrap();
    states(store, d.no).await[0]
}

#[tokio::test]
async fn delivered_needs_every_part() {
    for t in stores().await {
        let (d, _) = in_parts(&t, &["p1", "p2", "p3"]).await;
        assert_eq!(say(&t.store, &d, "p2", Word::Delivered).await, State::Sent);
        assert_eq!(say(&t.store, &d, "p2", Word::Delivered).await, State::Sent, "twice the same part is one part");
        assert_eq!(say(&t.store, &d, "p1", Word::Sent).await, State::Sent);
        assert_eq!(say(&t.store, &d, "p3", Word::Delivered).await, State::Sent);
        assert_eq!(rows(&t.store, d.no).await[0].reached_at, None);
        assert_eq!(say(&t.store, &d, "p1", Word::Delivered).await, State::Delivered, "{}", t.engine);
        assert_eq!(say(&t.store, &d, "p1", Word::Undelivered).await, State::Delivered);
    }
}

/// In whatever order: the least that all parts have is what the message has.
#[tokio::test]
async fn a_part_that_is_read_counts_as_delivered_beside_one_that_is_not() {
    for t in stores().await {
        let (d, _) = in_parts(&t, &["p1", "p2"]).await;
        assert_eq!(say(&t.store, &d, "p1", Word::Delivered).await, State::Sent);
        assert_eq!(say(&t.store, &d, "p2", Word::Read).await, State::Delivered, "{}", t.engine);
        assert_eq!(say(&t.store, &d, "p1", Word::Read).await, State::Read);
        assert_eq!(say(&t.store, &d, "p2", Word::Delivered).await, State::Read);
    }
}

#[tokio::test]
async fn one_undelivered_part_is_enough_until_all_arrive() {
    for t in stores().await {
        let (d, _) = in_parts(&t, &["p1", "p2"]).await;
        assert_eq!(say(&t.store, &d, "p1", Word::Delivered).await, State::Sent);
        assert_eq!(say(&t.store, &d, "p2", Word::Undelivered).await, State::Undelivered, "{}", t.engine);
        assert_eq!(say(&t.store, &d, "p2", Word::Sent).await, State::Undelivered);
        assert_eq!(say(&t.store, &d, "p2", Word::Delivered).await, State::Delivered);
    }
}

#[tokio::test]
async fn all_parts_in_one_callback_and_before_the_answer() {
    for t in stores().await {
        let (d, _) = in_parts(&t, &["p1", "p2"]).await;
        let both = [word("p2", Word::Delivered), word("p1", Word::Delivered)];
        assert_eq!(t.store.record_receipts(SMS, &both).await.unwrap().matched, 2);
        assert_eq!(states(&t.store, d.no).await, [State::Delivered], "{}", t.engine);

        let d = planned(&t.store, 1, 10, 1).await;
        let lease = lease(&t.store).await;
        mark(&t.store, lease, &[1]).await;
        let early = [word("q2", Word::Delivered), word("q1", Word::Delivered)];
        assert_eq!(t.store.record_receipts(SMS, &early).await.unwrap().waiting, 2);
        assert_eq!(t.store.unmatched_receipts().await.unwrap(), 2);
        record(&t.store, lease, vec![taken(1, &["q1", "q2"])]).await;
        assert_eq!(states(&t.store, d.no).await, [State::Delivered], "{}", t.engine);
        assert_eq!(t.store.unmatched_receipts().await.unwrap(), 0);
    }
}

/// A message repeated under the same client id has two sets of ids: part 1 twice
/// is still not part 2.
#[tokio::test]
async fn a_repeat_does_not_stand_in_for_a_missing_part() {
    for t in stores().await {
        let (d, lease) = in_parts(&t, &["p1", "p2"]).await;
        record(&t.store, lease, vec![taken(1, &["r1", "r2"])]).await;
        assert_eq!(say(&t.store, &d, "p1", Word::Delivered).await, State::Sent, "{}", t.engine);
        assert_eq!(say(&t.store, &d, "r1", Word::Delivered).await, State::Sent, "{}", t.engine);
        assert_eq!(say(&t.store, &d, "r2", Word::Delivered).await, State::Delivered, "{}", t.engine);
    }
}
