//! Many processes on one PostgreSQL: they share a rate, come and go, are killed, stood
//! still and told to end. The books are read by statements of their own.

#![allow(clippy::print_stdout)] // what was measured, for who reads a failure

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use gong::app::App;
use gong::domain::delivery::State;
use gong::loopback::{Behaviour, Running as Gateway, Span};
use rustix::process::{Pid, Signal, kill_process};
use sqlx::{AssertSqlSafe, PgPool};
use tokio::sync::Mutex;
use tokio::time::sleep;

use crate::rig::{self, AWAKE, Entry, SOON, delivery_of, until};
use crate::site::{ALERT, NOTICE, Site, finished, gateway, in_state, wish};
use crate::support::{Running, free_port, postgres_server};

/// They measure rates and times: one at a time.
static ALONE: Mutex<()> = Mutex::const_new(());
const SECOND: Duration = Duration::from_secs(1);

/// A site on a database of its own, and the processes on it.
struct Fleet {
    site: Site,
    app: App,
    gateway: Gateway,
    pool: PgPool,
    admin: PgPool,
    database: String,
}

impl Fleet {
    /// With a channel `sms` of these limits and `n` people; `None` without a server.
    async fn new(limits: &str, behaviour: Behaviour, n: usize) -> Option<Self> {
        let server = postgres_server()?;
        let admin = PgPool::connect(&server).await.unwrap();
        let database = format!("it_{}", uuid::Uuid::now_v7().simple());
        sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {database}"))).execute(&admin).await.unwrap();
        let url = format!("{}/{database}", server.rsplit_once('/').unwrap().0);
        let gateway = gateway(behaviour).await;
        let site = Site::new().await.with(&format!("[store]\nurl = \"{url}\"")).with(AWAKE);
        let site = site.with("[retry]\nsettle_ms = 1000").with_kannel(gateway.addr, limits).closed();
        let app = site.open().await;
        site.settle(&app, n).await;
        let pool = PgPool::connect(&url).await.unwrap();
        Some(Self { site, app, gateway, pool, admin, database })
    }

    /// Starts the program, its words going to `log`.
    fn start(&self, args: &[&str], log: &str) -> Running {
        let log = File::options().create(true).append(true).open(self.site.dir.path().join(log)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_gong"));
        command.args(args).arg("--config").arg(self.site.write_config()).stdin(Stdio::null());
        Running(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap())
    }

    fn work(&self, name: &str) -> Running {
        self.start(&["work", "--channels", "sms,rehearsal"], &format!("{name}.log"))
    }

    /// The planner's node, without workers; the second of a name listens elsewhere.
    fn plan(&self, name: &str) -> Running {
        self.start(&["serve", "--no-workers"], &format!("{name}.log"))
    }

    fn plan_elsewhere(&self, name: &str) -> Running {
        let at = format!("127.0.0.1:{}", free_port());
        self.start(&["serve", "--no-workers", "--listen", &at], &format!("{name}.log"))
    }

    fn log_of(&self, name: &str) -> String {
        std::fs::read_to_string(self.site.dir.path().join(format!("{name}.log"))).unwrap()
    }

    async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    /// How many engines with workers say that they are there.
    async fn working(&self) -> usize {
        let engines = self.app.store.engines().await.unwrap();
        engines.iter().filter(|e| e.silent_ms < 3_000 && e.roles == "workers").count()
    }

    /// The process that leads in a role now.
    async fn leader(&self, role: &str) -> Option<i64> {
        let sql = "SELECT w.pid FROM leaders l JOIN workers w ON w.owner = l.owner WHERE l.role = $1 \
                   AND l.until_at > extract(epoch FROM clock_timestamp()) * 1000";
        sqlx::query_scalar(sql).bind(role).fetch_optional(&self.pool).await.unwrap()
    }

    async fn sending(&self, messages: u64) {
        until("messages go out", SOON, async || self.gateway.stats().messages >= messages).await;
    }

    /// Members and deliveries are there once and add up; nothing has fallen out.
    async fn assert_conserved(&self) {
        for sql in CONSERVED {
            assert_eq!(self.count(sql).await, 0, "{sql}");
        }
    }

    /// Whatever the gateway has more than once, the ledger flags; and all it has is ours.
    async fn assert_flagged(&self, deliveries: i64) {
        let mut took: HashMap<(i64, i64), u32> = HashMap::new();
        for entry in rig::log(self.gateway.addr).await {
            *took.entry(delivery_of(&self.app, &entry)).or_default() += 1;
        }
        assert_eq!(i64::try_from(took.len()).unwrap(), deliveries, "every delivery was handed over");
        let flagged: Vec<(i64, i64)> =
            sqlx::query_as("SELECT DISTINCT dispatch_no, ordinal FROM attempts WHERE class = 6")
                .fetch_all(&self.pool)
                .await
                .unwrap();
        let flagged: HashSet<(i64, i64)> = flagged.into_iter().collect();
        let doubled: Vec<_> = took.iter().filter(|(_, n)| **n > 1).map(|(of, _)| *of).collect();
        println!("{} flagged, {} doubled", flagged.len(), doubled.len());
        assert!(doubled.iter().all(|of| flagged.contains(of)), "an unflagged duplicate");
    }

    async fn end(self) {
        self.app.store.close().await;
        self.pool.close().await;
        self.gateway.stop().await;
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.database);
        sqlx::query(AssertSqlSafe(drop)).execute(&self.admin).await.unwrap();
    }
}

