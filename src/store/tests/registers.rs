//! Channels, operators, counters and the schema.

use super::*;
use crate::store::StoreError;
use crate::store::migrate::known_version;
use crate::store::testing::stores;

#[tokio::test]
async fn a_channel_keeps_its_number_and_its_settings() {
    for t in stores().await {
        let store = &t.store;
        let numbers = tokio::join!(store.channel_no("sms"), store.channel_no("sms"), store.channel_no("mail"));
        let (a, b, c) = (numbers.0.unwrap(), numbers.1.unwrap(), numbers.2.unwrap());
        assert!(a == b && a != c, "{}", t.engine);
        store.set_rate("sms", Some(12.5), "甲").await.unwrap();
        store.pause_channel("mail", true, "甲").await.unwrap();
        let all = store.channels().await.unwrap();
        let row = |no| all.iter().find(|c| c.no == no).unwrap();
        assert_eq!((row(a).rate, row(a).paused, row(c).rate, row(c).paused), (Some(12.5), 0, None, 1));
        store.set_rate("sms", None, "甲").await.unwrap();
        store.pause_channel("mail", false, "甲").await.unwrap();
        assert!(store.channels().await.unwrap().iter().all(|c| c.rate.is_none() && c.paused == 0));
    }
}

#[tokio::test]
async fn operators_are_renewed_by_name_and_found() {
    for t in stores().await {
        let store = &t.store;
        assert!(store.acting(None).await.is_err());
        let unit = store.save_unit("甲局", "1").await.unwrap();
        assert_eq!(store.save_unit("甲局", "2").await.unwrap(), unit);
        let id = store.save_operator("张", &unit, &[Role::Author]).await.unwrap();
        assert_eq!(store.acting(None).await.unwrap().name, "张", "the only one");
        store.save_operator("李", &unit, &[Role::Reviewer]).await.unwrap();
        assert!(store.acting(None).await.is_err(), "which of them?");
        assert_eq!(store.save_operator("张", &unit, &[Role::Author, Role::Admin]).await.unwrap(), id);
        let acting = store.acting(None).await.unwrap();
        assert!(acting.name == "张" && acting.may(Role::Dispatcher), "{}", t.engine);
        assert_eq!(store.acting(Some(&id)).await.unwrap().unit, "甲局");
        let reviewer = store.acting(Some("李")).await.unwrap();
        assert!(reviewer.need(Role::Reviewer).is_ok() && reviewer.need(Role::Author).is_err());
        assert!(store.acting(Some("王")).await.is_err());
    }
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_an_old_one_backed_up() {
    for t in stores().await {
        let store = &t.store;
        let again = || crate::store::migrate::run(&store.pool, store.file.as_deref(), NOON);
        again().await.unwrap();
        let known = known_version();
        execute(store, format!("UPDATE _sqlx_migrations SET version = {} WHERE version = {known}", known + 1)).await;
        match again().await {
            Err(StoreError::Newer { found, known: ours }) => assert_eq!((found, ours), (known + 1, known)),
            other => panic!("{}: {other:?}", t.engine),
        }
    }
}
