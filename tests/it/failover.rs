//! One channel over two gateways on sockets: one fails and comes back, and nothing is
//! lost or said twice unflagged.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use gong::app::App;
use gong::domain::delivery::State;
use gong::loopback::{Behaviour, Loopback, Running, Span};

use crate::ledger::Ledger;
use crate::rig::{self, SOON, delivery_of, until};
use crate::site::{ALERT, Site, credentials, finished, gateway, in_state, wish};

const RETRY: &str = "[retry]\ninitial_ms = 20\nmax_ms = 200\nsettle_ms = 100";

fn prompt() -> Behaviour {
    Behaviour { receipt_delay: Span::fixed(5), ..Behaviour::default() }
}

/// `[channels.sms]` over two gateways of one declaration.
fn both(declaration: &str, secrets: &str, limits: &str, addrs: [SocketAddr; 2]) -> String {
    let user = if declaration == "kannel" { ", username = \"gong\"" } else { "" };
    let one = |addr: SocketAddr| {
        format!(
            "{{ gateway = \"{declaration}\", vars = {{ url = \"http://{addr}\"{user} }}, secrets = {{ {secrets} }}, limits = {{ {limits} }} }}"
        )
    };
    let [a, b] = addrs.map(one);
    format!("[channels.sms]\nsignature = \"【河口应急】\"\ngateways = [\n{a},\n{b},\n]")
}

const KANNEL: &str = "password = \"file:data/password\", token = \"file:data/token\"";

/// How often each delivery was taken, over all gateways.
async fn taken(app: &App, gateways: &[&Running]) -> HashMap<(i64, i64), usize> {
    let mut all = HashMap::new();
    for gateway in gateways {
        for entry in rig::log(gateway.addr).await {
            *all.entry(delivery_of(app, &entry)).or_default() += 1;
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_errs_gives_way_and_comes_back() {
    let (a, b) = (gateway(prompt()).await, gateway(prompt()).await);
    let channel = both("kannel", KANNEL, "rate = 150, in_flight = 16", [a.addr, b.addr]);
    let mut site = Site::new().await.with(RETRY).with(&channel);
    let app = site.open().await;
    site.settle(&app, 2_200).await;
    let serving = site.serve(&app).await;
    let item = site.approve(&app, ALERT).await;
    let sent = site.send(&app, &item, &wish("all", "sms")).await;
    until("both take their share", SOON, async || a.stats().messages > 50 && b.stats().messages > 50).await;

    a.behave(Behaviour { temporary: 1.0, ..prompt() }).unwrap();
    let before = b.stats().messages;
    until("the other takes over", SOON, async || b.stats().messages > before + 300).await;
    let refused = a.stats().temporary;
    assert!(refused < 150, "{refused} went to the one that errs while the other took 300");

    let before = a.stats().messages;
    a.behave(prompt()).unwrap();
    let done = finished(&app, sent.no, SOON).await;
    assert!(a.stats().messages > before + 100, "it came back: {} {before}", a.stats().messages);
    assert_eq!(in_state(&app, done.no, State::Delivered).await, done.deliveries);
    let taken = taken(&app, &[&a, &b]).await;
    assert_eq!(i64::try_from(taken.len()).unwrap(), done.deliveries);
    assert!(taken.values().all(|n| *n == 1), "what was refused was not taken, so nobody is told twice");
    serving.stop().await;

    let ledger = Ledger::open(&site.database()).await;
    ledger.assert_sound().await;
    ledger.assert_conserved().await;
    let named = ledger.count("SELECT COUNT(*) FROM tries WHERE code LIKE 'kannel: %' OR code LIKE 'kannel-2: %'").await;
    assert_eq!(named, ledger.count("SELECT COUNT(*) FROM tries").await);
    for gateway in [
        "SELECT COUNT(*) FROM tries WHERE code LIKE 'kannel: %' AND class = 0",
        "SELECT COUNT(*) FROM tries WHERE code LIKE 'kannel-2: %' AND class = 0",
    ] {
        assert!(ledger.count(gateway).await > 100);
    }
    ledger.close().await;
}

/// Its socket closes altogether, and answers get lost; ids say whose they are.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_dies_costs_no_pause_and_no_unflagged_duplicate() {
    let lossy = || Behaviour { lost_answer: 0.05, ..prompt() };
    let (a, b) = (gateway(lossy()).await, gateway(lossy()).await);
    let addr = a.addr;
    let limits = "rate = 150, in_flight = 16, timeout = \"2s\", receipt_wait = \"3s\"";
    let channel = both("json-hmac", "key = \"file:data/key\"", limits, [a.addr, b.addr]);
    let mut site = Site::new().await.with(RETRY).with(&channel);
    let app = site.open().await;
    site.settle(&app, 1_500).await;
    let serving = site.serve(&app).await;
    let item = site.approve(&app, ALERT).await;
    let sent = site.send(&app, &item, &wish("all", "sms")).await;
    until("both take their share", SOON, async || a.stats().messages > 50 && b.stats().messages > 50).await;

    let mut entries = rig::log(a.addr).await;
    a.stop().await;
    let (before, at) = (b.stats().messages, tokio::time::Instant::now());
    until("the other goes on", SOON, async || b.stats().messages > before + 300).await;
    // At 150 a second it takes two; a channel that paused would take far longer.
    assert!(at.elapsed() < Duration::from_secs(20), "{:?}", at.elapsed());

    let a = Loopback::new(credentials(), lossy()).start(addr).await.unwrap();
    let done = finished(&app, sent.no, SOON).await;
    assert!(a.stats().messages > 50, "it came back: {}", a.stats().messages);
    let unknown = in_state(&app, done.no, State::Unknown).await;
    assert!(unknown < 60, "{unknown} receipts went down with the gateway");
    assert_eq!(in_state(&app, done.no, State::Delivered).await + unknown, done.deliveries);
    entries.extend(rig::log(a.addr).await);
    entries.extend(rig::log(b.addr).await);
    let mut taken: HashMap<(i64, i64), usize> = HashMap::new();
    for entry in &entries {
        *taken.entry(delivery_of(&app, entry)).or_default() += 1;
    }
    serving.stop().await;

    let ledger = Ledger::open(&site.database()).await;
    ledger.assert_sound().await;
    ledger.assert_conserved().await;
    let unheard = ledger.pairs("SELECT dispatch_no, ordinal, COUNT(*) FROM tries WHERE class = 6 GROUP BY 1, 2").await;
    let twice: Vec<_> = taken.iter().filter(|(_, n)| **n > 1).map(|(of, _)| *of).collect();
    assert!(!twice.is_empty());
    for (dispatch, ordinal) in twice {
        assert!(unheard.iter().any(|(d, o, _)| (*d, *o) == (dispatch, ordinal)), "{ordinal} was said twice unflagged");
    }
    let of_one = [
        "SELECT COUNT(*) FROM handles WHERE gateway_id LIKE 'json-hmac:%'",
        "SELECT COUNT(*) FROM handles WHERE gateway_id LIKE 'json-hmac-2:%'",
    ];
    let (first, second) = (ledger.count(of_one[0]).await, ledger.count(of_one[1]).await);
    assert!(first > 100 && second > 100, "{first} {second}");
    assert_eq!(first + second, ledger.count("SELECT COUNT(*) FROM handles").await, "every id says whose it is");
    ledger.close().await;
}
