//! What can be wrong with a table, or with one row of it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::say;

/// A table that cannot be read at all; says which file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    #[error("{}", opening(.path, .source))]
    Open { path: PathBuf, source: io::Error },
    #[error("{}", empty(.0))]
    Empty(PathBuf),
    #[error("{}", binary(.0))]
    Binary(PathBuf),
    #[error("{}", old_excel(.0))]
    OldExcel(PathBuf),
    #[error("{}", web_page(.0))]
    WebPage(PathBuf),
    #[error("{}", not_workbook(.path, .why))]
    NotWorkbook { path: PathBuf, why: String },
    #[error("{}", no_sheet(.path, .wanted, .found))]
    NoSheet { path: PathBuf, wanted: String, found: Vec<String> },
    #[error("{0}")]
    Missing(Box<MissingColumns>),
    #[error("{}", ambiguous(.path, *.line, .field, .headers))]
    Ambiguous { path: PathBuf, line: u64, field: String, headers: Vec<String> },
    #[error("{}", unknown_field(.key, .known))]
    UnknownField { key: String, known: Vec<&'static str> },
    #[error("{}", unknown_header(.path, .key, .header, .found))]
    UnknownHeader { path: PathBuf, key: String, header: String, found: Vec<String> },
    /// The first rows could not be read.
    #[error(transparent)]
    Row(#[from] RowError),
    #[error("{}", writing(.path, .source))]
    Write { path: PathBuf, source: io::Error },
}

/// Required columns that the header does not have.
#[derive(Debug)]
pub struct MissingColumns {
    pub path: PathBuf,
    /// Row of the header, from 1.
    pub line: u64,
    /// How the text was read: the encoding, or the worksheet.
    pub source: String,
    /// The missing columns, each with its key and what it holds.
    pub missing: Vec<String>,
    pub found: Vec<String>,
    /// Sentences that name likely columns.
    pub hints: Vec<String>,
}

impl fmt::Display for MissingColumns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, line, source) = (self.path.display(), self.line, &self.source);
        let (missing, found) = (self.missing.join("、"), self.found.join(" | "));
        f.write_str(&say!(
            "{path}（{source}）缺少必需的列：{missing}。第 {line} 行的表头是：{found}。请改表头，或指明哪一列是它（键=表头）；如表头是乱码，请另存为“CSV UTF-8”或 xlsx",
            "{path} ({source}) lacks required columns: {missing}. The header in row {line} is: {found}. Change the header, or say which column it is (KEY=HEADER); if the header is garbled, save the file as `CSV UTF-8` or xlsx"
        ))?;
        self.hints.iter().try_for_each(|hint| write!(f, "\n  {hint}"))
    }
}

/// One row that cannot be used; the file may hold personal data, so no value is told.
#[derive(thiserror::Error)]
#[error("{}", bad_row(self))]
pub struct RowError {
    /// Name of the file, without folders.
    pub file: String,
    /// Row as a spreadsheet counts, from 1.
    pub line: u64,
    /// Header of the column at fault, where it is one column.
    pub column: Option<String>,
    pub kind: RowErrorKind,
    pub(super) original: Vec<String>,
}

/// Why a row cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowErrorKind {
    /// The row has another number of columns than the header.
    Ragged { found: usize, expected: usize },
    /// A cell spans so many lines that a stray quotation mark must have joined rows.
    Swallowed { lines: u64 },
    /// Bytes that are no text in the encoding named.
    Unreadable { encoding: String },
    /// A long number that a spreadsheet rounded.
    LostDigits,
    /// `#N/A` and its like.
    ErrorValue,
    /// A quotation mark opens here and never closes: nothing after it was read.
    UnclosedQuote,
    /// The file breaks off or cannot be read further.
    Stopped(String),
}

impl RowError {
    /// Nothing after this row was read: the import must not pass for complete.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        matches!(self.kind, RowErrorKind::UnclosedQuote | RowErrorKind::Stopped(_))
    }
}

impl fmt::Debug for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The cells stay out: they are personal data.
        f.debug_struct("RowError")
            .field("line", &self.line)
            .field("column", &self.column)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

fn bad_row(error: &RowError) -> String {
    let (file, line) = (&error.file, error.line);
    let place = match &error.column {
        Some(column) => say!("{file} 第 {line} 行“{column}”列：", "{file}, row {line}, column `{column}`: "),
        None => say!("{file} 第 {line} 行：", "{file}, row {line}: "),
    };
    place + &error.kind.to_string()
}

