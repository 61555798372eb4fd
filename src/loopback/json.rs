//! The JSON gateway: `POST /v1/messages` and its receipts, both signed with
//! `X-Signature` = hex HMAC-SHA256(secret, `X-Timestamp` + "\n" + body).

use std::borrow::Cow;

use hmac::{Hmac, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use super::receipts::Kind;
use crate::clock::Millis;

/// Numbers that one request may hold.
const MAX_TO: usize = 1_000;

/// The body of a submission.
#[derive(Deserialize)]
pub struct Submission<'a> {
    /// The client's id.
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    #[serde(borrow)]
    pub to: Vec<Cow<'a, str>>,
    #[serde(borrow)]
    pub text: Cow<'a, str>,
    /// Where receipts go; none are sent without it.
    #[serde(default, borrow)]
    pub callback: Option<Cow<'a, str>>,
}

/// Reads a body; the error is a wording for the client.
pub fn read(body: &[u8]) -> Result<Submission<'_>, String> {
    let submission: Submission<'_> = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    if submission.id.is_empty() {
        Err("id is empty".to_owned())
    } else if submission.to.is_empty() || submission.to.len() > MAX_TO {
        Err(format!("to must hold 1 to {MAX_TO} numbers"))
    } else if submission.text.is_empty() {
        Err("text is empty".to_owned())
    } else {
        Ok(submission)
    }
}

/// One receipt as it stands in a callback's array.
#[derive(Serialize)]
pub struct Item {
    /// The gateway's id.
    pub id: String,
    pub client_id: String,
    pub to: String,
    pub status: &'static str,
    /// Epoch milliseconds.
    pub time: Millis,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<u32>,
}

/// The gateway's word; nothing is said of a message that was merely taken.
pub fn status(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Delivered => Some("DELIVRD"),
        Kind::Undelivered => Some("UNDELIV"),
        Kind::Late => Some("ACCEPTD"),
        Kind::Taken => None,
    }
}

/// The answer to an accepted submission.
pub fn answer(ids: &[String]) -> String {
    serde_json::json!({ "code": 0, "id": ids.first(), "ids": ids }).to_string()
}

/// The answer to any other.
pub fn refusal(code: u16, message: &str) -> String {
    serde_json::json!({ "code": code, "message": message }).to_string()
}

/// Makes and checks signatures.
#[derive(Clone)]
pub struct Signer(Hmac<Sha256>);

impl Signer {
    /// `None` when the secret is empty.
    pub fn new(secret: &str) -> Option<Self> {
        if secret.is_empty() { None } else { Hmac::new_from_slice(secret.as_bytes()).ok().map(Self) }
    }

    /// Lower-case hexadecimal.
    pub fn sign(&self, timestamp: &[u8], body: &[u8]) -> String {
        let mut mac = self.0.clone();
        mac.update(timestamp);
        mac.update(b"\n");
        mac.update(body);
        let mut text = String::with_capacity(64);
        for byte in mac.finalize().into_bytes() {
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from(b"0123456789abcdef"[usize::from(nibble)]));
            }
        }
        text
    }

    /// Whether `signature`, in either case, is that of `body`.
    pub fn verify(&self, timestamp: &[u8], body: &[u8], signature: &[u8]) -> bool {
        self.sign(timestamp, body).as_bytes().ct_eq(&signature.to_ascii_lowercase()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_match_other_implementations() {
        // openssl dgst -sha256 -hmac secret, over "1700000000\n{}"
        let signer = Signer::new("secret").unwrap();
        let signature = signer.sign(b"1700000000", b"{}");
        assert_eq!(signature, "346a8f68fec04c9eee008b1bb9797f79920c7c67fdc75c2c67108852e95a3505");
        assert!(signer.verify(b"1700000000", b"{}", signature.to_uppercase().as_bytes()));
        assert!(!signer.verify(b"1700000001", b"{}", signature.as_bytes()));
        assert!(!signer.verify(b"1700000000", b"{ }", signature.as_bytes()));
        assert!(Signer::new("").is_none());
    }

    #[test]
    fn bodies_are_checked() {
        assert!(read(br#"{"id":"a","to":["13900000001"],"text":"b"}"#).is_ok());
        for wrong in [
            r#"{"id":"","to":["1"],"text":"b"}"#,
            r#"{"id":"a","to":[],"text":"b"}"#,
            r#"{"id":"a","to":["1"],"text":""}"#,
            r#"{"to":["1"],"text":"b"}"#,
            "[]",
        ] {
            assert!(read(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
