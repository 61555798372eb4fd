//! E-mail over SMTP: kept connections on sockets of ours, commands and contents in
//! one go where the server pipelines (RFC 2920), and what each answer proves.
//!
//! lettre writes the MIME parts and speaks SMTP. Its own pool is not used: it leaves
//! Nagle's algorithm on, which costs 40 ms a mail.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::registry::{Parts, RegistryError};
use super::{Callback, CallbackError, Channel, Class, Intake, Limits, Outcome, Outgoing, Receipt, Target};
use crate::render::Medium;

mod bounce;
mod class;
mod link;
mod message;
mod pool;
mod settings;
mod tls;

use class::{Refusal, Stage};
use link::{Heard, Opened, Reply};
use message::{Mail, Writer};
use pool::{Link, Pool};
use settings::Settings;

/// A mail server (MTA) that takes our mail.
pub struct Email {
    limits: Limits,
    timeout: Duration,
    writer: Writer,
    pool: Arc<Pool>,
    settings: Arc<Settings>,
}

impl Email {
    /// Reads a declaration.
    ///
    /// # Errors
    /// The setting that is missing or makes no sense.
    pub(super) fn build(parts: Parts<'_>) -> Result<Self, RegistryError> {
        let settings = Arc::new(Settings::read(&parts)?);
        let writer = Writer::new(Arc::clone(&settings), parts.site);
        let pool = Arc::new(Pool::new(Arc::clone(&settings), parts.limits.in_flight, parts.timeout));
        Ok(Self { limits: parts.limits, timeout: parts.timeout, writer, pool, settings })
    }

    async fn send_all(&self, batch: &[Outgoing]) -> Vec<Outcome> {
        let mut sending = Sending { outcomes: vec![None; batch.len()], mails: Vec::new() };
        for (index, message) in batch.iter().enumerate() {
            match self.writer.mail(message) {
                Ok(mail) => sending.mails.push((index, mail)),
                Err(code) => sending.outcomes[index] = Some(failed(Class::Permanent, code)),
            }
        }
        self.run(&mut sending).await;
        let unsaid = || failed(Class::Unknown, "not accounted for".to_owned());
        sending.outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(unsaid)).collect()
    }

    /// Hands mails over one after another: the content of one and the opening of the
    /// next go out together. No mail is begun after the declared time-out.
    async fn run(&self, sending: &mut Sending) {
        let until = Instant::now() + self.timeout;
        let (mut at, mut granted) = (0, None);
        let mut link: Option<Link> = None;
        while granted.is_some() || at < sending.mails.len() {
            if granted.is_none() && Instant::now() >= until {
                sending.rest(at, Class::Throttled, "the server is slow: no time left");
                break;
            }
            let mut on = match link.take() {
                Some(on) => on,
                None => match self.pool.take().await {
                    Ok(on) => on,
                    Err(Refusal { class, code }) => {
                        sending.rest(at, class, &code);
                        return;
                    }
                },
            };
            let more =
                (at < sending.mails.len() && Instant::now() < until && on.has_room(granted.iter().len())).then_some(at);
            let fresh = on.is_fresh();
            let mails = &sending.mails;
            let heard = on.step(granted.map(|i: usize| &mails[i].1), more.map(|i| &mails[i].1)).await;
            granted = sending.note(heard, (granted, more), fresh);
            // What a connection that had served before broke off goes on a new one.
            at = more.map_or(at, |i| if sending.is_settled(i) || granted == Some(i) { i + 1 } else { i });
            if granted.is_some() || on.has_room(0) {
                link = Some(on).filter(|on| !on.is_closed());
            } else {
                self.pool.put(on);
            }
        }
        if let Some(link) = link {
            self.pool.put(link);
        }
    }
}

/// A batch on its way.
struct Sending {
    outcomes: Vec<Option<Outcome>>,
    /// Place in the batch, and the mail.
    mails: Vec<(usize, Mail)>,
}

impl Sending {
    fn settle(&mut self, mail: usize, outcome: Outcome) {
        let (index, _) = self.mails[mail];
        self.outcomes[index] = Some(outcome);
    }

    fn is_settled(&self, mail: usize) -> bool {
        self.outcomes[self.mails[mail].0].is_some()
    }

    fn rest(&mut self, from: usize, class: Class, code: &str) {
        for mail in from..self.mails.len() {
            self.settle(mail, failed(class, code.to_owned()));
        }
    }

    /// Notes what was heard of the content of one mail and the opening of another;
    /// returns the one whose content may come now.
    fn note(&mut self, heard: Heard, (content, opening): (Option<usize>, Option<usize>), fresh: bool) -> Option<usize> {
        if let Some(mail) = content {
            let to = &self.mails[mail].1.to;
            let outcome = match heard.content {
                Some(Reply::Yes(code, text)) => {
                    Outcome::Accepted { gateway_ids: Vec::new(), code: class::word(code, &text, to) }
                }
                Some(Reply::No(code, text)) => {
                    failed(class::of(Stage::Content, code, &text), class::word(code, &text, to))
                }
                Some(Reply::Broken(why)) => failed(Class::Unknown, why),
                None => failed(Class::Unknown, "the connection broke".to_owned()),
            };
            self.settle(mail, outcome);
        }
        let mail = opening?;
        let to = &self.mails[mail].1.to;
        match heard.open {
            Some(Opened::Granted) => return Some(mail),
            // A connection kept too long: the mail goes on a new one.
            Some(Opened::Refused(_, 421, _)) | None if !fresh => {}
            Some(Opened::Broken(_)) if !fresh => {}
            Some(Opened::Refused(stage, code, text)) => {
                let outcome = failed(class::of(stage, code, &text), class::word(code, &text, to));
                self.settle(mail, outcome);
            }
            Some(Opened::Broken(why)) => self.settle(mail, failed(Class::Unreachable, why)),
            None => self.settle(mail, failed(Class::Unreachable, "the connection broke".to_owned())),
        }
        None
    }
}

fn failed(class: Class, code: String) -> Outcome {
    Outcome::Failed { class, code, retry_after: None }
}

impl Channel for Email {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn target(&self) -> Target {
        Target::Address(super::AddressKind::Email)
    }

    fn medium(&self) -> Medium {
        Medium::Email
    }

    fn send<'a>(&'a self, batch: &'a [Outgoing]) -> BoxFuture<'a, Vec<Outcome>> {
        self.send_all(batch).boxed()
    }

    fn receipts(&self, callback: &Callback<'_>) -> Result<Intake, CallbackError> {
        let token = self.settings.token.as_ref().ok_or(CallbackError::NotTaken)?;
        bounce::authenticate(callback, token.expose())?;
        Ok(Intake {
            receipts: self.bounce(callback.body)?,
            reply_status: 200,
            reply_type: "text/plain; charset=utf-8".to_owned(),
            reply_body: "ok\n".to_owned(),
        })
    }

    fn bounces(&self) -> Option<&Path> {
        self.settings.bounces.as_deref()
    }

    fn bounce(&self, mail: &[u8]) -> Result<Vec<Receipt>, CallbackError> {
        bounce::read(mail)
    }

    fn probe(&self) -> BoxFuture<'_, Option<Result<String, String>>> {
        async move {
            let at = self.settings.at();
            Some(match self.pool.take().await {
                Ok(link) => {
                    self.pool.put(link);
                    Ok(at)
                }
                Err(Refusal { code, .. }) => Err(format!("{at}: {code}")),
            })
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests;
