//! Working days: weekends, public holidays, and the weekend days that make up for them.
//!
//! Which days those are is announced year by year, so a deadline that runs into a year
//! without a calendar is *provisional*: it counts weekends only from there on, and says so.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::{Date, Weekday};
use serde::{Deserialize, Serialize};

use crate::say;

/// Working days after its formation within which information is disclosed (公开条例 art. 26).
pub const DISCLOSURE: u32 = 20;
/// The same for permits and penalties, from the decision on.
pub const DISCLOSURE_OF_DECISIONS: u32 = 7;

/// The holidays and make-up days of some years.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Calendar {
    years: BTreeMap<i16, Year>,
}

/// One announced year.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Year {
    /// Every day off, those on weekends included.
    holidays: BTreeSet<Date>,
    /// Saturdays and Sundays that are worked (调休上班).
    #[serde(default)]
    make_up_days: BTreeSet<Date>,
}

/// A calendar as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// Where it is from, for people.
    #[serde(default, rename = "source")]
    _source: String,
    years: BTreeMap<i16, Year>,
}

/// A day reached by counting working days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Deadline {
    pub date: Date,
    /// The first year on the way that no calendar is known of.
    pub provisional_from: Option<i16>,
}

/// What is wrong with a calendar's file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CalendarError {
    #[error("{}", say!(
        "第 {line} 行第 {column} 列读不懂：{why}。写法见 templates/README.md",
        "line {line}, column {column} cannot be read: {why}. See templates/README.md for the form"
    ))]
    Syntax { line: usize, column: usize, why: String },
    #[error("{}", say!("{year} 年里写了别的年份的 {date}", "the year {year} holds {date}, which is another year's"))]
    OtherYear { year: i16, date: Date },
    #[error("{}", say!(
        "{date} 不是周末，不会是调休上班的日子",
        "{date} is no weekend, so it cannot make up for a day off"
    ))]
    NoWeekend { date: Date },
    #[error("{}", say!("{date} 既写作放假又写作上班", "{date} is both a holiday and worked"))]
    Both { date: Date },
}

impl Calendar {
    /// Reads a calendar: `{"years": {"2026": {"holidays": […], "make_up_days": […]}}}`.
    ///
    /// # Errors
    /// What is wrong in it, with its place or its date.
    pub fn parse(json: &str) -> Result<Self, CalendarError> {
        let read: File = serde_json::from_str(json).map_err(|e| CalendarError::Syntax {
            line: e.line(),
            column: e.column(),
            why: e.to_string(),
        })?;
        for (year, days) in &read.years {
            let mut all = days.holidays.iter().chain(&days.make_up_days);
            if let Some(date) = all.find(|d| d.year() != *year) {
                return Err(CalendarError::OtherYear { year: *year, date: *date });
            }
            if let Some(date) = days.make_up_days.iter().find(|d| !is_weekend(**d)) {
                return Err(CalendarError::NoWeekend { date: *date });
            }
            if let Some(date) = days.make_up_days.intersection(&days.holidays).next() {
                return Err(CalendarError::Both { date: *date });
            }
        }
        Ok(Self { years: read.years })
    }

    /// Takes over the years of another, in place of its own.
    pub fn replace(&mut self, other: Self) {
        self.years.extend(other.years);
    }

    /// Those of these years that it does not know.
    #[must_use]
    pub fn missing(&self, years: &[i16]) -> Vec<i16> {
        years.iter().copied().filter(|year| !self.years.contains_key(year)).collect()
    }

    /// Whether offices work on this day, as far as known.
    #[must_use]
    pub fn is_working(&self, date: Date) -> bool {
        match self.years.get(&date.year()) {
            Some(year) if is_weekend(date) => year.make_up_days.contains(&date),
            Some(year) => !year.holidays.contains(&date),
            None => !is_weekend(date),
        }
    }

    /// The `n`-th working day after `from`, which itself does not count (民法典 art. 201).
    #[must_use]
    pub fn add(&self, from: Date, n: u32) -> Deadline {
        let (mut date, mut left, mut unknown) = (from, n, None);
        while left > 0 {
            let Ok(next) = date.tomorrow() else { break };
            date = next;
            unknown = unknown.or_else(|| self.missing(&[date.year()]).first().copied());
            left -= u32::from(self.is_working(date));
        }
        Deadline { date, provisional_from: unknown }
    }

