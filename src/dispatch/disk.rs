//! How much room the database has: with little left, what must go out at once goes
//! first, for every message needs room for its record.

use std::path::PathBuf;

use crate::domain::item::Lane;

/// The disk under an embedded database, and the room kept for the immediate lane.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    folder: Option<PathBuf>,
    /// Bytes.
    reserve: u64,
}

impl Disk {
    /// Watches the disk of `folder`; `None` where the database is a server of its own.
    #[must_use]
    pub fn new(folder: Option<PathBuf>, reserve_mb: u64) -> Self {
        Self { folder, reserve: reserve_mb.saturating_mul(1024 * 1024) }
    }

    /// Bytes free; `None` where there is no disk to ask.
    #[must_use]
    pub fn free(&self) -> Option<u64> {
        let disk = rustix::fs::statvfs(self.folder.as_ref()?).ok()?;
        Some(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// Less than the reserve is free. A disk that cannot be asked is not low.
    #[must_use]
    pub fn is_low(&self) -> bool {
        self.free().is_some_and(|free| free < self.reserve)
    }
}

/// The last lane that may be leased.
#[must_use]
pub const fn last_lane(low_disk: bool) -> i32 {
    if low_disk { Lane::Immediate.number() } else { Lane::Routine.number() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_low_below_its_reserve() {
        let here = Some(std::env::temp_dir());
        assert!(!Disk::new(here.clone(), 0).is_low());
        assert!(Disk::new(here, u64::MAX).is_low());
        assert!(!Disk::new(None, u64::MAX).is_low());
        assert!(!Disk::new(Some("/no/such/folder".into()), u64::MAX).is_low());
    }
}
