//! `gong bench`: how fast this machine is, beside what it could be.

use std::path::PathBuf;
use std::sync::LazyLock;

use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};

use super::{Context, Ended, output};
use crate::bench::{self, Name, Report, Settings};
use crate::say;

/// Measures with made-up data, in a folder of its own that is removed afterwards.
#[derive(Debug, Args)]
#[command(
    after_help = "gong bench snapshot\ngong bench sms --latency 20 --json\ngong bench import --n 100000 --runs 1\ngong bench dispatch --store postgres://gong@db/gong --broker amqp://gong@mq/bench"
)]
pub struct BenchArgs {
    #[arg(value_enum, value_name = "NAME")]
    name: Work,
    /// How many recipients, deliveries, rows or receipts.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(i64).range(1..=50_000_000))]
    n: Option<i64>,
    /// The median of so many runs is reported, after one that warms up.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=99))]
    runs: u16,
    /// A PostgreSQL server, in place of a fresh SQLite file; a schema is made and dropped.
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// A RabbitMQ, with --store: a virtual host of its own, in which no gong lives.
    #[arg(long, value_name = "URL", requires = "store")]
    broker: Option<String>,
    /// Where the temporary folder goes; choose the disk that matters.
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    dir: PathBuf,
    /// The same seed makes the same people.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// sms, callbacks, workers: milliseconds until the gateway answers (workers: 20).
    #[arg(long, value_name = "MS")]
    latency: Option<u64>,
    /// sms, callbacks, receipts, lanes, workers: requests under way at once (256; a worker of workers: 64).
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=4096))]
    in_flight: Option<u16>,
    /// sms: numbers that the gateway takes in one request; beside it, the rehearsal channel.
    /// callbacks: receipts in each.
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    numbers: u16,
    /// lanes: parts a second that the channel allows.
    #[arg(long, value_name = "PARTS", default_value_t = 4_000.0)]
    rate: f64,
    /// sms: the gateway sends receipts, and they are waited for.
    #[arg(long)]
    receipts: bool,
}

/// One of the benches, or what one of them starts beside itself.
#[derive(Debug, Clone, Copy)]
enum Work {
    Measure(Name),
    /// The other side of `sms`.
    Gateway,
}

impl ValueEnum for Work {
    fn value_variants<'a>() -> &'a [Self] {
        static ALL: LazyLock<Vec<Work>> = LazyLock::new(|| {
            Name::value_variants().iter().copied().map(Work::Measure).chain([Work::Gateway]).collect()
        });
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            Self::Measure(name) => name.to_possible_value(),
            Self::Gateway => Some(PossibleValue::new("gateway").hide(true)),
        }
    }
}

pub(super) async fn run(context: &Context, args: BenchArgs) -> anyhow::Result<Ended> {
    let Work::Measure(name) = args.name else { return gateway(&args).await };
    let settings = Settings {
        n: args.n,
        runs: args.runs.into(),
        store: args.store,
        dir: args.dir,
        seed: args.seed,
        broker: args.broker,
        latency_ms: args.latency,
        in_flight: args.in_flight.map(Into::into),
        numbers: args.numbers.into(),
        rate: args.rate,
        receipts: args.receipts,
    };
    let report = bench::run(name, &settings).await?;
    if context.global.json {
        output::json(&report)?;
    } else {
        show(&report);
    }
    Ok(Ended::Done)
}

/// Serves until whoever started us closes our standard input, or ends.
async fn gateway(args: &BenchArgs) -> anyhow::Result<Ended> {
    let running = bench::gateway::listen(args.latency.unwrap_or(0), args.receipts).await?;
    output::line(running.addr);
    tokio::task::spawn_blocking(|| std::io::read_to_string(std::io::stdin())).await??;
    running.stop().await;
    Ok(Ended::Done)
}

fn show(r: &Report) {
    let mut table = output::table(&[say!("项目", "measure"), say!("数值", "value")]);
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // shown rounded
    let (rate, ceiling, peak) =
        (r.per_second.round() as i64, r.ceiling_per_second.round() as i64, r.peak_rss_bytes as f64 / 1_048_576.0);
    let rows = [
        (say!("测试", "bench"), format!("{} ({}, {})", r.name, r.store, r.queue)),
        (say!("数量", "n"), output::number(r.n)),
        (say!("用时（秒，中位数）", "seconds (median)"), format!("{:.2}", r.seconds)),
        (say!("每秒", "per second"), output::number(rate)),
        (say!("上限，每秒", "ceiling per second"), output::number(ceiling)),
        (say!("与上限之比", "ratio"), format!("{:.2} ({:.2}–{:.2})", r.ratio, r.ratio_min, r.ratio_max)),
        (say!("用时为上限的倍数", "times bare"), format!("{:.2}", r.times_bare)),
        (say!("内存峰值（MiB）", "peak memory (MiB)"), format!("{peak:.0}")),
    ];
    for (label, value) in rows {
        table.add_row([label, value]);
    }
    for (name, value) in &r.details {
        table.add_row([name.clone(), value.to_string()]);
    }
    output::line(table);
    output::note(r.ceiling);
}
