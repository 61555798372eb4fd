//! Rows that were refused, in a file to be mended and fed again.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use csv::{Terminator, Writer, WriterBuilder};

use super::Table;
use super::error::{RowError, TableError};
use super::row::Row;

/// The columns that a file of rejects adds: the reason and the row in the file it came from.
pub(super) const COLUMNS: [&str; 2] = ["原因", "行号"];

/// Files of rejects of one table that may lie side by side.
const MOST_FILES: u32 = 1000;

/// A row that can be handed back.
pub trait Rejected {
    /// Row in the file it came from, from 1.
    fn line(&self) -> u64;
    /// The cells as they were read.
    fn cells(&self) -> &[String];
}

impl Rejected for Row {
    fn line(&self) -> u64 {
        self.line
    }

    fn cells(&self) -> &[String] {
        self.original()
    }
}

impl Rejected for RowError {
    fn line(&self) -> u64 {
        self.line
    }

    fn cells(&self) -> &[String] {
        &self.original
    }
}

/// Writes refused rows to `NAME.rejected.csv`, made with the first one.
///
/// The cells are kept exactly, so that the file can be mended and fed again; the
/// columns of reason and row are passed over then. UTF-8 with a byte order mark, for
/// Excel; mode 0600, for it holds personal data. A file that is there already is left
/// alone and the next free name taken: someone may be mending it.
pub struct Rejects {
    source: PathBuf,
    header: Vec<String>,
    out: Option<(PathBuf, Writer<File>)>,
    count: u64,
}

impl Rejects {
    /// Rejects of a table, to lie in `folder` or else beside the table's file.
    pub fn new(table: &Table, folder: Option<&Path>) -> Self {
        let source = match (folder, table.path.file_name()) {
            (Some(folder), Some(name)) => folder.join(name),
            _ => table.path.clone(),
        };
        Self { source, header: table.shape.headers.clone(), out: None, count: 0 }
    }

    /// Adds a row and why it was refused.
    pub fn add(&mut self, row: &impl Rejected, reason: &str) -> Result<(), TableError> {
        let (path, writer) = match &mut self.out {
            Some(out) => out,
            None => self.out.insert(create(&self.source, &self.header)?),
        };
        self.count += 1;
        let line = row.line().to_string();
        // A short row is filled up, or its reason would stand under a header of the
        // table and be read as data; a row too wide stays so, and is refused unmended.
        let short = self.header.len().saturating_sub(row.cells().len());
        let cells = row.cells().iter().map(String::as_str).chain(std::iter::repeat_n("", short));
        let cells = cells.chain([reason, &line]);
        writer.write_record(cells).map_err(|error| failed(path, error.into()))
    }

    /// Closes the file: where it is and how many rows it holds, if there were any.
    pub fn finish(self) -> Result<Option<(PathBuf, u64)>, TableError> {
        let Some((path, writer)) = self.out else { return Ok(None) };
        let file = writer.into_inner().map_err(|error| failed(&path, error.into_error()))?;
        file.sync_all().map_err(|error| failed(&path, error))?;
        Ok(Some((path, self.count)))
    }
}

fn failed(path: &Path, source: io::Error) -> TableError {
    TableError::Write { path: path.to_owned(), source }
}

fn create(source: &Path, header: &[String]) -> Result<(PathBuf, Writer<File>), TableError> {
    let mut number = 1;
    let (path, mut file) = loop {
        let path = match number {
            1 => source.with_extension("rejected.csv"),
            _ => source.with_extension(format!("rejected-{number}.csv")),
        };
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => break (path, file),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < MOST_FILES => number += 1,
            Err(error) => return Err(failed(&path, error)),
        }
    };
    file.write_all("\u{feff}".as_bytes()).map_err(|error| failed(&path, error))?;
    let mut writer = WriterBuilder::new().flexible(true).terminator(Terminator::CRLF).from_writer(file);
    let header = header.iter().map(String::as_str).chain(COLUMNS);
    writer.write_record(header).map_err(|error| failed(&path, error.into()))?;
    Ok((path, writer))
}
