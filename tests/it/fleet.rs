//! Several processes of the program on one PostgreSQL database of their own, and the
//! books of it, read by statements of their own.

#![allow(clippy::print_stdout)] // what was measured, for who reads a failure

mod probe;

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use gong::app::App;
use gong::loopback::{Behaviour, Running as Gateway, Span};
use rustix::process::{Pid, Signal, kill_process};
use sqlx::{AssertSqlSafe, PgPool};

use crate::ledger::Ledger;
use crate::rig::{self, SOON, until};
use crate::site::{Site, gateway};
use crate::support::{Running, free_port, postgres_server};

/// Longer than a lease holds (`src/store/batches.rs`).
pub const PAST_A_LEASE: Duration = Duration::from_secs(31);

/// Dispatches that are not planned to their end, and batches that wait.
pub const UNPLANNED: &str = "SELECT COUNT(*) FROM dispatches WHERE phase <> 'done'";
pub const WAITS: &str = "SELECT COUNT(*) FROM batches WHERE state = 0";

/// Batches that somebody holds; of these, those of engines that have not been heard for
/// long enough to lose them.
pub const HELD: &str = "SELECT COUNT(*) FROM batches WHERE state = 1";
pub const HELD_BY_THE_SILENT: &str = "SELECT COUNT(*) FROM batches b JOIN workers w ON w.owner = b.owner \
                                      WHERE b.state = 1 AND w.seen_at < extract(epoch FROM clock_timestamp()) * 1000 - 10000";

/// Tries that a takeover wrote down for whoever had the batch before.
pub const TAKEN_OVER: &str = "SELECT COUNT(*) FROM tries WHERE code = 'takeover'";

/// A site on a database of its own, and the processes on it.
pub struct Fleet {
    pub site: Site,
    pub app: App,
    pub gateway: Gateway,
    pub ledger: Ledger,
    pub pool: PgPool,
    /// What stands otherwise in the configuration of the processes.
    pub swaps: Vec<(String, String)>,
    /// An item at hand for one person, where a test asked for it.
    pub probe: Option<String>,
    /// How many people were settled.
    pub people: usize,
    admin: PgPool,
    database: String,
}

impl Fleet {
    /// With a channel `sms` of these limits, by way of Kannel, and `n` people; `None`
    /// without a server.
    pub async fn new(limits: &str, behaviour: Behaviour, n: usize) -> Option<Self> {
        let (server, gateway) = (postgres_server()?, gateway(behaviour).await);
        let site = Site::new().await.with_kannel(gateway.addr, limits);
        Some(Self::build(&server, gateway, site, n).await)
    }

    /// On this server, with more settings, and a gateway that brings receipts together.
    pub async fn on(server: &str, more: &str, limits: &str, (behaviour, n): (Behaviour, usize)) -> Self {
        let gateway = gateway(behaviour).await;
        let site = Site::new().await.with_json(gateway.addr, limits).with(more);
        Self::build(server, gateway, site, n).await
    }

    async fn build(server: &str, gateway: Gateway, site: Site, n: usize) -> Self {
        let admin = crate::support::pool(server).await;
        let database = format!("it_{}", uuid::Uuid::now_v7().simple());
        sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {database}"))).execute(&admin).await.unwrap();
        let url = format!("{}/{database}", server.rsplit_once('/').unwrap().0);
        let site = site.with(&format!("[store]\nurl = \"{url}\""));
        let site = site.with("[retry]\nsettle_ms = 1000").closed();
        let app = site.open().await;
        site.settle(&app, n).await;
        let pool = crate::support::pool(&url).await;
        Self {
            site,
            app,
            gateway,
            ledger: Ledger::Postgres(pool.clone()),
            pool,
            swaps: Vec::new(),
            probe: None,
            people: n,
            admin,
            database,
        }
    }

    /// Starts the program, its words going to `log`.
    pub fn start(&self, args: &[&str], log: &str) -> Running {
        self.start_with(args, log, &[])
    }

