//! A proxy to a server of this machine whose line can be cut, fall silent, and be healed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio_util::io::InspectReader;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Whole,
    /// Whatever is said arrives, and answers do not until it is healed.
    Held,
    /// Who connects is hung up on.
    Cut,
    /// Who connects or is connected hears nothing more, and no word that nobody is there.
    Silent,
}

/// The port that a server's URL names.
pub fn port_of(url: &str) -> u16 {
    url.rsplit_once('/').unwrap().0.rsplit_once(':').unwrap().1.parse().unwrap()
}

#[derive(Debug, Clone, Copy)]
struct State {
    line: Line,
    /// How often it has fallen silent: who was connected then stays so when it is healed.
    silenced: u64,
}

/// The proxy; it ends with this.
pub struct Proxy {
    pub port: u16,
    state: watch::Sender<State>,
    carried: Arc<AtomicUsize>,
    sent: Arc<AtomicUsize>,
    #[expect(dead_code)]
    alive: oneshot::Sender<()>,
}

impl Proxy {
    pub async fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (state, seen) = watch::channel(State { line: Line::Whole, silenced: 0 });
        let (alive, mut stopped) = oneshot::channel();
        let (carried, sent) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (count, bytes) = (Arc::clone(&carried), Arc::clone(&sent));
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = &mut stopped => return,
                    came = listener.accept() => {
                        if seen.borrow().line == Line::Whole {
                            count.fetch_add(1, Ordering::SeqCst);
                        }
                        drop(tokio::spawn(carry(came.unwrap().0, server, seen.clone(), Arc::clone(&bytes))));
                    }
                }
            }
        });
        Self { port, state, carried, sent, alive }
    }

    /// Connections so far that were not hung up on at once.
    pub fn carried(&self) -> usize {
        self.carried.load(Ordering::SeqCst)
    }

    /// Bytes that went to the server so far.
    pub fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }

    /// Hangs up on everybody.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.line = Line::Cut);
    }

    /// Keeps answers back.
    pub fn hold(&self) {
        self.state.send_modify(|state| state.line = Line::Held);
    }

    /// As when a host loses its power, or a firewall forgets: nothing comes any more, on
    /// these connections for good.
    pub fn silence(&self) {
        self.state.send_modify(|state| *state = State { line: Line::Silent, silenced: state.silenced + 1 });
    }

    /// From now on connections work again.
    pub fn heal(&self) {
        self.state.send_modify(|state| state.line = Line::Whole);
    }
}

async fn carry(near: TcpStream, server: u16, mut state: watch::Receiver<State>, sent: Arc<AtomicUsize>) {
    let State { line, silenced } = *state.borrow_and_update();
    if line == Line::Whole {
        let Ok(far) = TcpStream::connect(("127.0.0.1", server)).await else { return };
        let (said, mut hears) = split(near);
        let (mut answers, mut told) = split(far);
        let mut said = InspectReader::new(said, |some| {
            sent.fetch_add(some.len(), Ordering::SeqCst);
        });
        let open = state.clone();
        tokio::select! {
            _ = copy(&mut said, &mut told) => return,
            _ = carry_back(&mut answers, &mut hears, open) => return,
            _ = state.wait_for(|now| now.line == Line::Cut || now.silenced > silenced) => {}
        }
        if state.borrow().silenced == silenced {
            return;
        }
        // The far end knows as little as the near one.
        gone(&mut state).await;
        drop((answers, told));
    } else if line == Line::Silent {
        gone(&mut state).await;
    }
}

/// Hands answers on, but for the time in which they are held.
async fn carry_back(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut state: watch::Receiver<State>,
) -> std::io::Result<()> {
    let mut some = [0; 8_192];
    loop {
        let n = from.read(&mut some).await?;
        if n == 0 || state.wait_for(|now| now.line != Line::Held).await.is_err() {
            return Ok(());
        }
        to.write_all(&some[..n]).await?;
    }
}

/// Until the proxy is.
async fn gone(state: &mut watch::Receiver<State>) {
    while state.changed().await.is_ok() {}
}
