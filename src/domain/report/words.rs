//! The sentences of the report, part by part.

use jiff::tz::TimeZone;

use super::{Next, Row, Section, Situation, Table, date_time};
use crate::domain::calls::Village;
use crate::domain::figures::{share, span, yuan_rounded};
use crate::domain::reach::{ChannelRow, Proof};
use crate::say;

pub(super) fn issued(s: &Situation, zone: &TimeZone) -> Section {
    let (title, kind, unit, phone) = (&s.title, &s.kind, &s.unit, &s.phone);
    let (no, item, version) = (s.dispatch_no, s.item_no, s.item_version);
    let level = s.level.as_ref().map(|l| say!("，级别：{l}", ", level {l}")).unwrap_or_default();
    let number = s.document_no.as_ref().map(|n| say!("，文号：{n}", ", number {n}")).unwrap_or_default();
    let at = date_time(s.sent_at, zone);
    let mut lines = vec![say!(
        "{at}，{unit}发布{kind}《{title}》{level}{number}（事项 {item} 第 {version} 版，发布任务 {no}）。咨询电话 {phone}。",
        "At {at}, {unit} issued \"{title}\" ({kind}{level}{number}; item {item}, version {version}, dispatch {no}). Call-back phone {phone}."
    )];
    if let Some(area) = &s.area {
        lines.push(say!("影响范围：{area}。", "Area: {area}."));
    }
    lines.push(match &s.approved {
        Some(a) => {
            let (by, at) = (&a.unit, date_time(a.at, zone));
            if a.fast_lane {
                say!(
                    "{at}由{by}值班人员经绿色通道签发，补签在后。",
                    "Issued by the fast lane of {by} at {at}; the second signature follows."
                )
            } else {
                say!("{at}经{by}审核同意。", "Approved by {by} at {at}.")
            }
        }
        None => say!("审核记录不在本站。", "The approval is not recorded here."),
    });
    Section { heading: say!("发布内容", "What was issued"), lines, table: None }
}

pub(super) fn people(s: &Situation) -> Section {
    let p = &s.reach.people;
    let (all, homes, told, rate, left) =
        (p.audience, s.reach.households, p.informed, share(p.informed, p.audience), p.unreached);
    let towns: Vec<_> = s.reach.by_region.iter().filter(|r| r.level == "town").collect();
    let (n_towns, n_villages) = (towns.len(), s.villages.len());
    let lines = vec![say!(
        "应通知 {all} 人、{homes} 户，涉及 {n_towns} 个乡镇、{n_villages} 个村；已通知 {told} 人（{rate}），未通知到 {left} 人。",
        "To be told: {all} people in {homes} households, {n_towns} towns, {n_villages} villages. Told: {told} ({rate}); not told: {left}."
    )];
    let row = |r: &&crate::domain::reach::RegionRow| {
        let (name, p) = (&r.name, &r.people);
        let (all, homes, told, rate, left) =
            (p.audience, r.households, p.informed, share(p.informed, p.audience), p.unreached);
        Row {
            line: say!(
                "{name}：应通知 {all} 人、{homes} 户，已通知 {told} 人（{rate}），未通知到 {left} 人；",
                "{name}: {all} people in {homes} households; told {told} ({rate}), not told {left};"
            ),
            cells: vec![name.clone(), all.to_string(), homes.to_string(), told.to_string(), rate, left.to_string()],
        }
    };
    let heads = vec![
        say!("乡镇", "Town"),
        say!("应通知（人）", "People"),
        say!("户数", "Households"),
        say!("已通知（人）", "Told"),
        say!("通知率", "Share"),
        say!("未通知到（人）", "Not told"),
    ];
    let table = (!towns.is_empty()).then(|| Table { heads, rows: towns.iter().map(row).collect() });
    Section { heading: say!("通知对象", "Whom it is for"), lines, table }
}

