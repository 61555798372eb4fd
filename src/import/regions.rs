//! Imports the division tree: codes, names, parents, in any order of rows.
//!
//! A region with a code is known by it; one without (a farm, a hamlet, a 村民小组)
//! by its parent and name. So the same file changes nothing when it comes again.
//! All rows are held in memory, as the tree itself is: 700,000 for the country.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::run::{Importer, Tally, drive, label, lacks, wrong};
use super::table::{Field, Options, Row, Table, TableError};
use super::{ImportError, Progress, Run, Summary};
use crate::domain::recipient::{fold, several};
use crate::domain::region::{Level, RegionCode, RegionError, RegionIndex, RegionRow};
use crate::say;
use crate::store::Store;
use crate::store::recipients::Written;
use crate::store::regions::RegionRecord;

/// Regions a transaction.
const CHUNK: usize = 2_000;

/// The columns of a table of regions.
pub const FIELDS: &[Field] = &[
    Field {
        key: "code",
        names: &["区划代码", "代码", "行政区划代码", "统计用区划代码", "code", "region code"],
        required: false,
        help_zh: "12 位区划代码；没有代码的（农场、自然村、小组）留空",
        help_en: "the 12-digit division code; empty for farms, hamlets and groups without one",
    },
    Field {
        key: "name",
        names: &["名称", "区域名称", "区划名称", "name", "region name"],
        required: true,
        help_zh: "区域名称",
        help_en: "name of the region",
    },
    Field {
        key: "parent",
        names: &["上级", "上级代码", "上级区域", "所属区域", "parent", "parent code"],
        required: false,
        help_zh: "上级的代码、名称或路径；留空时由代码推出",
        help_en: "code, name or path of the region above; told from the code when empty",
    },
    Field {
        key: "level",
        names: &["级别", "层级", "level"],
        required: false,
        help_zh: "省、市、县、乡、村，其他写 custom；留空时由代码推出",
        help_en: "province, city, county, town, village or custom; told from the code when empty",
    },
    Field {
        key: "areas",
        names: &["片区", "areas", "area"],
        required: false,
        help_zh: "所属片区，多个用、隔开",
        help_en: "areas it lies in, several separated by ;",
    },
    Field {
        key: "aliases",
        names: &["别名", "曾用名", "aliases", "alias"],
        required: false,
        help_zh: "别名、旧名，多个用、隔开",
        help_en: "other and former names, several separated by ;",
    },
];

/// Opens a table of regions.
///
/// # Errors
/// When it cannot be read or lacks a column.
pub fn open(path: &Path, options: &Options) -> Result<Table, TableError> {
    Table::open(path, FIELDS, options)
}

/// Imports regions; `edition` names the division tables they come from (2023-06-30).
///
/// # Errors
/// When the file or the database fails; rows at fault are only rejected.
pub async fn import(
    store: &Store,
    table: &mut Table,
    run: &Run,
    edition: &str,
    report: &mut dyn FnMut(Progress),
) -> Result<Summary, ImportError> {
    let index = store.regions_index().await?;
    let (pending, done, seen) = (Vec::new(), Vec::new(), HashMap::new());
    let mut importer = Regions { store, run, edition, index, pending, done, seen, repeats: 0 };
    let summary = drive(table, &mut importer, run.rejects.as_deref(), report).await?;
    tracing::info!(read = summary.read, added = summary.added, rejected = summary.rejected, "imported regions");
    Ok(summary)
}

/// New regions bear numbers from here on until the database gives them theirs.
const PROVISIONAL: i64 = 1 << 60;

struct Draft {
    code: Option<RegionCode>,
    name: String,
    parent: String,
    level: Option<Level>,
    areas: Vec<String>,
    aliases: Vec<String>,
}

impl Draft {
    /// Its parent is a code, which names one region whatever else the file adds.
    fn sure(&self) -> bool {
        self.parent.is_empty() || RegionCode::parse(&self.parent).is_some()
    }
}

