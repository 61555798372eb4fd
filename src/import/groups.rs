//! Imports the members of a group, or makes one by rule.

use std::path::Path;

use super::run::{Importer, Mode, Seen, Tally, drive, remove_missing};
use super::table::{Options, Row, Table, TableError};
use super::who::{Places, not_found, who};
use super::{ImportError, Progress, Run, Summary};
use crate::store::Store;
use crate::store::groups::{GroupRecord, Roster};
use crate::store::recipients::{Found, Who};

pub use super::who::FIELDS;

/// Opens a table of members.
///
/// # Errors
/// When it cannot be read or lacks a column.
pub fn open(path: &Path, options: &Options) -> Result<Table, TableError> {
    Table::open(path, FIELDS, options)
}

/// Imports the members of `group`, which is made or brought up to date first. A rule
/// is put with [`Store::put_group`] alone.
///
/// # Errors
/// When the file or the database fails; rows at fault are only rejected.
pub async fn import(
    store: &Store,
    table: &mut Table,
    (run, mode): (&Run, Mode),
    group: &GroupRecord,
    report: &mut dyn FnMut(Progress),
) -> Result<Summary, ImportError> {
    let no = if run.dry_run {
        store.group_numbers().await?.get(&group.name).copied()
    } else {
        Some(store.put_group(group).await?)
    };
    let places = Places::new(store.regions_index().await?);
    let mut importer = Members { store, run, mode, no, places, seen: Seen::default() };
    let summary = drive(table, &mut importer, run.rejects.as_deref(), report).await?;
    tracing::info!(read = summary.read, added = summary.added, removed = summary.removed, "imported group members");
    Ok(summary)
}

struct Members<'a> {
    store: &'a Store,
    run: &'a Run,
    mode: Mode,
    /// `None` in a dry run for a group that does not exist yet.
    no: Option<i64>,
    places: Places,
    seen: Seen,
}

impl Importer for Members<'_> {
    type Record = Who;

    fn record(&mut self, row: &Row, _: &mut Summary) -> Result<Who, String> {
        who(row, &self.store.vault, &mut self.places)
    }

    async fn write(&mut self, chunk: Vec<(Row, Who)>, tally: &mut Tally) -> Result<(), ImportError> {
        let (rows, all): (Vec<Row>, Vec<Who>) = chunk.into_iter().unzip();
        let mut members = Vec::with_capacity(rows.len());
        for (row, found) in rows.iter().zip(self.store.find_recipients(&all).await?) {
            match found {
                Found::One(no) if self.seen.insert(no) => members.push(no),
                Found::One(_) => tally.summary.unchanged += 1,
                other => tally.reject(row, &not_found(other))?,
            }
        }
        match self.no {
            Some(no) => tally.count(&self.store.add_members(no, &members, self.run.keep()).await?),
            None => tally.summary.added += members.len() as u64,
        }
        Ok(())
    }

    async fn finish(&mut self, tally: &mut Tally) -> Result<(), ImportError> {
        let (Mode::Replace, Some(no)) = (self.mode, self.no) else { return Ok(()) };
        // A refused row may be a member with a digit mistyped.
        if tally.summary.rejected > 0 {
            tally.summary.removal_skipped = true;
            return Ok(());
        }
        tally.summary.removed = remove_missing(self.store, Roster::Group(no), &self.seen, self.run.dry_run).await?;
        Ok(())
    }
}
