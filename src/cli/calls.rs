//! `gong call`, `gong calls` and `gong confirm`: duty officers asked, and what they said.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use jiff::tz::TimeZone;
use serde_json::json;

use super::words::{refused, when};
use super::{App, Context, Ended, output};
use crate::clock::Millis;
use crate::domain::calls::{How, Village};
use crate::domain::item::{Edge, point};
use crate::say;
use crate::store::calls::Confirming;
use crate::store::dispatches::Dispatch;
use crate::store::operators::Role;

/// Calls the duty officers of a dispatch's villages that have not confirmed.
///
/// `gong send` does so by itself for red and orange alerts and transfer orders.
#[derive(Debug, Args)]
#[command(after_help = "gong call 3")]
pub struct CallArgs {
    /// Number or id of the dispatch.
    #[arg(value_name = "DISPATCH")]
    dispatch: String,
}

/// Shows which villages' duty officers confirmed a dispatch, and who is asked next.
///
/// Ends with 4 while a village has not confirmed.
#[derive(Debug, Args)]
#[command(after_help = "gong calls 3\ngong calls 3 --open\ngong calls 3 --csv 叫应.csv\ngong calls 3 --json")]
pub struct CallsArgs {
    /// Number or id of the dispatch, or of its call.
    #[arg(value_name = "DISPATCH")]
    dispatch: String,
    /// Only villages that have not confirmed.
    #[arg(long)]
    open: bool,
    /// Writes CSV to a file, or to standard output with `-`.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
}

/// Records that a village's duty officer confirmed.
#[derive(Debug, Args)]
#[command(
    after_help = "gong confirm 3 --region 河口镇/城郊村\ngong confirm 3 --region 532532101200 --at '2026-06-01 10:20'\ngong confirm 3 --region 城郊村 --by other"
)]
pub struct ConfirmArgs {
    /// Number or id of the dispatch, or of its call.
    #[arg(value_name = "DISPATCH")]
    dispatch: String,
    /// The village: its name, path or code.
    #[arg(long, value_name = "REGION")]
    region: String,
    /// How it was heard.
    #[arg(long, value_enum, default_value = "telephone")]
    by: By,
    /// When, where it was not just now: a date and time, or HH:MM of today.
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
}

/// How a confirmation was heard that an operator enters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum By {
    Telephone,
    Other,
}

pub(super) async fn call(context: &Context, args: CallArgs) -> anyhow::Result<Ended> {
    let app = context.app().await?;
    let operator = context.operator(&app).await?;
    operator.need(Role::Dispatcher)?;
    let about = app.store.called_about(&app.store.dispatch(&args.dispatch).await?).await?;
    let call = app.call(&about, &operator.name).await?;
    if context.global.json {
        output::json(&json!({ "call": call.no, "id": call.id, "about": about.no }))?;
    } else {
        tell(&app, &call, about.no);
    }
    Ok(Ended::Done)
}

/// Says that a call was made.
pub(super) fn tell(app: &App, call: &Dispatch, about: i64) {
    let no = call.no;
    output::line(say!(
        "叫应任务 {no} 已建立，逐村叫应值班负责人。查看：gong calls {about}",
        "call {no} is created: a duty officer of every village is asked to confirm. See: gong calls {about}"
    ));
    if app.config.open_url().is_none() {
        output::note(say!(
            "没有配置 [server] public_url，叫应短信里不带确认链接",
            "[server] public_url is not configured, so the messages carry no link to confirm by"
        ));
    }
}

