//! Posting receipts, and the sheets that take the place of one another.

use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::points::{BOARD, following, snapshot, tree};
use super::*;
use crate::domain::item::Relation;
use crate::domain::serial::Serial;
use crate::store::postings::{Action, Keep, Posting, Recorded};
use crate::store::testing::stores;

/// A person in a village with two boards (and a keeper with a phone, made up).
async fn village(store: &Store) {
    tree(store).await;
    insert(store, "recipients (no, kind, counted, region_no, updated_at)", &["100, 1, 1, 4, 0".into()]).await;
    insert(store, "addresses (id, kind, hash, sealed, gone)", &[phone_row(store, 5, 0)]).await;
    let rows = ["1, 'c1', '村委会', 'board', 4, 5".to_owned(), "2, NULL, '广场', 'board', 2, NULL".to_owned()];
    insert(store, "points (no, code, name, kind, region_no, phone_id)", &rows).await;
}

async fn printed(store: &Store, item: &Item) -> Dispatch {
    let d = snapshot(store, &order(item, 2), "TRUE", &mut StdRng::seed_from_u64(1)).await;
    let lease = store.lease_batches(BOARD, "w", -1..=2, 1).await.unwrap().remove(0);
    let marked = store.turn(BOARD, &[BatchTurn { mark: vec![1, 2], ..turn(lease) }]).await.unwrap().remove(0);
    assert_eq!(marked, [1, 2]);
    let change = super::super::turn::PRINTED;
    let word = |ordinal, code: &str| Record { change, code: code.into(), ..taken(ordinal, &[]) };
    let records = vec![word(1, "printed"), word(2, "missing glyphs: U+364D")];
    store.turn(BOARD, &[BatchTurn { records, close: true, ..turn(lease) }]).await.unwrap();
    again(store, &d).await
}

fn posting(ordinal: i64, action: Action, at: Option<i64>) -> Posting {
    Posting { ordinal, action, at, by: Some("王芳".into()), take_down_at: None }
}

async fn say(store: &Store, d: &Dispatch, said: &[Posting]) -> Vec<Recorded> {
    store.record_postings(d, &[BOARD], said, ("甲", Keep::Commit)).await.unwrap()
}

#[tokio::test]
async fn a_sheet_is_printed_then_posted_then_taken_down_and_each_is_said_once() {
    for t in stores().await {
        let store = &t.store;
        village(store).await;
        let item = approved(store).await;
        let d = printed(store, &item).await;
        assert_eq!(states(store, d.no).await, [State::Printed, State::Printed], "{}", t.engine);
        assert!(rows(store, d.no).await.iter().all(|r| r.handed_at == Some(NOON + 1) && r.reached_at.is_none()));
        // Finished as soon as it is printed: nothing is left to gong but the last step's end.
        execute(store, format!("UPDATE dispatches SET phase = 'done' WHERE no = {}", d.no)).await;
        assert!(store.finish_dispatch(d.no, &[BOARD], &mut 0).await.unwrap());
        let until = Posting { take_down_at: Some(NOON + DAY), ..posting(1, Action::Posted, Some(NOON - 500)) };
        let down = posting(1, Action::TakenDown, Some(NOON));
        assert_eq!(say(store, &d, std::slice::from_ref(&until)).await, [Recorded::New]);
        assert_eq!(say(store, &d, &[until, posting(1, Action::Posted, None)]).await, [Recorded::Known; 2]);
        assert_eq!(rows(store, d.no).await[0].state(), State::Posted);
        assert_eq!(
            say(store, &d, &[down.clone(), posting(9, Action::Posted, None)]).await,
            [Recorded::New, Recorded::NoSheet]
        );
        assert_eq!(say(store, &d, &[down]).await, [Recorded::Known]);
        // Posted and taken down in one table, and a date that comes later.
        let both = [posting(2, Action::Posted, Some(NOON - 9)), posting(2, Action::TakenDown, None)];
        assert_eq!(say(store, &d, &both).await, [Recorded::New; 2]);
        let dated = Posting { take_down_at: Some(NOON + 5), ..posting(2, Action::Posted, Some(NOON - 9)) };
        assert_eq!(say(store, &d, &[dated]).await, [Recorded::Known]);
        let found: Vec<_> = rows(store, d.no).await.iter().map(|r| (r.state(), r.reached_at)).collect();
        assert_eq!(found, [(State::TakenDown, Some(NOON - 500)), (State::TakenDown, Some(NOON - 9))]);
        let kept = store.postings(d.no).await.unwrap();
        let kept: Vec<_> = kept
            .iter()
            .map(|p| (p.ordinal, p.action.as_str(), p.at, p.take_down_at, p.by(&store.vault, d.no)))
            .collect();
        let by = || "王*".to_owned();
        assert_eq!(
            kept,
            [
                (1, "posted", NOON - 500, Some(NOON + DAY), by()),
                (1, "taken_down", NOON, None, by()),
                (2, "posted", NOON - 9, Some(NOON + 5), by()),
                (2, "taken_down", NOON, None, by()),
            ]
        );
        let open = "SELECT COUNT(*) FROM audit WHERE action IN ('posted', 'taken_down') AND detail NOT LIKE '%王%'";
        assert_eq!(store.probe_count(open.into()).await, 4, "{}", t.engine);
        assert!(store.verify_audit().await.unwrap().is_ok());
    }
}

