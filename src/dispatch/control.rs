//! What operators decide, seen by the engine within a fifth of a second: commands
//! run in other processes and write to the store; this task watches it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::disk::Disk;
use crate::clock::Millis;
use crate::store::channels::ChannelRow;
use crate::store::shares::GRANT;
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
    /// What this engine may send of each channel's rate; `None` where there is no other
    /// engine, and so all of it.
    shares: Option<HashMap<i32, Share>>,
    /// Little room is left: only the immediate lane may be leased.
    pub low_disk: bool,
}

/// What an engine may send of a channel's rate, by its own clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// Parts a second.
    pub rate: f64,
    pub seq: i64,
    pub until: Instant,
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

    /// Whether a channel stands paused because its receiver wants nothing more.
    #[must_use]
    pub fn channel_withdrawn(&self, channel: i32) -> bool {
        self.channels.get(&channel).is_some_and(ChannelRow::is_withdrawn)
    }

    /// Whether this engine has no more of a rate than it was granted.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.shares.is_some()
    }

    /// What this engine was granted of a channel's rate.
    #[must_use]
    pub fn share(&self, channel: i32) -> Option<Share> {
        self.shares.as_ref()?.get(&channel).copied()
    }

    /// What holds before the store was asked.
    #[must_use]
    pub fn starting(of: &Watched) -> Self {
        let shares = of.shared_by.is_some().then(HashMap::new);
        Self { low_disk: of.disk.is_low(), shares, ..Self::default() }
    }

    /// Asks the store.
    pub async fn read(of: &Watched) -> Result<Self> {
        let (store, disk) = (&of.store, &of.disk);
        let shares = match &of.shared_by {
            Some(owner) => Some(read_shares(store, owner).await?),
            None => None,
        };
        let dispatches =
            store.open_states().await?.into_iter().map(|(no, state, until)| (no, (state == "active", until))).collect();
        let channels = store.channels().await?.into_iter().map(|c| (c.no, c)).collect();
        Ok(Self { dispatches, channels, shares, low_disk: disk.is_low() })
    }
}

async fn read_shares(store: &Store, owner: &str) -> Result<HashMap<i32, Share>> {
    // From before it is asked, and never longer than any grant lasts, whatever the
    // database's clock does.
    let asked = Instant::now();
    let grants = store.grants_of(owner).await?.into_iter();
    let share = |left: Millis| asked + Duration::from_millis(u64::try_from(left.min(GRANT)).unwrap_or(0));
    Ok(grants.map(|g| (g.channel, Share { rate: g.rate, seq: g.seq, until: share(g.left_ms) })).collect())
}

/// What the control asks, and the gauge that shows the disk.
pub struct Watched {
    pub store: Arc<Store>,
    pub disk: Disk,
    pub counts: Arc<Counts>,
    /// The engine whose grants hold; `None` where there is no other engine.
    pub shared_by: Option<String>,
}

/// Watches until `stop`.
pub async fn watch_store(of: Watched, out: watch::Sender<Control>, stop: CancellationToken) {
    let mut was_low = false;
    while !stop.is_cancelled() {
        match of.store.soon(Control::read(&of)).await {
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
