//! Imports posting receipts: which sheet hangs since when, who hung it, when it comes down.

use std::collections::HashMap;
use std::path::Path;

use jiff::tz::TimeZone;

use super::run::{Importer, Tally, drive, label, wrong};
use super::table::{Field, Options, Row, Table, TableError};
use super::{ImportError, Progress, Run, Summary};
use crate::clock::Millis;
use crate::domain::item::{Edge, point};
use crate::domain::recipient::{fold, masked, normal_name};
use crate::domain::serial::Serial;
use crate::say;
use crate::store::Store;
use crate::store::dispatches::Dispatch;
use crate::store::postings::{Action, Posting, Recorded};
use crate::store::sheets::SheetRow;

/// The columns of a table of posting receipts.
pub const FIELDS: &[Field] = &[
    Field {
        key: "serial",
        names: &["序号", "张贴序号", "张贴件序号", "serial", "no"],
        required: false,
        help_zh: "张贴件上的序号，如 3-12",
        help_en: "serial number on the sheet, such as 3-12",
    },
    Field {
        key: "point",
        names: &["点位", "点位名称", "公告栏", "名称", "point", "board"],
        required: false,
        help_zh: "点位名称或编号（没有序号时）",
        help_en: "name or code of the point, where there is no serial",
    },
    Field {
        key: "region",
        names: &["村", "区域", "所在村", "行政村", "village", "region"],
        required: false,
        help_zh: "所在村，区分同名点位",
        help_en: "village, to tell points of one name apart",
    },
    Field {
        key: "by",
        names: &["张贴人", "张贴人姓名", "经办人", "posted by", "by"],
        required: false,
        help_zh: "张贴人姓名",
        help_en: "who put it up",
    },
    Field {
        key: "posted_at",
        names: &["张贴日期", "张贴时间", "posted at", "posted", "at"],
        required: false,
        help_zh: "张贴日期或时间；留空为现在",
        help_en: "when it was put up; now when empty",
    },
    Field {
        key: "until",
        names: &["撤下日期", "应撤下日期", "张贴至", "take down", "until"],
        required: false,
        help_zh: "应撤下的日期；--taken-down 时是实际撤下的日期",
        help_en: "when it is to come down; with --taken-down, when it did",
    },
];

/// Opens a table of posting receipts.
///
/// # Errors
/// When it cannot be read, or names neither serials nor points.
pub fn open(path: &Path, options: &Options) -> Result<Table, TableError> {
    Table::open(path, FIELDS, options)
}

/// What the receipts are about, and who enters them.
pub struct About<'a> {
    pub dispatch: &'a Dispatch,
    pub sheets: &'a Sheets,
    /// The rows say what was taken down.
    pub taken_down: bool,
    pub operator: &'a str,
    pub zone: &'a TimeZone,
}

/// Imports posting receipts of one dispatch.
///
/// # Errors
/// When the file or the database fails; rows at fault are only rejected.
pub async fn import(
    store: &Store,
    table: &mut Table,
    run: &Run,
    about: &About<'_>,
    report: &mut dyn FnMut(Progress),
) -> Result<Summary, ImportError> {
    let mut importer = Postings { store, run, about };
    drive(table, &mut importer, run.rejects.as_deref(), report).await
}

/// The sheets of a dispatch by everything people call them.
pub struct Sheets {
    dispatch_no: i64,
    channels: Vec<i32>,
    names: HashMap<String, Vec<i64>>,
}

impl Sheets {
    #[must_use]
    pub fn new(dispatch_no: i64, channels: Vec<i32>, rows: &[SheetRow]) -> Self {
        let mut names: HashMap<String, Vec<i64>> = HashMap::new();
        for row in rows {
            let (town, village, point) = (row.town(), row.village(), row.point.as_str());
            let mut all = vec![
                row.serial(dispatch_no).to_string(),
                point.to_owned(),
                village.to_owned(),
                format!("{village}/{point}"),
                format!("{town}/{village}/{point}"),
                format!("{town}/{village}"),
                row.place().replace(" · ", "/"),
            ];
            all.extend(row.code.clone());
            all.sort();
            all.dedup();
            for name in all.into_iter().filter(|n| !n.trim_matches('/').is_empty()) {
                names.entry(fold(&name)).or_default().push(row.ordinal);
            }
        }
        Self { dispatch_no, channels, names }
    }

    /// The channels its sheets are on.
    #[must_use]
    pub fn channels(&self) -> &[i32] {
        &self.channels
    }

