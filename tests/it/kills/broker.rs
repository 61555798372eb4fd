//! What a broker suffers in the middle of a dispatch: killed, wiped, full, poisoned; and
//! recipients whose data cannot be opened.

use std::collections::HashMap;

use gong::domain::delivery::{Reason, State};
use lapin::options::BasicGetOptions;
use lapin::types::AMQPValue;

use super::{Fleet, SLOW, SMALL, metric, rough, shows, told_to};
use crate::fleet::told_to_end;
use crate::rabbit::rig::{Broker, broker, own_broker};
use crate::rig::{SOON, delivery_of, until};
use crate::site::{finished, in_state};
use crate::support::postgres_server;

const URGENT: &str = "gong.sms.immediate";
/// Messages that are none of gong's.
const UNREADABLE: [&str; 5] = ["", "{\"batch\":", "{\"batch\":1,\"epoch\":\"x\"}", "\u{0}\u{1}", "none of ours"];

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_is_killed_and_wiped() {
    let (Some(server), Some(broker)) = (postgres_server(), own_broker().await) else { return };
    let fleet = Fleet::on(&server, &broker.settings(), SMALL, (rough(6), 2_500)).await.with_probe().await;
    let (planner, one, other) = (fleet.plan("planner"), fleet.work("one"), fleet.work("other"));
    fleet.rate(SLOW).await;
    let dispatch = fleet.load().await;
    fleet.goes_on(100).await;
    for verbs in [&["kill", "start"][..], &["wipe"], &["kill", "start"]] {
        for verb in verbs {
            broker.run(&[verb]);
        }
        fleet.recovered(&format!("the broker: {}", verbs.join(", "))).await;
        fleet.all_work(2).await;
        until("both consume", SOON, async || broker.depth(URGENT).await.is_some_and(|(_, c)| c == 2)).await;
        fleet.goes_on(50).await;
        fleet.assert_conserved().await;
    }
    fleet.rate(3_000.0).await;
    fleet.balanced(dispatch, 0).await;
    for process in [one, other, planner] {
        told_to_end(process).await;
    }
    fleet.end().await;
}

/// Some of the queues are so short that the broker refuses, some messages are none of
/// ours, and the addresses of three people do not open: everybody else is reached.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_poison_batches_and_poison_recipients_harm_nobody_else() {
    let (Some(server), Some(broker)) = (postgres_server(), broker().await) else { return };
    let fleet = Fleet::on(&server, &broker.settings(), SMALL, (rough(7), 1_500)).await.with_probe().await;
    let spoil = "UPDATE addresses SET sealed = decode('00ff', 'hex') WHERE id IN \
                 (SELECT id FROM addresses ORDER BY id OFFSET 700 LIMIT 3)";
    sqlx::query(spoil).execute(&fleet.pool).await.unwrap();
    let short =
        ["set_policy", "-p", &broker.name, "short", "^gong[.]sms", "{\"max-length\":1}", "--apply-to", "queues"];
    broker.ctl(&short);
    let (planner, one, other) = (fleet.plan("planner"), fleet.work("one"), fleet.work("other"));
    until("they consume", SOON, async || broker.depth(URGENT).await.is_some_and(|(_, c)| c == 2)).await;
    fleet.rate(300.0).await;
    let dispatch = fleet.alert().await;
    until("a queue is full", SOON, async || metric(&fleet, "gong_queue_refused_total").await > Some(0.0)).await;
    for poison in UNREADABLE.into_iter().chain(["{\"batch\":99999999,\"epoch\":0}"]) {
        // Somebody else's message may have the one place.
        until("there is room for it", SOON, async || broker.try_publish(URGENT, poison).await).await;
    }
    broker.ctl(&["clear_policy", "-p", &broker.name, "short"]);
    fleet.recovered("the broker's queues were full, and poisoned").await;
    let done = finished(&fleet.app, dispatch, SOON).await;
    let (arrived, failed) =
        (in_state(&fleet.app, dispatch, State::Delivered).await, in_state(&fleet.app, dispatch, State::Failed).await);
    assert_eq!((arrived, failed), (done.deliveries - 3, 3), "{:?}", fleet.app.store.delivery_counts(dispatch).await);
    let words = fleet.count("SELECT COUNT(*) FROM tries WHERE code = 'sealed data does not open'").await;
    assert_eq!(words, 3);
    fleet.ledger.assert_whole(dispatch, fleet.people).await;
    fleet.ledger.assert_settled().await;
    let log = crate::rig::log(fleet.gateway.addr).await;
    assert_eq!(fleet.ledger.assert_flagged(&fleet.app.store.vault, &log).await.missing, 3);
    let channel = broker.channel().await;
    let mut buried = Vec::new();
    until("what is none of ours is with the dead letters", SOON, async || {
        while let Some(dead) = channel.basic_get("gong.dead".into(), BasicGetOptions { no_ack: true }).await.unwrap() {
            let headers = dead.delivery.properties.headers().clone().expect("a reason");
            let ours = headers.inner().contains_key("x-gong-reason") && headers.inner().contains_key("x-gong-queue");
            assert!(ours || headers.inner().contains_key("x-death"), "{headers:?}");
            assert!(ours || !UNREADABLE.iter().any(|u| u.as_bytes() == dead.delivery.data), "{headers:?}");
            buried.push(dead.delivery.data.clone());
        }
        UNREADABLE.iter().all(|unreadable| buried.iter().any(|body| body == unreadable.as_bytes()))
    })
    .await;
    println!("{} dead letters", buried.len());
    for process in [one, other, planner] {
        told_to_end(process).await;
    }
    fleet.end().await;
}