impl fmt::Display for RowErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&match self {
            Self::Ragged { found, expected } => say!(
                "有 {found} 列，表头有 {expected} 列。请检查多出或缺少的分隔符；含分隔符的内容要加英文引号",
                "has {found} columns where the header has {expected}. Look for a separator too many or too few; quote cells that hold one"
            ),
            Self::Swallowed { lines } => say!(
                "一个引号把 {lines} 行连成了一个单元格。请补上或删去多余的英文引号",
                "one quotation mark joins {lines} lines into one cell. Close it, or remove the stray one"
            ),
            Self::Unreadable { encoding } => say!(
                "含有无法读出的字符（按 {encoding} 读取）。请重新输入这一格，或把文件另存为“CSV UTF-8”",
                "holds characters that cannot be read (as {encoding}). Type the cell again, or save the file as `CSV UTF-8`"
            ),
            Self::LostDigits => say!(
                "长数字已被表格软件改成科学计数或舍去了末位，无法还原。请把这一列设为“文本”格式后重新填写",
                "a spreadsheet turned this long number into scientific notation or rounded it, and it cannot be restored. Format the column as text and enter it again"
            ),
            Self::ErrorValue => say!(
                "是公式的错误值（如 #N/A）。请修正公式，或直接填写内容",
                "is the error value of a formula (such as #N/A). Mend the formula or enter the value"
            ),
            Self::UnclosedQuote => say!(
                "这里开始的英文引号没有结束，其后的内容都没有读取。请补上或删去这个引号，再重新导入",
                "a quotation mark opens here and never closes, so nothing after it was read. Close or remove it and import again"
            ),
            Self::Stopped(why) => say!(
                "文件从这里起读不下去（{why}），其后的内容都没有读取。请重新取得文件再导入",
                "the file cannot be read from here on ({why}); nothing after it was read. Get the file again and import that"
            ),
        })
    }
}

fn opening(path: &Path, source: &io::Error) -> String {
    let path = path.display();
    say!(
        "打不开 {path}：{source}。请检查文件名和读取权限",
        "cannot open {path}: {source}. Check the name and the permission to read it"
    )
}

fn writing(path: &Path, source: &io::Error) -> String {
    let path = path.display();
    say!(
        "写不了退回的行 {path}：{source}。请检查磁盘空间和目录的写入权限",
        "cannot write the rejected rows to {path}: {source}. Check the space on disk and the permission to write there"
    )
}

fn empty(path: &Path) -> String {
    let path = path.display();
    say!(
        "{path} 是空的：第一行应是表头，其后每人一行",
        "{path} is empty: expected a header, then a row for each person"
    )
}

fn binary(path: &Path) -> String {
    let path = path.display();
    say!(
        "{path} 不是文本表格，也不是 xlsx。请用表格软件另存为 xlsx 或“CSV UTF-8”",
        "{path} is neither a text table nor xlsx. Save it from a spreadsheet as xlsx or `CSV UTF-8`"
    )
}

fn old_excel(path: &Path) -> String {
    let path = path.display();
    say!(
        "{path} 是旧的 .xls 格式，或设了打开密码。请用 Excel 或 WPS 打开，另存为不带密码的 .xlsx",
        "{path} is in the old .xls format, or locked with a password. Open it in Excel or WPS and save it as .xlsx without a password"
    )
}

fn web_page(path: &Path) -> String {
    let path = path.display();
    say!(
        "{path} 其实是网页（有的系统导出的 .xls 就是这样）。请用 Excel 或 WPS 打开，另存为 .xlsx",
        "{path} is really a web page, as some systems export under .xls. Open it in Excel or WPS and save it as .xlsx"
    )
}

fn not_workbook(path: &Path, why: &str) -> String {
    let path = path.display();
    say!(
        "{path} 不是完好的 xlsx 工作簿（{why}）。请用 Excel 或 WPS 打开后重新保存；文本表格请以 .csv 命名",
        "{path} is no sound xlsx workbook ({why}). Open it in Excel or WPS and save it again; name a text table .csv"
    )
}

fn no_sheet(path: &Path, wanted: &str, found: &[String]) -> String {
    let (path, found) = (path.display(), found.join("、"));
    say!("{path} 没有名为“{wanted}”的工作表，有的是：{found}", "{path} has no worksheet `{wanted}`; it has: {found}")
}

fn ambiguous(path: &Path, line: u64, field: &str, headers: &[String]) -> String {
    let (path, headers) = (path.display(), headers.join("、"));
    say!(
        "{path} 第 {line} 行的表头有几列都像“{field}”：{headers}。请指明是哪一列（键=表头），或改名、删去多余的列",
        "several columns in the header of {path}, row {line}, could be `{field}`: {headers}. Say which one it is (KEY=HEADER), or rename or remove the others"
    )
}

fn unknown_field(key: &str, known: &[&str]) -> String {
    let known = known.join(", ");
    say!("没有名为“{key}”的栏目，可用的键是：{known}", "there is no field `{key}`; the keys are: {known}")
}

fn unknown_header(path: &Path, key: &str, header: &str, found: &[String]) -> String {
    let (path, found) = (path.display(), found.join(" | "));
    say!(
        "{path} 没有指定给 {key} 的列“{header}”。表头是：{found}",
        "{path} has no column `{header}`, which was named for {key}. The header is: {found}"
    )
}