pub(super) async fn calls(context: &Context, args: CallsArgs) -> anyhow::Result<Ended> {
    let app = context.app().await?;
    let about = app.store.called_about(&app.store.dispatch(&args.dispatch).await?).await?;
    let mut shown = app.store.called_villages(about.no).await?;
    let calls = app.store.calls_about(about.no).await?;
    let all = shown.len();
    let open = shown.iter().filter(|v| v.confirmed.is_none()).count();
    let without = shown.iter().filter(|v| v.officers.is_empty()).count();
    if args.open {
        shown.retain(|v| v.confirmed.is_none());
    }
    let view = View { about: &about, call: calls.last(), zone: app.config.zone()? };
    if context.global.json {
        let rows: Vec<_> = shown.iter().map(|v| view.json(v)).collect();
        let numbers: Vec<i64> = calls.iter().map(|c| c.no).collect();
        output::json(&json!({
            "dispatch": about.no, "calls": numbers, "villages": all, "confirmed": all - open, "unconfirmed": open,
            "without_officer": without, "rows": rows,
        }))?;
    } else if let Some(to) = &args.csv {
        let mut out = output::sheet(to)?;
        let mut csv = csv::Writer::from_writer(&mut out);
        csv.write_record(head())?;
        for village in &shown {
            csv.write_record(view.cells(village).map(harmless))?;
        }
        csv.flush()?;
        drop(csv);
        out.flush()?;
    } else {
        let mut table = output::table(&head());
        for village in &shown {
            table.add_row(view.cells(village));
        }
        output::line(table);
        view.summary((all, open, without));
    }
    Ok(if open > 0 { Ended::InPart } else { Ended::Done })
}

fn head() -> [String; 8] {
    [
        say!("乡镇", "town"),
        say!("村", "village"),
        say!("值班负责人", "officer"),
        say!("叫应时间", "asked"),
        say!("确认时间", "confirmed"),
        say!("方式", "how"),
        say!("用时（分）", "minutes"),
        say!("下一位", "next"),
    ]
}

/// A spreadsheet takes no cell for a formula.
fn harmless(cell: String) -> String {
    if cell.starts_with(['=', '+', '@', '\t', '\r']) { format!("'{cell}") } else { cell }
}

struct View<'a> {
    about: &'a Dispatch,
    /// The newest.
    call: Option<&'a Dispatch>,
    zone: TimeZone,
}

impl View<'_> {
    fn cells(&self, v: &Village) -> [String; 8] {
        let dash = || "-".to_owned();
        let officer = v.confirmed.as_ref().and_then(|c| {
            let answered = v.asked.iter().find(|a| c.call_no == Some(a.call_no) && c.ordinal == Some(a.ordinal))?;
            v.officer(answered)
        });
        let officer = officer.or_else(|| v.asked.last().and_then(|a| v.officer(a))).or_else(|| v.officers.first());
        let officer = officer.map_or_else(
            || say!("（没有值班负责人）", "(no duty officer)"),
            |o| format!("{}{} {} {}", o.of.as_deref().unwrap_or_default(), o.role, o.name, o.phone),
        );
        let confirmed = v.confirmed.as_ref();
        [
            v.town.clone(),
            v.name.clone(),
            officer,
            v.first_asked().map_or_else(dash, |at| when(at, &self.zone)),
            confirmed.map_or_else(|| say!("未确认", "not confirmed"), |c| when(c.at, &self.zone)),
            confirmed.map_or_else(dash, |c| c.how.label()),
            v.took().map_or_else(dash, minutes),
            self.next(v).unwrap_or_else(dash),
        ]
    }

    /// Who is asked next and when, or that it is for the telephone.
    fn next(&self, v: &Village) -> Option<String> {
        if v.confirmed.is_some() {
            return None;
        }
        let telephone = || Some(say!("电话联系", "telephone"));
        let Some(call) = self.call.filter(|c| c.state == "active" && c.phase != "done") else { return telephone() };
        let Some(next) = v.next(call.no) else { return telephone() };
        let (role, name) = (&next.role, &next.name);
        Some(match call.step_due_at.filter(|_| call.phase == "waiting") {
            Some(at) => {
                let at = when(at, &self.zone);
                say!("{role} {name}（{at}）", "{role} {name} ({at})")
            }
            None => format!("{role} {name}"),
        })
    }

    fn json(&self, v: &Village) -> serde_json::Value {
        let call = self.call.filter(|c| c.state == "active" && c.phase != "done");
        json!({
            "region": v.region_no, "village": v.name, "town": v.town, "officers": v.officers, "asked": v.asked,
            "first_asked_at": v.first_asked(), "confirmed": v.confirmed, "took_ms": v.took(),
            "next": call.and_then(|c| v.next(c.no)),
            "next_at": call.filter(|c| c.phase == "waiting" && v.next(c.no).is_some()).and_then(|c| c.step_due_at),
        })
    }

    fn summary(&self, (all, open, without): (usize, usize, usize)) {
        let (done, no) = (all - open, self.about.no);
        output::line(say!(
            "共 {all} 个村：已确认 {done}，未确认 {open}，没有值班负责人 {without}",
            "{all} villages: {done} confirmed, {open} not confirmed, {without} without a duty officer"
        ));
        if self.call.is_none() && open > 0 {
            output::note(say!("还没有叫应。叫应：gong call {no}", "nobody was called. To call: gong call {no}"));
        } else if open > 0 {
            output::note(say!(
                "电话确认后登记：gong confirm {no} --region 村名",
                "to enter what was heard by telephone: gong confirm {no} --region VILLAGE"
            ));
        }
    }
}

