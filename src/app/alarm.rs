//! Who looks whether the sending goes on, and whom it tells.

use std::sync::Arc;

use super::App;
use super::engine::Common;
use super::folder;
use crate::dispatch::alarm::tell::{AlarmError, Teller};
use crate::dispatch::disk::Disk;
use crate::dispatch::monitor::Monitor;

impl App {
    /// Who hears the alarms of this site.
    ///
    /// # Errors
    /// When `[alarm]` names a channel, an address or a program that is not there.
    pub fn teller(&self) -> Result<Teller, AlarmError> {
        Teller::new(&self.config.alarm, &self.registry, &self.config.base)
    }

    /// The monitor of one engine: its gauges and its alarms.
    pub(super) fn monitor(&self, common: &Common) -> anyhow::Result<Monitor> {
        Ok(Monitor {
            store: Arc::clone(&self.store),
            ways: Arc::clone(&common.ways),
            disk: Disk::new(folder(self.store.file.as_deref()), self.config.disk.reserve_mb),
            quiet: self.config.quiet()?,
            counts: Arc::clone(&common.counts),
            limits: self.config.alarm_limits()?,
            teller: self.teller()?,
            me: common.owner.clone(),
            site: self.config.site.name.clone(),
            stop: common.stop.clone(),
        })
    }
}
