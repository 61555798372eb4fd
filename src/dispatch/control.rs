//! What operators decide, seen by the engine within a fifth of a second: commands
//! run in other processes and write to the store; this task watches it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::disk::Disk;
use crate::clock::Millis;
use crate::store::channels::ChannelRow;
use crate::store::{Result, Store};
use crate::telemetry::Counts;

/// How often the store is asked.
const EVERY: Duration = Duration::from_millis(200);

/// What holds right now.
#[derive(Debug, Clone, Default)]
pub struct Control {
    /// Open dispatches: may they send, and until when.
    dispatches: HashMap<i64, (bool, Millis)>,
    channels: HashMap<i32, ChannelRow>,
    /// Little room is left: only the immediate lane may be leased.
    pub low_disk: bool,
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

    /// What holds before the store was asked.
    #[must_use]
    pub fn starting(disk: &Disk) -> Self {
        Self { low_disk: disk.is_low(), ..Self::default() }
    }

    /// Asks the store.
    pub async fn read(store: &Store, disk: &Disk) -> Result<Self> {
        let dispatches =
            store.open_states().await?.into_iter().map(|(no, state, until)| (no, (state == "active", until))).collect();
        let channels = store.channels().await?.into_iter().map(|c| (c.no, c)).collect();
        Ok(Self { dispatches, channels, low_disk: disk.is_low() })
    }
}

/// What the control asks, and the gauge that shows the disk.
pub struct Watched {
    pub store: Arc<Store>,
    pub disk: Disk,
    pub counts: Arc<Counts>,
}

/// Watches until `stop`.
pub async fn watch_store(of: Watched, out: watch::Sender<Control>, stop: CancellationToken) {
    let mut was_low = false;
    while !stop.is_cancelled() {
        match Control::read(&of.store, &of.disk).await {
            Ok(control) => {
                tell_disk(control.low_disk, was_low);
                was_low = control.low_disk;
                of.counts.low_disk.set(i64::from(control.low_disk));
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

/// Says it once when the disk becomes low, and once when there is room again.
fn tell_disk(low: bool, was: bool) {
    match (was, low) {
        (false, true) => tracing::warn!(
            "the disk is nearly full: only immediate messages go out. Make room, or lower disk.reserve_mb"
        ),
        (true, false) => tracing::info!("the disk has room again: every lane goes on"),
        _ => {}
    }
}
