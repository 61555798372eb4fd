//! Rows of text tables: comma, tab or semicolon, quoted as in RFC 4180.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use csv::{ReaderBuilder, StringRecord, Terminator};
use encoding_rs::Encoding;

use super::encoding::Decoded;
use super::error::RowErrorKind;
use super::progress::Progress;
use super::record::{Broken, Record, Records};

/// Separators tried, the likeliest first.
pub(super) const DELIMITERS: [u8; 3] = [b',', b'\t', b';'];

/// A text table and how to read it.
pub(super) struct TextFile {
    pub path: PathBuf,
    pub encoding: &'static Encoding,
    pub carriage_returns: bool,
    pub delimiter: u8,
}

impl TextFile {
    /// Its rows from the first; memory stays flat however long the file is.
    pub(super) fn records(&self, progress: Progress) -> io::Result<CsvRecords> {
        let text = Decoded::new(File::open(&self.path)?, self.encoding, self.carriage_returns, progress);
        let reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(self.delimiter)
            // With line feeds alone as ends, the reader's line count is exact;
            // the carriage return before one is taken off the last cell.
            .terminator(Terminator::Any(b'\n'))
            .from_reader(text);
        Ok(CsvRecords { reader, row: StringRecord::new(), breaks: 0, line: 0 })
    }
}

/// Rows of a text table.
pub(super) struct CsvRecords {
    reader: csv::Reader<Decoded>,
    row: StringRecord,
    breaks: u64,
    line: u64,
}

impl CsvRecords {
    fn broken(&self, error: csv::Error) -> Broken {
        let kind = match error.into_kind() {
            csv::ErrorKind::Io(_) if self.reader.get_ref().is_overlong() => RowErrorKind::UnclosedQuote,
            csv::ErrorKind::Io(error) => RowErrorKind::Stopped(error.to_string()),
            other => RowErrorKind::Stopped(format!("{other:?}")),
        };
        Broken { line: self.line + 1, kind }
    }
}

impl Records for CsvRecords {
    fn next(&mut self) -> Result<Option<Record>, Broken> {
        self.reader.get_mut().mark();
        let before = self.reader.position().line();
        match self.reader.read_record(&mut self.row) {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(error) => return Err(self.broken(error)),
        }
        let mut cells: Vec<String> = self.row.iter().map(str::to_owned).collect();
        let breaks = cells.iter().map(|cell| cell.bytes().filter(|b| *b == b'\n').count() as u64).sum::<u64>();
        // A record that ended with the file and not with a line of its own is still quoted.
        let unended = self.reader.position().line() - before == breaks;
        let swallowed = cells.last().is_some_and(|cell| cell.ends_with('\n'));
        if swallowed && (unended || self.reader.get_ref().ended_in_quotes()) {
            return Err(Broken { line: self.line + 1, kind: RowErrorKind::UnclosedQuote });
        }
        if let Some(last) = cells.last_mut()
            && last.ends_with('\r')
        {
            last.pop();
        }
        // Spreadsheets count a row with line breaks inside as one.
        self.line = self.reader.position().line().saturating_sub(1 + breaks + self.breaks);
        self.breaks += breaks;
        Ok(Some(Record { line: self.line, cells, breaks }))
    }
}
