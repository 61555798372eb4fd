//! Points and spans of time as people write them.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

use crate::clock::Millis;

/// Where a date without a time of day points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// The first moment of the day: "from 1 June".
    Start,
    /// The first moment after it: "until 7 June" includes the 7th.
    End,
}

/// Reads RFC 3339 (`2026-06-01T14:00:00+08:00`), a date with or without a time of day
/// in the site's zone (`2026-06-01 14:00`, `2026/6/1`, `2026年6月1日14时30分`), or epoch
/// milliseconds (12 or 13 digits, what JSON holds).
pub fn point(text: &str, tz: &TimeZone, edge: Edge) -> Option<Millis> {
    let text = text.trim();
    if (12..=13).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok();
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at.as_millisecond());
    }
    let numbers = civil_numbers(text)?;
    let at = |i: usize| numbers.get(i).copied().unwrap_or(0);
    let small = |i: usize| i8::try_from(at(i)).ok();
    let mut civil = DateTime::new(at(0), small(1)?, small(2)?, small(3)?, small(4)?, small(5)?, 0).ok()?;
    if numbers.len() == 3 && edge == Edge::End {
        civil = civil.checked_add(Span::new().days(1)).ok()?;
    }
    Some(tz.to_zoned(civil).ok()?.timestamp().as_millisecond())
}

/// Reads a day (`2026-09-18`, `2026/9/18`, `2026年9月18日`).
pub fn day(text: &str) -> Option<Date> {
    match civil_numbers(text.trim())?.as_slice() {
        [year, month, day] => Date::new(*year, i8::try_from(*month).ok()?, i8::try_from(*day).ok()?).ok(),
        _ => None,
    }
}

/// Three, four (only with 时), five or six numbers between the marks of a date; nothing
/// else may stand there, or `2026-06-01 14:00 UTC` would be read as local time.
fn civil_numbers(text: &str) -> Option<Vec<i16>> {
    let marks = |c: char| {
        matches!(c, '-' | '/' | '.' | ':' | '：' | ' ' | 'T' | '年' | '月' | '日' | '号' | '时' | '点' | '分' | '秒')
    };
    if !text.starts_with(|c: char| c.is_ascii_digit()) || !text.chars().all(|c| c.is_ascii_digit() || marks(c)) {
        return None;
    }
    let numbers: Result<Vec<i16>, _> = text.split(marks).filter(|n| !n.is_empty()).map(str::parse).collect();
    let numbers = numbers.ok()?;
    let counted = match numbers.len() {
        3 | 5 | 6 => true,
        4 => text.ends_with(['时', '点']),
        _ => false,
    };
    (counted && numbers[0] >= 1000).then_some(numbers)
}

/// Reads `+6h`, `90m`, `2d`, `1w`, `6小时`, `30分钟`, `3天`, `2周`, or bare milliseconds, in
/// milliseconds; more than nothing and at most ten years.
pub fn span(text: &str) -> Option<Millis> {
    let text = text.trim();
    let signed = text.starts_with('+');
    let text = text.trim_start_matches('+').trim();
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit: Millis = match text[unit_at..].trim() {
        "" if !signed => 1,
        "m" | "min" | "分" | "分钟" => 60_000,
        "h" | "小时" | "时" => 3_600_000,
        "d" | "天" | "日" => 86_400_000,
        "w" | "周" => 7 * 86_400_000,
        _ => return None,
    };
    let span = text[..unit_at].parse::<Millis>().ok()?.checked_mul(unit)?;
    (1..=3_653 * 86_400_000).contains(&span).then_some(span)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shanghai() -> TimeZone {
        TimeZone::get("Asia/Shanghai").unwrap()
    }

    fn rfc(text: &str) -> Millis {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    #[test]
    fn points_in_the_site_zone() {
        let two = Some(rfc("2026-06-01T14:00:00+08:00"));
        for text in [
            "2026-06-01T06:00:00Z",
            "2026-06-01T14:00:00+08:00",
            "2026-06-01 14:00:00+08:00",
            "2026-06-01 14:00",
            "2026-06-01T14:00:00",
            "2026/6/1 14:00",
            "2026年6月1日14时",
            "2026年6月1日 14：00",
            "2026年6月1日14时00分",
            "1780293600000",
        ] {
            assert_eq!(point(text, &shanghai(), Edge::Start), two, "{text}");
        }
    }

    #[test]
    fn a_day_starts_at_midnight_and_lasts_to_the_next() {
        assert_eq!(point("2026-06-07", &shanghai(), Edge::Start), Some(rfc("2026-06-07T00:00:00+08:00")));
        assert_eq!(point("2026年6月7日", &shanghai(), Edge::End), Some(rfc("2026-06-08T00:00:00+08:00")));
        assert_eq!(point("2026-06-07 00:00", &shanghai(), Edge::End), Some(rfc("2026-06-07T00:00:00+08:00")));
    }

    #[test]
    fn what_is_no_point_is_refused() {
        for text in [
            "",
            "明天",
            "2026-02-30",
            "06-01 14:00",
            "2026-06-01 14",
            "2026-06-01 25:00",
            "14:00",
            "2026-06-01 14:00 UTC",
        ] {
            assert_eq!(point(text, &shanghai(), Edge::Start), None, "{text}");
        }
    }

    #[test]
    fn spans() {
        for (text, expected) in [
            ("+6h", Some(21_600_000)),
            ("6小时", Some(21_600_000)),
            ("90 m", Some(5_400_000)),
            ("3天", Some(259_200_000)),
            ("1w", Some(604_800_000)),
            ("60000", Some(60_000)),
            ("+6", None),
            ("0h", None),
            ("-6h", None),
            ("h", None),
            ("", None),
            ("9999999999999999999d", None),
            ("5000d", None),
        ] {
            assert_eq!(span(text), expected, "{text}");
        }
    }
}