/// Where a draft's parent stands.
enum Parent {
    Known(Option<i64>),
    /// Perhaps further down in the file.
    Awaited(String),
}

struct Regions<'a> {
    store: &'a Store,
    run: &'a Run,
    edition: &'a str,
    index: RegionIndex,
    pending: Vec<(Row, Draft)>,
    /// Parents before children; with each whether it differs from what is stored.
    done: Vec<(RegionRecord, bool)>,
    seen: HashMap<i64, usize>,
    /// Rows that say again what an earlier one said.
    repeats: u64,
}

impl Importer for Regions<'_> {
    type Record = Draft;

    fn record(&mut self, row: &Row, _: &mut Summary) -> Result<Draft, String> {
        let text = row.get("code");
        let code = match text {
            "" => None,
            text => Some(RegionCode::parse(text).ok_or_else(|| {
                let expected = say!(
                    "12 位数字的区划代码（也可写前 2、4、6、9 位）",
                    "a division code of 12 digits (or its first 2, 4, 6 or 9)"
                );
                wrong(label(FIELDS, "code"), text, &expected)
            })?),
        };
        let name = fold(row.get("name"));
        if name.is_empty() {
            return Err(lacks(label(FIELDS, "name")));
        }
        let text = row.get("level");
        let level =
            match text {
                "" => code.as_ref().map(RegionCode::level),
                text => Some(Level::parse(text).ok_or_else(|| {
                    wrong(label(FIELDS, "level"), text, "province, city, county, town, village, custom")
                })?),
            };
        let list = |key| several(row.get(key)).map(fold).collect();
        Ok(Draft { code, name, parent: fold(row.get("parent")), level, areas: list("areas"), aliases: list("aliases") })
    }

    async fn write(&mut self, chunk: Vec<(Row, Draft)>, _: &mut Tally) -> Result<(), ImportError> {
        self.pending.extend(chunk);
        Ok(())
    }

    async fn finish(&mut self, tally: &mut Tally) -> Result<(), ImportError> {
        self.settle_all(tally)?;
        for (row, draft) in std::mem::take(&mut self.pending) {
            let Parent::Awaited(reason) = self.parent_of(&draft, &HashSet::new()) else { continue };
            let label = label(FIELDS, "parent");
            tally.reject(&row, &say!("{label}：{reason}", "{label}: {reason}"))?;
        }
        self.store_all(tally).await
    }
}

