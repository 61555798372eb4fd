//! From a callback to receipts: believed only with the right signature.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::answer::scrub;
use super::auth::Auth;
use crate::channel::declaration::{
    DeclarationError, Normalise, ReceiptFormat, ReceiptId, ReceiptSpec, StatusWord, plain,
};
use crate::channel::registry::Parts;
use crate::channel::{Callback, CallbackError, Intake, Receipt, ReceiptKey};
use crate::clock::Millis;
use crate::domain::delivery::Word;

/// Most receipts read from one callback.
const MAX_RECEIPTS: usize = 10_000;

/// The compiled receipt section of a declaration.
pub(super) struct Receipts {
    spec: ReceiptSpec,
    auth: Auth,
    zone: TimeZone,
}

impl Receipts {
    pub(super) fn build(parts: &Parts<'_>) -> Result<Option<Self>, DeclarationError> {
        let Some(spec) = &parts.declaration.receipt else { return Ok(None) };
        let auth = Auth::build(parts, "receipt.auth.expect", &spec.auth)?;
        Ok(Some(Self { spec: spec.clone(), auth, zone: parts.site.zone.clone() }))
    }

    /// Believes and reads a callback.
    pub(super) fn read(&self, callback: &Callback<'_>) -> Result<Intake, CallbackError> {
        self.auth.check(callback)?;
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
pub(super) fn form_pairs(body: &[u8]) -> Vec<(String, String)> {
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
