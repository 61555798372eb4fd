//! Which column is which: header spellings, what was not understood, and likely meanings.

use std::fmt;

use super::text;
use super::{Field, Options};
use crate::say;

/// Likeness from which an unknown header is taken for a misspelt one, of 1.
const ALIKE: f64 = 0.6;

/// What became of each column of a table.
#[derive(Debug, Clone)]
pub struct Mapping {
    /// Row of the header, from 1.
    pub line: u64,
    /// How the file was read: the encoding of a text, the worksheet of a workbook.
    pub source: String,
    pub mapped: Vec<Mapped>,
    /// Columns that no field takes; kept as extra cells if the options say so.
    pub unknown: Vec<Unknown>,
    /// Optional fields that the table does not have.
    pub absent: Vec<&'static str>,
}

/// A column that a field takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapped {
    pub key: &'static str,
    pub header: String,
    /// From 0.
    pub column: usize,
}

/// A column that no field takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    pub header: String,
    /// From 0.
    pub column: usize,
    pub suggestion: Option<Suggestion>,
}

/// A field that an unknown column may be meant for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suggestion {
    pub key: &'static str,
    pub why: Why,
}

/// What speaks for a suggestion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The header resembles this known spelling.
    Near(&'static str),
    /// The values look like mobile numbers of the mainland (11 digits from 13 to 19).
    LooksLikePhone,
    /// The values look like citizen identity numbers (GB 11643: 18 places).
    LooksLikeId,
    /// The values look like division codes (GB/T 2260, GB/T 10114: 6, 9 or 12 digits).
    LooksLikeCode,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = &self.header;
        let Some(Suggestion { key, why }) = &self.suggestion else {
            return f.write_str(&say!("没有认出列“{header}”", "column `{header}` was not understood"));
        };
        let why = match why {
            Why::Near(name) => say!("与“{name}”相近", "it resembles `{name}`"),
            Why::LooksLikePhone => say!("内容像手机号", "its values look like mobile numbers"),
            Why::LooksLikeId => say!("内容像身份证号", "its values look like identity numbers"),
            Why::LooksLikeCode => say!("内容像区划代码", "its values look like division codes"),
        };
        f.write_str(&say!(
            "没有认出列“{header}”：{why}，如果是，请指明 {key}={header}",
            "column `{header}` was not understood: {why}; if it is that, say {key}={header}"
        ))
    }
}

impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, source) = (self.line, &self.source);
        f.write_str(&say!("表头在第 {line} 行（{source}）", "the header is row {line} ({source})"))?;
        self.mapped.iter().try_for_each(|m| write!(f, "\n  {} → {}", m.header, m.key))?;
        self.unknown.iter().try_for_each(|u| write!(f, "\n  {u}"))
    }
}

/// Why a field has no column of its own.
pub(super) enum Clash {
    /// These columns could all be it.
    Several { field: usize, columns: Vec<usize> },
    /// The options name a header that is not there.
    NoHeader { key: String, header: String },
    /// The options name a field that is not there.
    NoField { key: String },
}

/// A header folded for comparison: case, width, spaces, `_`, `-`, `*` and colons go.
fn folded(header: &str) -> String {
    let ignored = |c: &char| c.is_whitespace() || "_-*:\u{feff}\u{200b}".contains(*c);
    header.chars().map(text::ascii).filter(|c| !ignored(c)).flat_map(char::to_lowercase).collect()
}

/// [`folded`], and without what stands in brackets: units and remarks.
fn bare(header: &str) -> String {
    let folded = folded(header);
    let mut depth = 0_usize;
    let mut kept = String::new();
    for c in folded.chars() {
        match c {
            '(' | '[' | '【' | '〔' => depth += 1,
            ')' | ']' | '】' | '〕' => depth = depth.saturating_sub(1),
            _ if depth == 0 => kept.push(c),
            _ => {}
        }
    }
    if kept.is_empty() { folded } else { kept }
}

/// Whether two headers are one but for case, width, spaces and what stands in brackets.
pub(super) fn same(one: &str, other: &str) -> bool {
    bare(one) == bare(other)
}

/// For each field its column, and what stood in the way of others.
pub(super) fn assign(fields: &[Field], options: &Options, headers: &[String]) -> (Vec<Option<usize>>, Vec<Clash>) {
    let mut columns = vec![None; fields.len()];
    let mut clashes = Vec::new();
    for (key, header) in &options.columns {
        let Some(field) = fields.iter().position(|f| f.key == key) else {
            clashes.push(Clash::NoField { key: key.clone() });
            continue;
        };
        columns[field] = headers
            .iter()
            .position(|h| h.trim() == header.trim())
            .or_else(|| headers.iter().position(|h| folded(h) == folded(header)))
            .or_else(|| headers.iter().position(|h| bare(h) == bare(header)));
        if columns[field].is_none() {
            clashes.push(Clash::NoHeader { key: key.clone(), header: header.clone() });
        }
    }
    // Whole spellings of every field come before those that hold only without brackets.
    for fold in [folded as fn(&str) -> String, bare] {
        let headers: Vec<String> = headers.iter().map(|h| fold(h)).collect();
        for (index, field) in fields.iter().enumerate() {
            if columns[index].is_some()
                || clashes.iter().any(|c| matches!(c, Clash::Several { field, .. } if *field == index))
            {
                continue;
            }
            match candidates(field, &headers, &columns, fold) {
                found if found.len() > 1 => clashes.push(Clash::Several { field: index, columns: found }),
                found => columns[index] = found.first().copied(),
            }
        }
    }
    (columns, clashes)
}