const CONSERVED: [&str; 7] = [
    "SELECT COUNT(*) FROM dispatches d WHERE d.members <> (SELECT COUNT(*) FROM members m WHERE m.dispatch_no = d.no)",
    "SELECT COUNT(*) FROM (SELECT 1 FROM members GROUP BY dispatch_no, recipient_no HAVING COUNT(*) > 1) AS twice",
    "SELECT COUNT(*) FROM dispatches d WHERE d.deliveries <> (SELECT COUNT(*) FROM deliveries e WHERE e.dispatch_no = d.no)",
    "SELECT COUNT(*) FROM delivery_members l LEFT JOIN deliveries d ON d.dispatch_no = l.dispatch_no AND d.ordinal = l.delivery WHERE d.ordinal IS NULL",
    "SELECT COUNT(*) FROM deliveries d WHERE d.state = 1 AND NOT EXISTS (SELECT 1 FROM batches b WHERE b.no = d.batch AND b.state IN (0, 1))",
    "SELECT COUNT(*) FROM deliveries d WHERE d.state = 2 AND NOT EXISTS (SELECT 1 FROM batches b WHERE b.no = d.batch AND b.state = 1 AND b.epoch = d.epoch)",
    "SELECT COUNT(*) FROM deliveries WHERE state IN (9, 11, 12) AND next_at IS NULL",
];

