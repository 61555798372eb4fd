//! The reach report as people read it: tables for the terminal, CSV for the office.

mod chart;
pub mod page;
mod sheet;

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, Table, presets};

use crate::domain::figures::{share, span, yuan};
use crate::domain::reach::{People, Proof, ReachReport};
use crate::say;
pub use sheet::{csv, csv_row, csv_row_head, line as csv_line};

/// What people ask the reach of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum By {
    /// Every region, down to the village.
    Region,
    /// Towns alone.
    Town,
    /// Villages alone.
    Village,
    Group,
    Channel,
}

/// The report with the rows of one question left in it.
#[must_use]
pub fn narrow(mut report: ReachReport, by: By) -> ReachReport {
    let level = match by {
        By::Town => Some("town"),
        By::Village => Some("village"),
        By::Region | By::Group | By::Channel => None,
    };
    if let Some(level) = level {
        let names: BTreeMap<i64, String> = report.by_region.iter().map(|r| (r.region_no, r.name.clone())).collect();
        report.by_region.retain(|r| r.level == level);
        // Villages of one name are told apart by their towns.
        for region in report.by_region.iter_mut().filter(|_| by == By::Village) {
            if let Some(parent) = region.parent_no.and_then(|no| names.get(&no)) {
                region.name = format!("{parent}/{}", region.name);
            }
        }
    }
    if matches!(by, By::Group | By::Channel) {
        report.by_region.clear();
    }
    if by != By::Group {
        report.by_group.clear();
    }
    if by != By::Channel {
        report.by_channel.clear();
    }
    if by != By::Town {
        report.sheets.clear();
    }
    report
}

/// One table of the report.
#[must_use]
pub fn table_by(report: &ReachReport, by: By) -> String {
    let narrowed = narrow(report.clone(), by);
    let table = match by {
        By::Town if !narrowed.sheets.is_empty() => format!("{}\n\n{}", regions(&narrowed), sheets(&narrowed)),
        By::Region | By::Town | By::Village => regions(&narrowed),
        By::Group => groups(&narrowed),
        By::Channel => channels(&narrowed),
    };
    mode_notice(&report.mode).into_iter().chain([table]).collect::<Vec<_>>().join("\n\n")
}

/// The totals, regions down to the town, and channels, as plain-text tables; wide
/// characters are counted as two columns.
#[must_use]
pub fn table(report: &ReachReport) -> String {
    let mut parts = Vec::new();
    if let Some(notice) = mode_notice(&report.mode) {
        parts.push(notice);
    }
    parts.push(summary(report));
    if !report.by_channel.is_empty() && report.by_channel.iter().all(|c| c.evidence == Proof::Published) {
        parts.push(say!(
            "本次只在公开账号发布，没有逐人发送，因此没有人计为到达",
            "this was posted in accounts alone; nothing went to anybody in particular, so nobody counts as reached"
        ));
    }
    if report.people.unreached > 0 {
        parts.push(reasons(&report.people));
    }
    let mut towns = report.clone();
    // What is not in the tree's upper levels lies below a town, as villages do.
    towns.by_region.retain(|r| !matches!(r.level.as_str(), "village" | "custom"));
    parts.push(regions(&towns));
    parts.push(channels(report));
    if !report.sheets.is_empty() {
        parts.push(sheets(report));
    }
    parts.join("\n\n")
}

fn mode_notice(mode: &str) -> Option<String> {
    match mode {
        "live" => None,
        "drill" => Some(say!("【演练】不计入实际到达", "DRILL: not counted as real reach")),
        "call" => Some(say!("【叫应】值班负责人，不计入到达", "CALL of duty officers: not counted as reach")),
        "dry" => Some(say!("【空跑】没有发出任何内容", "DRY RUN: nothing left")),
        _ => Some(say!("【测试】不计入实际到达", "TEST: not counted as real reach")),
    }
}

fn level(level: &str) -> String {
    match level {
        "province" => say!("省", "province"),
        "city" => say!("市", "city"),
        "county" => say!("县", "county"),
        "town" => say!("乡镇", "town"),
        "village" => say!("村", "village"),
        _ => say!("其他", "custom"),
    }
}

fn proof(proof: Proof) -> String {
    match proof {
        Proof::Receipts => say!("回执", "receipts"),
        Proof::AcceptOnly => say!("无回执", "accept-only"),
        Proof::Published => say!("公开发布（篇，不计人数）", "published (posts, not people)"),
        Proof::Posted => say!("张贴确认", "posted"),
        Proof::Told => say!("当面告知", "told"),
    }
}

