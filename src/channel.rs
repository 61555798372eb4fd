//! Ways out. A channel *kind* is one file here behind one trait; a *gateway* is a
//! TOML declaration in `channels/` and no code.
//!
//! The class of a failure decides what happens next; nobody asks which gateway it was.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Millis;
use crate::domain::delivery::Word;
use crate::render::Medium;

pub mod declaration;
pub mod email;
pub mod failover;
pub mod http;
pub mod point;
pub mod registry;
pub mod rehearsal;

/// One message for one target, ready to hand over.
#[derive(Clone)]
pub struct Outgoing {
    /// The id of this attempt; the same for a repeat, another for a true retry.
    pub client_id: Uuid,
    /// A phone number in national form (`13900000000`), an e-mail address, the name of
    /// an account's channel, or the file of a sheet: where it goes in the print queue,
    /// without extension.
    pub to: Arc<str>,
    /// The subject of a mail, the headline of a post.
    pub title: Arc<str>,
    pub text: Arc<str>,
    /// The same text as HTML, where the channel takes both.
    pub html: Option<Arc<str>>,
    /// The item's fields by name, for channels that hand them on beside the text.
    pub facts: Option<Arc<serde_json::Value>>,
    /// Billable parts of `text`, signature included.
    pub parts: u32,
    /// Whoever gets it may ask to get no more of its kind.
    pub may_opt_out: bool,
}

impl std::fmt::Debug for Outgoing {
    /// Never the address, never the text.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outgoing")
            .field("client_id", &self.client_id)
            .field("parts", &self.parts)
            .finish_non_exhaustive()
    }
}

/// What became of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The gateway took it. Its ids (one a part, where it gives several) are
    /// already normalised by the channel's rule; empty where receipts carry ours.
    Accepted { gateway_ids: Vec<String>, code: String },
    /// It did not, or nobody knows. `code` is the gateway's own word, free of addresses.
    Failed { class: Class, code: String, retry_after: Option<Duration> },
}

impl Outcome {
    /// The stable word for it, as metrics and logs name it.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Accepted { .. } => "accepted",
            Self::Failed { class, .. } => class.word(),
        }
    }
}

/// Why a message was not taken: the closed list that decides what happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(i32)]
pub enum Class {
    /// Too fast or over quota: later, at no cost of an attempt.
    Throttled = 1,
    /// Refused for now (5xx, busy).
    Temporary = 2,
    /// Refused for good: this text to this target will never go.
    Permanent = 3,
    /// The target does not exist; the address is marked.
    AddressGone = 4,
    /// Our credentials or declaration are wrong: every message would fail, so the
    /// channel stops and says so; the message waits.
    Misconfigured = 5,
    /// Written, perhaps taken, no answer heard: the delivery is uncertain.
    Unknown = 6,
    /// Nobody there: nothing was written. The channel pauses, longer each time, and
    /// the message waits at no cost of an attempt, until its expiry.
    Unreachable = 7,
    /// The receiver takes nothing of this channel any more and says so for good (410 Gone;
    /// Standard Webhooks: an endpoint that was taken away). The channel pauses until an
    /// operator resumes it; the message waits.
    Withdrawn = 8,
}

impl Class {
    /// The stable word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::Temporary => "temporary",
            Self::Permanent => "permanent",
            Self::AddressGone => "address_gone",
            Self::Misconfigured => "misconfigured",
            Self::Unknown => "unknown",
            Self::Unreachable => "unreachable",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// What stands in `attempts.class` for an accepted message.
pub const CLASS_ACCEPTED: i32 = 0;

/// Which addresses a channel uses; the numbers stand in `addresses.kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(i32)]
pub enum AddressKind {
    Phone = 1,
    Email = 2,
}

/// What one delivery of a channel goes to; it says what `deliveries.target` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// An address of a member, or of its household.
    Address(AddressKind),
    /// One post for everybody, in the channel's own account; the target is 0.
    Account,
    /// Every point that serves a member; the target is the point's number.
    Point,
    /// Each household, on the door-knock list; no gateway stands behind it.
    Visit,
}

impl Target {
    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Address(_) => "address",
            Self::Account => "account",
            Self::Point => "point",
            Self::Visit => "visit",
        }
    }
}

/// What a channel can prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// Receipts come back.
    Receipts,
    /// "Accepted" is the last word (shown as 无回执).
    AcceptOnly,
}

