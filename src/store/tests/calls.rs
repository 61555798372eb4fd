//! Calls of duty officers: who is asked, in which order, and what a confirmation does.

use super::*;
use crate::domain::calls::{How, round};
use crate::domain::item::Lane;
use crate::domain::recipient::Phone;
use crate::store::calls::Confirming;
use crate::store::points::OfficerRecord;
use crate::store::recipients::Keep;
use crate::store::testing::stores;

const CALLED: (i64, i64, i64) = (11, 12, 13);

/// A town (10) with three villages; two people in each of the first two and one in the
/// hamlet (14) of the third. The town and the first two villages have officers.
async fn register(store: &Store) {
    let regions = [
        "10, NULL, '甲镇', 'town'",
        "11, 10, '东村', 'village'",
        "12, 10, '西村', 'village'",
        "13, 10, '南村', 'village'",
        "14, 13, '河边组', 'custom'",
    ];
    insert(store, "regions (no, parent_no, name, level)", &regions.map(String::from)).await;
    let pairs =
        ["10,10", "10,11", "11,11", "10,12", "12,12", "10,13", "13,13", "10,14", "13,14", "14,14"].map(String::from);
    insert(store, "region_closure (ancestor, descendant)", &pairs).await;
    let all: Vec<String> =
        [(1, 11), (2, 11), (3, 12), (4, 12), (5, 14)].iter().map(|(no, g)| format!("{no}, 1, 1, {g}, 0")).collect();
    insert(store, "recipients (no, kind, counted, region_no, updated_at)", &all).await;
    let officer = |region_no, role: &str, place, phone: &str| OfficerRecord {
        region_no,
        role: role.into(),
        place,
        name: "张三".into(),
        phone: Phone::parse(phone).unwrap(),
    };
    let officers = [
        officer(11, "村支书", 1, "13911110001"),
        officer(11, "村支书", 2, "13911110002"),
        officer(12, "村支书", 1, "0873-5550001"),
        officer(12, "村支书", 2, "13911110003"),
        officer(10, "镇值班员", 1, "13911110009"),
    ];
    store.put_officers(&officers, Keep::Commit).await.unwrap();
}

/// A live dispatch to all five, in its steps after the snapshot.
async fn alerted(store: &Store) -> Dispatch {
    register(store).await;
    let item = approved(store).await;
    let made = store.create_dispatch(&order(&item, 0)).await.unwrap();
    store.snapshot_chunk(&job(&made, &[sms(10)]), &[1, 2, 3, 4, 5], true).await.unwrap();
    again(store, &made).await
}

/// Plans one step of a call as the planner does; how many were asked, and the call.
async fn ask(store: &Store, about: i64, call: &Dispatch, step: i32) -> (i64, Dispatch) {
    let villages = store.called_villages(about).await.unwrap();
    let (asks, further) = round(&villages, call.no);
    let channels = [sms(10)];
    let job = Chunking { next_step_at: further.then_some(NOON + 60_000), ..job(call, &channels) };
    let chunk = store.call_step(&job, step, &asks).await.unwrap();
    (chunk.deliveries, again(store, call).await)
}

/// The gateway takes all that a call has asked.
async fn hand_over(store: &Store, call: i64) {
    let sql = format!("UPDATE deliveries SET state = 3, handed_at = {NOON} WHERE dispatch_no = {call} AND state = 1");
    execute(store, sql).await;
}

fn by_hand(about_no: i64, region_no: i64) -> Confirming<'static> {
    Confirming { about_no, region_no, how: How::Telephone, question: None, operator: "甲", at: NOON + 30_000 }
}

