//! A mail server of gong's own, on this machine alone: takes mail over SMTP, errs as
//! its [`Behaviour`] says, keeps what it took as `.eml`, and returns bounces.
//!
//! Outcomes hang on seed, message and count, as those of the SMS gateways do. Of the
//! shares, `temporary` is a 451, `permanent` a 550 5.1.1, `throttle` a 421,
//! `lost_answer` and `half_answer` break the connection after the mail was taken, and
//! `undelivered` becomes a bounce in a Maildir.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::behaviour::{Behaviour, Current};
use super::ledger::{Ledger, Stats};
use super::{LoopbackError, accept};
use crate::clock::Clock;

mod bounce;
mod session;

/// A mail server to be started.
pub struct SmtpLoopback {
    pub behaviour: Behaviour,
    /// Where mails that were taken are kept, one file each.
    pub dir: Option<PathBuf>,
    /// The Maildir that bounces go to.
    pub bounces: Option<PathBuf>,
    pub clock: Clock,
}

impl SmtpLoopback {
    /// A server that keeps nothing, on the system's clock.
    #[must_use]
    pub fn new(behaviour: Behaviour) -> Self {
        Self { behaviour, dir: None, bounces: None, clock: Clock::System }
    }

    /// Listens on `listen` (port 0: any free one) until the returned handle is stopped
    /// or dropped.
    ///
    /// # Errors
    /// When the address is not of this machine or taken, the behaviour impossible, or
    /// a folder not writable.
    pub async fn start(self, listen: SocketAddr) -> Result<SmtpRunning, LoopbackError> {
        if !listen.ip().is_loopback() {
            return Err(LoopbackError::NotLoopback(listen));
        }
        self.behaviour.check()?;
        let maildir = self.bounces.iter().flat_map(|dir| ["tmp", "new", "cur"].map(|sub| dir.join(sub)));
        for folder in self.dir.iter().cloned().chain(maildir) {
            std::fs::create_dir_all(&folder).map_err(|error| LoopbackError::Folder(folder, error))?;
        }
        let bind = |error| LoopbackError::Bind(listen, error);
        let listener = TcpListener::bind(listen).await.map_err(bind)?;
        let addr = listener.local_addr().map_err(bind)?;
        let server = Arc::new(Server {
            behaviour: Current::new(self.behaviour),
            ledger: Mutex::new(Ledger::new(false)),
            dir: self.dir,
            bounces: self.bounces,
            bounced: AtomicU64::new(0),
            clock: self.clock,
        });
        let (stop, stopped) = watch::channel(());
        let shared = Arc::clone(&server);
        let serve = move |stream| {
            let server = Arc::clone(&shared);
            async move {
                // It ends in an error whenever an answer is lost on purpose.
                let _ = session::serve(stream, &server).await;
            }
        };
        let task = tokio::spawn(accept(listener, stopped, serve));
        Ok(SmtpRunning { addr, server, stop: Some(stop), task })
    }
}

/// What all connections share.
struct Server {
    behaviour: Current,
    ledger: Mutex<Ledger>,
    dir: Option<PathBuf>,
    bounces: Option<PathBuf>,
    bounced: AtomicU64,
    clock: Clock,
}

impl Server {
    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stats(&self) -> Stats {
        Stats { receipts_sent: self.bounced.load(Ordering::SeqCst), ..self.ledger().stats() }
    }
}

/// A mail server that runs.
pub struct SmtpRunning {
    /// Where it listens.
    pub addr: SocketAddr,
    server: Arc<Server>,
    stop: Option<watch::Sender<()>>,
    task: JoinHandle<()>,
}

impl SmtpRunning {
    /// The counts so far; a Message-ID that was taken twice is a duplicate, and
    /// bounces count as receipts.
    pub fn stats(&self) -> Stats {
        self.server.stats()
    }

    /// Changes the behaviour towards mails to come.
    pub fn behave(&self, behaviour: Behaviour) -> Result<(), LoopbackError> {
        behaviour.check()?;
        self.server.behaviour.set(behaviour);
        Ok(())
    }

    /// Closes all connections; bounces still to come are dropped.
    pub async fn stop(mut self) -> Stats {
        self.stop.take();
        // An error here is a task that panicked, which the panic hook has shown.
        let _ = (&mut self.task).await;
        self.server.stats()
    }
}

#[cfg(test)]
mod tests;
