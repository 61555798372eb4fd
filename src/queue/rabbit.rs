//! The RabbitMQ engine of the queue: an inbox a channel, and what a worker does with
//! what lies in it.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::counts::QueueCounts;
use super::error::QueueError;
use super::inbox::{self, Inbox};
use super::link::Link;
use super::settings::QueueSettings;
use crate::clock::Millis;
use crate::store::batches::Lease;
use crate::store::outbox::Ticket;
use crate::store::{Result, Store};

/// How long an inbox may take to end.
const FAREWELL: Duration = Duration::from_secs(5);

/// Milliseconds to wait after so many failures in a row.
pub type Pauses = Arc<dyn Fn(i32) -> Millis + Send + Sync>;

/// Everything that the broker's side of the queue shares.
pub struct Rabbit {
    pub(super) link: Link,
    pub(super) store: Arc<Store>,
    /// Told when messages came.
    pub(super) wake: Arc<Notify>,
    pub(super) prefetch: u16,
    pub(super) depth: i64,
    pub counts: QueueCounts,
    pauses: Pauses,
    inboxes: Mutex<HashMap<i32, Arc<Inbox>>>,
}

impl Rabbit {
    /// Takes the settings in; nothing connects before it must, and a broker that is
    /// away keeps nobody from starting.
    pub fn new(
        settings: &QueueSettings,
        (store, wake): (Arc<Store>, Arc<Notify>),
        pauses: Pauses,
        counts: QueueCounts,
    ) -> std::result::Result<Arc<Self>, QueueError> {
        Ok(Arc::new(Self {
            link: Link::new(settings)?,
            store,
            wake,
            prefetch: settings.prefetch.max(1),
            depth: i64::from(settings.depth.max(1)),
            counts,
            pauses,
            inboxes: Mutex::default(),
        }))
    }

    pub(super) fn pause_after(&self, failures: i32) -> Duration {
        Duration::from_millis((self.pauses)(failures).unsigned_abs())
    }

    fn inbox(&self, channel: i32) -> Option<Arc<Inbox>> {
        self.inboxes.lock().unwrap_or_else(PoisonError::into_inner).get(&channel).cloned()
    }

    /// Opens or shuts the inbox of a channel.
    pub(super) fn consume(self: &Arc<Self>, (no, name): (i32, &str), on: bool) {
        if let Some(inbox) = self.inbox(no) {
            inbox.open(on);
        } else if on {
            let inbox = inbox::start(Arc::clone(self), name);
            self.inboxes.lock().unwrap_or_else(PoisonError::into_inner).insert(no, inbox);
        }
    }

    /// Claims the batches of messages that came, the most urgent first. Messages whose
    /// batch has gone on are dropped; those of a dispatch that stands still are given
    /// back to the relay.
    pub(super) async fn lease(
        &self,
        channel: i32,
        owner: &str,
        lanes: RangeInclusive<i32>,
        most: i64,
    ) -> Result<Vec<Lease>> {
        let Some(inbox) = self.inbox(channel) else { return Ok(Vec::new()) };
        loop {
            let taken = inbox.shelf().take(lanes.clone(), usize::try_from(most).unwrap_or(1));
            if taken.is_empty() {
                return Ok(Vec::new());
            }
            let tickets: Vec<Ticket> = taken.iter().map(|held| held.ticket).collect();
            let claimed = match self.claim(channel, owner, &tickets).await {
                Ok(leases) => leases,
                Err(error) => {
                    inbox.shelf().put_back(taken);
                    return Err(error);
                }
            };
            let mut dropped = Vec::new();
            {
                let mut leases: HashMap<Ticket, Lease> = claimed.iter().map(|l| (l.ticket(), *l)).collect();
                let mut kept = inbox.shelf();
                for held in taken {
                    // Of two copies one stays until the batch is done.
                    match leases.remove(&held.ticket) {
                        Some(lease) => kept.begin(lease, held),
                        None => dropped.push(held.acker),
                    }
                }
            }
            self.counts.stale.inc_by(dropped.len() as u64);
            inbox.acknowledge(dropped);
            if !claimed.is_empty() {
                return Ok(claimed);
            }
        }
    }

    async fn claim(&self, channel: i32, owner: &str, tickets: &[Ticket]) -> Result<Vec<Lease>> {
        let leases = self.store.soon(self.store.claim_batches(channel, owner, tickets)).await?;
        let left: Vec<Ticket> =
            tickets.iter().filter(|ticket| leases.iter().all(|l| l.ticket() != **ticket)).copied().collect();
        // Those still ready belong to a dispatch that stands still.
        self.store.soon(self.store.unpublish(&left)).await?;
        Ok(leases)
    }

    pub(super) fn settled(&self, channel: i32, leases: &[Lease]) {
        let Some(inbox) = self.inbox(channel) else { return };
        let done: Vec<_> = {
            let mut kept = inbox.shelf();
            leases.iter().filter_map(|lease| kept.end(*lease)).map(|held| held.acker).collect()
        };
        inbox.acknowledge(done);
    }

    pub(super) async fn leave(&self, channel: i32) {
        let inbox = self.inboxes.lock().unwrap_or_else(PoisonError::into_inner).remove(&channel);
        if let Some(inbox) = inbox
            && tokio::time::timeout(FAREWELL, inbox.end()).await.is_err()
        {
            tracing::warn!(channel, "the broker does not say goodbye; its messages come again");
        }
    }
}
