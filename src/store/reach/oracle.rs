//! The report against a slow and obvious count over random histories.

mod worlds;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use crate::domain::delivery::State;
use crate::domain::reach::{ChannelKind, ChannelKinds};
use crate::store::testing::{NOON, stores};
use worlds::{Delivery, Household, Member, World, above, world, write};
pub(super) use worlds::{LINKS, MEMBERS, insert, new_dispatch};

const WORLDS: i64 = 200;
const SMS: i32 = 1;
const MAIL: i32 = 2;
const BOARD: i32 = 3;
const VISIT: i32 = 4;
/// In the ledger, yet declared nowhere any more.
const GONE: i32 = 5;
const PRICE: i64 = 45;

fn kinds() -> ChannelKinds {
    ChannelKinds::from([
        (SMS, ChannelKind::Electronic { receipts: true, price_milli: PRICE }),
        (MAIL, ChannelKind::Electronic { receipts: false, price_milli: 0 }),
        (BOARD, ChannelKind::Point),
        (VISIT, ChannelKind::Visit),
    ])
}

fn electronic(d: &Delivery) -> bool {
    d.channel != BOARD && d.channel != VISIT
}

fn reached(d: &Delivery) -> bool {
    d.reached.is_some() || d.seen.is_some() || matches!(d.state, State::Delivered | State::Read | State::Confirmed)
}

fn handed(d: &Delivery) -> bool {
    d.handed.is_some() || reached(d) || matches!(d.state, State::Sent | State::Undelivered)
}

fn seen(d: &Delivery) -> bool {
    d.seen.is_some() || matches!(d.state, State::Read | State::Confirmed)
}

/// The deliveries to a member, with how each comes to it.
fn of<'a>(w: &'a World, m: &'a Member) -> impl Iterator<Item = (&'a Delivery, i32)> {
    w.deliveries.iter().filter_map(|d| d.to.iter().find(|(to, _)| *to == m.ordinal).map(|(_, via)| (d, *via)))
}

fn told(w: &World, m: &Member) -> bool {
    of(w, m).any(|(d, _)| d.channel == VISIT && (d.state == State::Told || d.reached.is_some()))
}

fn reason(w: &World, m: &Member) -> Option<&'static str> {
    let mine: Vec<_> = of(w, m).map(|(d, _)| d).filter(|d| electronic(d)).collect();
    if mine.iter().any(|d| reached(d)) || told(w, m) {
        return None;
    }
    let in_state = |d: &Delivery, states: &[State]| states.contains(&d.state);
    let still = [State::Planned, State::Queued, State::Retry, State::Deferred];
    let silent = [State::Sending, State::Sent, State::Unknown, State::Uncertain];
    let no_word = |d: &&Delivery| in_state(d, &silent) || (in_state(d, &still) && d.handed.is_some());
    Some(if mine.is_empty() {
        "no_address"
    } else if mine.iter().all(|d| d.state == State::Suppressed) {
        "opted_out"
    } else if mine.iter().any(no_word) {
        "no_word"
    } else if mine.iter().any(|d| in_state(d, &still)) {
        "pending"
    } else if m.away && !mine.iter().any(|d| handed(d)) {
        "away"
    } else if mine.iter().any(|d| in_state(d, &[State::Failed, State::Undelivered])) {
        "failed"
    } else {
        "cancelled"
    })
}

fn count_people(w: &World, members: &[&Member]) -> Value {
    let count = |test: &dyn Fn(&Member) -> bool| members.iter().filter(|m| test(m)).count();
    let any =
        |test: &dyn Fn(&Delivery, i32) -> bool| count(&|m| of(w, m).any(|(d, via)| electronic(d) && test(d, via)));
    let why = |name: &str| count(&|m| reason(w, m) == Some(name));
    let all = any(&|d, _| reached(d));
    let direct = any(&|d, via| reached(d) && [1, 3, 4].contains(&via));
    let known = count(&|m| reason(w, m).is_none());
    let accept_only = |d: &Delivery| handed(d) && d.channel != SMS && electronic(d);
    json!({
        "audience": members.len(), "addressable": any(&|_, _| true), "handed_over": any(&|d, _| handed(d)),
        "reached": all, "reached_direct": direct, "reached_via_household": all - direct,
        "told_in_person": count(&|m| told(w, m)), "informed": known, "seen": any(&|d, _| seen(d)),
        "unreached": members.len() - known,
        "unreached_by_reason": {
            "no_address": why("no_address"), "opted_out": why("opted_out"), "away": why("away"),
            "failed": why("failed"), "no_word": why("no_word"), "pending": why("pending"),
            "cancelled": why("cancelled"),
        },
        "accept_only": count(&|m| reason(w, m).is_some() && of(w, m).any(|(d, _)| accept_only(d))),
        "reached_before_effect":
            any(&|d, _| w.effective.is_some_and(|effect| d.reached.is_some_and(|at| at < effect))),
    })
}

