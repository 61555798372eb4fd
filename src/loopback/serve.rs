//! The gateway's requests: from the path to the answer, or to its absence.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::{BodyExt as _, Either, Full, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::oneshot;
use tokio::time::Sleep;

use super::Credentials;
use super::behaviour::{Behaviour, Current};
use super::draw;
use super::json::{self, Signer};
use super::kannel;
use super::ledger::{Accepted, Fate, Ledger, Marks, Message, Stats, Verdict, delay};
use super::media::{Media, Vendor};
use super::parts;
use super::receipts::{Outbox, Post, words};
use crate::clock::Clock;

/// Bytes that a request's body may hold.
const MAX_BODY: usize = 4 << 20;
/// How long an answer waits for a receipt that is to come before it.
const BEFORE_ANSWER: Duration = Duration::from_secs(2);
/// Between the first half of an answer and the end of the connection.
const HALF_PAUSE: Duration = Duration::from_millis(20);

/// The connection ends here, on purpose.
#[derive(Debug, thiserror::Error)]
#[error("the answer was lost on purpose")]
pub struct Torn;

/// An answer, whole or torn.
pub type Answer = Response<Either<Full<Bytes>, Half>>;

/// The first half of an answer, after which the connection breaks.
pub struct Half {
    start: Option<Bytes>,
    whole: u64,
    pause: Pin<Box<Sleep>>,
}

impl Body for Half {
    type Data = Bytes;
    type Error = Torn;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Torn>>> {
        match self.start.take() {
            Some(start) => Poll::Ready(Some(Ok(Frame::data(start)))),
            None => self.pause.as_mut().poll(cx).map(|()| Some(Err(Torn))),
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.whole)
    }
}

/// What all connections share.
pub struct Gateway {
    pub credentials: Credentials,
    pub signer: Signer,
    pub behaviour: Arc<Current>,
    pub ledger: Mutex<Ledger>,
    pub media: Option<Media>,
    pub outbox: Outbox,
    pub clock: Clock,
}

impl Gateway {
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All counts.
    pub fn stats(&self) -> Stats {
        let mut stats = self.ledger().stats();
        let tally = &self.outbox.tally;
        stats.receipts_sent = tally.sent.load(Ordering::SeqCst);
        stats.receipts_failed = tally.failed.load(Ordering::SeqCst);
        stats.receipts_waiting = tally.waiting.load(Ordering::SeqCst);
        stats
    }

    /// Answers a request.
    ///
    /// # Errors
    /// When the behaviour is to close the connection without an answer.
    pub async fn handle(self: Arc<Self>, request: Request<Incoming>) -> Result<Answer, Torn> {
        let (head, body) = request.into_parts();
        let query = head.uri.query().unwrap_or_default();
        let body = if head.method == Method::POST {
            match Limited::new(body, MAX_BODY).collect().await {
                Ok(body) => body.to_bytes(),
                Err(_) => return Ok(plain(413, "body too large or cut off")),
            }
        } else {
            Bytes::new()
        };
        match (&head.method, head.uri.path()) {
            (&Method::GET, "/cgi-bin/sendsms") => self.kannel(query.as_bytes()).await,
            (&Method::POST, "/cgi-bin/sendsms") => {
                let both = [query.as_bytes(), &body].join(&b'&');
                self.kannel(&both).await
            }
            (&Method::POST, "/v1/messages") => self.json(&head.headers, &body).await,
            (method, path) => match Vendor::of(path).filter(|_| method == Method::POST) {
                Some(vendor) => self.post(vendor, (path, query), &head.headers, &body).await,
                None => Ok(self.manage(method, path, query, &body)),
            },
        }
    }

    fn manage(&self, method: &Method, path: &str, query: &str, body: &[u8]) -> Answer {
        match (method.as_str(), path) {
            ("GET", "/stats") => json_of(&self.stats()),
            ("GET", "/log") => {
                let since = query.strip_prefix("since=").and_then(|n| n.parse().ok()).unwrap_or(0);
                answer(200, "application/x-ndjson", self.ledger().log(since))
            }
            ("GET", "/posts") => match &self.media {
                Some(media) => answer(200, "application/json", media.posts()),
                None => plain(404, "not found"),
            },
            ("GET", "/behaviour") => json_of(&*self.behaviour.get()),
            ("POST", "/behaviour") => match self.behaviour.get().patched(body) {
                Ok(patched) => {
                    let shown = json_of(&patched);
                    self.behaviour.set(patched);
                    shown
                }
                Err(error) => plain(400, &error.to_string()),
            },
            ("POST", "/reset") => {
                self.ledger().reset();
                self.media.iter().for_each(Media::reset);
                self.outbox.tally.reset();
                plain(200, "")
            }
            _ => plain(404, "not found"),
        }
    }

