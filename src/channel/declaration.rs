//! A gateway in TOML: how a request is made, how its answer and its receipts are read.
//!
//! The files in `channels/` document every setting. What is wrong in one is said
//! with file, line and column.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::{AddressKind, Class, Evidence, Limits, Target};
use crate::domain::mistake::{Mistake, position};
use crate::render::{Medium, RenderError};
use crate::say;

mod heard;
mod receipt;
mod values;

pub use heard::HeardSpec;
pub use receipt::{
    AuthSpec, Normalise, ReceiptFormat, ReceiptId, ReceiptSpec, ReplySpec, StatusWord, TimeSpec, TimeUnit,
};
pub use values::{Pattern, Pointer, Span, Statuses, plain};

/// A mistake in a declaration, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {why}")]
pub struct DeclarationError {
    pub file: String,
    pub line: usize,
    pub column: usize,
    pub why: String,
}

/// What kind of channel speaks to the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    SmsHttp,
    /// A post over HTTP to one account: a chat robot, a webhook.
    Media,
    /// Mail over SMTP.
    Email,
    /// Sheets for notice boards.
    Point,
    Rehearsal,
}

/// A whole declaration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Declaration {
    pub kind: Spanned<Kind>,
    #[serde(default = "phone")]
    pub address: AddressKind,
    #[serde(default)]
    pub limits: LimitsSpec,
    #[serde(default)]
    pub sms: SmsSpec,
    /// Plain settings and their defaults; an empty one must be set by the site.
    #[serde(default)]
    pub vars: BTreeMap<String, String>,
    /// Those of them that may stay empty.
    #[serde(default)]
    pub optional: Vec<String>,
    #[serde(default)]
    pub secrets: SecretsSpec,
    pub request: Option<RequestSpec>,
    #[serde(default)]
    pub answer: Vec<AnswerRule>,
    pub answer_each: Option<AnswerEach>,
    pub receipt: Option<ReceiptSpec>,
    pub reply: Option<HeardSpec>,
}

const fn phone() -> AddressKind {
    AddressKind::Phone
}

impl Declaration {
    /// Whether word about a message can come back.
    #[must_use]
    pub fn has_receipts(&self) -> bool {
        self.receipt.is_some() || *self.kind.get_ref() == Kind::Email
    }

    /// What its deliveries go to, and the form of their texts.
    #[must_use]
    pub fn aim(&self) -> (Target, Medium) {
        match (self.kind.get_ref(), self.address) {
            (Kind::Media, _) => (Target::Account, Medium::Media),
            (Kind::Email, _) => (Target::Address(AddressKind::Email), Medium::Email),
            (Kind::Point, _) => (Target::Point, Medium::Sheet),
            (_, AddressKind::Phone) => (Target::Address(AddressKind::Phone), Medium::Sms),
            (_, AddressKind::Email) => (Target::Address(AddressKind::Email), Medium::Email),
        }
    }
}

/// A text of less holds no unit and phone beside its title.
const LEAST_BYTES: usize = 200;

/// `[limits]`, of a declaration or of the site; the site's win.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsSpec {
    /// Parts a second.
    pub rate: Option<f64>,
    pub in_flight: Option<usize>,
    /// Messages marked at once, for a gateway that answers faster than a server commits.
    pub window: Option<usize>,
    pub batch: Option<usize>,
    pub max_parts: Option<u32>,
    /// UTF-8 bytes of a text.
    pub max_bytes: Option<usize>,
    /// Where to read on, at the end of a text cut to `max_bytes`; empty: it is refused.
    pub read_on: Option<String>,
    pub evidence: Option<Evidence>,
    pub receipt_wait: Option<Span>,
    pub idempotent: Option<bool>,
    pub price_milli: Option<i64>,
    /// From the first byte out to the last byte in.
    pub timeout: Option<Span>,
}

