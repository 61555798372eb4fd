//! `gong item show`: everything about one item.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::review;
use crate::app::App;
use crate::app::prepare::unit;
use crate::cli::words::{item_state, when};
use crate::cli::{Context, Ended, output};
use crate::domain::calendar::Deadline;
use crate::domain::item::Content;
use crate::say;
use crate::store::dispatches::{Dispatch, state_word};
use crate::store::items::{Approval, Item};

/// The line of an item in a list, for programs.
pub(super) fn summary(item: &Item) -> Value {
    json!({
        "item": item.id, "no": item.no, "version": item.version, "state": item.state, "unit": item.unit,
        "kind": item.content.kind.name(), "title": item.content.title, "created_by": item.created_by,
        "created_at": item.created_at,
    })
}

pub(super) async fn run(context: &Context, app: &App, key: &str) -> anyhow::Result<Ended> {
    let item = app.store.item(key).await?;
    let approvals = app.store.approvals(&item.id).await?;
    let dispatches = app.store.dispatches_of(&item.id).await?;
    let mut phones = review::own_phones(&item.content, &item.unit_phone);
    phones.push(app.config.site.phone.clone());
    let findings = review::findings(&item.content, &phones);
    let preview = review::preview(app, &item.content, &unit(app, &item));
    if context.global.json {
        let mut all = summary(&item);
        let sms = match &preview {
            Ok(p) => json!({ "text": &*p.text.text, "parts": p.text.parts, "variables": p.vars }),
            Err(error) => json!({ "error": error.to_string() }),
        };
        let sent: Vec<Value> = dispatches.iter().map(dispatch_json).collect();
        if let Some(fields) = all.as_object_mut() {
            fields.insert("content".into(), serde_json::to_value(&item.content)?);
            fields.insert("lane".into(), item.content.lane().name().into());
            if let Ok(calendar) = app.config.calendar() {
                let from = begins(app, &item, &approvals)?;
                fields.insert("publication_end".into(), json!(item.content.publication_end(from, &calendar)));
                let deadline = item.content.disclosure_deadline(&calendar);
                let deadline = deadline.map(
                    |(d, days)| json!({ "date": d.date, "working_days": days, "provisional_from": d.provisional_from }),
                );
                fields.insert("disclosure_deadline".into(), json!(deadline));
            }
            fields.insert("sms".into(), sms);
            fields.insert("approvals".into(), serde_json::to_value(&approvals)?);
            fields.insert("privacy".into(), serde_json::to_value(&findings)?);
            fields.insert("dispatches".into(), sent.into());
        }
        output::json(&all)?;
        return Ok(Ended::Done);
    }
    let zone = app.config.zone()?;
    for (name, value) in fields(&item, &zone).into_iter().chain(deadlines(app, &item, &approvals)?) {
        output::line(format!("{name}\t{value}"));
    }
    output::line(format!("\n{}\n", item.content.body));
    print_sms(preview);
    review::print_findings(&findings);
    print_approvals(&approvals, &zone);
    print_dispatches(&dispatches, &zone);
    if item.state == "draft" {
        let no = item.no;
        output::note(say!("下一步：gong item approve {no} --as 审核人", "Next: gong item approve {no} --as REVIEWER"));
    }
    Ok(Ended::Done)
}

fn dispatch_json(d: &Dispatch) -> Value {
    json!({ "dispatch": d.id, "no": d.no, "mode": d.mode.name(), "state": d.state, "phase": d.phase, "version": d.item_version })
}

/// The fields that say something, each with its name.
fn fields(item: &Item, zone: &TimeZone) -> Vec<(String, String)> {
    let c = &item.content;
    let (no, version, state) = (item.no, item.version, item_state(&item.state));
    let own = |text: &Option<String>| text.clone().unwrap_or_default();
    let at = |time: Option<i64>| time.map(|t| when(t, zone)).unwrap_or_default();
    let relations: Vec<String> = c.relations.iter().map(|(r, to)| format!("{} {to}", r.label())).collect();
    let all = [
        (say!("编号", "item"), say!("{no}（第 {version} 版，{state}）", "{no} (version {version}, {state})")),
        (say!("类型", "kind"), c.kind.label().to_owned()),
        (say!("级别", "level"), c.level.map(|l| l.zh(c.kind).to_owned()).unwrap_or_default()),
        (say!("标题", "title"), c.title.clone()),
        (say!("单位", "unit"), item.unit.clone()),
        (say!("发布单位", "issuer"), own(&c.issuer)),
        (say!("转发单位", "relay"), own(&c.relay_unit)),
        (say!("电话", "phone"), c.phone.clone()),
        (say!("灾种", "event"), own(&c.event_type)),
        (say!("影响范围", "area"), own(&c.area_text)),
        (say!("措施", "actions"), c.actions.join("；")),
        (say!("生效", "effective"), at(c.effective_at)),
        (say!("失效", "expires"), at(Some(c.expiry(item.created_at)))),
        (say!("公开范围", "scope"), own(&c.scope)),
        (say!("对象", "audience"), own(&c.audience)),
        (say!("关系", "relations"), relations.join("，")),
        (say!("目录", "catalogue"), own(&c.catalogue)),
        (say!("文号", "document"), own(&c.document_no)),
        (say!("公示天数", "days"), publication_days(c)),
        (say!("形成日期", "formed"), c.formed_on.map(|d| d.to_string()).unwrap_or_default()),
        (say!("异议电话", "objections"), own(&c.objection_phone)),
        (say!("变量", "variables"), c.variables.join("、")),
        (say!("紧急程度", "lane"), c.lane().label().to_owned()),
        (say!("拟稿", "author"), item.created_by.clone()),
    ];
    all.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}

