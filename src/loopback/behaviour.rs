//! How a loopback gateway behaves: what share of requests goes wrong, and how.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::LoopbackError;

/// The longest time a behaviour may name, in milliseconds (a day).
const LONGEST: u64 = 86_400_000;

/// What an outcome hangs on, besides the seed and the count of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// The numbers and the text: the same counts where client ids change from run to run.
    #[default]
    To,
    /// The client id; requests without one fall back to numbers and text.
    Id,
}

impl FromStr for By {
    type Err = LoopbackError;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "to" => Ok(Self::To),
            "id" => Ok(Self::Id),
            _ => Err(LoopbackError::By(word.to_owned())),
        }
    }
}

/// A time in milliseconds, fixed (`20`) or drawn evenly from a range (`"10-50"`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    pub min: u64,
    pub max: u64,
}

impl Span {
    /// Always `ms` milliseconds.
    #[must_use]
    pub const fn fixed(ms: u64) -> Self {
        Self { min: ms, max: ms }
    }

    /// The time that the number `drawn` stands for.
    #[must_use]
    pub fn pick(self, drawn: u32) -> Duration {
        let width = self.max.saturating_sub(self.min) + 1;
        Duration::from_millis(self.min + ((u64::from(drawn) * width) >> 32))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max { write!(f, "{}", self.min) } else { write!(f, "{}-{}", self.min, self.max) }
    }
}

impl FromStr for Span {
    type Err = LoopbackError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || LoopbackError::Span(text.to_owned());
        let number = |part: &str| part.trim().parse::<u64>().map_err(|_| wrong());
        let (min, max) = match text.split_once('-') {
            Some((min, max)) => (number(min)?, number(max)?),
            None => (number(text)?, number(text)?),
        };
        if min > max || max > LONGEST { Err(wrong()) } else { Ok(Self { min, max }) }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.min == self.max { serializer.serialize_u64(self.min) } else { serializer.collect_str(self) }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Number(u64),
            Text(String),
        }
        let text = match Form::deserialize(deserializer)? {
            Form::Number(ms) => ms.to_string(),
            Form::Text(text) => text,
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What a gateway does with requests and receipts. Shares run from 0 to 1.
///
/// Every share is drawn from a hash of `seed`, the message (see [`By`]) and the
/// count of requests for it, so a seed fixes the counts whatever the timing.
/// `rate` and `throttle_for` alone depend on time; what they refuse does not
/// count as a request for a later draw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Behaviour {
    pub seed: u64,
    pub by: By,
    /// Before every answer, in milliseconds.
    pub latency: Span,
    /// Refused for now: 503.
    pub temporary: f64,
    /// Refused for good: 403 as Kannel, 400 as the JSON gateway.
    pub permanent: f64,
    /// 429 with `retry_after`.
    pub throttle: f64,
    /// Taken, then the connection closes without an answer.
    pub lost_answer: f64,
    /// Taken, then the connection closes in the middle of the answer.
    pub half_answer: f64,
    /// Answered late, by `slow_by` more.
    pub slow: f64,
    /// Milliseconds that a slow answer takes longer.
    pub slow_by: Span,
    /// Kannel's "3: Queued for later delivery" instead of "0: Accepted for delivery".
    pub queued: f64,
    /// What Retry-After says, in seconds.
    pub retry_after: u32,
    /// Messages a second (one a number); 429 above it. 0: as many as come.
    pub rate: f64,
    /// Messages that may come at once under `rate`. 0: one second's worth.
    pub burst: u32,
    /// Seconds from the first request during which `throttle_for_share` is throttled.
    pub throttle_for: f64,
    pub throttle_for_share: f64,
    /// A repeated client id is answered as before and sends no second message.
    pub dedupe: bool,
    /// Delivered; unset: whatever is neither undelivered nor without a receipt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivered: Option<f64>,
    pub undelivered: f64,
    pub no_receipt: f64,
    /// From acceptance to the final word, in milliseconds.
    pub receipt_delay: Span,
    /// The final word comes later, by `late_by` more.
    pub late: f64,
    /// Milliseconds that a late word takes longer.
    pub late_by: Span,
    /// The final word comes before the answer to the request.
    pub receipt_before_answer: f64,
    /// The final word comes twice.
    pub doubled: f64,
    /// An earlier word ("buffered", "accepted") comes after the final one.
    pub disordered: f64,
    /// The JSON gateway reports every part of a long message by itself.
    pub receipt_per_part: bool,
    /// Receipts that the JSON gateway puts into one callback at most.
    pub receipt_batch: usize,
    /// Seconds for which a receipt is offered again to a receiver that is down.
    pub receipt_retry_for: u64,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            seed: 1,
            by: By::To,
            latency: Span::fixed(0),
            temporary: 0.0,
            permanent: 0.0,
            throttle: 0.0,
            lost_answer: 0.0,
            half_answer: 0.0,
            slow: 0.0,
            slow_by: Span::fixed(10_000),
            queued: 0.0,
            retry_after: 1,
            rate: 0.0,
            burst: 0,
            throttle_for: 0.0,
            throttle_for_share: 0.5,
            dedupe: false,
            delivered: None,
            undelivered: 0.0,
            no_receipt: 0.0,
            receipt_delay: Span::fixed(100),
            late: 0.0,
            late_by: Span::fixed(60_000),
            receipt_before_answer: 0.0,
            doubled: 0.0,
            disordered: 0.0,
            receipt_per_part: false,
            receipt_batch: 100,
            receipt_retry_for: 300,
        }
    }
}

