//! Leadership: one engine at a time acts in a role. It holds a lease in the store by
//! the database's time, and stops by its own monotonic clock before that can have run
//! out. What it writes is fenced all the same, for a process may stand still anywhere.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::Millis;
use crate::store::Store;

/// How long a lease lasts, in milliseconds.
const LEASE: Millis = 6_000;
/// The holder stops this long after it asked for its lease: before it can have run out.
const ACTS: Duration = Duration::from_secs(5);
const RENEW: Duration = Duration::from_secs(2);
/// How often those ask who do not lead.
const ASK: Duration = Duration::from_secs(1);

/// A lease, by this process's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reign {
    until: Instant,
    term: i64,
}

/// Whether this engine acts in a role now.
#[derive(Debug, Clone)]
pub struct Leading(Option<watch::Receiver<Option<Reign>>>);

impl Leading {
    /// Of the one engine of an embedded store.
    #[must_use]
    pub fn always() -> Self {
        Self(None)
    }

    /// Whether other engines may be on the same store.
    #[must_use]
    pub fn is_contested(&self) -> bool {
        self.0.is_some()
    }

    #[must_use]
    pub fn holds(&self) -> bool {
        self.0.is_none() || self.term().is_some()
    }

    /// The term of the lease that is held; `None` where there is none, or none is needed.
    #[must_use]
    pub fn term(&self) -> Option<i64> {
        let reign = (*self.0.as_ref()?.borrow())?;
        (Instant::now() < reign.until).then_some(reign.term)
    }
}

/// A role that this engine asks for, and keeps while it has it.
pub struct Seat {
    store: Arc<Store>,
    role: &'static str,
    owner: String,
    out: watch::Sender<Option<Reign>>,
}

impl Seat {
    #[must_use]
    pub fn new(store: Arc<Store>, role: &'static str, owner: String) -> (Self, Leading) {
        let (out, seen) = watch::channel(None);
        (Self { store, role, owner, out }, Leading(Some(seen)))
    }

    /// Asks for the role and renews it while `part` runs; gives it up when that ends,
    /// so that another engine takes it at once.
    pub async fn lead(self, part: impl Future<Output = ()>) {
        tokio::select! {
            () = part => {}
            () = self.keep() => {}
        }
        self.out.send_replace(None);
        if let Err(error) = self.store.soon(self.store.resign(self.role, &self.owner)).await {
            tracing::warn!(role = self.role, %error, "cannot give the role up; its lease will run out");
        }
    }

    async fn keep(&self) {
        loop {
            let asked = Instant::now();
            let led = self.out.borrow().is_some();
            match self.store.soon(self.store.lead(self.role, &self.owner, LEASE)).await {
                Ok(Some(term)) => {
                    if !led {
                        tracing::info!(role = self.role, term, "leads");
                    }
                    self.out.send_replace(Some(Reign { until: asked + ACTS, term }));
                }
                Ok(None) => {
                    if led {
                        tracing::warn!(role = self.role, "no longer leads: another engine does");
                    }
                    self.out.send_replace(None);
                }
                // What is held goes on until its time is over.
                Err(error) => tracing::warn!(role = self.role, %error, "cannot ask for the role; trying again"),
            }
            let leads = self.out.borrow().is_some();
            tokio::time::sleep(if leads { RENEW } else { ASK }).await;
        }
    }
}
