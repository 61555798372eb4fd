//! Reads the door-knock list that came back: a result a row, found by the row's name or
//! the household's number. Rows without a result were not visited yet.

use std::path::Path;

use jiff::tz::TimeZone;

use super::run::{Importer, Tally, drive, label, lacks, wrong};
use super::table::{Field, Options, Row, Table, TableError};
use super::{ImportError, Progress, Run, Summary};
use crate::clock::Millis;
use crate::domain::delivery::State;
use crate::domain::item::{Edge, point};
use crate::domain::recipient::{normal_ext, normal_name, purpose};
use crate::domain::visit::{VisitResult, read_row};
use crate::say;
use crate::store::Store;
use crate::store::visits::{DoorList, Knocked, Recorded, Visit};

/// How far a watch may run ahead of ours.
const AHEAD: Millis = 600_000;

/// The columns of a list that came back; those of the printed one among them.
pub const FIELDS: &[Field] = &[
    Field {
        key: "row",
        names: &["序号", "行号", "清单序号", "row", "no"],
        required: false,
        help_zh: "清单上的序号，如 V3-12",
        help_en: "the row's name on the list, such as V3-12",
    },
    Field {
        key: "household",
        names: &["户号", "户编号", "家庭编号", "农户编号", "household", "household id"],
        required: false,
        help_zh: "户号；没有序号时用它",
        help_en: "number of the household, where there is no row",
    },
    Field {
        key: "result",
        names: &["结果", "通知结果", "入户结果", "result"],
        required: true,
        help_zh: "已告知、不在家、已搬走或拒绝；还没去的留空",
        help_en: "told, absent, moved or refused; empty where nobody went yet",
    },
    Field {
        key: "by",
        names: &["通知人", "入户人", "告知人", "by", "visitor"],
        required: false,
        help_zh: "谁上门通知的",
        help_en: "who knocked",
    },
    Field {
        key: "at",
        names: &["时间", "通知时间", "入户时间", "日期", "at", "time"],
        required: false,
        help_zh: "什么时候，如 2026-06-01 14:30",
        help_en: "when, such as 2026-06-01 14:30",
    },
];

/// Opens a list that came back.
///
/// # Errors
/// When it cannot be read or lacks the column of results.
pub fn open(path: &Path, options: &Options) -> Result<Table, TableError> {
    Table::open(path, FIELDS, options)
}

/// Whose results they are and who enters them.
pub struct VisitOptions<'a> {
    pub list: DoorList,
    pub operator: &'a str,
    /// Times are read in this zone.
    pub zone: TimeZone,
}

/// Results by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub told: u64,
    pub absent: u64,
    pub moved: u64,
    pub refused: u64,
    /// Rows without a result.
    pub open: u64,
}

impl Counts {
    /// Counts one result.
    pub fn add(&mut self, result: VisitResult) {
        *match result {
            VisitResult::Told => &mut self.told,
            VisitResult::Absent => &mut self.absent,
            VisitResult::Moved => &mut self.moved,
            VisitResult::Refused => &mut self.refused,
        } += 1;
    }
}

/// Imports results; rows at fault are only rejected. The counts are of what was new.
///
/// # Errors
/// When the file or the database fails.
pub async fn import(
    store: &Store,
    table: &mut Table,
    run: &Run,
    options: &VisitOptions<'_>,
    report: &mut dyn FnMut(Progress),
) -> Result<(Summary, Counts), ImportError> {
    let mut importer = Results { store, run, options, counts: Counts::default() };
    let summary = drive(table, &mut importer, run.rejects.as_deref(), report).await?;
    tracing::info!(read = summary.read, added = summary.added, rejected = summary.rejected, "imported visits");
    Ok((summary, importer.counts))
}

struct Results<'a> {
    store: &'a Store,
    run: &'a Run,
    options: &'a VisitOptions<'a>,
    counts: Counts,
}

