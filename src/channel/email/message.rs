//! A mail: what all recipients of a text share is written once, the rest (date, id,
//! recipient) is put before it.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use lettre::Address;
use lettre::message::header::{
    ContentTransferEncoding, ContentType, From, HeaderName, HeaderValue, Headers, MimeVersion, ReplyTo, Subject,
};
use lettre::message::{Mailboxes, MultiPart, SinglePart};

use super::settings::Settings;
use crate::channel::Outgoing;
use crate::channel::registry::Site;
use crate::clock::Clock;

/// Texts kept written: a handful of dispatches go out at once.
const KEPT: usize = 8;

/// One mail, ready for the wire.
pub(super) struct Mail {
    pub to: Arc<str>,
    pub sender: String,
    pub id: uuid::Uuid,
    own: String,
    shared: Arc<str>,
}

impl Mail {
    /// The content with its end (RFC 5321 §4.1.1.4), dots doubled.
    pub(super) fn content(&self) -> [&str; 3] {
        [&self.own, &self.shared, ".\r\n"]
    }
}

struct Kept {
    title: Arc<str>,
    text: Arc<str>,
    html: Option<Arc<str>>,
    written: Arc<str>,
}

impl Kept {
    fn is_of(&self, out: &Outgoing) -> bool {
        let html = match (&self.html, &out.html) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        };
        html && Arc::ptr_eq(&self.text, &out.text) && Arc::ptr_eq(&self.title, &out.title)
    }
}

/// Writes mails.
pub(super) struct Writer {
    settings: Arc<Settings>,
    zone: TimeZone,
    clock: Clock,
    domain: String,
    /// Held by their texts, so that a pointer names one text only.
    kept: Mutex<VecDeque<Kept>>,
}

impl Writer {
    pub(super) fn new(settings: Arc<Settings>, site: &Site<'_>) -> Self {
        let domain = settings.from.email.domain().to_owned();
        Self { settings, zone: site.zone.clone(), clock: site.clock.clone(), domain, kept: Mutex::default() }
    }

    /// The mail of a message.
    ///
    /// # Errors
    /// What makes it unfit for the wire, as a word for the ledger.
    pub(super) fn mail(&self, out: &Outgoing) -> Result<Mail, String> {
        // lettre refuses these as well; an address is nothing to take chances with.
        let fit = out.to.is_ascii() && !out.to.chars().any(|c| c.is_control() || c == ' ' || c == '<' || c == '>');
        if !fit || out.to.parse::<Address>().is_err() {
            return Err("unfit address".to_owned());
        }
        if out.title.chars().any(char::is_control) {
            return Err("a line break in the subject".to_owned());
        }
        let id = out.client_id;
        let now = Timestamp::from_millisecond(self.clock.now()).unwrap_or_default().to_zoned(self.zone.clone());
        let date = jiff::fmt::rfc2822::to_string(&now).map_err(|_| "no date".to_owned())?;
        let mut own = String::with_capacity(256);
        let _ = write!(own, "Date: {date}\r\nMessage-ID: <{id}@{}>\r\nTo: {}\r\n", self.domain, out.to);
        if let Some(at) = self.settings.unsubscribe.as_ref().filter(|_| out.may_opt_out) {
            let _ = write!(own, "List-Unsubscribe: <{}>\r\n", at.replace("{id}", &id.to_string()));
            if at.starts_with("https://") {
                // RFC 8058 §3.1.
                own.push_str("List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n");
            }
        }
        Ok(Mail { to: Arc::clone(&out.to), sender: self.settings.sender(id), id, own, shared: self.shared(out) })
    }

    fn shared(&self, out: &Outgoing) -> Arc<str> {
        let Ok(mut kept) = self.kept.lock() else { return self.write(out) };
        if let Some(found) = kept.iter().find(|k| k.is_of(out)) {
            return Arc::clone(&found.written);
        }
        let written = self.write(out);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(Kept {
            title: Arc::clone(&out.title),
            text: Arc::clone(&out.text),
            html: out.html.clone(),
            written: Arc::clone(&written),
        });
        written
    }

    fn write(&self, out: &Outgoing) -> Arc<str> {
        let mut headers = Headers::new();
        headers.set(From::from(Mailboxes::from(self.settings.from.clone())));
        if let Some(reply_to) = &self.settings.reply_to {
            headers.set(ReplyTo::from(Mailboxes::from(reply_to.clone())));
        }
        headers.set(Subject::from(out.title.to_string()));
        // RFC 3834 §5: nobody on holiday needs to answer.
        let auto = HeaderName::new_from_ascii_str("Auto-Submitted");
        headers.insert_raw(HeaderValue::new(auto, "auto-generated".to_owned()));
        headers.set(MimeVersion::new(1, 0));
        let text = part(ContentType::TEXT_PLAIN, &out.text);
        let body = match &out.html {
            Some(html) => {
                MultiPart::alternative().singlepart(text).singlepart(part(ContentType::TEXT_HTML, html)).formatted()
            }
            None => text.formatted(),
        };
        let mut whole = format!("{headers}{}", String::from_utf8_lossy(&body)).replace("\r\n.", "\r\n..");
        if !whole.ends_with("\r\n") {
            whole.push_str("\r\n");
        }
        whole.into()
    }
}

/// A part in an encoding that no relay has reason to touch. RUSTSEC-2026-0561: lettre
/// below 0.11.24 lets bare line ends through in a body that is not encoded.
fn part(kind: ContentType, text: &str) -> SinglePart {
    let foreign = text.bytes().filter(|b| !b.is_ascii()).count();
    let encoding = if foreign * 6 > text.len() {
        ContentTransferEncoding::Base64
    } else {
        ContentTransferEncoding::QuotedPrintable
    };
    SinglePart::builder().content_type(kind).header(encoding).body(text.to_owned())
}
