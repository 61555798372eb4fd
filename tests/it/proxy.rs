//! A proxy to a server of this machine whose line can be cut, fall silent, and be healed.

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Whole,
    /// Who connects is hung up on.
    Cut,
    /// Who connects or is connected hears nothing more, and no word that nobody is there.
    Silent,
}

/// The proxy; it ends with this.
pub struct Proxy {
    pub port: u16,
    line: watch::Sender<Line>,
    #[expect(dead_code)]
    alive: oneshot::Sender<()>,
}

impl Proxy {
    pub async fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (line, seen) = watch::channel(Line::Whole);
        let (alive, mut stopped) = oneshot::channel();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = &mut stopped => return,
                    came = listener.accept() => drop(tokio::spawn(carry(came.unwrap().0, server, seen.clone()))),
                }
            }
        });
        Self { port, line, alive }
    }

    /// Hangs up on everybody.
    pub fn cut(&self) {
        self.line.send_replace(Line::Cut);
    }

    /// As when a host loses its power, or a firewall forgets: nothing comes any more, on
    /// these connections for good.
    pub fn silence(&self) {
        self.line.send_replace(Line::Silent);
    }

    /// From now on connections work again.
    pub fn heal(&self) {
        self.line.send_replace(Line::Whole);
    }
}

async fn carry(mut near: TcpStream, server: u16, mut line: watch::Receiver<Line>) {
    if *line.borrow_and_update() == Line::Whole {
        let Ok(mut far) = TcpStream::connect(("127.0.0.1", server)).await else { return };
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => return,
            _ = line.wait_for(|line| *line != Line::Whole) => {}
        }
        if *line.borrow() == Line::Cut {
            return;
        }
        // The far end knows as little as the near one.
        gone(&mut line).await;
        drop(far);
    } else if *line.borrow() == Line::Silent {
        gone(&mut line).await;
    }
}

/// Until the proxy is.
async fn gone(line: &mut watch::Receiver<Line>) {
    while line.changed().await.is_ok() {}
}
