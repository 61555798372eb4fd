//! A row as a file gives it, before anyone knows what its columns mean.

use super::error::RowErrorKind;

/// One row of a file.
#[derive(Default, Clone)]
pub(super) struct Record {
    /// Row as a spreadsheet counts, from 1.
    pub line: u64,
    pub cells: Vec<String>,
    /// Line breaks inside its cells.
    pub breaks: u64,
}

impl Record {
    pub(super) fn is_blank(&self) -> bool {
        self.cells.iter().all(|cell| cell.trim().is_empty())
    }
}

/// Reading ended before the file did.
pub(super) struct Broken {
    pub line: u64,
    pub kind: RowErrorKind,
}

/// Rows of a file, one at a time.
pub(super) trait Records {
    /// The next row, blank ones included; `None` at the end.
    fn next(&mut self) -> Result<Option<Record>, Broken>;
}
