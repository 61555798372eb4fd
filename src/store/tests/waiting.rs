//! What of a batch is loaded, to be rendered and sent.

use super::*;
use crate::store::testing::stores;
use crate::store::waiting::Waiting;

/// How far apart the addresses of a batch may lie, from all in a row to here and there.
#[tokio::test]
async fn every_row_comes_with_its_own_address_and_variables() {
    for t in stores().await {
        let store = &t.store;
        people(store, 300).await;
        let d = planned(store, 6, 20, 1).await;
        let lease = lease(store).await;
        let vars = blob(store, b"sealed");
        execute(store, format!("UPDATE members SET vars_sealed = {vars} WHERE ordinal IN (2, 5)")).await;
        execute(store, "UPDATE deliveries SET variant = ordinal WHERE ordinal IN (2, 5)").await;
        execute(store, "UPDATE addresses SET gone = 1 WHERE id = 3").await;
        execute(store, "UPDATE deliveries SET attempt = 2, failures = 1 WHERE ordinal = 4").await;
        execute(store, format!("UPDATE deliveries SET state = {} WHERE ordinal = 6", State::Sent.code())).await;
        for far in [0, 290] {
            execute(store, format!("UPDATE deliveries SET target = target + {far} WHERE ordinal = 1")).await;
            let rows = store.load_batch(lease).await.unwrap();
            let seen: Vec<_> = rows.iter().map(|r| (r.ordinal, r.target, r.attempt, r.failures, r.gone)).collect();
            let expected = [
                (1, 1 + far, 1, 0, Some(0)),
                (2, 2, 1, 0, Some(0)),
                (3, 3, 1, 0, Some(1)),
                (4, 4, 2, 1, Some(0)),
                (5, 5, 1, 0, Some(0)),
            ];
            assert_eq!(seen, expected, "{}", t.engine);
            assert!(rows.iter().all(|r| opened(store, r) == format!("139{:08}", r.target)), "{}", t.engine);
            let own: Vec<_> = rows.iter().map(|r| (r.recipient_no, r.vars_sealed.as_deref())).collect();
            let (none, of) = ((None, None), |no| (Some(no), Some(&b"sealed"[..])));
            assert_eq!(own, [none, of(2), none, none, of(5)], "{}", t.engine);
        }
        // A point, or nobody in particular, has no address.
        execute(store, "UPDATE deliveries SET target = 0 WHERE ordinal = 1").await;
        let rows = store.load_batch(lease).await.unwrap();
        assert!(rows[0].address_sealed.is_none() && rows[0].gone.is_none(), "{}", t.engine);
        execute(store, format!("UPDATE deliveries SET state = 5 WHERE dispatch_no = {}", d.no)).await;
        assert!(store.load_batch(lease).await.unwrap().is_empty(), "{}", t.engine);
    }
}

fn opened(store: &Store, row: &Waiting) -> String {
    let sealed = row.address_sealed.as_ref().unwrap();
    store.vault.open_text(Owner::Address(row.target), sealed).unwrap()
}
