//! All regions in memory: names to numbers, numbers to paths.

use std::collections::HashMap;

use super::{Level, RegionCode};
use crate::domain::recipient::{fold, masked};
use crate::say;

/// One region as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegionRow {
    pub no: i64,
    pub code: Option<String>,
    pub name: String,
    pub parent_no: Option<i64>,
    pub level: Level,
}

/// Why a text names no one region.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegionError {
    #[error("{}", unknown(.0))]
    Unknown(String),
    /// The paths of some that fit.
    #[error("{}", ambiguous(.0, .1))]
    Ambiguous(String, Vec<String>),
}

fn unknown(text: &str) -> String {
    // What should be a place can be a person when columns were mixed up.
    let text = masked(text);
    say!(
        "没有区域“{text}”。请写 12 位代码、名称或路径（如 县/镇/村），或先导入该区域",
        "no region `{text}`. Write its 12-digit code, its name or a path (county/town/village), or import it first"
    )
}

fn ambiguous(text: &str, paths: &[String]) -> String {
    let paths = paths.join("、");
    say!(
        "有几个区域都叫“{text}”：{paths}。请写代码或完整路径",
        "several regions are called `{text}`: {paths}. Write the code or the full path"
    )
}

/// All regions, held in memory: some hundred a county, 700,000 for the country.
#[derive(Debug, Clone, Default)]
pub struct RegionIndex {
    rows: HashMap<i64, RegionRow>,
    codes: HashMap<String, i64>,
    names: HashMap<String, Vec<i64>>,
    longest: usize,
}

impl RegionIndex {
    /// Builds the index from rows and (alias, region) pairs.
    #[must_use]
    pub fn new(rows: Vec<RegionRow>, aliases: Vec<(String, i64)>) -> Self {
        let mut index = Self::default();
        for row in rows {
            index.insert(row);
        }
        for (alias, no) in aliases {
            index.add_name(&alias, no);
        }
        index
    }

    /// Adds a region, or puts a newer state of it in place.
    pub fn insert(&mut self, row: RegionRow) {
        if let Some(code) = &row.code {
            self.codes.insert(code.clone(), row.no);
        }
        self.add_name(&row.name.clone(), row.no);
        self.rows.insert(row.no, row);
    }

    /// Adds another name of a region.
    pub fn add_name(&mut self, name: &str, no: i64) {
        let name = fold(name);
        self.longest = self.longest.max(name.chars().count());
        let all = self.names.entry(name).or_default();
        if !all.contains(&no) {
            all.push(no);
        }
    }

    #[must_use]
    pub fn get(&self, no: i64) -> Option<&RegionRow> {
        self.rows.get(&no)
    }

    #[must_use]
    pub fn by_code(&self, code: &str) -> Option<i64> {
        self.codes.get(code).copied()
    }

    /// The child of `parent` (`None` = a root) that bears this name or alias.
    #[must_use]
    pub fn child(&self, parent: Option<i64>, name: &str) -> Option<i64> {
        let all = self.names.get(&fold(name))?;
        all.iter().copied().find(|no| self.rows.get(no).is_some_and(|row| row.parent_no == parent))
    }

    /// Every region, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &RegionRow> {
        self.rows.values()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The region itself and those above it, upwards. A loop in the data ends it.
    pub fn upwards(&self, no: i64) -> impl Iterator<Item = &RegionRow> {
        std::iter::successors(self.rows.get(&no), |row| self.rows.get(&row.parent_no?)).take(32)
    }

    /// The names from the top down, joined by `/`: 永州市/江华瑶族自治县/沱江镇.
    #[must_use]
    pub fn path(&self, no: i64) -> String {
        let mut names: Vec<&str> = self.upwards(no).map(|row| row.name.as_str()).collect();
        names.reverse();
        names.join("/")
    }

    /// The region that a code, a name, or a path (with separators or run together)
    /// names; levels may be left out of a path.
    ///
    /// # Errors
    /// When none fits, or several do.
    pub fn resolve(&self, text: &str) -> Result<i64, RegionError> {
        let text = fold(text);
        if let Some(no) = RegionCode::parse(&text).and_then(|code| self.by_code(code.as_str())) {
            return Ok(no);
        }
        let run: String = text.chars().filter(|c| !matches!(c, '/' | '>' | ' ' | '\\')).collect();
        let mut fits: Vec<i64> = self.names.get(&text).cloned().unwrap_or_default();
        if fits.is_empty() {
            fits = self.by_path(&run);
        }
        match fits.as_slice() {
            [no] => Ok(*no),
            [] => Err(RegionError::Unknown(text)),
            several => Err(RegionError::Ambiguous(text, several.iter().take(3).map(|no| self.path(*no)).collect())),
        }
    }

    /// Regions whose name ends `run` and whose ancestors' names make up the rest.
    fn by_path(&self, run: &str) -> Vec<i64> {
        let starts: Vec<usize> = run.char_indices().map(|(at, _)| at).rev().take(self.longest).collect();
        for at in starts.into_iter().rev() {
            let Some(all) = self.names.get(&run[at..]) else { continue };
            let fits: Vec<i64> = all.iter().copied().filter(|no| self.ancestors_spell(*no, &run[..at])).collect();
            if !fits.is_empty() {
                return fits;
            }
        }
        Vec::new()
    }

    fn ancestors_spell(&self, no: i64, mut rest: &str) -> bool {
        for above in self.upwards(no).skip(1) {
            rest = rest.strip_suffix(above.name.as_str()).unwrap_or(rest);
        }
        rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(no: i64, code: Option<&str>, name: &str, parent_no: Option<i64>, level: Level) -> RegionRow {
        RegionRow { no, code: code.map(str::to_owned), name: name.to_owned(), parent_no, level }
    }

    fn index() -> RegionIndex {
        let rows = vec![
            row(1, Some("990100000000"), "河口市", None, Level::City),
            row(2, Some("990101000000"), "青山县", Some(1), Level::County),
            row(3, Some("990101100000"), "东镇", Some(2), Level::Town),
            row(4, Some("990101101000"), "西镇", Some(2), Level::Town),
            row(5, Some("990101100201"), "新村", Some(3), Level::Village),
            row(6, Some("990101101201"), "新村", Some(4), Level::Village),
            row(7, None, "一组", Some(6), Level::Custom),
        ];
        RegionIndex::new(rows, vec![("老东镇".into(), 3)])
    }

    #[test]
    fn names_and_paths_find_regions() {
        let index = index();
        for (text, no) in [
            ("990101100201", 5),
            ("990101", 2),
            ("西镇/新村", 6),
            ("青山县 > 东镇 > 新村", 5),
            ("河口市青山县西镇新村一组", 7),
            ("青山县新村一组", 7),
            ("老东镇", 3),
        ] {
            assert_eq!(index.resolve(text), Ok(no), "{text}");
        }
        assert!(matches!(index.resolve("新村"), Err(RegionError::Ambiguous(_, paths)) if paths.len() == 2));
        assert!(matches!(index.resolve("北镇新村"), Err(RegionError::Unknown(_))));
        assert!(matches!(index.resolve(""), Err(RegionError::Unknown(_))));
        assert_eq!(index.path(7), "河口市/青山县/西镇/新村/一组");
        assert_eq!(index.child(Some(3), "新村"), Some(5));
    }
}
