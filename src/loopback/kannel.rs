//! Kannel's smsbox as its users see it: `/cgi-bin/sendsms`, its answers and the
//! escape codes of a dlr-url (Kannel User Guide 1.4, "Using the HTTP interface"
//! and "Delivery Reports"; `gw/smsbox.c`, `gw/urltrans.c`).

use std::borrow::Cow;
use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};
use subtle::ConstantTimeEq as _;

use super::Credentials;
use super::parts;
use super::receipts::Kind;
use crate::clock::Millis;

const URL: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

pub const ACCEPTED: &str = "0: Accepted for delivery";
pub const QUEUED: &str = "3: Queued for later delivery";
pub const TEMPORARY: &str = "Temporal failure, try again later.";
pub const PERMANENT: &str = "Not routable. Do not try again.";

/// A submission that Kannel would take.
pub struct Request {
    pub to: Vec<String>,
    pub from: String,
    pub text: String,
    pub parts: u32,
    /// Which reports are wanted: 1 delivered, 2 failed, 4 buffered, 8 accepted, 16 rejected.
    pub mask: u32,
    pub dlr_url: Option<String>,
    /// The value of a query parameter `id` of the dlr-url.
    pub client_id: Option<String>,
}

/// Reads the parameters of a GET's query or a POST's form.
///
/// # Errors
/// The status and the text that smsbox answers with.
pub fn read(input: &[u8], credentials: &Credentials) -> Result<Request, (u16, &'static str)> {
    let fields: Vec<Pair<'_>> = pairs(input).collect();
    let find =
        |names: [&str; 2]| fields.iter().find(|(name, _)| names.iter().any(|n| n.as_bytes() == &**name)).map(|f| &*f.1);
    let same = |given: Option<&[u8]>, expected: &str| bool::from(given.unwrap_or_default().ct_eq(expected.as_bytes()));
    let user = same(find(["username", "user"]), &credentials.username);
    if !(same(find(["password", "pass"]), &credentials.password) && user) {
        return Err((403, "Authorization failed for sendsms"));
    }
    let word = |names| find(names).map(|value| String::from_utf8_lossy(value).into_owned());
    let number = |names| word(names).and_then(|value| value.trim().parse::<u32>().ok());
    let to = word(["to", "to"]).ok_or((400, "Missing receiver number, rejected"))?;
    let to: Vec<String> = to.split_whitespace().map(str::to_owned).collect();
    if to.is_empty() {
        return Err((400, "Empty receiver number not allowed, rejected"));
    }
    // Kannel sends an empty message; a rehearsal had better say so.
    let text = find(["text", "text"]).ok_or((400, "Missing text, rejected"))?;
    let charset = find(["charset", "charset"]).unwrap_or(b"UTF-8");
    let encoding = encoding_rs::Encoding::for_label(charset).ok_or((400, "charset unknown, rejected"))?;
    let text = encoding.decode_without_bom_handling(text).0.into_owned();
    let dlr_url = word(["dlr-url", "dlrurl"]).filter(|url| !url.is_empty());
    Ok(Request {
        parts: if number(["coding", "coding"]) == Some(2) { parts::ucs2(&text) } else { parts::gsm7(&text) },
        mask: number(["dlr-mask", "dlrmask"]).unwrap_or(0),
        client_id: dlr_url.as_deref().and_then(client_id),
        from: word(["from", "from"]).unwrap_or_default(),
        to,
        text,
        dlr_url,
    })
}

/// A decoded name and value.
pub type Pair<'a> = (Cow<'a, [u8]>, Cow<'a, [u8]>);

/// The pairs of a query or form, decoded (WHATWG URL §5.1).
pub fn pairs(input: &[u8]) -> impl Iterator<Item = Pair<'_>> {
    input.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = match pair.iter().position(|byte| *byte == b'=') {
            Some(at) => (&pair[..at], &pair[at + 1..]),
            None => (pair, &[][..]),
        };
        (decode(name), decode(value))
    })
}

fn decode(raw: &[u8]) -> Cow<'_, [u8]> {
    if raw.contains(&b'+') {
        let spaced: Vec<u8> = raw.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
        Cow::Owned(percent_decode(&spaced).collect())
    } else {
        percent_decode(raw).into()
    }
}

fn client_id(url: &str) -> Option<String> {
    let query = url.split_once('?')?.1.split('#').next()?;
    let (_, id) = pairs(query.as_bytes()).find(|(name, _)| &**name == b"id")?;
    String::from_utf8(id.into_owned()).ok().filter(|id| !id.is_empty())
}

/// What a report says, besides what the request said.
pub struct Report<'a> {
    pub kind: Kind,
    pub to: &'a str,
    pub gateway_id: &'a str,
    pub at: Millis,
}

/// The dlr-url with its escape codes replaced; `None` where the mask does not ask
/// for this word.
pub fn callback(request: &Request, report: &Report<'_>) -> Option<String> {
    let pattern = request.dlr_url.as_deref()?;
    let bit = bit(report.kind, request.mask)?;
    let mut url = String::with_capacity(pattern.len() + 64);
    let mut rest = pattern;
    while let Some(at) = rest.find('%') {
        url.push_str(&rest[..at]);
        let mut after = rest[at + 1..].chars();
        let known = after.next().is_some_and(|code| escape(&mut url, code, bit, request, report));
        if known {
            rest = after.as_str();
        } else {
            // An escape of the URL itself, such as %2B: left as it is.
            url.push('%');
            rest = &rest[at + 1..];
        }
    }
    url.push_str(rest);
    Some(url)
}

