//! From an HTTP answer to one outcome a message, by the declaration's rules.

use std::sync::LazyLock;
use std::time::Duration;

use handlebars::Context;
use jiff::Timestamp;
use regex::Regex;
use serde_json::{Value, json};

use super::client::Exchange;
use super::receipt::normalise;
use crate::channel::declaration::{AnswerEach, AnswerRule, DeclarationError, Normalise, Pointer, plain};
use crate::channel::registry::Parts;
use crate::channel::{Class, Outcome, Outgoing};
use crate::clock::Millis;
use crate::render::{Compiled, Engine, Escape};

/// A gateway that says "in a year" is asked again tomorrow.
const LONGEST_WAIT: Duration = Duration::from_hours(24);
/// Most characters of a gateway's own word that are kept.
const MAX_CODE: usize = 120;

/// Seven digits or more, also with spaces or hyphens between: a number of somebody.
static DIGITS: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"[0-9](?:[ -]?[0-9]){6,}").ok());

/// A gateway's word with everything that may be a number taken out.
pub(super) fn scrub(word: &str) -> String {
    let clean: String = word.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let masked = DIGITS.as_ref().map_or_else(String::new, |digits| digits.replace_all(&clean, "***").into_owned());
    masked.trim().chars().take(MAX_CODE).collect()
}

/// The compiled rules of a declaration.
pub(super) struct Answers {
    rules: Vec<Rule>,
    each: Option<Each>,
    normalise: Vec<Normalise>,
    /// A rule looks into the JSON of an answer.
    reads_json: bool,
}

struct Rule {
    spec: AnswerRule,
    code: Option<Compiled>,
}

struct Each {
    list: Pointer,
    number: Option<Pointer>,
    rules: Vec<Rule>,
}

/// What rules look at: an answer, or one entry of its list.
struct Seen<'a> {
    status: u16,
    json: &'a Value,
    body: &'a str,
}

impl Answers {
    pub(super) fn build(parts: &Parts<'_>) -> Result<Self, DeclarationError> {
        let engine = Engine::requests(Escape::Bare, &parts.site.zone, &parts.site.clock);
        let compile = |spec: &AnswerRule| -> Result<Rule, DeclarationError> {
            let known = |path: &str| path == "status" || path == "json" || path.starts_with("json.");
            let code = spec
                .code
                .as_ref()
                .map(|code| engine.compile("answer.code", code.get_ref(), &known).map_err(parts.source.template(code)));
            Ok(Rule { spec: spec.clone(), code: code.transpose()? })
        };
        let declaration = &parts.declaration;
        let each = |e: &AnswerEach| -> Result<Each, DeclarationError> {
            let rules = e.rule.iter().map(compile).collect::<Result<_, _>>()?;
            Ok(Each { list: e.list.clone(), number: e.number.clone(), rules })
        };
        let looks = |rule: &AnswerRule| rule.pointer.is_some() || rule.id.is_some() || rule.code.is_some();
        Ok(Self {
            reads_json: declaration.answer_each.is_some() || declaration.answer.iter().any(looks),
            rules: declaration.answer.iter().map(compile).collect::<Result<_, _>>()?,
            each: declaration.answer_each.as_ref().map(each).transpose()?,
            normalise: declaration.receipt.as_ref().map(|r| r.normalise.clone()).unwrap_or_default(),
        })
    }

    /// One outcome for each message of `group`.
    pub(super) fn read(&self, answer: &Exchange, group: &[&Outgoing], now: Millis) -> Vec<Outcome> {
        let body = String::from_utf8_lossy(&answer.body);
        let read = |body| serde_json::from_slice(body).unwrap_or_default();
        let json: Value = if self.reads_json { read(&answer.body) } else { Value::Null };
        let seen = Seen { status: answer.status, json: &json, body: &body };
        let wait = answer.retry_after.as_deref().and_then(|text| retry_after(text, now));
        let whole = match self.rules.iter().find(|rule| rule.fits(&seen)) {
            Some(rule) => rule.outcome(&seen, wait, &self.normalise),
            None => unforeseen(answer.status, wait),
        };
        match (&self.each, &whole) {
            (Some(each), Outcome::Accepted { .. }) if group.len() > 1 || each.list.of(&json).is_some() => {
                each.read(&seen, group, wait, &self.normalise)
            }
            _ => vec![whole; group.len()],
        }
    }
}

impl Rule {
    fn fits(&self, seen: &Seen<'_>) -> bool {
        let spec = &self.spec;
        let pointed = || match &spec.pointer {
            None => true,
            Some(pointer) => pointer.of(seen.json).and_then(plain).is_some_and(|value| {
                spec.equals.as_ref().is_none_or(|e| e.0 == value)
                    && spec.matches.as_ref().is_none_or(|m| m.0.is_match(&value))
            }),
        };
        spec.status.as_ref().is_none_or(|s| s.has(seen.status))
            && pointed()
            && spec.body.as_ref().is_none_or(|b| b.0.is_match(seen.body))
    }

    fn outcome(&self, seen: &Seen<'_>, wait: Option<Duration>, rules: &[Normalise]) -> Outcome {
        let code = self.word(seen);
        match self.spec.class.class() {
            None => Outcome::Accepted { gateway_ids: self.ids(seen, rules), code },
            Some(class) => failed(class, code, wait),
        }
    }

