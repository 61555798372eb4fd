//! Doors and what visits came to, on both engines. People and numbers are made up.

use super::super::oracle::{LINKS, MEMBERS, insert, new_dispatch};
use super::*;
use crate::domain::plan::{Plan, VISIT};
use crate::domain::reach::ChannelKind;
use crate::domain::recipient::purpose;
use crate::domain::visit::VisitResult;
use crate::store::recipients::Keep;
use crate::store::testing::{NOON, stores};
use crate::store::visits::{Knocked, Recorded, Visit};

const MINUTE: i64 = 60_000;

/// A household of two (one old, one deaf) whose text failed, and one who lives alone
/// without a phone; both on the list of the second step.
async fn two_doors(store: &Store) -> Result<(DoorList, ChannelKinds)> {
    let (sms, visit) = (store.channel_no("sms").await?, store.channel_no(VISIT).await?);
    let mut tx = store.begin().await?;
    new_dispatch(&mut tx, 1, NOON, None).await;
    let plan = serde_json::to_string(&Plan::parse("sms > 30m > visit").unwrap()).unwrap();
    exec!(&mut tx, sqlx::query("UPDATE dispatches SET plan = $1").bind(plan))?;
    insert(&mut tx, "regions (no, name, level)", &["1, '河口镇', 'town'".into()]).await;
    insert(&mut tx, "regions (no, name, level, parent_no)", &["2, '东村', 'village', 1".into()]).await;
    let closure = ["1, 1".into(), "1, 2".into(), "2, 2".into()];
    insert(&mut tx, "region_closure (ancestor, descendant)", &closure).await;
    let columns = "recipients (no, kind, counted, household_no, region_no, born, needs, attrs, updated_at)";
    let people = [
        "30, 2, 0, NULL, 2, NULL, '', '{\"住址\":\"三组5号\"}', 0".into(),
        "11, 1, 1, 30, 2, 19500101, '', '{}', 0".into(),
        "12, 1, 1, 30, 2, 19900101, ',hearing,', '{}', 0".into(),
        "13, 1, 1, NULL, 2, NULL, '', '{}', 0".into(),
    ];
    insert(&mut tx, columns, &people).await;
    for (no, name) in [(11, "张三"), (13, "王五")] {
        let name = store.vault.seal(Owner::Recipient(no), name.as_bytes());
        exec!(&mut tx, sqlx::query("UPDATE recipients SET name_sealed = $1 WHERE no = $2").bind(name).bind(no))?;
    }
    let home = store.vault.hash(purpose::EXT, "H1");
    exec!(&mut tx, sqlx::query("UPDATE recipients SET ext_hash = $1 WHERE no = 30").bind(home))?;
    let phone = store.vault.seal(Owner::Address(23), b"13900001234"); // made up
    let sql = "INSERT INTO addresses (id, kind, hash, sealed) VALUES (23, 1, $1, $2)";
    exec!(&mut tx, sqlx::query(sql).bind(store.vault.hash("phone", "13900001234")).bind(phone))?;
    let columns = "recipient_addresses (recipient_no, kind, priority, address_id, via)";
    insert(&mut tx, columns, &["12, 1, 1, 23, 1".into()]).await;
    let members = ["1, 5, 11, 30, 2, 0, ''".into(), "1, 6, 12, 30, 2, 1, ''".into(), "1, 9, 13, NULL, 2, 0, ''".into()];
    insert(&mut tx, MEMBERS, &members).await;
    let columns = "deliveries (dispatch_no, ordinal, step, channel, target, variant, state, batch, reason)";
    let gone = Reason::AddressGone.code();
    let deliveries = [
        format!("1, 1, 0, {sms}, 23, 0, {}, 0, {gone}", State::Failed.code()),
        format!("1, 2, 1, {visit}, 30, 0, {}, 0, 0", State::Listed.code()),
        format!("1, 3, 1, {visit}, 13, 0, {}, 0, 0", State::Listed.code()),
    ];
    insert(&mut tx, columns, &deliveries).await;
    let links =
        ["1, 5, 1, 2".into(), "1, 6, 1, 1".into(), "1, 5, 2, 1".into(), "1, 6, 2, 1".into(), "1, 9, 3, 1".into()];
    insert(&mut tx, LINKS, &links).await;
    tx.commit().await?;
    let kinds = ChannelKinds::from([
        (sms, ChannelKind::Electronic { receipts: true, price_milli: 0 }),
        (visit, ChannelKind::Visit),
    ]);
    Ok((store.door_list(&store.dispatch("1").await?).await?.unwrap(), kinds))
}

const OPEN: DoorFilter = DoorFilter { region_no: None, all: false, elderly: 19_660_601 };

