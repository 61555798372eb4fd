//! What an engine says of itself in the store: that it is there, every second, and
//! what its channels could do with, as soon as that changes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::domain::share::Report;
use crate::store::Store;
use crate::store::workers::Identity;

/// How often an engine says that it is there.
const BEAT: Duration = Duration::from_secs(1);
/// News are not told more often than this.
const GAP: Duration = Duration::from_millis(50);

/// Where the workers of an engine leave what they could do with.
#[derive(Debug, Default)]
pub struct Board {
    reports: Mutex<BTreeMap<i32, Report>>,
    news: Notify,
}

impl Board {
    /// A board for these channels, all of them idle.
    #[must_use]
    pub fn of(channels: impl IntoIterator<Item = i32>) -> Self {
        let idle = |channel| (channel, Report { channel, want: Some(0.0), ..Report::default() });
        Self { reports: Mutex::new(channels.into_iter().map(idle).collect()), news: Notify::new() }
    }

    /// A worker says what it could do with.
    pub fn say(&self, report: Report) {
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        let before = reports.insert(report.channel, report).unwrap_or_default();
        let same = (before.seq, before.lane, before.want.is_none()) == (report.seq, report.lane, report.want.is_none());
        if !same {
            self.news.notify_one();
        }
    }

    fn read(&self) -> Vec<Report> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).values().copied().collect()
    }
}

/// Says that this engine is there until `stop`; then says that it is gone.
pub async fn be_present(store: Arc<Store>, me: Identity, board: Arc<Board>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        if let Err(error) = store.soon(store.engine_seen(&me, &board.read())).await {
            tracing::warn!(%error, "cannot tell the other engines that this one is there; trying again");
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(BEAT) => {}
            () = async { tokio::time::sleep(GAP).await; board.news.notified().await } => {}
        }
    }
    if let Err(error) = store.soon(store.engine_left(&me.owner)).await {
        tracing::warn!(%error, "cannot take leave of the other engines; they will miss this one");
    }
}

/// This machine's name, as far as it is known.
#[must_use]
pub fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned()).unwrap_or_default()
}
