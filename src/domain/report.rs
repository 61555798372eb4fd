//! The situation report (情况报告): the text an office pastes into its own report, made
//! from facts alone.

mod words;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use serde::Serialize;

use super::calls::Village;
use super::reach::ReachReport;
use crate::clock::Millis;
use crate::say;

/// All that the report is made from.
#[derive(Debug, Clone, Serialize)]
pub struct Situation {
    pub dispatch_no: i64,
    /// `live` or `drill`; anything else is no report to pass on.
    pub mode: String,
    pub title: String,
    /// 预警, 政策 …
    pub kind: String,
    /// 红色, 一级 …
    pub level: Option<String>,
    /// 文号.
    pub document_no: Option<String>,
    pub item_no: i64,
    pub item_version: i32,
    /// 影响范围, in words.
    pub area: Option<String>,
    /// Who answers for it, and the number people call back.
    pub unit: String,
    pub phone: String,
    pub approved: Option<Approved>,
    pub sent_at: Millis,
    pub sent_by: String,
    /// As of its own time.
    pub reach: ReachReport,
    /// Whether duty officers are called about it.
    pub called: bool,
    /// Where they are called.
    pub villages: Vec<Village>,
    pub next: Vec<Next>,
}

/// Who approved what was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Approved {
    pub unit: String,
    pub at: Millis,
    /// One officer issued it alone; the second signature follows.
    pub fast_lane: bool,
}

/// What happens next without anybody's doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Next {
    /// Messages are still going out, or receipts are waited for.
    UnderWay,
    Paused,
    /// A further step for those not reached.
    Step {
        channels: Vec<String>,
        at: Millis,
    },
    /// The next officers are asked.
    Call {
        at: Millis,
    },
    /// Nothing is left to do.
    Finished {
        at: Option<Millis>,
    },
    Cancelled,
}

/// A part of the report: running text, then rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Section {
    pub heading: String,
    pub lines: Vec<String>,
    pub table: Option<Table>,
}

/// Rows that stand as a table on paper and as lines in a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Table {
    pub heads: Vec<String>,
    pub rows: Vec<Row>,
}

/// One row, twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    pub line: String,
    pub cells: Vec<String>,
}

impl Situation {
    /// 关于《…》发布情况的报告.
    #[must_use]
    pub fn heading(&self) -> String {
        let title = &self.title;
        let mark = if self.mode == "drill" { "【演练】" } else { "" };
        say!("{mark}关于《{title}》发布情况的报告", "{mark}Report on the issue of \"{title}\"")
    }

    /// （截至…）
    #[must_use]
    pub fn as_of(&self, zone: &TimeZone) -> String {
        let at = date_time(self.reach.as_of.as_millisecond(), zone);
        say!("（截至{at}）", "(as of {at})")
    }

    /// The date under the report.
    #[must_use]
    pub fn date(&self, zone: &TimeZone) -> String {
        local(self.reach.as_of.as_millisecond(), zone).strftime("%Y年%-m月%-d日").to_string()
    }

    /// The parts in order; those with nothing to say are left out.
    #[must_use]
    pub fn sections(&self, zone: &TimeZone) -> Vec<Section> {
        let parts = [
            Some(words::issued(self, zone)),
            Some(words::people(self)),
            Some(words::channels(self)),
            words::officers(self, zone),
            words::unreached(self),
            Some(words::next(self, zone)),
            Some(words::cost(self)),
        ];
        let mut sections: Vec<Section> = parts.into_iter().flatten().collect();
        for (at, section) in sections.iter_mut().enumerate() {
            let number = ["一", "二", "三", "四", "五", "六", "七"].get(at).copied().unwrap_or_default();
            let (heading, plain) = (&section.heading, at + 1);
            section.heading = say!("{number}、{heading}", "{plain}. {heading}");
        }
        sections
    }

    /// Plain text to paste.
    #[must_use]
    pub fn text(&self, zone: &TimeZone) -> String {
        let mut lines = vec![self.heading(), self.as_of(zone), String::new()];
        for section in self.sections(zone) {
            lines.push(section.heading);
            lines.extend(section.lines);
            lines.extend(section.table.into_iter().flat_map(|t| t.rows).map(|r| r.line));
            lines.push(String::new());
        }
        lines.extend([self.unit.clone(), self.date(zone)]);
        lines.join("\n") + "\n"
    }

    /// The body in Markdown, without the title.
    #[must_use]
    pub fn markdown_body(&self, zone: &TimeZone) -> String {
        let mut lines = vec![self.as_of(zone), String::new()];
        let row = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(|c| escaped(c)).collect();
            format!("| {} |", cells.join(" | "))
        };
        for section in self.sections(zone) {
            lines.extend([format!("## {}", section.heading), String::new()]);
            lines.extend(section.lines.iter().flat_map(|line| [escaped(line), String::new()]));
            let Some(table) = section.table.filter(|t| !t.rows.is_empty()) else { continue };
            lines.extend([row(&table.heads), format!("|{}", "---|".repeat(table.heads.len()))]);
            lines.extend(table.rows.iter().map(|r| row(&r.cells)));
            lines.push(String::new());
        }
        lines.join("\n") + "\n"
    }

    /// The whole report in Markdown.
    #[must_use]
    pub fn markdown(&self, zone: &TimeZone) -> String {
        let (heading, body) = (escaped(&self.heading()), self.markdown_body(zone));
        format!("# {heading}\n\n{body}{}\n\n{}\n", escaped(&self.unit), self.date(zone))
    }
}

/// Text as Markdown that says the same: a title is not markup.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn local(at: Millis, zone: &TimeZone) -> Zoned {
    Timestamp::from_millisecond(at).unwrap_or_default().to_zoned(zone.clone())
}

/// 2026年6月1日10时05分.
fn date_time(at: Millis, zone: &TimeZone) -> String {
    let at = local(at, zone);
    let (zh, en) = (at.strftime("%Y年%-m月%-d日%-H时%M分").to_string(), at.strftime("%Y-%m-%d %H:%M").to_string());
    say!("{zh}", "{en}")
}

#[cfg(test)]
mod tests;
