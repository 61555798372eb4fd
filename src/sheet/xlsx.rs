//! Tables that come as a spreadsheet: a sheet of an XLSX becomes a table of the text.

use std::io::Cursor;

use calamine::{Data, Reader as _, Xlsx};

use super::{Block, Run};
use crate::say;

/// The most a table of an item may hold.
const MAX_ROWS: usize = 2_000;
const MAX_COLUMNS: usize = 20;

/// Why a spreadsheet is no table.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    #[error("{}", say!("读不出这个表格：{why}。请另存为 .xlsx", "the spreadsheet cannot be read: {why}. Save it as .xlsx"))]
    Unreadable { why: String },
    #[error("{}", say!("表格是空的（只看第一张工作表）", "the spreadsheet is empty (only its first sheet counts)"))]
    Empty,
    #[error("{}", say!(
        "表格有 {rows} 行 {columns} 列，最多 2000 行 20 列。请拆分",
        "the table has {rows} rows and {columns} columns of at most 2000 and 20; split it"
    ))]
    TooLarge { rows: usize, columns: usize },
}

/// The first sheet of an XLSX; its first row with anything in it is the head. Rows and
/// columns that are empty throughout are left out.
pub fn table_from_xlsx(bytes: &[u8]) -> Result<Block, TableError> {
    let unreadable = |why: String| TableError::Unreadable { why };
    let mut book: Xlsx<_> = Xlsx::new(Cursor::new(bytes)).map_err(|e| unreadable(e.to_string()))?;
    let range = book.worksheet_range_at(0).ok_or(TableError::Empty)?.map_err(|e| unreadable(e.to_string()))?;
    let (high, wide) = range.get_size();
    if high > MAX_ROWS || wide > MAX_COLUMNS {
        return Err(TableError::TooLarge { rows: high, columns: wide });
    }
    let all: Vec<Vec<String>> = range.rows().map(|row| row.iter().map(shown).collect()).collect();
    let filled: Vec<usize> = (0..wide).filter(|i| all.iter().any(|row| !row[*i].is_empty())).collect();
    let cell =
        |text: &String| if text.is_empty() { vec![] } else { vec![Run { text: text.clone(), ..Run::default() }] };
    let rows: Vec<Vec<Vec<Run>>> = all
        .iter()
        .filter(|row| row.iter().any(|c| !c.is_empty()))
        .map(|row| filled.iter().map(|i| cell(&row[*i])).collect())
        .collect();
    if rows.is_empty() { Err(TableError::Empty) } else { Ok(Block::Table { rows }) }
}

/// A cell as people see it; a whole number has no point, a date no clock.
fn shown(cell: &Data) -> String {
    match cell {
        Data::DateTime(at) => {
            let (year, month, day, hour, minute, _, _) = at.to_ymd_hms_milli();
            let clock = if (hour, minute) == (0, 0) { String::new() } else { format!(" {hour:02}:{minute:02}") };
            format!("{year}-{month:02}-{day:02}{clock}")
        }
        other => other.to_string(),
    }
    .trim()
    .to_owned()
}

/// A table as Markdown, so that it is part of the text that is reviewed.
#[must_use]
pub fn to_markdown(table: &Block) -> String {
    let Block::Table { rows } = table else { return String::new() };
    let text = |cell: &Vec<Run>| -> String {
        let joined: String = cell.iter().map(|r| r.text.as_str()).collect();
        // Only what would end the cell or be read as a mark.
        let mut out = String::with_capacity(joined.len());
        for c in joined.chars() {
            match c {
                '\n' | '\r' => out.push(' '),
                '|' | '*' | '_' | '`' | '<' | '[' | ']' | '\\' | '~' => {
                    out.push('\\');
                    out.push(c);
                }
                c => out.push(c),
            }
        }
        out
    };
    let line = |row: &Vec<Vec<Run>>| format!("| {} |\n", row.iter().map(text).collect::<Vec<_>>().join(" | "));
    let mut out = String::new();
    for (i, row) in rows.iter().enumerate() {
        out.push_str(&line(row));
        if i == 0 {
            out.push('|');
            out.push_str(&"---|".repeat(row.len()));
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use rust_xlsxwriter::{Format, Workbook};

    use super::*;
    use crate::sheet::blocks;

    fn book(fill: impl FnOnce(&mut rust_xlsxwriter::Worksheet)) -> Vec<u8> {
        let mut book = Workbook::new();
        fill(book.add_worksheet());
        book.save_to_buffer().unwrap()
    }

    fn texts(table: &Block) -> Vec<Vec<String>> {
        let Block::Table { rows } = table else { panic!("{table:?}") };
        let text = |cell: &Vec<Run>| cell.iter().map(|r| r.text.as_str()).collect();
        rows.iter().map(|row| row.iter().map(text).collect()).collect()
    }

    #[test]
    fn a_spreadsheet_becomes_a_table_and_markdown_that_says_the_same() {
        let bytes = book(|sheet| {
            sheet.write(1, 0, "户主").unwrap();
            sheet.write(1, 2, "金额|元").unwrap();
            sheet.write(1, 3, "日期").unwrap();
            sheet.write(2, 0, "甲*乙").unwrap();
            sheet.write(2, 2, 1200).unwrap();
            let date = Format::new().set_num_format("yyyy-mm-dd");
            sheet.write_with_format(2, 3, 46_204, &date).unwrap();
            sheet.write(4, 0, "丙").unwrap();
            sheet.write(4, 2, 0.5).unwrap();
        });
        let table = table_from_xlsx(&bytes).unwrap();
        let expected = [["户主", "金额|元", "日期"], ["甲*乙", "1200", "2026-07-01"], ["丙", "0.5", ""]];
        assert_eq!(texts(&table), expected);
        let read = blocks(&to_markdown(&table));
        assert_eq!(read, [table], "{read:?}");
    }

    #[test]
    fn what_is_no_table_is_refused() {
        assert!(matches!(table_from_xlsx(b"abc"), Err(TableError::Unreadable { .. })));
        assert!(matches!(table_from_xlsx(&book(|_| {})), Err(TableError::Empty)));
        let wide = book(|sheet| {
            sheet.write(0, 25, "x").unwrap();
            sheet.write(0, 0, "y").unwrap();
        });
        assert!(matches!(table_from_xlsx(&wide), Err(TableError::TooLarge { columns: 26, .. })));
    }
}