/// Takes the first of `n` messages and dies of it, again and again, until the broker has
/// buried one; how often each was taken.
async fn die_of_the_first(broker: &Broker, queue: &str, n: u32) -> HashMap<Vec<u8>, u32> {
    let mut taken = HashMap::new();
    loop {
        let mut buried = 0;
        until("it is back, or buried", SOON, async || {
            buried = broker.depth("gong.dead").await.unwrap().0;
            buried > 0 || broker.depth(queue).await.unwrap().0 >= n
        })
        .await;
        if buried > 0 {
            return taken;
        }
        assert!(taken.values().sum::<u32>() < 200, "{taken:?}");
        let channel = broker.channel().await;
        if let Some(message) = channel.basic_get(queue.into(), BasicGetOptions::default()).await.unwrap() {
            *taken.entry(message.delivery.data.clone()).or_default() += 1;
        }
        channel.close(200, "died".into()).await.unwrap();
    }
}

/// A broker buries what was taken too often and never acknowledged, and tells nobody:
/// gong says how many it has, and publishes what such a message stood for again.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_comes_back_too_often_is_buried_by_the_broker_and_its_batch_goes_all_the_same() {
    let (Some(server), Some(broker)) = (postgres_server(), broker().await) else { return };
    let fleet = Fleet::on(&server, &broker.settings(), SMALL, (rough(16), 800)).await;
    let planner = fleet.plan("planner");
    let dispatch = fleet.alert().await;
    let done = "SELECT COUNT(*) FROM dispatches WHERE phase = 'done'";
    let rest = "SELECT COUNT(*) FROM batches WHERE published_epoch <> epoch";
    until("it lies with the broker", SOON, async || fleet.count(done).await == 1 && fleet.count(rest).await == 0).await;
    let n = u32::try_from(fleet.count("SELECT COUNT(*) FROM batches").await).unwrap();
    assert!(n > 3, "{n} batches");
    shows(&fleet, "gong_queue_dead_letters", 0.0).await;

    let taken = die_of_the_first(&broker, URGENT, n).await;
    shows(&fleet, "gong_queue_dead_letters", 1.0).await;
    let said = fleet.log_of("planner");
    assert!(said.contains("dead letters lie in gong.dead"), "{said}");
    assert!(!said.contains("NOT_FOUND"), "that a new broker has no queues is no error: {said}");
    until("it is published again", SOON, async || broker.depth(URGENT).await.unwrap().0 >= n).await;
    assert!(metric(&fleet, "gong_queue_lost_total").await > Some(0.0));
    fleet.assert_conserved().await;

    let worker = fleet.work("worker");
    fleet.rate(3_000.0).await;
    fleet.balanced(dispatch, 0).await;
    let channel = broker.channel().await;
    let dead = channel.basic_get("gong.dead".into(), BasicGetOptions { no_ack: true }).await.unwrap().unwrap().delivery;
    let times = taken.get(&dead.data).copied().unwrap_or_default();
    assert!(times > 20, "taken {times} times");
    let headers = dead.properties.headers().clone().unwrap();
    let header = |name: &str| match headers.inner().get(name) {
        Some(AMQPValue::LongString(text)) => text.to_string(),
        other => panic!("{name}: {other:?}"),
    };
    assert_eq!(
        (header("x-first-death-reason"), header("x-first-death-queue")),
        ("delivery_limit".into(), URGENT.into())
    );
    assert!(headers.inner().contains_key("x-death") && !headers.inner().contains_key("x-gong-reason"));
    shows(&fleet, "gong_queue_dead_letters", 0.0).await;
    for process in [worker, planner] {
        told_to_end(process).await;
    }
    fleet.end().await;
}

