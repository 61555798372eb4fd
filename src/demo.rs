//! The whole job before a newcomer's eyes: one real county, made-up people, and every
//! step that a site takes from an empty folder to the report, on this machine alone.
//!
//! Nothing here knows a shortcut: the folder is a site like any other, its commands
//! are those that people type, `gong serve` runs beside them, and messages leave over
//! sockets to loopback gateways that err as real ones do. The seed decides who lives
//! there and what goes wrong, so the counts at the end are the same again.

mod books;
mod county;
mod dice;
mod follow;
mod gateways;
mod leave;
mod names;
mod people;
mod phones;
mod scenes;
mod server;
mod site;
mod tables;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

/// What to show.
#[derive(Debug, Clone)]
pub struct Settings {
    /// A folder that is empty or not there yet.
    pub dir: PathBuf,
    /// People to make up; organisations come on top.
    pub people: usize,
    pub seed: u64,
}

/// How far one channel has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bar {
    pub channel: String,
    pub total: i64,
    /// Nothing is left to do for these.
    pub settled: i64,
    pub arrived: i64,
    pub failed: i64,
    /// To be tried again, or nobody knows whether they were taken.
    pub again: i64,
}

/// Where the demo is shown: a terminal, or lines of a log.
pub trait Stage: Send + Sync {
    /// A new chapter begins.
    fn chapter(&self, title: &str);
    /// A command as somebody would type it.
    fn command(&self, line: &str);
    /// What it said, or what happened.
    fn words(&self, text: &str);
    /// How far the channels are.
    fn progress(&self, bars: &[Bar]);
    /// They have come to their end.
    fn progress_over(&self);
}

/// What came of it: the same for the same seed and number of people, but for the times
/// and the memory.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    pub dir: PathBuf,
    pub seed: u64,
    pub persons: usize,
    pub households: usize,
    pub organisations: usize,
    /// Duplicates that were found and joined.
    pub merged: i64,
    /// By title of the item: state → deliveries.
    pub dispatches: Vec<Told>,
    /// By gateway.
    pub gateways: BTreeMap<String, Taken>,
    /// What was left in the folder, each with the number of its files.
    pub left: BTreeMap<String, usize>,
    /// What is wrong; empty when everything adds up.
    pub wrong: Vec<String>,
    pub seconds: f64,
    /// The most memory `gong serve` held, in bytes (proc(5): `VmHWM`).
    pub server_peak_bytes: u64,
}

/// One dispatch at its end.
#[derive(Debug, Clone, Serialize)]
pub struct Told {
    pub no: i64,
    pub title: String,
    pub members: i64,
    pub deliveries: i64,
    pub reached: i64,
    pub informed: i64,
    pub unreached: i64,
    /// Channel → state → deliveries.
    pub channels: BTreeMap<String, BTreeMap<&'static str, i64>>,
}

/// What a loopback gateway took.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Taken {
    /// Messages, each counted once however often it came.
    pub messages: u64,
    /// Messages that it has twice; the books must call each of them a possible duplicate.
    pub doubled: u64,
}

/// Runs the demo.
///
/// # Errors
/// When the folder is in use, a command fails, or a gateway cannot listen.
pub async fn run(settings: &Settings, stage: &dyn Stage) -> anyhow::Result<Outcome> {
    scenes::run(settings, stage).await
}
