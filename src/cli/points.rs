//! `gong points`: where the sheets of a dispatch stand.

use std::collections::HashMap;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::reach_view::csv_line;
use super::status::label;
use super::words::when;
use super::{App, Context, Ended, output};
use crate::clock::Millis;
use crate::domain::delivery::State;
use crate::say;
use crate::store::dispatches::Dispatch;
use crate::store::postings::{Action, PostingRow};
use crate::store::sheets::{Related, SheetRow};

/// Lists the sheets of a dispatch: where, in what state, put up by whom and until when;
/// which are still up past their date, and which were replaced.
#[derive(Debug, Args)]
#[command(after_help = "gong points 3\ngong points 3 --csv 张贴情况.csv\ngong points 3 --json")]
pub struct PointsArgs {
    /// Number or id of the dispatch.
    #[arg(value_name = "DISPATCH")]
    dispatch: String,
    /// Writes CSV to a file, or to standard output with `-`.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
}

/// One sheet as it stands. Times are epoch milliseconds.
#[derive(Debug, Serialize)]
struct Sheet {
    serial: String,
    town: String,
    village: String,
    point: String,
    code: Option<String>,
    state: &'static str,
    printed_at: Option<Millis>,
    posted_at: Option<Millis>,
    /// Masked.
    posted_by: String,
    /// When it is to come down: as somebody said, or when the item ends.
    until: Millis,
    taken_down_at: Option<Millis>,
    /// It may hang still although its time is over, or another took its place.
    overdue: bool,
    replaced_by: Option<String>,
    /// What hung there before of the same chain and is not known to be down.
    take_down: Vec<String>,
}

pub(super) async fn run(context: &Context, args: PointsArgs) -> anyhow::Result<Ended> {
    let app = context.app().await?;
    let dispatch = app.store.dispatch(&args.dispatch).await?;
    let sheets = sheets(&app, &dispatch).await?;
    if context.global.json {
        output::json(&serde_json::json!({ "dispatch": dispatch.id, "no": dispatch.no, "sheets": sheets }))?;
        return Ok(Ended::Done);
    }
    let zone = app.config.zone()?;
    let lines: Vec<Vec<String>> = sheets.iter().map(|s| line(s, &|at| when(at, &zone))).collect();
    if let Some(to) = &args.csv {
        let mut out = output::sheet(to)?;
        out.write_all(csv_line(&headings()).as_bytes())?;
        for line in &lines {
            out.write_all(csv_line(line).as_bytes())?;
        }
        out.flush()?;
        if to.as_os_str() != "-" {
            let to = to.display();
            output::note(say!("已写入 {to}", "written to {to}"));
        }
        return Ok(Ended::Done);
    }
    let mut table = output::table(&headings());
    for line in lines {
        table.add_row(line);
    }
    output::line(table);
    tell(&dispatch, &sheets);
    Ok(Ended::Done)
}

/// What is to be done.
fn tell(dispatch: &Dispatch, sheets: &[Sheet]) {
    let count = |test: &dyn Fn(&Sheet) -> bool| sheets.iter().filter(|s| test(s)).count();
    let (all, posted) = (sheets.len(), count(&|s| s.posted_at.is_some()));
    output::line(say!("共 {all} 份，已确认张贴 {posted} 份", "{all} sheets, {posted} confirmed posted"));
    let (overdue, no) = (count(&|s| s.overdue), dispatch.no);
    if overdue > 0 {
        output::line(say!(
            "{overdue} 份到期或已被替换，还没有撤下。撤下后记录：gong posted {no} --point 序号 --by 姓名 --taken-down",
            "{overdue} are over or replaced and not known to be down. Once down: gong posted {no} --point SERIAL --by NAME --taken-down"
        ));
    }
}

async fn sheets(app: &App, dispatch: &Dispatch) -> anyhow::Result<Vec<Sheet>> {
    let channels = app.boards().await?;
    let rows = app.store.sheets(dispatch.no, &channels).await?;
    let before = app.store.sheets_before(dispatch, &channels).await?;
    let after = app.store.sheets_after(dispatch, &channels).await?;
    let mut receipts: HashMap<i64, Vec<PostingRow>> = HashMap::new();
    for receipt in app.store.postings(dispatch.no).await? {
        receipts.entry(receipt.ordinal).or_default().push(receipt);
    }
    let strings = |related: &Vec<Related>| related.iter().map(|r| r.serial.to_string()).collect();
    Ok(rows
        .iter()
        .map(|row| {
            let said = receipts.remove(&row.ordinal).unwrap_or_default();
            let sheet = Sheet {
                take_down: before.get(&row.point_no).map(strings).unwrap_or_default(),
                replaced_by: after.get(&row.point_no).and_then(|s| s.last()).map(|r| r.serial.to_string()),
                ..as_said(app, dispatch, row, &said)
            };
            let up = matches!(row.state(), State::Printed | State::Posted);
            let over = sheet.until <= app.store.now() || sheet.replaced_by.is_some();
            Sheet { overdue: up && over, ..sheet }
        })
        .collect())
}

fn as_said(app: &App, dispatch: &Dispatch, row: &SheetRow, said: &[PostingRow]) -> Sheet {
    let last = |action: Action| said.iter().rev().find(|r| r.action == action.name());
    let posted = last(Action::Posted);
    Sheet {
        serial: row.serial(dispatch.no).to_string(),
        town: row.town().to_owned(),
        village: row.village().to_owned(),
        point: row.point.clone(),
        code: row.code.clone(),
        state: row.state().name(),
        printed_at: row.handed_at,
        posted_at: posted.map(|r| r.at),
        posted_by: posted.map(|r| r.by(&app.store.vault, dispatch.no)).unwrap_or_default(),
        until: posted.and_then(|r| r.take_down_at).unwrap_or(dispatch.expires_at),
        taken_down_at: last(Action::TakenDown).map(|r| r.at),
        overdue: false,
        replaced_by: None,
        take_down: Vec::new(),
    }
}

fn headings() -> [String; 11] {
    [
        say!("序号", "serial"),
        say!("镇", "town"),
        say!("村", "village"),
        say!("点位", "point"),
        say!("状态", "state"),
        say!("张贴人", "by"),
        say!("张贴时间", "posted"),
        say!("张贴至", "until"),
        say!("撤下时间", "taken down"),
        say!("被替换", "replaced by"),
        say!("提醒", "to do"),
    ]
}

fn line(s: &Sheet, when: &dyn Fn(Millis) -> String) -> Vec<String> {
    let state = State::ALL.into_iter().find(|state| state.name() == s.state).map(label);
    let mut to_do = Vec::new();
    if s.overdue {
        to_do.push(say!("应撤下", "take it down"));
    }
    if !s.take_down.is_empty() {
        let serials = s.take_down.join(say!("、", ", ").as_str());
        to_do.push(say!("撤下旧件 {serials}", "take down {serials}"));
    }
    vec![
        s.serial.clone(),
        s.town.clone(),
        s.village.clone(),
        s.point.clone(),
        state.unwrap_or_default(),
        s.posted_by.clone(),
        s.posted_at.map(when).unwrap_or_default(),
        // The first moment after it: a day is named by its last.
        when(s.until - 1),
        s.taken_down_at.map(when).unwrap_or_default(),
        s.replaced_by.clone().unwrap_or_default(),
        to_do.join(say!("；", "; ").as_str()),
    ]
}
