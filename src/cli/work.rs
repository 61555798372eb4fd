//! `gong work`: workers and nothing else, beside other engines on a server store.

use clap::Args;
use tokio::net::TcpListener;

use super::serve::bind;
use super::signals::Signals;
use super::{Context, Ended, output};
use crate::app::{App, Roles, Served};
use crate::clock::Clock;
use crate::{say, telemetry};

/// Sends what the planner laid down, beside other workers, until SIGTERM or Ctrl-C.
#[derive(Debug, Args)]
#[command(after_help = "gong work\ngong work --channels sms,email\ngong work --channels sms --listen 0.0.0.0:9088")]
pub struct WorkArgs {
    /// The channels to serve, all of them when left out.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    channels: Vec<String>,
    /// Where to answer /healthz, /readyz and /metrics; nowhere when left out.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
}

pub(super) async fn run(context: &Context, args: WorkArgs) -> anyhow::Result<Ended> {
    let config = context.site()?;
    let logs = config.log.dir.as_ref().map(|dir| config.path(dir));
    let _guard = telemetry::start_logs(&config.log.filter, logs.as_deref())?;
    let app = App::open_with(config, Clock::System).await?;
    let listener: Option<TcpListener> = match &args.listen {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    let roles = Roles::workers(served(args.channels));
    let engine = super::serve::start(&app, &roles).await?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "working");
    output::note(say!("gong 的发送进程正在运行。按 Ctrl-C 停止", "gong's workers are running. Ctrl-C stops them"));
    let signals = Signals::take()?;
    engine.run(listener, async move { signals.wait().await }).await?;
    app.store.close().await;
    tracing::info!("stopped");
    Ok(Ended::Done)
}

/// All channels where none is named.
pub(super) fn served(names: Vec<String>) -> Served {
    if names.is_empty() { Served::All } else { Served::Only(names) }
}
