//! `gong check`: what a site still lacks before it can be relied on.

mod alarm;
mod data;
mod files;
mod paper;
mod queue;
mod ways;

use std::sync::Arc;

use clap::Args;
use serde::Serialize;

use super::{Context, Ended, output};
use crate::app::App;
use crate::channel::registry::Registry;
use crate::clock::Clock;
use crate::config::Config;
use crate::say;
use crate::sheet::Press;
use crate::store::Store;
use crate::vault::Vault;

/// Looks over the whole site and says what to do about what is wrong.
#[derive(Debug, Args)]
#[command(after_help = "gong check\ngong check --connect\ngong check --alarm\ngong check --json")]
pub struct CheckArgs {
    /// Open a connection to every gateway as well; nothing is sent.
    #[arg(long)]
    connect: bool,
    /// Really send a test alarm to whom `[alarm]` names.
    #[arg(long)]
    alarm: bool,
}

/// How a thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Good,
    /// It works, and something should be done about it.
    Warn,
    Bad,
}

/// One line of the report.
#[derive(Debug, Serialize)]
struct Line {
    /// Stable, for programs.
    name: String,
    state: State,
    text: String,
    /// What to do; empty where all is well.
    advice: String,
}

/// The report as it grows.
#[derive(Default)]
struct Report {
    lines: Vec<Line>,
}

impl Report {
    fn good(&mut self, name: &str, text: impl Into<String>) {
        self.add(name, State::Good, text, "");
    }

    fn warn(&mut self, name: &str, text: impl Into<String>, advice: impl Into<String>) {
        self.add(name, State::Warn, text, advice);
    }

    fn bad(&mut self, name: &str, text: impl Into<String>, advice: impl Into<String>) {
        self.add(name, State::Bad, text, advice);
    }

    fn add(&mut self, name: &str, state: State, text: impl Into<String>, advice: impl Into<String>) {
        let (name, text, advice) = (name.to_owned(), text.into(), advice.into());
        self.lines.push(Line { name, state, text, advice });
    }

    /// The value, or a bad line with the error, which says itself what to do.
    fn need<T, E: std::fmt::Display>(&mut self, name: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.bad(name, error.to_string(), "")).ok()
    }
}

pub(super) async fn run(context: &Context, args: CheckArgs) -> anyhow::Result<Ended> {
    let mut report = Report::default();
    if let Some(config) = report.need("config", context.config()) {
        let shown = context.global.config.display();
        report.good("config", say!("配置 {shown}", "settings {shown}"));
        site(&mut report, config, &args).await;
    }
    print(context, &report.lines)?;
    let good = report.lines.iter().all(|l| l.state != State::Bad);
    Ok(if good { Ended::Done } else { Ended::NotGood })
}

/// The channels that can be used, without those that are wrongly declared.
pub(super) fn sound_channels(config: &Config) -> Registry {
    ways::channels(&mut Report::default(), config)
}

async fn site(report: &mut Report, config: Config, args: &CheckArgs) {
    if config.site.name.trim().is_empty() || config.site.phone.trim().is_empty() {
        report.warn(
            "site",
            say!("配置里没有责任单位或咨询电话", "the settings name no unit or no phone"),
            say!("填写 [site] name 和 phone", "fill in [site] name and phone"),
        );
    }
    files::disk(report, &config);
    let vault = files::key(report, &config);
    let store = match vault {
        Some(vault) => open(report, &config, vault).await,
        None => None,
    };
    let messages = files::templates(report, &config);
    paper::fonts(report, &config);
    files::calendar(report, &config);
    queue::broker(report, &config, args.connect).await;
    let registry = ways::channels(report, &config);
    if args.connect {
        ways::connect(report, &config, &registry).await;
    }
    alarm::look(report, &config, &registry, args.alarm).await;
    let Some(store) = store else { return };
    data::look(report, &config, &store).await;
    if let Some(messages) = messages {
        let press = Press::new(config.press());
        engine(report, &App { config, store: Arc::new(store), messages, registry, press });
    }
}

async fn open(report: &mut Report, config: &Config, vault: Vault) -> Option<Store> {
    let url = config.store_url();
    // Opening would make a new, empty one in its place.
    if let Some(file) = url.strip_prefix("sqlite:").filter(|file| !std::path::Path::new(file).exists()) {
        report.bad(
            "database",
            say!("没有数据库文件 {file}", "there is no database file {file}"),
            say!(
                "从备份恢复：gong restore 备份文件；新站点：gong init",
                "bring it back: gong restore BACKUP; a new site: gong init"
            ),
        );
        return None;
    }
    report.need("database", Store::open(&url, vault, Clock::System).await)
}

fn engine(report: &mut Report, app: &App) {
    if app.store.file.is_none() {
        return;
    }
    if app.engine_runs() {
        report.good("engine", say!("引擎正在运行", "the engine is running"));
    } else {
        report.warn(
            "engine",
            say!("引擎没有运行，什么都不会发出", "the engine does not run; nothing goes out"),
            say!("启动：gong serve", "start it: gong serve"),
        );
    }
}

fn print(context: &Context, lines: &[Line]) -> anyhow::Result<()> {
    if context.global.json {
        return output::json(&lines);
    }
    for line in lines {
        let mark = match line.state {
            State::Good => "✓",
            State::Warn => "!",
            State::Bad => "✗",
        };
        output::line(format!("{mark} {}", line.text.replace('\n', "\n    ")));
        if !line.advice.is_empty() {
            output::line(format!("    → {}", line.advice));
        }
    }
    let count = |state| lines.iter().filter(|l| l.state == state).count();
    let (bad, warn) = (count(State::Bad), count(State::Warn));
    output::note(match (bad, warn) {
        (0, 0) => say!("一切就绪", "all is well"),
        (0, _) => say!("可以使用，{warn} 处值得处理", "it works; {warn} to look into"),
        _ => say!("{bad} 处必须处理，另有 {warn} 处值得处理", "{bad} must be put right, and {warn} to look into"),
    });
    Ok(())
}
