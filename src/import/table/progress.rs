//! How far the reading of a file has come, for progress bars.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A handle that outlives the borrow of the rows; cheap to clone.
#[derive(Debug, Clone)]
pub struct Progress {
    total: u64,
    read: Arc<AtomicU64>,
}

impl Progress {
    pub(super) fn new(total: u64) -> Self {
        Self { total, read: Arc::default() }
    }

    /// Bytes to read: the size of the file.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Bytes read; for a workbook, the share of rows read as a share of the file.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed).min(self.total)
    }

    pub(super) fn add(&self, bytes: u64) {
        self.read.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn set(&self, bytes: u64) {
        self.read.store(bytes, Ordering::Relaxed);
    }
}
