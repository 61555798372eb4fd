//! Bounces: delivery status notifications (RFC 3464) as receipts.
//!
//! A bounce is matched by the mailbox it was sent to (our id stands in it), by the
//! envelope id, or by the Message-ID of the mail that it returns. An id of ours
//! carries a MAC, so nobody can speak about a mail that did not come to him.

use std::sync::LazyLock;

use mail_parser::{Message, MessageParser, MimeHeaders as _, PartType};
use regex::Regex;
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use super::class;
use crate::channel::{Callback, CallbackError, Receipt, ReceiptKey};
use crate::clock::Millis;
use crate::domain::delivery::Word;

/// Of a longer mail the rest is not kept.
const MAX_RAW: usize = 32 * 1024;
/// Headers that say whom the bounce itself was sent to.
const ADDRESSED: [&str; 5] = ["To", "Delivered-To", "X-Original-To", "Envelope-To", "X-Envelope-To"];

static ID: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(?i)[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}").ok());

/// Believes a POST with `Authorization: Bearer TOKEN`.
pub(super) fn authenticate(callback: &Callback<'_>, token: &str) -> Result<(), CallbackError> {
    let given = callback.headers.iter().find(|(name, _)| name == "authorization");
    let given = given.and_then(|(_, value)| value.strip_prefix("Bearer ")).unwrap_or_default();
    let good = callback.method == "POST" && bool::from(given.as_bytes().ct_eq(token.as_bytes()));
    if good { Ok(()) } else { Err(CallbackError::Unauthenticated) }
}

/// The receipts in a mail; empty where it is no bounce of a mail of ours.
pub(super) fn read(mail: &[u8]) -> Result<Vec<Receipt>, CallbackError> {
    let malformed = || CallbackError::Malformed("not a mail (RFC 5322)".to_owned());
    let message = MessageParser::default().parse(mail).filter(|m| !m.headers().is_empty()).ok_or_else(malformed)?;
    let reports: Vec<Fields> =
        message.parts.iter().filter(|p| is_status(p)).flat_map(|p| groups(p.contents())).collect();
    let Some(id) = id_of(&message, &reports) else { return Ok(Vec::new()) };
    let raw: String = String::from_utf8_lossy(mail).chars().take(MAX_RAW).collect();
    let event_at: Option<Millis> = message.date().map(|date| date.to_timestamp() * 1_000);
    let receipt = |verdict: Verdict| Receipt {
        key: ReceiptKey::Client(id),
        word: verdict.word,
        gone: verdict.gone,
        code: verdict.code,
        event_at,
        raw: raw.clone(),
    };
    let verdicts: Vec<Verdict> = reports.iter().filter_map(Fields::verdict).collect();
    if verdicts.is_empty() {
        // An answer of a person, or a bounce in no known form: kept for who looks for it.
        return Ok(vec![receipt(Verdict { word: None, gone: false, code: "not a report".to_owned() })]);
    }
    Ok(verdicts.into_iter().map(receipt).collect())
}

struct Verdict {
    word: Option<Word>,
    gone: bool,
    code: String,
}

fn is_status(part: &mail_parser::MessagePart<'_>) -> bool {
    part.content_type().is_some_and(|kind| {
        kind.ctype().eq_ignore_ascii_case("message")
            && kind.subtype().is_some_and(|s| {
                s.eq_ignore_ascii_case("delivery-status") || s.eq_ignore_ascii_case("global-delivery-status")
            })
    })
}

/// One group of fields of a report: about the mail, or about one recipient.
struct Fields(Vec<(String, String)>);

fn groups(report: &[u8]) -> Vec<Fields> {
    let text = String::from_utf8_lossy(report).replace("\r\n", "\n");
    let group = |lines: &str| {
        let mut fields: Vec<(String, String)> = Vec::new();
        for line in lines.lines() {
            if line.starts_with([' ', '\t']) {
                if let Some((_, value)) = fields.last_mut() {
                    value.push(' ');
                    value.push_str(line.trim());
                }
            } else if let Some((name, value)) = line.split_once(':') {
                fields.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
            }
        }
        Fields(fields)
    };
    text.split("\n\n").map(group).filter(|group| !group.0.is_empty()).collect()
}