fn publication_days(content: &Content) -> String {
    match (content.publication_days, content.publication_working) {
        (None, _) => String::new(),
        (Some(n), false) => n.to_string(),
        (Some(n), true) => say!("{n} 个工作日", "{n} working days"),
    }
}

/// The day on which a publication begins: as the item says, or when it was approved;
/// of a draft, today.
fn begins(app: &App, item: &Item, approvals: &[Approval]) -> anyhow::Result<Date> {
    let approved = approvals.iter().find(|a| a.version == item.version).map(|a| a.at);
    let at = item.content.effective_at.or(approved).unwrap_or_else(|| app.store.now());
    Ok(Timestamp::from_millisecond(at)?.to_zoned(app.config.zone()?).date())
}

/// Days that follow from the calendar of working days.
fn deadlines(app: &App, item: &Item, approvals: &[Approval]) -> anyhow::Result<Vec<(String, String)>> {
    let content = &item.content;
    if content.publication_days.is_none() && content.formed_on.is_none() {
        return Ok(Vec::new());
    }
    let name = say!("公开期限", "disclose by");
    let calendar = match app.config.calendar() {
        Ok(calendar) => calendar,
        Err(error) => return Ok(vec![(name, error.to_string())]),
    };
    let zone = app.config.zone()?;
    let mut found = Vec::new();
    if let Some(end) = content.publication_end(begins(app, item, approvals)?, &calendar) {
        found.push((say!("公示至", "published until"), day(end)));
    }
    if let Some((end, days)) = content.disclosure_deadline(&calendar) {
        let today = Timestamp::from_millisecond(app.store.now())?.to_zoned(zone).date();
        let (until, left) = (day(end), calendar.count(today, end.date));
        let late = -left;
        found.push((
            name,
            if today > end.date {
                say!(
                    "{until}（{days} 个工作日，已超过 {late} 个工作日）",
                    "{until} ({days} working days; over by {late})"
                )
            } else {
                say!("{until}（{days} 个工作日，还剩 {left} 个工作日）", "{until} ({days} working days, {left} left)")
            },
        ));
    }
    Ok(found)
}

/// A day, and whether it may still move.
fn day(deadline: Deadline) -> String {
    let date = deadline.date;
    match deadline.provisional_from {
        None => date.to_string(),
        Some(year) => say!(
            "{date}（暂定：{year} 年的放假安排还没有，只按周末算）",
            "{date} (provisional: the holidays of {year} are not known; only weekends are counted out)"
        ),
    }
}

fn print_sms(preview: Result<review::Preview, crate::render::RenderError>) {
    match preview {
        Ok(preview) => {
            let (parts, text) = (preview.text.parts, &preview.text.text);
            output::line(say!("短信（{parts} 条）：{text}", "SMS ({parts} parts): {text}"));
            if !preview.vars.is_empty() {
                let vars = preview.vars.join("、");
                output::line(say!("每人不同：{vars}", "differs from person to person: {vars}"));
            }
        }
        Err(error) => output::line(say!("短信写不出来：{error}", "the SMS cannot be made: {error}")),
    }
}

fn print_approvals(approvals: &[Approval], zone: &TimeZone) {
    for a in approvals {
        let kind = match a.r#type.as_str() {
            "review" => say!("审核", "approved"),
            "fast_lane" => say!("绿色通道", "fast lane"),
            _ => say!("补签", "second signature"),
        };
        let (at, version, by, note) = (when(a.at, zone), a.version, &a.operator, &a.note);
        output::line(say!(
            "{kind}：{by}，{at}，第 {version} 版 {note}",
            "{kind}: {by}, {at}, version {version} {note}"
        ));
    }
}

fn print_dispatches(dispatches: &[Dispatch], zone: &TimeZone) {
    for d in dispatches {
        let (no, mode, state, at) = (d.no, d.mode.label(), state_word(&d.state), when(d.created_at, zone));
        output::line(say!(
            "发布任务 {no}（{mode}，{state}），{at}。详情：gong status {no}",
            "dispatch {no} ({mode}, {state}), {at}. More: gong status {no}"
        ));
    }
}
