//! Imports a list: the variables of each recipient, and the row they came in.

use std::path::Path;

use jiff::civil::Date;
use serde_json::{Map, Value};

use super::recipients::fields::ID_NUMBER;
use super::recipients::{Reader, RecipientOptions};
use super::run::{Importer, Mode, Seen, Tally, drive, remove_missing};
use super::table::{Options, Row, Table, TableError};
use super::who::{Places, not_found, who};
use super::{ImportError, Progress, Run, Summary};
use crate::domain::recipient::masked;
use crate::say;
use crate::store::Store;
use crate::store::groups::Roster;
use crate::store::lists::ListRow;
use crate::store::recipients::{Found, RecipientRecord, Who};

pub use super::who::FIELDS;

/// Opens a table whose further columns are variables.
///
/// # Errors
/// When it cannot be read, or two of its columns bear one name.
pub fn open(path: &Path, options: &Options) -> Result<Table, TableError> {
    Table::open(path, FIELDS, &Options { extra: true, ..options.clone() })
}

/// What the importer of a list needs to know besides the table.
pub struct ListOptions {
    pub name: String,
    pub mode: Mode,
    /// Makes recipients of rows that match nobody and say name and region; else such
    /// rows are rejected.
    pub create: bool,
    /// Today at the site.
    pub today: Date,
}

/// Imports a list.
///
/// # Errors
/// When the file or the database fails; rows at fault are only rejected.
pub async fn import(
    store: &Store,
    table: &mut Table,
    run: &Run,
    options: &ListOptions,
    report: &mut dyn FnMut(Progress),
) -> Result<Summary, ImportError> {
    let columns: Vec<(usize, String)> = table.headers().map(|(at, header)| (at, header.to_owned())).collect();
    let known = store.list(&options.name).await?;
    let no = if run.dry_run {
        known.map(|(no, _)| no)
    } else {
        // A file that adds to a list takes no column from it.
        let mut all = known.map_or_else(Vec::new, |(_, names)| names);
        if options.mode == Mode::Replace {
            all.clear();
        }
        for (_, header) in &columns {
            if !all.contains(header) {
                all.push(header.clone());
            }
        }
        Some(store.put_list(&options.name, &all).await?)
    };
    let index = store.regions_index().await?;
    let new = RecipientOptions { source: options.name.clone(), ..RecipientOptions::new(options.today) };
    let reader = options.create.then(|| Reader::new(FIELDS, store.vault.clone(), index.clone(), &new));
    let places = Places::new(index);
    let mut importer = Lines { store, run, mode: options.mode, no, columns, places, reader, seen: Seen::default() };
    let summary = drive(table, &mut importer, run.rejects.as_deref(), report).await?;
    tracing::info!(read = summary.read, added = summary.added, removed = summary.removed, "imported a list");
    Ok(summary)
}

struct Lines<'a> {
    store: &'a Store,
    run: &'a Run,
    mode: Mode,
    /// `None` in a dry run for a list that does not exist yet.
    no: Option<i64>,
    /// Every column of the file, with its place.
    columns: Vec<(usize, String)>,
    places: Places,
    /// There when rows that match nobody become recipients.
    reader: Option<Reader<'a>>,
    seen: Seen,
}

/// A row: whom it means, and the recipient to make when there is none.
struct Line {
    who: Who,
    new: Option<Result<RecipientRecord, String>>,
    vars: Map<String, Value>,
}

impl Importer for Lines<'_> {
    type Record = Line;

    fn record(&mut self, row: &Row, summary: &mut Summary) -> Result<Line, String> {
        let who = who(row, &self.store.vault, &mut self.places)?;
        let new = self.reader.as_mut().map(|r| r.read(row, &mut summary.landlines).map(|draft| draft.record));
        let vars = self.cells(row);
        Ok(Line { who, new, vars })
    }

    async fn write(&mut self, chunk: Vec<(Row, Line)>, tally: &mut Tally) -> Result<(), ImportError> {
        let all: Vec<Who> = chunk.iter().map(|(_, line)| line.who.clone()).collect();
        let found = self.store.find_recipients(&all).await?;
        let (mut ready, mut fresh) = (Vec::with_capacity(chunk.len()), Vec::new());
        for ((row, line), found) in chunk.into_iter().zip(found) {
            match (found, line.new) {
                (Found::One(no), _) => ready.push((row, no, line.vars)),
                (Found::None, Some(Ok(record))) => fresh.push((row, record, line.vars)),
                (Found::None, Some(Err(reason))) => tally.reject(&row, &reason)?,
                (other, _) => tally.reject(&row, &not_found(other))?,
            }
        }
        if self.run.dry_run {
            // Rolled back, so their numbers would come again in the next chunk.
            tally.summary.added += fresh.len() as u64;
        } else if !fresh.is_empty() {
            let records = fresh.iter().map(|(_, record, _)| record.clone()).collect();
            let numbers = self.store.put_recipients(records, self.run.keep(), &|_| false).await?.numbers;
            ready.extend(fresh.into_iter().zip(numbers).map(|((row, _, vars), no)| (row, no, vars)));
        }
        self.put(ready, tally).await
    }

    async fn finish(&mut self, tally: &mut Tally) -> Result<(), ImportError> {
        let (Mode::Replace, Some(no)) = (self.mode, self.no) else { return Ok(()) };
        if tally.summary.rejected > 0 {
            tally.summary.removal_skipped = true;
            return Ok(());
        }
        tally.summary.removed = remove_missing(self.store, Roster::List(no), &self.seen, self.run.dry_run).await?;
        Ok(())
    }
}

impl Lines<'_> {
    /// The whole row under its headers, so that the same table can go out again. Of an
    /// ID number only what tells it from its neighbours is kept.
    fn cells(&self, row: &Row) -> Map<String, Value> {
        let extra: Map<String, Value> = row.extra().map(|(header, text)| (header.to_owned(), text.into())).collect();
        let original = |at: usize| row.original().get(at).map_or("", |cell| cell.trim());
        let cell = |(at, header): &(usize, String)| {
            let value = extra.get(header).cloned().unwrap_or_else(|| {
                if ID_NUMBER.is_called(header) { masked(original(*at)).into() } else { original(*at).into() }
            });
            (header.clone(), value)
        };
        self.columns.iter().map(cell).collect()
    }

    async fn put(&mut self, ready: Vec<(Row, i64, Map<String, Value>)>, tally: &mut Tally) -> Result<(), ImportError> {
        let mut rows = Vec::with_capacity(ready.len());
        for (row, recipient_no, vars) in ready {
            if self.seen.insert(recipient_no) {
                rows.push(ListRow { recipient_no, row_no: i64::try_from(row.line).unwrap_or(i64::MAX), vars });
            } else {
                let reason = say!(
                    "这个对象在名单中已有一行。请把几行合并成一行",
                    "this recipient has a row in the list already. Join the rows to one"
                );
                tally.reject(&row, &reason)?;
            }
        }
        match self.no {
            Some(no) => tally.count(&self.store.put_list_rows(no, &rows, self.run.keep()).await?),
            None => tally.summary.added += rows.len() as u64,
        }
        Ok(())
    }
}
