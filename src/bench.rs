//! How fast this machine is at what gong does, each beside its ceiling: the bare
//! work that it comes down to, measured in the same run.
//!
//! Everything is made up and stays in a folder (or schema) of its own, which is
//! removed at the end. Memory is the most this process held during the timed part,
//! the preparations forgotten first.

mod bare_client;
mod callbacks;
mod dispatch;
mod email;
pub mod gateway;
mod import;
mod peak;
mod receipts;
mod sheets;
mod site;
mod sms;
mod snapshot;

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::channel::registry::ChannelSettings;
use crate::planner::REHEARSAL;

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
    /// the engine on a channel that costs nothing, and 5,000 callbacks a second beside it
    Callbacks,
    /// sheets on paper, by one printing process
    Sheets,
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
    /// Where the temporary folder goes: a real disk, or durability costs nothing.
    pub dir: PathBuf,
    pub seed: u64,
    /// How long the gateway takes over an answer, in milliseconds.
    pub latency_ms: u64,
    /// Requests under way at once.
    pub in_flight: usize,
    /// The gateway sends receipts, and they are waited for.
    pub receipts: bool,
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
    /// `per_second` / `ceiling_per_second`.
    pub ratio: f64,
    /// Seconds over those of the ceiling.
    pub times_bare: f64,
    /// Of the first run, from the end of its preparations on.
    pub peak_rss_bytes: u64,
    pub store: &'static str,
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

impl Name {
    fn default_n(self) -> i64 {
        match self {
            Self::Snapshot | Self::Import => 1_000_000,
            Self::Dispatch | Self::Callbacks => 200_000,
            Self::Sms => 50_000,
            Self::Email => 20_000,
            Self::Receipts => 100_000,
            Self::Sheets => 2_000,
        }
    }
}

/// Measures.
///
/// # Errors
/// When a database, a folder or a port cannot be had, or the result is not what it
/// has to be.
pub async fn run(name: Name, settings: &Settings) -> anyhow::Result<Report> {
    let n = settings.n.unwrap_or_else(|| name.default_n()).max(1);
    let measured = match name {
        Name::Snapshot => snapshot::run(settings, n).await?,
        Name::Dispatch => dispatch::run(settings, n).await?,
        Name::Sms => sms::run(settings, n).await?,
        Name::Email => email::run(settings, n).await?,
        Name::Import => import::run(settings, n).await?,
        Name::Receipts => receipts::run(settings, n).await?,
        Name::Callbacks => callbacks::run(settings, n).await?,
        Name::Sheets => sheets::run(settings, n).await?,
    };
    Ok(report(measured, if settings.store.is_some() { "postgres" } else { "sqlite" }))
}

fn report(m: Measured, store: &'static str) -> Report {
    #[allow(clippy::cast_precision_loss)] // counts of rows
    let per_second = |seconds: fn(&Run) -> f64| median(m.runs.iter().map(|r| r.n as f64 / seconds(r).max(1e-9)));
    let (own, ceiling) = (per_second(|r| r.seconds), per_second(|r| r.bare_seconds));
    Report {
        name: m.name,
        n: m.runs.first().map_or(0, |r| r.n),
        seconds: median(m.runs.iter().map(|r| r.seconds)),
        per_second: own,
        ceiling_per_second: ceiling,
        ratio: own / ceiling,
        times_bare: ceiling / own,
        // Later runs still hold what the ceiling before them took.
        peak_rss_bytes: m.runs.first().map_or(0, |r| r.peak_rss_bytes),
        store,
        ceiling: m.ceiling,
        runs: m.runs,
        details: m.details,
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// A channel that takes everything at once, within the limits it ships with.
fn rehearsal() -> ChannelSettings {
    ChannelSettings { gateway: REHEARSAL.to_owned(), ..ChannelSettings::default() }
}

impl Run {
    fn new(n: i64, own: Duration, bare: Duration, peak_rss_bytes: u64) -> Self {
        Self { n, seconds: own.as_secs_f64(), bare_seconds: bare.as_secs_f64(), peak_rss_bytes }
    }
}

#[cfg(test)]
mod tests;