    fn ids(&self, seen: &Seen<'_>, rules: &[Normalise]) -> Vec<String> {
        let by_pointer = self.spec.id.as_ref().and_then(|p| p.of(seen.json));
        let mut ids: Vec<String> = match by_pointer {
            Some(Value::Array(many)) => many.iter().filter_map(plain).collect(),
            Some(one) => plain(one).into_iter().collect(),
            None => Vec::new(),
        };
        if let Some(pattern) = &self.spec.id_regex {
            ids.extend(pattern.0.captures_iter(seen.body).filter_map(|c| c.get(1)).map(|m| m.as_str().to_owned()));
        }
        ids.iter().filter(|id| !id.is_empty()).map(|id| normalise(id, rules)).collect()
    }

    fn word(&self, seen: &Seen<'_>) -> String {
        let made = self.code.as_ref().and_then(|code| {
            let data = Context::wraps(json!({"status": seen.status, "json": seen.json})).ok()?;
            code.render(&data).ok()
        });
        let word = made.or_else(|| self.spec.pointer.as_ref().and_then(|p| p.of(seen.json)).and_then(plain));
        word.map(|w| scrub(&w)).filter(|w| !w.is_empty()).unwrap_or_else(|| format!("HTTP {}", seen.status))
    }
}

impl Each {
    fn read(&self, seen: &Seen<'_>, group: &[&Outgoing], wait: Option<Duration>, rules: &[Normalise]) -> Vec<Outcome> {
        let list = self.list.of(seen.json).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        // By position only where there is one entry a message: a shorter list says
        // nothing about which it left out.
        let whole = list.len() == group.len();
        let of = |index: usize, message: &Outgoing| match &self.number {
            None => list.get(index).filter(|_| whole),
            Some(pointer) => list.iter().find(|entry| {
                pointer.of(entry).and_then(plain).is_some_and(|number| same_number(&number, &message.to))
            }),
        };
        group
            .iter()
            .enumerate()
            .map(|(index, message)| {
                let Some(entry) = of(index, message) else {
                    return failed(Class::Unknown, format!("HTTP {}", seen.status), None);
                };
                let text = entry.to_string();
                let seen = Seen { status: seen.status, json: entry, body: &text };
                match self.rules.iter().find(|rule| rule.fits(&seen)) {
                    Some(rule) => rule.outcome(&seen, wait, rules),
                    None => failed(Class::Unknown, format!("HTTP {}", seen.status), None),
                }
            })
            .collect()
    }
}

/// Whether a gateway's spelling of a number (`+86139…`, `86139…`) is ours.
fn same_number(theirs: &str, ours: &str) -> bool {
    let theirs = theirs.trim();
    theirs == ours || theirs.strip_prefix("+86").or_else(|| theirs.strip_prefix("86")).is_some_and(|rest| rest == ours)
}

fn failed(class: Class, code: String, wait: Option<Duration>) -> Outcome {
    let retry_after = wait.filter(|_| matches!(class, Class::Throttled | Class::Temporary));
    Outcome::Failed { class, code, retry_after }
}

/// What a status means that no rule foresaw. Where the gateway may have taken the
/// message it is unknown, never sent again by itself.
fn unforeseen(status: u16, wait: Option<Duration>) -> Outcome {
    let class = match status {
        429 => Class::Throttled,
        300..=399 | 401 | 403 | 404 | 405 | 407 => Class::Misconfigured,
        410 => Class::Withdrawn,
        408 | 502 | 504 => Class::Unknown,
        400..=499 => Class::Permanent,
        500..=599 => Class::Temporary,
        _ => Class::Unknown,
    };
    failed(class, format!("HTTP {status}"), wait)
}

/// `Retry-After`: seconds, or an HTTP date (RFC 9110 §10.2.3).
fn retry_after(text: &str, now: Millis) -> Option<Duration> {
    let text = text.trim();
    let wait = if let Ok(seconds) = text.parse() {
        Duration::from_secs(seconds)
    } else {
        let at: Timestamp = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
        Duration::from_millis(u64::try_from(at.as_millisecond() - now).unwrap_or(0))
    };
    Some(wait.min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateways_word_loses_numbers() {
        assert_eq!(scrub("2002 no such number 13900000001"), "2002 no such number ***");
        assert_eq!(scrub("tel 139-0000 0001\r\nbad"), "tel ***  bad");
        assert_eq!(scrub("isv.BUSINESS_LIMIT_CONTROL 15"), "isv.BUSINESS_LIMIT_CONTROL 15");
        assert_eq!(scrub(&"字".repeat(500)).chars().count(), MAX_CODE);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        // Monday 2026-06-01 02:00:00 UTC.
        let now = 1_780_279_200_000;
        assert_eq!(retry_after("30", now), Some(Duration::from_secs(30)));
        assert_eq!(retry_after("Mon, 01 Jun 2026 02:01:00 GMT", now), Some(Duration::from_mins(1)));
        assert_eq!(retry_after("Mon, 01 Jun 2026 01:00:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after("99999999999", now), Some(LONGEST_WAIT));
        assert_eq!(retry_after("soon", now), None);
    }

    #[test]
    fn numbers_are_matched_with_and_without_country_code() {
        assert!(same_number("+8613900000001", "13900000001") && same_number("13900000001", "13900000001"));
        assert!(!same_number("13900000002", "13900000001") && !same_number("8613900000002", "13900000001"));
    }
}
