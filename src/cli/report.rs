//! `gong report`: the situation report (情况报告) of a dispatch.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use super::{Context, Ended, output};
use crate::domain::report::Situation;
use crate::say;
use crate::sheet::{self, Document, Report, Wants};

/// Writes the situation report of a dispatch: text to paste, or a file.
#[derive(Debug, Args)]
#[command(
    after_help = "gong report 3\ngong report 3 --out 情况报告.pdf\ngong report 3 --out 情况报告.md\ngong report 3 --json"
)]
pub struct ReportArgs {
    /// Number or id of the dispatch.
    #[arg(value_name = "DISPATCH")]
    dispatch: String,
    /// A new file: .pdf, .md or .txt.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) async fn run(context: &Context, args: ReportArgs) -> anyhow::Result<Ended> {
    let app = context.app().await?;
    let dispatch = app.store.dispatch(&args.dispatch).await?;
    let situation = app.situation(&dispatch).await?;
    let zone = app.config.zone()?;
    if let Some(to) = &args.out {
        let kind = to.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        let bytes = match kind.as_str() {
            "pdf" => {
                let printed = app.press.print(&document(&situation, &zone), Wants::default()).await?;
                missing(&printed.missing);
                printed.pdf
            }
            "md" => situation.markdown(&zone).into_bytes(),
            "txt" => situation.text(&zone).into_bytes(),
            _ => anyhow::bail!(say!(
                "--out 的文件名应以 .pdf、.md 或 .txt 结尾",
                "the file of --out must end in .pdf, .md or .txt"
            )),
        };
        write(to, &bytes)?;
        let to = to.display();
        output::note(say!("已写入 {to}", "written to {to}"));
    }
    if context.global.json {
        output::json(&situation)?;
    } else if args.out.is_none() {
        output::line(situation.text(&zone).trim_end());
    }
    Ok(Ended::Done)
}

/// The report as a document to print.
#[must_use]
pub fn document(situation: &Situation, zone: &jiff::tz::TimeZone) -> Document {
    Document::Report(Report {
        issuer: situation.unit.clone(),
        title: situation.heading(),
        body: sheet::blocks(&situation.markdown_body(zone)),
        unit: situation.unit.clone(),
        date: situation.date(zone),
    })
}

fn missing(missing: &[char]) {
    if !missing.is_empty() {
        let letters: String = missing.iter().collect();
        output::note(say!("没有字体能印出这些字：{letters}", "no font at hand draws these: {letters}"));
    }
}

/// Officers' masked names stand in it: for its owner's eyes.
fn write(to: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let open = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(to);
    open.and_then(|mut file| file.write_all(bytes)).with_context(|| to.display().to_string())
}