impl Importer for Results<'_> {
    /// `None` of a row without a result.
    type Record = Option<Visit>;

    fn record(&mut self, row: &Row, _: &mut Summary) -> Result<Option<Visit>, String> {
        let word = row.get("result");
        if word.is_empty() {
            return Ok(None);
        }
        let result = VisitResult::from_word(word).ok_or_else(|| {
            let known = VisitResult::ALL.map(VisitResult::label).join("、");
            wrong(label(FIELDS, "result"), word, &known)
        })?;
        Ok(Some(Visit { door: self.door(row)?, result, at: self.at(row)?, by: normal_name(row.get("by")) }))
    }

    async fn write(&mut self, chunk: Vec<(Row, Option<Visit>)>, tally: &mut Tally) -> Result<(), ImportError> {
        let (mut rows, mut visits) = (Vec::new(), Vec::new());
        for (row, visit) in chunk {
            match visit {
                Some(visit) => {
                    rows.push(row);
                    visits.push(visit);
                }
                None => self.counts.open += 1,
            }
        }
        let VisitOptions { list, operator, .. } = self.options;
        let recorded = self.store.record_visits(list, &visits, (operator, self.run.keep())).await?;
        for ((row, visit), recorded) in rows.iter().zip(&visits).zip(recorded) {
            match recorded {
                Recorded::Added => {
                    tally.summary.added += 1;
                    self.counts.add(visit.result);
                }
                Recorded::Unchanged => tally.summary.unchanged += 1,
                refused => tally.reject(row, &why(refused, list))?,
            }
        }
        Ok(())
    }
}

impl Results<'_> {
    fn door(&self, row: &Row) -> Result<Knocked, String> {
        let (text, no) = (row.get("row"), self.options.list.dispatch_no);
        if text.is_empty() {
            let household = normal_ext(row.get("household"))
                .ok_or_else(|| lacks(&say!("序号或户号", "row or household number")))?;
            return Ok(Knocked::Household(self.store.vault.hash(purpose::EXT, &household)));
        }
        let expected = say!("清单上的序号，如 V{no}-12", "the row's name on the list, such as V{no}-12");
        match read_row(text) {
            Some((None, row)) => Ok(Knocked::Row(row)),
            Some((Some(dispatch), row)) if dispatch == no => Ok(Knocked::Row(row)),
            Some((Some(other), _)) => Err(say!(
                "这一行属于发布任务 {other} 的清单，不是 {no} 的",
                "this row is of the list of dispatch {other}, not of {no}"
            )),
            None => Err(wrong(label(FIELDS, "row"), text, &expected)),
        }
    }

    fn at(&self, row: &Row) -> Result<Option<Millis>, String> {
        let text = row.get("at");
        if text.is_empty() {
            return Ok(None);
        }
        let at = point(text, &self.options.zone, Edge::Start).ok_or_else(|| {
            let expected = say!("日期和时间，如 2026-06-01 14:30", "a date and time such as 2026-06-01 14:30");
            wrong(label(FIELDS, "at"), text, &expected)
        })?;
        if at > self.store.now() + AHEAD {
            return Err(say!("时间“{text}”还没有到，请核对", "the time `{text}` is still to come; check it"));
        }
        Ok(Some(at))
    }
}

/// Why a result was not written down.
#[must_use]
pub fn why(recorded: Recorded, list: &DoorList) -> String {
    let no = list.dispatch_no;
    match recorded {
        Recorded::Closed(State::Told) => say!(
            "这一户已经告知，不再改为别的结果",
            "this household has been told; that is not changed to another result"
        ),
        Recorded::Closed(state) => {
            let state = VisitResult::of(state).map_or_else(|| state.name().to_owned(), VisitResult::label);
            say!(
                "这一户现在是“{state}”，这个结果不能改变它",
                "this household is `{state}`; this result does not change it"
            )
        }
        _ => say!(
            "发布任务 {no} 的入户清单上没有这一行或这一户。用 gong visits {no} list 核对",
            "the door-knock list of dispatch {no} has no such row or household. Check with gong visits {no} list"
        ),
    }
}
