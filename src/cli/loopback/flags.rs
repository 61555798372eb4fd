//! The behaviour of a loopback gateway as flags, one a field.

use clap::Args;
use serde::Serialize;

use crate::loopback::{Behaviour, By, LoopbackError, Span};

/// What a gateway of any kind may do with what comes, one flag a field.
#[derive(Debug, Args, Serialize)]
#[command(next_help_heading = "Behaviour")]
pub(super) struct Answers {
    /// Fixes what is drawn: the same seed, the same counts.
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    /// Time before every answer.
    #[arg(long, value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    latency: Option<Span>,
    /// Share refused for now.
    #[arg(long, value_name = "SHARE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    temporary: Option<f64>,
    /// Share refused for good.
    #[arg(long, value_name = "SHARE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    permanent: Option<f64>,
    /// Share throttled.
    #[arg(long, value_name = "SHARE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    throttle: Option<f64>,
    /// Share taken and never answered.
    #[arg(long, value_name = "SHARE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    lost_answer: Option<f64>,
    /// Share taken, the answer broken off in the middle.
    #[arg(long, value_name = "SHARE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    half_answer: Option<f64>,
    /// Share answered late.
    #[arg(long, value_name = "SHARE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    slow: Option<f64>,
    /// How much later a late answer comes.
    #[arg(long, value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    slow_by: Option<Span>,
    /// What Retry-After says, in seconds.
    #[arg(long, value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u32>,
}

/// Shares run from 0 to 1, times are milliseconds (20) or a range (10-50).
#[derive(Debug, Args, Serialize)]
#[command(next_help_heading = "Behaviour")]
pub(super) struct Flags {
    #[command(flatten)]
    #[serde(flatten)]
    answers: Answers,
    /// What an outcome hangs on: to (number and text) or id (client id).
    #[arg(long, value_name = "to|id")]
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<By>,
    /// Share that Kannel's interface says it queued.
    #[arg(long, value_name = "SHARE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    queued: Option<f64>,
    /// Messages a second; more are throttled.
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<f64>,
    /// Messages that may come at once under --rate.
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    burst: Option<u32>,
    /// Seconds from the first request during which a share is throttled.
    #[arg(long, value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    throttle_for: Option<f64>,
    /// The share throttled during --throttle-for.
    #[arg(long, value_name = "SHARE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    throttle_for_share: Option<f64>,
    /// Answer a repeated client id as before and send no second message.
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dedupe: bool,
    /// Share delivered; unset: all that is left.
    #[arg(long, value_name = "SHARE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    delivered: Option<f64>,
    /// Share not delivered.
    #[arg(long, value_name = "SHARE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    undelivered: Option<f64>,
    /// Share of which no receipt ever comes.
    #[arg(long, value_name = "SHARE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    no_receipt: Option<f64>,
    /// From acceptance to the receipt.
    #[arg(long, value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt_delay: Option<Span>,
    /// Share whose receipt comes late.
    #[arg(long, value_name = "SHARE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    late: Option<f64>,
    /// How much later a late receipt comes.
    #[arg(long, value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    late_by: Option<Span>,
    /// Share whose receipt comes before the answer.
    #[arg(long, value_name = "SHARE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt_before_answer: Option<f64>,
    /// Share whose receipt comes twice.
    #[arg(long, value_name = "SHARE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    doubled: Option<f64>,
    /// Share whose earlier word comes after the final one.
    #[arg(long, value_name = "SHARE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    disordered: Option<f64>,
    /// A receipt for every part of a long message, on the JSON interface.
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    receipt_per_part: bool,
    /// Receipts in one callback at most, on the JSON interface.
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt_batch: Option<usize>,
    /// Seconds for which a receipt is offered again.
    #[arg(long, value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt_retry_for: Option<u64>,
}

impl Flags {
    /// `base` with every flag that was given in its place.
    pub(super) fn over(&self, base: &Behaviour) -> Result<Behaviour, LoopbackError> {
        base.patched(&serde_json::to_vec(self)?)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Only {
        #[command(flatten)]
        flags: Flags,
    }

    #[test]
    fn every_field_of_a_behaviour_has_a_flag() {
        let given = [
            "x --seed 7 --by id --latency 10-50 --temporary 0.01 --permanent 0.02 --throttle 0.03 --lost-answer 0.04",
            "--half-answer 0.05 --slow 0.06 --slow-by 70 --queued 0.08 --retry-after 9 --rate 10 --burst 11",
            "--throttle-for 12 --throttle-for-share 0.13 --dedupe --delivered 0.14 --undelivered 0.15 --no-receipt 0.16",
            "--receipt-delay 17 --receipt-before-answer 0.18 --doubled 0.19 --disordered 0.2 --receipt-per-part",
            "--receipt-batch 21 --receipt-retry-for 22 --late 0.23 --late-by 24",
        ]
        .join(" ");
        let flags = Only::try_parse_from(given.split(' ')).unwrap().flags;
        let base = Behaviour::default();
        let (changed, base) = (flags.over(&base).unwrap(), base);
        let (changed, base) = (serde_json::to_value(&changed).unwrap(), serde_json::to_value(&base).unwrap());
        for (field, value) in changed.as_object().unwrap() {
            assert_ne!(Some(value), base.get(field), "{field} has no flag");
        }
    }
}
