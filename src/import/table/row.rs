//! One row as the importer sees it: cells by field, and what to keep for a reject.

use std::fmt;
use std::sync::Arc;

use super::error::{RowError, RowErrorKind};
use super::record::{Broken, Record, Records};
use super::text;

/// More line breaks than an honest cell has; beyond, a stray quotation mark joined rows.
const MOST_BREAKS: u64 = 100;

/// What the header says about every row.
#[derive(Debug)]
pub(super) struct Shape {
    pub file: String,
    /// Row of the header: rows up to it are no data.
    pub line: u64,
    /// How the text was decoded, for errors.
    pub encoding: String,
    /// Without the columns that a file of rejects adds.
    pub headers: Vec<String>,
    /// Columns in the file, those of a file of rejects included.
    pub width: usize,
    /// Cells may be missing or stray at the end, as in worksheets.
    pub elastic: bool,
    pub columns: Vec<(&'static str, usize)>,
    pub extras: Vec<usize>,
}

/// A row of the table. Its cells are personal data and stay out of `Debug`.
pub struct Row {
    /// Row as a spreadsheet counts, from 1; in a text table without line breaks in
    /// cells, the line.
    pub line: u64,
    cells: Vec<String>,
    /// Cells whose text is not what it means, by column.
    mended: Vec<(usize, String)>,
    shape: Arc<Shape>,
}

impl Row {
    /// The cell of a field: trimmed, full-width digits and letters narrowed, invisible
    /// marks and spreadsheet text marks removed, scientific notation written out.
    /// Empty if the cell is empty or the table has no such column.
    pub fn get(&self, key: &str) -> &str {
        let column = self.shape.columns.iter().find(|(k, _)| *k == key);
        column.map_or("", |(_, column)| self.cell(*column))
    }

    /// Headers and cells of the columns that no field takes, if the options keep them.
    pub fn extra(&self) -> impl Iterator<Item = (&str, &str)> {
        self.shape.extras.iter().map(|column| (self.shape.headers[*column].trim(), self.cell(*column)))
    }

    /// The cells exactly as they were read.
    pub fn original(&self) -> &[String] {
        &self.cells
    }

    fn cell(&self, column: usize) -> &str {
        match self.mended.iter().find(|(c, _)| *c == column) {
            Some((_, mended)) => mended,
            None => self.cells[column].trim(),
        }
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Row").field("line", &self.line).finish_non_exhaustive()
    }
}

/// The rows after the header, blank ones left out; memory holds one at a time.
pub struct Rows<'t> {
    pub(super) records: Box<dyn Records + 't>,
    pub(super) shape: Arc<Shape>,
    pub(super) ended: bool,
}

impl Iterator for Rows<'_> {
    type Item = Result<Row, RowError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            match self.records.next() {
                Ok(Some(record)) if record.line <= self.shape.line || record.is_blank() => {}
                Ok(Some(record)) => return Some(self.shape.row(record)),
                Ok(None) => self.ended = true,
                Err(broken) => {
                    self.ended = true;
                    return Some(Err(self.shape.broken(broken)));
                }
            }
        }
        None
    }
}

impl Shape {
    pub(super) fn broken(&self, broken: Broken) -> RowError {
        broken.named(&self.file)
    }

    fn row(self: &Arc<Self>, record: Record) -> Result<Row, RowError> {
        let (line, found) = (record.line, record.cells.len());
        if let Some(kind) = self.misshapen(&record) {
            return Err(self.refuse(line, None, kind, self.without_reason(record.cells)));
        }
        let mut cells = record.cells;
        cells.resize(found.max(self.width), String::new());
        cells.truncate(self.headers.len());
        let mut mended = Vec::new();
        for column in self.columns.iter().map(|(_, c)| *c).chain(self.extras.iter().copied()) {
            if let Some(kind) = text::fault(&cells[column], &self.encoding) {
                return Err(self.refuse(line, Some(column), kind, cells));
            }
            mended.extend(text::mended(&cells[column]).map(|text| (column, text)));
        }
        Ok(Row { line, cells, mended, shape: Arc::clone(self) })
    }

    /// A misshapen row of a file of rejects without its old reason, which ends it.
    fn without_reason(&self, mut cells: Vec<String>) -> Vec<String> {
        let added = self.width - self.headers.len();
        if added > 0 {
            let filled = cells.iter().rposition(|cell| !cell.trim().is_empty()).map_or(0, |last| last + 1);
            cells.truncate(filled.saturating_sub(added));
        }
        cells
    }

    fn misshapen(&self, record: &Record) -> Option<RowErrorKind> {
        if record.breaks > MOST_BREAKS {
            return Some(RowErrorKind::Swallowed { lines: record.breaks + 1 });
        }
        let found = record.cells.len();
        let surplus = record.cells.iter().skip(self.width).any(|cell| !cell.trim().is_empty());
        let ragged = !self.elastic && (found < self.width || surplus);
        ragged.then_some(RowErrorKind::Ragged { found, expected: self.width })
    }

    fn refuse(&self, line: u64, column: Option<usize>, kind: RowErrorKind, original: Vec<String>) -> RowError {
        let column = column.map(|c| self.headers[c].trim().to_owned());
        RowError { file: self.file.clone(), line, column, kind, original }
    }
}

impl Broken {
    pub(super) fn named(self, file: &str) -> RowError {
        RowError { file: file.to_owned(), line: self.line, column: None, kind: self.kind, original: Vec::new() }
    }
}
