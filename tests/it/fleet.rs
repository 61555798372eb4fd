//! Several processes of the program on one PostgreSQL database of their own, and the
//! books of it, read by statements of their own.

#![allow(clippy::print_stdout)] // what was measured, for who reads a failure

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use gong::app::App;
use gong::loopback::{Behaviour, Running as Gateway, Span};
use rustix::process::{Pid, Signal, kill_process};
use sqlx::{AssertSqlSafe, PgPool};

use crate::rig::{self, AWAKE, SOON, delivery_of, until};
use crate::site::{Site, gateway};
use crate::support::{Running, free_port, postgres_server};

/// A site on a database of its own, and the processes on it.
pub struct Fleet {
    pub site: Site,
    pub app: App,
    pub gateway: Gateway,
    pub pool: PgPool,
    admin: PgPool,
    database: String,
}

impl Fleet {
    /// With a channel `sms` of these limits and `n` people; `None` without a server.
    pub async fn new(limits: &str, behaviour: Behaviour, n: usize) -> Option<Self> {
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
    pub fn start(&self, args: &[&str], log: &str) -> Running {
        let log = File::options().create(true).append(true).open(self.site.dir.path().join(log)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_gong"));
        command.args(args).arg("--config").arg(self.site.write_config()).stdin(Stdio::null());
        Running(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap())
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
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
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

    pub async fn sending(&self, messages: u64) {
        until("messages go out", SOON, async || self.gateway.stats().messages >= messages).await;
    }

    /// Members and deliveries are there once and add up; nothing has fallen out.
    pub async fn assert_conserved(&self) {
        for sql in CONSERVED {
            assert_eq!(self.count(sql).await, 0, "{sql}");
        }
    }

    /// Whatever the gateway has more than once, the ledger flags; and all it has is ours.
    pub async fn assert_flagged(&self, deliveries: i64) {
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

const CONSERVED: [&str; 7] = [
    "SELECT COUNT(*) FROM dispatches d WHERE d.members <> (SELECT COUNT(*) FROM members m WHERE m.dispatch_no = d.no)",
    "SELECT COUNT(*) FROM (SELECT 1 FROM members GROUP BY dispatch_no, recipient_no HAVING COUNT(*) > 1) AS twice",
    "SELECT COUNT(*) FROM dispatches d WHERE d.deliveries <> (SELECT COUNT(*) FROM deliveries e WHERE e.dispatch_no = d.no)",
    "SELECT COUNT(*) FROM delivery_members l LEFT JOIN deliveries d ON d.dispatch_no = l.dispatch_no AND d.ordinal = l.delivery WHERE d.ordinal IS NULL",
    "SELECT COUNT(*) FROM deliveries d WHERE d.state = 1 AND NOT EXISTS (SELECT 1 FROM batches b WHERE b.no = d.batch AND b.state IN (0, 1))",
    "SELECT COUNT(*) FROM deliveries d WHERE d.state = 2 AND NOT EXISTS (SELECT 1 FROM batches b WHERE b.no = d.batch AND b.state = 1 AND b.epoch = d.epoch)",
    "SELECT COUNT(*) FROM deliveries WHERE state IN (9, 11, 12) AND next_at IS NULL",
];

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
