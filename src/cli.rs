//! The command line: thin commands over the modules below. One file a command.
//!
//! Chinese by default, English with `--lang en`. Exit codes: 0 done, 1 failed, 2 the
//! command line is wrong, 3 refused by a rule, 4 done in part (rejected rows were
//! written to a file).

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::app::App;
use crate::config::Config;
use crate::lang::{self, Lang};
use crate::store::StoreError;
use crate::store::address::must_exist;
use crate::store::operators::Operator;

mod alarm;
mod audit;
mod backup;
mod bench;
mod book;
mod bounce;
mod calls;
mod check;
mod completions;
mod demo;
mod import;
mod init;
mod item;
mod locale;
mod loopback;
mod merges;
mod migrate;
mod operator;
pub mod output;
mod plan;
mod points;
mod posted;
mod press;
mod purge;
mod reach;
pub mod reach_view;
mod replies;
pub mod report;
mod restore;
mod results;
mod send;
mod serve;
mod sheet;
mod sheets;
mod signals;
mod status;
mod steer;
mod store;
mod unreached;
mod visits;
mod words;
mod work;
mod workers;

/// gong: one approved item, every person it concerns.
#[derive(Debug, Parser)]
#[command(name = "gong", version, disable_help_subcommand = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options every command takes.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// The site's configuration.
    #[arg(long, global = true, value_name = "FILE", default_value = "gong.toml", env = "GONG_CONFIG")]
    pub config: PathBuf,
    /// Who acts.
    #[arg(long = "as", global = true, value_name = "NAME", env = "GONG_AS")]
    pub operator: Option<String>,
    /// zh or en.
    #[arg(long, global = true, value_name = "LANG", env = "GONG_LANG")]
    pub lang: Option<Lang>,
    /// Print JSON for programs.
    #[arg(long, global = true)]
    pub json: bool,
}

/// The commands, in the order in which work flows.
#[derive(Debug, Subcommand)]
pub enum Command {
    Init(init::InitArgs),
    Check(check::CheckArgs),
    Alarm(alarm::AlarmArgs),
    Operator(operator::OperatorArgs),
    Item(item::ItemArgs),
    Import(import::ImportArgs),
    Merges(merges::MergesArgs),
    Plan(plan::PlanArgs),
    Send(send::SendArgs),
    Status(status::StatusArgs),
    Pause(steer::Steer),
    Resume(steer::Steer),
    Cancel(steer::Steer),
    Rate(steer::Rate),
    Reach(reach::ReachArgs),
    Unreached(unreached::UnreachedArgs),
    Call(calls::CallArgs),
    Calls(calls::CallsArgs),
    Confirm(calls::ConfirmArgs),
    Replies(replies::RepliesArgs),
    Report(report::ReportArgs),
    Points(points::PointsArgs),
    Posted(posted::PostedArgs),
    Sheets(sheets::SheetsArgs),
    Visits(visits::VisitsArgs),
    Results(results::ResultsArgs),
    Sheet(sheet::SheetArgs),
    Backup(backup::BackupArgs),
    Restore(restore::RestoreArgs),
    Purge(purge::PurgeArgs),
    Migrate(migrate::MigrateArgs),
    Store(store::StoreArgs),
    Serve(serve::ServeArgs),
    Work(work::WorkArgs),
    Workers(workers::WorkersArgs),
    Bounce(bounce::BounceArgs),
    Audit(audit::AuditArgs),
    Loopback(loopback::LoopbackArgs),
    Completions(completions::CompletionsArgs),
    Bench(bench::BenchArgs),
    Demo(demo::DemoArgs),
    #[command(hide = true)]
    Press(press::PressArgs),
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Done,
    /// Rejected rows were written to a file.
    InPart,
    /// Something is not as it should be (`gong check`, `gong audit verify`).
    NotGood,
}

/// What commands run with.
pub struct Context {
    pub global: Global,
}

impl Context {
    /// Reads the configuration; its language holds unless the command line chose one.
    pub fn config(&self) -> anyhow::Result<Config> {
        let config = Config::load(&self.global.config)?;
        if self.global.lang.is_none() {
            lang::set(config.lang()?);
        }
        Ok(config)
    }

    /// The configuration of a site whose database is there.
    pub fn site(&self) -> anyhow::Result<Config> {
        let config = self.config()?;
        must_exist(&config.store_url())?;
        Ok(config)
    }

    /// Opens the site.
    pub async fn app(&self) -> anyhow::Result<App> {
        App::open(self.site()?).await
    }

    /// The operator who acts.
    pub async fn operator(&self, app: &App) -> Result<Operator, StoreError> {
        app.store.acting(self.global.operator.as_deref()).await
    }
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match locale::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return output::failed(&error.into(), cli.global.json),
    };
    let json = cli.global.json;
    let context = Context { global: cli.global };
    match runtime.block_on(run(&context, cli.command)) {
        Ok(Ended::Done) => ExitCode::SUCCESS,
        Ok(Ended::InPart) => ExitCode::from(4),
        Ok(Ended::NotGood) => ExitCode::FAILURE,
        Err(error) => output::failed(&error, json),
    }
}

async fn run(context: &Context, command: Command) -> anyhow::Result<Ended> {
    match command {
        Command::Init(args) => init::run(context, args).await,
        Command::Check(args) => check::run(context, args).await,
        Command::Alarm(args) => alarm::run(context, args).await,
        Command::Operator(args) => operator::run(context, args).await,
        Command::Item(args) => item::run(context, args).await,
        Command::Import(args) => import::run(context, args).await,
        Command::Merges(args) => merges::run(context, args).await,
        Command::Plan(args) => plan::run(context, args).await,
        Command::Send(args) => send::run(context, args).await,
        Command::Status(args) => status::run(context, args).await,
        Command::Pause(args) => steer::run(context, args, "paused").await,
        Command::Resume(args) => steer::run(context, args, "active").await,
        Command::Cancel(args) => steer::run(context, args, "cancelled").await,
        Command::Rate(args) => steer::rate(context, args).await,
        Command::Reach(args) => reach::run(context, args).await,
        Command::Points(args) => points::run(context, args).await,
        Command::Posted(args) => posted::run(context, args).await,
        Command::Sheets(args) => sheets::run(context, args).await,
        Command::Unreached(args) => unreached::run(context, args).await,
        Command::Call(args) => calls::call(context, args).await,
        Command::Calls(args) => calls::calls(context, args).await,
        Command::Confirm(args) => calls::confirm(context, args).await,
        Command::Replies(args) => replies::run(context, args).await,
        Command::Report(args) => report::run(context, args).await,
        Command::Visits(args) => visits::run(context, args).await,
        Command::Results(args) => results::run(context, args).await,
        Command::Sheet(args) => sheet::run(context, args).await,
        Command::Backup(args) => backup::run(context, args).await,
        Command::Restore(args) => restore::run(context, args).await,
        Command::Purge(args) => purge::run(context, args).await,
        Command::Migrate(args) => migrate::run(context, args).await,
        Command::Store(args) => store::run(context, args).await,
        Command::Serve(args) => serve::run(context, args).await,
        Command::Work(args) => work::run(context, args).await,
        Command::Workers(args) => workers::run(context, args).await,
        Command::Bounce(args) => bounce::run(context, args).await,
        Command::Audit(args) => audit::run(context, args).await,
        Command::Loopback(args) => loopback::run(context, args).await,
        Command::Completions(args) => completions::run(&args),
        Command::Bench(args) => bench::run(context, args).await,
        Command::Demo(args) => demo::run(context, args).await,
        Command::Press(args) => press::run(&args),
    }
}
