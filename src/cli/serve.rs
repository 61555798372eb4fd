//! `gong serve`: the engine and its HTTP side.

use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use tokio::net::TcpListener;

use super::signals::Signals;
use super::{Context, Ended, output};
use crate::app::engine::UnknownChannels;
use crate::app::{App, Engine, Roles, Served};
use crate::clock::Clock;
use crate::{say, telemetry};

/// Runs planner, workers, scheduler and callbacks until SIGTERM or Ctrl-C.
#[derive(Debug, Args)]
#[command(
    after_help = "gong serve\ngong serve --listen 0.0.0.0:8088\ngong serve --until-idle\ngong serve --no-workers"
)]
pub struct ServeArgs {
    /// Where to listen, in place of the configuration's.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Stop when every dispatch has finished.
    #[arg(long)]
    until_idle: bool,
    /// Send nothing: `gong work` does, in processes of its own.
    #[arg(long, conflicts_with = "channels")]
    no_workers: bool,
    /// The channels to serve, all of them when left out.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    channels: Vec<String>,
}

pub(super) async fn run(context: &Context, args: ServeArgs) -> anyhow::Result<Ended> {
    let config = context.site()?;
    let logs = config.log.dir.as_ref().map(|dir| config.path(dir));
    let _guard = telemetry::start_logs(&config.log.filter, logs.as_deref())?;
    let app = App::open_with(config, Clock::System).await?;
    let listener = bind(args.listen.as_deref().unwrap_or(&app.config.server.listen)).await?;
    let address = listener.local_addr()?;
    let workers = if args.no_workers { Served::None } else { super::work::served(args.channels) };
    let engine = start(&app, &Roles { workers, ..Roles::all() }).await?;
    tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), "serving");
    output::note(say!(
        "gong 正在运行，监听 {address}。按 Ctrl-C 停止",
        "gong is running on {address}. Ctrl-C stops it"
    ));
    let store = std::sync::Arc::clone(&app.store);
    let signals = Signals::take()?;
    let idle = async move {
        if !args.until_idle {
            std::future::pending::<()>().await;
        }
        while store.dispatches(true).await.is_ok_and(|open| !open.is_empty()) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let until = async move {
        tokio::select! {
            () = signals.wait() => {}
            () = idle => {}
        }
    };
    engine.serve(listener, until).await?;
    app.store.close().await;
    tracing::info!("stopped");
    Ok(Ended::Done)
}

/// Starts an engine; a channel nobody declared is a mistake of the command line.
pub(super) async fn start(app: &App, roles: &Roles) -> anyhow::Result<Engine> {
    app.start_engine_as(roles).await.map_err(|error| match error.downcast_ref::<UnknownChannels>() {
        Some(unknown) => output::Misused(unknown.to_string()).into(),
        None => error,
    })
}

pub(super) async fn bind(address: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| say!("不能监听 {address}", "cannot listen on {address}"))
}
