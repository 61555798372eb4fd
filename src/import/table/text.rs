//! What a cell's text means once the accidents of typing and of spreadsheets are undone.

use super::error::RowErrorKind;

/// Full-width characters that are typed by accident where ASCII is meant. Brackets,
/// commas and colons are proper Chinese punctuation in names and addresses and stay,
/// as do compatibility ideographs that full NFKC would rewrite in names.
fn narrowed(c: char) -> char {
    match c {
        '０'..='９' | 'Ａ'..='Ｚ' | 'ａ'..='ｚ' | '＋' | '－' | '．' | '／' | '＠' | '＿' => ascii(c),
        '\u{a0}' | '\u{3000}' => ' ',
        _ => c,
    }
}

/// The ASCII twin of a full-width form (U+FF01–U+FF5E), or the character itself.
pub(super) fn ascii(c: char) -> char {
    match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
        _ => c,
    }
}

/// Marks without width that come along when numbers are copied from phones and pages.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}' | '\u{feff}' | '\u{2060}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The cell as meant, or `None` when trimming is all it needs.
pub(super) fn mended(cell: &str) -> Option<String> {
    let trimmed = cell.trim();
    let fixed: String = trimmed.chars().filter(|c| !is_invisible(*c)).map(narrowed).collect();
    let fixed = unmarked(fixed.trim());
    let fixed = restored(fixed).unwrap_or_else(|| fixed.to_owned());
    (fixed != trimmed).then_some(fixed)
}

/// Without the marks that force text in spreadsheets: `'139…` and `="139…"`.
fn unmarked(cell: &str) -> &str {
    if let Some(rest) = cell.strip_prefix('\'')
        && rest.starts_with(|c: char| c.is_ascii_digit() || "=+-@".contains(c))
    {
        return rest;
    }
    cell.strip_prefix("=\"").and_then(|rest| rest.strip_suffix('"')).unwrap_or(cell)
}

/// Mantissa digits, whether a point stands after the first, and exponent of `1.39E+10`.
fn scientific(cell: &str) -> Option<(String, usize)> {
    let (mantissa, exponent) = cell.split_once("E+").or_else(|| cell.split_once("e+"))?;
    let (first, rest) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    let shaped = first.len() == 1 && digits(first) && digits(rest) && digits(exponent);
    let exponent = exponent.parse().ok().filter(|_| shaped)?;
    Some((format!("{first}{rest}"), exponent))
}

/// Scientific notation written out, when it still holds every digit.
fn restored(cell: &str) -> Option<String> {
    let (digits, exponent) = scientific(cell)?;
    (digits.len() == exponent + 1).then_some(digits)
}

/// What makes a cell useless, whichever format it came from.
pub(super) fn fault(cell: &str, encoding: &str) -> Option<RowErrorKind> {
    // The decoder writes U+FFFD for bytes it cannot read; one in the source is
    // the mark of an earlier, equally lossy conversion.
    if cell.contains(['\u{fffd}', '\0']) {
        return Some(RowErrorKind::Unreadable { encoding: encoding.to_owned() });
    }
    let cell = cell.trim();
    if matches!(cell, "#N/A" | "#REF!" | "#VALUE!" | "#NAME?" | "#DIV/0!" | "#NULL!" | "#NUM!") {
        return Some(RowErrorKind::ErrorValue);
    }
    scientific(cell).filter(|(digits, exponent)| digits.len() <= *exponent).map(|_| RowErrorKind::LostDigits)
}

/// A number as a spreadsheet shows it: whole ones plain, others to 15 digits. Whole
/// numbers from 10^15 on, where spreadsheets have dropped digits, keep scientific
/// notation so that [`fault`] finds them, now and when a rejected row is fed again.
pub(super) fn number(value: f64) -> String {
    if value.fract() != 0.0 {
        let short: f64 = format!("{value:.14e}").parse().unwrap_or(value);
        return short.to_string();
    }
    if value.abs() < 1e15 {
        return format!("{value:.0}");
    }
    format!("{value:E}").replace('E', "E+")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_read_as_meant() {
        for (typed, meant) in [
            ("１３９００００００01", "13900000001"),
            ("\u{202d}13900000001\u{202c}", "13900000001"),
            ("'+8613900000001", "+8613900000001"),
            ("=\"13900000001\"", "13900000001"),
            ("1.3900000001E+10", "13900000001"),
            ("\u{3000}张\u{3000}三 ", "张 三"),
        ] {
            assert_eq!(mended(typed).as_deref(), Some(meant), "{typed}");
        }
        for kept in ["张三（父亲）", "3E10", " 幸福路，12 号 ", "1.5", "O'Hara", "'90s"[1..].as_ref()] {
            assert_eq!(mended(kept), None, "{kept}");
        }
    }

    #[test]
    fn rounded_numbers_and_error_values_are_faults() {
        assert_eq!(fault("1.39E+10", "UTF-8"), Some(RowErrorKind::LostDigits));
        assert_eq!(fault(&number(330_102_199_003_070_016.0), "xlsx"), Some(RowErrorKind::LostDigits));
        assert_eq!(fault("#N/A", "xlsx"), Some(RowErrorKind::ErrorValue));
        assert!(matches!(fault("张\u{fffd}", "GB18030"), Some(RowErrorKind::Unreadable { .. })));
        assert_eq!(fault("1.3900000001E+10", "UTF-8"), None);
        assert_eq!(fault("3E10", "UTF-8"), None);
    }

    #[test]
    fn numbers_print_as_spreadsheets_show_them() {
        assert_eq!(number(13_900_000_001.0), "13900000001");
        assert_eq!(number(0.1 + 0.2), "0.3");
        assert_eq!(number(-2.0), "-2");
        assert_eq!(number(999_999_999_999_999.0), "999999999999999");
    }
}
