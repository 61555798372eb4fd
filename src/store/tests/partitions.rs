//! The ranges of the ledger: made ahead, filled, and taken out.

use super::*;
use crate::store::StoreError;
use crate::store::testing::stores;

#[tokio::test]
async fn ranges_are_made_with_the_dispatches_and_go_when_they_are_purged() {
    for t in stores().await {
        let store = &t.store;
        let item = approved(store).await;
        if t.engine == "sqlite" {
            assert_eq!(store.ranges().await.unwrap(), []);
            assert!(matches!(store.detach_range(0, "甲").await, Err(StoreError::Refused(_))));
            continue;
        }
        let first = store.create_dispatch(&order(&item, 2)).await.unwrap();
        assert_eq!(first.no, 1);
        execute(store, "UPDATE counters SET value = 149 WHERE name = 'dispatch'").await;
        let second = store.create_dispatch(&order(&item, 2)).await.unwrap();
        assert_eq!(second.no, 150);
        for no in [1, 150] {
            let into = "deliveries (dispatch_no, ordinal, step, channel, target, variant, state, batch)";
            insert(store, into, &[format!("{no}, 1, 0, 1, 1, 0, 5, 0")]).await;
        }
        let bounds = async || store.ranges().await.unwrap().iter().map(|r| (r.from, r.to)).collect::<Vec<_>>();
        assert_eq!(bounds().await, [(0, 100), (100, 200)]);
        // A range that is full is left before its numbers are used up.
        execute(store, "UPDATE dispatches SET deliveries = 100000000 WHERE no = 150").await;
        assert_eq!(store.create_dispatch(&order(&item, 2)).await.unwrap().no, 200);
        assert_eq!(bounds().await, [(0, 100), (100, 200), (200, 300)]);

        for (from, why) in [(0, "not purged"), (200, "the newest"), (50, "not there")] {
            assert!(matches!(store.detach_range(from, "甲").await, Err(StoreError::Refused(_))), "{why}");
        }
        execute(store, "UPDATE dispatches SET purged_at = 1, finished_at = 1 WHERE no = 1").await;
        let gone = store.detach_range(0, "甲").await.unwrap();
        assert_eq!(gone.len(), 5);
        assert_eq!(bounds().await, [(100, 200), (200, 300)]);
        assert_eq!(states(store, 1).await, []);
        assert_eq!(states(store, 150).await.len(), 1);
        assert_eq!(store.probe_count("SELECT COUNT(*) FROM detached_deliveries_0".into()).await, 1);
    }
}