// Tables ----------------------------------------------------------------------

/// A table with its first `text` columns to the left and the numbers to the right.
fn new_table(headings: Vec<String>, text: usize) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header(headings);
    for column in table.column_iter_mut().skip(text) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn summary(report: &ReachReport) -> String {
    let people = &report.people;
    let mut table = new_table(vec![say!("到达情况", "reach"), say!("人数", "people"), say!("占比", "share")], 1);
    let lines = [
        (say!("发布对象", "audience"), people.audience),
        (say!("有地址", "addressable"), people.addressable),
        (say!("已提交", "handed over"), people.handed_over),
        (say!("到达", "reached"), people.reached),
        (say!("　本人号码", "  directly"), people.reached_direct),
        (say!("　户内共用号码", "  via the household"), people.reached_via_household),
        (say!("当面告知", "told in person"), people.told_in_person),
        (say!("知悉（到达或当面告知）", "informed (reached or told)"), people.informed),
        (say!("已读或已确认", "seen"), people.seen),
        (say!("未到达", "unreached"), people.unreached),
        (say!("　其中已提交、无回执", "  of them accept-only"), people.accept_only),
    ];
    for (name, n) in lines {
        table.add_row([name, n.to_string(), share(n, people.audience)]);
    }
    if report.effective_at.is_some() {
        let early = people.reached_before_effect;
        table.add_row([say!("生效前到达", "reached before effect"), early.to_string(), share(early, people.audience)]);
    }
    let (covered, households) = (report.covered_households, report.households);
    let boards = say!(
        "公告栏覆盖 {covered} 户（估算，不计入人数）；发布对象共 {households} 户",
        "notice boards cover {covered} households (an estimate, not added to people); the audience has {households}"
    );
    let (half, most, all) = (span(report.time_to_50_s), span(report.time_to_90_s), span(report.time_to_99_s));
    let times = say!(
        "到达发布对象的 50%：{half}；90%：{most}；99%：{all}",
        "time to reach 50% of the audience: {half}; 90%: {most}; 99%: {all}"
    );
    format!("{table}\n{boards}\n{times}")
}

fn reasons(people: &People) -> String {
    let mut table = new_table(vec![say!("未到达原因", "unreached"), say!("人数", "people"), say!("占比", "share")], 1);
    for (why, n) in people.unreached_by_reason.list().into_iter().filter(|(_, n)| *n > 0) {
        table.add_row([why.words(), n.to_string(), share(n, people.unreached)]);
    }
    table.to_string()
}

/// What is told of people, wherever they are counted.
fn people_headings() -> [String; 6] {
    [
        say!("发布对象", "audience"),
        say!("已提交", "handed over"),
        say!("到达", "reached"),
        say!("知悉", "informed"),
        say!("知悉率", "share"),
        say!("未到达", "unreached"),
    ]
}

fn regions(report: &ReachReport) -> String {
    let mut headings = vec![say!("区域", "region"), say!("级别", "level")];
    headings.extend(people_headings());
    headings.extend([say!("户数", "households"), say!("覆盖户数", "covered")]);
    let mut table = new_table(headings, 2);
    let mut depths = BTreeMap::new();
    for r in &report.by_region {
        let depth = r.parent_no.and_then(|p| depths.get(&p)).map_or(0, |d| d + 1);
        depths.insert(r.region_no, depth);
        let p = &r.people;
        // Full-width, for a cell does not keep leading ASCII blanks.
        let name = format!("{}{}", "　".repeat(depth), r.name);
        let mut cells = vec![name, level(&r.level)];
        cells.extend([p.audience, p.handed_over, p.reached, p.informed].map(|n| n.to_string()));
        cells.push(share(p.informed, p.audience));
        cells.extend([p.unreached, r.households, r.covered_households].map(|n| n.to_string()));
        table.add_row(cells);
    }
    table.to_string()
}

fn groups(report: &ReachReport) -> String {
    let mut headings = vec![say!("人群", "group")];
    headings.extend(people_headings());
    let mut table = new_table(headings, 1);
    for g in &report.by_group {
        let p = &g.people;
        let mut cells = vec![g.name.clone()];
        cells.extend([p.audience, p.handed_over, p.reached, p.informed].map(|n| n.to_string()));
        cells.extend([share(p.informed, p.audience), p.unreached.to_string()]);
        table.add_row(cells);
    }
    table.to_string()
}

