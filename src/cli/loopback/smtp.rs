//! `gong loopback smtp`: a mail server to rehearse with.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::{Flags, from_file, listening, stopped};
use crate::cli::signals::Signals;
use crate::cli::{Context, Ended, output};
use crate::loopback::smtp::SmtpLoopback;
use crate::say;

/// A mail server: takes mail, errs as it is told, writes bounces.
#[derive(Debug, Args)]
#[command(after_help = "gong loopback smtp --print-channel >> gong.toml\n\
                        gong loopback smtp --dir taken --bounces data/bounces --undelivered 0.02\n\
                        gong loopback smtp --temporary 0.05 --lost-answer 0.01 --stats-on-exit --json")]
pub(super) struct SmtpArgs {
    /// Where to listen, on this machine; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9025")]
    listen: SocketAddr,
    /// Keep every mail that is taken as an .eml file in this folder.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Write bounces of the share --undelivered into this Maildir.
    #[arg(long, value_name = "DIR")]
    bounces: Option<PathBuf>,
    /// A TOML file that says how it behaves; flags override it.
    #[arg(long, value_name = "FILE")]
    behaviour: Option<PathBuf>,
    /// Print the counts as JSON when it stops.
    #[arg(long)]
    stats_on_exit: bool,
    /// Print the lines of gong.toml that use this server, and stop.
    #[arg(long)]
    print_channel: bool,
    // Last, for what follows would stand under its heading.
    #[command(flatten)]
    flags: Flags,
}

pub(super) async fn run(context: &Context, args: SmtpArgs) -> anyhow::Result<Ended> {
    if args.print_channel {
        output::line(block(args.listen));
        return Ok(Ended::Done);
    }
    let behaviour = args.flags.over(&from_file(args.behaviour.as_deref())?)?;
    let server = SmtpLoopback { dir: args.dir, bounces: args.bounces, ..SmtpLoopback::new(behaviour) };
    let signals = Signals::take()?;
    let running = server.start(args.listen).await?;
    let at = running.addr;
    let words = say!(
        "回环邮件服务器正在监听 {at}，什么都不会发到本机之外。按 Ctrl-C 停止",
        "the loopback mail server listens on {at}; nothing leaves this machine. Ctrl-C stops it"
    );
    listening(context, at, words)?;
    signals.wait().await;
    let stats = running.stop().await;
    let (taken, twice, bounced) = (stats.messages, stats.duplicates, stats.receipts_sent);
    let words = say!(
        "收下邮件 {taken}，其中重复 {twice}，退信 {bounced}",
        "{taken} mails taken, {twice} of them twice, {bounced} bounced"
    );
    stopped(context, args.stats_on_exit, &stats, words)
}

fn block(listen: SocketAddr) -> String {
    let about = say!(
        "回环邮件服务器，仅供演练：gong loopback smtp --bounces data/bounces",
        "a loopback mail server, to rehearse with: gong loopback smtp --bounces data/bounces"
    );
    let (host, port) = (listen.ip(), listen.port());
    format!(
        "\n# {about}\n[channels.mail]\ngateway = \"smtp\"\nvars    = {{ host = \"{host}\", port = \"{port}\", tls = \"none\", \
         from = \"alert@hekou.example\", bounces = \"data/bounces\" }}\nlimits  = {{ rate = 500 }}"
    )
}
