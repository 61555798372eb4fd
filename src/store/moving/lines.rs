//! A row as a line of PostgreSQL's COPY text format, and the sum over such lines by
//! which two tables are compared.
//!
//! The server writes a row it was given in the same form again, so that the same sum
//! serves both sides. <https://www.postgresql.org/docs/15/sql-copy.html>

use std::hash::{DefaultHasher, Hasher as _};
use std::io::Write as _;

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::store::{Result, StoreError};

/// A column as the server declares it.
pub(super) struct Column {
    pub name: String,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    Int,
    Float,
    Text,
    Bytes,
}

/// How many rows, and the sum of their hashes: the same in whatever order they come,
/// and another where one lacks, is doubled or differs.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sum {
    pub rows: u64,
    hashes: u64,
}

impl Column {
    /// # Errors
    /// When it is of a kind that no table of ours has.
    pub(super) fn new(name: String, kind: &str) -> Result<Self> {
        let kind = match kind {
            "bigint" | "integer" => Kind::Int,
            "double precision" => Kind::Float,
            "text" => Kind::Text,
            "bytea" => Kind::Bytes,
            other => return Err(StoreError::Damaged(format!("column {name} is {other}"))),
        };
        Ok(Self { name, kind })
    }
}

impl Sum {
    /// Adds one row, given as its line.
    pub(super) fn add(&mut self, line: &[u8]) {
        let mut hasher = DefaultHasher::new();
        hasher.write(line);
        self.rows += 1;
        self.hashes = self.hashes.wrapping_add(hasher.finish());
    }
}

impl std::fmt::Display for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.hashes)
    }
}

/// Appends a row, without the end of its line.
pub(super) fn line(row: &SqliteRow, columns: &[Column], out: &mut Vec<u8>) -> Result<()> {
    for (i, column) in columns.iter().enumerate() {
        if i > 0 {
            out.push(b'\t');
        }
        match column.kind {
            Kind::Int => number(row.try_get::<Option<i64>, _>(i)?, out),
            Kind::Float => number(row.try_get::<Option<f64>, _>(i)?, out),
            Kind::Text => match row.try_get::<Option<&str>, _>(i)? {
                Some(text) => escape(text.as_bytes(), out),
                None => null(out),
            },
            Kind::Bytes => match row.try_get::<Option<&[u8]>, _>(i)? {
                Some(bytes) => {
                    out.extend_from_slice(b"\\\\x");
                    out.extend_from_slice(hex::encode(bytes).as_bytes());
                }
                None => null(out),
            },
        }
    }
    Ok(())
}

fn null(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\\N");
}

fn number(value: Option<impl std::fmt::Display>, out: &mut Vec<u8>) {
    match value {
        // Writing to memory cannot fail.
        Some(n) => drop(write!(out, "{n}")),
        None => null(out),
    }
}

/// As the server escapes. It holds no NUL, and loses one that SQLite let in.
fn escape(text: &[u8], out: &mut Vec<u8>) {
    for byte in text {
        match byte {
            0 => {}
            b'\\' => out.extend_from_slice(b"\\\\"),
            8 => out.extend_from_slice(b"\\b"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            11 => out.extend_from_slice(b"\\v"),
            12 => out.extend_from_slice(b"\\f"),
            b'\r' => out.extend_from_slice(b"\\r"),
            other => out.push(*other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_does_not_depend_on_the_order_and_sees_every_difference() {
        let sum = |lines: &[&str]| {
            let mut sum = Sum::default();
            for line in lines {
                sum.add(line.as_bytes());
            }
            sum
        };
        assert_eq!(sum(&["1\ta", "2\tb"]), sum(&["2\tb", "1\ta"]));
        for other in [&["1\ta"][..], &["1\ta", "2\ta"], &["1\ta", "1\ta"], &["1\ta", "2\tb", "2\tb"]] {
            assert_ne!(sum(&["1\ta", "2\tb"]), sum(other), "{other:?}");
        }
    }

    #[test]
    fn what_would_end_a_field_or_a_line_is_escaped() {
        let mut out = Vec::new();
        escape("a\tb\nc\\N\r\u{b}\u{c}\u{8}喆\0".as_bytes(), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "a\\tb\\nc\\\\N\\r\\v\\f\\b喆");
    }
}
