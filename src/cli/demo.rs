//! `gong demo`: the whole job on this machine, for whoever sees gong the first time.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::{Context, Ended, output};
use crate::demo::{self, Bar, Outcome, Settings, Stage};
use crate::say;

/// Where the demo goes when nobody says.
const FOLDER: &str = "gong-demo";
/// Between two lines of progress, where nobody watches.
const EVERY: Duration = Duration::from_secs(2);

/// Shows the whole job on this machine: a county of made-up people, from tables to report.
#[derive(Debug, Args)]
#[command(after_help = "gong demo\ngong demo --people 200000 --out /tmp/demo\ngong demo --seed 7 --json")]
pub struct DemoArgs {
    /// The folder, which must be empty; a new one beside this place when not given.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// How many people to make up.
    #[arg(long, value_name = "COUNT", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(300..=500_000))]
    people: u32,
    /// The same seed makes the same people and the same counts.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub(super) async fn run(context: &Context, args: DemoArgs) -> anyhow::Result<Ended> {
    let dir = std::path::absolute(args.out.unwrap_or_else(fresh))?;
    let settings = Settings { dir, people: usize::try_from(args.people)?, seed: args.seed };
    let stage = Terminal::new(context.global.json);
    let outcome = demo::run(&settings, &stage).await?;
    if context.global.json {
        output::json(&outcome)?;
    } else {
        tell(&outcome);
    }
    Ok(if outcome.wrong.is_empty() { Ended::Done } else { Ended::NotGood })
}

/// `gong-demo`, or the first of `gong-demo-2` … that is not there yet.
fn fresh() -> PathBuf {
    let numbered = (2..).map(|n| PathBuf::from(format!("{FOLDER}-{n}")));
    std::iter::once(PathBuf::from(FOLDER)).chain(numbered).find(|p| !p.exists()).unwrap_or_default()
}

fn tell(outcome: &Outcome) {
    let mut table = output::table(&[
        say!("任务", "dispatch"),
        say!("事项", "item"),
        say!("发布对象", "audience"),
        say!("发送记录", "deliveries"),
        say!("到达", "reached"),
        say!("未到达", "unreached"),
    ]);
    for one in &outcome.dispatches {
        let numbers = [one.members, one.deliveries, one.reached, one.unreached].map(output::number);
        table.add_row([one.no.to_string(), one.title.clone()].into_iter().chain(numbers));
    }
    output::line(table);
    #[allow(clippy::cast_precision_loss)] // shown rounded
    let (seconds, peak) = (outcome.seconds, outcome.server_peak_bytes as f64 / 1_048_576.0);
    output::line(say!(
        "用时 {seconds:.1} 秒，gong serve 内存峰值 {peak:.0} MB",
        "{seconds:.1} s; gong serve held {peak:.0} MB at most"
    ));
    let doubled: u64 = outcome.gateways.values().map(|t| t.doubled).sum();
    if outcome.wrong.is_empty() {
        output::line(say!(
            "账目守恒：每个对象恰好计一次，每条发送记录都有下落；网关收到两次的 {doubled} 条都已标记",
            "the books add up: everybody is counted once, every delivery is accounted for; all {doubled} that a gateway has twice are flagged"
        ));
    } else {
        let list = outcome.wrong.join("\n  ");
        output::note(say!("账目不守恒：\n  {list}", "the books do not add up:\n  {list}"));
    }
    tell_folder(&outcome.dir, outcome);
}

fn tell_folder(dir: &Path, outcome: &Outcome) {
    let shown = dir.display();
    output::line(say!("\n留在 {shown}：", "\nleft in {shown}:"));
    for (name, files) in &outcome.left {
        output::line(format!("  {name}{}", if *files > 1 { format!("  ({files})") } else { String::new() }));
    }
    output::note(say!("接下来：cat {shown}/NEXT.txt", "next: cat {shown}/NEXT.txt"));
}

/// Bars where people watch, lines elsewhere; beside JSON everything goes to standard error.
struct Terminal {
    json: bool,
    bars: MultiProgress,
    shown: Mutex<Vec<(String, ProgressBar)>>,
    /// The newest line, and when one was printed last; for where nobody watches.
    newest: Mutex<(String, Option<Instant>)>,
}

impl Terminal {
    fn new(json: bool) -> Self {
        Self { json, bars: MultiProgress::new(), shown: Mutex::default(), newest: Mutex::default() }
    }

    fn print(&self, text: &str) {
        if self.json {
            output::note(text);
        } else {
            output::line(text);
        }
    }
}

fn words(bar: &Bar) -> String {
    let (arrived, failed, again) = (bar.arrived, bar.failed, bar.again);
    say!("到达 {arrived}  失败 {failed}  待重试 {again}", "arrived {arrived}  failed {failed}  again {again}")
}

impl Stage for Terminal {
    fn chapter(&self, title: &str) {
        self.print(&format!("\n== {title}"));
    }

    fn command(&self, line: &str) {
        self.print(&format!("$ {line}"));
    }

    fn words(&self, text: &str) {
        if !text.is_empty() {
            self.print(text);
        }
    }

    fn progress(&self, bars: &[Bar]) {
        if !output::is_watched() {
            let all = bars.iter().map(|b| format!("{} {}/{} {}", b.channel, b.settled, b.total, words(b)));
            let line = format!("  {}", all.collect::<Vec<_>>().join("  |  "));
            let Ok(mut newest) = self.newest.lock() else { return };
            if newest.1.is_none_or(|at| at.elapsed() >= EVERY) {
                self.print(&line);
                *newest = (String::new(), Some(Instant::now()));
            } else {
                newest.0 = line;
            }
            return;
        }
        let Ok(mut shown) = self.shown.lock() else { return };
        for bar in bars {
            let at = shown.iter().position(|(name, _)| *name == bar.channel).unwrap_or_else(|| {
                let style = ProgressStyle::with_template("  {prefix:>8} {bar:30} {pos}/{len}  {msg}");
                let new = ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
                shown.push((bar.channel.clone(), self.bars.add(new.with_prefix(bar.channel.clone()))));
                shown.len() - 1
            });
            let drawn = &shown[at].1;
            drawn.set_length(u64::try_from(bar.total).unwrap_or(0));
            drawn.set_message(words(bar));
            drawn.set_position(u64::try_from(bar.settled).unwrap_or(0));
        }
    }

    fn progress_over(&self) {
        if let Ok(mut newest) = self.newest.lock() {
            let (line, _) = std::mem::take(&mut *newest);
            if !line.is_empty() {
                self.print(&line);
            }
        }
        let Ok(mut shown) = self.shown.lock() else { return };
        for (_, bar) in shown.drain(..) {
            bar.abandon();
        }
    }
}