    /// With these variables in its environment.
    pub fn start_with(&self, args: &[&str], log: &str, env: &[(&str, &str)]) -> Running {
        let log = File::options().create(true).append(true).open(self.site.dir.path().join(log)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_gong"));
        command.args(args).arg("--config").arg(self.config()).envs(env.iter().copied()).stdin(Stdio::null());
        Running(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap())
    }

    fn config(&self) -> PathBuf {
        let path = self.site.write_config();
        if self.swaps.is_empty() {
            return path;
        }
        let mut text = std::fs::read_to_string(&path).unwrap();
        for (from, to) in &self.swaps {
            assert!(text.contains(from), "{from}");
            text = text.replace(from, to);
        }
        let fresh = tempfile::NamedTempFile::new_in(self.site.dir.path()).unwrap();
        std::fs::write(fresh.path(), text).unwrap();
        fresh.persist(path.with_file_name("theirs.toml")).unwrap();
        path.with_file_name("theirs.toml")
    }

    pub fn work(&self, name: &str) -> Running {
        self.start(&["work", "--channels", "sms,rehearsal"], &format!("{name}.log"))
    }

    /// The planner's node, without workers; the second of a name listens elsewhere.
    pub fn plan(&self, name: &str) -> Running {
        self.start(&["serve", "--no-workers"], &format!("{name}.log"))
    }

    pub fn plan_elsewhere(&self, name: &str) -> Running {
        let at = format!("127.0.0.1:{}", free_port());
        self.start(&["serve", "--no-workers", "--listen", &at], &format!("{name}.log"))
    }

    pub fn log_of(&self, name: &str) -> String {
        std::fs::read_to_string(self.site.dir.path().join(format!("{name}.log"))).unwrap()
    }

    pub async fn count(&self, sql: &'static str) -> i64 {
        self.ledger.count(sql).await
    }

    /// How many engines with workers say that they are there.
    pub async fn working(&self) -> usize {
        let engines = self.app.store.engines().await.unwrap();
        engines.iter().filter(|e| e.silent_ms < 3_000 && e.roles == "workers").count()
    }

    /// The process that leads in a role now.
    pub async fn leader(&self, role: &str) -> Option<i64> {
        let sql = "SELECT w.pid FROM leaders l JOIN workers w ON w.owner = l.owner WHERE l.role = $1 \
                   AND l.until_at > extract(epoch FROM clock_timestamp()) * 1000";
        sqlx::query_scalar(sql).bind(role).fetch_optional(&self.pool).await.unwrap()
    }

    /// How many batches a process holds.
    pub async fn held_by(&self, pid: i64) -> i64 {
        let sql = "SELECT COUNT(*) FROM batches b JOIN workers w ON w.owner = b.owner WHERE b.state = 1 AND w.pid = $1";
        sqlx::query_scalar(sql).bind(pid).fetch_one(&self.pool).await.unwrap()
    }

    pub async fn sending(&self, messages: u64) {
        until("messages go out", SOON, async || self.gateway.stats().messages >= messages).await;
    }

    pub async fn assert_conserved(&self) {
        self.ledger.assert_conserved().await;
    }

    /// Whatever the gateway has more than once, the ledger flags; and all it has is ours.
    pub async fn assert_flagged(&self, deliveries: i64) {
        let log = rig::log(self.gateway.addr).await;
        let copies = self.ledger.assert_flagged(&self.app.store.vault, &log).await;
        println!("{copies:?}");
        assert_eq!(copies.missing, 0, "every delivery of {deliveries} was handed over");
    }

    /// Drops the database; the processes have ended.
    pub async fn end(self) {
        self.app.store.close().await;
        self.pool.close().await;
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.database);
        sqlx::query(AssertSqlSafe(drop)).execute(&self.admin).await.unwrap();
    }
}

impl Drop for Fleet {
    /// Says what the processes said, where a test has failed.
    fn drop(&mut self) {
        if std::thread::panicking() {
            for entry in std::fs::read_dir(self.site.dir.path()).unwrap().flatten() {
                if entry.path().extension().is_some_and(|e| e == "log") {
                    let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
                    let from = text.len().saturating_sub(4_000);
                    println!("{}:\n{}", entry.path().display(), text.get(from..).unwrap_or(&text));
                }
            }
        }
    }
}

pub fn signal(process: &Running, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(process.0.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

pub fn pid(process: &Running) -> i64 {
    i64::from(process.0.id())
}

/// Tells it to end, and waits until it has; fails where it did not end well.
pub async fn told_to_end(mut process: Running) -> Duration {
    let at = Instant::now();
    signal(&process, Signal::TERM);
    let status = tokio::task::spawn_blocking(move || process.0.wait().unwrap()).await.unwrap();
    assert!(status.success(), "{status}");
    at.elapsed()
}

pub fn prompt() -> Behaviour {
    Behaviour { latency: "5-15".parse().unwrap(), receipt_delay: Span::fixed(50), ..Behaviour::default() }
}
