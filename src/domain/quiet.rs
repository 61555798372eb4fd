//! Quiet hours: when routine messages wait for the morning.

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

use crate::clock::Millis;

/// From one time of day to another, perhaps over midnight, in the site's time zone.
#[derive(Debug, Clone)]
pub struct QuietHours {
    pub from: Time,
    pub to: Time,
    pub zone: TimeZone,
}

impl QuietHours {
    /// No quiet hours at all.
    #[must_use]
    pub fn none(zone: TimeZone) -> Self {
        Self { from: Time::midnight(), to: Time::midnight(), zone }
    }

    /// When the quiet ends, if it is quiet at `now`.
    #[must_use]
    pub fn until(&self, now: Millis) -> Option<Millis> {
        let local = Timestamp::from_millisecond(now).ok()?.to_zoned(self.zone.clone());
        let time = local.time();
        let (over_midnight, quiet) = if self.from <= self.to {
            (false, self.from <= time && time < self.to)
        } else {
            (time >= self.from, time >= self.from || time < self.to)
        };
        if !quiet {
            return None;
        }
        let day = if over_midnight { local.date().checked_add(Span::new().days(1)).ok()? } else { local.date() };
        let end = day.to_datetime(self.to).to_zoned(self.zone.clone()).ok()?;
        Some(end.timestamp().as_millisecond())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Millis {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    #[test]
    fn nights_end_in_the_morning() {
        let zone = TimeZone::get("Asia/Shanghai").unwrap();
        let quiet = QuietHours { from: Time::constant(22, 0, 0, 0), to: Time::constant(7, 0, 0, 0), zone: zone.clone() };
        let morning = at("2026-06-02T07:00:00+08:00");
        assert_eq!(quiet.until(at("2026-06-01T22:00:00+08:00")), Some(morning));
        assert_eq!(quiet.until(at("2026-06-02T06:59:59+08:00")), Some(morning));
        assert_eq!(quiet.until(morning), None);
        assert_eq!(quiet.until(at("2026-06-01T21:59:59+08:00")), None);
        assert_eq!(QuietHours::none(zone).until(morning), None);
    }
}
