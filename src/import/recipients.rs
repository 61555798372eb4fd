//! Imports people, households and organisations.
//!
//! A row is known by its external id or ID number. Without either its identity is
//! made of region, kind, name and the first of: own phone, household number, e-mail,
//! birth date. So the same file changes nothing when it comes again; a person who
//! was first known by phone and later comes with an ID number is a duplicate for
//! `name+phone` merging.

pub(super) mod fields;
mod reader;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use jiff::civil::Date;
use serde_json::Value;

pub use fields::FIELDS;
pub(super) use reader::Reader;

use super::run::{Importer, Seen, Tally, drive, label};
use super::table::{Options, Row, Table, TableError};
use super::{ImportError, Progress, Run, Summary};
use crate::say;
use crate::store::Store;
use crate::store::groups::GroupRecord;
use crate::store::recipients::RecipientRecord;

/// Reads a cell of a column that no field takes: `None` when no declared attribute
/// bears the header; else the attribute's own name and its value, or in words what a
/// value looks like.
pub type AttributeReader<'a> = dyn Fn(&str, &str) -> Option<Result<(String, Value), String>> + 'a;

/// What the importer of recipients needs to know besides the table.
pub struct RecipientOptions<'a> {
    /// Makes groups that the file names and that do not exist; else such rows are rejected.
    pub create_groups: bool,
    /// Where rows say nothing: residence, source and purpose of the data.
    pub region_no: Option<i64>,
    pub source: String,
    pub purpose: String,
    /// Today at the site, for ages.
    pub today: Date,
    pub attributes: Option<&'a AttributeReader<'a>>,
}

impl RecipientOptions<'_> {
    /// Options that add nothing to what rows say.
    #[must_use]
    pub fn new(today: Date) -> Self {
        Self {
            create_groups: false,
            region_no: None,
            source: String::new(),
            purpose: String::new(),
            today,
            attributes: None,
        }
    }
}

/// Opens a table of recipients; unknown columns are kept for declared attributes.
///
/// # Errors
/// When it cannot be read or lacks a column.
pub fn open(path: &Path, options: &Options) -> Result<Table, TableError> {
    Table::open(path, FIELDS, &Options { extra: true, ..options.clone() })
}

/// Imports recipients.
///
/// # Errors
/// When the file or the database fails; rows at fault are only rejected.
pub async fn import(
    store: &Store,
    table: &mut Table,
    run: &Run,
    options: &RecipientOptions<'_>,
    report: &mut dyn FnMut(Progress),
) -> Result<Summary, ImportError> {
    let reader = Reader::new(FIELDS, store.vault.clone(), store.regions_index().await?, options);
    let groups = store.group_numbers().await?;
    let mut importer =
        Recipients { store, run, create_groups: options.create_groups, reader, groups, seen: Seen::default() };
    let summary = drive(table, &mut importer, run.rejects.as_deref(), report).await?;
    tracing::info!(read = summary.read, added = summary.added, rejected = summary.rejected, "imported recipients");
    Ok(summary)
}

/// A record whose groups are still names.
pub(super) struct Draft {
    pub record: RecipientRecord,
    pub groups: Vec<String>,
}

struct Recipients<'a> {
    store: &'a Store,
    run: &'a Run,
    create_groups: bool,
    reader: Reader<'a>,
    groups: HashMap<String, i64>,
    /// Those that had a row before: a person may have a line a phone number.
    seen: Seen,
}

impl Importer for Recipients<'_> {
    type Record = Draft;

    fn record(&mut self, row: &Row, summary: &mut Summary) -> Result<Draft, String> {
        let draft = self.reader.read(row, &mut summary.landlines)?;
        if let Some(unknown) = draft.groups.iter().find(|name| !self.create_groups && !self.groups.contains_key(*name))
        {
            let label = label(FIELDS, "groups");
            return Err(say!(
                "{label}：没有人群“{unknown}”。请先建立它，或选择自动建立人群",
                "{label}: no group `{unknown}`. Make it first, or choose to make groups as they come"
            ));
        }
        Ok(draft)
    }

    async fn write(&mut self, chunk: Vec<(Row, Draft)>, tally: &mut Tally) -> Result<(), ImportError> {
        if !self.run.dry_run {
            self.make_groups(&chunk).await?;
        }
        let records = chunk.into_iter().map(|(_, draft)| {
            let mut record = draft.record;
            record.groups = draft.groups.iter().filter_map(|name| self.groups.get(name)).copied().collect();
            record
        });
        let rows = records.len() as u64;
        let mut written =
            self.store.put_recipients(records.collect(), self.run.keep(), &|no| self.seen.contains(no)).await?;
        if !self.run.dry_run {
            for no in &written.numbers {
                self.seen.insert(*no);
            }
        }
        // Rows that speak of one person again in the same chunk.
        written.unchanged += rows - (written.added + written.updated + written.unchanged);
        tally.count(&written);
        Ok(())
    }
}

impl Recipients<'_> {
    async fn make_groups(&mut self, chunk: &[(Row, Draft)]) -> Result<(), ImportError> {
        let new: HashSet<&String> =
            chunk.iter().flat_map(|(_, d)| &d.groups).filter(|name| !self.groups.contains_key(*name)).collect();
        for name in new {
            let no = self.store.put_group(&GroupRecord { name: name.clone(), ..GroupRecord::default() }).await?;
            self.groups.insert(name.clone(), no);
        }
        Ok(())
    }
}