impl Fields {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The value behind `type;`.
    fn typed(&self, name: &str) -> Option<&str> {
        self.get(name).map(|value| value.split_once(';').map_or(value, |(_, v)| v).trim())
    }

    fn verdict(&self) -> Option<Verdict> {
        let to = self.typed("final-recipient").or_else(|| self.typed("original-recipient"))?;
        let status = self.get("status").and_then(|s| s.split_whitespace().next()).unwrap_or_default();
        let said = self.typed("diagnostic-code").unwrap_or_default();
        let implied = match status.as_bytes().first() {
            Some(b'5') => "failed",
            Some(b'2') => "delivered",
            _ => "delayed",
        };
        let action = self.get("action").unwrap_or(implied).to_ascii_lowercase();
        let word = match action.as_str() {
            "failed" => Some(Word::Undelivered),
            "delivered" => Some(Word::Delivered),
            "relayed" | "expanded" => Some(Word::Sent),
            // Delayed: the server goes on trying.
            _ => None,
        };
        // Many servers write 5.0.0 and let the other side's own word speak.
        let gone = action == "failed" && (class::is_gone(status) || class::enhanced(said).is_some_and(class::is_gone));
        Some(Verdict { word, gone, code: class::mask(&format!("{action} {status} {said}"), to) })
    }
}

fn find(text: &str) -> Option<Uuid> {
    ID.as_ref()?.find(text).and_then(|found| Uuid::try_parse(found.as_str()).ok())
}

fn id_of(message: &Message<'_>, reports: &[Fields]) -> Option<Uuid> {
    let addressed = ADDRESSED.iter().filter_map(|name| message.header_raw(*name)).find_map(find);
    let envelope = || reports.iter().filter_map(|f| f.get("original-envelope-id")).find_map(find);
    addressed.or_else(envelope).or_else(|| message.parts.iter().find_map(returned_id))
}

