//! Tables of people and of declarations: CSV and xlsx read row by row, columns found by
//! their Chinese or English headers, and refused rows handed back to be mended.

mod csv;
mod encoding;
mod error;
mod header;
mod progress;
mod record;
mod reject;
mod row;
#[cfg(test)]
mod tests;
mod text;
mod xlsx;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use error::{MissingColumns, RowError, RowErrorKind, TableError};
pub use header::{Mapped, Mapping, Suggestion, Unknown, Why};
pub use progress::Progress;
pub use reject::{Rejected, Rejects};
pub use row::{Row, Rows};
pub use xlsx::sheets;

use crate::lang::{self, Lang};
use csv::TextFile;
use encoding::Format;
use header::Clash;
use record::{Record, Records};
use row::Shape;
use xlsx::Workbook;

/// Rows among which the header is looked for: titles often stand above it.
const HEADER_WITHIN: usize = 10;
/// Rows read ahead, for the header and for what unknown columns hold.
const AHEAD: usize = 40;

/// A column that an importer understands.
#[derive(Debug)]
pub struct Field {
    /// Its name in code and in [`Options::columns`].
    pub key: &'static str,
    /// Header spellings, the preferred first; case, width, spaces, `*` and what stands
    /// in brackets do not matter.
    pub names: &'static [&'static str],
    /// The column must be there; its cells may still be empty.
    pub required: bool,
    pub help_zh: &'static str,
    pub help_en: &'static str,
}

impl Field {
    /// What the column holds, in the language of the process.
    pub fn help(&self) -> &'static str {
        match lang::current() {
            Lang::Zh => self.help_zh,
            Lang::En => self.help_en,
        }
    }

    /// Whether a column of this header is this field.
    pub fn is_called(&self, header: &str) -> bool {
        self.names.iter().any(|name| header::same(name, header))
    }

    /// Its first header spelling in the language of the process, or its key.
    pub fn label(&self) -> &'static str {
        let english = lang::current() == Lang::En;
        self.names.iter().find(|name| name.is_ascii() == english).unwrap_or(&self.key)
    }
}

/// How to read a table.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Field keys with the header to take for each, before any known spelling.
    pub columns: Vec<(String, String)>,
    /// Worksheet of a workbook; the first visible one if not given.
    pub sheet: Option<String>,
    /// Keep columns that no field takes as extra cells under their headers.
    pub extra: bool,
}

enum Source {
    Text(TextFile),
    Book(Box<Workbook>),
}

/// A table whose header is understood.
pub struct Table {
    path: PathBuf,
    source: Source,
    shape: Arc<Shape>,
    mapping: Mapping,
    progress: Progress,
}

impl Table {
    /// Opens a table, tells its format, encoding, separator and header row by content,
    /// and finds the columns. Blocking; reads the first rows only.
    pub fn open(path: &Path, fields: &'static [Field], options: &Options) -> Result<Self, TableError> {
        let opening = |source| TableError::Open { path: path.to_owned(), source };
        let format = encoding::sniff(path)?;
        let size = std::fs::metadata(path).map_err(opening)?.len();
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut opened = Opened { path, file, fields, options, best: None, broken: None };
        let source = match format {
            Format::Workbook => {
                let mut book = Workbook::open(path, options.sheet.as_deref())?;
                opened.look(&mut book.records(path, Progress::new(size))?);
                Source::Book(Box::new(book))
            }
            Format::Text { encoding, carriage_returns } => {
                let mut text = TextFile { path: path.to_owned(), encoding, carriage_returns, delimiter: b',' };
                let mut chosen = text.delimiter;
                for delimiter in csv::DELIMITERS {
                    text.delimiter = delimiter;
                    if opened.look(&mut text.records(Progress::new(size)).map_err(opening)?) {
                        chosen = delimiter;
                    }
                }
                text.delimiter = chosen;
                Source::Text(text)
            }
        };
        let (shape, mapping) = opened.understood(&source)?;
        Ok(Self { path: path.to_owned(), source, shape: Arc::new(shape), mapping, progress: Progress::new(size) })
    }

