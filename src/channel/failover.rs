//! Several gateways behind one channel: messages go to each by its share, which
//! drifts from one that errs or is slow, and back (`weights`).
//!
//! What a gateway certainly did not take — it could not be reached, refused our
//! credentials, or was over its rate — is handed to the next one at once, under the
//! same client id. What it refused for now (5xx) comes back by the ordinary retry, as a
//! new attempt, and may then go to another.
//!
//! *Repeats.* After an answer that was never heard the same client id may go out again,
//! and only the gateway that had it can tell that it is the same. Which one that was is
//! remembered while the program runs, not across a restart, so the channel as a whole
//! never promises to know a repeat (`idempotent = false`): the item's kind decides, as
//! for any gateway that cannot tell. A routine notice waits for its receipt; an alert
//! is repeated — to the same gateway where that one is idempotent and remembered, so
//! that nobody is told twice, else to whichever does best. The ledger shows both
//! attempts with the gateways' names.
//!
//! *Ids.* Two gateways may give the same id to different messages, so ids carry the
//! gateway's name (`kannel:17`). Each reads its own callbacks, at
//! `/callbacks/CHANNEL/GATEWAY`; the plain path is the first one's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Callback, CallbackError, Channel, Class, Evidence, Intake, Limits, Outcome, Outgoing, ReceiptKey, Target};
use crate::render::Medium;

mod weights;

use weights::{Heard, Weights};

/// How long a gateway counts as full that does not say: at least this.
const FULL: Duration = Duration::from_secs(1);
/// It is asked again after this, whatever it said.
const FULL_AT_MOST: Duration = Duration::from_secs(30);
/// Unheard messages remembered; beyond it all are forgotten, and go by the item's kind.
const REMEMBERED: usize = 10_000;

/// One of the gateways.
pub struct Member {
    /// Unique within the channel; part of ids, codes and the callback's path.
    pub name: String,
    pub channel: Arc<dyn Channel>,
}

/// A channel over two or more gateways of one target.
pub struct Failover {
    /// The channel's name, for the log.
    name: String,
    members: Vec<Member>,
    limits: Limits,
    weights: Mutex<Weights>,
    /// Who has a message whose answer was not heard.
    unheard: Mutex<HashMap<Uuid, usize>>,
}

impl Failover {
    /// `None` where the gateways do not go to the same targets in the same form, or
    /// there is none.
    #[must_use]
    pub fn new(name: &str, members: Vec<Member>) -> Option<Self> {
        let first = &members.first()?.channel;
        let aim = (first.target(), first.medium());
        if members.iter().any(|m| (m.channel.target(), m.channel.medium()) != aim) {
            return None;
        }
        let all: Vec<&Limits> = members.iter().map(|m| m.channel.limits()).collect();
        let rates: Vec<f64> = all.iter().map(|l| l.rate).collect();
        let limits = joint(&all)?;
        let weights = Mutex::new(Weights::new(&rates, Instant::now()));
        Some(Self { name: name.to_owned(), members, limits, weights, unheard: Mutex::default() })
    }

    fn weights(&self) -> MutexGuard<'_, Weights> {
        self.weights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unheard(&self) -> MutexGuard<'_, HashMap<Uuid, usize>> {
        self.unheard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The gateway that had this message and can tell that it comes again.
    fn had_by(&self, message: &Outgoing) -> Option<usize> {
        let had = self.unheard().get(&message.client_id).copied();
        had.filter(|i| self.members[*i].channel.limits().idempotent)
    }

    /// Hands messages to `first`, or whoever is due, and what was certainly not taken
    /// to the others.
    async fn hand_over(&self, batch: &[&Outgoing], first: Option<usize>) -> Vec<Outcome> {
        let mut order = self.weights().order(Instant::now());
        if let Some(first) = first {
            order.retain(|i| *i != first);
            order.insert(0, first);
        }
        let mut outcomes: Vec<Option<Outcome>> = vec![None; batch.len()];
        let mut left: Vec<usize> = (0..batch.len()).collect();
        for gateway in order {
            if left.is_empty() {
                break;
            }
            let some: Vec<Outgoing> = left.iter().map(|i| batch[*i].clone()).collect();
            let said = self.send_by(gateway, &some).await;
            let mut on = Vec::new();
            for (i, outcome) in left.into_iter().zip(said) {
                if passes_on(&outcome) {
                    on.push(i);
                }
                if outcomes[i].as_ref().is_none_or(|before| rank(before) <= rank(&outcome)) {
                    outcomes[i] = Some(self.named(gateway, outcome));
                }
            }
            left = on;
        }
        let lost = || Outcome::Failed { class: Class::Unreachable, code: String::new(), retry_after: None };
        outcomes.into_iter().map(|o| o.unwrap_or_else(lost)).collect()
    }

    /// Sends by one gateway within its own rate, and takes note of how it did.
    async fn send_by(&self, gateway: usize, some: &[Outgoing]) -> Vec<Outcome> {
        let parts = some.iter().map(|m| m.parts).sum();
        let at = self.weights().reserve(gateway, parts, Instant::now());
        tokio::time::sleep_until(at).await;
        let began = Instant::now();
        let said = self.members[gateway].channel.send(some).await;
        let now = Instant::now();
        self.weights().returned(gateway);
        for (message, outcome) in some.iter().zip(&said) {
            self.remember(gateway, message, outcome);
            let turned = self.weights().heard(gateway, heard(outcome, now - began), now);
            self.tell(gateway, turned, outcome);
        }
        said
    }

