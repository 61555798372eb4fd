//! How fast this machine is at what gong does, each beside its ceiling: the bare
//! work that it comes down to, measured in the same run.
//!
//! Everything is made up and stays in a folder (or schema) of its own, which is
//! removed at the end. Memory is the most this process held during the timed part,
//! the preparations forgotten first.

mod bare_client;
mod broker;
mod callbacks;
mod caller;
mod channels;
mod connection;
mod dispatch;
mod email;
pub mod gateway;
mod import;
mod lanes;
mod peak;
mod processes;
mod queue;
mod receipts;
mod sheets;
mod site;
mod sms;
mod snapshot;
mod workers;

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Map, Value};

use self::broker::Broker;
use crate::channel::registry::ChannelSettings;
use crate::planner::REHEARSAL;
use crate::say;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Name {
    /// audience to members, deliveries and batches
    Snapshot,
    /// the engine on a channel that costs nothing
    Dispatch,
    /// the engine over HTTP, one request a message
    Sms,
    /// the engine over SMTP, to Postfix's smtp-sink over two connections
    Email,
    /// a CSV of recipients
    Import,
    /// receipts, one a callback
    Receipts,
    /// the engine on a channel that costs nothing, and 5,000 receipts a second beside it
    Callbacks,
    /// sheets on paper, by one printing process
    Sheets,
    /// an immediate dispatch beside a routine one, on a channel with a rate
    Lanes,
    /// batches from their table through the broker to a worker's claim
    Queue,
    /// one sending process against two
    Workers,
}

/// How to measure.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Members, deliveries, rows or receipts; each bench has a default.
    pub n: Option<i64>,
    /// The median of so many runs counts.
    pub runs: usize,
    /// A database server (`postgres://…`); a fresh SQLite file when not given.
    pub store: Option<String>,
    /// A virtual host of a RabbitMQ that holds no gong (`amqp://…`); no broker when not given.
    pub broker: Option<String>,
    /// Where the temporary folder goes: a real disk, or durability costs nothing.
    pub dir: PathBuf,
    pub seed: u64,
    /// How long the gateway takes over an answer, in milliseconds; `workers` has a default.
    pub latency_ms: Option<u64>,
    /// Requests under way at once; each bench has a default.
    pub in_flight: Option<usize>,
    /// Numbers that the gateway takes in one request, or reports on in one.
    pub numbers: usize,
    /// Parts a second that the channel of `lanes` allows.
    pub rate: f64,
    /// The gateway sends receipts, and they are waited for.
    pub receipts: bool,
}

impl Settings {
    /// Whether a round counts: the first warms up (files grow, caches fill, statements are
    /// prepared) and does not.
    fn rounds(&self) -> impl Iterator<Item = bool> + use<> {
        std::iter::once(false).chain(std::iter::repeat_n(true, self.runs))
    }
}

/// One run: gong and its ceiling.
#[derive(Debug, Clone, Copy, Serialize)]
struct Run {
    n: i64,
    seconds: f64,
    bare_seconds: f64,
    peak_rss_bytes: u64,
}

/// What was measured; medians over the runs.
#[derive(Debug, Serialize)]
pub struct Report {
    pub name: &'static str,
    pub n: i64,
    pub seconds: f64,
    pub per_second: f64,
    pub ceiling_per_second: f64,
    /// How fast beside the ceiling of the same run: the median over the runs, which the two
    /// rates above, medians each by itself, need not have.
    pub ratio: f64,
    /// The least and the greatest of a single run.
    pub ratio_min: f64,
    pub ratio_max: f64,
    /// Seconds over those of the ceiling: 1 / `ratio`.
    pub times_bare: f64,
    /// Of the first run, from the end of its preparations on.
    pub peak_rss_bytes: u64,
    pub store: &'static str,
    pub queue: &'static str,
    /// What the ceiling is.
    pub ceiling: &'static str,
    runs: Vec<Run>,
    #[serde(flatten)]
    pub details: Map<String, Value>,
}

/// What a bench hands back.
struct Measured {
    name: &'static str,
    ceiling: &'static str,
    runs: Vec<Run>,
    details: Map<String, Value>,
}

impl Settings {
    /// Requests under way at once, where the bench has no default of its own.
    fn at_once(&self) -> usize {
        self.in_flight.unwrap_or(256)
    }
}

