//! Nothing goes out that is not an approved version, in whatever order people act.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;
use crate::domain::item::Relation;
use crate::store::testing::stores;
use crate::store::trial::TrialTarget;

#[tokio::test]
async fn only_an_approved_current_version_is_sent() {
    for t in stores().await {
        let store = &t.store;
        let (author, reviewer) = staff(store).await;
        let draft = store.add_item(&content("一"), &author).await.unwrap();
        assert!(store.create_dispatch(&order(&draft, 2)).await.is_err(), "{}", t.engine);
        store.approve_item(&draft, ApprovalType::Review, &reviewer, "同意").await.unwrap();
        let sent = store.create_dispatch(&order(&draft, 2)).await.unwrap();
        assert_eq!((sent.item_version, sent.state.as_str(), sent.phase.as_str()), (1, "active", "snapshot"));

        let edited = store.edit_item(&draft, &content("二"), &author).await.unwrap();
        assert_eq!((edited.version, edited.state.as_str()), (2, "draft"));
        assert!(store.create_dispatch(&order(&edited, 2)).await.is_err());
        assert!(store.create_dispatch(&order(&draft, 2)).await.is_err(), "an old version is not the current one");
        assert!(store.approve_item(&draft, ApprovalType::Review, &reviewer, "").await.is_err());
        assert!(store.edit_item(&draft, &content("三"), &reviewer).await.is_err(), "edited from an old view");
        store.approve_item(&edited, ApprovalType::FastLane, &author, "").await.unwrap();
        assert_eq!(store.unsigned_fast_lanes(NOON + 1).await.unwrap(), [edited.no]);
        store.create_dispatch(&order(&edited, 0)).await.unwrap();
        store.approve_item(&edited, ApprovalType::Second, &reviewer, "").await.unwrap();
        assert!(store.unsigned_fast_lanes(NOON + 1).await.unwrap().is_empty());
        let kinds: Vec<_> =
            store.approvals(&draft.id).await.unwrap().iter().map(|a| (a.version, a.r#type.clone())).collect();
        assert_eq!(kinds.len(), 3);
        assert!(kinds.contains(&(1, "review".into())) && kinds.contains(&(2, "second".into())));

        store.cancel_item(&edited, &author).await.unwrap();
        assert!(store.create_dispatch(&order(&edited, 2)).await.is_err());
        assert!(store.approve_item(&edited, ApprovalType::Review, &reviewer, "").await.is_err());
        assert!(store.edit_item(&edited, &content("四"), &author).await.is_err());
        // What was sent sends what it was made of.
        assert_eq!(store.item_version(&sent.item_id, sent.item_version).await.unwrap().title, "一");
        assert_eq!(store.dispatches_of(&draft.id).await.unwrap().len(), 2);
    }
}

/// Two people act on what they last saw, at once.
#[tokio::test]
async fn no_interleaving_sends_what_nobody_approved() {
    for t in stores().await {
        let mut rng = StdRng::seed_from_u64(20_260_601);
        let (a, b) = staff(&t.store).await;
        for round in 0..12 {
            let first = t.store.add_item(&content("通知"), &a).await.unwrap();
            let mut views = [first.clone(), first.clone()];
            let mut cancelled_at = None;
            for _ in 0..14 {
                let [one, two] = &mut views;
                let (x, y) = (rng.random_range(0..10), rng.random_range(0..10));
                tokio::join!(act(&t.store, one, &a, x), act(&t.store, two, &b, y));
                check(&t.store).await;
                let now = t.store.item(&first.id).await.unwrap();
                let sent = t.store.dispatches_of(&first.id).await.unwrap().len();
                if now.state == "cancelled" {
                    assert_eq!(*cancelled_at.get_or_insert(sent), sent, "{} round {round}", t.engine);
                }
            }
        }
        let sent = t.store.probe_count("SELECT COUNT(*) FROM dispatches".into()).await;
        assert!(sent > 10, "the histories are too dull: {sent}");
    }
}

async fn act(store: &Store, seen: &mut Item, by: &Operator, what: u32) {
    match what {
        0 | 1 => *seen = store.item(&seen.id).await.unwrap(),
        2 | 3 => {
            if let Ok(newer) = store.edit_item(seen, &content(&by.name), by).await {
                *seen = newer;
            }
        }
        4 | 5 => drop(store.approve_item(seen, ApprovalType::Review, by, "").await),
        6 if seen.version > 3 => drop(store.cancel_item(seen, by).await.unwrap()),
        _ => drop(store.create_dispatch(&order(seen, 2)).await),
    }
}

async fn check(store: &Store) {
    let unapproved = "SELECT COUNT(*) FROM dispatches d WHERE NOT EXISTS (SELECT 1 FROM approvals a \
                      WHERE a.item_id = d.item_id AND a.version = d.item_version)";
    assert_eq!(store.probe_count(unapproved.into()).await, 0);
    let wrong = "SELECT COUNT(*) FROM items i WHERE i.version <> (SELECT MAX(v.version) FROM item_versions v WHERE v.item_id = i.id) \
                 OR (i.state = 'approved' AND NOT EXISTS (SELECT 1 FROM approvals a WHERE a.item_id = i.id AND a.version = i.version))";
    assert_eq!(store.probe_count(wrong.into()).await, 0);
}

#[tokio::test]
async fn a_new_version_brings_its_own_relations() {
    for t in stores().await {
        let store = &t.store;
        let (author, _) = staff(store).await;
        let old = store.add_item(&content("旧"), &author).await.unwrap();
        let other = store.add_item(&content("别的"), &author).await.unwrap();
        let related =
            |to: &Item| Content { relations: vec![(Relation::Lifts, to.no.to_string())], ..content("解除") };
        let item = store.add_item(&related(&other), &author).await.unwrap();
        assert_eq!(store.chain_of(&item.id).await.unwrap(), [other.id.as_str()]);
        store.edit_item(&item, &related(&old), &author).await.unwrap();
        assert_eq!(store.chain_of(&item.id).await.unwrap(), [old.id.as_str()], "{}", t.engine);
    }
}

#[tokio::test]
async fn a_dispatch_is_steered_only_where_it_makes_sense() {
    for t in stores().await {
        let store = &t.store;
        people(store, 2).await;
        let d = planned(store, 2, 10, 2).await;
        let steer = |to: &'static str| store.steer_dispatch(d.no, to, "甲");
        assert!(steer("active").await.is_err());
        steer("paused").await.unwrap();
        assert!(steer("paused").await.is_err());
        steer("active").await.unwrap();
        steer("paused").await.unwrap();
        steer("cancelled").await.unwrap();
        assert!(steer("active").await.is_err());
        assert!(steer("cancelled").await.is_err());
        let counts = store.delivery_counts(d.no).await.unwrap();
        assert_eq!(counts.iter().map(|c| (c.channel, c.state, c.n)).collect::<Vec<_>>(), [(SMS, 1, 2)]);
        assert_eq!(store.open_states().await.unwrap(), [(d.no, "cancelled".to_owned(), d.expires_at)]);
        assert_eq!(store.dispatch(&d.id[..13]).await.unwrap().no, d.no);
        assert!(store.dispatch("99").await.is_err());
    }
}

#[tokio::test]
async fn a_test_goes_to_the_given_phones_and_has_no_members() {
    for t in stores().await {
        let store = &t.store;
        people(store, 1).await;
        let item = approved(store).await;
        let on =
            |channel: i32, kind: AddressKind, address: &str| TrialTarget { channel, kind, address: address.into() };
        let mut targets =
            ["13900000001", "13900000777", "13900000777"].map(|p| on(SMS, AddressKind::Phone, p)).to_vec();
        targets.push(on(SMS + 1, AddressKind::Email, "a@example.com"));
        // A second phone channel gets them, too.
        targets.push(on(SMS + 2, AddressKind::Phone, "13900000001"));
        // The counter starts where the people above end.
        execute(store, "UPDATE counters SET value = 1 WHERE name = 'address'").await;
        let new = NewDispatch { mode: Mode::Test, ..order(&item, 0) };
        let d = store.create_test_dispatch(&new, &targets).await.unwrap();
        assert_eq!((d.members, d.deliveries, d.phase.as_str()), (0, 4, "done"), "{}", t.engine);
        let waiting = store.load_batch(lease(store).await).await.unwrap();
        assert_eq!(waiting[0].target, 1, "a known phone keeps its address");
        assert!(waiting.iter().all(|w| w.recipient_no.is_none()));
        assert_eq!(waiting.len(), 2);
        let kinds = "SELECT d.channel || ':' || a.kind FROM deliveries d JOIN addresses a ON a.id = d.target ORDER BY d.channel, d.ordinal";
        assert_eq!(store.probe_lines(kinds.into()).await, ["1:1", "1:1", "2:2", "3:1"], "{}", t.engine);
    }
}