    async fn kannel(&self, input: &[u8]) -> Result<Answer, Torn> {
        let request = match kannel::read(input, &self.credentials) {
            Ok(request) => request,
            Err((status, text)) => {
                self.ledger().refuse();
                return Ok(plain(status, text));
            }
        };
        let behaviour = self.behaviour.get();
        let to: Vec<&str> = request.to.iter().map(String::as_str).collect();
        let client_id = request.client_id.as_deref();
        let message = Message { client_id, to: &to, text: &request.text, parts: request.parts };
        let marks = message.marks(behaviour.by);
        let now = self.clock.now();
        let verdict = self.ledger().judge(&behaviour, &message, marks, now);
        let accepted = match verdict {
            Verdict::Throttled => return Ok(throttled(&behaviour, plain(429, kannel::TEMPORARY))),
            Verdict::Temporary(turn) => return refused(&behaviour, marks, turn, plain(503, kannel::TEMPORARY)).await,
            Verdict::Permanent(turn) => return refused(&behaviour, marks, turn, plain(403, kannel::PERMANENT)).await,
            Verdict::Accepted(accepted) => accepted,
        };
        // With several numbers Kannel gives all of them one id.
        let gateway_id = draw::gateway_id(behaviour.seed, accepted.client, accepted.n, 0);
        let mut before = Vec::new();
        for to in to.iter().filter(|_| !accepted.repeated && request.dlr_url.is_some()) {
            for word in words(&behaviour, receipt_key(&behaviour, &message, marks, to), accepted.turn) {
                let at = now + i64::try_from(word.after.as_millis()).unwrap_or(0);
                let report = kannel::Report { kind: word.kind, to, gateway_id: &gateway_id, at };
                if let Some(url) = kannel::callback(&request, &report) {
                    let post = Post::new(url.into(), None, word.after);
                    before.extend(self.put(post, word.first));
                }
            }
        }
        let text = if accepted.queued { kannel::QUEUED } else { kannel::ACCEPTED };
        finish(&behaviour, marks, &accepted, before, (202, "text/html", text.to_owned())).await
    }

    async fn json(&self, headers: &hyper::HeaderMap, body: &[u8]) -> Result<Answer, Torn> {
        let header = |name| headers.get(name).map_or(&b""[..], HeaderValue::as_bytes);
        if !self.signer.verify(header("x-timestamp"), body, header("x-signature")) {
            self.ledger().refuse();
            return Ok(refusal(401, "bad signature"));
        }
        let submission = match json::read(body) {
            Ok(submission) => submission,
            Err(error) => {
                self.ledger().refuse();
                return Ok(refusal(400, &error));
            }
        };
        let behaviour = self.behaviour.get();
        let to: Vec<&str> = submission.to.iter().map(AsRef::as_ref).collect();
        let parts = parts::shortest(&submission.text);
        let message = Message { client_id: Some(&submission.id), to: &to, text: &submission.text, parts };
        let marks = message.marks(behaviour.by);
        let verdict = self.ledger().judge(&behaviour, &message, marks, self.clock.now());
        let accepted = match verdict {
            Verdict::Throttled => return Ok(throttled(&behaviour, refusal(429, "too many requests"))),
            Verdict::Temporary(turn) => {
                return refused(&behaviour, marks, turn, refusal(503, "busy, try again later")).await;
            }
            Verdict::Permanent(turn) => {
                return refused(&behaviour, marks, turn, refusal(400, "refused for good")).await;
            }
            Verdict::Accepted(accepted) => accepted,
        };
        let ids: Vec<String> =
            (0..).zip(&to).map(|(i, _)| draw::gateway_id(behaviour.seed, accepted.client, accepted.n, i)).collect();
        let mut before = Vec::new();
        if let Some(callback) = submission.callback.as_deref().filter(|_| !accepted.repeated) {
            before = self.report(callback, &message, &ids, (&behaviour, marks, accepted.turn));
        }
        finish(&behaviour, marks, &accepted, before, (200, "application/json", json::answer(&ids))).await
    }

