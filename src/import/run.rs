//! What every import shares: reading in chunks, counting, handing rows back.

use std::path::{Path, PathBuf};

use super::table::{Field, Rejected, Rejects, Row, Table, TableError};
use crate::domain::recipient::masked;
use crate::say;
use crate::store::groups::Roster;
use crate::store::recipients::{Keep, Written};
use crate::store::{Store, StoreError};

/// Rows a transaction: it stays under 100 ms, so that others get their turn.
const CHUNK: usize = 2_000;
/// Rows that one transaction takes out of a roster.
const PAGE: i64 = 5_000;

/// Why an import stopped.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error(transparent)]
    Table(#[from] TableError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How far an import has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub rows: u64,
    pub rejected: u64,
    /// Bytes of the file, read and in all.
    pub read: u64,
    pub total: u64,
}

/// Whether a file says the whole of a group or list, or more of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    #[default]
    Append,
    /// What the file lacks is taken out, unless rows of it were refused.
    Replace,
}

/// How to run an import.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// Reads, checks and resolves everything, and writes nothing but rejects.
    pub dry_run: bool,
    /// Where the file of rejects goes; beside the table when not given.
    pub rejects: Option<PathBuf>,
}

impl Run {
    pub(super) fn keep(&self) -> Keep {
        if self.dry_run { Keep::RollBack } else { Keep::Commit }
    }
}

/// What an import did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    pub read: u64,
    pub added: u64,
    pub updated: u64,
    pub unchanged: u64,
    pub removed: u64,
    pub rejected: u64,
    /// Landlines left out, since they take no text messages.
    pub landlines: u64,
    /// Rows were refused, so nothing that the file lacks was taken out.
    pub removal_skipped: bool,
    /// The file could not be read to its end.
    pub broken_off: bool,
    pub rejects_file: Option<PathBuf>,
}

/// The counts and the rejects of a running import.
pub(super) struct Tally {
    pub summary: Summary,
    rejects: Rejects,
}

impl Tally {
    pub(super) fn reject(&mut self, row: &impl Rejected, reason: &str) -> Result<(), ImportError> {
        self.summary.rejected += 1;
        Ok(self.rejects.add(row, reason)?)
    }

    pub(super) fn count(&mut self, written: &Written) {
        self.summary.added += written.added;
        self.summary.updated += written.updated;
        self.summary.unchanged += written.unchanged;
    }

    fn finish(mut self) -> Result<Summary, ImportError> {
        self.summary.rejects_file = self.rejects.finish()?.map(|(path, _)| path);
        Ok(self.summary)
    }
}

/// One kind of table: a row becomes a record, records are written by the chunk.
pub(super) trait Importer {
    type Record;

    /// Reads a row, or says why it cannot be used.
    fn record(&mut self, row: &Row, summary: &mut Summary) -> Result<Self::Record, String>;

    /// Writes a chunk; rows that match nothing are rejected here.
    async fn write(&mut self, chunk: Vec<(Row, Self::Record)>, tally: &mut Tally) -> Result<(), ImportError>;

    /// Does what needs the whole file.
    async fn finish(&mut self, _: &mut Tally) -> Result<(), ImportError> {
        Ok(())
    }
}

/// Reads the table through the importer. Memory holds one chunk.
pub(super) async fn drive<I: Importer>(
    table: &mut Table,
    importer: &mut I,
    rejects: Option<&Path>,
    report: &mut dyn FnMut(Progress),
) -> Result<Summary, ImportError> {
    let mut tally = Tally { summary: Summary::default(), rejects: Rejects::new(table, rejects) };
    let bytes = table.progress();
    let mut chunk = Vec::with_capacity(CHUNK);
    for row in table.rows()? {
        let row = match row {
            Ok(row) => row,
            Err(broken) => {
                tally.summary.read += 1;
                tally.summary.broken_off |= broken.is_fatal();
                tally.reject(&broken, &broken.to_string())?;
                continue;
            }
        };
        tally.summary.read += 1;
        match importer.record(&row, &mut tally.summary) {
            Ok(record) => chunk.push((row, record)),
            Err(reason) => tally.reject(&row, &reason)?,
        }
        if chunk.len() == CHUNK {
            importer.write(std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK)), &mut tally).await?;
            let (rows, rejected) = (tally.summary.read, tally.summary.rejected);
            report(Progress { rows, rejected, read: bytes.read(), total: bytes.total() });
        }
    }
    if !chunk.is_empty() {
        importer.write(chunk, &mut tally).await?;
    }
    importer.finish(&mut tally).await?;
    let (rows, rejected) = (tally.summary.read, tally.summary.rejected);
    report(Progress { rows, rejected, read: bytes.total(), total: bytes.total() });
    tally.finish()
}

/// Takes what `seen` lacks out of a roster. An interruption leaves too many, never
/// too few; the same import again finishes it.
pub(super) async fn remove_missing(
    store: &Store,
    roster: Roster,
    seen: &Seen,
    dry_run: bool,
) -> Result<u64, ImportError> {
    let (mut after, mut removed) = (0, 0);
    loop {
        let page = store.roster_page(roster, after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(removed) };
        after = *last;
        let gone: Vec<i64> = page.into_iter().filter(|no| !seen.contains(*no)).collect();
        removed += if dry_run { gone.len() as u64 } else { store.remove_from_roster(roster, &gone).await? };
    }
}

/// The recipients a file named: a bit each, for their numbers are dense.
#[derive(Default)]
pub(super) struct Seen(Vec<u64>);

impl Seen {
    /// Whether it is new.
    pub(super) fn insert(&mut self, no: i64) -> bool {
        let Some((word, bit)) = Self::place(no) else { return false };
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        new
    }

    pub(super) fn contains(&self, no: i64) -> bool {
        Self::place(no).is_some_and(|(word, bit)| self.0.get(word).is_some_and(|w| w & bit != 0))
    }

    fn place(no: i64) -> Option<(usize, u64)> {
        let no = usize::try_from(no).ok()?;
        Some((no / 64, 1 << (no % 64)))
    }
}

/// The name of a field, as people write it in the header.
pub(super) fn label(fields: &'static [Field], key: &'static str) -> &'static str {
    fields.iter().find(|f| f.key == key).map_or(key, Field::label)
}

/// `手机“139***00”不对：应为…`
pub(super) fn wrong(label: &str, value: &str, expected: &str) -> String {
    let value = masked(value);
    say!("{label}“{value}”不对：应为{expected}", "{label} `{value}` is wrong: expected {expected}")
}

/// `缺少姓名`
pub(super) fn lacks(label: &str) -> String {
    say!("缺少“{label}”，请填写", "`{label}` is empty; fill it in")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seen_knows_what_it_saw() {
        let mut seen = Seen::default();
        assert!(seen.insert(70) && !seen.insert(70) && seen.insert(1));
        assert!(seen.contains(1) && !seen.contains(2) && !seen.contains(7_000));
    }
}
