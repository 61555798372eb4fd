//! What nobody knows, and what settles it: lost answers, wrong credentials, a gateway
//! that is not there.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use gong::app::App;
use gong::clock::Clock;
use gong::domain::delivery::{Reason, State};
use gong::loopback::{Behaviour, Loopback, Span};
use uuid::Uuid;

use crate::ledger::Ledger;
use crate::rig::{self, SOON, delivery_of, until};
use crate::site::{ALERT, NOTICE, Site, credentials, finished, gateway, in_state, wish};

const QUICKLY: &str = "[retry]\ninitial_ms = 20\nmax_ms = 200\nsettle_ms = 100";

/// Not even that it was taken is said later.
fn silent() -> Behaviour {
    Behaviour { no_receipt: 1.0, disordered: 1.0, ..Behaviour::default() }
}

/// (dispatch, delivery) of every attempt that the ledger says nobody heard back from.
async fn flagged(site: &Site) -> HashSet<(i64, i64)> {
    let ledger = Ledger::open(&site.database()).await;
    let rows = ledger.pairs("SELECT dispatch_no, ordinal, attempt FROM tries WHERE class = 6").await;
    ledger.close().await;
    rows.into_iter().map(|(d, o, _)| (d, o)).collect()
}

async fn all_in(app: &App, no: i64, state: State, n: i64) {
    until(&format!("{n} {state:?}"), SOON, async || in_state(app, no, state).await == n).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_without_an_answer_is_repeated_under_its_id_and_flagged() {
    let gateway = gateway(Behaviour { lost_answer: 0.3, ..silent() }).await;
    let mut site = Site::new().await.with(QUICKLY).with_kannel(gateway.addr, "rate = 1000");
    let app = site.open().await;
    site.settle(&app, 300).await;
    let item = site.approve(&app, ALERT).await;
    let serving = site.serve(&app).await;
    let dispatch = site.send(&app, &item, &wish("all", "sms")).await;
    all_in(&app, dispatch.no, State::Sent, 270).await;
    let mut taken: BTreeMap<Uuid, u64> = BTreeMap::new();
    let mut ids: BTreeMap<(i64, i64), HashSet<Uuid>> = BTreeMap::new();
    for entry in rig::log(gateway.addr).await {
        taken.insert(entry.client_id, entry.n);
        ids.entry(delivery_of(&app, &entry)).or_default().insert(entry.client_id);
    }
    assert!(ids.values().all(|ids| ids.len() == 1), "a repeat bears the id of what it repeats");
    let flagged = flagged(&site).await;
    let twice: HashSet<(i64, i64)> =
        ids.iter().filter(|(_, ids)| ids.iter().any(|id| taken[id] > 1)).map(|(key, _)| *key).collect();
    assert!(twice.len() > 40, "{}", twice.len());
    assert!(twice.is_subset(&flagged), "what the gateway has twice is flagged");
    serving.stop().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_routine_notice_without_an_answer_waits_for_its_receipt() {
    // The receipts come when they have been given up.
    let late =
        Behaviour { lost_answer: 0.5, disordered: 1.0, receipt_delay: Span::fixed(4_000), ..Behaviour::default() };
    let gateway = gateway(late).await;
    let limits = "rate = 1000, in_flight = 16, receipt_wait = \"2s\"";
    let mut site = Site::new().await.with(QUICKLY).with_kannel(gateway.addr, limits);
    let app = site.open().await;
    site.settle(&app, 100).await;
    let item = site.approve(&app, NOTICE).await;
    let serving = site.serve(&app).await;
    let dispatch = site.send(&app, &item, &wish("all", "sms")).await;
    until("half wait", SOON, async || in_state(&app, dispatch.no, State::Uncertain).await > 20).await;
    let done = finished(&app, dispatch.no, SOON).await;
    assert_eq!(in_state(&app, done.no, State::Unknown).await, 90);
    assert_eq!(gateway.stats().messages, 90, "none was repeated");
    all_in(&app, done.no, State::Delivered, 90).await;
    assert_eq!(gateway.stats().messages, 90);
    assert_eq!(
        i64::try_from(flagged(&site).await.len()).unwrap(),
        i64::try_from(gateway.stats().lost_answers).unwrap()
    );
    serving.stop().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_gateway_knows_a_repeat_nothing_is_doubled() {
    let gateway = gateway(Behaviour { lost_answer: 0.4, half_answer: 0.1, dedupe: true, ..silent() }).await;
    let mut site = Site::new().await.with(QUICKLY).with_json(gateway.addr, "rate = 1000, idempotent = true");
    let app = site.open().await;
    site.settle(&app, 200).await;
    let item = site.approve(&app, NOTICE).await;
    let serving = site.serve(&app).await;
    let dispatch = site.send(&app, &item, &wish("all", "sms")).await;
    all_in(&app, dispatch.no, State::Sent, 180).await;
    let stats = gateway.stats();
    assert_eq!((stats.messages, stats.duplicates), (180, 0), "{stats:?}");
    assert!(stats.repeats > 50, "{stats:?}");
    serving.stop().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_stop_the_channel_and_fail_nothing() {
    let gateway = gateway(Behaviour { receipt_delay: Span::fixed(20), ..Behaviour::default() }).await;
    let mut site = Site::new().await.with_kannel(gateway.addr, "rate = 1000, in_flight = 4");
    let password = site.dir.path().join("data/password");
    std::fs::write(&password, "wrong").unwrap();
    let app = site.open().await;
    site.settle(&app, 200).await;
    let item = site.approve(&app, ALERT).await;
    let serving = site.serve(&app).await;
    let dispatch = site.send(&app, &item, &wish("all", "sms")).await;
    until("refused", SOON, async || gateway.stats().refused > 0).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let refused = gateway.stats().refused;
    assert!(refused <= 8, "{refused} requests after the first was refused");
    assert_eq!(in_state(&app, dispatch.no, State::Failed).await, 0);
    assert_eq!(in_state(&app, dispatch.no, State::Sending).await, 0, "nothing is left in doubt while it stops");
    serving.stop().await;
    app.store.close().await;
    std::fs::write(&password, "pass").unwrap();
    let app = site.open().await;
    let serving = site.serve(&app).await;
    let done = finished(&app, dispatch.no, SOON).await;
    assert_eq!(in_state(&app, done.no, State::Delivered).await, 180);
    assert_eq!(gateway.stats().duplicates, 0);
    serving.stop().await;
    gateway.stop().await;
}

/// An address of this machine where nobody listens, and will when the test wants it.
fn nobody() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_down_costs_no_attempt() {
    let addr = nobody();
    let mut site = Site::new()
        .await
        .with("[retry]\ninitial_ms = 20\nmax_ms = 100\nattempts = 2")
        .with_kannel(addr, "rate = 1000, in_flight = 8");
    let app = site.open().await;
    site.settle(&app, 200).await;
    let item = site.approve(&app, ALERT).await;
    let serving = site.serve(&app).await;
    let dispatch = site.send(&app, &item, &wish("all", "sms")).await;
    let ledger = Ledger::open(&site.database()).await;
    // Long enough for every message to have spent its two attempts, were they counted.
    let tries = async || ledger.count("SELECT COUNT(*) FROM tries WHERE class = 7").await;
    until("several tries", SOON, async || tries().await >= 2).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(in_state(&app, dispatch.no, State::Failed).await, 0);
    assert_eq!(ledger.count("SELECT MAX(failures) FROM deliveries").await, 0);
    let so_far = tries().await;
    assert!((3..=16).contains(&so_far), "{so_far} tries: the channel pauses between them");
    let gateway = Loopback::new(credentials(), Behaviour { receipt_delay: Span::fixed(20), ..Behaviour::default() });
    let gateway = gateway.start(addr).await.unwrap();
    let done = finished(&app, dispatch.no, SOON).await;
    assert_eq!(in_state(&app, done.no, State::Delivered).await, 180);
    assert_eq!(gateway.stats().messages, 180, "each once");
    ledger.assert_conserved().await;
    ledger.close().await;
    serving.stop().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_stays_down_ends_with_the_expiry() {
    let mut site = Site::new().await.with(QUICKLY).with_kannel(nobody(), "rate = 1000");
    let clock = Clock::held(1_780_000_000_000);
    let app = site.open_at(clock.clone()).await;
    site.settle(&app, 50).await;
    let item = site.approve(&app, &ALERT.replace("+++\n请", "expires_in = \"6h\"\n+++\n请")).await;
    let serving = site.serve(&app).await;
    let dispatch = site.send(&app, &item, &wish("all", "sms")).await;
    until("waiting", SOON, async || in_state(&app, dispatch.no, State::Retry).await > 0).await;
    clock.advance(6 * 3_600_000);
    let done = finished(&app, dispatch.no, SOON).await;
    assert_eq!(in_state(&app, done.no, State::Failed).await, 45);
    let ledger = Ledger::open(&site.database()).await;
    let reasons = ledger.pairs("SELECT reason, COUNT(*), 0 FROM deliveries GROUP BY reason").await;
    assert_eq!(reasons, [(i64::from(Reason::Expired.code()), 45, 0)]);
    ledger.close().await;
    serving.stop().await;
}