/// How many deliveries of a dispatch are put off for want of something that people mend.
async fn put_off(fleet: &Fleet, dispatch: i64) -> i64 {
    let sql = "SELECT COUNT(*) FROM deliveries WHERE dispatch_no = $1 AND state = $2 AND reason = $3";
    let asked = sqlx::query_scalar(sql).bind(dispatch).bind(State::Deferred.code()).bind(Reason::Misconfigured.code());
    asked.fetch_one(&fleet.pool).await.unwrap()
}

/// Changes the item of a dispatch in the store, past every check.
async fn change_item(fleet: &Fleet, dispatch: i64, body: &'static str) {
    let sql = format!(
        "UPDATE item_versions SET body = {body} WHERE item_id = (SELECT item_id FROM dispatches WHERE no = {dispatch})"
    );
    sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&fleet.pool).await.unwrap();
}

/// Messages that can be read, of batches that cannot be made ready: their item was damaged
/// in the store once they were planned. Another was damaged before.
#[tokio::test(flavor = "multi_thread")]
async fn batches_that_cannot_be_prepared_stop_nobody_and_go_once_mended() {
    let (Some(server), Some(broker)) = (postgres_server(), broker().await) else { return };
    let heard = tempfile::NamedTempFile::new().unwrap();
    let fleet = Fleet::on(&server, &(broker.settings() + &told_to(&heard)), SMALL, (rough(15), 400)).await;
    let fleet = fleet.with_probe().await;
    fleet.rate(1_000.0).await;
    let (worse, poison, sound) = (fleet.alert().await, fleet.alert().await, fleet.alert().await);
    change_item(&fleet, worse, "'{' || body").await;
    let planner = fleet.plan("planner");
    let done = "SELECT COUNT(*) FROM dispatches WHERE phase = 'done'";
    until("both others are planned", SOON, async || fleet.count(done).await == 2).await;
    change_item(&fleet, poison, "'{' || body").await;
    let (one, other) = (fleet.work("one"), fleet.work("other"));
    for dispatch in [sound, fleet.alert().await] {
        let done = finished(&fleet.app, dispatch, SOON).await;
        assert_eq!(in_state(&fleet.app, dispatch, State::Delivered).await, done.deliveries, "those behind it go on");
    }
    let all = fleet.app.store.dispatch(&poison.to_string()).await.unwrap();
    until("all of it is put off", SOON, async || put_off(&fleet, poison).await == all.deliveries).await;
    assert!(all.deliveries > 200 && all.finished_at.is_none(), "{all:?}");
    let log = crate::rig::log(fleet.gateway.addr).await;
    assert!(log.iter().all(|entry| delivery_of(&fleet.app, entry).0 != poison), "nothing of it has left");
    fleet.assert_conserved().await;
    let said = fleet.log_of("one") + &fleet.log_of("other");
    assert!(said.contains("cannot be prepared; put off"), "{said}");
    let rings = || std::fs::read_to_string(heard.path()).unwrap();
    let alarms = [format!("unready:sms:{poison} begins"), format!("unready:{worse} begins")];
    until("operators are told", SOON, async || alarms.iter().all(|alarm| rings().contains(alarm))).await;

    for dispatch in [poison, worse] {
        change_item(&fleet, dispatch, "substr(body, 2)").await;
    }
    // They are tried every minute, and at once by a worker that is new.
    told_to_end(one).await;
    let third = fleet.work("third");
    fleet.recovered("batches that could not be prepared were mended").await;
    for dispatch in [poison, worse] {
        fleet.balanced(dispatch, 0).await;
    }
    let told = |alarm: &String| rings().matches(alarm).count();
    assert_eq!([&alarms[0], &alarms[1]].map(told), [1, 1], "once, whoever saw it: {}", rings());
    for process in [third, other, planner] {
        told_to_end(process).await;
    }
    fleet.end().await;
}