/// Milliseconds as minutes with one decimal.
fn minutes(ms: Millis) -> String {
    let tenths = ms / 6_000;
    format!("{}.{}", tenths / 10, tenths % 10)
}

pub(super) async fn confirm(context: &Context, args: ConfirmArgs) -> anyhow::Result<Ended> {
    let app = context.app().await?;
    let operator = context.operator(&app).await?;
    operator.need(Role::Dispatcher)?;
    let about = app.store.called_about(&app.store.dispatch(&args.dispatch).await?).await?;
    let index = app.store.regions_index().await?;
    let region = index.resolve(&args.region).map_err(|e| refused(e.to_string()))?;
    let village = app.store.village_of(region).await?;
    let name = index.path(village);
    let no = about.no;
    let known = app.store.called_villages(no).await?;
    let Some(known) = known.iter().find(|v| v.region_no == village) else {
        return Err(refused(say!(
            "发布任务 {no} 的对象不涉及{name}。有哪些村：gong calls {no}",
            "dispatch {no} does not go to {name}. Its villages: gong calls {no}"
        )));
    };
    let at = match &args.at {
        Some(text) => moment(text, &app, about.created_at)?,
        None => app.store.now(),
    };
    let how = if args.by == By::Telephone { How::Telephone } else { How::Other };
    let confirming = Confirming { about_no: no, region_no: village, how, question: None, operator: &operator.name, at };
    let new = app.store.confirm(&confirming).await?;
    if context.global.json {
        output::json(&json!({
            "dispatch": no, "region": village, "village": known.name, "how": how, "at": at, "new": new,
        }))?;
    } else if new {
        let (how, at) = (how.label(), when(at, &app.config.zone()?));
        output::line(say!("{name}：{at} 已确认（{how}）", "{name}: confirmed at {at} ({how})"));
    } else {
        output::line(say!("{name}：之前已登记", "{name}: was entered before"));
    }
    Ok(Ended::Done)
}

/// A time neither ahead of now nor before the dispatch was made.
fn moment(text: &str, app: &App, since: Millis) -> anyhow::Result<Millis> {
    let (zone, now) = (app.config.zone()?, app.store.now());
    let today = jiff::Timestamp::from_millisecond(now)?.to_zoned(zone.clone()).date();
    let at = point(text, &zone).or_else(|| point(&format!("{today} {text}"), &zone));
    let Some(at) = at else {
        return Err(refused(say!(
            "“{text}”不是时间。写法：10:20 或 2026-06-01 10:20",
            "`{text}` is not a time. Write it like 10:20 or 2026-06-01 10:20"
        )));
    };
    // Whole minutes are entered; the dispatch may be of the same one.
    if at > now || at < since - 60_000 {
        return Err(refused(say!("“{text}”不在发布之后、现在之前", "`{text}` is not between the sending and now")));
    }
    Ok(at.max(since))
}
