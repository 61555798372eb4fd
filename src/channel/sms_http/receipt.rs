//! From a callback to receipts: believed only with the right signature.

use std::collections::BTreeMap;

use handlebars::Context;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use super::answer::scrub;
use super::request::{fixed, known};
use crate::channel::declaration::{
    AuthSpec, DeclarationError, Normalise, ReceiptFormat, ReceiptId, ReceiptSpec, StatusWord, TimeUnit, plain,
};
use crate::channel::registry::Parts;
use crate::channel::{Callback, CallbackError, Intake, Receipt, ReceiptKey};
use crate::clock::Millis;
use crate::domain::delivery::Word;
use crate::render::{Compiled, Engine, Escape};
use crate::say;

/// RFC-less habit of signed callbacks: five minutes either way.
const TOLERANCE_MS: i64 = 300_000;
/// Most receipts read from one callback.
const MAX_RECEIPTS: usize = 10_000;

/// The compiled receipt section of a declaration.
pub(super) struct Receipts {
    spec: ReceiptSpec,
    expect: Compiled,
    fixed: Value,
    zone: TimeZone,
}

impl Receipts {
    pub(super) fn build(parts: &Parts<'_>) -> Result<Option<Self>, DeclarationError> {
        let Some(spec) = &parts.declaration.receipt else { return Ok(None) };
        let value = &spec.auth.expect;
        let reads = |path: &str| {
            matches!(path, "body" | "timestamp")
                || path.starts_with("secrets.") && known(parts, path)
                || path.starts_with("vars.") && known(parts, path)
        };
        let expect = Engine::requests(Escape::Bare, &parts.site.zone, &parts.site.clock)
            .compile("receipt.auth.expect", value.get_ref(), &reads)
            .map_err(parts.source.template(value))?;
        if !expect.variables().iter().any(|path| path.starts_with("secrets.")) {
            return Err(parts.source.error(
                value.span().start,
                say!(
                    "expect 里没有用到任何密钥，谁都能伪造回执",
                    "expect uses no secret, so anybody could forge receipts"
                ),
            ));
        }
        Ok(Some(Self { spec: spec.clone(), expect, fixed: fixed(parts), zone: parts.site.zone.clone() }))
    }

    /// Believes and reads a callback.
    pub(super) fn read(&self, callback: &Callback<'_>) -> Result<Intake, CallbackError> {
        self.authenticate(callback)?;
        let receipts = match self.spec.format {
            ReceiptFormat::Json => self.read_json(callback)?,
            ReceiptFormat::Form => vec![self.read_pairs(&form_pairs(callback.body))?],
            ReceiptFormat::Query => vec![self.read_pairs(callback.query)?],
        };
        let reply = &self.spec.reply;
        Ok(Intake {
            receipts,
            reply_status: reply.status,
            reply_type: reply.content_type.clone(),
            reply_body: reply.body.clone(),
        })
    }

    fn authenticate(&self, callback: &Callback<'_>) -> Result<(), CallbackError> {
        let auth = &self.spec.auth;
        let given = match (&auth.header, &auth.query) {
            (Some(name), _) => header(callback, name),
            (None, Some(name)) => callback.query.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str()),
            (None, None) => None,
        };
        let given = given.ok_or(CallbackError::Unauthenticated)?;
        let timestamp = fresh_timestamp(auth, callback)?;
        let mut data = self.fixed.clone();
        if let Some(root) = data.as_object_mut() {
            root.insert("timestamp".into(), timestamp.into());
            root.insert("body".into(), String::from_utf8_lossy(callback.body).into());
        }
        let data = Context::wraps(data).map_err(|_| CallbackError::Unauthenticated)?;
        let expected = self.expect.render(&data).map_err(|_| CallbackError::Unauthenticated)?;
        if !expected.is_empty() && bool::from(expected.as_bytes().ct_eq(given.as_bytes())) {
            Ok(())
        } else {
            Err(CallbackError::Unauthenticated)
        }
    }

    fn read_json(&self, callback: &Callback<'_>) -> Result<Vec<Receipt>, CallbackError> {
        let body: Value = serde_json::from_slice(callback.body)
            .map_err(|e| CallbackError::Malformed(format!("not JSON at line {} column {}", e.line(), e.column())))?;
        let one;
        let entries = match &self.spec.list {
            None => {
                one = [body];
                &one[..]
            }
            Some(list) => list
                .of(&body)
                .and_then(Value::as_array)
                .map(Vec::as_slice)
                .ok_or_else(|| CallbackError::Malformed(format!("no list at \"{}\"", list.0)))?,
        };
        if entries.len() > MAX_RECEIPTS {
            return Err(CallbackError::Malformed(format!("more than {MAX_RECEIPTS} receipts")));
        }
        let read = |entry: &Value| {
            let get = |at: &str| entry.pointer(at).and_then(plain);
            self.receipt(&get, entry.to_string())
        };
        let receipts: Vec<_> = entries.iter().map(read).collect();
        if receipts.iter().all(Result::is_err) {
            return receipts.into_iter().collect();
        }
        // An odd entry among good ones (a reply, a message of another account) is kept
        // and says nothing; refusing it would refuse the good ones.
        let odd = |entry: &Value| Receipt {
            key: ReceiptKey::Gateway(String::new()),
            word: None,
            gone: false,
            code: "not understood".to_owned(),
            event_at: None,
            raw: entry.to_string(),
        };
        Ok(receipts.into_iter().zip(entries).map(|(r, entry)| r.unwrap_or_else(|_| odd(entry))).collect())
    }

    fn read_pairs(&self, pairs: &[(String, String)]) -> Result<Receipt, CallbackError> {
        let get = |name: &str| pairs.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        // The token proves who called; it is no part of what was said.
        let said: Map<String, Value> = pairs
            .iter()
            .filter(|(name, _)| Some(name) != self.spec.auth.query.as_ref())
            .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
            .collect();
        self.receipt(&get, Value::Object(said).to_string())
    }

    fn receipt(&self, get: &dyn Fn(&str) -> Option<String>, raw: String) -> Result<Receipt, CallbackError> {
        let spec = &self.spec;
        let lacks = |at: &str| CallbackError::Malformed(format!("no value at \"{at}\""));
        let id = get(&spec.id).filter(|id| !id.is_empty()).ok_or_else(|| lacks(&spec.id))?;
        let status = get(&spec.status).ok_or_else(|| lacks(&spec.status))?;
        let key = match spec.key {
            ReceiptId::Gateway => ReceiptKey::Gateway(normalise(&id, &spec.normalise)),
            ReceiptId::Client => ReceiptKey::Client(
                Uuid::parse_str(&id)
                    .map_err(|_| CallbackError::Malformed(format!("no id of ours at \"{}\"", spec.id)))?,
            ),
        };
        Ok(Receipt {
            key,
            word: word(&spec.words, &status),
            gone: false,
            code: scrub(&status),
            event_at: spec.time.as_ref().and_then(|t| event_time(&get(&t.at)?, &t.format, &self.zone)),
            raw,
        })
    }
}

