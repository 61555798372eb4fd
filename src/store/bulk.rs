//! Many rows in one statement: one JSON parameter, unpacked by the database.

use sqlx::encode::{Encode, IsNull};
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgTypeInfo, Postgres};
use sqlx::sqlite::{Sqlite, SqliteArgumentsBuffer, SqliteTypeInfo};
use sqlx::types::Type;

use super::Tx;
use crate::vault::hex;

/// Numbers as one parameter: an array on a server, which looks each up by its hash,
/// and a JSON text on the embedded engine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Numbers<'a>(pub &'a [i64]);

impl Type<Sqlite> for Numbers<'_> {
    fn type_info() -> SqliteTypeInfo {
        <String as Type<Sqlite>>::type_info()
    }
}

impl Encode<'_, Sqlite> for Numbers<'_> {
    fn encode_by_ref(&self, buffer: &mut SqliteArgumentsBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<Sqlite>::encode(serde_json::to_string(self.0)?, buffer)
    }
}

impl Type<Postgres> for Numbers<'_> {
    fn type_info() -> PgTypeInfo {
        <[i64] as Type<Postgres>>::type_info()
    }
}

impl Encode<'_, Postgres> for Numbers<'_> {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<Postgres>::encode_by_ref(&self.0, buffer)
    }
}

/// One value of a bulk row.
#[derive(Clone, Copy)]
pub(crate) enum Cell<'a> {
    Int(i64),
    Text(&'a str),
    Bytes(&'a [u8]),
    Null,
}

impl From<i64> for Cell<'_> {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<i32> for Cell<'_> {
    fn from(value: i32) -> Self {
        Self::Int(value.into())
    }
}

impl<'a> From<&'a str> for Cell<'a> {
    fn from(value: &'a str) -> Self {
        Self::Text(value)
    }
}

impl<'a> From<&'a [u8]> for Cell<'a> {
    fn from(value: &'a [u8]) -> Self {
        Self::Bytes(value)
    }
}

impl<'a, T: Into<Cell<'a>>> From<Option<T>> for Cell<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// The JSON parameter under construction: an array of arrays, bytes as hex.
#[derive(Default)]
pub(crate) struct Rows {
    out: String,
    len: usize,
}

impl Rows {
    /// Rows made of one cell each.
    pub(crate) fn column<'a>(cells: impl IntoIterator<Item = impl Into<Cell<'a>>>) -> Self {
        let mut rows = Self::default();
        for cell in cells {
            rows.push(&[cell.into()]);
        }
        rows
    }

    pub(crate) fn push(&mut self, cells: &[Cell<'_>]) {
        self.out.push_str(if self.len == 0 { "[[" } else { ",[" });
        for (i, cell) in cells.iter().enumerate() {
            if i > 0 {
                self.out.push(',');
            }
            self.cell(*cell);
        }
        self.out.push(']');
        self.len += 1;
    }

    fn cell(&mut self, cell: Cell<'_>) {
        match cell {
            Cell::Int(n) => {
                use std::fmt::Write as _;
                let _ = write!(self.out, "{n}");
            }
            // PostgreSQL's text holds no NUL, and nothing people type does.
            Cell::Text(text) if text.contains('\0') => self.cell(Cell::Text(&text.replace('\0', ""))),
            Cell::Text(text) => self.out.push_str(&serde_json::Value::from(text).to_string()),
            Cell::Bytes(bytes) => {
                self.out.push('"');
                self.out.push_str(&hex(bytes));
                self.out.push('"');
            }
            Cell::Null => self.out.push_str("null"),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The parameter to bind as `$1`.
    pub(crate) fn into_json(mut self) -> String {
        self.out.push_str(if self.len == 0 { "[]" } else { "]" });
        self.out
    }
}

impl<'a, const N: usize> FromIterator<[Cell<'a>; N]> for Rows {
    fn from_iter<I: IntoIterator<Item = [Cell<'a>; N]>>(all: I) -> Self {
        let mut rows = Self::default();
        all.into_iter().for_each(|cells| rows.push(&cells));
        rows
    }
}

/// How a column of the JSON parameter is read.
#[derive(Clone, Copy)]
pub(crate) enum Col {
    Int(&'static str),
    Text(&'static str),
    Bytes(&'static str),
}

impl Col {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Int(name) | Self::Text(name) | Self::Bytes(name) => name,
        }
    }

    /// `a, b, c`.
    pub(crate) fn list(cols: &[Self]) -> String {
        cols.iter().map(|col| col.name()).collect::<Vec<_>>().join(", ")
    }
}

/// `(SELECT … FROM $1) src`: the bulk rows as a table, in SQLite's words.
pub(crate) fn sqlite_source(cols: &[Col]) -> String {
    let list: Vec<String> = cols
        .iter()
        .enumerate()
        .map(|(i, col)| match col {
            Col::Int(name) | Col::Text(name) => format!("value ->> {i} AS {name}"),
            Col::Bytes(name) => format!("unhex(value ->> {i}) AS {name}"),
        })
        .collect();
    format!("(SELECT {} FROM json_each($1)) src", list.join(", "))
}

/// The same in PostgreSQL's words.
pub(crate) fn postgres_source(cols: &[Col]) -> String {
    let list: Vec<String> = cols
        .iter()
        .enumerate()
        .map(|(i, col)| match col {
            Col::Int(name) => format!("(v ->> {i})::bigint AS {name}"),
            Col::Text(name) => format!("v ->> {i} AS {name}"),
            Col::Bytes(name) => format!("decode(v ->> {i}, 'hex') AS {name}"),
        })
        .collect();
    format!("(SELECT {} FROM jsonb_array_elements($1::jsonb) AS t(v)) src", list.join(", "))
}

impl Tx {
    /// The bulk rows bound as `$1`, as a table named `src`.
    pub(crate) fn source(&self, cols: &[Col]) -> String {
        match self {
            Self::Sqlite(_) => sqlite_source(cols),
            Self::Postgres(_) => postgres_source(cols),
        }
    }

    /// Makes bulk writers on a server wait for one another before they look up what
    /// exists, by locking a counter; the embedded engine has one writer anyway.
    pub(crate) async fn queue_up(&mut self, counter: &str) -> super::Result<()> {
        self.take_numbers(counter, 0).await.map(drop)
    }

    /// Executes `sql`, whose `$1` is the bulk rows; nothing when there are none.
    pub(crate) async fn bulk(&mut self, sql: String, rows: Rows) -> super::Result<u64> {
        if rows.is_empty() {
            return Ok(0);
        }
        let json = rows.into_json();
        Ok(exec!(self, sqlx::query(sqlx::AssertSqlSafe(sql)).bind(json))?)
    }
}

/// Reads rows of `$row` inside a transaction; `$1` of the statement is the bulk rows.
macro_rules! bulk_read {
    ($tx:expr, $row:ty, $sql:expr, $rows:expr) => {{
        let (sql, json) = ($sql, $rows.into_json());
        run!($tx, |c| sqlx::query_as::<_, $row>(sqlx::AssertSqlSafe(sql)).bind(json).fetch_all(c).await)
    }};
}
