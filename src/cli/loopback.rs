//! `gong loopback`: a gateway of gong's own on this machine, to rehearse with.

mod channel;
mod flags;
mod media;
mod smtp;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::signals::Signals;
use super::{Context, Ended, output};
use crate::loopback::{Behaviour, Credentials, Loopback, Stats};
use crate::say;
use channel::Gateway;
use flags::Flags;

/// Runs a loopback gateway: nothing leaves this machine.
#[derive(Debug, Args)]
#[command(
    after_help = "gong loopback sms\ngong loopback sms --print-channel --secrets-dir data >> gong.toml\ngong loopback media --dir posts\ngong loopback smtp --dir taken"
)]
pub struct LoopbackArgs {
    #[command(subcommand)]
    command: Kind,
}

#[derive(Debug, Subcommand)]
enum Kind {
    Sms(Box<SmsArgs>),
    Media(Box<media::MediaArgs>),
    Smtp(Box<smtp::SmtpArgs>),
}

/// An SMS gateway, as Kannel and as a signed JSON interface at once.
#[derive(Debug, Args)]
#[command(after_help = "gong loopback sms --print-channel --secrets-dir data >> gong.toml\n\
                        gong loopback sms\n\
                        gong loopback sms --latency 10-50 --temporary 0.01 --no-receipt 0.05\n\
                        gong loopback sms --listen 127.0.0.1:0 --journal taken.log --stats-on-exit --json")]
struct SmsArgs {
    /// Where to listen, on this machine; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9013")]
    listen: SocketAddr,
    /// The user name that Kannel's interface asks for.
    #[arg(long, value_name = "NAME", default_value = "gong")]
    username: String,
    /// The password that Kannel's interface asks for.
    #[arg(long, value_name = "PASSWORD", default_value = "loopback")]
    password: String,
    /// The key of the JSON interface's signatures.
    #[arg(long, value_name = "KEY", default_value = "loopback")]
    secret: String,
    /// A TOML file that says how it behaves; flags override it.
    #[arg(long, value_name = "FILE")]
    behaviour: Option<PathBuf>,
    /// Append a line for every accepted request to this file.
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// Print the counts as JSON when it stops.
    #[arg(long)]
    stats_on_exit: bool,
    /// Print the lines of gong.toml that use this gateway, and stop.
    #[arg(long)]
    print_channel: bool,
    /// The interface to print the lines for.
    #[arg(long, value_name = "NAME", default_value = "kannel", requires = "print_channel")]
    gateway: Gateway,
    /// Write the secrets to files in this folder, for --print-channel.
    #[arg(long, value_name = "DIR", requires = "print_channel")]
    secrets_dir: Option<PathBuf>,
    // Last, for what follows would stand under its heading.
    #[command(flatten)]
    flags: Flags,
}

pub(super) async fn run(context: &Context, args: LoopbackArgs) -> anyhow::Result<Ended> {
    match args.command {
        Kind::Sms(args) => sms(context, *args).await,
        Kind::Media(args) => media::run(context, *args).await,
        Kind::Smtp(args) => smtp::run(context, *args).await,
    }
}

async fn sms(context: &Context, args: SmsArgs) -> anyhow::Result<Ended> {
    let credentials = Credentials { username: args.username, password: args.password, secret: args.secret };
    if args.print_channel {
        let block = channel::block(args.gateway, args.listen, &credentials, args.secrets_dir.as_deref())?;
        output::line(block);
        return Ok(Ended::Done);
    }
    let behaviour = args.flags.over(&from_file(args.behaviour.as_deref())?)?;
    let gateway = Loopback { journal: args.journal, ..Loopback::new(credentials, behaviour) };
    let stats = until_stopped(context, gateway, args.listen).await?;
    let (requests, messages, receipts) = (stats.requests, stats.messages, stats.receipts_sent);
    let words = say!(
        "请求 {requests}，收下短信 {messages}，发回回执 {receipts}",
        "{requests} requests, {messages} messages taken, {receipts} receipts sent"
    );
    stopped(context, args.stats_on_exit, &stats, words)
}

/// Runs the gateway until a signal ends it, and says where it listens.
async fn until_stopped(context: &Context, gateway: Loopback, listen: SocketAddr) -> anyhow::Result<Stats> {
    let signals = Signals::take()?;
    let running = gateway.start(listen).await?;
    let at = running.addr;
    let words = say!(
        "回环网关正在监听 {at}，什么都不会发到本机之外。按 Ctrl-C 停止；计数：http://{at}/stats",
        "the loopback gateway listens on {at}; nothing leaves this machine. Ctrl-C stops it; counts: http://{at}/stats"
    );
    listening(context, at, words)?;
    signals.wait().await;
    Ok(running.stop().await)
}

fn listening(context: &Context, at: SocketAddr, words: String) -> anyhow::Result<()> {
    if context.global.json {
        return output::json(&json!({ "listening": at.to_string() }));
    }
    output::line(words);
    Ok(())
}

/// The counts at the end, in words or as JSON.
fn stopped(context: &Context, as_json: bool, stats: &Stats, words: String) -> anyhow::Result<Ended> {
    if as_json || context.global.json {
        output::json(stats)?;
    } else {
        output::line(words);
    }
    Ok(Ended::Done)
}

fn from_file(path: Option<&std::path::Path>) -> anyhow::Result<Behaviour> {
    let Some(path) = path else { return Ok(Behaviour::default()) };
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|e| anyhow::anyhow!(say!("读不出 {shown}：{e}", "cannot read {shown}: {e}")))?;
    toml::from_str(&text).map_err(|e| anyhow::anyhow!("{shown}: {e}"))
}
