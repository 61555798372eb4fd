//! Divides each channel's rate among the engines that serve it, while this engine's
//! scheduler leads.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::leading::Leading;
use crate::clock::Millis;
use crate::store::shares::Seat;
use crate::store::{Result, Store};

/// The role that this belongs to.
pub const SCHEDULER: &str = "scheduler";

const TICK: Duration = Duration::from_millis(150);
/// How often engines are looked for that were not heard of for `MISSED`.
const FORGET_EVERY: Duration = Duration::from_mins(1);
const MISSED: Millis = 10 * 60_000;

/// What it works with.
pub struct Granter {
    pub store: Arc<Store>,
    /// Parts a second, as declared; by the channel's number.
    pub declared: HashMap<i32, f64>,
    pub owner: String,
    pub leading: Leading,
    pub stop: CancellationToken,
}

impl Granter {
    /// Runs until told to stop.
    pub async fn run(self) {
        let mut forget_at = Instant::now();
        while !self.stop.is_cancelled() {
            if let Some(term) = self.leading.term() {
                let forget = forget_at <= Instant::now();
                if let Err(error) = self.store.soon(self.grant(term, forget)).await {
                    tracing::warn!(%error, "cannot divide the rates; trying again");
                }
                if forget {
                    forget_at = Instant::now() + FORGET_EVERY;
                }
            }
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = tokio::time::sleep(TICK) => {}
            }
        }
    }

    async fn grant(&self, term: i64, forget: bool) -> Result<()> {
        let mut rates = self.declared.clone();
        for channel in self.store.channels().await? {
            if let (Some(rate), Some(slot)) = (channel.rate, rates.get_mut(&channel.no)) {
                *slot = rate;
            }
        }
        self.store.grant_shares(Seat { role: SCHEDULER, owner: &self.owner, term }, &rates).await?;
        if forget {
            self.store.forget_engines(MISSED).await?;
        }
        Ok(())
    }
}
