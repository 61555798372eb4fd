//! What subscribers are told of, and by whom.

use super::*;
use crate::domain::event;
use crate::store::testing::stores;

#[tokio::test]
async fn a_dispatch_is_told_of_once_and_of_two_tellers_one_is_heard() {
    for t in stores().await {
        let store = &t.store;
        people(store, 3).await;
        let d = planned(store, 3, 10, 1).await;
        let mut seen = store.watched_dispatches(NOON).await.unwrap();
        assert_eq!(seen.iter().map(|w| w.now.no).collect::<Vec<_>>(), [d.no], "{}", t.engine);
        let stale = seen.clone();
        let now = seen[0].now.clone();
        let events = event::of_dispatch(&mut seen[0].mark, &now, NOON);
        assert!(store.lay_down_events(&seen, &events).await.unwrap());
        assert!(!store.lay_down_events(&stale, &events).await.unwrap(), "{}: nobody tells twice", t.engine);
        let pending = store.pending_events(9).await.unwrap();
        assert_eq!(pending.len(), events.len());
        assert_eq!(pending[0].topic, "dispatch.created");
        assert!(pending[0].body.contains(&pending[0].id), "{}: told again, it is the same", t.engine);
        store.forget_events(pending[0].no).await.unwrap();
        assert_eq!(store.pending_events(9).await.unwrap(), pending[1..]);
        // It is watched until its end has been told.
        let mut seen = store.watched_dispatches(NOON).await.unwrap();
        assert!(event::of_dispatch(&mut seen[0].mark, &now, NOON).is_empty());
        seen[0].mark.finished = true;
        assert!(store.lay_down_events(&seen, &[]).await.unwrap());
        assert!(store.watched_dispatches(NOON).await.unwrap().is_empty(), "{}", t.engine);
        // Older ones are history.
        planned(store, 1, 10, 1).await;
        assert!(store.watched_dispatches(NOON + 1).await.unwrap().is_empty());
        assert_eq!(store.watched_dispatches(NOON).await.unwrap().len(), 1);
    }
}
