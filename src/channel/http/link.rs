//! Connections to a gateway. Whoever sends on one drives it, in the same task: a task
//! of its own for each connection has to be woken on the way there and on the way
//! back, which costs as much as the request.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::Request;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::RETRY_AFTER;
use hyper::http::uri::{Authority, Scheme};
use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::client::{Exchange, MAX_ANSWER};
use crate::say;

/// How long an unused connection is kept; shorter than most gateways keep theirs,
/// since one that closes while a request leaves makes that message uncertain.
const IDLE: Duration = Duration::from_secs(15);

type Io = MaybeHttpsStream<TokioIo<TcpStream>>;
type Body = Full<Bytes>;

/// What a connection leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    pub scheme: Scheme,
    pub authority: Authority,
}

/// A connection.
pub(super) struct Link {
    sender: SendRequest<Body>,
    work: http1::Connection<Io, Body>,
}

/// Why an exchange came to nothing.
pub(super) enum Broken {
    /// The connection had ended before anything was written.
    Unsent(Box<Request<Body>>),
    /// Something was written and no whole answer heard.
    Unheard(String),
}

impl Link {
    pub(super) async fn over(io: Io) -> hyper::Result<Self> {
        // What is sent is small: one copy more costs less than a list of buffers.
        let (sender, work) = http1::Builder::new().writev(false).handshake(io).await?;
        Ok(Self { sender, work })
    }

    /// Sends the request and reads the whole answer.
    pub(super) async fn exchange(&mut self, request: Request<Body>) -> Result<Exchange, Broken> {
        let answer = self.sender.try_send_request(request);
        let answer = self.drive(answer).await.map_err(|mut error| match error.take_message() {
            Some(request) => Broken::Unsent(Box::new(request)),
            None => Broken::Unheard(say!("连接中断，没有答复", "the connection broke without an answer")),
        })?;
        let status = answer.status().as_u16();
        let retry_after = answer.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let body = Limited::<Incoming>::new(answer.into_body(), MAX_ANSWER).collect();
        let body = self.drive(body).await.map_err(|_| {
            Broken::Unheard(say!(
                "答复不完整或超过 64 KiB（HTTP {status}）",
                "half an answer, or more than 64 KiB (HTTP {status})"
            ))
        })?;
        Ok(Exchange { status, retry_after, body: body.to_bytes() })
    }

    /// Drives the connection until `wanted` is there.
    async fn drive<T>(&mut self, wanted: impl Future<Output = T>) -> T {
        let mut wanted = pin!(wanted);
        let mut ended = false;
        poll_fn(|cx| {
            if let Poll::Ready(done) = wanted.as_mut().poll(cx) {
                return Poll::Ready(done);
            }
            // How it ended is what `wanted` says.
            ended = ended || Pin::new(&mut self.work).poll(cx).is_ready();
            wanted.as_mut().poll(cx)
        })
        .await
    }

    /// Whether it is open and takes another request; hears of an end that came meanwhile.
    fn is_open(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        Pin::new(&mut self.work).poll(&mut cx).is_pending() && self.sender.is_ready()
    }
}

/// The connections that nobody uses now.
#[derive(Clone)]
pub(super) struct Links {
    rest: Arc<Mutex<Rest>>,
    most: usize,
}

#[derive(Default)]
struct Rest {
    /// Each with since when it rests; the one that rested longest first.
    links: VecDeque<(Origin, Link, Instant)>,
    /// A task is there that closes what nobody uses.
    watched: bool,
}

impl Links {
    pub(super) fn new(most: usize) -> Self {
        Self { rest: Arc::default(), most }
    }

    /// An open connection, if one is at rest.
    pub(super) fn take(&self, origin: &Origin) -> Option<Link> {
        loop {
            let (_, mut link, since) = {
                let mut rest = self.rest.lock().ok()?;
                let at = rest.links.iter().rposition(|(of, ..)| of == origin)?;
                rest.links.remove(at)?
            };
            if since.elapsed() < IDLE && link.is_open() {
                return Some(link);
            }
        }
    }

    /// Keeps a connection after its exchange.
    pub(super) fn keep(&self, origin: Origin, link: Link) {
        let Ok(mut rest) = self.rest.lock() else { return };
        if rest.links.len() < self.most {
            rest.links.push_back((origin, link, Instant::now()));
            if !std::mem::replace(&mut rest.watched, true) {
                tokio::spawn(close_unused(Arc::downgrade(&self.rest)));
            }
        }
    }
}

/// Closes what nobody uses, until nothing rests.
async fn close_unused(rest: Weak<Mutex<Rest>>) {
    loop {
        tokio::time::sleep(IDLE).await;
        let Some(rest) = rest.upgrade() else { return };
        let Ok(mut rest) = rest.lock() else { return };
        while rest.links.front().is_some_and(|(_, _, since)| since.elapsed() >= IDLE) {
            rest.links.pop_front();
        }
        rest.watched = !rest.links.is_empty();
        if !rest.watched {
            return;
        }
    }
}