    fn remember(&self, gateway: usize, message: &Outgoing, outcome: &Outcome) {
        let mut unheard = self.unheard();
        if matches!(outcome, Outcome::Failed { class: Class::Unknown, .. }) {
            if unheard.len() >= REMEMBERED {
                unheard.clear();
            }
            unheard.insert(message.client_id, gateway);
        } else if unheard.get(&message.client_id) == Some(&gateway) {
            unheard.remove(&message.client_id);
        }
    }

    fn tell(&self, gateway: usize, turned: Option<bool>, outcome: &Outcome) {
        let (channel, gateway) = (&self.name, &self.members[gateway].name);
        let code = if let Outcome::Failed { code, .. } = outcome { code.as_str() } else { "" };
        match turned {
            Some(true) => tracing::warn!(channel, gateway, code, "the gateway errs; its share goes to the others"),
            Some(false) => tracing::info!(channel, gateway, "the gateway answers again; its share comes back"),
            None => {}
        }
    }

    /// The outcome with the gateway's name in its code and its ids.
    fn named(&self, gateway: usize, outcome: Outcome) -> Outcome {
        let name = &self.members[gateway].name;
        let code_of = |code: String| if code.is_empty() { name.clone() } else { format!("{name}: {code}") };
        match outcome {
            Outcome::Accepted { gateway_ids, code } => Outcome::Accepted {
                gateway_ids: gateway_ids.into_iter().map(|id| format!("{name}:{id}")).collect(),
                code: code_of(code),
            },
            Outcome::Failed { class, code, retry_after } => Outcome::Failed { class, code: code_of(code), retry_after },
        }
    }
}

impl Member {
    /// Reads a callback of this gateway, its ids with its name.
    fn read(&self, callback: &Callback<'_>) -> Result<Intake, CallbackError> {
        let mut intake = self.channel.receipts(callback)?;
        for receipt in &mut intake.receipts {
            if let ReceiptKey::Gateway(id) = &mut receipt.key
                && !id.is_empty()
            {
                *id = format!("{}:{id}", self.name);
            }
        }
        Ok(intake)
    }
}

/// What the channel bears and promises: the rates of all, else what the least of them does.
fn joint(all: &[&Limits]) -> Option<Limits> {
    let receipts = all.iter().all(|l| l.evidence == Evidence::Receipts);
    Some(Limits {
        rate: all.iter().map(|l| l.rate).sum(),
        in_flight: all.iter().map(|l| l.in_flight).sum(),
        window: all.iter().map(|l| l.window).sum(),
        batch: all.iter().map(|l| l.batch).min()?,
        max_parts: all.iter().map(|l| l.max_parts).min()?,
        evidence: if receipts { Evidence::Receipts } else { Evidence::AcceptOnly },
        receipt_wait: all.iter().map(|l| l.receipt_wait).max()?,
        idempotent: false,
        price_milli: all.iter().map(|l| l.price_milli).max()?,
        max_bytes: all.iter().filter_map(|l| l.max_bytes).min(),
        read_on: all.iter().find_map(|l| l.read_on.clone()),
    })
}

fn heard(outcome: &Outcome, took: Duration) -> Heard {
    let Outcome::Failed { class, retry_after, .. } = outcome else { return Heard::Answered(took) };
    match class {
        Class::Throttled => Heard::Full(retry_after.unwrap_or(FULL).clamp(FULL, FULL_AT_MOST)),
        Class::Permanent | Class::AddressGone => Heard::Answered(took),
        Class::Temporary | Class::Misconfigured | Class::Unknown | Class::Unreachable | Class::Withdrawn => {
            Heard::Erred
        }
    }
}

/// The gateway certainly did not take it, and another might.
fn passes_on(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Failed { class: Class::Throttled | Class::Unreachable | Class::Misconfigured | Class::Withdrawn, .. }
    )
}

/// Of several refusals the one that promises most is the channel's answer.
fn rank(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Failed { class: Class::Withdrawn, .. } => 0,
        Outcome::Failed { class: Class::Misconfigured, .. } => 1,
        Outcome::Failed { class: Class::Unreachable, .. } => 2,
        Outcome::Failed { class: Class::Throttled, .. } => 3,
        _ => 4,
    }
}

impl Channel for Failover {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn target(&self) -> Target {
        self.members[0].channel.target()
    }

    fn medium(&self) -> Medium {
        self.members[0].channel.medium()
    }

    fn send<'a>(&'a self, batch: &'a [Outgoing]) -> BoxFuture<'a, Vec<Outcome>> {
        async move {
            let mut groups: HashMap<Option<usize>, Vec<usize>> = HashMap::new();
            for (i, message) in batch.iter().enumerate() {
                groups.entry(self.had_by(message)).or_default().push(i);
            }
            let mut outcomes: Vec<(usize, Outcome)> = Vec::with_capacity(batch.len());
            for (had, of) in groups {
                let some: Vec<&Outgoing> = of.iter().map(|i| &batch[*i]).collect();
                outcomes.extend(of.into_iter().zip(self.hand_over(&some, had).await));
            }
            outcomes.sort_by_key(|(i, _)| *i);
            outcomes.into_iter().map(|(_, outcome)| outcome).collect()
        }
        .boxed()
    }

    fn pace(&self, rate: f64) {
        self.weights().pace(rate / self.limits.rate, Instant::now());
    }

    fn receipts(&self, callback: &Callback<'_>) -> Result<Intake, CallbackError> {
        self.members[0].read(callback)
    }

    fn receipts_of(&self, gateway: &str, callback: &Callback<'_>) -> Result<Intake, CallbackError> {
        self.members.iter().find(|m| m.name == gateway).ok_or(CallbackError::NotTaken)?.read(callback)
    }
}

#[cfg(test)]
mod tests;