#[tokio::test]
async fn what_was_called_off_is_not_posted_and_what_is_no_sheet_neither() {
    for t in stores().await {
        let store = &t.store;
        village(store).await;
        let d = printed(store, &approved(store).await).await;
        execute(store, format!("UPDATE deliveries SET state = 13 WHERE dispatch_no = {} AND ordinal = 1", d.no)).await;
        execute(store, format!("UPDATE deliveries SET state = 8 WHERE dispatch_no = {} AND ordinal = 2", d.no)).await;
        let said = say(store, &d, &[posting(1, Action::Posted, None), posting(2, Action::Posted, None)]).await;
        // Nobody knew whether the second was printed; whoever hangs it knows.
        assert_eq!(said, [Recorded::Not(State::Cancelled), Recorded::New]);
        let other = [posting(2, Action::TakenDown, None)];
        let said = store.record_postings(&d, &[SMS], &other, ("甲", Keep::Commit)).await.unwrap();
        assert_eq!(said, [Recorded::NoSheet], "{}", t.engine);
        let tried = store.record_postings(&d, &[BOARD], &other, ("甲", Keep::RollBack)).await.unwrap();
        assert_eq!((tried, rows(store, d.no).await[1].state()), (vec![Recorded::New], State::Posted));
    }
}

#[tokio::test]
async fn sheets_know_their_place_and_what_they_replace() {
    for t in stores().await {
        let store = &t.store;
        village(store).await;
        let item = approved(store).await;
        let first = printed(store, &item).await;
        let sheets = store.sheets(first.no, &[BOARD]).await.unwrap();
        let places: Vec<_> = sheets.iter().map(|s| (s.place(), s.keeper_phone(&store.vault))).collect();
        // The board of the town stands before those of its villages, or after; both are there.
        assert!(places.contains(&("r2 · r4 · 村委会".to_owned(), "139***05".to_owned())), "{places:?}");
        assert!(places.contains(&("r2 · 广场".to_owned(), String::new())), "{places:?}");
        assert!(store.sheets(first.no, &[SMS]).await.unwrap().is_empty());
        assert_eq!(
            store.sheet_words(first.no, "missing glyphs:").await.unwrap(),
            [("missing glyphs: U+364D".to_owned(), 1)]
        );
        say(store, &first, &[posting(1, Action::Posted, None)]).await;
        say(store, &first, &[posting(2, Action::TakenDown, None)]).await;

        let correction = following(store, Relation::Corrects, &item).await;
        let second = printed(store, &correction).await;
        let interpretation = printed(store, &following(store, Relation::Interprets, &item).await).await;
        let by_ordinal = store.sheets(second.no, &[BOARD]).await.unwrap();
        let hangs = sheets.iter().find(|s| s.ordinal == 1).unwrap().point_no;
        let before = store.sheets_before(&second, &[BOARD]).await.unwrap();
        assert_eq!(before.len(), 1, "what is down need not be taken down");
        let serial = Serial { dispatch_no: first.no, ordinal: 1 };
        assert_eq!((before[&hangs][0].serial, before[&hangs][0].title.as_str()), (serial, "停水通知"));
        assert!(store.sheets_before(&interpretation, &[BOARD]).await.unwrap().is_empty(), "{}", t.engine);
        let after = store.sheets_after(&first, &[BOARD]).await.unwrap();
        let there = by_ordinal.iter().find(|s| s.point_no == hangs).unwrap();
        assert_eq!(after[&hangs].last().unwrap().serial, there.serial(second.no));
        assert!(
            after.values().flatten().all(|r| r.serial.dispatch_no == second.no),
            "an interpretation replaces nothing"
        );
        let successor = store.successor(&first).await.unwrap().unwrap();
        assert_eq!(successor.item_id, correction.id);
        assert!(store.successor(&second).await.unwrap().is_none());
    }
}