impl Name {
    fn default_n(self) -> i64 {
        match self {
            Self::Snapshot | Self::Import | Self::Callbacks => 1_000_000,
            Self::Dispatch => 200_000,
            Self::Sms => 50_000,
            Self::Email => 20_000,
            Self::Receipts => 100_000,
            Self::Sheets => 2_000,
            Self::Lanes => 200_000,
            Self::Queue => 10_000,
            Self::Workers => 60_000,
        }
    }

    /// Runs through a broker where one is given.
    fn takes_broker(self) -> bool {
        matches!(self, Self::Dispatch | Self::Sms | Self::Lanes | Self::Queue | Self::Workers)
    }
}

/// Measures.
///
/// # Errors
/// When a database, a folder or a port cannot be had, or the result is not what it
/// has to be.
pub async fn run(name: Name, settings: &Settings) -> anyhow::Result<Report> {
    let n = settings.n.unwrap_or_else(|| name.default_n()).max(1);
    let broker = match &settings.broker {
        Some(url) if name.takes_broker() => Some(Broker::enter(url).await?),
        Some(_) => anyhow::bail!(say!(
            "这项测试不经过消息队列，不要写 --broker",
            "this bench uses no broker: leave --broker out"
        )),
        None => None,
    };
    let measured = measure(name, settings, n).await;
    if let Some(broker) = broker {
        broker.clean().await?;
    }
    Ok(report(measured?, settings))
}

async fn measure(name: Name, settings: &Settings, n: i64) -> anyhow::Result<Measured> {
    match name {
        Name::Snapshot => snapshot::run(settings, n).await,
        Name::Dispatch => dispatch::run(settings, n).await,
        Name::Sms => sms::run(settings, n).await,
        Name::Email => email::run(settings, n).await,
        Name::Import => import::run(settings, n).await,
        Name::Receipts => receipts::run(settings, n).await,
        Name::Callbacks => callbacks::run(settings, n).await,
        Name::Sheets => sheets::run(settings, n).await,
        Name::Lanes => lanes::run(settings, n).await,
        Name::Queue => queue::run(settings, n).await,
        Name::Workers => workers::run(settings, n).await,
    }
}

fn report(m: Measured, settings: &Settings) -> Report {
    #[allow(clippy::cast_precision_loss)] // counts of rows
    let per_second = |seconds: fn(&Run) -> f64| median(m.runs.iter().map(|r| r.n as f64 / seconds(r).max(1e-9)));
    let ratios: Vec<f64> = m.runs.iter().map(Run::ratio).collect();
    let ratio = median(ratios.iter().copied());
    Report {
        name: m.name,
        n: m.runs.first().map_or(0, |r| r.n),
        seconds: median(m.runs.iter().map(|r| r.seconds)),
        per_second: per_second(|r| r.seconds),
        ceiling_per_second: per_second(|r| r.bare_seconds),
        ratio,
        ratio_min: ratios.iter().copied().fold(f64::INFINITY, f64::min),
        ratio_max: ratios.iter().copied().fold(0.0, f64::max),
        times_bare: 1.0 / ratio,
        // Later runs still hold what the ceiling before them took.
        peak_rss_bytes: m.runs.first().map_or(0, |r| r.peak_rss_bytes),
        store: if settings.store.is_some() { "postgres" } else { "sqlite" },
        queue: if settings.broker.is_some() { "rabbitmq" } else { "embedded" },
        ceiling: m.ceiling,
        runs: m.runs,
        details: m.details,
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let (below, above) = (values.len().saturating_sub(1) / 2, values.len() / 2);
    values.get(below).zip(values.get(above)).map_or(0.0, |(a, b)| a.midpoint(*b))
}

/// A channel that takes everything at once, within the limits it ships with.
fn rehearsal() -> ChannelSettings {
    ChannelSettings { gateway: REHEARSAL.to_owned(), ..ChannelSettings::default() }
}

impl Run {
    fn new(n: i64, own: Duration, bare: Duration, peak_rss_bytes: u64) -> Self {
        Self { n, seconds: own.as_secs_f64(), bare_seconds: bare.as_secs_f64(), peak_rss_bytes }
    }

    fn ratio(&self) -> f64 {
        self.bare_seconds / self.seconds.max(1e-9)
    }
}

#[cfg(test)]
mod tests;