impl LimitsSpec {
    /// These over `under`, defaults for the rest; the second value is the time-out.
    /// `Err` names the setting that makes no sense.
    pub fn over(&self, under: &Self, receipts: bool) -> Result<(Limits, Duration), &'static str> {
        let evidence = self.evidence.or(under.evidence).unwrap_or(if receipts {
            Evidence::Receipts
        } else {
            Evidence::AcceptOnly
        });
        let span = |a: Option<Span>, b: Option<Span>, default| a.or(b).map_or(default, |s| s.0);
        let limits = Limits {
            rate: self.rate.or(under.rate).unwrap_or(10.0),
            in_flight: self.in_flight.or(under.in_flight).unwrap_or(16),
            window: self.window.or(under.window),
            batch: self.batch.or(under.batch).unwrap_or(1),
            max_parts: self.max_parts.or(under.max_parts).unwrap_or(10),
            max_bytes: self.max_bytes.or(under.max_bytes),
            read_on: self.read_on.as_deref().or(under.read_on.as_deref()).filter(|r| !r.is_empty()).map(Into::into),
            evidence,
            receipt_wait: span(self.receipt_wait, under.receipt_wait, Duration::from_hours(48)),
            idempotent: self.idempotent.or(under.idempotent).unwrap_or(false),
            price_milli: self.price_milli.or(under.price_milli).unwrap_or(0),
        };
        let timeout = span(self.timeout, under.timeout, Duration::from_secs(10));
        let wrong = [
            (!(limits.rate.is_finite() && limits.rate > 0.0), "rate"),
            (limits.in_flight == 0 || limits.in_flight > 4096, "in_flight"),
            (limits.window.is_some_and(|n| n == 0 || n > 10_000), "window"),
            (limits.batch == 0 || limits.batch > 5000, "batch"),
            (limits.max_parts == 0, "max_parts"),
            (limits.max_bytes.is_some_and(|n| n < LEAST_BYTES), "max_bytes"),
            (limits.price_milli < 0, "price_milli"),
            (timeout.is_zero() || timeout > Duration::from_mins(5), "timeout"),
            (evidence == Evidence::Receipts && !receipts, "evidence"),
        ];
        wrong.into_iter().find(|(bad, _)| *bad).map_or(Ok((limits, timeout)), |(_, name)| Err(name))
    }
}

/// `[sms]`: what is particular to text messages.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmsSpec {
    /// `【…】`, put before every text and counted with it; empty where the gateway adds its own.
    #[serde(default)]
    pub signature: String,
}

/// `[secrets]`: the names a site must give.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretsSpec {
    #[serde(default)]
    pub required: Vec<String>,
    /// Those it may give.
    #[serde(default)]
    pub optional: Vec<String>,
}

/// How values are escaped in a body, and its `Content-Type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BodyFormat {
    Json,
    Form,
    #[default]
    Text,
}

/// `[request]`: templates over to, tos, title, text, parts, `client_id`, `client_ids`,
/// `callback_url`, signature, vars and secrets; of a post also the fields of the item.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestSpec {
    #[serde(default = "post")]
    pub method: String,
    pub url: Spanned<String>,
    /// Values made in order before the rest, read as `let.NAME`.
    #[serde(default, rename = "let")]
    pub lets: Vec<LetSpec>,
    /// They see `url` and `body` too.
    #[serde(default)]
    pub headers: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    pub format: BodyFormat,
    pub body: Option<Spanned<String>>,
}

fn post() -> String {
    "POST".to_owned()
}

/// One named value.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LetSpec {
    pub name: String,
    pub value: Spanned<String>,
}

/// What an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Accepted,
    Throttled,
    Temporary,
    Permanent,
    AddressGone,
    Misconfigured,
    Unknown,
    /// The receiver wants nothing more: the channel pauses.
    Withdrawn,
}

impl Verdict {
    /// The class of a failure; `None` for accepted.
    #[must_use]
    pub const fn class(self) -> Option<Class> {
        Some(match self {
            Self::Accepted => return None,
            Self::Throttled => Class::Throttled,
            Self::Temporary => Class::Temporary,
            Self::Permanent => Class::Permanent,
            Self::AddressGone => Class::AddressGone,
            Self::Misconfigured => Class::Misconfigured,
            Self::Unknown => Class::Unknown,
            Self::Withdrawn => Class::Withdrawn,
        })
    }
}

