//! `gong sheets`: prints the sheets of a dispatch, once more or by hand.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use indicatif::ProgressBar;
use serde_json::json;

use super::words::refused;
use super::{App, Context, Ended, output};
use crate::app::prepare::unit;
use crate::channel::point::{keep, word};
use crate::dispatch::paper::{Sheet, SheetMaker};
use crate::domain::delivery::State;
use crate::domain::recipient::fold;
use crate::say;
use crate::sheet::{Cover, Document, Printed, Wants};
use crate::store::sheets::{ByPoint, SheetRow};

/// Sheets in the press at the same time.
const AT_ONCE: usize = 4;

/// Prints the sheets of a dispatch: a PDF a point, and a bound one a town with a cover.
///
/// It works beside `gong serve`, at any time, and gives the same serial numbers.
#[derive(Debug, Args)]
#[command(after_help = "gong sheets 3\ngong sheets 3 --town 河口镇 --out 打印\ngong sheets 3 --jpg")]
pub struct SheetsArgs {
    /// Number or id of the dispatch.
    #[arg(value_name = "DISPATCH")]
    dispatch: String,
    /// The folder to write to; the current one if not given.
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    out: PathBuf,
    /// One town alone.
    #[arg(long, value_name = "TOWN")]
    town: Option<String>,
    /// Pictures too, for chat groups.
    #[arg(long)]
    jpg: bool,
}

/// What a run of the press has in common, and what came of it.
struct Run<'a> {
    app: &'a App,
    maker: SheetMaker,
    before: ByPoint,
    out: &'a Path,
    wants: Wants,
    bar: ProgressBar,
    missing: BTreeSet<char>,
    files: Vec<PathBuf>,
}

pub(super) async fn run(context: &Context, args: SheetsArgs) -> anyhow::Result<Ended> {
    let app = context.app().await?;
    let dispatch = app.store.dispatch(&args.dispatch).await?;
    let channels = app.boards().await?;
    let mut rows = app.store.sheets(dispatch.no, &channels).await?;
    rows.retain(|r| !matches!(r.state(), State::Cancelled | State::Suppressed));
    let no = dispatch.no;
    if rows.is_empty() {
        return Err(refused(say!("发布任务 {no} 没有张贴件", "dispatch {no} has no sheets")));
    }
    if let Some(town) = &args.town {
        narrow(&mut rows, town)?;
    }
    let item = app.store.item(&dispatch.item_id).await?;
    let said = app.store.item_version(&dispatch.item_id, dispatch.item_version).await?;
    let mut run = Run {
        app: &app,
        maker: SheetMaker::new(said, &unit(&app, &item), &dispatch, &app.paper()?),
        before: app.store.sheets_before(&dispatch, &channels).await?,
        out: &args.out,
        wants: Wants { jpg: args.jpg },
        bar: if output::is_watched() { ProgressBar::new(rows.len() as u64) } else { ProgressBar::hidden() },
        missing: BTreeSet::new(),
        files: Vec::new(),
    };
    let mut towns = 0;
    for town in rows.chunk_by(|a, b| a.town() == b.town()) {
        run.town(town).await?;
        towns += 1;
    }
    run.bar.finish_and_clear();
    run.tell(context, (no, rows.len(), towns))
}

fn narrow(rows: &mut Vec<SheetRow>, town: &str) -> anyhow::Result<()> {
    let mut known: Vec<String> = rows.iter().map(|r| r.town().to_owned()).collect();
    known.dedup();
    let wanted = fold(town);
    rows.retain(|r| r.town() == wanted);
    if rows.is_empty() {
        let known = known.join("、");
        return Err(refused(say!(
            "“{town}”没有张贴件。有：{known}",
            "there are no sheets for `{town}`; there are for {known}"
        )));
    }
    Ok(())
}

impl Run<'_> {
    /// The sheets of one town, each in its files, and all in one.
    async fn town(&mut self, rows: &[SheetRow]) -> anyhow::Result<()> {
        let none = Vec::new();
        let sheets: Vec<Sheet> = rows
            .iter()
            .map(|r| self.maker.make(&self.app.store.vault, r, self.before.get(&r.point_no).unwrap_or(&none)))
            .collect();
        let (press, wants, bar) = (&self.app.press, self.wants, &self.bar);
        let printed: Vec<Printed> = stream::iter(sheets.iter().map(|s| async move {
            let printed = press.print(&s.document, wants).await;
            bar.inc(1);
            printed
        }))
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
        let mut pages = Vec::with_capacity(printed.len());
        for (sheet, printed) in sheets.iter().zip(printed) {
            pages.push(printed.pages);
            self.keep(&sheet.path, printed).await?;
        }
        let town = rows.first().map_or("", SheetRow::town);
        let mut documents = vec![Document::Cover(self.cover(town, rows, &pages))];
        documents.extend(sheets.into_iter().map(|s| s.document));
        let bound = self.app.press.bind(&documents, Wants::default()).await?;
        self.keep(&self.maker.bound(town), bound).await
    }

    async fn keep(&mut self, path: &str, printed: Printed) -> anyhow::Result<()> {
        self.missing.extend(&printed.missing);
        let stem = self.out.join(path);
        self.files.extend(tokio::task::spawn_blocking(move || keep(&stem, &printed)).await??);
        Ok(())
    }

    fn cover(&self, town: &str, rows: &[SheetRow], pages: &[usize]) -> Cover {
        let notice = self.maker.notice();
        let row = |(r, pages): (&SheetRow, &usize)| {
            let serial = r.serial(self.maker.dispatch_no()).to_string();
            let keeper = r.keeper_phone(&self.app.store.vault);
            vec![serial, r.village().to_owned(), r.point.clone(), keeper, pages.to_string()]
        };
        Cover {
            title: notice.title.clone(),
            town: town.to_owned(),
            unit: notice.unit.clone(),
            date: notice.date.clone(),
            heads: ["序号", "村", "点位", "管护人电话", "页数"].map(str::to_owned).to_vec(),
            rows: rows.iter().zip(pages).map(row).collect(),
        }
    }

    fn tell(&self, context: &Context, (no, sheets, towns): (i64, usize, usize)) -> anyhow::Result<Ended> {
        let missing: Vec<char> = self.missing.iter().copied().collect();
        let whole = missing.is_empty();
        if context.global.json {
            output::json(&json!({ "no": no, "sheets": sheets, "towns": towns, "files": self.files,
                "missing": missing.iter().map(|c| format!("U+{:04X}", u32::from(*c))).collect::<Vec<_>>() }))?;
            return Ok(if whole { Ended::Done } else { Ended::InPart });
        }
        let folder = self.out.join(self.maker.folder());
        let folder = folder.display();
        output::line(say!(
            "{sheets} 份张贴件，{towns} 个镇，写入 {folder}",
            "{sheets} sheets of {towns} towns, written to {folder}"
        ));
        if !whole {
            let letters: String = missing.iter().collect();
            let codes = word(&missing);
            output::note(say!(
                "有字没有字体可用，纸上是空的：{letters}（{codes}）。安装字体后再执行一次",
                "characters that no font has are missing on paper: {letters} ({codes}). Install a font and run it again"
            ));
        }
        Ok(if whole { Ended::Done } else { Ended::InPart })
    }
}