fn home(w: &World, no: i64) -> Option<&Household> {
    let found = w.households.iter().find(|h| h.no == no)?;
    w.households.iter().find(|h| h.no == found.merged_into.unwrap_or(no))
}

/// The regions of the audience's households, and of the covered ones; one entry a household.
fn households(w: &World) -> (Vec<i64>, Vec<i64>) {
    let mut mine = BTreeMap::new();
    for h in w.members.iter().filter_map(|m| home(w, m.household.unwrap_or(m.recipient))) {
        mine.insert(h.no, h.region);
    }
    let mut covered = BTreeMap::new();
    for d in w.deliveries.iter().filter(|d| d.channel == BOARD) {
        if d.state == State::Posted || (d.state == State::TakenDown && d.reached.is_some()) {
            let point = w.points.iter().find(|p| p.no == d.target).unwrap();
            let serves = |h: &Household| {
                if point.households.is_empty() && point.regions.is_empty() {
                    // Points hang in the first region of their world.
                    above(w, h.region).contains(&(w.dispatch * 1_000 + 1))
                } else if point.households.is_empty() {
                    above(w, h.region).iter().any(|r| point.regions.contains(r))
                } else {
                    point.households.contains(&h.no)
                }
            };
            for h in w.households.iter().filter(|h| h.status == 1 && serves(h)).filter_map(|h| home(w, h.no)) {
                covered.insert(h.no, h.region);
            }
        }
    }
    (mine.into_values().collect(), covered.into_values().collect())
}

fn count_channel(w: &World, channel: i32) -> Value {
    let all: Vec<_> = w.deliveries.iter().filter(|d| d.channel == channel).collect();
    let count = |test: &dyn Fn(&Delivery) -> bool| all.iter().filter(|d| test(d)).count();
    let is = |states: &[State]| count(&|d| states.contains(&d.state));
    let out = |d: &Delivery| match channel {
        BOARD => [State::Printed, State::Posted, State::TakenDown].contains(&d.state),
        VISIT => true,
        _ => handed(d),
    };
    let arrived = |d: &Delivery| match channel {
        BOARD => d.state == State::Posted || (d.state == State::TakenDown && reached(d)),
        VISIT => d.state == State::Told || reached(d),
        _ => reached(d),
    };
    let (name, evidence) = match channel {
        SMS => ("sms", "receipts"),
        MAIL => ("mail", "accept_only"),
        BOARD => ("board", "posted"),
        VISIT => ("visit", "told"),
        _ => ("#5", "accept_only"),
    };
    let parts: i64 = all.iter().filter(|d| out(d)).map(|d| d.parts).sum();
    json!({
        "channel": name,
        "evidence": evidence,
        "deliveries": all.len(), "handed_over": count(&out), "reached": count(&arrived), "seen": count(&seen),
        "failed": is(&[State::Failed, State::Absent, State::Moved, State::Refused]),
        "undelivered": is(&[State::Undelivered]), "unknown": is(&[State::Unknown]),
        "suppressed": is(&[State::Suppressed]), "cancelled": is(&[State::Cancelled]),
        "pending": is(&[State::Planned, State::Queued, State::Sending, State::Retry, State::Uncertain, State::Deferred]),
        "waiting": is(&[State::Sent, State::Printed, State::Listed]),
        "parts": parts, "cost_milli": if channel == SMS { parts * PRICE } else { 0 },
    })
}

fn time_to(w: &World, percent: usize) -> Option<i64> {
    let first = |m| of(w, m).filter(|(d, _)| electronic(d)).filter_map(|(d, _)| d.reached).min();
    let mut times: Vec<i64> = w.members.iter().filter_map(first).collect();
    times.sort_unstable();
    let at = *times.get((w.members.len() * percent).div_ceil(100).checked_sub(1)?)?;
    Some(((at - NOON).max(0) + 999) / 1_000)
}

