//! Receipts come in: believed only when authenticated, answered only when on disk.

mod line;
mod replies;

use std::collections::HashMap;
use std::sync::Arc;

use self::line::Line;

use crate::channel::{Callback, CallbackError, Intake, Receipt};
use crate::dispatch::worker::Way;
use crate::say;
use crate::store::receipts::Taken;
use crate::store::{Store, StoreError};
use crate::telemetry::Counts;

pub mod maildir;

/// Why a callback got no good answer.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    #[error("no such channel")]
    NoChannel,
    #[error(transparent)]
    Callback(#[from] CallbackError),
    /// Not on disk; one failure may be that of many callbacks.
    #[error(transparent)]
    Store(Arc<StoreError>),
    /// More come than can be kept: the gateway has to repeat it.
    #[error("{}", say!("回执太多，来不及写入，请稍后重发", "too many receipts wait to be written; repeat it in a moment"))]
    Busy,
}

impl From<StoreError> for IntakeError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

/// Takes callbacks for every channel.
#[derive(Clone)]
pub struct ReceiptDesk {
    pub store: Arc<Store>,
    pub ways: Arc<Vec<Way>>,
    pub counts: Arc<Counts>,
    /// By the channel's number.
    lines: Arc<HashMap<i32, Line>>,
}

impl ReceiptDesk {
    /// Opens a desk; inside a runtime, since what comes together is written by a task a
    /// channel, until the last desk is gone and what waited is answered.
    #[must_use]
    pub fn open(store: Arc<Store>, ways: Arc<Vec<Way>>, counts: Arc<Counts>) -> Self {
        let line = |way: &Way| (way.no, Line::open(Arc::clone(&store), way.no, counts.receipt_groups.clone()));
        let lines = Arc::new(ways.iter().map(line).collect());
        Self { store, ways, counts, lines }
    }

    /// Reads, keeps and applies the receipts of one callback. When this returns they
    /// are on disk, and what it returns is what the gateway wants to hear; the receipts
    /// themselves have gone their way.
    pub async fn take(&self, channel: &str, callback: &Callback<'_>) -> Result<Intake, IntakeError> {
        self.take_of(channel, None, callback).await
    }

    /// [`Self::take`], from one of the channel's gateways.
    pub async fn take_of(
        &self,
        channel: &str,
        gateway: Option<&str>,
        callback: &Callback<'_>,
    ) -> Result<Intake, IntakeError> {
        let way = self.way(channel)?;
        let read = match gateway {
            None => way.channel.receipts(callback),
            Some(gateway) => way.channel.receipts_of(gateway, callback),
        };
        let mut intake = read.inspect_err(|error| self.refused(channel, error))?;
        self.keep(way, std::mem::take(&mut intake.receipts)).await?;
        Ok(intake)
    }

    /// The same for a bounce that came as a mail; says how many receipts were in it and
    /// how many of them found their message.
    pub async fn take_mail(&self, channel: &str, mail: &[u8]) -> Result<Taken, IntakeError> {
        let way = self.way(channel)?;
        let receipts = way.channel.bounce(mail).inspect_err(|error| self.refused(channel, error))?;
        self.keep(way, receipts).await
    }

    fn way(&self, channel: &str) -> Result<&Way, IntakeError> {
        self.ways.iter().find(|w| w.name == channel).ok_or(IntakeError::NoChannel)
    }

    fn refused(&self, channel: &str, error: &CallbackError) {
        self.counts.callback_refused(channel);
        tracing::warn!(channel, %error, "refused a callback");
    }

    async fn keep(&self, way: &Way, receipts: Vec<Receipt>) -> Result<Taken, IntakeError> {
        let n = receipts.len();
        let line = self.lines.get(&way.no).ok_or(IntakeError::NoChannel)?;
        let taken = line.keep(receipts).await.inspect_err(|error| {
            if matches!(error, IntakeError::Busy) {
                self.counts.callback_busy(&way.name);
            }
        })?;
        self.counts.receipts(&way.name, n);
        if taken.waiting > 0 {
            tracing::debug!(channel = way.name, waiting = taken.waiting, "receipts wait for their message");
        }
        Ok(taken)
    }
}
