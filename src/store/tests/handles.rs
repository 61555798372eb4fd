//! A gateway's ids, where one of them came more than once.

use super::*;
use crate::channel::{Receipt, ReceiptKey};
use crate::domain::delivery::Word;
use crate::store::testing::stores;

async fn delivered(store: &Store, id: &str) {
    let key = ReceiptKey::Gateway(id.into());
    let receipt = Receipt {
        key,
        word: Some(Word::Delivered),
        gone: false,
        code: "DELIVRD".into(),
        event_at: None,
        raw: "{}".into(),
    };
    assert_eq!(store.record_receipts(SMS, &[receipt]).await.unwrap().matched, 1);
}

async fn handed_over(store: &Store, ids: &[&str]) -> (Dispatch, Lease) {
    let d = planned(store, 1, 10, 1).await;
    let lease = lease(store).await;
    mark(store, lease, &[1]).await;
    record(store, lease, vec![taken(1, ids)]).await;
    (d, lease)
}

/// A turn of which nobody heard is repeated, and a gateway that knows repeats gives a new
/// attempt the ids of the old one: all parts are still looked for at one attempt.
#[tokio::test]
async fn ids_that_are_entered_again_speak_of_the_first_attempt() {
    for t in stores().await {
        let store = &t.store;
        people(store, 1).await;
        let (d, lease) = handed_over(store, &["p1", "p2"]).await;
        record(store, lease, vec![taken(1, &["p1", "p2"])]).await;
        delivered(store, "p1").await;
        record(store, lease, vec![Record { attempt: 2, ..taken(1, &["p1", "p2"]) }]).await;
        assert_eq!(states(store, d.no).await, [State::Sent], "{}", t.engine);
        delivered(store, "p2").await;
        assert_eq!(states(store, d.no).await, [State::Delivered], "{}", t.engine);
        assert_eq!(
            store.probe_lines("SELECT DISTINCT CAST(attempt AS TEXT) FROM receipts".into()).await,
            ["1"],
            "{}",
            t.engine
        );
    }
}

#[tokio::test]
async fn an_id_that_a_gateway_uses_again_is_the_newest_dispatchs() {
    for t in stores().await {
        let store = &t.store;
        people(store, 1).await;
        let (old, _) = handed_over(store, &["7"]).await;
        let (new, _) = handed_over(store, &["7"]).await;
        delivered(store, "7").await;
        assert_eq!(states(store, old.no).await, [State::Sent], "{}", t.engine);
        assert_eq!(states(store, new.no).await, [State::Delivered], "{}", t.engine);
    }
}

/// Of two dispatches whose ids lie side by side on many pages.
#[tokio::test]
async fn a_purge_takes_the_ids_of_its_dispatch_and_of_no_other() {
    for t in stores().await {
        let store = &t.store;
        people(store, 1).await;
        let (purged, kept) = (planned(store, 1, 10, 1).await.no, planned(store, 1, 10, 1).await.no);
        execute(
            store,
            format!(
                "INSERT INTO handles (channel, gateway_id, dispatch_no, ordinal, attempt, part, parts) \
                 WITH RECURSIVE n (o) AS (SELECT 1 UNION ALL SELECT o + 1 FROM n WHERE o < 50000) \
                 SELECT 1, 'id ' || o || ' of ' || d.no, d.no, o, 1, 1, 1 FROM n JOIN dispatches d ON d.no IN ({purged}, {kept})"
            ),
        )
        .await;
        store.drop_handles(purged).await.unwrap();
        let left =
            "SELECT CAST(dispatch_no AS TEXT) || ': ' || CAST(COUNT(*) AS TEXT) FROM handles GROUP BY dispatch_no";
        assert_eq!(store.probe_lines(left.into()).await, [format!("{kept}: 50000")], "{}", t.engine);
    }
}
