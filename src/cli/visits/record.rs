//! `gong visits D record` and `gong visits D import`: what the visits came to.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use crate::app::App;
use crate::cli::{Context, Ended, output, words};
use crate::domain::item::{Edge, point};
use crate::domain::recipient::{normal_ext, normal_name, purpose};
use crate::domain::visit::{VisitResult, read_row};
use crate::import::table::{self, Options};
use crate::import::visits::{self, Counts, VisitOptions, why};
use crate::import::{Run, Summary};
use crate::say;
use crate::store::dispatches::Dispatch;
use crate::store::operators::Role;
use crate::store::recipients::Keep;
use crate::store::visits::{DoorList, Knocked, Recorded, Visit};

/// Enters what one visit came to.
#[derive(Debug, Args)]
#[command(after_help = "\
gong visits 3 record --row 12 --result told --by 李明
gong visits 3 record --household H0012 --result 不在家 --at '2026-06-01 14:30'")]
pub struct RecordArgs {
    /// The row's name on the list (V3-12), or its number.
    #[arg(long, value_name = "ROW", required_unless_present = "household")]
    row: Option<String>,
    /// The household's number, where the row is not known.
    #[arg(long, value_name = "NUMBER", conflicts_with = "row")]
    household: Option<String>,
    /// told, absent, moved or refused.
    #[arg(long, value_name = "WORD", value_parser = result)]
    result: VisitResult,
    /// Who knocked.
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// When; now when not given.
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
}

/// Reads the list that came back filled in; the same file again changes nothing.
#[derive(Debug, Args)]
#[command(after_help = "\
gong visits 3 import 河口镇-城郊村-入户通知清单.csv
gong visits 3 import 河口镇-入户通知清单.xlsx --dry-run")]
pub struct ImportArgs {
    /// CSV or xlsx files; every sheet of a workbook is read.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Reads and checks everything, and writes nothing but the rejected rows.
    #[arg(long)]
    dry_run: bool,
    /// Folder for files of rejected rows; beside the table when not given.
    #[arg(long, value_name = "DIR")]
    rejects: Option<PathBuf>,
}

fn result(word: &str) -> Result<VisitResult, String> {
    VisitResult::from_word(word).ok_or_else(|| VisitResult::ALL.map(VisitResult::name).join(", "))
}

pub(super) async fn one(
    context: &Context,
    app: &App,
    (dispatch, list): (&Dispatch, DoorList),
    args: RecordArgs,
) -> anyhow::Result<Ended> {
    let operator = context.operator(app).await?;
    operator.need(Role::Dispatcher)?;
    let at = args.at.as_deref().map(|text| moment(app, text)).transpose()?;
    let by = args.by.as_deref().and_then(normal_name);
    let visit = Visit { door: door(app, &list, &args)?, result: args.result, at, by };
    let recorded = app.store.record_visits(&list, &[visit], (&operator.name, Keep::Commit)).await?;
    let recorded = recorded.first().copied().unwrap_or(Recorded::NotListed);
    if !matches!(recorded, Recorded::Added | Recorded::Unchanged) {
        return Err(words::refused(why(recorded, &list)));
    }
    let mut counts = Counts::default();
    if recorded == Recorded::Added {
        counts.add(args.result);
        note(app, dispatch, &operator.name, counts).await?;
    }
    let label = args.result.label();
    if context.global.json {
        let added = recorded == Recorded::Added;
        output::json(&json!({ "dispatch": dispatch.id, "result": args.result.name(), "recorded": added }))?;
    } else if recorded == Recorded::Added {
        output::line(say!("已记录：{label}", "recorded: {label}"));
    } else {
        output::line(say!("已经是“{label}”，没有改动", "it is `{label}` already; nothing changed"));
    }
    suggest(counts.moved, context.global.json);
    Ok(Ended::Done)
}

fn door(app: &App, list: &DoorList, args: &RecordArgs) -> anyhow::Result<Knocked> {
    let no = list.dispatch_no;
    if let Some(household) = args.household.as_deref().and_then(normal_ext) {
        return Ok(Knocked::Household(app.store.vault.hash(purpose::EXT, &household)));
    }
    let text = args.row.as_deref().unwrap_or_default();
    match read_row(text) {
        Some((of, row)) if of.is_none_or(|of| of == no) => Ok(Knocked::Row(row)),
        Some(_) => Err(words::refused(say!(
            "“{text}”不是发布任务 {no} 的清单上的行",
            "`{text}` is no row of the list of dispatch {no}"
        ))),
        None => anyhow::bail!(say!(
            "序号“{text}”不对：应为 V{no}-12 或 12",
            "the row `{text}` is wrong: expected V{no}-12 or 12"
        )),
    }
}