    /// The headers that are not empty with their columns, in the order of the file.
    pub fn headers(&self) -> impl Iterator<Item = (usize, &str)> {
        self.shape.headers.iter().map(|h| h.trim()).enumerate().filter(|(_, header)| !header.is_empty())
    }

    /// Which header maps to which field, and which were not understood.
    pub fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// The rows from the first after the header; each call starts anew. Blocking.
    pub fn rows(&mut self) -> Result<Rows<'_>, TableError> {
        self.progress.set(0);
        let progress = self.progress.clone();
        let records: Box<dyn Records + '_> = match &mut self.source {
            Source::Book(book) => Box::new(book.records(&self.path, progress)?),
            Source::Text(text) => {
                let opening = |source| TableError::Open { path: text.path.clone(), source };
                Box::new(text.records(progress).map_err(opening)?)
            }
        };
        Ok(Rows { records, shape: Arc::clone(&self.shape), ended: false })
    }

    /// A handle on how far reading has come, to hold while the rows are borrowed.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// Size of the file, in bytes.
    pub fn size_hint_bytes(&self) -> u64 {
        self.progress.total()
    }

    /// How much of it was read, in bytes.
    pub fn bytes_read(&self) -> u64 {
        self.progress.read()
    }
}

/// A table being opened: the likeliest header so far.
struct Opened<'o> {
    path: &'o Path,
    file: String,
    fields: &'static [Field],
    options: &'o Options,
    best: Option<Guess>,
    broken: Option<RowError>,
}

/// A row taken for the header, and the rows after it.
struct Guess {
    /// All required fields, fields found, columns: more is better.
    score: (bool, usize, usize),
    header: Record,
    after: Vec<Record>,
}

