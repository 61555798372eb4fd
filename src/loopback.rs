//! Loopback gateways: SMS gateways, chat robots and a webhook receiver of gong's own,
//! on this machine alone, to rehearse with before anything real is connected.
//!
//! One listener behaves as Kannel's smsbox (`/cgi-bin/sendsms`), as a JSON gateway
//! (`POST /v1/messages`) and, where asked, as chat robots and a webhook; it errs as its [`Behaviour`] says, calls back with
//! receipts, and counts what it took: `GET /stats`, `GET /log?since=N`,
//! `GET` and `POST /behaviour`, `POST /reset`.

mod behaviour;
mod draw;
pub(crate) mod json;
mod kannel;
mod ledger;
mod media;
mod parts;
mod receipts;
mod serve;
pub mod smtp;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

pub use behaviour::{Behaviour, By, Span};
pub use ledger::Stats;
pub use media::{MediaSetup, Vendor};

use crate::clock::Clock;
use crate::say;
use behaviour::Current;
use json::Signer;
use ledger::Ledger;
use media::Media;
use receipts::{Courier, Outbox};
use serve::Gateway;

const JOURNAL_EVERY: Duration = Duration::from_millis(20);
/// After an accept that failed for want of file descriptors, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// What can be wrong with a loopback gateway.
#[derive(Debug, thiserror::Error)]
pub enum LoopbackError {
    #[error("{}", not_loopback(.0))]
    NotLoopback(SocketAddr),
    #[error("{}", bind(.0, .1))]
    Bind(SocketAddr, #[source] std::io::Error),
    #[error("{}", journal(.0, .1))]
    Journal(PathBuf, #[source] std::io::Error),
    #[error("{}", say!("回环网关的签名密钥为空，请给出一个", "the secret of the loopback gateway is empty; give one"))]
    Secret,
    #[error("{}", folder(.0, .1))]
    Folder(PathBuf, #[source] std::io::Error),
    #[error("{}", share(.field, *.value))]
    Share { field: &'static str, value: f64 },
    #[error("{}", too_much(.fields, *.sum))]
    Sum { fields: String, sum: f64 },
    #[error("{}", number(.field, *.value))]
    Number { field: &'static str, value: f64 },
    #[error("{}", span(.0))]
    Span(String),
    #[error("{}", by(.0))]
    By(String),
    #[error("{}", patch(.0))]
    Patch(#[from] serde_json::Error),
}

fn not_loopback(at: &SocketAddr) -> String {
    say!(
        "回环网关只能监听本机地址，{at} 不是。请改用 127.0.0.1 或 [::1]",
        "a loopback gateway listens on this machine alone, and {at} is not of it. Use 127.0.0.1 or [::1]"
    )
}

fn bind(at: &SocketAddr, error: &std::io::Error) -> String {
    say!(
        "无法监听 {at}：{error}。请换一个端口，或停掉占用它的程序",
        "cannot listen on {at}: {error}. Choose another port or stop what holds it"
    )
}

fn journal(path: &Path, error: &std::io::Error) -> String {
    let path = path.display();
    say!("无法写入流水文件 {path}：{error}", "cannot write the journal {path}: {error}")
}

fn folder(path: &Path, error: &std::io::Error) -> String {
    let path = path.display();
    say!("无法写入文件夹 {path}：{error}", "cannot write to the folder {path}: {error}")
}

fn share(field: &str, value: f64) -> String {
    say!("{field} 是比例，应在 0 到 1 之间，而不是 {value}", "{field} is a share from 0 to 1, not {value}")
}

fn too_much(fields: &str, sum: f64) -> String {
    say!("{fields} 合计为 {sum}，不能超过 1", "{fields} add up to {sum}; they must not exceed 1")
}

fn number(field: &str, value: f64) -> String {
    say!("{field} 不能是 {value}，应为零或正数", "{field} cannot be {value}; give zero or a positive number")
}

fn span(text: &str) -> String {
    say!(
        "“{text}”不是时长：应为毫秒数（如 20）或范围（如 10-50），最长一天",
        "\"{text}\" is no time: give milliseconds (20) or a range of them (10-50), a day at most"
    )
}

fn by(word: &str) -> String {
    say!(
        "“{word}”不可用：应为 to（按号码和内容）或 id（按请求编号）",
        "\"{word}\" is neither to (number and text) nor id (client id)"
    )
}

fn patch(error: &serde_json::Error) -> String {
    say!("网关行为的 JSON 有误：{error}", "the behaviour's JSON is wrong: {error}")
}

/// What clients must know. Rehearsal secrets, but never shown all the same.
#[derive(Clone)]
pub struct Credentials {
    /// Kannel's `username`.
    pub username: String,
    /// Kannel's `password`.
    pub password: String,
    /// The key of the JSON gateway's signatures, in both directions.
    pub secret: String,
}

/// A gateway to be started.
pub struct Loopback {
    pub credentials: Credentials,
    pub behaviour: Behaviour,
    /// Gets a line for every accepted request: client id, how many with this id, epoch ms.
    pub journal: Option<PathBuf>,
    /// Robots and a webhook receiver answer beside the SMS gateways.
    pub media: Option<MediaSetup>,
    pub clock: Clock,
}

impl Loopback {
    /// A gateway without a journal, on the system's clock.
    #[must_use]
    pub fn new(credentials: Credentials, behaviour: Behaviour) -> Self {
        Self { credentials, behaviour, journal: None, media: None, clock: Clock::System }
    }

    /// Listens on `listen` (port 0: any free one) until the returned handle is
    /// stopped or dropped. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the address is not a loopback address or taken, the behaviour
    /// impossible, the secret empty or the journal not writable.
    pub async fn start(self, listen: SocketAddr) -> Result<Running, LoopbackError> {
        if !listen.ip().is_loopback() {
            return Err(LoopbackError::NotLoopback(listen));
        }
        self.behaviour.check()?;
        let signer = Signer::new(&self.credentials.secret).ok_or(LoopbackError::Secret)?;
        let bind = |error| LoopbackError::Bind(listen, error);
        let listener = TcpListener::bind(listen).await.map_err(bind)?;
        let addr = listener.local_addr().map_err(bind)?;
        let journal = match self.journal {
            Some(path) => match OpenOptions::new().create(true).append(true).open(&path).await {
                Ok(file) => Some(file),
                Err(error) => return Err(LoopbackError::Journal(path, error)),
            },
            None => None,
        };
        let media = match self.media {
            Some(setup) => {
                let dir = setup.dir.clone().unwrap_or_default();
                Some(Media::new(setup).map_err(|error| LoopbackError::Journal(dir, error))?)
            }
            None => None,
        };
        let (outbox, inbox) = Outbox::new();
        let behaviour = Arc::new(Current::new(self.behaviour));
        let courier = Courier::new(outbox.clone(), signer.clone(), self.clock.clone(), Arc::clone(&behaviour));
        let gateway = Arc::new(Gateway {
            credentials: self.credentials,
            signer,
            behaviour,
            ledger: Mutex::new(Ledger::new(journal.is_some())),
            media,
            outbox,
            clock: self.clock,
        });
        let (stop, stopped) = watch::channel(());
        let shared = Arc::clone(&gateway);
        let serve = move |stream| serve_http(stream, Arc::clone(&shared));
        let server = tokio::spawn(accept(listener, stopped.clone(), serve));
        let courier = tokio::spawn(Arc::new(courier).run(inbox));
        let journal = journal.map(|file| tokio::spawn(write_journal(file, Arc::clone(&gateway), stopped)));
        Ok(Running { addr, gateway, stop: Some(stop), server, courier, journal })
    }
}

/// A gateway that runs.
pub struct Running {
    /// Where it listens.
    pub addr: SocketAddr,
    gateway: Arc<Gateway>,
    stop: Option<watch::Sender<()>>,
    server: JoinHandle<()>,
    courier: JoinHandle<()>,
    journal: Option<JoinHandle<Option<File>>>,
}

impl Running {
    /// The counts so far.
    pub fn stats(&self) -> Stats {
        self.gateway.stats()
    }

    /// What was posted to the robots and the webhook, as JSON; empty without them.
    pub fn posts(&self) -> String {
        self.gateway.media.as_ref().map(Media::posts).unwrap_or_default()
    }

    /// Changes the behaviour of requests and receipts to come.
    pub fn behave(&self, behaviour: Behaviour) -> Result<(), LoopbackError> {
        behaviour.check()?;
        self.gateway.behaviour.set(behaviour);
        Ok(())
    }

    /// Closes all connections, drops receipts still waiting and completes the journal.
    pub async fn stop(mut self) -> Stats {
        self.stop.take();
        // An error here is a task that panicked, which the panic hook has shown.
        let _ = (&mut self.server).await;
        if let Some(journal) = self.journal.take()
            && let Ok(Some(mut file)) = journal.await
        {
            flush(&mut file, &self.gateway).await;
        }
        self.gateway.stats()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.courier.abort();
    }
}

/// Serves every connection in a task of its own, until told to stop; then all are closed.
async fn accept<S: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    mut stopped: watch::Receiver<()>,
    serve: impl Fn(TcpStream) -> S,
) {
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            _ = stopped.changed() => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = stream else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // Without it a short answer may wait 40 ms; a socket that refuses is gone already.
        let _ = stream.set_nodelay(true);
        connections.spawn(serve(stream));
        while connections.try_join_next().is_some() {}
    }
    connections.shutdown().await;
}

async fn serve_http(stream: TcpStream, gateway: Arc<Gateway>) {
    let service = service_fn(move |request| Arc::clone(&gateway).handle(request));
    // It ends in an error whenever an answer is lost on purpose.
    let _ = http1::Builder::new().pipeline_flush(true).serve_connection(TokioIo::new(stream), service).await;
}

async fn write_journal(mut file: File, gateway: Arc<Gateway>, mut stopped: watch::Receiver<()>) -> Option<File> {
    let mut tick = tokio::time::interval(JOURNAL_EVERY);
    loop {
        tokio::select! {
            _ = stopped.changed() => return Some(file),
            _ = tick.tick() => if !flush(&mut file, &gateway).await { return None },
        }
    }
}

async fn flush(file: &mut File, gateway: &Gateway) -> bool {
    let lines = gateway.ledger().take_journal();
    if lines.is_empty() {
        return true;
    }
    let written = async {
        file.write_all(lines.as_bytes()).await?;
        file.flush().await
    };
    match written.await {
        Ok(()) => true,
        Err(error) => {
            tracing::error!(%error, "the loopback gateway's journal cannot be written; it ends here");
            false
        }
    }
}
