//! Whether a post is signed as its vendor wants it and short enough, and what it says.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use hyper::HeaderMap;
use percent_encoding::percent_decode_str;
use serde_json::Value;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use super::MediaSetup;
use super::vendor::{Vendor, Word};
use crate::clock::Millis;
use crate::loopback::kannel::pairs;

/// How far the time of a signature may be off: robots an hour, webhooks five minutes.
const HOUR: Millis = 3_600_000;
const FIVE_MINUTES: Millis = 300_000;

/// A request to a robot.
pub struct Asked<'a> {
    pub vendor: Vendor,
    pub path: &'a str,
    pub query: &'a str,
    pub headers: &'a HeaderMap,
    pub body: &'a [u8],
    pub now: Millis,
}

/// A post that may be taken.
pub struct Post {
    pub vendor: Vendor,
    /// The sender's id, where the interface has one.
    pub id: Option<String>,
    pub title: String,
    pub text: String,
    pub at_all: bool,
    pub body: String,
}

/// Reads a request; the error is what its vendor answers.
pub fn read(setup: &MediaSetup, asked: &Asked<'_>) -> Result<Post, Word> {
    let body: Result<Value, _> = serde_json::from_slice(asked.body);
    authenticate(setup, asked, body.as_ref().ok())?;
    let body = body.map_err(|_| Word::Malformed)?;
    let text = |at: &str| body.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (said, most, all) = match asked.vendor {
        // Of the content alone; the others limit the whole request.
        Vendor::WeCom if text("/msgtype") == "markdown" => (text("/markdown/content"), 4_096, false),
        Vendor::WeCom => {
            let named = body.pointer("/text/mentioned_list").and_then(Value::as_array);
            (text("/text/content"), 2_048, named.is_some_and(|n| n.iter().any(|v| v == "@all")))
        }
        Vendor::DingTalk => (text("/text/content"), 20_000, body.pointer("/at/isAtAll") == Some(&Value::Bool(true))),
        Vendor::Feishu => {
            let said = text("/content/text");
            let all = said.contains("<at user_id=\"all\">");
            (said, 20 * 1_024, all)
        }
        Vendor::Webhook => (text("/data/text"), 1 << 20, false),
    };
    if said.is_empty() {
        return Err(Word::Malformed);
    }
    if (if asked.vendor == Vendor::WeCom { said.len() } else { asked.body.len() }) > most {
        return Err(Word::TooLong);
    }
    Ok(Post {
        vendor: asked.vendor,
        id: header(asked, "webhook-id").map(str::to_owned),
        title: text("/data/title"),
        text: said,
        at_all: all,
        body: String::from_utf8_lossy(asked.body).into_owned(),
    })
}

fn authenticate(setup: &MediaSetup, asked: &Asked<'_>, body: Option<&Value>) -> Result<(), Word> {
    let secret = &setup.secret;
    match asked.vendor {
        Vendor::WeCom => robot(same(&parameter(asked, "key"), &setup.key)),
        Vendor::DingTalk => {
            robot(same(&parameter(asked, "access_token"), &setup.key))?;
            let timestamp = parameter(asked, "timestamp");
            let sign = hmac(secret.as_bytes(), &format!("{timestamp}\n{secret}"));
            let fresh = timestamp.parse().is_ok_and(|at: Millis| (at - asked.now).abs() < HOUR);
            signed(fresh && same(&parameter(asked, "sign"), &sign))
        }
        Vendor::Feishu => {
            let token = asked.path.rsplit('/').next().unwrap_or_default();
            robot(same(&percent_decode_str(token).decode_utf8_lossy(), &setup.key))?;
            let field = |at| body.and_then(|b: &Value| b.pointer(at)).and_then(Value::as_str).unwrap_or_default();
            let timestamp = field("/timestamp");
            // The odd one: what others sign is the key here, and nothing is signed.
            let sign = hmac(format!("{timestamp}\n{secret}").as_bytes(), "");
            signed(is_fresh(timestamp, asked.now, HOUR) && same(field("/sign"), &sign))
        }
        Vendor::Webhook if asked.path.ends_with("/gone") => Err(Word::Gone),
        Vendor::Webhook => {
            let of = |name| header(asked, name).unwrap_or_default();
            let timestamp = of("webhook-timestamp");
            let body = String::from_utf8_lossy(asked.body);
            let sign = hmac(secret.as_bytes(), &format!("{}.{timestamp}.{body}", of("webhook-id")));
            let any = of("webhook-signature").split(' ').any(|one| same(one, &format!("v1,{sign}")));
            signed(any && is_fresh(timestamp, asked.now, FIVE_MINUTES))
        }
    }
}

fn robot(known: bool) -> Result<(), Word> {
    if known { Ok(()) } else { Err(Word::NoRobot) }
}

fn signed(holds: bool) -> Result<(), Word> {
    if holds { Ok(()) } else { Err(Word::Unsigned) }
}

fn same(given: &str, wanted: &str) -> bool {
    given.as_bytes().ct_eq(wanted.as_bytes()).into()
}

/// Whether a time in seconds is within `off` of `now`.
fn is_fresh(seconds: &str, now: Millis, off: Millis) -> bool {
    seconds.parse().is_ok_and(|at: Millis| (at.saturating_mul(1_000) - now).abs() < off)
}

/// Base64 of the HMAC-SHA256 (RFC 2104).
fn hmac(key: &[u8], message: &str) -> String {
    // HMAC takes keys of any length.
    Hmac::<Sha256>::new_from_slice(key).map_or_else(
        |_| String::new(),
        |mut mac| {
            mac.update(message.as_bytes());
            STANDARD.encode(mac.finalize().into_bytes())
        },
    )
}

fn parameter(asked: &Asked<'_>, name: &str) -> String {
    let found = pairs(asked.query.as_bytes()).find(|(n, _)| n.as_ref() == name.as_bytes());
    found.map(|(_, value)| String::from_utf8_lossy(&value).into_owned()).unwrap_or_default()
}

fn header<'a>(asked: &Asked<'a>, name: &str) -> Option<&'a str> {
    asked.headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's own libraries.
    #[test]
    fn webhooks_are_signed_as_the_specification_says() {
        let key = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signed = "msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{\"test\": 2432232314}";
        assert_eq!(hmac(&key, signed), "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    /// `python3 -c "hmac.new(b'1599360473\nsecret', b'', sha256)"`, Feishu's own recipe.
    #[test]
    fn feishu_signs_nothing_with_everything() {
        assert_eq!(hmac(b"1599360473\nsecret", ""), "q4jswNiMy51J5JuQV566yJat0/lQ/c+22kINzUgKsGU=");
    }
}
