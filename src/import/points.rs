//! Imports points (boards, screens, loudspeakers, desks) and duty officers.

mod fields;

use std::collections::HashSet;
use std::path::Path;

pub use fields::{FIELDS, OFFICER_FIELDS};

use super::run::{Importer, Tally, drive, label, lacks, wrong};
use super::table::{Options, Row, Table, TableError};
use super::who::{Places, phone, phone_form};
use super::{ImportError, Progress, Run, Summary};
use crate::domain::recipient::{Phone, fold, masked, normal_ext, normal_name, purpose, several};
use crate::domain::region::PointKind;
use crate::say;
use crate::store::Store;
use crate::store::points::{OfficerRecord, PointRecord};
use crate::store::recipients::{Found, Who};

/// Opens a table of points.
///
/// # Errors
/// When it cannot be read or lacks a column.
pub fn open(path: &Path, options: &Options) -> Result<Table, TableError> {
    Table::open(path, FIELDS, options)
}

/// Opens a table of duty officers.
///
/// # Errors
/// When it cannot be read or lacks a column.
pub fn open_officers(path: &Path, options: &Options) -> Result<Table, TableError> {
    Table::open(path, OFFICER_FIELDS, options)
}

/// Imports points. A point is known by its code, else by its region and name.
///
/// # Errors
/// When the file or the database fails; rows at fault are only rejected.
pub async fn import(
    store: &Store,
    table: &mut Table,
    run: &Run,
    report: &mut dyn FnMut(Progress),
) -> Result<Summary, ImportError> {
    let places = Places::new(store.regions_index().await?);
    let mut importer = Points { store, run, places, names: HashSet::new(), codes: HashSet::new() };
    drive(table, &mut importer, run.rejects.as_deref(), report).await
}

/// Imports duty officers, by region, role and order.
///
/// # Errors
/// When the file or the database fails; rows at fault are only rejected.
pub async fn import_officers(
    store: &Store,
    table: &mut Table,
    run: &Run,
    report: &mut dyn FnMut(Progress),
) -> Result<Summary, ImportError> {
    let places = Places::new(store.regions_index().await?);
    let mut importer = Officers { store, run, places, seen: HashSet::new() };
    drive(table, &mut importer, run.rejects.as_deref(), report).await
}

struct Points<'a> {
    store: &'a Store,
    run: &'a Run,
    places: Places,
    names: HashSet<(i64, String)>,
    codes: HashSet<String>,
}

/// A point whose households are still their external ids.
struct Draft {
    record: PointRecord,
    households: Vec<String>,
}

fn twice() -> String {
    say!("文件中已有同样的一行，请删去一行", "the file has this row already; remove one")
}

/// The region of a cell that may not be empty.
fn place(places: &mut Places, name: &str, text: &str) -> Result<i64, String> {
    let found = places.find(text).map_err(|reason| say!("{name}：{reason}", "{name}: {reason}"))?;
    found.ok_or_else(|| lacks(name))
}

impl Importer for Points<'_> {
    type Record = Draft;

    fn record(&mut self, row: &Row, _: &mut Summary) -> Result<Draft, String> {
        let region_no = place(&mut self.places, label(FIELDS, "region"), row.get("region"))?;
        let name = fold(row.get("name"));
        if name.is_empty() {
            return Err(lacks(label(FIELDS, "name")));
        }
        let kind = match row.get("kind") {
            "" => PointKind::Board,
            text => PointKind::parse(text).ok_or_else(|| {
                let expected = say!("公告栏、电子屏、大喇叭或便民服务点", "board, screen, loudspeaker or desk");
                wrong(label(FIELDS, "kind"), text, &expected)
            })?,
        };
        let served = label(FIELDS, "regions");
        let regions =
            several(row.get("regions")).map(|text| place(&mut self.places, served, text)).collect::<Result<_, _>>()?;
        let code = Some(fold(row.get("code"))).filter(|code| !code.is_empty());
        let phone = phone(FIELDS, "phone", row)?;
        if !self.names.insert((region_no, name.clone())) || code.as_ref().is_some_and(|c| !self.codes.insert(c.clone()))
        {
            return Err(twice());
        }
        let keeper = normal_name(row.get("keeper"));
        let record = PointRecord { code, name, kind, region_no, keeper, phone, households: Vec::new(), regions };
        Ok(Draft { record, households: several(row.get("households")).filter_map(normal_ext).collect() })
    }

    async fn write(&mut self, chunk: Vec<(Row, Draft)>, tally: &mut Tally) -> Result<(), ImportError> {
        let hash = |ext: &String| Who { household: Some(self.store.vault.hash(purpose::EXT, ext)), ..Who::default() };
        let all: Vec<Who> = chunk.iter().flat_map(|(_, d)| &d.households).map(hash).collect();
        let mut found = self.store.find_recipients(&all).await?.into_iter();
        let mut records = Vec::with_capacity(chunk.len());
        for (row, Draft { mut record, households }) in chunk {
            let mut unknown = None;
            for (ext, found) in households.iter().zip(found.by_ref()) {
                match found {
                    Found::One(no) => record.households.push(no),
                    _ => unknown = unknown.or(Some(ext)),
                }
            }
            if let Some(ext) = unknown {
                let (name, ext) = (label(FIELDS, "households"), masked(ext));
                let reason =
                    say!("{name}：没有户号“{ext}”。请先导入该户", "{name}: no household `{ext}`. Import it first");
                tally.reject(&row, &reason)?;
            } else {
                records.push(record);
            }
        }
        tally.count(&self.store.put_points(&records, self.run.keep()).await?);
        Ok(())
    }
}

struct Officers<'a> {
    store: &'a Store,
    run: &'a Run,
    places: Places,
    seen: HashSet<(i64, String, i32)>,
}

impl Importer for Officers<'_> {
    type Record = OfficerRecord;

    fn record(&mut self, row: &Row, _: &mut Summary) -> Result<OfficerRecord, String> {
        let region_no = place(&mut self.places, label(OFFICER_FIELDS, "region"), row.get("region"))?;
        let name = normal_name(row.get("name")).ok_or_else(|| lacks(label(OFFICER_FIELDS, "name")))?;
        let text = row.get("place");
        let order = if text.is_empty() { Some(1) } else { text.parse().ok().filter(|n| (1..=999).contains(n)) };
        let order = order.ok_or_else(|| {
            wrong(label(OFFICER_FIELDS, "place"), text, &say!("1 到 999 的整数", "a whole number from 1 to 999"))
        })?;
        let text = row.get("phone");
        let phone_label = label(OFFICER_FIELDS, "phone");
        if text.is_empty() {
            return Err(lacks(phone_label));
        }
        let phone = Phone::parse(text).ok_or_else(|| wrong(phone_label, text, &phone_form()))?;
        let role = fold(row.get("role"));
        if !self.seen.insert((region_no, role.clone(), order)) {
            return Err(twice());
        }
        Ok(OfficerRecord { region_no, role, place: order, name, phone })
    }

    async fn write(&mut self, chunk: Vec<(Row, OfficerRecord)>, tally: &mut Tally) -> Result<(), ImportError> {
        let records: Vec<OfficerRecord> = chunk.into_iter().map(|(_, record)| record).collect();
        tally.count(&self.store.put_officers(&records, self.run.keep()).await?);
        Ok(())
    }
}