    fn report(
        &self,
        callback: &str,
        message: &Message<'_>,
        ids: &[String],
        (behaviour, marks, turn): (&Behaviour, Marks, u32),
    ) -> Vec<oneshot::Receiver<()>> {
        let callback: Arc<str> = callback.into();
        let now = self.clock.now();
        let mut before = Vec::new();
        for (to, id) in message.to.iter().zip(ids) {
            for word in words(behaviour, receipt_key(behaviour, message, marks, to), turn) {
                let Some(status) = json::status(word.kind) else { continue };
                let each = behaviour.receipt_per_part && message.parts > 1;
                for part in 1..=if each { message.parts } else { 1 } {
                    let item = json::Item {
                        id: id.clone(),
                        client_id: message.client_id.unwrap_or_default().to_owned(),
                        to: (*to).to_owned(),
                        status,
                        time: now + i64::try_from(word.after.as_millis()).unwrap_or(0),
                        part: each.then_some(part),
                    };
                    before.extend(self.put(Post::new(Arc::clone(&callback), Some(item), word.after), word.first));
                }
            }
        }
        before
    }

    fn put(&self, mut post: Post, first: bool) -> Option<oneshot::Receiver<()>> {
        let heard = first.then(|| {
            let (told, heard) = oneshot::channel();
            post.told.push(told);
            heard
        });
        self.outbox.put(post);
        heard
    }
}

/// One number of several has a fate of its own.
fn receipt_key(behaviour: &Behaviour, message: &Message<'_>, marks: Marks, to: &&str) -> draw::Key {
    use super::behaviour::By;
    match (behaviour.by, message.to.len()) {
        (_, 1) => marks.key,
        (By::To, _) => message.key_of(&[to]),
        (By::Id, _) => marks.client ^ draw::key(&[to]),
    }
}

pub async fn refused(behaviour: &Behaviour, marks: Marks, turn: u32, answer: Answer) -> Result<Answer, Torn> {
    wait(behaviour, marks, turn).await;
    Ok(answer)
}

async fn wait(behaviour: &Behaviour, marks: Marks, turn: u32) {
    let delay = delay(behaviour, marks, turn);
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}

pub async fn finish(
    behaviour: &Behaviour,
    marks: Marks,
    accepted: &Accepted,
    before: Vec<oneshot::Receiver<()>>,
    (status, kind, text): (u16, &'static str, String),
) -> Result<Answer, Torn> {
    wait(behaviour, marks, accepted.turn).await;
    if !before.is_empty() {
        // A receiver that waits for the answer first must get it at some time.
        let _ = tokio::time::timeout(BEFORE_ANSWER, join_all(before)).await;
    }
    match accepted.fate {
        Fate::Answered => Ok(answer(status, kind, text)),
        Fate::Lost => Err(Torn),
        Fate::Half => {
            let whole = text.len();
            let start = Some(Bytes::from(text).slice(..whole / 2));
            let pause = Box::pin(tokio::time::sleep(HALF_PAUSE));
            Ok(respond(status, kind, Either::Right(Half { start, whole: whole as u64, pause })))
        }
    }
}

pub fn throttled(behaviour: &Behaviour, mut answer: Answer) -> Answer {
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(behaviour.retry_after));
    answer
}

fn plain(status: u16, text: &str) -> Answer {
    answer(status, "text/html", text.to_owned())
}

fn refusal(status: u16, text: &str) -> Answer {
    answer(status, "application/json", json::refusal(status, text))
}

fn json_of<T: serde::Serialize>(value: &T) -> Answer {
    match serde_json::to_string(value) {
        Ok(text) => answer(200, "application/json", text),
        Err(error) => plain(500, &error.to_string()),
    }
}

pub fn answer(status: u16, kind: &'static str, text: String) -> Answer {
    respond(status, kind, Either::Left(Full::from(text)))
}

fn respond(status: u16, kind: &'static str, body: Either<Full<Bytes>, Half>) -> Answer {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
