//! Who looks whether the sending goes on, and whom it tells.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::App;
use super::engine::folder;
use crate::dispatch::alarm::tell::{AlarmError, Teller};
use crate::dispatch::disk::Disk;
use crate::dispatch::monitor::Monitor;
use crate::dispatch::worker::Way;
use crate::telemetry::Counts;

impl App {
    /// Who hears the alarms of this site.
    ///
    /// # Errors
    /// When `[alarm]` names a channel, an address or a program that is not there.
    pub fn teller(&self) -> Result<Teller, AlarmError> {
        Teller::new(&self.config.alarm, &self.registry, &self.config.base)
    }

    /// The monitor of one engine: its gauges and its alarms.
    pub(super) fn monitor(
        &self,
        ways: &Arc<Vec<Way>>,
        counts: &Arc<Counts>,
        stop: &CancellationToken,
    ) -> anyhow::Result<Monitor> {
        Ok(Monitor {
            store: Arc::clone(&self.store),
            ways: Arc::clone(ways),
            disk: Disk::new(folder(self.store.file.as_deref()), self.config.disk.reserve_mb),
            quiet: self.config.quiet()?,
            counts: Arc::clone(counts),
            limits: self.config.alarm_limits()?,
            teller: self.teller()?,
            site: self.config.site.name.clone(),
            stop: stop.clone(),
        })
    }
}
