//! Rows of xlsx workbooks, cell by cell as the worksheet is unpacked.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use calamine::{DataRef, ExcelDateTime, Reader, SheetType, SheetVisible, Xlsx, XlsxError};

use super::encoding::{self, Format};
use super::error::{RowErrorKind, TableError};
use super::progress::Progress;
use super::record::{Broken, Record, Records};
use super::text;

/// Excel's own limit; a cell that claims to lie beyond is damage or malice.
const COLUMNS: usize = 16_384;
/// The serial number of 9999-12-31, the last date a spreadsheet knows.
const LAST_DATE: f64 = 2_958_465.0;

/// A workbook and the worksheet chosen. Its shared strings are held in memory, since
/// cells refer to them in any order; rows are not.
pub(super) struct Workbook {
    book: Xlsx<BufReader<File>>,
    pub sheet: String,
}

impl Workbook {
    /// Opens the worksheet named, or else the first that is visible.
    pub(super) fn open(path: &Path, sheet: Option<&str>) -> Result<Self, TableError> {
        let file = File::open(path).map_err(|source| TableError::Open { path: path.to_owned(), source })?;
        let book = Xlsx::new(BufReader::new(file)).map_err(|error| match error {
            XlsxError::Password => TableError::OldExcel(path.to_owned()),
            other => not_workbook(path, &other),
        })?;
        let sheets = book.sheets_metadata().iter().filter(|s| s.typ == SheetType::WorkSheet);
        let found: Vec<String> = sheets.clone().map(|s| s.name.clone()).collect();
        let chosen = match sheet {
            Some(wanted) => found.iter().find(|name| name.trim() == wanted.trim()).cloned(),
            None => sheets.clone().find(|s| s.visible == SheetVisible::Visible).map(|s| s.name.clone()),
        };
        let missing = || {
            let wanted = sheet.unwrap_or_default().to_owned();
            TableError::NoSheet { path: path.to_owned(), wanted, found: found.clone() }
        };
        let sheet = chosen.ok_or_else(missing)?;
        Ok(Self { book, sheet })
    }

    /// Its rows from the first.
    pub(super) fn records(&mut self, path: &Path, progress: Progress) -> Result<impl Records + '_, TableError> {
        let mut cells = self.book.worksheet_cells_reader(&self.sheet).map_err(|error| not_workbook(path, &error))?;
        let rows = u64::from(cells.dimensions().end.0) + 1;
        let next_cell = move || {
            let cell = cells.next_cell()?;
            Ok(cell.map(|cell| {
                let (row, column) = cell.get_position();
                Cell { row, column: column as usize, text: shown(cell.get_value()) }
            }))
        };
        Ok(XlsxRecords { next_cell, rows, ahead: None, ended: false, line: 0, progress })
    }
}

/// The visible worksheets of a file, in their order; none of a file that is no workbook.
///
/// # Errors
/// When it cannot be read.
pub fn sheets(path: &Path) -> Result<Vec<String>, TableError> {
    if !matches!(encoding::sniff(path)?, Format::Workbook) {
        return Ok(Vec::new());
    }
    let file = File::open(path).map_err(|source| TableError::Open { path: path.to_owned(), source })?;
    let book = Xlsx::new(BufReader::new(file)).map_err(|error| not_workbook(path, &error))?;
    let visible = book.sheets_metadata().iter().filter(|s| s.typ == SheetType::WorkSheet);
    Ok(visible.filter(|s| s.visible == SheetVisible::Visible).map(|s| s.name.clone()).collect())
}

struct Cell {
    row: u32,
    column: usize,
    text: String,
}

fn not_workbook(path: &Path, error: &XlsxError) -> TableError {
    TableError::NotWorkbook { path: path.to_owned(), why: error.to_string() }
}

/// Rows of a worksheet; rows without cells are passed over. The reader of cells comes
/// as a closure because calamine does not export its type.
struct XlsxRecords<F> {
    next_cell: F,
    rows: u64,
    ahead: Option<Cell>,
    ended: bool,
    line: u64,
    progress: Progress,
}

impl<F: FnMut() -> Result<Option<Cell>, XlsxError>> XlsxRecords<F> {
    fn advance(&mut self) -> Result<Option<Cell>, Broken> {
        // Asked again after the last cell, the reader would complain of the file's end.
        if self.ended {
            return Ok(None);
        }
        let line = self.line + 1;
        let cell =
            (self.next_cell)().map_err(|error| Broken { line, kind: RowErrorKind::Stopped(error.to_string()) })?;
        self.ended = cell.is_none();
        Ok(cell)
    }
}

impl<F: FnMut() -> Result<Option<Cell>, XlsxError>> Records for XlsxRecords<F> {
    fn next(&mut self) -> Result<Option<Record>, Broken> {
        let first = match self.ahead.take() {
            Some(cell) => Some(cell),
            None => self.advance()?,
        };
        let Some(mut cell) = first else {
            self.progress.set(self.progress.total());
            return Ok(None);
        };
        let row = cell.row;
        let mut cells = Vec::new();
        loop {
            if cell.column < COLUMNS {
                cells.resize(cells.len().max(cell.column + 1), String::new());
                cells[cell.column] = cell.text;
            }
            match self.advance()? {
                Some(next) if next.row == row => cell = next,
                other => {
                    self.ahead = other;
                    break;
                }
            }
        }
        self.line = u64::from(row) + 1;
        self.progress.set(self.progress.total() / self.rows.max(self.line) * self.line);
        Ok(Some(Record { line: self.line, cells, breaks: 0 }))
    }
}

/// The cell as a person sees it.
fn shown(value: &DataRef<'_>) -> String {
    match value {
        DataRef::Empty => String::new(),
        DataRef::String(s) | DataRef::DurationIso(s) => s.clone(),
        DataRef::SharedString(s) => (*s).to_owned(),
        DataRef::DateTimeIso(s) => s.strip_suffix("T00:00:00").unwrap_or(s).replace('T', " "),
        DataRef::Int(n) => n.to_string(),
        DataRef::Float(n) => text::number(*n),
        DataRef::Bool(b) => if *b { "TRUE" } else { "FALSE" }.to_owned(),
        DataRef::DateTime(moment) => shown_moment(*moment),
        DataRef::Error(error) => error.to_string(),
    }
}

fn shown_moment(moment: ExcelDateTime) -> String {
    if !moment.is_datetime() || !(0.0..=LAST_DATE + 1.0).contains(&moment.as_f64()) {
        // A phone number in a column of dates is still a phone number.
        return text::number(moment.as_f64());
    }
    let (year, month, day, hour, minute, second, _) = moment.to_ymd_hms_milli();
    let date = format!("{year:04}-{month:02}-{day:02}");
    let time = format!("{hour:02}:{minute:02}:{second:02}");
    match (moment.as_f64() < 1.0, moment.as_f64().fract() == 0.0) {
        (true, _) => time,
        (_, true) => date,
        _ => format!("{date} {time}"),
    }
}
