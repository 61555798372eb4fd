//! The report as a page: plots and tables for whoever was not at the terminal. One
//! file without scripts, which prints on A4.

use std::collections::BTreeMap;

use super::chart::{Row, bars, counted, curve};
use super::{level, mode_notice, people_headings, proof, share, span};
use crate::cli::output::number;
use crate::domain::figures::yuan_rounded;
use crate::domain::reach::{Proof, ReachReport, RegionRow};
use crate::lang::{self, Lang};
use crate::say;

const STYLE: &str = include_str!("../../../templates/web/reach.css");

/// What the page says of the dispatch itself.
#[derive(Debug, Clone, Default)]
pub struct About {
    pub title: String,
    pub unit: String,
    /// Kind, number of the dispatch, when it went out, whom it was for, by which steps.
    pub facts: Vec<String>,
    pub as_of: String,
}

/// The whole page. `first_reached` counts people by the second in which they were
/// first reached; without it there is no curve.
#[must_use]
pub fn page(report: &ReachReport, about: &About, first_reached: &BTreeMap<i64, i64>) -> String {
    let language = if lang::current() == Lang::En { "en" } else { "zh-CN" };
    let (title, unit) = (escape(&about.title), escape(&about.unit));
    let heading = say!("到达情况", "Reach");
    let mark = mode_notice(&report.mode).map(|m| format!("<p class=\"mark\">{}</p>", escape(&m))).unwrap_or_default();
    let facts = about.facts.iter().map(|f| escape(f)).collect::<Vec<_>>().join("<br>");
    let mut body = vec![figures(report), funnel(report), towns(report)];
    body.push(channels(report));
    body.extend((!first_reached.is_empty()).then(|| over_time(report, first_reached)));
    body.extend((report.people.unreached > 0).then(|| reasons(report)));
    body.extend(villages(report));
    let (body, as_of) = (body.join("\n"), escape(&about.as_of));
    let foot = say!(
        "{unit}。统计时间 {as_of}。人数为不重复的人；公告栏覆盖户数是估算，不计入人数；费用按申报单价估算，以账单为准。",
        "{unit}. As of {as_of}. People are counted once each; households covered by notice boards are an estimate and not added to people; cost is at declared prices, the bill decides."
    );
    format!(
        "<!doctype html>\n<html lang=\"{language}\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title} · {heading}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{mark}<h1>{title}</h1>\n\
         <p class=\"about\">{facts}</p>\n{body}\n<footer>{foot}</footer>\n</main>\n</body>\n</html>\n"
    )
}

/// Text as HTML.
#[must_use]
pub fn escape(text: &str) -> String {
    handlebars::html_escape(text)
}

fn figures(report: &ReachReport) -> String {
    let people = &report.people;
    let part = |n: i64| format!("{} <small>{}</small>", number(n), share(n, people.audience));
    let boards = report.by_channel.iter().any(|c| c.evidence == Proof::Posted);
    let tiles = [
        (say!("发布对象", "audience"), number(people.audience)),
        (say!("知悉", "informed"), part(people.informed)),
        (say!("未到达", "unreached"), part(people.unreached)),
        (say!("到达 50% 用时", "time to 50%"), span(report.time_to_50_s)),
        (say!("到达 90% 用时", "time to 90%"), span(report.time_to_90_s)),
        (say!("费用（元）", "cost (yuan)"), yuan_rounded(report.cost_milli)),
    ];
    let boards = boards.then(|| (say!("公告栏覆盖户数", "households covered"), number(report.covered_households)));
    let tiles =
        tiles.into_iter().chain(boards).map(|(name, value)| format!("<div><dt>{name}</dt><dd>{value}</dd></div>"));
    format!("<dl class=\"figures\">{}</dl>", tiles.collect::<String>())
}

fn section(title: &str, content: &str) -> String {
    format!("<section><h2>{title}</h2>{content}</section>")
}

fn joined(pieces: impl Iterator<Item = String>) -> String {
    pieces.collect()
}

fn legend(entries: &[(&str, String)]) -> String {
    let entries = entries.iter().map(|(class, words)| format!("<li><i class=\"{class}\"></i>{words}</li>"));
    format!("<ul class=\"legend\">{}</ul>", joined(entries))
}

