//! The pipeline from an approved item to reach, over real sockets.

use std::sync::Arc;
use std::time::Duration;

use gong::domain::delivery::State;
use gong::domain::reach::{ChannelKind, ChannelKinds};
use gong::loopback::Behaviour;
use gong::planner::Pace;
use tokio_util::sync::CancellationToken;

use crate::ledger::Ledger;
use crate::rig::stands;
use crate::site::{ALERT, NOTICE, Site, finished, gateway, in_state, wish};

const LIMIT: Duration = Duration::from_mins(1);

async fn kinds(app: &gong::app::App) -> ChannelKinds {
    let mut kinds = ChannelKinds::new();
    for way in app.ways().await.unwrap() {
        let limits = way.channel.limits();
        let receipts = limits.evidence == gong::channel::Evidence::Receipts;
        kinds.insert(way.no, ChannelKind::Electronic { receipts, price_milli: limits.price_milli });
    }
    kinds.insert(app.store.channel_no("visit").await.unwrap(), ChannelKind::Visit);
    kinds
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_reaches_everyone_with_a_phone() {
    let gateway = gateway(Behaviour { receipt_delay: "5".parse().unwrap(), ..Behaviour::default() }).await;
    let mut site = Site::new().await.with_kannel(gateway.addr, "rate = 5000, in_flight = 32");
    let app = site.open().await;
    site.settle(&app, 400).await;
    let serving = site.serve(&app).await;
    let item = site.approve(&app, ALERT).await;
    let prepared = app.prepare(&item, &wish("all", "sms"), "李四").await.unwrap();
    let dispatch = app.store.create_dispatch(&prepared.new).await.unwrap();
    let done = finished(&app, dispatch.no, LIMIT).await;
    let (own, household, none) = Site::shares(400);
    // What was sent is what the plan said, to the row.
    assert_eq!(done.members, prepared.preview.members);
    assert_eq!(done.deliveries, prepared.preview.deliveries);
    assert_eq!(done.members, 400);
    assert_eq!(prepared.preview.no_address, i64::try_from(none).unwrap());
    assert_eq!(in_state(&app, done.no, State::Delivered).await, done.deliveries);
    assert_eq!(i64::try_from(gateway.stats().messages).unwrap(), done.deliveries);
    assert_eq!(gateway.stats().duplicates, 0);
    let report = app.store.reach(done.no, &kinds(&app).await, app.store.now()).await.unwrap();
    assert_eq!(report.people.reached, i64::try_from(own + household).unwrap());
    assert_eq!(report.people.reached_via_household, i64::try_from(household).unwrap());
    assert_eq!(report.people.unreached, i64::try_from(none).unwrap());
    serving.stop().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_misbehaves_loses_nothing() {
    for json in [false, true] {
        let behaviour = Behaviour {
            temporary: 0.1,
            throttle: 0.1,
            lost_answer: 0.05,
            half_answer: 0.03,
            undelivered: 0.05,
            doubled: 0.3,
            disordered: 0.3,
            receipt_before_answer: 0.3,
            receipt_delay: "0-30".parse().unwrap(),
            retry_after: 0,
            ..Behaviour::default()
        };
        let gateway = gateway(behaviour).await;
        let site = Site::new().await.with("[retry]\ninitial_ms = 20\nmax_ms = 200\nsettle_ms = 100");
        let limits = "rate = 5000, in_flight = 32, timeout = \"5s\"";
        let mut site = if json { site.with_json(gateway.addr, limits) } else { site.with_kannel(gateway.addr, limits) };
        let app = site.open().await;
        site.settle(&app, 1_000).await;
        let serving = site.serve(&app).await;
        let item = site.approve(&app, ALERT).await;
        let dispatch = site.send(&app, &item, &wish("all", "sms")).await;
        let done = finished(&app, dispatch.no, LIMIT).await;
        let delivered = in_state(&app, done.no, State::Delivered).await;
        let undelivered = in_state(&app, done.no, State::Undelivered).await;
        let failed = in_state(&app, done.no, State::Failed).await;
        assert_eq!(
            delivered + undelivered + failed,
            done.deliveries,
            "json {json}: {:?}",
            app.store.delivery_counts(done.no).await
        );
        assert_eq!(failed, 0, "json {json}");
        assert!(undelivered > 0 && undelivered < done.deliveries / 8, "{undelivered}");
        // Where receipts carry the gateway's id, those of a lost answer cannot be matched:
        // its repeat was another message to the gateway. They stay, and count nothing.
        let lost = i64::try_from(gateway.stats().lost_answers).unwrap();
        let unmatched = app.store.unmatched_receipts().await.unwrap();
        assert!(unmatched <= if json { lost * 3 } else { 0 }, "json {json}: {unmatched} of {lost}");
        serving.stop().await;
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn those_not_reached_come_on_the_door_knock_list() {
    let gateway = gateway(Behaviour { no_receipt: 1.0, ..Behaviour::default() }).await;
    let mut site = Site::new().await.with_kannel(gateway.addr, "rate = 5000, receipt_wait = \"1s\"");
    let app = site.open().await;
    site.settle(&app, 100).await;
    let serving = site.serve(&app).await;
    let item = site.approve(&app, ALERT).await;
    let dispatch = site.send(&app, &item, &wish("区域:河口镇", "sms > 300ms > visit")).await;
    let done = finished(&app, dispatch.no, LIMIT).await;
    assert!(in_state(&app, done.no, State::Unknown).await > 0);
    let report = app.store.reach(done.no, &kinds(&app).await, app.store.now()).await.unwrap();
    assert_eq!(report.people.reached, 0);
    let listed = in_state(&app, done.no, State::Listed).await;
    assert!(listed > 0 && listed <= done.members, "{listed}");
    serving.stop().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_and_a_pause_hold_within_a_second() {
    let gateway = gateway(Behaviour::default()).await;
    let mut site = Site::new().await.with_kannel(gateway.addr, "rate = 50, in_flight = 8");
    let app = site.open().await;
    site.settle(&app, 600).await;
    let serving = site.serve(&app).await;
    let item = site.approve(&app, ALERT).await;
    let dispatch = site.send(&app, &item, &wish("all", "sms")).await;
    let sent = || gateway.stats().messages;
    until(|| sent() > 20).await;
    app.store.steer_dispatch(dispatch.no, "paused", "李四").await.unwrap();
    stands(&gateway).await;
    let held = sent();
    assert_eq!(in_state(&app, dispatch.no, State::Sending).await, 0);
    app.store.set_rate("sms", Some(400.0), "李四").await.unwrap();
    app.store.steer_dispatch(dispatch.no, "active", "李四").await.unwrap();
    until(|| sent() > held + 150).await;
    app.store.steer_dispatch(dispatch.no, "cancelled", "李四").await.unwrap();
    let done = finished(&app, dispatch.no, LIMIT).await;
    let cancelled = in_state(&app, done.no, State::Cancelled).await;
    assert!(cancelled > 0);
    assert_eq!(cancelled + i64::try_from(sent()).unwrap(), done.deliveries);
    serving.stop().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unapproved_version_is_refused() {
    let site = Site::new().await;
    let app = site.open().await;
    site.settle(&app, 10).await;
    let item = site.approve(&app, NOTICE).await;
    let prepared = app.prepare(&item, &wish("all", "rehearsal"), "李四").await.unwrap();
    let before = app.store.item(&item).await.unwrap();
    let mut content = before.content.clone();
    content.title.push('二');
    let author = app.store.acting(Some("张三")).await.unwrap();
    app.store.edit_item(&before, &content, &author).await.unwrap();
    let refused = app.store.create_dispatch(&prepared.new).await.unwrap_err();
    assert!(matches!(refused, gong::store::StoreError::Refused(_)), "{refused}");
    let again = app.prepare(&item, &wish("all", "rehearsal"), "李四").await.unwrap();
    assert!(app.store.create_dispatch(&again.new).await.is_err(), "version 2 has no approval");
}

async fn until(mut holds: impl FnMut() -> bool) {
    let end = tokio::time::Instant::now() + LIMIT;
    while !holds() {
        assert!(tokio::time::Instant::now() < end, "it never came to that");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Who stood still while another planned reads the audience anew.
#[tokio::test(flavor = "multi_thread")]
async fn two_planners_by_turns_write_nobody_twice() {
    const PEOPLE: usize = 13_000;
    let site = Site::new().await.with_kannel("127.0.0.1:9".parse().unwrap(), "rate = 5000");
    let app = site.open().await;
    site.settle(&app, PEOPLE).await;
    let item = site.approve(&app, NOTICE).await;
    let dispatch = site.send(&app, &item, &wish("all", "sms")).await;
    let mut planners = Vec::new();
    for _ in 0..2 {
        let planner = app.planner(Arc::default(), CancellationToken::new()).await.unwrap();
        planners.push((planner, Pace::default()));
    }
    let mut working = true;
    while working {
        for (planner, pace) in &mut planners {
            working = planner.step(pace).await.unwrap();
        }
    }
    let (own, household, none) = Site::shares(PEOPLE);
    let done = app.store.dispatch(&dispatch.no.to_string()).await.unwrap();
    assert_eq!(usize::try_from(done.members).unwrap(), PEOPLE);
    assert_eq!(own + household + none, PEOPLE);
    let ledger = Ledger::open(&site.database()).await;
    let twice = "SELECT recipient_no, COUNT(*), 0 FROM members GROUP BY recipient_no HAVING COUNT(*) > 1";
    assert!(ledger.pairs(twice).await.is_empty());
    ledger.assert_conserved().await;
    ledger.close().await;
}