fn bit(kind: Kind, mask: u32) -> Option<u32> {
    let wanted: &[u32] = match kind {
        Kind::Delivered => &[1],
        Kind::Undelivered => &[2],
        Kind::Taken => &[8],
        Kind::Late => &[4, 8],
    };
    wanted.iter().copied().find(|bit| mask & bit != 0)
}

fn escape(url: &mut String, code: char, bit: u32, request: &Request, report: &Report<'_>) -> bool {
    let seconds = report.at.div_euclid(1_000);
    // Writing to a String cannot fail.
    let _ = match code {
        'd' => write!(url, "{bit}"),
        // In a report the sender is the handset's peer: %p is the handset, %P is us.
        'p' | 'q' => write!(url, "{}", encoded(report.to)),
        'P' | 'Q' => write!(url, "{}", encoded(&request.from)),
        't' => write!(url, "{}", stamp(report.at, "%Y-%m-%d+%H:%M:%S")),
        'T' => write!(url, "{seconds}"),
        'F' | 'I' => write!(url, "{}", encoded(report.gateway_id)),
        'A' => write!(url, "{}", encoded(&reply(bit, report))),
        'i' => write!(url, "loopback"),
        'n' => write!(url, "sendsms"),
        'a' | 'b' => write!(url, "{}", encoded(&request.text)),
        '%' => write!(url, "%"),
        _ => return false,
    };
    true
}

/// The SMSC's own words: those of an SMPP 3.4 receipt (appendix B), or ACK.
fn reply(bit: u32, report: &Report<'_>) -> String {
    let (delivered, stat, error) = match bit {
        1 => (1, "DELIVRD", "000"),
        2 => (0, "UNDELIV", "001"),
        4 => (0, "ENROUTE", "000"),
        _ => return "ACK/".to_owned(),
    };
    let date = stamp(report.at, "%y%m%d%H%M");
    let id = report.gateway_id;
    format!("id:{id} sub:001 dlvrd:00{delivered} submit date:{date} done date:{date} stat:{stat} err:{error} text:")
}

/// Kannel writes times in UTC.
fn stamp(at: Millis, format: &str) -> String {
    jiff::Timestamp::from_millisecond(at).unwrap_or_default().strftime(format).to_string()
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, URL).to_string().replace("%20", "+")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_with(query: &str) -> Result<Request, (u16, &'static str)> {
        let credentials = Credentials { username: "u".into(), password: "p".into(), secret: "s".into() };
        read(query.as_bytes(), &credentials)
    }

    #[test]
    fn refusals_are_worded_as_smsbox_words_them() {
        let status = |query: &str| read_with(query).err().map(|(status, _)| status);
        assert_eq!(status("to=1&text=a"), Some(403));
        assert_eq!(status("username=u&password=x&to=1&text=a"), Some(403));
        assert_eq!(status("username=u&password=p&text=a"), Some(400));
        assert_eq!(status("username=u&password=p&to=+&text=a"), Some(400));
        assert_eq!(status("username=u&password=p&to=1"), Some(400));
        assert_eq!(status("username=u&password=p&to=1&text=a&charset=nonsense"), Some(400));
        assert_eq!(status("user=u&pass=p&to=1&text=a"), None);
    }

    #[test]
    fn texts_are_decoded_by_their_charset() {
        let base = "username=u&password=p&to=13900000001+13900000002&coding=2";
        let request = read_with(&format!("{base}&charset=GBK&text=%B2%E2%CA%D4")).unwrap();
        assert_eq!((request.text.as_str(), request.parts, request.to.len()), ("测试", 1, 2));
        let long = utf8_percent_encode(&"汛".repeat(71), URL).to_string();
        assert_eq!(read_with(&format!("{base}&text={long}")).unwrap().parts, 2);
    }

    #[test]
    fn escape_codes_are_replaced_and_url_escapes_kept() {
        let pattern = "http://127.0.0.1/dlr?id=abc&st=%d&to=%p&from=%P&t=%t&s=%T&f=%F&a=%A&keep=%2B&pc=%%";
        let dlr = utf8_percent_encode(pattern, URL);
        let query = format!("username=u&password=p&from=106900&to=13900000001&text=a&dlr-mask=3&dlr-url={dlr}");
        let request = read_with(&query).unwrap();
        assert_eq!(request.client_id.as_deref(), Some("abc"));
        let report = |kind| Report { kind, to: "13900000001", gateway_id: "f00", at: 0 };
        let url = callback(&request, &report(Kind::Delivered)).unwrap();
        let expected = "http://127.0.0.1/dlr?id=abc&st=1&to=13900000001&from=106900&t=1970-01-01+00:00:00&s=0&f=f00&a=";
        assert!(url.starts_with(expected), "{url}");
        assert!(url.contains("stat%3ADELIVRD") && url.ends_with("&keep=%2B&pc=%"), "{url}");
        assert!(callback(&request, &report(Kind::Undelivered)).unwrap().contains("st=2&"));
        assert_eq!(callback(&request, &report(Kind::Taken)), None);
        assert_eq!(callback(&request, &report(Kind::Late)), None);
    }
}