    /// The sheet that `text` names: a serial, a point, a village with one point.
    ///
    /// # Errors
    /// Says what is wrong, and what to write instead.
    pub fn find(&self, text: &str) -> Result<i64, String> {
        let text = fold(&text.replace(" · ", "/").replace('·', "/"));
        let no = self.dispatch_no;
        if let Some(serial) = Serial::parse(&text) {
            if serial.dispatch_no != no {
                return Err(say!(
                    "序号 {serial} 不属于发布任务 {no}。请核对任务编号",
                    "the serial {serial} is not of dispatch {no}; check the number of the dispatch"
                ));
            }
            return Ok(serial.ordinal);
        }
        match self.names.get(&text).map(Vec::as_slice) {
            Some([one]) => Ok(*one),
            Some(several) => {
                let n = several.len();
                Err(say!(
                    "“{text}”有 {n} 个点位，请写明：村/点位，或张贴件上的序号",
                    "`{text}` fits {n} points; write village/point, or the serial on the sheet"
                ))
            }
            None => Err(say!(
                "发布任务 {no} 在“{text}”没有张贴件。查看：gong points {no}",
                "dispatch {no} has no sheet at `{text}`. See: gong points {no}"
            )),
        }
    }
}

/// Why a receipt was not taken, as people read it; `None` when it was.
#[must_use]
pub fn refusal(recorded: Recorded) -> Option<String> {
    match recorded {
        Recorded::New | Recorded::Known => None,
        Recorded::NoSheet => Some(say!("没有这个序号的张贴件", "there is no sheet with this serial")),
        Recorded::Not(state) => {
            let state = state.name();
            Some(say!(
                "这份张贴件现在是 {state}，不能确认张贴或撤下",
                "this sheet is {state} now and can be neither posted nor taken down"
            ))
        }
    }
}

struct Postings<'a> {
    store: &'a Store,
    run: &'a Run,
    about: &'a About<'a>,
}

impl Postings<'_> {
    fn time(&self, row: &Row, key: &'static str, edge: Edge) -> Result<Option<Millis>, String> {
        let text = row.get(key);
        if text.is_empty() {
            return Ok(None);
        }
        let at = point(text, self.about.zone, edge);
        at.map(Some).ok_or_else(|| wrong(label(FIELDS, key), text, &date_form()))
    }

    fn past(&self, key: &'static str, at: Option<Millis>) -> Result<Option<Millis>, String> {
        let name = label(FIELDS, key);
        match at {
            Some(at) if at > self.store.now() => {
                Err(say!("{name}在将来，请核对", "{name} lies in the future; check it"))
            }
            at => Ok(at),
        }
    }
}

/// How a date is written.
#[must_use]
pub fn date_form() -> String {
    say!("日期，如 2026-06-01 或 2026-06-01 14:30", "a date such as 2026-06-01 or 2026-06-01 14:30")
}

impl Importer for Postings<'_> {
    type Record = Posting;

    fn record(&mut self, row: &Row, _: &mut Summary) -> Result<Posting, String> {
        let (serial, name, region) = (row.get("serial"), row.get("point"), row.get("region"));
        let ordinal = match (serial, name, region) {
            ("", "", "") => {
                return Err(say!(
                    "缺少“序号”或“点位”，请填写其一",
                    "neither a serial nor a point is given; fill in one of them"
                ));
            }
            // A column 序号 that only counts the rows is no serial number.
            (serial, ..) if Serial::parse(serial).is_some() => self.about.sheets.find(serial)?,
            (serial, "", "") => {
                let serial = masked(serial);
                return Err(say!(
                    "“{serial}”不是张贴件上的序号（如 3-12），也没有写点位",
                    "`{serial}` is no serial of a sheet (such as 3-12), and no point is given"
                ));
            }
            (_, name, "") => self.about.sheets.find(name)?,
            (_, "", region) => self.about.sheets.find(region)?,
            (_, name, region) => self.about.sheets.find(&format!("{region}/{name}"))?,
        };
        let by = normal_name(row.get("by"));
        let posted_at = self.time(row, "posted_at", Edge::Start)?;
        if self.about.taken_down {
            let at = self.past("until", self.time(row, "until", Edge::Start)?)?;
            return Ok(Posting { ordinal, action: Action::TakenDown, at, by, take_down_at: None });
        }
        let at = self.past("posted_at", posted_at)?;
        let take_down_at = self.time(row, "until", Edge::End)?;
        Ok(Posting { ordinal, action: Action::Posted, at, by, take_down_at })
    }

    async fn write(&mut self, chunk: Vec<(Row, Posting)>, tally: &mut Tally) -> Result<(), ImportError> {
        let (rows, postings): (Vec<Row>, Vec<Posting>) = chunk.into_iter().unzip();
        let about = self.about;
        let by = (about.operator, self.run.keep());
        let done = self.store.record_postings(about.dispatch, about.sheets.channels(), &postings, by).await?;
        for (row, recorded) in rows.iter().zip(done) {
            match refusal(recorded) {
                Some(reason) => tally.reject(row, &reason)?,
                None if recorded == Recorded::New => tally.summary.added += 1,
                None => tally.summary.unchanged += 1,
            }
        }
        Ok(())
    }
}