pub(super) fn channels(s: &Situation) -> Section {
    let r = &s.reach;
    let mut lines = Vec::new();
    let (half, most) = (span(r.time_to_50_s), span(r.time_to_90_s));
    lines.push(say!(
        "通知到 50% 的对象用时：{half}；通知到 90%：{most}。",
        "Time until 50% were reached: {half}; until 90%: {most}."
    ));
    let told = r.people.told_in_person;
    let posted: i64 = r.by_channel.iter().filter(|c| c.evidence == Proof::Posted).map(|c| c.reached).sum();
    let covered = r.covered_households;
    if told > 0 {
        lines.push(say!("入户或当面告知 {told} 人。", "{told} people were told in person."));
    }
    if posted > 0 {
        lines.push(say!(
            "公告栏等点位已张贴 {posted} 处，约覆盖 {covered} 户（估算，不计入人数）。",
            "Posted at {posted} points, covering about {covered} households (an estimate, not added to people)."
        ));
    }
    let heads = vec![
        say!("渠道", "Channel"),
        say!("发送记录", "Deliveries"),
        say!("已提交", "Handed over"),
        say!("到达", "Reached"),
        say!("未成", "Failed"),
        say!("待发", "Pending"),
    ];
    let rows = r.by_channel.iter().map(channel).collect();
    Section { heading: say!("发布渠道", "Channels"), lines, table: Some(Table { heads, rows }) }
}

fn channel(c: &ChannelRow) -> Row {
    let (name, all, handed, reached) = (channel_name(&c.channel), c.deliveries, c.handed_over, c.reached);
    let (failed, pending) = (c.failed + c.undelivered + c.unknown, c.pending);
    let proof = match c.evidence {
        Proof::Receipts => say!("到达 {reached}", "reached {reached}"),
        Proof::AcceptOnly => say!("无回执", "no receipts"),
        Proof::Published => say!("公开发布", "published"),
        Proof::Posted => say!("已张贴 {reached}", "posted {reached}"),
        Proof::Told => say!("已告知 {reached}", "told {reached}"),
    };
    let shown = match c.evidence {
        Proof::AcceptOnly => say!("无回执", "no receipts"),
        Proof::Published => say!("公开发布", "published"),
        _ => reached.to_string(),
    };
    Row {
        line: say!(
            "{name}：{all} 条，已提交 {handed}，{proof}，未成 {failed}，待发 {pending}；",
            "{name}: {all} deliveries, {handed} handed over, {proof}, {failed} failed, {pending} pending;"
        ),
        cells: vec![name, all.to_string(), handed.to_string(), shown, failed.to_string(), pending.to_string()],
    }
}

/// The usual names of channels in words; a site's own names stay.
fn channel_name(name: &str) -> String {
    match name {
        "sms" => say!("短信", "SMS"),
        "email" => say!("电子邮件", "e-mail"),
        "visit" => say!("入户", "visits"),
        "board" | "sheet" | "points" => say!("公告栏", "notice boards"),
        other => other.to_owned(),
    }
}

pub(super) fn officers(s: &Situation, zone: &TimeZone) -> Option<Section> {
    if !s.called {
        return None;
    }
    let all = s.villages.len();
    let done = s.villages.iter().filter(|v| v.confirmed.is_some()).count();
    let quickest = s.villages.iter().filter_map(Village::took).min().map(|ms| span(Some(ms / 1_000)));
    let quickest = quickest.map(|t| say!("，最快用时 {t}", ", the quickest after {t}")).unwrap_or_default();
    let mut lines = vec![say!(
        "应叫应 {all} 个村，已确认 {done} 个{quickest}。",
        "{all} villages were to be called; {done} confirmed{quickest}."
    )];
    let open: Vec<&Village> = s.villages.iter().filter(|v| v.confirmed.is_none()).collect();
    if open.is_empty() {
        return Some(Section { heading: say!("值班叫应", "Duty officers"), lines, table: None });
    }
    let n = open.len();
    lines.push(say!("值班人员尚未确认的 {n} 个村：", "{n} villages whose duty officer has not confirmed:"));
    let heads = vec![
        say!("村", "Village"),
        say!("职务", "Role"),
        say!("姓名", "Name"),
        say!("电话", "Phone"),
        say!("叫应", "Asked"),
    ];
    let rows = open.into_iter().map(|v| open_village(v, zone)).collect();
    Some(Section { heading: say!("值班叫应", "Duty officers"), lines, table: Some(Table { heads, rows }) })
}