#[tokio::test]
async fn officers_are_asked_in_turn_and_the_towns_after_the_villages_own() {
    for t in stores().await {
        let store = &t.store;
        let about = alerted(store).await;
        let call = store.create_call(&about, Plan::parse("sms > 1m > sms > 1m > sms").unwrap(), "甲").await.unwrap();
        assert_eq!((call.mode, call.lane, call.expires_at), (Mode::Call, Lane::Call.number(), about.expires_at));
        assert_eq!(store.called_about(&call).await.unwrap().no, about.no);
        let villages = store.called_villages(about.no).await.unwrap();
        let (east, west, south) = CALLED;
        let chains: Vec<_> = villages
            .iter()
            .map(|v| (v.region_no, v.officers.iter().map(|o| (o.by_sms, o.phone.as_str())).collect::<Vec<_>>()))
            .collect();
        let town = (true, "139****0009");
        let expected = [
            (east, vec![(true, "139****0001"), (true, "139****0002"), town]),
            (south, vec![town]),
            (west, vec![(false, "087***01"), (true, "139****0003"), town]),
        ];
        let mut chains = chains;
        chains.sort_by_key(|c| [east, south, west].iter().position(|r| *r == c.0));
        assert_eq!(chains, expected, "{}", t.engine);
        let (asked, call) = ask(store, about.no, &call, 0).await;
        assert_eq!((asked, call.phase.as_str(), call.step_due_at), (3, "waiting", Some(NOON + 60_000)));
        assert_eq!((call.members, call.deliveries), (0, 3), "{}", t.engine);
        let linked = format!("SELECT COUNT(*) FROM delivery_members WHERE dispatch_no = {}", call.no);
        assert_eq!(store.probe_count(linked).await, 0, "a call tells no member");
        hand_over(store, call.no).await;
        assert!(store.confirm(&by_hand(about.no, west)).await.unwrap());
        store.begin_step(&call, 1).await.unwrap();
        let (asked, call) = ask(store, about.no, &again(store, &call).await, 1).await;
        assert_eq!((asked, call.phase.as_str()), (1, "waiting"), "the east's second; the south has nobody else");
        store.begin_step(&call, 2).await.unwrap();
        let (asked, call) = ask(store, about.no, &again(store, &call).await, 2).await;
        assert_eq!((asked, call.phase.as_str(), call.step_due_at), (1, "done", None), "the town's, about the east");
        let of_town = format!(
            "SELECT COUNT(DISTINCT variant) FROM deliveries WHERE dispatch_no = {} AND step IN (0, 2) AND target = \
                               (SELECT phone_id FROM duty_officers WHERE region_no = 10)",
            call.no
        );
        assert_eq!(store.probe_count(of_town).await, 2, "one number, two villages: {}", t.engine);
    }
}

#[tokio::test]
async fn a_confirmation_raises_its_delivery_once_and_ends_the_call() {
    for t in stores().await {
        let store = &t.store;
        let about = alerted(store).await;
        let call = store.create_call(&about, Plan::parse("sms > 1m > sms").unwrap(), "甲").await.unwrap();
        let (_, call) = ask(store, about.no, &call, 0).await;
        let officer = Phone::mobile("13911110001").unwrap();
        assert!(store.open_calls_of(&officer).await.unwrap().is_empty(), "nothing was handed over yet");
        hand_over(store, call.no).await;
        let open = store.open_calls_of(&officer).await.unwrap();
        assert_eq!(open.len(), 1, "{}", t.engine);
        let (east, west, south) = CALLED;
        assert_eq!((open[0].about_no, open[0].region_no), (about.no, east));
        let question = (call.no, open[0].ordinal);
        let link = Confirming { how: How::Link, question: Some(question), operator: "", ..by_hand(about.no, east) };
        assert!(store.confirm(&link).await.unwrap());
        assert!(!store.confirm(&Confirming { at: NOON + 40_000, ..link }).await.unwrap(), "pressed twice");
        assert!(store.open_calls_of(&officer).await.unwrap().is_empty());
        let row = rows(store, call.no).await.into_iter().find(|r| r.ordinal == question.1).unwrap();
        assert_eq!(row.state(), State::Confirmed);
        let shown = store.question(question.0, question.1).await.unwrap().unwrap();
        assert_eq!(
            (shown.place.as_str(), shown.confirmed_at, shown.how.as_deref()),
            ("甲镇东村", Some(NOON + 30_000), Some("link"))
        );
        assert_eq!(store.question(about.no, 1).await.unwrap(), None, "no question of a call");
        assert_eq!(again(store, &call).await.phase, "waiting");
        assert_eq!(store.village_of(14).await.unwrap(), south, "a hamlet's village");
        assert!(store.confirm(&by_hand(about.no, south)).await.unwrap());
        assert!(store.confirm(&by_hand(about.no, west)).await.unwrap());
        let done = again(store, &call).await;
        assert_eq!((done.phase.as_str(), done.step_due_at), ("done", None), "{}", t.engine);
        assert!(rows(store, call.no).await.iter().all(|r| r.state() == State::Confirmed), "by hand too");
        let villages = store.called_villages(about.no).await.unwrap();
        assert!(villages.iter().all(|v| v.took() == Some(30_000)), "{villages:?}");
        assert_eq!(store.verify_audit().await.unwrap().map(|n| n > 0), Ok(true));
    }
}

#[tokio::test]
async fn a_call_goes_with_what_it_is_about() {
    for t in stores().await {
        let store = &t.store;
        let about = alerted(store).await;
        let plan = || Plan::parse("sms > 1m > sms").unwrap();
        let call = store.create_call(&about, plan(), "甲").await.unwrap();
        assert!(store.create_call(&call, plan(), "甲").await.is_err(), "no call about a call");
        assert_eq!(store.calls_about(about.no).await.unwrap().len(), 1);
        store.steer_dispatch(about.no, "paused", "甲").await.unwrap();
        assert_eq!(again(store, &call).await.state, "paused", "{}", t.engine);
        store.steer_dispatch(about.no, "cancelled", "甲").await.unwrap();
        assert_eq!(again(store, &call).await.state, "cancelled", "{}", t.engine);
        let about = again(store, &about).await;
        assert!(store.create_call(&about, plan(), "甲").await.is_err(), "nobody is called about what is off");
    }
}
