//! `gong posted`: somebody put sheets up, or took them down.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use super::{App, Context, Ended, output};
use crate::clock::Millis;
use crate::domain::item::{Edge, point};
use crate::domain::serial::Serial;
use crate::import::postings::{About, Sheets, date_form, import, open, refusal};
use crate::import::table::Options;
use crate::import::{Progress, Run, Summary};
use crate::say;
use crate::store::dispatches::Dispatch;
use crate::store::operators::{Operator, Role};
use crate::store::postings::{Action, Keep, Posting, Recorded};

/// Records that sheets were put up, or taken down: one, or those of a table.
///
/// The same receipt again changes nothing. Names are kept sealed and shown masked.
#[derive(Debug, Args)]
#[command(after_help = "\
gong posted 3 --point 3-12 --by 王芳
gong posted 3 --point 城郊村/村委会公告栏 --by 王芳 --at '2026-06-01 14:30' --until 2026-06-08
gong posted 3 --from 张贴回执.xlsx
gong posted 3 --point 3-12 --by 王芳 --taken-down")]
pub struct PostedArgs {
    /// Number or id of the dispatch.
    #[arg(value_name = "DISPATCH")]
    dispatch: String,
    /// The sheet: its serial, its point, or its village where that has one point.
    #[arg(long, value_name = "SERIAL|POINT", required_unless_present = "from", conflicts_with = "from")]
    point: Option<String>,
    /// Who did it.
    #[arg(long, value_name = "NAME", conflicts_with = "from")]
    by: Option<String>,
    /// When; now if not given.
    #[arg(long, value_name = "TIME", conflicts_with = "from")]
    at: Option<String>,
    /// When the sheet is to come down.
    #[arg(long, value_name = "DATE", conflicts_with_all = ["from", "taken_down"])]
    until: Option<String>,
    /// A table of receipts: serial or point, who, when, until.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Taken down, not put up.
    #[arg(long)]
    taken_down: bool,
    /// The folder for rejected rows; beside the table if not given.
    #[arg(long, value_name = "FOLDER", requires = "from")]
    rejects: Option<PathBuf>,
}

pub(super) async fn run(context: &Context, args: PostedArgs) -> anyhow::Result<Ended> {
    let app = context.app().await?;
    let operator = context.operator(&app).await?;
    operator.need(Role::Author)?;
    let dispatch = app.store.dispatch(&args.dispatch).await?;
    let channels = app.boards().await?;
    let rows = app.store.sheets(dispatch.no, &channels).await?;
    if rows.is_empty() {
        let no = dispatch.no;
        return Err(super::words::refused(say!("发布任务 {no} 没有张贴件", "dispatch {no} has no sheets")));
    }
    let sheets = Sheets::new(dispatch.no, channels, &rows);
    match &args.from {
        Some(path) => table(context, (&app, &operator), (&dispatch, &sheets), &args, path).await,
        None => one(context, (&app, &operator), (&dispatch, &sheets), &args).await,
    }
}

async fn one(
    context: &Context,
    (app, operator): (&App, &Operator),
    (dispatch, sheets): (&Dispatch, &Sheets),
    args: &PostedArgs,
) -> anyhow::Result<Ended> {
    let ordinal = sheets.find(args.point.as_deref().unwrap_or_default()).map_err(super::words::refused)?;
    let zone = app.config.zone()?;
    let time = |text: &Option<String>, edge: Edge| -> anyhow::Result<Option<Millis>> {
        let Some(text) = text else { return Ok(None) };
        let at = point(text, &zone, edge);
        at.map(Some).ok_or_else(|| {
            let form = date_form();
            anyhow::anyhow!(say!("时间“{text}”不对：应为{form}", "the time `{text}` is wrong: expected {form}"))
        })
    };
    let at = time(&args.at, Edge::Start)?;
    anyhow::ensure!(
        at.is_none_or(|at| at <= app.store.now()),
        say!("--at 在将来，请核对", "--at lies in the future; check it")
    );
    let by = args.by.as_deref().map(|by| super::words::name("--by", by)).transpose()?;
    let action = if args.taken_down { Action::TakenDown } else { Action::Posted };
    let posting = Posting { ordinal, action, at, by, take_down_at: time(&args.until, Edge::End)? };
    let done = app
        .store
        .record_postings(dispatch, sheets.channels(), &[posting], (&operator.name, Keep::Commit))
        .await?
        .pop()
        .unwrap_or(Recorded::NoSheet);
    if let Some(reason) = refusal(done) {
        return Err(super::words::refused(reason));
    }
    let serial = Serial { dispatch_no: dispatch.no, ordinal };
    let new = done == Recorded::New;
    if context.global.json {
        output::json(&json!({ "dispatch": dispatch.id, "no": dispatch.no, "serial": serial.to_string(),
            "action": action.name(), "new": new }))?;
        return Ok(Ended::Done);
    }
    let what = match action {
        Action::Posted => say!("已张贴", "posted"),
        Action::TakenDown => say!("已撤下", "taken down"),
    };
    output::line(if new {
        say!("序号 {serial}：{what}", "sheet {serial}: {what}")
    } else {
        say!("序号 {serial}：早已记录为{what}", "sheet {serial}: known as {what} already")
    });
    Ok(Ended::Done)
}

async fn table(
    context: &Context,
    (app, operator): (&App, &Operator),
    (dispatch, sheets): (&Dispatch, &Sheets),
    args: &PostedArgs,
    path: &Path,
) -> anyhow::Result<Ended> {
    let mut table = open(path, &Options::default())?;
    let bar = output::bytes_bar(table.size_hint_bytes());
    let mut tell = |progress: Progress| bar.set_position(progress.read);
    if let Some(folder) = &args.rejects {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let run = Run { dry_run: false, rejects: args.rejects.clone() };
    let zone = app.config.zone()?;
    let about = About { dispatch, sheets, taken_down: args.taken_down, operator: &operator.name, zone: &zone };
    let done = import(&app.store, &mut table, &run, &about, &mut tell).await;
    bar.finish_and_clear();
    let summary = done?;
    tell_summary(context, dispatch, &summary)?;
    Ok(if summary.rejected > 0 { Ended::InPart } else { Ended::Done })
}

fn tell_summary(context: &Context, dispatch: &Dispatch, s: &Summary) -> anyhow::Result<()> {
    if context.global.json {
        return output::json(&json!({ "dispatch": dispatch.id, "no": dispatch.no, "read": s.read, "added": s.added,
            "unchanged": s.unchanged, "rejected": s.rejected, "rejects_file": s.rejects_file }));
    }
    let (read, added, unchanged, rejected) = (s.read, s.added, s.unchanged, s.rejected);
    output::line(say!(
        "读取 {read} 行：新记录 {added}，早已记录 {unchanged}，拒绝 {rejected}",
        "read {read} rows: {added} new, {unchanged} known already, {rejected} rejected"
    ));
    if let Some(file) = &s.rejects_file {
        let (file, no) = (file.display(), dispatch.no);
        output::line(say!(
            "被拒绝的行写在 {file}，“原因”列说明问题。改正后再执行：gong posted {no} --from {file}",
            "rejected rows are in {file}, with the reason in a column. Mend it and run: gong posted {no} --from {file}"
        ));
    }
    Ok(())
}