    /// Working days after `from`, up to `to` and with it; negative when `to` is earlier.
    #[must_use]
    pub fn count(&self, from: Date, to: Date) -> i64 {
        if to < from {
            return -self.count(to, from);
        }
        let days = from.series(jiff::Span::new().days(1)).skip(1).take_while(|day| *day <= to);
        i64::try_from(days.filter(|day| self.is_working(*day)).count()).unwrap_or(i64::MAX)
    }
}

fn is_weekend(date: Date) -> bool {
    matches!(date.weekday(), Weekday::Saturday | Weekday::Sunday)
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use proptest::prelude::*;

    use super::*;

    fn shipped() -> Calendar {
        Calendar::parse(include_str!("../../templates/calendar/cn.json")).unwrap()
    }

    #[test]
    fn known_answers() {
        let calendar = shipped();
        let day = |y, m, d| Deadline { date: date(y, m, d), provisional_from: None };
        assert_eq!(calendar.add(date(2026, 9, 18), 20), day(2026, 10, 22));
        assert_eq!(calendar.add(date(2026, 9, 18), 7), day(2026, 9, 29));
        assert_eq!(calendar.add(date(2026, 9, 18), 0), day(2026, 9, 18));
        // A Sunday that is worked, and a Thursday that is not.
        assert!(calendar.is_working(date(2026, 9, 20)) && !calendar.is_working(date(2026, 10, 1)));
        assert_eq!(calendar.missing(&[2023, 2024, 2025, 2026, 2027]), [2023, 2027]);
    }

    #[test]
    fn a_deadline_into_a_year_without_a_calendar_says_so() {
        let calendar = shipped();
        let late = calendar.add(date(2026, 12, 18), 20);
        assert_eq!(late, Deadline { date: date(2027, 1, 15), provisional_from: Some(2027) });
        assert_eq!(calendar.add(date(2026, 12, 18), 9).provisional_from, None);
        // The year that was announced meanwhile.
        let mut known = calendar;
        known.replace(Calendar::parse(r#"{"years": {"2027": {"holidays": ["2027-01-01"]}}}"#).unwrap());
        let late = known.add(date(2026, 12, 18), 20);
        assert_eq!(late, Deadline { date: date(2027, 1, 18), provisional_from: None });
        assert!(!known.is_working(date(2026, 10, 1)), "the other years stay");
    }

    #[test]
    fn mistakes_are_found() {
        let wrong = |days: &str| Calendar::parse(&format!(r#"{{"years": {{"2027": {days}}}}}"#)).unwrap_err();
        assert!(matches!(wrong(r#"{"holidays": ["2026-01-01"]}"#), CalendarError::OtherYear { year: 2027, .. }));
        assert!(matches!(
            wrong(r#"{"holidays": [], "make_up_days": ["2027-01-04"]}"#),
            CalendarError::NoWeekend { .. }
        ));
        assert!(matches!(
            wrong(r#"{"holidays": ["2027-01-03"], "make_up_days": ["2027-01-03"]}"#),
            CalendarError::Both { .. }
        ));
        assert!(matches!(wrong("{\"holidays\": [],\n \"off\": []}"), CalendarError::Syntax { line: 2, .. }));
        assert!(matches!(Calendar::parse("{}").unwrap_err(), CalendarError::Syntax { .. }));
    }

    proptest! {
        /// What was added is what is counted, and a deadline is a working day.
        #[test]
        fn adding_and_counting_agree(start in 0_i32..1_000, n in 1_u32..200) {
            let calendar = shipped();
            let from = date(2024, 1, 1).checked_add(jiff::Span::new().days(start)).unwrap();
            let end = calendar.add(from, n);
            prop_assert!(calendar.is_working(end.date));
            prop_assert_eq!(calendar.count(from, end.date), i64::from(n));
            prop_assert_eq!(calendar.count(end.date, from), -i64::from(n));
            prop_assert!(calendar.add(from, n + 1).date > end.date);
            prop_assert_eq!(end.provisional_from.is_some(), end.date.year() > 2026);
        }
    }
}
