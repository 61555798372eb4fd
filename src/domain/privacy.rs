//! The scan that stops personal data from being published: ID numbers, bank cards
//! and mobile numbers in a text that is about to become public.
//!
//! ID numbers follow GB 11643-1999 (18 digits, check digit by ISO 7064 MOD 11-2),
//! cards ISO/IEC 7812-1 (Luhn), mobiles the Chinese numbering plan (`1[3-9]` and nine
//! digits). Full-width digits, invisible characters, and spaces or hyphens between
//! digits are seen through. A finding never holds the value, only its masked form.

use serde::{Deserialize, Serialize};

mod digits;

use digits::{Run, runs};

use crate::say;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    IdNumber,
    BankCard,
    Mobile,
}

impl FindingKind {
    /// The name people see.
    #[must_use]
    pub fn label(self) -> String {
        match self {
            Self::IdNumber => say!("身份证号", "ID number"),
            Self::BankCard => say!("银行卡号", "bank card number"),
            Self::Mobile => say!("手机号", "mobile number"),
        }
    }

    /// How many characters may be shown in front and at the end.
    const fn shown(self) -> (usize, usize) {
        match self {
            Self::IdNumber => (4, 2),
            Self::BankCard => (0, 4),
            Self::Mobile => (3, 4),
        }
    }
}

/// One piece of personal data in a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub kind: FindingKind,
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// The value with its telling digits starred, separators left out.
    pub masked: String,
}

/// Finds personal data in `text`, in reading order. Landlines are not personal data,
/// nor are `allowed_phones`: the unit's own numbers, written in any way.
#[must_use]
pub fn scan(text: &str, allowed_phones: &[String]) -> Vec<Finding> {
    hits(text, allowed_phones)
        .iter()
        .map(|hit| {
            let first = hit.digits[0];
            let before = &text[..first.at];
            let line_start = before.rfind('\n').map_or(0, |at| at + 1);
            Finding {
                kind: hit.kind,
                line: before.matches('\n').count() + 1,
                column: before[line_start..].chars().count() + 1,
                masked: hit.starred().map(|(digit, star)| if star { '*' } else { digit.value }).collect(),
            }
        })
        .collect()
}

/// `text` with all personal data starred: what a log line or an error may show.
#[must_use]
pub fn mask(text: &str) -> String {
    mask_except(text, &[])
}

/// `text` with personal data starred, `allowed_phones` left readable: what a reviewer
/// publishes instead.
#[must_use]
pub fn mask_except(text: &str, allowed_phones: &[String]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for hit in hits(text, allowed_phones) {
        for (digit, star) in hit.starred() {
            if star {
                out.push_str(&text[done..digit.at]);
                out.push('*');
                done = digit.at + digit.len;
            }
        }
    }
    out.push_str(&text[done..]);
    out
}

struct Hit {
    kind: FindingKind,
    digits: Vec<digits::Digit>,
}

impl Hit {
    /// Each digit, and whether it is to be hidden.
    fn starred(&self) -> impl Iterator<Item = (&digits::Digit, bool)> {
        let (front, back) = self.kind.shown();
        let len = self.digits.len();
        self.digits.iter().enumerate().map(move |(i, digit)| (digit, i >= front && i + back < len))
    }
}

fn hits(text: &str, allowed_phones: &[String]) -> Vec<Hit> {
    let allowed: Vec<String> = allowed_phones.iter().map(|phone| national(&digits::only(phone)).to_owned()).collect();
    let mut found = Vec::new();
    for run in runs(text) {
        let mut group = 0;
        while group < run.groups() {
            if let Some(next) = landline(&run, group) {
                group = next;
            } else if let Some((kind, next)) = personal(&run, group) {
                let mut digits = run.digits(group, next).to_vec();
                let value = run.value(group, next);
                if kind == FindingKind::Mobile {
                    digits.drain(..value.len() - national(&value).len());
                }
                if !(kind == FindingKind::Mobile && allowed.iter().any(|phone| phone == national(&value))) {
                    found.push(Hit { kind, digits });
                }
                group = next;
            } else {
                group += 1;
            }
        }
    }
    found
}

