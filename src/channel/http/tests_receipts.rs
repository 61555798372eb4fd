//! Tests of callbacks: signatures, ages, words, damaged bodies.

use proptest::prelude::*;
use uuid::Uuid;

use super::tests::{NOON, json_hmac, kannel, sign};
use crate::channel::{Callback, CallbackError, Receipt, ReceiptKey};
use crate::domain::delivery::Word;

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
}

fn dlr(query: &[(&str, &str)]) -> Result<Vec<Receipt>, CallbackError> {
    let query = pairs(query);
    let callback = Callback { method: "GET", query: &query, headers: &[], body: b"", now: NOON };
    kannel("http://127.0.0.1:1").receipts(&callback).map(|intake| intake.receipts)
}

#[test]
fn kannels_mask_becomes_words() {
    let id = Uuid::from_u128(2).to_string();
    for (status, word) in [
        ("1", Some(Word::Delivered)),
        ("2", Some(Word::Undelivered)),
        ("4", Some(Word::Sent)),
        ("8", Some(Word::Sent)),
        ("16", Some(Word::Undelivered)),
        ("32", None),
    ] {
        let read = dlr(&[("id", &id), ("status", status), ("time", "1780279200"), ("token", "t0ken")]).unwrap();
        let raw = format!(r#"{{"id":"{id}","status":"{status}","time":"1780279200"}}"#);
        let key = ReceiptKey::Client(Uuid::from_u128(2));
        assert_eq!(read, [Receipt { key, word, gone: false, code: status.into(), event_at: Some(NOON), raw }]);
    }
}

#[test]
fn a_callback_without_the_token_is_not_believed() {
    let id = Uuid::from_u128(2).to_string();
    assert_eq!(dlr(&[("id", &id), ("status", "1")]), Err(CallbackError::Unauthenticated));
    assert_eq!(dlr(&[("id", &id), ("status", "1"), ("token", "t0ken2")]), Err(CallbackError::Unauthenticated));
    assert_eq!(dlr(&[("id", &id), ("status", "1"), ("token", "")]), Err(CallbackError::Unauthenticated));
    assert!(matches!(dlr(&[("status", "1"), ("token", "t0ken")]), Err(CallbackError::Malformed(_))));
    assert!(matches!(dlr(&[("id", "7"), ("status", "1"), ("token", "t0ken")]), Err(CallbackError::Malformed(_))));
}

fn report(timestamp: &str, signature: &str, body: &str) -> Result<crate::channel::Intake, CallbackError> {
    let headers = pairs(&[("x-timestamp", timestamp), ("x-signature", signature)]);
    let callback = Callback { method: "POST", query: &[], headers: &headers, body: body.as_bytes(), now: NOON };
    json_hmac("http://127.0.0.1:1").receipts(&callback)
}

const REPORTS: &str = r#"[{"id":"ABC-9","status":"DELIVRD","time":1780279200000},{"id":"x","status":"HELD"}]"#;

#[test]
fn signed_reports_are_read() {
    let intake = report("1780279200000", &sign("1780279200000", REPORTS), REPORTS).unwrap();
    assert_eq!(
        (intake.reply_status, intake.reply_type.as_str(), intake.reply_body.as_str()),
        (200, "application/json", r#"{"code":0}"#)
    );
    let [one, two] = intake.receipts.as_slice() else { panic!("{intake:?}") };
    assert_eq!(
        (&one.key, one.word, one.event_at),
        (&ReceiptKey::Gateway("abc-9".into()), Some(Word::Delivered), Some(NOON))
    );
    assert_eq!((&two.key, two.word, two.event_at), (&ReceiptKey::Gateway("x".into()), None, None));
    // Four minutes old is still fresh.
    assert!(report("1780278960000", &sign("1780278960000", REPORTS), REPORTS).is_ok());
}

#[test]
fn bad_signatures_and_stale_timestamps_are_not_believed() {
    let good = sign("1780279200000", REPORTS);
    let refused = |timestamp: &str, signature: &str, body: &str| {
        assert_eq!(report(timestamp, signature, body), Err(CallbackError::Unauthenticated), "{timestamp} {body}");
    };
    refused("1780279200000", &good.replace(&good[..1], "x"), REPORTS);
    refused("1780279200000", "", REPORTS);
    refused("1780279200000", &good, &REPORTS.replace("DELIVRD", "UNDELIV"));
    refused("1780279201000", &good, REPORTS);
    // Rightly signed, six minutes before and after now.
    refused("1780278840000", &sign("1780278840000", REPORTS), REPORTS);
    refused("1780279560000", &sign("1780279560000", REPORTS), REPORTS);
    refused("now", &sign("now", REPORTS), REPORTS);
}

#[test]
fn damaged_reports_are_refused_whole() {
    for body in
        ["", "[", "{}", r#"[{"id":"1"}]"#, r#"[{"status":"DELIVRD"}]"#, r#"[{"id":{},"status":"DELIVRD"}]"#, "[1]"]
    {
        let read = report("1780279200000", &sign("1780279200000", body), body);
        assert!(matches!(read, Err(CallbackError::Malformed(_))), "{body}: {read:?}");
    }
    assert_eq!(report("1780279200000", &sign("1780279200000", "[]"), "[]").unwrap().receipts, []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_body_panics(body in "\\PC{0,40}|\\[(\\{\"(id|status|time)\":(1|\"é\"|null|-9e99)\\},?){0,3}\\]") {
        let _ = report("1780279200000", &sign("1780279200000", &body), &body);
    }
}
