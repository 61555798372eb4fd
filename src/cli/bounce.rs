//! `gong bounce`: bounces by hand, or from a mail server's pipe.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use super::{Context, Ended, output};
use crate::say;

/// Largest bounce read, in bytes.
const MAX_MAIL: u64 = 4 * 1024 * 1024;

/// Reads bounces: finds the deliveries they are about and marks mailboxes that do not exist.
///
/// In an alias of a mail server: "|gong --config /etc/gong/gong.toml bounce mail - || exit 75",
/// so that the server tries again where gong could not keep it.
#[derive(Debug, Args)]
#[command(after_help = "gong bounce mail bounce.eml\ngong bounce mail - < bounce.eml\ngong bounce mail Maildir/new/*")]
pub struct BounceArgs {
    /// The mail channel.
    #[arg(value_name = "CHANNEL")]
    channel: String,
    /// Files with one mail each; standard input with `-` or when not given.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
}

pub(super) async fn run(context: &Context, args: BounceArgs) -> anyhow::Result<Ended> {
    let app = context.app().await?;
    let desk = app.desk().await?;
    let files = if args.files.is_empty() { vec!["-".into()] } else { args.files };
    let (mut known, mut mails) = (0, 0);
    for file in &files {
        let mail = read(file)?;
        let taken = desk.take_mail(&args.channel, &mail).await.with_context(|| file.display().to_string())?;
        known += taken.matched;
        mails += 1;
    }
    if context.global.json {
        output::json(&json!({ "mails": mails, "matched": known }))?;
    } else {
        output::line(say!("读入 {mails} 封，对上发送记录 {known} 条", "{mails} mails read, {known} deliveries found"));
    }
    Ok(Ended::Done)
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut mail = Vec::new();
    let shown = path.display();
    let done = if path == Path::new("-") {
        std::io::stdin().take(MAX_MAIL).read_to_end(&mut mail)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MAX_MAIL).read_to_end(&mut mail))
    };
    done.with_context(|| say!("读不出 {shown}", "cannot read {shown}"))?;
    Ok(mail)
}