/// What a channel bears, and what the planner may promise of it.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Parts a second.
    pub rate: f64,
    /// Requests under way at once.
    pub in_flight: usize,
    /// Messages that may be `sending` at once, marked ahead or under way: what a crash can
    /// leave in doubt. Twice those under way where nobody says; never above a second's.
    pub window: Option<usize>,
    /// Messages a request takes.
    pub batch: usize,
    /// A longer text is refused when the item is planned.
    pub max_parts: u32,
    /// UTF-8 bytes of a text; what is longer is refused when the item is planned,
    /// unless `read_on` is there.
    pub max_bytes: Option<usize>,
    /// A longer text ends after the last sentence that fits, and goes on with this.
    pub read_on: Option<Arc<str>>,
    pub evidence: Evidence,
    /// How long a receipt may take before the delivery is `unknown`.
    pub receipt_wait: Duration,
    /// The gateway knows a repeated client id and does not send twice.
    pub idempotent: bool,
    /// Thousandths of a yuan a part.
    pub price_milli: i64,
}

/// An HTTP callback as it came in, before anybody believed it.
#[derive(Debug)]
pub struct Callback<'a> {
    pub method: &'a str,
    /// Decoded query parameters, in order.
    pub query: &'a [(String, String)],
    /// Names in lower case.
    pub headers: &'a [(String, String)],
    pub body: &'a [u8],
    pub now: Millis,
}

/// One word about one message (or one part of it).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    pub key: ReceiptKey,
    /// `None` where the gateway says something gong does not act on; it is kept all the same.
    pub word: Option<Word>,
    /// The address does not exist; it is marked.
    pub gone: bool,
    /// The gateway's own status, free of addresses.
    pub code: String,
    /// The gateway's own time of the event.
    pub event_at: Option<Millis>,
    /// As it came, to be sealed.
    pub raw: String,
}

/// How a receipt names its message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ReceiptKey {
    /// By the id we gave.
    Client(Uuid),
    /// By the gateway's id, normalised by the channel's rule.
    Gateway(String),
}

/// Receipts read from a callback, and what the gateway wants to hear back once
/// they are on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intake {
    pub receipts: Vec<Receipt>,
    pub reply_status: u16,
    pub reply_type: String,
    pub reply_body: String,
}

/// What a person answered.
#[derive(Clone, PartialEq, Eq)]
pub struct Said {
    /// The number, as the gateway writes it.
    pub from: String,
    pub text: String,
}

impl std::fmt::Debug for Said {
    /// Neither who nor what.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Said").finish_non_exhaustive()
    }
}

/// Replies read from a callback, and what the gateway wants to hear back once they
/// are on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    pub said: Vec<Said>,
    pub reply_status: u16,
    pub reply_type: String,
    pub reply_body: String,
}

/// Why a callback was not believed or understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallbackError {
    #[error("the callback is not authenticated")]
    Unauthenticated,
    #[error("the callback is malformed: {0}")]
    Malformed(String),
    #[error("this channel takes no callbacks")]
    NotTaken,
}

/// A way out.
pub trait Channel: Send + Sync {
    fn limits(&self) -> &Limits;
    fn target(&self) -> Target;

    /// The form its texts take.
    fn medium(&self) -> Medium;

    /// Hands `batch` over (at most `limits().batch` messages, one request) and
    /// returns one outcome for each, in order. Never panics, never blocks for
    /// longer than its declared time-out.
    fn send<'a>(&'a self, batch: &'a [Outgoing]) -> BoxFuture<'a, Vec<Outcome>>;

    /// From now on this process sends at this rate, in parts a second: what it was
    /// granted of the channel's, or what an operator set.
    fn pace(&self, _rate: f64) {}

    /// Reads the receipts in a callback.
    fn receipts(&self, callback: &Callback<'_>) -> Result<Intake, CallbackError>;

    /// Reads the receipts in a callback of one of the channel's gateways, by its name.
    fn receipts_of(&self, _gateway: &str, _callback: &Callback<'_>) -> Result<Intake, CallbackError> {
        Err(CallbackError::NotTaken)
    }

    /// The Maildir that bounces of this channel come to, where it has one.
    fn bounces(&self) -> Option<&Path> {
        None
    }

    /// Reads the receipts in a bounce, a mail that came to the site.
    fn bounce(&self, _mail: &[u8]) -> Result<Vec<Receipt>, CallbackError> {
        Err(CallbackError::NotTaken)
    }

    /// Greets the gateway and sends nothing: where it is, or why it does not answer.
    /// `None` where a channel has no greeting.
    fn probe(&self) -> BoxFuture<'_, Option<Result<String, String>>> {
        std::future::ready(None).boxed()
    }

    /// Whether what people answer comes back.
    fn hears_replies(&self) -> bool {
        false
    }

    /// Reads what people answered in a callback.
    fn replies(&self, _callback: &Callback<'_>) -> Result<Heard, CallbackError> {
        Err(CallbackError::NotTaken)
    }
}
