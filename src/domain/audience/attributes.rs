//! The attributes a site declares for its recipients: crop, mu of land and so on.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{AGE, parser};
use crate::say;

/// What kind of value an attribute holds, and how it stands in the stored JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttributeType {
    /// A JSON string.
    Text,
    /// A JSON number of up to 15 digits and 6 decimals.
    Number,
    /// A JSON string, `YYYY-MM-DD` (ISO 8601).
    Date,
    /// JSON `true` or `false`.
    Bool,
}

impl AttributeType {
    /// `text` as it is stored, or `None` where it is not of this type.
    #[must_use]
    pub fn value(self, text: &str) -> Option<Value> {
        match self {
            Self::Text => Some(Value::from(text)),
            Self::Number => number(text),
            Self::Date => date(text).map(Value::from),
            Self::Bool => parse_bool(text).map(Value::from),
        }
    }

    /// What a value looks like, in words.
    #[must_use]
    pub fn form(self) -> String {
        match self {
            Self::Text => say!("文字", "text"),
            Self::Number => say!("数字", "a number"),
            Self::Date => say!("日期，如 2026-06-01", "a date such as 2026-06-01"),
            Self::Bool => say!("是或否", "yes or no"),
        }
    }
}

fn number(text: &str) -> Option<Value> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |s: &str, most: usize| (1..=most).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole.strip_prefix('-').unwrap_or(whole), 15) || !digits(decimals, 6) {
        return None;
    }
    if decimals.bytes().all(|b| b == b'0') {
        return whole.parse::<i64>().ok().map(Value::from);
    }
    text.parse::<f64>().ok().map(Value::from)
}

fn date(text: &str) -> Option<String> {
    let short = text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit());
    let date =
        if short { jiff::civil::Date::strptime("%Y%m%d", text) } else { jiff::civil::Date::strptime("%Y-%m-%d", text) };
    date.ok().filter(|d| d.year() >= 1000).map(|d| d.to_string())
}

/// Yes or no, in any of the usual words.
#[must_use]
pub fn parse_bool(text: &str) -> Option<bool> {
    match text.to_lowercase().as_str() {
        "yes" | "true" | "是" => Some(true),
        "no" | "false" | "否" => Some(false),
        _ => None,
    }
}

/// One declared attribute.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attribute {
    #[serde(rename = "type")]
    pub kind: AttributeType,
    /// Other names for it, in expressions and in column heads.
    #[serde(default)]
    pub aliases: Vec<String>,
}

/// The declared attributes by name, the key in the stored JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "BTreeMap<String, Attribute>")]
pub struct Attributes(BTreeMap<String, Attribute>);

/// A declaration that cannot stand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttributesError {
    #[error("{}", say!(
        "属性名“{_0}”不行：只能用文字、数字和下划线，以文字开头，最多 64 个字",
        "`{_0}` is no name for an attribute: use letters, digits and underscores, a letter first, up to 64"
    ))]
    Name(String),
    #[error("{}", say!("“{_0}”已有别的含义，不能作属性名", "`{_0}` already means something else: choose another name"))]
    Taken(String),
}

impl TryFrom<BTreeMap<String, Attribute>> for Attributes {
    type Error = AttributesError;

    fn try_from(map: BTreeMap<String, Attribute>) -> Result<Self, AttributesError> {
        let mut seen = std::collections::HashSet::new();
        for name in map.iter().flat_map(|(name, a)| std::iter::once(name).chain(&a.aliases)) {
            let letters = name.chars().all(|c| c.is_alphanumeric() || c == '_');
            let first = name.chars().next().is_some_and(char::is_alphabetic);
            if !letters || !first || name.chars().count() > 64 {
                return Err(AttributesError::Name(name.clone()));
            }
            let folded = name.to_lowercase();
            if parser::is_reserved(&folded) || parser::is_age(&folded) || !seen.insert(folded) {
                return Err(AttributesError::Taken(name.clone()));
            }
        }
        Ok(Self(map))
    }
}

impl Attributes {
    /// The attribute of this name or alias, whatever its case, under its own name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<(&str, &Attribute)> {
        let folded = name.to_lowercase();
        let is = |known: &String| known.to_lowercase() == folded;
        self.0.iter().find(|(known, a)| is(known) || a.aliases.iter().any(is)).map(|(known, a)| (known.as_str(), a))
    }

    /// Every name and alias, the built-in age included.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let declared = self.0.iter().flat_map(|(name, a)| std::iter::once(name).chain(&a.aliases));
        declared.map(String::as_str).chain([AGE])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(toml: &str) -> Result<Attributes, toml::de::Error> {
        toml::from_str(toml)
    }

    #[test]
    fn attributes_are_found_by_name_and_alias_in_any_case() {
        let attrs = declared("crop = { type = 'text', aliases = ['作物'] }\nmu = { type = 'number' }").unwrap();
        assert_eq!(attrs.find("作物").unwrap().0, "crop");
        assert_eq!(attrs.find("MU").unwrap().1.kind, AttributeType::Number);
        assert!(attrs.find("mou").is_none());
    }

    #[test]
    fn declarations_that_cannot_stand_are_refused() {
        for bad in [
            "age = { type = 'number' }",
            "and = { type = 'text' }",
            "'a\"b' = { type = 'text' }",
            "crop = { type = 'text', aliases = ['年龄'] }",
            "crop = { type = 'text' }\nCrop = { type = 'text' }",
            "crop = { type = 'text', unit = 'kg' }",
            "crop = { type = 'colour' }",
        ] {
            assert!(declared(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn values_are_normalised_or_refused() {
        let cases = [
            (AttributeType::Number, "007", Some(Value::from(7))),
            (AttributeType::Number, "-1.50", Some(Value::from(-1.5))),
            (AttributeType::Number, "1e9", None),
            (AttributeType::Number, "", None),
            (AttributeType::Date, "20260601", Some(Value::from("2026-06-01"))),
            (AttributeType::Date, "2026-02-30", None),
            (AttributeType::Bool, "是", Some(Value::from(true))),
            (AttributeType::Bool, "maybe", None),
        ];
        for (kind, text, stored) in cases {
            assert_eq!(kind.value(text), stored, "{kind:?} {text}");
        }
    }
}
