//! `[receipt]`: what a gateway calls back with, and how it is believed.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::values::{Pointer, Span};

/// How a callback is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReceiptFormat {
    Json,
    Form,
    Query,
}

/// Whose id a receipt carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReceiptId {
    Client,
    Gateway,
}

/// How the gateway's ids are made alike in answers and receipts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalise {
    Lowercase,
    StripLeadingZeros,
    HexToDecimal,
}

/// What a gateway's status says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatusWord {
    Sent,
    Undelivered,
    Delivered,
    Read,
    Ignored,
}

/// `[receipt]`: how callbacks are believed and read.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptSpec {
    pub format: ReceiptFormat,
    /// What `callback_url` carries after the path.
    #[serde(default)]
    pub callback_query: Option<Spanned<String>>,
    pub auth: AuthSpec,
    /// Where the list of receipts stands; `""` is the whole body; without it there is one receipt.
    pub list: Option<Pointer>,
    pub key: ReceiptId,
    /// A JSON pointer, or the name of a parameter.
    pub id: String,
    #[serde(default)]
    pub normalise: Vec<Normalise>,
    pub status: String,
    pub words: BTreeMap<String, StatusWord>,
    pub time: Option<TimeSpec>,
    #[serde(default)]
    pub reply: ReplySpec,
}

/// `[receipt.auth]`: the value that must be there, compared in constant time.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthSpec {
    pub header: Option<String>,
    pub query: Option<String>,
    /// A template over secrets, vars, body and timestamp.
    pub expect: Spanned<String>,
    /// The header that says when it was signed.
    pub timestamp_header: Option<String>,
    #[serde(default)]
    pub timestamp_unit: TimeUnit,
    /// How far the timestamp may be from now.
    pub tolerance: Option<Span>,
}

/// The unit of a signed timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeUnit {
    #[default]
    Unix,
    UnixMs,
}

/// When the gateway says it happened.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeSpec {
    pub at: String,
    /// `unix`, `unix_ms`, `rfc3339`, or a strptime format in the site's time zone.
    pub format: String,
}

/// What the gateway wants to hear once its receipts are on disk.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReplySpec {
    pub status: u16,
    #[serde(rename = "type")]
    pub content_type: String,
    pub body: String,
}

impl Default for ReplySpec {
    fn default() -> Self {
        Self { status: 200, content_type: "text/plain; charset=utf-8".into(), body: "ok".into() }
    }
}
