//! Receipts come in: believed only when authenticated, answered only when on disk.

mod replies;

use std::sync::Arc;

use crate::channel::{Callback, CallbackError, Intake, Receipt};
use crate::dispatch::worker::Way;
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
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Takes callbacks for every channel.
#[derive(Clone)]
pub struct ReceiptDesk {
    pub store: Arc<Store>,
    pub ways: Arc<Vec<Way>>,
    pub counts: Arc<Counts>,
}

impl ReceiptDesk {
    /// Reads, keeps and applies the receipts of one callback. When this returns they
    /// are on disk, and what it returns is what the gateway wants to hear.
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
        let intake = read.inspect_err(|error| self.refused(channel, error))?;
        self.keep(way, &intake.receipts).await?;
        Ok(intake)
    }

    /// The same for a bounce that came as a mail; says how many receipts were in it and
    /// how many of them found their message.
    pub async fn take_mail(&self, channel: &str, mail: &[u8]) -> Result<Taken, IntakeError> {
        let way = self.way(channel)?;
        let receipts = way.channel.bounce(mail).inspect_err(|error| self.refused(channel, error))?;
        Ok(self.keep(way, &receipts).await?)
    }

    fn way(&self, channel: &str) -> Result<&Way, IntakeError> {
        self.ways.iter().find(|w| w.name == channel).ok_or(IntakeError::NoChannel)
    }

    fn refused(&self, channel: &str, error: &CallbackError) {
        self.counts.callback_refused(channel);
        tracing::warn!(channel, %error, "refused a callback");
    }

    async fn keep(&self, way: &Way, receipts: &[Receipt]) -> Result<Taken, StoreError> {
        let taken = self.store.soon(self.store.record_receipts(way.no, receipts)).await?;
        self.counts.receipts(&way.name, receipts.len());
        if taken.waiting > 0 {
            tracing::debug!(channel = way.name, waiting = taken.waiting, "receipts wait for their message");
        }
        Ok(taken)
    }
}
