//! Values that exist only if they parsed: regexes, JSON pointers, spans, status lists.

use std::ops::RangeInclusive;
use std::time::Duration;

use regex::{Regex, RegexBuilder};
use serde::Deserialize;
use serde_json::Value;

use crate::say;

/// A regular expression of bounded size.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct Pattern(pub Regex);

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        RegexBuilder::new(&text).size_limit(1 << 20).build().map(Self).map_err(|e| {
            let why = e.to_string();
            say!("正则表达式有误：{why}", "the regular expression does not parse: {why}")
        })
    }
}

/// A JSON pointer (RFC 6901).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Pointer(pub String);

impl Pointer {
    /// The value this points to.
    #[must_use]
    pub fn of<'a>(&self, json: &'a Value) -> Option<&'a Value> {
        json.pointer(&self.0)
    }
}

impl TryFrom<String> for Pointer {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.is_empty() || text.starts_with('/') {
            return Ok(Self(text));
        }
        Err(say!(
            "“{text}”不是 JSON 指针：应为空或以 / 开头",
            "`{text}` is not a JSON pointer: empty, or starting with /"
        ))
    }
}

/// A length of time: a number and one of ms, s, m, h, d.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Span(pub Duration);

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let factor: Option<u64> = match unit.trim() {
            "ms" => Some(1),
            "s" => Some(1_000),
            "m" => Some(60_000),
            "h" => Some(3_600_000),
            "d" => Some(86_400_000),
            _ => None,
        };
        let ms = number.parse::<u64>().ok().zip(factor).and_then(|(n, f)| n.checked_mul(f));
        ms.map(|ms| Self(Duration::from_millis(ms))).ok_or_else(|| {
            say!(
                "“{text}”不是时长：应如 500ms、10s、5m、48h、2d",
                "`{text}` is not a length of time: like 500ms, 10s, 5m, 48h, 2d"
            )
        })
    }
}

/// HTTP statuses: a number, a range `"500-599"`, or a list of either.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "toml::Value")]
pub struct Statuses(Vec<RangeInclusive<u16>>);

impl Statuses {
    #[must_use]
    pub fn has(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }
}

impl TryFrom<toml::Value> for Statuses {
    type Error = String;

    fn try_from(value: toml::Value) -> Result<Self, String> {
        let many = match value {
            toml::Value::Array(many) => many,
            one => vec![one],
        };
        many.iter().map(range).collect::<Option<Vec<_>>>().filter(|all| !all.is_empty()).map(Self).ok_or_else(|| {
            say!(
                "status 应为状态码、\"500-599\" 或它们的列表",
                "status must be a code, \"500-599\", or a list of those"
            )
        })
    }
}

fn range(value: &toml::Value) -> Option<RangeInclusive<u16>> {
    let valid = |code: u16| (100..=599).contains(&code).then_some(code);
    let (low, high) = match value {
        toml::Value::Integer(code) => {
            let code = u16::try_from(*code).ok()?;
            (code, code)
        }
        toml::Value::String(text) => {
            let (low, high) = text.split_once('-').unwrap_or((text, text));
            (low.trim().parse().ok()?, high.trim().parse().ok()?)
        }
        _ => return None,
    };
    (low <= high).then_some(valid(low)?..=valid(high)?)
}

/// A string, number or boolean, compared as text.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "toml::Value")]
pub struct Plain(pub String);

impl TryFrom<toml::Value> for Plain {
    type Error = String;

    fn try_from(value: toml::Value) -> Result<Self, String> {
        match value {
            toml::Value::String(text) => Ok(Self(text)),
            toml::Value::Integer(number) => Ok(Self(number.to_string())),
            toml::Value::Boolean(flag) => Ok(Self(flag.to_string())),
            _ => Err(say!("equals 应为字符串、整数或 true/false", "equals must be a string, an integer or true/false")),
        }
    }
}

/// A JSON scalar as text; `None` for lists, objects and null.
#[must_use]
pub fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}
