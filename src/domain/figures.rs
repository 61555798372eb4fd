//! Figures as people read them: shares, spans of time, money.

use crate::say;

/// `n` of `whole` in per cent with one decimal, rounded down: 100% means all.
#[must_use]
pub fn share(n: i64, whole: i64) -> String {
    if whole == 0 {
        return "-".into();
    }
    let tenths = n * 1_000 / whole;
    format!("{}.{}%", tenths / 10, tenths % 10)
}

/// So many seconds in words; none: not yet.
#[must_use]
pub fn span(seconds: Option<i64>) -> String {
    let Some(seconds) = seconds else { return say!("尚未达到", "not yet") };
    let (hours, minutes, rest) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => say!("{rest} 秒", "{rest} s"),
        (0, _) => say!("{minutes} 分 {rest} 秒", "{minutes} min {rest} s"),
        _ => say!("{hours} 小时 {minutes} 分", "{hours} h {minutes} min"),
    }
}

/// Thousandths of a yuan as yuan, exactly.
#[must_use]
pub fn yuan(milli: i64) -> String {
    format!("{}.{:03}", milli / 1_000, milli % 1_000)
}

/// Thousandths of a yuan as yuan, to the cent, rounded.
#[must_use]
pub fn yuan_rounded(milli: i64) -> String {
    let cents = (milli + 5) / 10;
    format!("{}.{:02}", cents / 100, cents % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_all_is_all() {
        assert_eq!([share(2, 3), share(9_999, 10_000), share(5, 5)], ["66.6%", "99.9%", "100.0%"]);
        assert_eq!(share(0, 0), "-");
    }

    #[test]
    fn spans_have_two_units_at_most() {
        let spans = [None, Some(9), Some(75), Some(3_600), Some(7_384)].map(span);
        assert_eq!(spans, ["尚未达到", "9 秒", "1 分 15 秒", "1 小时 0 分", "2 小时 3 分"]);
    }

    #[test]
    fn money_is_exact_or_to_the_cent() {
        assert_eq!([yuan(1_045), yuan(45)], ["1.045", "0.045"]);
        assert_eq!([yuan_rounded(1_045), yuan_rounded(1_044), yuan_rounded(999)], ["1.05", "1.04", "1.00"]);
    }
}
