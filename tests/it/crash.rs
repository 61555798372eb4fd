//! `kill -9` of `gong serve` at random moments, again and again, and the books after it.

#![allow(clippy::print_stdout)] // the seed, to play it again

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gong::app::App;
use gong::domain::delivery::State;
use gong::loopback::{Behaviour, Running};
use gong::vault::Vault;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::fleet::HELD;
use crate::ledger::Ledger;
use crate::rig::{self, SOON, until};
use crate::site::{ALERT, Site, finished, gateway, in_state, wish};
use crate::support::{seed, tell};

/// Messages of a dispatch, and how often the engine is killed over all dispatches.
const PEOPLE: usize = 22_500;
const KILLS: u32 = 40;
const IN_WINDOW: u32 = 15;
const IN_FLIGHT: i64 = 32;
/// After every so many kills it is measured how long it takes to send again.
const MEASURED: u32 = 8;

fn serve(config: &Path, log: &Path) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
    Command::new(env!("CARGO_BIN_EXE_gong"))
        .args(["serve", "--config"])
        .arg(config)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_and_no_duplicate_goes_unflagged() {
    let seed = seed(20_260_601);
    println!("seed {seed}; play it again with GONG_TEST_SEED={seed}");
    let mut draw = StdRng::seed_from_u64(seed);
    // Some receipts settle a doubt before it is repeated, some come too late for that.
    let behaviour = Behaviour {
        latency: "2-12".parse().unwrap(),
        receipt_delay: "5-2000".parse().unwrap(),
        ..Behaviour::default()
    };
    let gateway = gateway(behaviour).await;
    let limits = format!("rate = 100000, in_flight = {IN_FLIGHT}");
    let site = Site::new().await.with("[retry]\nsettle_ms = 100").with_kannel(gateway.addr, &limits).closed();
    let app = site.open().await;
    site.settle(&app, PEOPLE).await;
    let item = site.approve(&app, ALERT).await;
    let (config, log) = (site.write_config(), site.dir.path().join("serve.log"));
    let (mut kills, mut in_window, mut dispatches, mut slowest) = (0, 0, Vec::new(), Duration::ZERO);
    while kills < KILLS || in_window < IN_WINDOW {
        assert!(kills < 4 * KILLS, "only {in_window} of {kills} kills fell into a window");
        let dispatch = site.send(&app, &item, &wish("all", "sms")).await;
        dispatches.push(dispatch.no);
        let mut engine = serve(&config, &log);
        while app.store.dispatch(&dispatch.no.to_string()).await.unwrap().finished_at.is_none() {
            if kills < KILLS || in_window < IN_WINDOW {
                tokio::time::sleep(Duration::from_millis(draw.random_range(100..800))).await;
                engine.kill().unwrap();
                engine.wait().unwrap();
                kills += 1;
                let window = after_a_kill(&site, &app).await;
                in_window += u32::from(window > 0);
                engine = serve(&config, &log);
                if kills % MEASURED == 0 {
                    slowest = slowest.max(sends_again(&gateway, &app, dispatch.no).await);
                }
            } else {
                finished(&app, dispatch.no, Duration::from_mins(2)).await;
            }
        }
        engine.kill().unwrap();
        engine.wait().unwrap();
    }
    assert!(slowest > Duration::ZERO);
    tell(&format!("kill -9 of the embedded engine, the longest of {} times", kills / MEASURED), slowest);
    println!("{kills} kills, {in_window} inside a window, {} dispatches", dispatches.len());
    let log = rig::log(gateway.addr).await;
    settle_books(&site, &app, &dispatches, &log, kills).await;
    gateway.stop().await;
}

/// How long an engine that was started just now takes to send; nothing where all is sent.
async fn sends_again(gateway: &Running, app: &App, dispatch: i64) -> Duration {
    let (at, before) = (Instant::now(), gateway.stats().messages);
    let mut sends = false;
    until("it sends again, or has sent all", SOON, async || {
        sends = gateway.stats().messages > before;
        sends || app.store.dispatch(&dispatch.to_string()).await.unwrap().finished_at.is_some()
    })
    .await;
    if sends { at.elapsed() } else { Duration::ZERO }
}

/// What a dead engine may have been sending.
const WINDOW: &str =
    "SELECT COUNT(*) FROM deliveries d JOIN batches b ON b.no = d.batch WHERE d.state = 1 AND d.ordinal <= b.marked_to";

/// The books of a dead engine; says how large its window was.
async fn after_a_kill(site: &Site, app: &App) -> i64 {
    let ledger = Ledger::open(&site.database()).await;
    ledger.assert_conserved().await;
    let window = ledger.count(WINDOW).await;
    assert!(window <= 2 * IN_FLIGHT, "{window}");
    ledger.close().await;
    assert!(!app.engine_runs());
    window
}

async fn settle_books(site: &Site, app: &App, dispatches: &[i64], log: &[rig::Entry], kills: u32) {
    let ledger = Ledger::open(&site.database()).await;
    ledger.assert_sound().await;
    ledger.assert_settled().await;
    for no in dispatches {
        ledger.assert_whole(*no, PEOPLE).await;
        let dispatch = app.store.dispatch(&no.to_string()).await.unwrap();
        let delivered = in_state(app, *no, State::Delivered).await;
        assert_eq!(delivered, dispatch.deliveries, "{:?}", app.store.delivery_counts(*no).await);
    }
    let vault = Vault::open(&site.dir.path().join("data/gong.key")).unwrap();
    let copies = ledger.assert_flagged(&vault, log).await;
    assert_eq!(copies.missing, 0, "every delivery was handed over");
    assert!(i64::try_from(copies.flagged).unwrap() <= i64::from(kills) * 2 * IN_FLIGHT);
    println!("{copies:?}");
    ledger.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_engine_leaves_nothing_uncertain() {
    let gateway = gateway(Behaviour { latency: "5-30".parse().unwrap(), ..Behaviour::default() }).await;
    let site = Site::new().await.with_kannel(gateway.addr, "rate = 100000, in_flight = 32").closed();
    let app = site.open().await;
    site.settle(&app, 3_000).await;
    let item = site.approve(&app, ALERT).await;
    let dispatch = site.send(&app, &item, &wish("all", "sms")).await;
    let log = site.dir.path().join("serve.log");
    for _ in 0..4 {
        let mut engine = serve(&site.write_config(), &log);
        let before = gateway.stats().messages;
        let end = Instant::now() + Duration::from_secs(30);
        while gateway.stats().messages < before + 200 && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let pid = rustix::process::Pid::from_raw(i32::try_from(engine.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(engine.wait().unwrap().success(), "{}", std::fs::read_to_string(&log).unwrap());
        let ledger = Ledger::open(&site.database()).await;
        ledger.assert_conserved().await;
        assert_eq!(ledger.count("SELECT COUNT(*) FROM deliveries WHERE state = 11").await, 0);
        assert_eq!(ledger.count(HELD).await, 0);
        ledger.close().await;
    }
    assert!(app.store.dispatch(&dispatch.no.to_string()).await.is_ok());
    assert_eq!(gateway.stats().duplicates, 0);
    gateway.stop().await;
}
