//! What operators decide, seen by the engine within a fifth of a second: commands
//! run in other processes and write to the store; this task watches it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::Millis;
use crate::store::channels::ChannelRow;
use crate::store::{Result, Store};

/// How often the store is asked.
const EVERY: Duration = Duration::from_millis(200);

/// What holds right now.
#[derive(Debug, Clone, Default)]
pub struct Control {
    /// Open dispatches: may they send, and until when.
    dispatches: HashMap<i64, (bool, Millis)>,
    channels: HashMap<i32, ChannelRow>,
}

impl Control {
    /// Whether messages of this dispatch may go out at `now`.
    #[must_use]
    pub fn may_send(&self, dispatch_no: i64, now: Millis) -> bool {
        // One just created is not known yet: the mark statement checks it anyway.
        self.dispatches.get(&dispatch_no).is_none_or(|(active, until)| *active && now < *until)
    }

    #[must_use]
    pub fn rate(&self, channel: i32) -> Option<f64> {
        self.channels.get(&channel).and_then(|c| c.rate)
    }

    #[must_use]
    pub fn channel_paused(&self, channel: i32) -> bool {
        self.channels.get(&channel).is_some_and(|c| c.paused != 0)
    }

    async fn read(store: &Store) -> Result<Self> {
        let dispatches = store.open_states().await?.into_iter().map(|(no, state, until)| (no, (state == "active", until))).collect();
        let channels = store.channels().await?.into_iter().map(|c| (c.no, c)).collect();
        Ok(Self { dispatches, channels })
    }
}

/// Watches until `stop`.
pub async fn watch_store(store: Arc<Store>, out: watch::Sender<Control>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        match Control::read(&store).await {
            Ok(control) => {
                out.send_replace(control);
            }
            Err(error) => tracing::warn!(%error, "cannot read what operators decided; trying again"),
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}
