//! Messages over HTTP: any gateway, chat robot or webhook a declaration describes.
//!
//! One request a group of equal texts; templates compiled once; the class of every
//! failure says whether the gateway can have taken the message.

use std::sync::Mutex;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};

use super::registry::{Parts, RegistryError};
use super::{Callback, CallbackError, Channel, Class, Heard, Intake, Limits, Outcome, Outgoing, Target};
use crate::clock::Clock;
use crate::render::Medium;

mod answer;
mod auth;
mod client;
mod guard;
mod heard;
mod link;
mod place;
mod receipt;
mod request;

use answer::Answers;
use client::{Client, Failure};
pub(super) use guard::forbidden;
use heard::Replies;
use receipt::Receipts;
use request::{Desk, Requests};

/// A gateway behind HTTP.
pub struct Http {
    limits: Limits,
    target: Target,
    medium: Medium,
    requests: Requests,
    answers: Answers,
    receipts: Option<Receipts>,
    replies: Option<Replies>,
    client: Client,
    clock: Clock,
    /// Nobody makes a request on these now.
    desks: Mutex<Vec<Desk>>,
}

impl Http {
    /// Compiles a declaration.
    ///
    /// # Errors
    /// What is wrong in it, with its place.
    pub(super) fn build(parts: Parts<'_>) -> Result<Self, RegistryError> {
        let requests = Requests::build(&parts)?;
        let answers = Answers::build(&parts)?;
        let receipts = Receipts::build(&parts)?;
        let replies = Replies::build(&parts)?;
        let (target, medium) = parts.declaration.aim();
        let client = Client::new(parts.limits.in_flight, parts.timeout);
        Ok(Self {
            limits: parts.limits,
            target,
            medium,
            requests,
            answers,
            receipts,
            replies,
            client,
            clock: parts.site.clock.clone(),
            desks: Mutex::default(),
        })
    }

    async fn send_group(&self, group: Vec<&Outgoing>) -> Vec<Outcome> {
        let request = {
            let free = self.desks.lock().ok().and_then(|mut desks| desks.pop());
            let mut desk = free.unwrap_or_else(|| self.requests.desk());
            let made = self.requests.make(&mut desk, &group, self.clock.now());
            if let Ok(mut desks) = self.desks.lock() {
                desks.push(desk);
            }
            made
        };
        let outcome = match request {
            Err(why) => failed(Class::Misconfigured, why),
            Ok(request) => match self.client.exchange(request).await {
                Ok(exchange) => return self.answers.read(&exchange, &group, self.clock.now()),
                Err(Failure::Refused(why)) => failed(Class::Misconfigured, why),
                Err(Failure::Unsent(why)) => failed(Class::Unreachable, why),
                Err(Failure::Unheard(why)) => failed(Class::Unknown, why),
            },
        };
        vec![outcome; group.len()]
    }
}

fn failed(class: Class, code: String) -> Outcome {
    Outcome::Failed { class, code, retry_after: None }
}

/// Splits a batch into requests: equal texts share one, as far as the gateway takes several.
fn groups(batch: &[Outgoing], most: usize) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (index, message) in batch.iter().enumerate() {
        let room =
            (most > 1).then(|| groups.iter_mut().rev().find(|g| g.len() < most && batch[g[0]].text == message.text));
        match room.flatten() {
            Some(group) => group.push(index),
            None => groups.push(vec![index]),
        }
    }
    groups
}

impl Channel for Http {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn target(&self) -> Target {
        self.target
    }

    fn medium(&self) -> Medium {
        self.medium
    }

    fn send<'a>(&'a self, batch: &'a [Outgoing]) -> BoxFuture<'a, Vec<Outcome>> {
        async move {
            if let [one] = batch {
                return self.send_group(vec![one]).await;
            }
            let groups = groups(batch, self.limits.batch);
            let sent = groups.iter().map(|g| self.send_group(g.iter().map(|i| &batch[*i]).collect()));
            let mut outcomes = vec![failed(Class::Unknown, String::new()); batch.len()];
            for (group, results) in groups.iter().zip(join_all(sent).await) {
                for (index, outcome) in group.iter().zip(results) {
                    outcomes[*index] = outcome;
                }
            }
            outcomes
        }
        .boxed()
    }

    fn receipts(&self, callback: &Callback<'_>) -> Result<Intake, CallbackError> {
        self.receipts.as_ref().ok_or(CallbackError::NotTaken)?.read(callback)
    }

    fn hears_replies(&self) -> bool {
        self.replies.is_some()
    }

    fn replies(&self, callback: &Callback<'_>) -> Result<Heard, CallbackError> {
        self.replies.as_ref().ok_or(CallbackError::NotTaken)?.read(callback)
    }
}

#[cfg(test)]
pub(super) mod tests;
#[cfg(test)]
mod tests_receipts;