#[tokio::test]
async fn doors_say_who_lives_there_and_why_somebody_knocks() {
    for t in stores().await {
        let (list, kinds) = two_doors(&t.store).await.unwrap();
        let mut doors = t.store.doors(&list, &kinds, OPEN).await.unwrap();
        doors.sort_by_key(|d| d.ordinal);
        let [home, alone] = doors[..] else { panic!("{}: {doors:?}", t.engine) };
        assert_eq!((list.row(home.ordinal), list.row(alone.ordinal)), (1, 2));
        assert_eq!((home.people, home.away, home.elderly, home.needs), (2, 1, 1, 1), "{}", t.engine);
        assert_eq!(home.failure, Some(Reason::AddressGone));
        assert_eq!((home.why, alone.why), (Some(Unreached::Away), Some(Unreached::NoAddress)));
        assert!(home.is_urgent() && !alone.is_urgent());
        let opened = t.store.open_doors(1, &doors).await.unwrap();
        assert_eq!((opened[0].name.as_str(), opened[1].name.as_str()), ("张三", "王五"));
        assert_eq!(opened[0].address.as_deref(), Some("三组5号"));
        assert_eq!(opened[0].phones, ["13900001234"]);
        assert!(opened[1].phones.is_empty() && opened[1].visit.is_none());
        let elsewhere = DoorFilter { region_no: Some(1), ..OPEN };
        assert_eq!(t.store.doors(&list, &kinds, elsewhere).await.unwrap().len(), 2);
        let nowhere = DoorFilter { region_no: Some(9), ..OPEN };
        assert!(t.store.doors(&list, &kinds, nowhere).await.unwrap().is_empty());
    }
}

fn visit(door: Knocked, result: VisitResult, at: Option<i64>) -> Visit {
    Visit { door, result, at, by: Some("李明".into()) }
}

#[tokio::test]
async fn results_follow_the_table_and_come_in_once() {
    for t in stores().await {
        let (store, engine) = (&t.store, t.engine);
        let (list, kinds) = two_doors(store).await.unwrap();
        let home = || Knocked::Household(store.vault.hash(purpose::EXT, "H1"));
        let first = [
            visit(Knocked::Row(2), VisitResult::Absent, Some(NOON)),
            visit(home(), VisitResult::Moved, None),
            visit(Knocked::Row(3), VisitResult::Told, None),
            visit(Knocked::Row(1), VisitResult::Refused, Some(NOON + MINUTE)),
        ];
        let tried = store.record_visits(&list, &first, ("甲", Keep::RollBack)).await.unwrap();
        let expected = [Recorded::Added, Recorded::Added, Recorded::NotListed, Recorded::Added];
        assert_eq!(tried, expected, "{engine}");
        assert_eq!(store.probe_count("SELECT COUNT(*) FROM visits".into()).await, 0);
        assert_eq!(store.record_visits(&list, &first, ("甲", Keep::Commit)).await.unwrap(), expected);
        let again = store.record_visits(&list, &first[..1], ("甲", Keep::Commit)).await.unwrap();
        assert_eq!(again, [Recorded::Unchanged], "{engine}");
        let later = [
            visit(Knocked::Row(2), VisitResult::Absent, Some(NOON + 2 * MINUTE)),
            visit(Knocked::Row(2), VisitResult::Told, Some(NOON + 2 * MINUTE)),
            visit(Knocked::Row(2), VisitResult::Absent, Some(NOON + 9 * MINUTE)),
            visit(home(), VisitResult::Told, None),
            visit(home(), VisitResult::Told, None),
        ];
        let expected =
            [Recorded::Added, Recorded::Added, Recorded::Closed(State::Told), Recorded::Added, Recorded::Unchanged];
        assert_eq!(store.record_visits(&list, &later, ("甲", Keep::Commit)).await.unwrap(), expected, "{engine}");
        assert_eq!(store.probe_count("SELECT COUNT(*) FROM visits".into()).await, 6);
        let reach = store.reach(1, &kinds, NOON).await.unwrap();
        assert_eq!((reach.people.told_in_person, reach.people.unreached), (3, 0), "{engine}");
        assert!(store.doors(&list, &kinds, OPEN).await.unwrap().is_empty());
        let all = store.doors(&list, &kinds, DoorFilter { all: true, ..OPEN }).await.unwrap();
        let opened = store.open_doors(1, &all).await.unwrap();
        assert!(all.iter().all(|d| d.state == State::Told && d.informed == d.people));
        assert!(opened.iter().all(|d| d.visit.as_ref().unwrap().1.as_deref() == Some("李明")));
        outcomes(store, &kinds, engine).await;
    }
}

/// The same as results of the members.
async fn outcomes(store: &Store, kinds: &ChannelKinds, engine: &str) {
    let members = store.member_order(1).await.unwrap();
    assert_eq!(members.len(), 3);
    let ordinals: Vec<i64> = members.iter().map(|m| m.row_no).collect();
    let found = store.outcomes(1, kinds, &ordinals).await.unwrap();
    let one = &found[&13];
    assert_eq!((one.channel.as_deref(), one.visit), (Some(VISIT), Some(State::Told)), "{engine}");
    // A second visit within the same minute is told apart.
    assert!(one.facts.unreached().is_none() && one.reached_at == Some(NOON + 2 * MINUTE + 1));
    let cards = store.name_cards(&[11, 12, 13], crate::channel::AddressKind::Phone).await.unwrap();
    assert_eq!((cards[&11].name.as_str(), cards[&12].address.as_str()), ("张三", "13900001234"));
    assert_eq!((cards[&13].address.as_str(), cards[&13].region_no), ("", 2));
}