/// The longest value that starts at group `from` and ends where a group ends.
fn personal(run: &Run, from: usize) -> Option<(FindingKind, usize)> {
    let mut best = None;
    for next in from + 1..=run.groups() {
        let value = run.value(from, next);
        if value.len() > 19 {
            break;
        }
        // "2026 13900000000" is a year and a number, not a card that holds both.
        let holds_mobile = next > from + 1 && (from..next).any(|g| is_mobile(&run.value(g, g + 1)));
        let kind = if is_id_number(&value) {
            FindingKind::IdNumber
        } else if is_mobile(national(&value)) {
            FindingKind::Mobile
        } else if !holds_mobile && is_card(&value) {
            FindingKind::BankCard
        } else {
            continue;
        };
        best = Some((kind, next));
    }
    best
}

/// Where a landline that starts at group `from` ends: an area code (010, 02x, 03xx to
/// 09xx), seven or eight digits, and perhaps an extension.
fn landline(run: &Run, from: usize) -> Option<usize> {
    let area = run.value(from, from + 1);
    let area_len = match area.as_bytes() {
        [b'0', b'1', b'0', ..] | [b'0', b'2', _, ..] => 3,
        [b'0', b'3'..=b'9', _, _, ..] => 4,
        _ => return None,
    };
    let mut end = None;
    for next in from + 1..=run.groups() {
        let subscriber = run.value(from, next).len().saturating_sub(area_len);
        match subscriber {
            0..=6 => {}
            7..=8 => end = Some(next),
            _ => break,
        }
    }
    let end = end?;
    // Joined by a hyphen, a short group is an extension.
    let extension = end < run.groups() && run.hyphen_before(end) && run.value(end, end + 1).len() <= 6;
    Some(if extension { end + 1 } else { end })
}

/// A mobile number without its country code or trunk zero.
fn national(digits: &str) -> &str {
    for code in ["86", "0086", "0"] {
        if let Some(rest) = digits.strip_prefix(code).filter(|rest| is_mobile(rest)) {
            return rest;
        }
    }
    digits
}

fn is_mobile(value: &str) -> bool {
    matches!(value.as_bytes(), [b'1', b'3'..=b'9', rest @ ..] if rest.len() == 9 && rest.iter().all(u8::is_ascii_digit))
}

fn is_id_number(value: &str) -> bool {
    const WEIGHTS: [u32; 17] = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
    const CHECKS: &[u8; 11] = b"10X98765432";
    let bytes = value.as_bytes();
    if bytes.len() != 18 || bytes[0] == b'0' || !bytes[..17].iter().all(u8::is_ascii_digit) {
        return false;
    }
    let sum: u32 = bytes.iter().zip(WEIGHTS).map(|(b, weight)| u32::from(b - b'0') * weight).sum();
    CHECKS[(sum % 11) as usize] == bytes[17] && is_birth_date(&value[6..14])
}

fn is_birth_date(yyyymmdd: &str) -> bool {
    let part = |range: std::ops::Range<usize>| yyyymmdd[range].parse::<i16>().unwrap_or(0);
    let (month, day) = (i8::try_from(part(4..6)), i8::try_from(part(6..8)));
    let (Ok(month), Ok(day)) = (month, day) else { return false };
    (1900..2100).contains(&part(0..4)) && jiff::civil::Date::new(part(0..4), month, day).is_ok()
}

/// Luhn over 16 to 19 digits. Banks' numbers start with 2 to 9 (ISO/IEC 7812-1: 0 is
/// for standards bodies, 1 for airlines).
fn is_card(value: &str) -> bool {
    let bytes = value.as_bytes();
    if !(16..=19).contains(&bytes.len()) || !bytes.iter().all(u8::is_ascii_digit) || bytes[0] < b'2' {
        return false;
    }
    let sum: u32 = bytes
        .iter()
        .rev()
        .enumerate()
        .map(|(i, b)| {
            let digit = u32::from(b - b'0');
            if i % 2 == 0 { digit } else { digit * 2 / 10 + digit * 2 % 10 }
        })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests;