impl Opened<'_> {
    /// Looks for a header among the first rows; whether it beats what was found before.
    fn look(&mut self, records: &mut dyn Records) -> bool {
        let mut rows: Vec<Record> = Vec::new();
        while rows.len() < AHEAD {
            match records.next() {
                Ok(Some(record)) if record.is_blank() => {}
                Ok(Some(record)) => rows.push(record),
                Ok(None) => break,
                Err(broken) => {
                    self.broken.get_or_insert(broken.named(&self.file));
                    break;
                }
            }
        }
        let mut found: Option<(usize, (bool, usize, usize))> = None;
        for (index, row) in rows.iter().enumerate().take(HEADER_WITHIN) {
            let score = self.score(row);
            // Without any known column the first row counts, however wide later ones are.
            let better = found.is_none_or(|(_, best)| (score.0, score.1) > (best.0, best.1));
            if better {
                found = Some((index, score));
            }
        }
        let Some((index, score)) = found else { return false };
        if self.best.as_ref().is_some_and(|best| best.score >= score) {
            return false;
        }
        let after = rows.split_off(index + 1);
        self.best = rows.pop().map(|header| Guess { score, header, after });
        true
    }

    fn score(&self, row: &Record) -> (bool, usize, usize) {
        let (columns, clashes) = header::assign(self.fields, self.options, &row.cells);
        let several = clashes.iter().filter(|c| matches!(c, Clash::Several { .. })).count();
        let required = self.fields.iter().zip(&columns).all(|(field, column)| !field.required || column.is_some());
        (required, columns.iter().flatten().count() + several, row.cells.len())
    }

    fn understood(mut self, source: &Source) -> Result<(Shape, Mapping), TableError> {
        let Some(Guess { mut header, after, .. }) = self.best.take() else {
            return Err(self.broken.map_or_else(|| TableError::Empty(self.path.to_owned()), TableError::Row));
        };
        while header.cells.last().is_some_and(|cell| cell.trim().is_empty()) {
            header.cells.pop();
        }
        let width = header.cells.len();
        if header.cells.ends_with(&reject::COLUMNS.map(str::to_owned)) {
            header.cells.truncate(width - reject::COLUMNS.len());
        }
        let (columns, clashes) = header::assign(self.fields, self.options, &header.cells);
        if let Some(clash) = clashes.into_iter().next() {
            return Err(self.refused(clash, header));
        }
        let (encoding, elastic, label) = match source {
            Source::Text(text) => (text.encoding.name(), false, text.encoding.name().to_owned()),
            Source::Book(book) => ("xlsx", true, book.sheet.clone()),
        };
        let mapping = self.mapping(&header, &after, &columns, label);
        self.require(&header, &columns, &mapping)?;
        let extras = self.extras(&header, &mapping)?;
        let shape = Shape {
            file: self.file,
            line: header.line,
            encoding: encoding.to_owned(),
            headers: header.cells,
            width,
            elastic,
            columns: mapping.mapped.iter().map(|m| (m.key, m.column)).collect(),
            extras,
        };
        Ok((shape, mapping))
    }

    fn refused(&self, clash: Clash, header: Record) -> TableError {
        let path = self.path.to_owned();
        match clash {
            Clash::NoField { key } => {
                TableError::UnknownField { key, known: self.fields.iter().map(|f| f.key).collect() }
            }
            Clash::NoHeader { key, header: wanted } => {
                TableError::UnknownHeader { path, key, header: wanted, found: header.cells }
            }
            Clash::Several { field, columns } => TableError::Ambiguous {
                path,
                line: header.line,
                field: self.fields[field].label().to_owned(),
                headers: columns.into_iter().map(|c| header.cells[c].clone()).collect(),
            },
        }
    }

    fn mapping(&self, header: &Record, after: &[Record], columns: &[Option<usize>], source: String) -> Mapping {
        let free: Vec<&'static Field> =
            self.fields.iter().zip(columns).filter(|(_, c)| c.is_none()).map(|(f, _)| f).collect();
        let mapped = self.fields.iter().zip(columns).filter_map(|(field, column)| {
            column.map(|column| Mapped { key: field.key, header: header.cells[column].trim().to_owned(), column })
        });
        let unknown = header
            .cells
            .iter()
            .enumerate()
            .filter(|(column, cell)| !cell.trim().is_empty() && !columns.contains(&Some(*column)));
        let unknown = unknown.map(|(column, cell)| {
            let values: Vec<&str> = after.iter().filter_map(|r| r.cells.get(column)).map(String::as_str).collect();
            Unknown { header: cell.trim().to_owned(), column, suggestion: header::suggest(&free, cell, &values) }
        });
        Mapping {
            line: header.line,
            source,
            mapped: mapped.collect(),
            unknown: unknown.collect(),
            absent: free.iter().map(|f| f.key).collect(),
        }
    }

    fn require(&self, header: &Record, columns: &[Option<usize>], mapping: &Mapping) -> Result<(), TableError> {
        let missing = self.fields.iter().zip(columns).filter(|(field, column)| field.required && column.is_none());
        let missing: Vec<String> = missing.map(|(f, _)| format!("{} ({}: {})", f.label(), f.key, f.help())).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let hints = mapping.unknown.iter().filter(|u| u.suggestion.is_some()).map(ToString::to_string).collect();
        Err(TableError::Missing(Box::new(MissingColumns {
            path: self.path.to_owned(),
            line: header.line,
            source: mapping.source.clone(),
            missing,
            found: header.cells.clone(),
            hints,
        })))
    }

    /// Columns kept under their headers, which must tell them apart.
    fn extras(&self, header: &Record, mapping: &Mapping) -> Result<Vec<usize>, TableError> {
        if !self.options.extra {
            return Ok(Vec::new());
        }
        for (index, unknown) in mapping.unknown.iter().enumerate() {
            if mapping.unknown[..index].iter().any(|u| u.header == unknown.header) {
                return Err(TableError::Ambiguous {
                    path: self.path.to_owned(),
                    line: header.line,
                    field: unknown.header.clone(),
                    headers: vec![unknown.header.clone(); 2],
                });
            }
        }
        Ok(mapping.unknown.iter().map(|u| u.column).collect())
    }
}