fn open_village(v: &Village, zone: &TimeZone) -> Row {
    let name = v.full_name();
    let last = v.asked.last();
    let officer = last.and_then(|a| v.officer(a)).or_else(|| v.officers.first());
    let times = v.asked.iter().filter(|a| a.at.is_some()).count();
    let since = v.first_asked().map(|at| date_time(at, zone));
    let asked = match since {
        Some(since) => say!("{since}起叫应 {times} 次", "asked {times} times since {since}"),
        None => say!("尚未叫应", "not asked yet"),
    };
    let Some(o) = officer else {
        let none = say!("无值班负责人，须电话联系", "no duty officer; to be telephoned");
        return Row { line: format!("{name}：{none}；"), cells: vec![name, none, "-".into(), "-".into(), asked] };
    };
    let (role, person, phone) = (&o.role, &o.name, &o.phone);
    let of = o.of.as_deref().unwrap_or_default();
    Row {
        line: say!("{name}：{of}{role} {person} {phone}，{asked}；", "{name}: {of} {role} {person} {phone}, {asked};"),
        cells: vec![name, format!("{of}{role}"), person.clone(), phone.clone(), asked],
    }
}

pub(super) fn unreached(s: &Situation) -> Option<Section> {
    let p = &s.reach.people;
    if p.unreached == 0 {
        return None;
    }
    let reasons: Vec<String> = p
        .unreached_by_reason
        .list()
        .into_iter()
        .filter(|(_, n)| *n > 0)
        .map(|(why, n)| {
            let why = why.words();
            say!("{why} {n} 人", "{why} {n}")
        })
        .collect();
    let (n, reasons, no) = (p.unreached, reasons.join(say!("、", ", ").as_str()), s.dispatch_no);
    let lines = vec![say!(
        "尚未通知到 {n} 人：{reasons}。名单见：gong unreached {no}。",
        "Not told: {n} people ({reasons}). Their list: gong unreached {no}."
    )];
    Some(Section { heading: say!("未通知到的人员", "Not told"), lines, table: None })
}

pub(super) fn next(s: &Situation, zone: &TimeZone) -> Section {
    let mut lines: Vec<String> = s.next.iter().map(|n| sentence(n, zone)).collect();
    let open = s.villages.iter().filter(|v| s.called && v.confirmed.is_none()).count();
    let calling = s.next.iter().any(|n| matches!(n, Next::Call { .. }));
    if open > 0 && !calling {
        let no = s.dispatch_no;
        lines.push(say!(
            "{open} 个村的值班人员须电话联系，联系后登记：gong confirm {no} --region 村名。",
            "{open} villages are to be telephoned, then entered: gong confirm {no} --region VILLAGE."
        ));
    }
    Section { heading: say!("下一步", "Next"), lines, table: None }
}

fn sentence(next: &Next, zone: &TimeZone) -> String {
    match next {
        Next::UnderWay => say!("正在发送，等待回执。", "Messages are going out and receipts are waited for."),
        Next::Paused => say!("发布已暂停。", "It is paused."),
        Next::Step { channels, at } => {
            let names: Vec<String> = channels.iter().map(|c| channel_name(c)).collect();
            let (names, at) = (names.join(say!("、", ", ").as_str()), date_time(*at, zone));
            say!("{at}起，对仍未通知到的人员改用：{names}。", "From {at} those not reached are told by: {names}.")
        }
        Next::Call { at } => {
            let at = date_time(*at, zone);
            say!("{at}对未确认的村叫应下一位值班人员。", "At {at} the next officers of unconfirmed villages are asked.")
        }
        Next::Finished { at } => match at.map(|at| date_time(at, zone)) {
            Some(at) => say!("发布任务已于{at}完成。", "It finished at {at}."),
            None => say!("发布任务已完成。", "It has finished."),
        },
        Next::Cancelled => say!("发布已取消或已解除。", "It is cancelled or lifted."),
    }
}

pub(super) fn cost(s: &Situation) -> Section {
    let (parts, yuan) = (s.reach.parts, yuan_rounded(s.reach.cost_milli));
    let lines = vec![say!("计费 {parts} 条，费用 {yuan} 元。", "{parts} billable parts, {yuan} yuan.")];
    Section { heading: say!("费用", "Cost"), lines, table: None }
}
