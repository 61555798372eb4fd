//! Kept connections: taken last in, first out, and closed when nobody needs them.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::class::Refusal;
use super::link::Wire;
use super::settings::Settings;

/// How long an unused connection is kept: far less than the five minutes that a
/// server has to wait (RFC 5321 §4.5.3.2.7).
const IDLE: Duration = Duration::from_secs(30);

/// Connections to one server.
pub(super) struct Pool {
    settings: Arc<Settings>,
    most: usize,
    patience: Duration,
    shelf: Mutex<Shelf>,
}

#[derive(Default)]
struct Shelf {
    /// The one put back last stands last.
    kept: Vec<(Instant, Wire)>,
    /// Somebody looks after them.
    reaped: bool,
}

/// A connection in use.
pub(super) struct Link {
    wire: Wire,
    /// Nothing was sent over it yet.
    fresh: bool,
    per_connection: usize,
}

impl Deref for Link {
    type Target = Wire;

    fn deref(&self) -> &Wire {
        &self.wire
    }
}

impl DerefMut for Link {
    fn deref_mut(&mut self) -> &mut Wire {
        self.fresh = false;
        &mut self.wire
    }
}

impl Link {
    pub(super) fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// Whether another mail may be begun on it, beside `granted` ones to come.
    pub(super) fn has_room(&self, granted: usize) -> bool {
        self.wire.sent + granted < self.per_connection
    }
}

impl Pool {
    pub(super) fn new(settings: Arc<Settings>, most: usize, patience: Duration) -> Self {
        Self { settings, most, patience, shelf: Mutex::default() }
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A kept connection, or a new one.
    pub(super) async fn take(&self) -> Result<Link, Refusal> {
        let per_connection = self.settings.per_connection;
        let kept = self.shelf().kept.pop();
        if let Some((_, wire)) = kept {
            return Ok(Link { wire, fresh: false, per_connection });
        }
        let wire = Wire::connect(&self.settings, self.patience).await?;
        Ok(Link { wire, fresh: true, per_connection })
    }

    /// Keeps a connection for the next, unless it has served its time.
    pub(super) fn put(self: &Arc<Self>, link: Link) {
        if link.is_closed() {
            return;
        }
        let room = link.has_room(0);
        let mut resting = self.shelf();
        if !room || resting.kept.len() >= self.most {
            drop(resting);
            tokio::spawn(link.wire.quit());
            return;
        }
        resting.kept.push((Instant::now(), link.wire));
        if !std::mem::replace(&mut resting.reaped, true) {
            tokio::spawn(reap(Arc::downgrade(self)));
        }
    }

    /// Those that lay too long, and when the next has; `None` when none is left.
    fn prune(&self) -> (Vec<Wire>, Option<Instant>) {
        let mut resting = self.shelf();
        let now = Instant::now();
        let old = resting.kept.iter().take_while(|(since, _)| now.duration_since(*since) >= IDLE).count();
        let old: Vec<Wire> = resting.kept.drain(..old).map(|(_, wire)| wire).collect();
        resting.reaped = !resting.kept.is_empty();
        (old, resting.kept.first().map(|(since, _)| *since + IDLE))
    }
}

/// Lives as long as a connection is kept. The last one taken is the first one used
/// again, so the oldest stand in front.
async fn reap(pool: Weak<Pool>) {
    let mut next = Some(Instant::now() + IDLE);
    while let Some(at) = next {
        tokio::time::sleep_until(at).await;
        let Some(pool) = pool.upgrade() else { return };
        let (old, then) = pool.prune();
        next = then;
        drop(pool);
        for wire in old {
            wire.quit().await;
        }
    }
}
