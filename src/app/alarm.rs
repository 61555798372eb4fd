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
        // On a server the database's disk is another machine's; gong's own data lies here.
        let (under, beside) = match &self.store.file {
            Some(file) => ("database", file.clone()),
            None => ("site", self.config.path(&self.config.store.key_file)),
        };
        Ok(Monitor {
            store: Arc::clone(&self.store),
            ways: Arc::clone(&common.ways),
            disk: Disk::new(folder(self.store.file.as_deref()), self.config.disk.reserve_mb),
            shown: (under, Disk::new(folder(Some(&beside)), 0)),
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