fn header<'a>(callback: &Callback<'a>, name: &str) -> Option<&'a str> {
    callback.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
}

/// The signed timestamp, if it is near enough to now; empty where none is declared.
fn fresh_timestamp<'a>(auth: &AuthSpec, callback: &Callback<'a>) -> Result<&'a str, CallbackError> {
    let Some(name) = &auth.timestamp_header else { return Ok("") };
    let text = header(callback, name).ok_or(CallbackError::Unauthenticated)?;
    let number: i64 = text.trim().parse().map_err(|_| CallbackError::Unauthenticated)?;
    let at = match auth.timestamp_unit {
        TimeUnit::Unix => number.saturating_mul(1000),
        TimeUnit::UnixMs => number,
    };
    let tolerance = auth.tolerance.map_or(TOLERANCE_MS, |t| i64::try_from(t.0.as_millis()).unwrap_or(TOLERANCE_MS));
    if at.saturating_sub(callback.now).saturating_abs() > tolerance {
        Err(CallbackError::Unauthenticated)
    } else {
        Ok(text)
    }
}

fn word(words: &BTreeMap<String, StatusWord>, status: &str) -> Option<Word> {
    match words.get(status)? {
        StatusWord::Sent => Some(Word::Sent),
        StatusWord::Undelivered => Some(Word::Undelivered),
        StatusWord::Delivered => Some(Word::Delivered),
        StatusWord::Read => Some(Word::Read),
        StatusWord::Ignored => None,
    }
}

fn event_time(text: &str, format: &str, zone: &TimeZone) -> Option<Millis> {
    match format {
        "unix" => text.parse::<i64>().ok()?.checked_mul(1000),
        "unix_ms" => text.parse().ok(),
        "rfc3339" => text.parse::<Timestamp>().ok().map(Timestamp::as_millisecond),
        other => {
            let local = DateTime::strptime(other, text).ok()?;
            Some(local.to_zoned(zone.clone()).ok()?.timestamp().as_millisecond())
        }
    }
}

/// Decodes `application/x-www-form-urlencoded` (WHATWG URL §5.1).
fn form_pairs(body: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(body);
    let decode = |part: &str| percent_decode_str(&part.replace('+', " ")).decode_utf8_lossy().into_owned();
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        })
        .collect()
}

/// A gateway's id by the declaration's rules, in order.
pub(super) fn normalise(id: &str, rules: &[Normalise]) -> String {
    rules.iter().fold(id.trim().to_owned(), |id, rule| match rule {
        Normalise::Lowercase => id.to_lowercase(),
        Normalise::StripLeadingZeros => {
            let cut = id.trim_start_matches('0');
            if cut.is_empty() { "0".to_owned() } else { cut.to_owned() }
        }
        Normalise::HexToDecimal => u128::from_str_radix(&id, 16).map_or(id, |n| n.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_made_alike() {
        use Normalise::{HexToDecimal, Lowercase, StripLeadingZeros};
        assert_eq!(normalise("00AbC", &[Lowercase, StripLeadingZeros]), "abc");
        assert_eq!(normalise("0000", &[StripLeadingZeros]), "0");
        assert_eq!(normalise("00FF", &[HexToDecimal]), "255");
        assert_eq!(normalise(" not-hex ", &[HexToDecimal]), "not-hex");
    }

    #[test]
    fn event_times_are_read_in_the_sites_zone() {
        let zone = TimeZone::get("Asia/Shanghai").unwrap();
        let at = Some(1_780_279_200_000);
        assert_eq!(event_time("1780279200", "unix", &zone), at);
        assert_eq!(event_time("1780279200000", "unix_ms", &zone), at);
        assert_eq!(event_time("2026-06-01T10:00:00+08:00", "rfc3339", &zone), at);
        assert_eq!(event_time("20260601100000", "%Y%m%d%H%M%S", &zone), at);
        assert_eq!(event_time("?", "unix", &zone), None);
    }

    #[test]
    fn forms_are_decoded() {
        assert_eq!(
            form_pairs(b"a=1+2&b=%E4%B8%AD&&c"),
            [("a", "1 2"), ("b", "中"), ("c", "")].map(|(n, v)| (n.into(), v.into()))
        );
    }
}