impl Behaviour {
    /// Refuses shares outside 0 to 1, shares of one whole that exceed it, and
    /// rates and times that are no numbers.
    pub fn check(&self) -> Result<(), LoopbackError> {
        let refusals = [
            ("temporary", self.temporary),
            ("permanent", self.permanent),
            ("throttle", self.throttle),
            ("lost_answer", self.lost_answer),
            ("half_answer", self.half_answer),
        ];
        let receipts = [
            ("delivered", self.delivered.unwrap_or(0.0)),
            ("undelivered", self.undelivered),
            ("no_receipt", self.no_receipt),
        ];
        let others = [
            ("slow", self.slow),
            ("queued", self.queued),
            ("throttle_for_share", self.throttle_for_share),
            ("late", self.late),
            ("receipt_before_answer", self.receipt_before_answer),
            ("doubled", self.doubled),
            ("disordered", self.disordered),
        ];
        for (field, value) in refusals.iter().chain(&receipts).chain(&others) {
            if !(0.0..=1.0).contains(value) {
                return Err(LoopbackError::Share { field, value: *value });
            }
        }
        for whole in [&refusals[..], &receipts[..]] {
            let sum: f64 = whole.iter().map(|(_, value)| value).sum();
            if sum > 1.0 + 1e-9 {
                let fields = whole.iter().map(|(field, _)| *field).collect::<Vec<_>>().join(" + ");
                return Err(LoopbackError::Sum { fields, sum });
            }
        }
        for (field, value) in [("rate", self.rate), ("throttle_for", self.throttle_for)] {
            if !value.is_finite() || value < 0.0 {
                return Err(LoopbackError::Number { field, value });
            }
        }
        Ok(())
    }

    /// This behaviour with the fields of the JSON object `patch` in their place.
    pub fn patched(&self, patch: &[u8]) -> Result<Self, LoopbackError> {
        let patch: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(patch)?;
        let mut whole = serde_json::to_value(self)?;
        if let Some(fields) = whole.as_object_mut() {
            fields.extend(patch);
        }
        let patched: Self = serde_json::from_value(whole)?;
        patched.check()?;
        Ok(patched)
    }
}

/// The behaviour that holds now; it can change while the gateway runs.
#[derive(Debug)]
pub struct Current(RwLock<Arc<Behaviour>>);

impl Current {
    pub fn new(behaviour: Behaviour) -> Self {
        Self(RwLock::new(Arc::new(behaviour)))
    }

    pub fn get(&self) -> Arc<Behaviour> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn set(&self, behaviour: Behaviour) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(behaviour);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_and_write_both_forms() {
        assert_eq!("20".parse::<Span>().unwrap(), Span::fixed(20));
        assert_eq!("10-50".parse::<Span>().unwrap(), Span { min: 10, max: 50 });
        for wrong in ["", "x", "50-10", "-5", "999999999999"] {
            assert!(wrong.parse::<Span>().is_err(), "{wrong}");
        }
        let behaviour: Behaviour = toml::from_str("latency = \"5-9\"\nreceipt_delay = 30\nby = \"id\"").unwrap();
        assert_eq!(behaviour.latency, Span { min: 5, max: 9 });
        assert_eq!(behaviour.receipt_delay, Span::fixed(30));
        let again: Behaviour = toml::from_str(&toml::to_string(&behaviour).unwrap()).unwrap();
        assert_eq!(again, behaviour);
    }

    #[test]
    fn a_range_is_drawn_to_both_ends() {
        let span = Span { min: 10, max: 12 };
        assert_eq!(span.pick(0), Duration::from_millis(10));
        assert_eq!(span.pick(u32::MAX), Duration::from_millis(12));
    }

    #[test]
    fn impossible_shares_are_refused() {
        let base = Behaviour::default();
        assert!(base.check().is_ok());
        assert!(base.patched(br#"{"temporary": 0.6, "permanent": 0.5}"#).is_err());
        assert!(base.patched(br#"{"undelivered": 1.5}"#).is_err());
        assert!(base.patched(br#"{"delivered": 0.9, "no_receipt": 0.2}"#).is_err());
        assert!(base.patched(br#"{"tempory": 0.1}"#).is_err());
        assert!(base.patched(br#"{"rate": -1}"#).is_err());
        let changed = base.patched(br#"{"lost_answer": 0.25, "dedupe": true}"#).unwrap();
        assert_eq!(changed, Behaviour { lost_answer: 0.25, dedupe: true, ..base });
    }
}