fn figure(plot: &str) -> String {
    format!("<figure>{plot}</figure>")
}

/// Audience ⊇ addressable ⊇ handed over ⊇ reached, and who was told beside it.
fn funnel(report: &ReachReport) -> String {
    let people = &report.people;
    let row = |label: String, class, n| Row {
        label,
        parts: vec![(class, n)],
        whole: people.audience,
        note: counted(n, people.audience),
    };
    let mut rows = vec![
        row(say!("发布对象", "audience"), "handed", people.audience),
        row(say!("有地址", "addressable"), "handed", people.addressable),
        row(say!("已提交", "handed over"), "handed", people.handed_over),
        row(say!("到达", "reached"), "reached", people.reached),
    ];
    if people.seen > 0 {
        rows.push(row(say!("已读或已确认", "seen"), "reached", people.seen));
    }
    rows.push(row(say!("当面告知", "told in person"), "told", people.told_in_person));
    let title = say!("从发布对象到到达", "From the audience to the reached");
    section(&title, &figure(&bars(&title, &rows)))
}

fn towns(report: &ReachReport) -> String {
    let towns: Vec<&RegionRow> = report.by_region.iter().filter(|r| r.level == "town").collect();
    let rows: Vec<Row> = towns
        .iter()
        .map(|r| {
            let p = &r.people;
            let parts = vec![("reached", p.reached), ("told", p.informed - p.reached)];
            Row {
                label: r.name.clone(),
                parts,
                whole: p.audience,
                note: format!("{} / {}", share(p.informed, p.audience), number(p.audience)),
            }
        })
        .collect();
    let title = say!("按乡镇", "By town");
    let key = legend(&[
        ("reached", say!("到达", "reached")),
        ("told", say!("当面告知", "told in person")),
        ("open", say!("未到达", "unreached")),
    ]);
    let content = format!("{key}{}{}", figure(&bars(&title, &rows)), region_table(&towns));
    section(&title, &content)
}

fn region_table(regions: &[&RegionRow]) -> String {
    let mut heads = vec![say!("区域", "region")];
    heads.extend(people_headings());
    heads.extend([say!("户数", "households"), say!("覆盖户数", "covered")]);
    let rows = regions.iter().map(|r| {
        let p = &r.people;
        let mut cells = vec![r.name.clone()];
        cells.extend([p.audience, p.handed_over, p.reached, p.informed].map(number));
        cells.push(share(p.informed, p.audience));
        cells.extend([p.unreached, r.households, r.covered_households].map(number));
        cells
    });
    table(&heads, rows)
}

fn table(heads: &[String], rows: impl Iterator<Item = Vec<String>>) -> String {
    let head = joined(heads.iter().map(|h| format!("<th scope=\"col\">{}</th>", escape(h))));
    let row = |cells: Vec<String>| {
        let cells = joined(cells.iter().map(|c| format!("<td>{}</td>", escape(c))));
        format!("<tr>{cells}</tr>")
    };
    let rows: String = rows.map(row).collect();
    format!("<div class=\"wide\"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>")
}

fn channels(report: &ReachReport) -> String {
    let rows: Vec<Row> = report
        .by_channel
        .iter()
        .map(|c| {
            let waiting = (c.handed_over - c.reached - c.undelivered - c.unknown).max(0).min(c.deliveries - c.reached);
            let gone = c.failed + c.undelivered;
            let parts = vec![
                ("reached", c.reached),
                ("handed", waiting.min(c.deliveries - c.reached - gone).max(0)),
                ("gone", gone),
            ];
            let note = format!("{} / {}", number(c.reached), number(c.deliveries));
            Row { label: c.channel.clone(), parts, whole: c.deliveries, note }
        })
        .collect();
    let heads = [
        say!("渠道", "channel"),
        say!("凭据", "evidence"),
        say!("发送记录", "deliveries"),
        say!("已提交", "handed over"),
        say!("到达", "reached"),
        say!("失败", "failed"),
        say!("未送达", "undelivered"),
        say!("无结果", "unknown"),
        say!("条数", "parts"),
        say!("费用（元）", "cost (yuan)"),
    ];
    let cells = report.by_channel.iter().map(|c| {
        let counts = [c.deliveries, c.handed_over, c.reached, c.failed, c.undelivered, c.unknown, c.parts].map(number);
        [c.channel.clone(), proof(c.evidence)].into_iter().chain(counts).chain([yuan_rounded(c.cost_milli)]).collect()
    });
    let title = say!("按渠道（发送记录）", "By channel (deliveries)");
    let key = legend(&[
        ("reached", say!("到达（公告栏为已张贴，入户为已告知）", "reached (boards: posted, visits: told)")),
        ("handed", say!("已提交，尚无结果或无回执", "handed over, no word or none to come")),
        ("gone", say!("失败或未送达", "failed or undelivered")),
        ("open", say!("其余", "the rest")),
    ]);
    section(&title, &format!("{key}{}{}", figure(&bars(&title, &rows)), table(&heads, cells)))
}

