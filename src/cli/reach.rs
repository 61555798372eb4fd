//! `gong reach`: whom a dispatch reached.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use super::reach_view::{self, By, page};
use super::words::when;
use super::{App, Context, Ended, output};
use crate::domain::reach::ReachReport;
use crate::say;
use crate::store::dispatches::Dispatch;

/// Shows whom a dispatch reached, as people, households, regions and channels.
#[derive(Debug, Args)]
#[command(after_help = "\
gong reach 3
gong reach 3 --by village
gong reach 3 --csv 到达情况.csv
gong reach 3 --by town --csv -
gong reach 3 --format html --out 到达情况.html
gong reach 3 --json")]
pub struct ReachArgs {
    /// Number or id of the dispatch.
    #[arg(value_name = "DISPATCH")]
    dispatch: String,
    /// One table alone.
    #[arg(long, value_enum)]
    by: Option<By>,
    /// Writes CSV to a file, or to standard output with `-`.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// html: one page with plots, for a browser or the printer.
    #[arg(long, value_enum, conflicts_with_all = ["csv", "by"])]
    format: Option<Format>,
    /// Where the page goes; to standard output when not given.
    #[arg(long, value_name = "FILE", requires = "format")]
    out: Option<PathBuf>,
}

/// How the report is written, beside tables and CSV.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Html,
}

pub(super) async fn run(context: &Context, args: ReachArgs) -> anyhow::Result<Ended> {
    let app = context.app().await?;
    let dispatch = app.store.dispatch(&args.dispatch).await?;
    let kinds = app.channel_kinds().await?;
    let report = app.store.reach(dispatch.no, &kinds, app.store.now()).await?;
    if context.global.json {
        output::json(&report)?;
        return Ok(Ended::Done);
    }
    if args.format == Some(Format::Html) {
        let text = html(&app, &dispatch, &report).await?;
        let Some(to) = args.out else {
            output::line(text.trim_end());
            return Ok(Ended::Done);
        };
        let shown = to.display();
        std::fs::write(&to, text).with_context(|| to.display().to_string())?;
        output::note(say!("已写入 {shown}", "written to {shown}"));
        return Ok(Ended::Done);
    }
    let Some(to) = args.csv else {
        output::line(args.by.map_or_else(|| reach_view::table(&report), |by| reach_view::table_by(&report, by)));
        return Ok(Ended::Done);
    };
    let report = match args.by {
        Some(by) => reach_view::narrow(report, by),
        None => report,
    };
    let mut out = output::sheet(&to)?;
    out.write_all(reach_view::csv(&report).as_bytes())?;
    out.flush()?;
    if to.as_os_str() != "-" {
        let to = to.display();
        output::note(say!("已写入 {to}", "written to {to}"));
    }
    Ok(Ended::Done)
}

/// The page of a dispatch.
async fn html(app: &App, dispatch: &Dispatch, report: &ReachReport) -> anyhow::Result<String> {
    let item = app.store.item(&dispatch.item_id).await?;
    let content = app.store.item_version(&dispatch.item_id, dispatch.item_version).await?;
    let over_time = app.store.reach_over_time(dispatch.no, &app.channel_kinds().await?).await?;
    let zone = app.config.zone()?;
    let (no, kind, sent) = (dispatch.no, content.kind.label(), when(dispatch.created_at, &zone));
    let (audience, plan, lane) = (&dispatch.audience, &dispatch.plan, dispatch.lane);
    let lane = crate::domain::item::Lane::from_number(lane).map_or("", crate::domain::item::Lane::label);
    let level = content.level.map(|l| format!("（{}）", l.zh(content.kind))).unwrap_or_default();
    let about = page::About {
        title: format!("{}{level}", content.title),
        unit: if item.unit.is_empty() { app.config.site.name.clone() } else { item.unit.clone() },
        facts: vec![
            say!("{kind} · 发布任务 {no} · {sent} 发布 · {lane}", "{kind} · dispatch {no} · sent {sent} · {lane}"),
            say!("对象：{audience}", "audience: {audience}"),
            say!("步骤：{plan}", "steps: {plan}"),
        ],
        as_of: when(app.store.now(), &zone),
    };
    Ok(page::page(report, &about, &over_time))
}
