//! Plots of the reach as SVG, drawn here: bars and one curve, legible without colour
//! (every bar has its numbers) and to a screen reader (every plot has its words).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::page::escape;
use crate::domain::figures::{share, span};
use crate::say;

/// Units of a plot's width; the page scales it.
const WIDTH: i64 = 760;
/// Where bars begin, and how long the longest is.
const LEFT: i64 = 170;
const LONGEST: i64 = 410;
const ROW: i64 = 34;
const THICK: i64 = 20;
/// The corners of the curve's field.
const FROM: i64 = 60;
const TO: i64 = 730;
const TOP: i64 = 14;
const BOTTOM: i64 = 234;

/// One row of bars: parts side by side, together at most `whole`.
pub(super) struct Row {
    pub label: String,
    /// CSS class and count, from the left.
    pub parts: Vec<(&'static str, i64)>,
    pub whole: i64,
    /// Stands at the end.
    pub note: String,
}

/// Rows of bars on one scale: the longest stands for the largest `whole`.
pub(super) fn bars(title: &str, rows: &[Row]) -> String {
    let largest = rows.iter().map(|r| r.whole).max().unwrap_or(0).max(1);
    let height = ROW * i64::try_from(rows.len()).unwrap_or(0) + 6;
    let mut svg = opened(title, height);
    for (at, row) in (0_i64..).zip(rows) {
        let top = at * ROW + 6;
        let (label, note) = (escape(&row.label), escape(&row.note));
        let base = top + THICK - 5;
        let whole = row.whole * LONGEST / largest;
        // Writing to a String cannot fail.
        let _ = write!(svg, r#"<text x="{}" y="{base}" text-anchor="end">{label}</text>"#, LEFT - 12);
        let _ = write!(svg, r#"<rect class="open" x="{LEFT}" y="{top}" width="{whole}" height="{THICK}"/>"#);
        let mut before = 0;
        for (class, n) in &row.parts {
            let (from, to) = (before * LONGEST / largest, (before + n) * LONGEST / largest);
            before += n;
            if to > from {
                let (x, width) = (LEFT + from, to - from);
                let _ = write!(svg, r#"<rect class="{class}" x="{x}" y="{top}" width="{width}" height="{THICK}"/>"#);
            }
        }
        let _ = write!(svg, r#"<text x="{}" y="{base}">{note}</text>"#, LEFT + whole + 10);
    }
    svg.push_str("</svg>");
    svg
}

fn opened(title: &str, height: i64) -> String {
    let title = escape(title);
    format!(r#"<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{title}"><title>{title}</title>"#)
}

/// The share of the audience that had been reached, second by second; the moments at
/// which a half and nine tenths had been are marked.
pub(super) fn curve(first_reached: &BTreeMap<i64, i64>, audience: i64, marks: &[(i64, Option<i64>)]) -> String {
    let title = say!("到达人数随时间的变化", "People reached over time");
    let last = first_reached.keys().copied().max().unwrap_or(0).max(1);
    let x = |second: i64| FROM + second * (TO - FROM) / last;
    let y = |n: i64| BOTTOM - n * (BOTTOM - TOP) / audience.max(1);
    let mut svg = opened(&title, BOTTOM + 34);
    for quarter in 0..=4 {
        let at = BOTTOM - quarter * (BOTTOM - TOP) / 4;
        let _ = write!(
            svg,
            r#"<line class="grid" x1="{FROM}" x2="{TO}" y1="{at}" y2="{at}"/><text class="soft" x="{}" y="{}" text-anchor="end">{}%</text>"#,
            FROM - 8,
            at + 5,
            quarter * 25
        );
    }
    // A curve of two seconds has no quarters of its own.
    let quarters = if last < 4 { last } else { 4 };
    for tick in 0..=quarters {
        let second = last * tick / quarters;
        let anchor = match tick {
            0 => "start",
            _ if tick == quarters => "end",
            _ => "middle",
        };
        let _ = write!(
            svg,
            r#"<text class="soft" x="{}" y="{}" text-anchor="{anchor}">{}</text>"#,
            x(second),
            BOTTOM + 22,
            escape(&span(Some(second)))
        );
    }
    let (mut path, mut so_far) = (format!("M{FROM} {BOTTOM}"), 0);
    for (second, n) in first_reached {
        so_far += n;
        let _ = write!(path, "H{}V{}", x(*second), y(so_far));
    }
    let _ = write!(svg, r#"<path class="curve" d="{path}H{TO}"/>"#);
    for (percent, second) in marks {
        let Some(second) = second else { continue };
        let at = x(*second);
        // Beside the line, on the side that has room.
        let (anchor, beside) = if at > TO - 150 { ("end", at - 6) } else { ("start", at + 6) };
        let words = format!("{percent}%：{}", span(Some(*second)));
        let level = y(audience * percent / 100);
        let _ = write!(
            svg,
            r#"<line class="mark-line" x1="{at}" x2="{at}" y1="{level}" y2="{BOTTOM}"/><text x="{beside}" y="{}" text-anchor="{anchor}">{}</text>"#,
            level + 34,
            escape(&words)
        );
    }
    svg.push_str("</svg>");
    svg
}

/// `1,234 (56.7%)`
pub(super) fn counted(n: i64, whole: i64) -> String {
    format!("{} ({})", crate::cli::output::number(n), share(n, whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_stay_within_the_plot_and_say_their_numbers() {
        let row = |label: &str, whole, parts| Row { label: label.into(), parts, whole, note: counted(3, whole) };
        let svg = bars("a<b", &[row("甲", 10, vec![("reached", 3), ("told", 7)]), row("乙", 0, vec![])]);
        assert!(svg.contains("a&lt;b") && svg.contains("3 (30.0%)") && svg.contains("3 (-)"), "{svg}");
        let widths: Vec<i64> =
            svg.split("width=\"").skip(1).filter_map(|t| t.split('"').next()?.parse().ok()).collect();
        assert!(widths.iter().all(|w| *w <= LONGEST), "{widths:?}");
        assert_eq!(svg.matches("<rect").count(), 4, "a rail a row, a rect a part");
    }

    #[test]
    fn the_curve_ends_at_the_share_reached() {
        let svg = curve(&BTreeMap::from([(1, 5), (4, 3)]), 10, &[(50, Some(1)), (90, None)]);
        assert!(svg.contains("H730V58H730"), "eight of ten: {svg}");
        assert_eq!(svg.matches("mark-line").count(), 1);
        assert!(curve(&BTreeMap::new(), 0, &[]).ends_with("</svg>"));
    }
}