/// One `[[answer]]` rule; the first whose conditions all hold decides.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerRule {
    pub status: Option<Statuses>,
    pub pointer: Option<Pointer>,
    /// The value at `pointer` as text (`0` and `"0"` are the same).
    pub equals: Option<values::Plain>,
    /// A regex the value at `pointer` matches.
    pub matches: Option<Pattern>,
    /// A regex the body matches.
    pub body: Option<Pattern>,
    pub class: Verdict,
    /// Where the gateway's id stands: one value, or a list of one a part.
    pub id: Option<Pointer>,
    /// A regex over the body whose first group is an id, as often as it matches.
    pub id_regex: Option<Pattern>,
    /// The gateway's own word: a template over status and json.
    pub code: Option<Spanned<String>>,
}

/// `[answer_each]`: one result a message, read once the whole was accepted.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerEach {
    pub list: Pointer,
    /// Where an entry says its number; without it entries are in the order of the request.
    pub number: Option<Pointer>,
    pub rule: Vec<AnswerRule>,
}

/// A declaration and the text it came from, so that later checks can say where.
#[derive(Debug, Clone)]
pub struct Source<'a> {
    pub file: &'a str,
    pub text: &'a str,
}

impl Source<'_> {
    /// Reads the TOML.
    pub fn parse(&self) -> Result<Declaration, DeclarationError> {
        let read: Declaration = toml::from_str(self.text).map_err(|e| {
            let Mistake { line, column, why } = Mistake::of(self.text, &e);
            DeclarationError { file: self.file.to_owned(), line, column, why }
        })?;
        self.check(&read)?;
        Ok(read)
    }

    /// A mistake at a byte of the text.
    #[must_use]
    pub fn error(&self, byte: usize, why: String) -> DeclarationError {
        let (line, column) = position(self.text, byte);
        DeclarationError { file: self.file.to_owned(), line, column, why }
    }

    /// A mistake in the template at `value`.
    pub fn template<'e>(&'e self, value: &'e Spanned<String>) -> impl Fn(RenderError) -> DeclarationError + 'e {
        move |error| self.error(value.span().start, error.to_string())
    }

    fn check(&self, read: &Declaration) -> Result<(), DeclarationError> {
        let at = read.kind.span().start;
        if matches!(read.kind.get_ref(), Kind::SmsHttp | Kind::Media)
            && (read.request.is_none() || read.answer.is_empty())
        {
            return Err(self.error(at, say!("缺少 [request] 或 [[answer]]", "[request] or [[answer]] is missing")));
        }
        let each = read.answer_each.iter().flat_map(|e| &e.rule);
        if read.answer.iter().chain(each).any(|r| r.pointer.is_none() && (r.equals.is_some() || r.matches.is_some())) {
            return Err(self.error(
                at,
                say!(
                    "[[answer]] 有 equals 或 matches 而没有 pointer",
                    "an [[answer]] has equals or matches and no pointer"
                ),
            ));
        }
        if let Some(reply) = &read.reply {
            self.check_auth("reply", &reply.auth)?;
            if reply.format == ReceiptFormat::Json && ![&reply.from, &reply.text].iter().all(|p| p.starts_with('/')) {
                return Err(self.error(
                    reply.auth.expect.span().start,
                    say!(
                        "[reply] 的 from、text 应为 JSON 指针（以 / 开头）",
                        "from and text of [reply] must be JSON pointers (starting with /)"
                    ),
                ));
            }
        }
        let Some(receipt) = &read.receipt else { return Ok(()) };
        let auth = &receipt.auth;
        self.check_auth("receipt", auth)?;
        if receipt.format == ReceiptFormat::Json && ![&receipt.id, &receipt.status].iter().all(|p| p.starts_with('/')) {
            return Err(self.error(
                auth.expect.span().start,
                say!(
                    "[receipt] 的 id、status 应为 JSON 指针（以 / 开头）",
                    "id and status of [receipt] must be JSON pointers (starting with /)"
                ),
            ));
        }
        Ok(())
    }

    fn check_auth(&self, section: &str, auth: &AuthSpec) -> Result<(), DeclarationError> {
        if auth.header.is_some() != auth.query.is_some() {
            return Ok(());
        }
        Err(self.error(
            auth.expect.span().start,
            say!("[{section}.auth] 应有 header 或 query 之一", "[{section}.auth] needs either header or query"),
        ))
    }
}