/// Free columns with the first of the field's spellings that any column has.
fn candidates(field: &Field, headers: &[String], taken: &[Option<usize>], fold: fn(&str) -> String) -> Vec<usize> {
    let free = |name: &str| -> Vec<usize> {
        let name = fold(name);
        (0..headers.len()).filter(|c| headers[*c] == name && !taken.contains(&Some(*c))).collect()
    };
    field.names.iter().copied().chain([field.key]).map(free).find(|found| !found.is_empty()).unwrap_or_default()
}

/// The unassigned field that an unknown column may be meant for.
pub(super) fn suggest(fields: &[&'static Field], header: &str, values: &[&str]) -> Option<Suggestion> {
    let near = fields.iter().flat_map(|f| f.names.iter().map(|name| (f.key, *name, likeness(header, name))));
    let best = near.filter(|(.., alike)| *alike >= ALIKE).max_by(|a, b| a.2.total_cmp(&b.2));
    if let Some((key, name, _)) = best {
        return Some(Suggestion { key, why: Why::Near(name) });
    }
    let (why, marks) = looks(values)?;
    let meant = |f: &&&Field| f.names.iter().any(|name| marks.iter().any(|mark| name.to_lowercase().contains(mark)));
    fields.iter().find(meant).map(|f| Suggestion { key: f.key, why })
}

/// From 0 to 1; one header inside the other counts as near.
fn likeness(header: &str, name: &str) -> f64 {
    let (header, name) = (bare(header), bare(name));
    let long = |s: &str| s.chars().count() >= 2;
    let inside = long(&header) && long(&name) && (header.contains(&name) || name.contains(&header));
    let alike = strsim::normalized_damerau_levenshtein(&header, &name);
    if inside { alike.max(0.7) } else { alike }
}

/// What most values look like, and words in the names of fields that hold such.
fn looks(values: &[&str]) -> Option<(Why, &'static [&'static str])> {
    let values: Vec<String> = values.iter().map(|v| text::mended(v).unwrap_or_else(|| v.trim().to_owned())).collect();
    let filled: Vec<&str> = values.iter().map(String::as_str).filter(|v| !v.is_empty()).collect();
    let most =
        |is: fn(&str) -> bool| !filled.is_empty() && filled.iter().filter(|v| is(v)).count() * 10 >= filled.len() * 8;
    if most(is_phone) {
        return Some((Why::LooksLikePhone, &["手机", "电话", "mobile", "phone"]));
    }
    if most(is_id) {
        return Some((Why::LooksLikeId, &["身份证", "证件", "identity"]));
    }
    most(is_code).then_some((Why::LooksLikeCode, &["区划", "代码", "编码", "code"]))
}

fn all_digits(value: &str) -> bool {
    value.bytes().all(|b| b.is_ascii_digit())
}

fn is_phone(value: &str) -> bool {
    let national = value.strip_prefix("+86").unwrap_or(value);
    national.len() == 11 && all_digits(national) && national.starts_with('1') && national.as_bytes()[1] >= b'3'
}

fn is_id(value: &str) -> bool {
    value.is_ascii()
        && value.len() == 18
        && all_digits(&value[..17])
        && value.ends_with(|c: char| c.is_ascii_digit() || c == 'X' || c == 'x')
}

fn is_code(value: &str) -> bool {
    matches!(value.len(), 6 | 9 | 12) && all_digits(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_fold_to_one_spelling() {
        for header in ["手机号*", " 手 机　号 ", "手机号（11 位）", "＊手机号：", "手机号[必填]"]
        {
            assert_eq!(bare(header), "手机号", "{header}");
        }
        assert_eq!(bare("Region_Code"), bare("ｒｅｇｉｏｎ code"));
        assert_eq!(bare("（备注）"), "(备注)", "a header that is all brackets keeps them");
    }

    #[test]
    fn values_tell_what_a_column_holds() {
        let looks = |values: &[&str]| looks(values).map(|(why, _)| why);
        assert_eq!(looks(&["13900000001", "", "１３９００００００02"]), Some(Why::LooksLikePhone));
        assert_eq!(looks(&["11010119900307000X"]), Some(Why::LooksLikeId));
        assert_eq!(looks(&["330102", "330102001"]), Some(Why::LooksLikeCode));
        assert_eq!(looks(&["张三", "13900000001"]), None);
        assert_eq!(looks(&[""]), None);
    }
}
