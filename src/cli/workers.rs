//! `gong workers`: the engines on a server store, who leads, and who sends how fast.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;

use super::{App, Context, Ended, output};
use crate::domain::item::Lane;
use crate::say;
use crate::store::shares::ShareRow;
use crate::store::workers::Engine;

/// An engine that was silent for longer, in milliseconds, is shown as gone.
const ALIVE: i64 = 3_000;

/// Shows the engines on this store: who is there, who leads, who sends how fast.
#[derive(Debug, Args)]
#[command(after_help = "gong workers\ngong workers --json")]
pub struct WorkersArgs {}

/// What `workers --json` prints.
#[derive(Debug, Serialize)]
pub struct Workers {
    /// The store is the embedded one: one engine does everything.
    pub embedded: bool,
    /// Some engine is running.
    pub running: bool,
    pub engines: Vec<Shown>,
}

/// One engine.
#[derive(Debug, Serialize)]
pub struct Shown {
    pub id: String,
    pub host: String,
    pub pid: i64,
    pub alive: bool,
    /// Milliseconds since it was last heard of.
    pub silent_ms: i64,
    /// Epoch milliseconds, by the database's clock.
    pub started_at: i64,
    pub roles: Vec<String>,
    /// The roles in which it acts now.
    pub leads: Vec<String>,
    pub channels: Vec<Channel>,
}

/// A channel that an engine serves. Rates are in parts a second.
#[derive(Debug, Serialize)]
pub struct Channel {
    pub name: String,
    /// What it may send at.
    pub share: f64,
    /// What it sends at.
    pub rate: f64,
    /// The most urgent lane of which something waits.
    pub waiting: Option<&'static str>,
}

pub(super) async fn run(context: &Context, _: WorkersArgs) -> anyhow::Result<Ended> {
    let app = context.app().await?;
    let workers = look(&app).await?;
    if context.global.json {
        output::json(&workers)?;
    } else {
        output::line(words(&workers));
    }
    Ok(Ended::Done)
}

/// Looks who is there.
pub(super) async fn look(app: &App) -> anyhow::Result<Workers> {
    if app.store.file.is_some() {
        return Ok(Workers { embedded: true, running: app.engine_runs(), engines: Vec::new() });
    }
    let store = &app.store;
    let (engines, shares, now) = (store.engines().await?, store.shares().await?, store.db_now().await?);
    let names: BTreeMap<i32, String> = store.channels().await?.into_iter().map(|c| (c.no, c.name)).collect();
    let leaders = store.leaders().await?;
    let leads = |owner: &str| {
        let held = leaders.iter().filter(|l| l.owner == owner && l.until_at > now);
        held.map(|l| l.role.clone()).collect()
    };
    let engines: Vec<Shown> = engines.into_iter().map(|e| shown(&e, leads(&e.owner), &shares, &names)).collect();
    Ok(Workers { embedded: false, running: engines.iter().any(|e| e.alive), engines })
}

fn shown(e: &Engine, leads: Vec<String>, shares: &[ShareRow], names: &BTreeMap<i32, String>) -> Shown {
    let alive = e.silent_ms < ALIVE;
    let share = |channel: i32| {
        let mine = shares.iter().find(|s| s.channel == channel && s.owner == e.owner && s.left_ms > 0);
        mine.map_or(0.0, |s| s.rate)
    };
    let channel = |r: &crate::domain::share::Report| Channel {
        name: names.get(&r.channel).cloned().unwrap_or_default(),
        share: share(r.channel),
        rate: if alive { r.used } else { 0.0 },
        waiting: r.lane.and_then(Lane::from_number).map(Lane::name),
    };
    Shown {
        id: e.owner.clone(),
        host: e.host.clone(),
        pid: e.pid,
        alive,
        silent_ms: e.silent_ms,
        started_at: e.started_at,
        roles: e.roles.split(',').map(str::to_owned).collect(),
        leads,
        channels: e.reports.iter().map(channel).collect(),
    }
}

/// As people read it.
pub(super) fn words(workers: &Workers) -> String {
    match (workers.embedded, workers.running) {
        (true, true) => {
            return say!(
                "gong serve 正在运行（内嵌数据库，只有一个引擎）",
                "gong serve is running (embedded store: one engine)"
            );
        }
        (true, false) => return say!("gong serve 没有运行", "gong serve is not running"),
        (false, _) if workers.engines.is_empty() => {
            return say!(
                "没有进程在运行。请启动 gong serve 或 gong work",
                "nothing is running. Start gong serve or gong work"
            );
        }
        _ => {}
    }
    let mut table = output::table(&[
        say!("主机", "host"),
        say!("进程号", "pid"),
        say!("状态", "state"),
        say!("职责", "roles"),
        say!("渠道：速率 / 份额（条/秒）", "channel: rate / share (parts/s)"),
    ]);
    for e in &workers.engines {
        table.add_row([e.host.clone(), e.pid.to_string(), state(e), roles(e), channels(e)]);
    }
    table.to_string()
}

fn state(e: &Shown) -> String {
    let seconds = e.silent_ms / 1000;
    if e.alive { say!("在线", "alive") } else { say!("{seconds} 秒没有消息", "silent for {seconds} s") }
}

fn roles(e: &Shown) -> String {
    let word = |role: &String| {
        let name = match role.as_str() {
            "planner" => say!("编制", "planner"),
            "scheduler" => say!("调度", "scheduler"),
            "workers" => say!("发送", "workers"),
            "web" => say!("网页", "web"),
            other => other.to_owned(),
        };
        if e.leads.contains(role) { say!("{name}（当值）", "{name} (leads)") } else { name }
    };
    e.roles.iter().map(word).collect::<Vec<_>>().join(say!("、", ", ").as_str())
}

fn channels(e: &Shown) -> String {
    let one = |c: &Channel| format!("{}: {} / {}", c.name, rate(c.rate), rate(c.share));
    e.channels.iter().map(one).collect::<Vec<_>>().join("\n")
}

fn rate(rate: f64) -> String {
    // A channel without a limit, the rehearsal, say.
    if rate >= 1e8 { say!("不限", "unlimited") } else { format!("{rate:.1}") }
}