fn signal(process: &Running, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(process.0.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

fn pid(process: &Running) -> i64 {
    i64::from(process.0.id())
}

/// Tells it to end, and waits until it has; fails where it did not end well.
async fn told_to_end(mut process: Running) -> Duration {
    let at = Instant::now();
    signal(&process, Signal::TERM);
    let status = tokio::task::spawn_blocking(move || process.0.wait().unwrap()).await.unwrap();
    assert!(status.success(), "{status}");
    at.elapsed()
}

fn prompt() -> Behaviour {
    Behaviour { latency: "5-15".parse().unwrap(), receipt_delay: Span::fixed(50), ..Behaviour::default() }
}

/// Messages a second between two moments of the gateway's clock.
fn rate_between(log: &[Entry], from: i64, to: i64) -> f64 {
    let n = log.iter().filter(|e| from <= e.at_ms && e.at_ms < to).count();
    #[allow(clippy::cast_precision_loss)]
    let rate = n as f64 * 1_000.0 / (to - from) as f64;
    rate
}

/// The rate holds from one moment to another, and in no second of it is it exceeded.
fn assert_rate(log: &[Entry], rate: f64, from: i64, to: i64, what: &str) {
    let mean = rate_between(log, from, to);
    println!("{what}: {mean:.1} of {rate} a second");
    assert!((rate * 0.95..=rate * 1.05).contains(&mean), "{what}: {mean} of {rate} a second");
    for at in (from..to - 1_000).step_by(250) {
        let second = rate_between(log, at, at + 1_000);
        assert!(second <= rate * 1.1, "{what}: {second} in the second from {}", at - from);
    }
}

fn now() -> i64 {
    gong::clock::Clock::System.now()
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_share_a_rate_and_come_and_go() {
    let _alone = ALONE.lock().await;
    let Some(fleet) = Fleet::new("rate = 100, in_flight = 16", prompt(), 6_000).await else { return };
    let planner = fleet.plan("planner");
    let first = fleet.work("first");
    let second = fleet.work("second");
    until("two workers", SOON, async || fleet.working().await == 2).await;
    let notice = fleet.site.approve(&fleet.app, NOTICE).await;
    let sent = fleet.site.send(&fleet.app, &notice, &wish("all", "sms")).await;
    fleet.sending(200).await;
    let from = now();
    sleep(6 * SECOND).await;
    let two = (from, now());
    // Both send, and what they are granted is no more than the channel has.
    let shown = fleet.site.run(&["workers", "--json"]).ok().json();
    let sms = |key: &str| -> Vec<f64> {
        let engines = shown["engines"].as_array().unwrap().iter();
        let channels = engines.flat_map(|e| e["channels"].as_array().unwrap().clone());
        channels.filter(|c| c["channel"] == "sms").map(|c| c[key].as_f64().unwrap()).collect()
    };
    assert!(sms("share").iter().sum::<f64>() <= 100.000_1, "{shown}");
    assert!(sms("rate").len() == 2 && sms("rate").iter().all(|r| *r > 20.0), "{shown}");
    let said = fleet.site.run(&["status", "--lang", "en"]).ok().stdout;
    assert!(said.contains("planner (leads)") && said.contains("alive"), "{said}");

    let third = fleet.work("third");
    until("three workers", SOON, async || fleet.working().await == 3).await;
    let from = now();
    sleep(5 * SECOND).await;
    let three = (from, now());
    let took = told_to_end(first).await;
    assert!(took < 10 * SECOND, "it drained for {took:?}");
    let from = now();
    assert_eq!(fleet.count("SELECT COUNT(*) FROM deliveries WHERE state = 11").await, 0);
    sleep(5 * SECOND).await;
    let left = (from, now());
    let log = rig::log(fleet.gateway.addr).await;
    assert_rate(&log, 100.0, two.0, two.1, "two workers");
    assert_rate(&log, 100.0, three.0, three.1, "a third joins");
    assert_rate(&log, 100.0, left.0, left.1, "one leaves");

    fleet.app.store.set_rate("sms", Some(3_000.0), "李四").await.unwrap();
    let done = finished(&fleet.app, sent.no, SOON).await;
    assert_eq!(in_state(&fleet.app, done.no, State::Delivered).await, done.deliveries);
    for process in [second, third, planner] {
        told_to_end(process).await;
    }
    assert_eq!(fleet.count("SELECT COUNT(*) FROM attempts WHERE class = 6").await, 0, "none was ever uncertain");
    assert_eq!(fleet.count("SELECT COUNT(*) FROM workers").await, 0, "all took their leave");
    fleet.assert_conserved().await;
    assert_eq!(fleet.gateway.stats().duplicates, 0);
    fleet.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_leads_within_ten_seconds_and_sending_goes_on() {
    let _alone = ALONE.lock().await;
    let Some(fleet) = Fleet::new("rate = 100, in_flight = 16", prompt(), 4_000).await else { return };
    let leader = fleet.plan("leader");
    until("it leads", SOON, async || fleet.leader("scheduler").await == Some(pid(&leader))).await;
    until("it plans", SOON, async || fleet.leader("planner").await == Some(pid(&leader))).await;
    let second = fleet.plan_elsewhere("second");
    let worker = fleet.work("worker");
    let notice = fleet.site.approve(&fleet.app, NOTICE).await;
    let sent = fleet.site.send(&fleet.app, &notice, &wish("all", "sms")).await;
    fleet.sending(100).await;
    assert_eq!(fleet.leader("planner").await, Some(pid(&leader)), "who leads goes on leading");

    let (at, from) = (Instant::now(), now());
    drop(leader);
    for role in ["planner", "scheduler"] {
        until(role, SOON, async || fleet.leader(role).await == Some(pid(&second))).await;
    }
    let took = at.elapsed();
    println!("another leads {took:?} after kill -9");
    assert!(took < 10 * SECOND, "{took:?}");
    let log = rig::log(fleet.gateway.addr).await;
    assert_rate(&log, 100.0, from, now(), "while nobody leads");
    // What is sent now is planned by the new one.
    let alert = fleet.site.approve(&fleet.app, ALERT).await;
    let urgent = fleet.site.send(&fleet.app, &alert, &wish("region:532532101200", "sms")).await;
    until("it is planned", SOON, async || {
        fleet.app.store.dispatch(&urgent.no.to_string()).await.unwrap().phase == "done"
    })
    .await;

    let third = fleet.plan("third");
    until("a third waits", SOON, async || fleet.log_of("third").contains("serving")).await;
    sleep(2 * SECOND).await;
    let at = Instant::now();
    told_to_end(second).await;
    for role in ["planner", "scheduler"] {
        until(role, SOON, async || fleet.leader(role).await == Some(pid(&third))).await;
    }
    println!("another leads {:?} after SIGTERM", at.elapsed());
    assert!(at.elapsed() < 4 * SECOND, "{:?}", at.elapsed());
    fleet.app.store.set_rate("sms", Some(3_000.0), "李四").await.unwrap();
    finished(&fleet.app, urgent.no, SOON).await;
    finished(&fleet.app, sent.no, SOON).await;
    told_to_end(worker).await;
    told_to_end(third).await;
    fleet.assert_conserved().await;
    assert_eq!(fleet.count("SELECT COUNT(*) FROM attempts WHERE class = 6").await, 0);
    assert_eq!(fleet.gateway.stats().duplicates, 0);
    fleet.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_killed_or_stands_still_is_taken_over_and_changes_nothing_wrongly() {
    let _alone = ALONE.lock().await;
    let slow = Behaviour { latency: "200-400".parse().unwrap(), ..prompt() };
    let Some(fleet) = Fleet::new("rate = 100, in_flight = 20", slow, 5_000).await else { return };
    let planner = fleet.plan("planner");
    let (killed, frozen, steady) = (fleet.work("killed"), fleet.work("frozen"), fleet.work("steady"));
    until("three workers", SOON, async || fleet.working().await == 3).await;
    let alert = fleet.site.approve(&fleet.app, ALERT).await;
    let sent = fleet.site.send(&fleet.app, &alert, &wish("all", "sms")).await;
    let used = async |pid: i64| {
        let engines = fleet.app.store.engines().await.unwrap();
        engines.iter().any(|e| e.pid == pid && e.reports.iter().any(|r| r.used > 1.0))
    };
    until("all send", SOON, async || used(pid(&killed)).await && used(pid(&frozen)).await && used(pid(&steady)).await)
        .await;
    let at = Instant::now();
    signal(&frozen, Signal::STOP);
    drop(killed);
    // What the two held is taken over, and the third sends it.
    let taken = "SELECT COUNT(*) FROM attempts WHERE code = 'takeover'";
    until("taken over", SOON, async || fleet.count(taken).await > 0).await;
    println!("taken over {:?} after kill -9 and SIGSTOP", at.elapsed());
    assert!(at.elapsed() < 20 * SECOND, "{:?}", at.elapsed());
    let theirs = "SELECT COUNT(*) FROM batches b JOIN workers w ON w.owner = b.owner \
                  WHERE b.state = 1 AND w.seen_at < extract(epoch FROM clock_timestamp()) * 1000 - 10000";
    until("all is taken over", SOON, async || fleet.count(theirs).await == 0).await;
    until("31 s are over", SOON, async || at.elapsed() > 31 * SECOND).await;
    fleet.assert_conserved().await;
    fleet.app.store.set_rate("sms", Some(300.0), "李四").await.unwrap();
    signal(&frozen, Signal::CONT);
    until("it is back", SOON, async || used(pid(&frozen)).await || sent_all(&fleet, sent.no).await).await;
    fleet.app.store.set_rate("sms", Some(3_000.0), "李四").await.unwrap();
    let done = finished(&fleet.app, sent.no, SOON).await;
    assert_eq!(in_state(&fleet.app, done.no, State::Delivered).await, done.deliveries);
    fleet.assert_conserved().await;
    fleet.assert_flagged(done.deliveries).await;
    let windows = fleet.count(taken).await;
    assert!(windows <= 2 * 2 * 20, "{windows} are more than the windows of two");
    for process in [frozen, steady, planner] {
        told_to_end(process).await;
    }
    fleet.end().await;
}

async fn sent_all(fleet: &Fleet, no: i64) -> bool {
    fleet.app.store.dispatch(&no.to_string()).await.unwrap().finished_at.is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_urgent_have_almost_all_of_every_worker() {
    let _alone = ALONE.lock().await;
    let Some(fleet) = Fleet::new("rate = 150, in_flight = 32", prompt(), 8_000).await else { return };
    let planner = fleet.plan("planner");
    let (one, other) = (fleet.work("one"), fleet.work("other"));
    until("two workers", SOON, async || fleet.working().await == 2).await;
    let (notice, alert) = (fleet.site.approve(&fleet.app, NOTICE).await, fleet.site.approve(&fleet.app, ALERT).await);
    let routine = fleet.site.send(&fleet.app, &notice, &wish("all", "sms")).await;
    fleet.sending(600).await;
    let asked = now();
    let urgent = fleet.site.send(&fleet.app, &alert, &wish("region:532532101200", "sms")).await;
    let urgent = finished(&fleet.app, urgent.no, SOON).await;
    let log = rig::log(fleet.gateway.addr).await;
    let of = |no: i64| log.iter().filter(|e| delivery_of(&fleet.app, e).0 == no).map(|e| e.at_ms).collect::<Vec<_>>();
    let alerts = of(urgent.no);
    let (first, last) = (*alerts.iter().min().unwrap(), *alerts.iter().max().unwrap());
    let between = of(routine.no).iter().filter(|at| first < **at && **at < last).count();
    let alone = i64::try_from(alerts.len()).unwrap() * 1_000 / 150;
    println!(
        "{} urgent: first after {} ms, last after {} ms, alone {alone} ms; {between} routine between",
        alerts.len(),
        first - asked,
        last - asked
    );
    assert!(first - asked <= 1_000, "the first came after {} ms", first - asked);
    assert!(last - asked <= alone * 12 / 10, "the last came after {} ms, alone {alone}", last - asked);
    assert!(between * 100 >= (alerts.len() + between) * 4, "routine kept {between} of {}", alerts.len() + between);
    assert_rate(&log, 150.0, first, last, "both lanes");
    fleet.app.store.set_rate("sms", Some(3_000.0), "李四").await.unwrap();
    let routine = finished(&fleet.app, routine.no, SOON).await;
    assert_eq!(in_state(&fleet.app, routine.no, State::Delivered).await, routine.deliveries);
    for process in [one, other, planner] {
        told_to_end(process).await;
    }
    assert_eq!(fleet.count("SELECT COUNT(*) FROM attempts WHERE class = 6").await, 0);
    fleet.assert_conserved().await;
    fleet.end().await;
}

/// An embedded store has one engine; a channel must be declared.
#[tokio::test(flavor = "multi_thread")]
async fn workers_alone_are_refused_where_they_cannot_be() {
    let site = Site::new().await.with_kannel("127.0.0.1:9".parse().unwrap(), "rate = 1");
    site.write_config();
    let refused = site.run(&["work"]);
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
    assert!(refused.stderr.contains("gong serve") && refused.stderr.contains("PostgreSQL"), "{}", refused.stderr);
    assert_eq!(site.run(&["serve", "--no-workers", "--listen", "127.0.0.1:0"]).code, Some(3));
    let shown = site.run(&["workers", "--json"]).ok().json();
    assert_eq!((&shown["embedded"], &shown["running"]), (&true.into(), &false.into()), "{shown}");
    let Some(fleet) = Fleet::new("rate = 1", prompt(), 1).await else { return };
    let unknown = fleet.site.run(&["work", "--channels", "sms,fax"]);
    assert_eq!(unknown.code, Some(2), "{}", unknown.stderr);
    assert!(unknown.stderr.contains("fax") && unknown.stderr.contains("rehearsal, sms"), "{}", unknown.stderr);
    fleet.end().await;
}
