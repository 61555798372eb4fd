//! `gong sheet`: what an item looks like on paper, and what of a text prints.

mod check;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::json;

use super::{Context, Ended, output};
use crate::app::App;
use crate::app::prepare::unit;
use crate::say;
use crate::sheet::{self, Document, Notice, Signing, Wants};
use crate::store::items::Item;

/// Shows what sheets look like, and which characters cannot be printed.
#[derive(Debug, Args)]
#[command(after_help = "gong sheet preview 1\ngong sheet check 对象.csv")]
pub struct SheetArgs {
    #[command(subcommand)]
    command: Act,
}

#[derive(Debug, Subcommand)]
enum Act {
    Preview(PreviewArgs),
    Check(check::CheckArgs),
}

/// Prints an item as a sheet into a file, to be looked at; nothing is sent or recorded.
#[derive(Debug, Args)]
#[command(after_help = "gong sheet preview 1\ngong sheet preview 1 --large --jpg\ngong sheet preview 1 --out 看样.pdf")]
struct PreviewArgs {
    /// Number or id of the item.
    item: String,
    /// The file to write.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The first page as a picture under 500 KB as well, beside the PDF.
    #[arg(long)]
    jpg: bool,
    /// In large letters.
    #[arg(long)]
    large: bool,
}

pub(super) async fn run(context: &Context, args: SheetArgs) -> anyhow::Result<Ended> {
    match args.command {
        Act::Preview(args) => preview(context, &context.app().await?, args).await,
        Act::Check(args) => check::run(context, args).await,
    }
}

async fn preview(context: &Context, app: &App, args: PreviewArgs) -> anyhow::Result<Ended> {
    let item = app.store.item(&args.item).await?;
    let document = Document::Notice(Box::new(sample(app, &item, args.large)?));
    let printed = app.press.print(&document, Wants { jpg: args.jpg }).await?;
    let no = item.no;
    let pdf = args.out.unwrap_or_else(|| say!("看样-{no}.pdf", "preview-{no}.pdf").into());
    write(&pdf, &printed.pdf)?;
    let jpg = printed.jpg.as_ref().map(|_| pdf.with_extension("jpg"));
    if let (Some(path), Some(bytes)) = (&jpg, &printed.jpg) {
        write(path, bytes)?;
    }
    let (pages, missing) = (printed.pages, printed.missing.iter().collect::<String>());
    if context.global.json {
        output::json(&json!({ "item": item.id, "pdf": pdf, "jpg": jpg, "pages": pages, "missing": printed.missing }))?;
    } else {
        output::line(pdf.display());
        if let Some(jpg) = jpg {
            output::line(jpg.display());
        }
        output::note(say!("共 {pages} 页", "{pages} pages"));
        if !missing.is_empty() {
            output::note(say!(
                "注意：这些字没有字体能打印，纸上是空框：{missing}。请安装含这些字的字体（如 apt-get install fonts-noto-cjk），或放进站点的 fonts/ 文件夹",
                "note: no font draws these characters, they are boxes on paper: {missing}. Install a font that has them (such as apt-get install fonts-noto-cjk), or put one into the site's folder fonts/"
            ));
        }
    }
    Ok(if printed.missing.is_empty() { Ended::Done } else { Ended::InPart })
}

/// The item as it would hang: point, serial and code are only known when it is sent.
fn sample(app: &App, item: &Item, large: bool) -> anyhow::Result<Notice> {
    let unit = unit(app, item);
    let zone = app.config.zone()?;
    let by = Signing {
        unit: &unit.name,
        phone: &unit.phone,
        at: item.created_at,
        zone: &zone,
        mark: "",
        earlier: None,
        large,
    };
    let mut notice = sheet::notice(&item.content, &by);
    notice.place = say!("（乡镇 · 村 · 公告栏）", "(town · village · board)");
    notice.serial = say!("（发布时编号）", "(given when sent)");
    notice.qr = Some(app.config.public_url());
    Ok(notice)
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    std::fs::write(path, bytes).with_context(|| path.display().to_string())
}