/// The Message-ID of a mail that is returned whole, or by its headers.
fn returned_id(part: &mail_parser::MessagePart<'_>) -> Option<Uuid> {
    if let PartType::Message(returned) = &part.body {
        return returned.message_id().and_then(find);
    }
    let headers = part.content_type().is_some_and(|kind| {
        kind.subtype().is_some_and(|s| s.eq_ignore_ascii_case("rfc822-headers") || s.eq_ignore_ascii_case("rfc822"))
    });
    let returned = headers.then(|| MessageParser::default().parse(part.contents()))??;
    returned.message_id().and_then(find)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "00000003-0000-8000-8001-0123456789ab";

    /// A bounce in the form of Postfix; `to`, `status` block and returned part differ.
    fn bounce(to: &str, status: &str, returned: &str) -> String {
        format!(
            "Return-Path: <>\r\nDelivered-To: {to}\r\nDate: Sun, 22 Nov 2026 03:41:03 +0000 (UTC)\r\n\
             From: MAILER-DAEMON@mx.example (Mail Delivery System)\r\nSubject: Undelivered Mail Returned to Sender\r\n\
             To: {to}\r\nAuto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n\
             Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"B1\"\r\n\r\n\
             --B1\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\nI'm sorry.\r\n\r\n\
             --B1\r\nContent-Description: Delivery report\r\nContent-Type: message/delivery-status\r\n\r\n\
             Reporting-MTA: dns; mx.example\r\nArrival-Date: Sun, 22 Nov 2026 03:41:02 +0000 (UTC)\r\n\r\n\
             {status}\r\n--B1\r\n{returned}\r\n--B1--\r\n"
        )
    }

    const GONE: &str = "Final-Recipient: rfc822; wang@mx.example\r\nOriginal-Recipient: rfc822;wang@mx.example\r\n\
        Action: failed\r\nStatus: 5.1.1\r\nDiagnostic-Code: X-Postfix; unknown user: \"wang\"\r\n";

    fn returned(id: &str) -> String {
        format!("Content-Type: message/rfc822\r\n\r\nMessage-ID: <{id}@hekou.example>\r\nSubject: x\r\n\r\nbody\r\n")
    }

    fn one(mail: &str) -> Receipt {
        let mut receipts = read(mail.as_bytes()).unwrap();
        assert_eq!(receipts.len(), 1, "{receipts:?}");
        receipts.remove(0)
    }

    #[test]
    fn the_id_is_found_in_each_of_its_places() {
        let key = ReceiptKey::Client(ID.parse().unwrap());
        let verp = format!("bounces+{ID}@hekou.example");
        assert_eq!(one(&bounce(&verp, GONE, "Content-Type: text/plain\r\n\r\n-")).key, key);
        assert_eq!(one(&bounce("alert@hekou.example", GONE, &returned(ID))).key, key);
        let headers = returned(ID).replace("message/rfc822", "text/rfc822-headers");
        assert_eq!(one(&bounce("alert@hekou.example", GONE, &headers)).key, key);
        let envelope = format!("Original-Envelope-Id: {ID}\r\n\r\n{GONE}");
        assert_eq!(one(&bounce("alert@hekou.example", &envelope, "Content-Type: text/plain\r\n\r\n-")).key, key);
        let foreign = bounce("alert@hekou.example", GONE, &returned("01912345-0000-7000-8001-0123456789ab"));
        assert!(read(foreign.as_bytes()).unwrap().is_empty());
    }

    #[test]
    fn reports_say_what_they_say_and_no_address() {
        let verp = format!("bounces+{ID}@hekou.example");
        let with = |from: &str, to: &str| one(&bounce(&verp, &GONE.replace(from, to), &returned(ID)));
        let gone = with("", "");
        assert_eq!((gone.word, gone.gone), (Some(Word::Undelivered), true));
        assert!(!gone.code.contains("wang") && gone.code.contains("5.1.1"), "{}", gone.code);
        assert_eq!(gone.event_at, Some(1_795_318_863_000));
        let full = with("5.1.1", "5.2.2");
        assert_eq!((full.word, full.gone), (Some(Word::Undelivered), false));
        let late = GONE.replace("failed", "delayed").replace("5.1.1", "4.4.1");
        let late = one(&bounce(&verp, &late, &returned(ID)));
        assert_eq!((late.word, late.gone), (None, false));
        let expired = GONE.replace("5.1.1", "4.4.7");
        assert_eq!(one(&bounce(&verp, &expired, &returned(ID))).word, Some(Word::Undelivered));
        let arrived = GONE.replace("failed", "delivered").replace("5.1.1", "2.0.0");
        assert_eq!(one(&bounce(&verp, &arrived, &returned(ID))).word, Some(Word::Delivered));
        let quoted = GONE
            .replace("5.1.1", "5.0.0")
            .replace("X-Postfix; unknown user: \"wang\"", "smtp; 550 5.1.1 <wang@mx.example> unknown");
        let quoted = one(&bounce(&verp, &quoted, &returned(ID)));
        assert!(quoted.gone && !quoted.code.contains("wang"), "{}", quoted.code);
    }

    #[test]
    fn a_holiday_note_is_kept_and_says_nothing() {
        let note =
            format!("From: w@x.example\r\nTo: bounces+{ID}@hekou.example\r\nSubject: away\r\n\r\nback on Monday\r\n");
        assert_eq!(one(&note).word, None);
        assert!(read(b"From: a@b.example\r\nTo: c@d.example\r\n\r\nhello\r\n").unwrap().is_empty());
        assert!(read(b"").is_err());
    }

    #[test]
    fn only_the_token_opens_the_door() {
        let headers = |value: &str| vec![("authorization".to_owned(), value.to_owned())];
        let call = |method: &'static str, value: &str| {
            let headers = headers(value);
            authenticate(&Callback { method, query: &[], headers: &headers, body: b"", now: 0 }, "t0ken").is_ok()
        };
        assert!(call("POST", "Bearer t0ken"));
        assert!(!call("POST", "Bearer other") && !call("POST", "t0ken") && !call("GET", "Bearer t0ken"));
    }

    proptest::proptest! {
        #[test]
        fn no_mail_breaks_the_reader(mail in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400), cut in 0_usize..900) {
            let _ = read(&mail);
            let whole = bounce("b@c.example", GONE, &returned(ID));
            let _ = read(&whole.as_bytes()[..cut.min(whole.len())]);
        }
    }
}
