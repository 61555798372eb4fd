//! Workbooks (xlsx) that are written row by row: memory holds one row of a sheet. Every
//! cell is text, so that nothing is taken for a formula, a date or a number.

use std::fs::File;
use std::io::BufWriter;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use rust_xlsxwriter::{Format, FormatAlign, FormatBorder, Workbook, Worksheet};

/// Longest name of a worksheet (Excel's limit).
const NAME: usize = 31;
/// Excel's number of the paper A4.
const A4: u8 = 9;
/// Longest text of a cell (Excel's limit).
const CELL: usize = 32_767;

/// A workbook being written.
pub(super) struct Book {
    book: Workbook,
    names: Vec<String>,
}

impl Book {
    pub(super) fn new() -> Self {
        Self { book: Workbook::new(), names: Vec::new() }
    }

    /// A worksheet under this name, or one like it that Excel allows and that is new.
    pub(super) fn sheet(&mut self, name: &str) -> anyhow::Result<Page<'_>> {
        let allowed: String = name.chars().filter(|c| !r"[]:*?/\'".contains(*c) && !c.is_control()).collect();
        let allowed = if allowed.is_empty() { "1".to_owned() } else { allowed };
        let taken = |name: &String| self.names.iter().any(|n| n.to_lowercase() == name.to_lowercase());
        let mut n = 1;
        let name = loop {
            let end = if n == 1 { String::new() } else { format!("-{n}") };
            let head: String = allowed.chars().take(NAME - end.len()).collect();
            let name = head + &end;
            if !taken(&name) {
                break name;
            }
            n += 1;
        };
        let sheet = self.book.add_worksheet_with_constant_memory()?;
        sheet.set_name(&name)?;
        self.names.push(name);
        Ok(Page { sheet, row: 0 })
    }

    /// Writes the file, which only its owner reads.
    pub(super) fn save(mut self, to: &Path) -> anyhow::Result<()> {
        let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(to);
        let file = file.with_context(|| to.display().to_string())?;
        self.book.save_to_writer(BufWriter::new(file)).with_context(|| to.display().to_string())
    }
}

/// A worksheet being written from the top.
pub(super) struct Page<'b> {
    sheet: &'b mut Worksheet,
    row: u32,
}

impl Page<'_> {
    /// Landscape A4, one page wide, its pages numbered.
    pub(super) fn landscape(&mut self) {
        self.sheet.set_landscape().set_paper_size(A4).set_print_fit_to_pages(1, 0);
        self.sheet.set_margins(0.4, 0.4, 0.5, 0.6, 0.3, 0.3).set_footer("&C&P / &N");
    }

    /// Widths of the columns, in characters.
    pub(super) fn widths(&mut self, widths: &[f64]) -> anyhow::Result<()> {
        for (column, width) in (0_u16..).zip(widths) {
            self.sheet.set_column_width(column, *width)?;
        }
        Ok(())
    }

    /// A line of text over `columns` columns; `height` in points.
    pub(super) fn line(&mut self, text: &str, columns: usize, (bold, height): (bool, f64)) -> anyhow::Result<()> {
        let mut format = Format::new().set_text_wrap().set_align(FormatAlign::VerticalCenter);
        if bold {
            format = format.set_bold().set_font_size(16).set_align(FormatAlign::Center);
        }
        let last = u16::try_from(columns.saturating_sub(1)).unwrap_or(u16::MAX);
        self.sheet.set_row_height(self.row, height)?;
        if last > 0 {
            self.sheet.merge_range(self.row, 0, self.row, last, text, &format)?;
        } else {
            self.sheet.write_string_with_format(self.row, 0, text, &format)?;
        }
        self.row += 1;
        Ok(())
    }

    /// The row of heads, repeated on every printed page.
    pub(super) fn heads(&mut self, heads: &[String]) -> anyhow::Result<()> {
        self.sheet.set_repeat_rows(self.row, self.row)?;
        let format = Format::new().set_bold().set_text_wrap().set_border(FormatBorder::Thin);
        self.cells(heads, &format.set_align(FormatAlign::Center))
    }

    /// A framed row with room to write in.
    pub(super) fn framed(&mut self, cells: &[String]) -> anyhow::Result<()> {
        let format = Format::new().set_text_wrap().set_border(FormatBorder::Thin);
        self.sheet.set_row_height(self.row, 30.0)?;
        self.cells(cells, &format.set_align(FormatAlign::VerticalCenter))
    }

    /// A plain row.
    pub(super) fn plain(&mut self, cells: &[String]) -> anyhow::Result<()> {
        for (column, cell) in (0_u16..).zip(cells) {
            self.sheet.write_string(self.row, column, short(cell))?;
        }
        self.row += 1;
        Ok(())
    }

    fn cells(&mut self, cells: &[String], format: &Format) -> anyhow::Result<()> {
        for (column, cell) in (0_u16..).zip(cells) {
            self.sheet.write_string_with_format(self.row, column, short(cell), format)?;
        }
        self.row += 1;
        Ok(())
    }
}

fn short(cell: &str) -> String {
    cell.chars().take(CELL).collect()
}