fn expect(w: &World) -> Value {
    let every: Vec<&Member> = w.members.iter().collect();
    let mut report = count_people(w, &every);
    let (mine, covered) = households(w);
    let inside = |homes: &[i64], region| homes.iter().filter(|h| above(w, **h).contains(&region)).count();
    let regions = w.regions.keys().filter_map(|region| {
        let members: Vec<&Member> = w.members.iter().filter(|m| above(w, m.region).contains(region)).collect();
        let (mine, covered) = (inside(&mine, *region), inside(&covered, *region));
        let mut row = count_people(w, &members);
        row["households"] = mine.into();
        row["covered_households"] = covered.into();
        (members.len() + mine + covered > 0).then(|| (region.to_string(), row))
    });
    report["by_region"] = Value::Object(regions.collect());
    let groups = [1, 3].iter().filter_map(|group| {
        let members: Vec<&Member> = w.members.iter().filter(|m| m.groups.contains(group)).collect();
        (!members.is_empty()).then(|| (group.to_string(), count_people(w, &members)))
    });
    report["by_group"] = Value::Object(groups.collect());
    let used: BTreeSet<i32> = w.deliveries.iter().map(|d| d.channel).collect();
    let channels: Vec<Value> = used.iter().map(|c| count_channel(w, *c)).collect();
    let sum = |field: &str| channels.iter().filter_map(|c| c[field].as_i64()).sum::<i64>();
    report["parts"] = sum("parts").into();
    report["cost_milli"] = sum("cost_milli").into();
    report["by_channel"] = channels.into();
    report["households"] = mine.len().into();
    report["covered_households"] = covered.len().into();
    for percent in [50, 90, 99] {
        report[format!("time_to_{percent}_s")] = time_to(w, percent).into();
    }
    report
}

/// The report's rows keyed as the oracle keys them, without what only names them.
fn keyed(mut rows: Value, key: &str) -> Value {
    let keep = |mut row: Value| {
        let no = row[key].to_string();
        for name in [key, "parent_no", "code", "name", "level"] {
            row.as_object_mut().unwrap().remove(name);
        }
        (no, row)
    };
    Value::Object(rows.as_array_mut().unwrap().drain(..).map(keep).collect())
}

#[tokio::test]
async fn the_report_is_what_a_slow_count_says() {
    let mut rng = StdRng::seed_from_u64(20_260_601);
    let worlds: Vec<World> = (1..=WORLDS).map(|no| world(&mut rng, no)).collect();
    for t in stores().await {
        let mut tx = t.store.begin().await.unwrap();
        let names = [(SMS, "sms"), (MAIL, "mail"), (BOARD, "board"), (VISIT, "visit")];
        insert(&mut tx, "channels (no, name)", &names.map(|(no, name)| format!("{no}, '{name}'"))).await;
        let groups = ["1, 'a', 0".into(), "2, 'secret', 1".into(), "3, 'c', 0".into()];
        insert(&mut tx, "groups (no, name, sensitive)", &groups).await;
        for world in &worlds {
            write(&mut tx, world).await;
        }
        tx.commit().await.unwrap();
        for world in &worlds {
            let report = t.store.reach(world.dispatch, &kinds(), NOON).await.unwrap();
            let reasons: i64 = report.people.unreached_by_reason.list().iter().map(|(_, n)| n).sum();
            assert_eq!(reasons, report.people.unreached);
            let mut report = serde_json::to_value(report).unwrap();
            report["by_region"] = keyed(report["by_region"].take(), "region_no");
            report["by_group"] = keyed(report["by_group"].take(), "group_no");
            for (field, expected) in expect(world).as_object().unwrap() {
                assert_eq!(&report[field], expected, "{} world {} {field}", t.engine, world.dispatch);
            }
            pages_hold_the_unreached(&t.store, world).await;
        }
    }
}

async fn pages_hold_the_unreached(store: &crate::store::Store, world: &World) {
    let (mut after, mut found) = (0, Vec::new());
    loop {
        let page = store.unreached(world.dispatch, &kinds(), after, 7).await.unwrap();
        let Some(last) = page.last() else { break };
        after = last.ordinal;
        found.extend(page.iter().map(|row| (row.ordinal, row.reason.name())));
    }
    let expected: Vec<_> = world.members.iter().filter_map(|m| Some((m.ordinal, reason(world, m)?))).collect();
    assert_eq!(found, expected, "world {}", world.dispatch);
    assert_eq!(found.iter().collect::<HashSet<_>>().len(), found.len());
}