impl Regions<'_> {
    /// Settles whatever has its parent until nothing moves: codes first, so that a
    /// name is looked up among all regions that the file adds by code.
    fn settle_all(&mut self, tally: &mut Tally) -> Result<(), ImportError> {
        loop {
            let before = self.pending.len();
            self.pass(true, tally)?;
            if self.pending.len() == before {
                self.pass(false, tally)?;
            }
            if self.pending.len() == before {
                return Ok(());
            }
        }
    }

    fn pass(&mut self, sure: bool, tally: &mut Tally) -> Result<(), ImportError> {
        let pending = std::mem::take(&mut self.pending);
        let mut awaited: HashSet<String> =
            pending.iter().filter_map(|(_, d)| Some(d.code.as_ref()?.as_str().to_owned())).collect();
        for (row, draft) in pending {
            let parent = if draft.sure() == sure { Some(self.parent_of(&draft, &awaited)) } else { None };
            let Some(Parent::Known(parent)) = parent else {
                self.pending.push((row, draft));
                continue;
            };
            if let Some(code) = &draft.code {
                awaited.remove(code.as_str());
            }
            if let Err(reason) = self.settle(draft, parent) {
                tally.reject(&row, &reason)?;
            }
        }
        Ok(())
    }

    /// `awaited` are codes further down in the file.
    fn parent_of(&self, draft: &Draft, awaited: &HashSet<String>) -> Parent {
        if !draft.parent.is_empty() {
            return match self.index.resolve(&draft.parent) {
                Ok(no) => Parent::Known(Some(no)),
                Err(reason @ (RegionError::Unknown(_) | RegionError::Ambiguous(..))) => {
                    Parent::Awaited(reason.to_string())
                }
            };
        }
        let above = std::iter::successors(draft.code.as_ref().and_then(RegionCode::parent), RegionCode::parent);
        for code in above {
            if let Some(no) = self.index.by_code(code.as_str()) {
                return Parent::Known(Some(no));
            }
            if awaited.contains(code.as_str()) {
                return Parent::Awaited(RegionError::Unknown(code.as_str().to_owned()).to_string());
            }
        }
        Parent::Known(None)
    }

    /// Finds the region a draft means, or gives it a number.
    fn settle(&mut self, draft: Draft, parent_no: Option<i64>) -> Result<(), String> {
        let code = draft.code.as_ref().map(|code| code.as_str().to_owned());
        let by_code = code.as_ref().and_then(|code| self.index.by_code(code));
        let namesake = self.index.child(parent_no, &draft.name).and_then(|no| self.index.get(no));
        // A hamlet that is given a code later is still the same hamlet.
        let by_name = namesake.filter(|row| code.is_none() || row.code.is_none()).map(|row| row.no);
        let known = by_code.or(by_name).and_then(|no| self.index.get(no)).cloned();
        let level = draft.level.or_else(|| known.as_ref().map(|row| row.level)).unwrap_or(Level::Custom);
        let no = known
            .as_ref()
            .map_or_else(|| PROVISIONAL + i64::try_from(self.done.len()).unwrap_or_default(), |row| row.no);
        let code = code.or_else(|| known.as_ref().and_then(|row| row.code.clone()));
        let row = RegionRow { no, code, name: draft.name, parent_no, level };
        if let Some(earlier) = self.seen.get(&no) {
            if self.done[*earlier].0.row != row {
                return Err(say!(
                    "同一区域在文件中出现两次，内容不同",
                    "the file has this region twice, and they differ"
                ));
            }
            self.repeats += 1;
            return Ok(());
        }
        if parent_no.is_some_and(|parent| self.index.upwards(parent).any(|above| above.no == no)) {
            return Err(say!("上级是它自己的下级", "the region above lies below it"));
        }
        let changed = known.as_ref() != Some(&row);
        self.index.insert(row.clone());
        for alias in &draft.aliases {
            self.index.add_name(alias, no);
        }
        self.seen.insert(no, self.done.len());
        self.done
            .push((RegionRecord { row, new: known.is_none(), areas: draft.areas, aliases: draft.aliases }, changed));
        Ok(())
    }

    async fn store_all(&mut self, tally: &mut Tally) -> Result<(), ImportError> {
        let new = self.done.iter().filter(|(r, _)| r.new).count();
        let mut written = Written { added: new as u64, unchanged: self.repeats, ..Written::default() };
        let mut all = std::mem::take(&mut self.done);
        if !self.run.dry_run {
            let first = self.store.reserve_regions(new).await?;
            number(&mut all, first);
        }
        while !all.is_empty() {
            let (records, changed): (Vec<_>, Vec<_>) = all.drain(..all.len().min(CHUNK)).unzip();
            let touched =
                if self.run.dry_run { HashSet::new() } else { self.store.put_regions(&records, self.edition).await? };
            for (record, changed) in records.iter().zip(changed).filter(|(r, _)| !r.new) {
                let updated = changed || touched.contains(&record.row.no);
                *(if updated { &mut written.updated } else { &mut written.unchanged }) += 1;
            }
        }
        tally.count(&written);
        Ok(())
    }
}

/// Replaces provisional numbers, in the order in which parents come first.
fn number(all: &mut [(RegionRecord, bool)], first: i64) {
    let mut given: HashMap<i64, i64> = HashMap::new();
    let mut next = first;
    for (record, _) in all {
        let row = &mut record.row;
        if record.new {
            given.insert(row.no, next);
            row.no = next;
            next += 1;
        }
        row.parent_no = row.parent_no.map(|no| given.get(&no).copied().unwrap_or(no));
    }
}