fn moment(app: &App, text: &str) -> anyhow::Result<i64> {
    let at = point(text, &app.config.zone()?, Edge::Start).filter(|at| *at <= app.store.now() + 60_000);
    at.with_context(|| {
        say!(
            "时间“{text}”不对：应为已经过去的时间，如 2026-06-01 14:30",
            "the time `{text}` is wrong: expected one that has passed, such as 2026-06-01 14:30"
        )
    })
}

async fn note(app: &App, dispatch: &Dispatch, operator: &str, c: Counts) -> anyhow::Result<()> {
    let detail =
        json!({ "dispatch": dispatch.no, "told": c.told, "absent": c.absent, "moved": c.moved, "refused": c.refused });
    Ok(app.store.note_act(operator, "visits", &dispatch.id, &detail).await?)
}

pub(super) async fn many(
    context: &Context,
    app: &App,
    (dispatch, list): (&Dispatch, DoorList),
    args: ImportArgs,
) -> anyhow::Result<Ended> {
    let operator = context.operator(app).await?;
    operator.need(Role::Dispatcher)?;
    let run = Run { dry_run: args.dry_run, rejects: args.rejects.clone() };
    if let Some(folder) = &run.rejects {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let options = VisitOptions { list, operator: &operator.name, zone: app.config.zone()? };
    let (mut total, mut all, mut rejects) = (Summary::default(), Counts::default(), Vec::new());
    for file in &args.files {
        let sheets = tokio::task::block_in_place(|| table::sheets(file))?;
        let sheets: Vec<Option<String>> =
            if sheets.is_empty() { vec![None] } else { sheets.into_iter().map(Some).collect() };
        for sheet in sheets {
            let how = Options { sheet, ..Options::default() };
            let mut table = tokio::task::block_in_place(|| visits::open(file, &how))?;
            let (summary, counts) = visits::import(&app.store, &mut table, &run, &options, &mut |_| {}).await?;
            if !args.dry_run && summary.added > 0 {
                note(app, dispatch, &operator.name, counts).await?;
            }
            add(&mut total, &mut all, (&summary, counts));
            rejects.extend(summary.rejects_file);
        }
    }
    report(context, (&total, all), (args.dry_run, &rejects))?;
    suggest(all.moved, context.global.json);
    Ok(if total.rejected > 0 { Ended::InPart } else { Ended::Done })
}

fn add(total: &mut Summary, all: &mut Counts, (summary, counts): (&Summary, Counts)) {
    total.read += summary.read;
    total.added += summary.added;
    total.unchanged += summary.unchanged;
    total.rejected += summary.rejected;
    all.told += counts.told;
    all.absent += counts.absent;
    all.moved += counts.moved;
    all.refused += counts.refused;
    all.open += counts.open;
}

fn report(
    context: &Context,
    (total, all): (&Summary, Counts),
    (dry_run, rejects): (bool, &[PathBuf]),
) -> anyhow::Result<()> {
    if context.global.json {
        return output::json(&json!({ "dry_run": dry_run, "read": total.read, "added": total.added,
            "unchanged": total.unchanged, "rejected": total.rejected, "told": all.told, "absent": all.absent,
            "moved": all.moved, "refused": all.refused, "open": all.open, "rejects_files": rejects }));
    }
    let Counts { told, absent, moved, refused, open } = all;
    let (read, unchanged, rejected) = (total.read, total.unchanged, total.rejected);
    let mode =
        if dry_run { say!("（试导入，没有写入）", " (dry run, nothing written)") } else { String::new() };
    output::line(say!(
        "读取 {read} 行：已告知 {told}，不在家 {absent}，已搬走 {moved}，拒绝 {refused}；不变 {unchanged}，还没去 {open}，拒绝的行 {rejected}{mode}",
        "read {read} rows: {told} told, {absent} absent, {moved} moved, {refused} refused; {unchanged} unchanged, {open} still open, {rejected} rejected{mode}"
    ));
    for file in rejects {
        let file = file.display();
        output::line(say!(
            "被拒绝的行写在 {file}，“原因”列说明问题。改正后再导入",
            "rejected rows are in {file}, with the reason in a column. Mend it and feed it again"
        ));
    }
    Ok(())
}

/// People are not changed silently: who moved is changed by whoever keeps the register.
fn suggest(moved: u64, as_json: bool) {
    if moved > 0 && !as_json {
        output::note(say!(
            "{moved} 户已搬走。核实后请更新台账：gong import recipients 文件（状态列写“迁出”）；gong 不会自己改",
            "{moved} households have moved. When it is certain, bring the register up to date: gong import recipients FILE (status: moved); gong does not change it by itself"
        ));
    }
}