fn over_time(report: &ReachReport, first_reached: &BTreeMap<i64, i64>) -> String {
    let marks = [(50, report.time_to_50_s), (90, report.time_to_90_s)];
    let title = say!("到达随时间的变化（占发布对象的比例）", "Reached over time (share of the audience)");
    section(&title, &figure(&curve(first_reached, report.people.audience, &marks)))
}

fn reasons(report: &ReachReport) -> String {
    let whole = report.people.unreached;
    let found = report.people.unreached_by_reason.list().into_iter().filter(|(_, n)| *n > 0);
    let rows: Vec<Row> = found
        .map(|(why, n)| Row { label: why.words(), parts: vec![("gone", n)], whole, note: counted(n, whole) })
        .collect();
    let title = say!("为什么没有到达", "Why people were not reached");
    section(&title, &figure(&bars(&title, &rows)))
}

/// Every village and farm, folded away on the screen.
fn villages(report: &ReachReport) -> Option<String> {
    let villages: Vec<&RegionRow> =
        report.by_region.iter().filter(|r| matches!(r.level.as_str(), "village" | "custom")).collect();
    if villages.is_empty() {
        return None;
    }
    let (title, n, words) = (say!("按村", "By village"), villages.len(), level("village"));
    let open = say!("展开 {n} 个{words}", "show {n} of {words}");
    let content = format!("<details><summary>{open}</summary>{}</details>", region_table(&villages));
    Some(section(&title, &content))
}

#[cfg(test)]
mod tests {
    use super::super::tests::report;
    use super::*;

    fn made() -> String {
        let about = About {
            title: "<b>预警</b>".into(),
            unit: "某县".into(),
            facts: vec!["对象：全部".into()],
            as_of: "now".into(),
        };
        page(&report(), &about, &BTreeMap::from([(1, 2)]))
    }

    #[test]
    fn the_page_holds_no_script_and_nothing_from_elsewhere() {
        let page = made();
        assert!(page.contains("&lt;b&gt;预警") && page.contains("【演练】"), "{page}");
        for word in ["<script", "http://", "https://", "javascript:", "url("] {
            assert!(!page.contains(word), "{word}");
        }
        assert_eq!(page.matches("<svg").count(), 5);
        assert_eq!(page.matches("<svg").count(), page.matches("role=\"img\"").count());
    }

    /// WCAG 2.1, 1.4.3: text has 4.5 : 1 against its ground; 1.4.11: marks have 3 : 1.
    #[test]
    fn colours_have_contrast_on_white() {
        let light = |hex: &str| {
            let part = |at: usize| {
                let c = f64::from(u8::from_str_radix(&hex[at..at + 2], 16).unwrap()) / 255.0;
                if c <= 0.039_28 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
            };
            0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5)
        };
        let colour = |name: &str| STYLE.split(&format!("--{name}: ")).nth(1).unwrap()[..7].to_owned();
        for (name, least) in [("ink", 4.5), ("soft", 4.5), ("reached", 4.5), ("told", 4.5), ("gone", 4.5)] {
            let ratio = 1.05 / (light(&colour(name)) + 0.05);
            assert!(ratio >= least, "{name}: {ratio:.2}");
        }
    }
}