fn channels(report: &ReachReport) -> String {
    let headings = vec![
        say!("渠道", "channel"),
        say!("凭据", "evidence"),
        say!("发送记录", "deliveries"),
        say!("已提交", "handed over"),
        say!("到达", "reached"),
        say!("已读", "seen"),
        say!("失败", "failed"),
        say!("未送达", "undelivered"),
        say!("无结果", "unknown"),
        say!("已退订", "suppressed"),
        say!("待发送", "pending"),
        say!("条数", "parts"),
        say!("费用（元）", "cost (yuan)"),
    ];
    let mut table = new_table(headings, 2);
    for c in &report.by_channel {
        let reached = if matches!(c.evidence, Proof::AcceptOnly | Proof::Published) && c.reached == 0 {
            "-".into()
        } else {
            c.reached.to_string()
        };
        let mut cells = vec![c.channel.clone(), proof(c.evidence), c.deliveries.to_string(), c.handed_over.to_string()];
        cells.push(reached);
        let rest = [c.seen, c.failed, c.undelivered, c.unknown, c.suppressed, c.pending, c.parts];
        cells.extend(rest.map(|n| n.to_string()));
        cells.push(yuan(c.cost_milli));
        table.add_row(cells);
    }
    table.to_string()
}

fn sheets(report: &ReachReport) -> String {
    let headings = vec![
        say!("张贴件（镇）", "sheets (town)"),
        say!("应张贴", "planned"),
        say!("已打印", "printed"),
        say!("已张贴", "posted"),
        say!("张贴率", "share"),
        say!("已撤下", "taken down"),
    ];
    let mut table = new_table(headings, 1);
    for t in &report.sheets {
        let mut cells = vec![t.name.clone()];
        cells.extend([t.planned, t.printed, t.posted].map(|n| n.to_string()));
        cells.extend([share(t.posted, t.planned), t.taken_down.to_string()]);
        table.add_row(cells);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::reach::{ChannelKind, ChannelRow, GroupRow, RegionRow, TownSheets};
    use unicode_width::UnicodeWidthStr as _;

    pub(super) fn report() -> ReachReport {
        let people = People { audience: 3, reached: 2, informed: 2, unreached: 1, ..People::default() };
        let region = |region_no, parent_no, name: &str| RegionRow {
            region_no,
            parent_no,
            code: None,
            name: name.into(),
            level: "town".into(),
            people: people.clone(),
            households: 2,
            covered_households: 1,
        };
        let sms = Some(ChannelKind::Electronic { receipts: true, price_milli: 45 });
        ReachReport {
            as_of: jiff::Timestamp::UNIX_EPOCH,
            covered_households: 1,
            sheets: vec![TownSheets {
                region_no: 2,
                name: "甲镇".into(),
                planned: 4,
                printed: 3,
                posted: 2,
                taken_down: 1,
            }],
            by_region: vec![region(1, None, "河口县"), region(2, Some(1), "Hekou 莲花镇")],
            by_channel: vec![ChannelRow { cost_milli: 1_045, ..ChannelRow::new("短信".into(), sms) }],
            time_to_50_s: Some(75),
            time_to_90_s: None,
            time_to_99_s: None,
            households: 2,
            by_group: vec![GroupRow { group_no: 1, name: "=cmd()".into(), people: people.clone() }],
            parts: 0,
            cost_milli: 0,
            dispatch_no: 1,
            mode: "drill".into(),
            effective_at: None,
            people,
        }
    }

    #[test]
    fn one_question_has_one_table() {
        let mut report = report();
        report.by_region[1].level = "village".into();
        let villages = table_by(&report, By::Village);
        assert!(villages.contains("| 河口县/Hekou 莲花镇 |"), "{villages}");
        assert!(!villages.contains("短信"), "{villages}");
        assert!(table_by(&report, By::Channel).contains("短信"));
        assert!(table_by(&report, By::Town).contains("| 甲镇"), "{}", table_by(&report, By::Town));
        assert!(table_by(&report, By::Group).contains("=cmd()"));
        assert!(!table(&report).contains("莲花镇"), "villages are left to --by village");
        assert_eq!(csv(&narrow(report, By::Group)).lines().count(), 3);
    }

    #[test]
    fn columns_line_up_under_wide_characters() {
        let text = table(&report());
        for block in text.split("\n\n") {
            let widths: Vec<usize> = block.lines().filter(|l| l.starts_with('|')).map(str::width).collect();
            assert!(widths.windows(2).all(|w| w[0] == w[1]), "{block}");
        }
        assert!(text.starts_with("【演练】"));
        assert!(text.contains("66.6%") && text.contains("1 分 15 秒") && text.contains("尚未达到"), "{text}");
        assert!(text.contains("　Hekou 莲花镇") && text.contains("1.045"), "{text}");
    }
}
