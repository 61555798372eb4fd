//! Connections to a gateway. Whoever sends on one drives it, in the same task: a task
//! of its own for each connection has to be woken on the way there and on the way
//! back, which costs as much as the request.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, Weak};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::Request;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::RETRY_AFTER;
use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::client::{Exchange, MAX_ANSWER};
use super::place::Origin;
use crate::say;

/// How long an unused connection is kept; shorter than most gateways keep theirs,
/// since one that closes while a request leaves makes that message uncertain.
const IDLE: Duration = Duration::from_secs(15);

type Io = MaybeHttpsStream<TokioIo<TcpStream>>;
type Body = Full<Bytes>;

/// A connection. What is large lies elsewhere: a link is moved with every request.
pub(super) struct Link {
    sender: SendRequest<Body>,
    /// None once it ended.
    work: Option<Box<http1::Connection<Io, Body>>>,
    /// Rings when an answer is overdue. Put off it costs less than a new one.
    alarm: Pin<Box<Sleep>>,
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
        Ok(Self { sender, work: Some(Box::new(work)), alarm: Box::pin(sleep_until(Instant::now())) })
    }

    /// Sends the request and reads the whole answer, which has `until` then.
    pub(super) async fn exchange(&mut self, request: Request<Body>, until: Instant) -> Result<Exchange, Broken> {
        self.alarm.as_mut().reset(until);
        let answer = self.sender.try_send_request(request);
        let answer = self.drive(answer).await?.map_err(|mut error| match error.take_message() {
            Some(request) => Broken::Unsent(Box::new(request)),
            None => Broken::Unheard(say!("连接中断，没有答复", "the connection broke without an answer")),
        })?;
        let status = answer.status().as_u16();
        let retry_after = answer.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let body = Limited::<Incoming>::new(answer.into_body(), MAX_ANSWER).collect();
        let body = self.drive(body).await?.map_err(|_| {
            Broken::Unheard(say!(
                "答复不完整或超过 64 KiB（HTTP {status}）",
                "half an answer, or more than 64 KiB (HTTP {status})"
            ))
        })?;
        Ok(Exchange { status, retry_after, body: body.to_bytes() })
    }

    /// Drives the connection until `wanted` is there.
    async fn drive<T>(&mut self, wanted: impl Future<Output = T>) -> Result<T, Broken> {
        let mut wanted = pin!(wanted);
        poll_fn(|cx| {
            if let Poll::Ready(done) = wanted.as_mut().poll(cx) {
                return Poll::Ready(Ok(done));
            }
            if self.work.as_mut().is_some_and(|work| Pin::new(work).poll(cx).is_ready()) {
                // A request that it had not begun goes back to `wanted` as it is dropped.
                self.work = None;
            }
            if let Poll::Ready(done) = wanted.as_mut().poll(cx) {
                return Poll::Ready(Ok(done));
            }
            let late = || Broken::Unheard(say!("等待答复超时", "timed out waiting for the answer"));
            self.alarm.as_mut().poll(cx).map(|()| Err(late()))
        })
        .await
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
    links: VecDeque<(Arc<Origin>, Link, Instant)>,
    /// A task is there that closes what nobody uses.
    watched: bool,
}

impl Links {
    pub(super) fn new(most: usize) -> Self {
        Self { rest: Arc::default(), most }
    }

    /// A connection that rests `now`, if there is one. Whether it ended meanwhile shows
    /// when it is used, before anything is written.
    pub(super) fn take(&self, origin: &Arc<Origin>, now: Instant) -> Option<Link> {
        let mut rest = self.rest.lock().ok()?;
        loop {
            let at = rest.links.iter().rposition(|(of, ..)| of == origin)?;
            let (_, link, since) = rest.links.remove(at)?;
            if now.saturating_duration_since(since) < IDLE {
                return Some(link);
            }
        }
    }

    /// Keeps a connection after its exchange.
    pub(super) fn keep(&self, origin: Arc<Origin>, link: Link) {
        let Ok(mut rest) = self.rest.lock() else { return };
        if rest.links.len() < self.most && link.work.is_some() {
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 202 X\r\ncontent-length: 5\r\n\r\n0: OK";

    async fn pair(gateway: &TcpListener) -> (Link, TcpStream) {
        let ours = TcpStream::connect(gateway.local_addr().unwrap()).await.unwrap();
        let link = Link::over(MaybeHttpsStream::Http(TokioIo::new(ours))).await.unwrap();
        (link, gateway.accept().await.unwrap().0)
    }

    fn request() -> Request<Body> {
        Request::get("/send?to=13900000000").body(Body::default()).unwrap()
    }

    async fn exchanged(link: &mut Link, theirs: &mut TcpStream) -> Exchange {
        let until = Instant::now() + Duration::from_secs(30);
        let (exchange, ()) = tokio::join!(link.exchange(request(), until), async {
            assert_ne!(theirs.read(&mut [0; 4096]).await.unwrap(), 0);
            theirs.write_all(ANSWER).await.unwrap();
        });
        exchange.unwrap_or_else(|_| panic!("no answer"))
    }

    #[tokio::test]
    async fn a_connection_that_ended_at_rest_gives_the_request_back() {
        let gateway = TcpListener::bind("127.0.0.1:0").await.unwrap();
        for last_words in [&b""[..], b"HTTP/1.1 408 X\r\ncontent-length: 0\r\n\r\n"] {
            for used in [false, true] {
                let (mut link, mut theirs) = pair(&gateway).await;
                if used {
                    assert_eq!(exchanged(&mut link, &mut theirs).await.status, 202);
                }
                theirs.write_all(last_words).await.unwrap();
                drop(theirs);
                // Whoever heard of a later connection has heard of that end.
                let (_later, _) = pair(&gateway).await;
                match link.exchange(request(), Instant::now() + Duration::from_secs(30)).await {
                    Err(Broken::Unsent(back)) => assert_eq!(back.uri(), request().uri()),
                    _ => panic!("used {used}, and the request is gone"),
                }
                assert!(link.work.is_none());
                let links = Links::new(1);
                let uri = "http://gateway.example/".to_owned();
                let (origin, _) = super::super::place::Places::default().find(uri).unwrap();
                links.keep(Arc::clone(&origin), link);
                assert!(links.take(&origin, Instant::now()).is_none(), "an ended one was kept");
            }
        }
    }

    #[tokio::test]
    async fn an_alarm_that_rang_is_set_again() {
        let gateway = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (mut link, mut theirs) = pair(&gateway).await;
        link.alarm.as_mut().await;
        assert_eq!(exchanged(&mut link, &mut theirs).await.body, "0: OK");
        assert_eq!(exchanged(&mut link, &mut theirs).await.body, "0: OK");
        let soon = Instant::now() + Duration::from_millis(20);
        match link.exchange(request(), soon).await {
            Err(Broken::Unheard(_)) => assert!(Instant::now() >= soon),
            _ => panic!("no answer came"),
        }
    }
}
