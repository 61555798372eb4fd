//! Points (boards, screens, loudspeakers, desks) and the officers who are called.

use std::collections::{BTreeSet, HashMap};

use super::bulk::{Cell, Col, Rows};
use super::recipients::{Keep, Written, put_addresses};
use super::{Result, Store, Tx};
use crate::channel::AddressKind;
use crate::domain::recipient::Phone;
use crate::domain::region::PointKind;
use crate::vault::Owner;

/// One point as a source states it; `None` and empty stay as they were.
#[derive(Clone)]
pub struct PointRecord {
    pub code: Option<String>,
    pub name: String,
    pub kind: PointKind,
    pub region_no: i64,
    pub keeper: Option<String>,
    pub phone: Option<Phone>,
    /// Numbers of the households it serves.
    pub households: Vec<i64>,
    /// Regions it serves, where it names no households.
    pub regions: Vec<i64>,
}

/// Who is called for a region, in which order.
#[derive(Clone)]
pub struct OfficerRecord {
    pub region_no: i64,
    pub role: String,
    /// 1 is called first.
    pub place: i32,
    pub name: String,
    pub phone: Phone,
}

#[derive(Clone, sqlx::FromRow)]
struct StoredPoint {
    no: i64,
    code: Option<String>,
    name: String,
    kind: String,
    region_no: i64,
    keeper_sealed: Option<Vec<u8>>,
    phone_id: Option<i64>,
}

#[derive(Clone, sqlx::FromRow)]
struct StoredOfficer {
    id: String,
    region_no: i64,
    role: String,
    place: i32,
    name_sealed: Vec<u8>,
    phone_id: i64,
}

impl Store {
    /// Writes points in one transaction. A point is known by its code, else by its
    /// region and name.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn put_points(&self, records: &[PointRecord], keep: Keep) -> Result<Written> {
        let mut tx = self.begin().await?;
        tx.queue_up("point").await?;
        let known = known_points(&mut tx, records).await?;
        let phones: Vec<(AddressKind, &str)> =
            records.iter().filter_map(|r| Some((AddressKind::Phone, r.phone.as_ref()?.as_str()))).collect();
        let ids = put_addresses(&mut tx, &self.vault, &phones).await?;
        let mut states: Vec<(bool, bool)> = Vec::with_capacity(records.len());
        let (mut rows, mut numbers) = (Rows::default(), Vec::with_capacity(records.len()));
        let new = records.iter().filter(|r| known.of(r).is_none()).count();
        let mut next = tx.take_numbers("point", i64::try_from(new).unwrap_or(i64::MAX)).await?..;
        for record in records {
            let standing = known.of(record);
            let Some(no) = standing.map(|point| point.no).or_else(|| next.next()) else { continue };
            let phone = record.phone.as_ref().and_then(|p| ids.get(&(AddressKind::Phone, p.as_str().to_owned())));
            let (row, changed) = self.lay_point(no, record, standing, phone.copied())?;
            if changed {
                rows.push(&point_cells(&row));
            }
            states.push((standing.is_none(), changed));
            numbers.push(no);
        }
        write_points(&mut tx, rows).await?;
        let served = [
            ("point_households", "recipient_no", records.iter().map(|r| r.households.as_slice()).collect::<Vec<_>>()),
            ("point_regions", "region_no", records.iter().map(|r| r.regions.as_slice()).collect()),
        ];
        for (table, column, sets) in served {
            for at in replace_served(&mut tx, (table, column), &numbers, &sets).await? {
                states[at].1 = true;
            }
        }
        if keep == Keep::Commit {
            tx.commit().await?;
        }
        Ok(tally(&states, numbers))
    }

    fn lay_point(
        &self,
        no: i64,
        record: &PointRecord,
        standing: Option<&StoredPoint>,
        phone_id: Option<i64>,
    ) -> Result<(StoredPoint, bool)> {
        let known_keeper = match standing.and_then(|s| s.keeper_sealed.as_ref()) {
            Some(sealed) => Some(self.vault.open_text(Owner::Point(no), sealed)?),
            None => None,
        };
        let new_keeper = record.keeper.as_ref().filter(|keeper| known_keeper.as_ref() != Some(*keeper));
        let row = StoredPoint {
            no,
            code: record.code.clone().or_else(|| standing.and_then(|s| s.code.clone())),
            name: record.name.clone(),
            kind: record.kind.as_str().to_owned(),
            region_no: record.region_no,
            keeper_sealed: match new_keeper {
                Some(keeper) => Some(self.vault.seal(Owner::Point(no), keeper.as_bytes())),
                None => standing.and_then(|s| s.keeper_sealed.clone()),
            },
            phone_id: phone_id.or_else(|| standing.and_then(|s| s.phone_id)),
        };
        let same = standing.is_some_and(|s| {
            new_keeper.is_none()
                && (&s.code, &s.name, &s.kind) == (&row.code, &row.name, &row.kind)
                && (s.region_no, s.phone_id) == (row.region_no, row.phone_id)
        });
        Ok((row, !same))
    }

    /// Writes duty officers in one transaction, by region, role and place.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn put_officers(&self, records: &[OfficerRecord], keep: Keep) -> Result<Written> {
        let mut tx = self.begin().await?;
        tx.queue_up("point").await?;
        let known = known_officers(&mut tx, records).await?;
        let phones: Vec<_> = records.iter().map(|r| (AddressKind::Phone, r.phone.as_str())).collect();
        let ids = put_addresses(&mut tx, &self.vault, &phones).await?;
        let (mut rows, mut states) = (Rows::default(), Vec::with_capacity(records.len()));
        for record in records {
            let owner = Owner::Officer(record.region_no);
            let standing = known.get(&(record.region_no, record.role.clone(), record.place));
            let Some(phone_id) = ids.get(&(AddressKind::Phone, record.phone.as_str().to_owned())) else { continue };
            let same = match standing {
                Some(s) => s.phone_id == *phone_id && self.vault.open_text(owner, &s.name_sealed)? == record.name,
                None => false,
            };
            states.push((standing.is_none(), !same));
            if same {
                continue;
            }
            let id = standing.map_or_else(|| uuid::Uuid::now_v7().to_string(), |s| s.id.clone());
            let sealed = self.vault.seal(owner, record.name.as_bytes());
            rows.push(&[
                id.as_str().into(),
                record.region_no.into(),
                record.role.as_str().into(),
                record.place.into(),
                Cell::Bytes(&sealed),
                (*phone_id).into(),
            ]);
        }
        write_officers(&mut tx, rows).await?;
        if keep == Keep::Commit {
            tx.commit().await?;
        }
        Ok(tally(&states, Vec::new()))
    }
}

fn tally(states: &[(bool, bool)], numbers: Vec<i64>) -> Written {
    let count = |test: fn(&(bool, bool)) -> bool| states.iter().filter(|s| test(s)).count() as u64;
    Written {
        added: count(|(new, _)| *new),
        updated: count(|(new, changed)| !new && *changed),
        unchanged: count(|(new, changed)| !new && !changed),
        numbers,
    }
}

#[derive(Default)]
struct KnownPoints {
    codes: HashMap<String, StoredPoint>,
    names: HashMap<(i64, String), StoredPoint>,
}

impl KnownPoints {
    fn of(&self, record: &PointRecord) -> Option<&StoredPoint> {
        let by_code = record.code.as_ref().and_then(|code| self.codes.get(code));
        by_code.or_else(|| self.names.get(&(record.region_no, record.name.clone())))
    }
}

async fn known_points(tx: &mut Tx, records: &[PointRecord]) -> Result<KnownPoints> {
    let mut rows = Rows::default();
    for record in records {
        rows.push(&[record.region_no.into(), record.name.as_str().into(), record.code.as_deref().into()]);
    }
    let source = tx.source(&[Col::Int("region_no"), Col::Text("name"), Col::Text("code")]);
    let list = "p.no, p.code, p.name, p.kind, p.region_no, p.keeper_sealed, p.phone_id";
    let sql = format!(
        "WITH wanted AS (SELECT * FROM {source}) \
         SELECT {list} FROM wanted w CROSS JOIN points p WHERE p.region_no = w.region_no AND p.name = w.name \
         UNION SELECT {list} FROM wanted w CROSS JOIN points p WHERE p.code = w.code"
    );
    let mut known = KnownPoints::default();
    for point in bulk_read!(tx, StoredPoint, sql, rows)? {
        if let Some(code) = &point.code {
            known.codes.insert(code.clone(), point.clone());
        }
        known.names.insert((point.region_no, point.name.clone()), point);
    }
    Ok(known)
}

fn point_cells(row: &StoredPoint) -> [Cell<'_>; 7] {
    [
        row.no.into(),
        row.code.as_deref().into(),
        row.name.as_str().into(),
        row.kind.as_str().into(),
        row.region_no.into(),
        row.keeper_sealed.as_deref().into(),
        row.phone_id.into(),
    ]
}

async fn write_points(tx: &mut Tx, rows: Rows) -> Result<()> {
    let columns = [
        Col::Int("no"),
        Col::Text("code"),
        Col::Text("name"),
        Col::Text("kind"),
        Col::Int("region_no"),
        Col::Bytes("keeper_sealed"),
        Col::Int("phone_id"),
    ];
    let list = "no, code, name, kind, region_no, keeper_sealed, phone_id";
    let source = tx.source(&columns);
    let sql = format!(
        "INSERT INTO points ({list}) SELECT {list} FROM {source} WHERE TRUE ON CONFLICT (no) DO UPDATE SET \
         code = excluded.code, name = excluded.name, kind = excluded.kind, region_no = excluded.region_no, \
         keeper_sealed = excluded.keeper_sealed, phone_id = excluded.phone_id"
    );
    tx.bulk(sql, rows).await?;
    Ok(())
}

/// Makes what points serve what the records say, where they say anything; returns
/// the places of the records that changed it.
async fn replace_served(
    tx: &mut Tx,
    (table, column): (&str, &str),
    numbers: &[i64],
    sets: &[&[i64]],
) -> Result<Vec<usize>> {
    let said: Vec<usize> = (0..sets.len()).filter(|at| !sets[*at].is_empty()).collect();
    let source = tx.source(&[Col::Int("no")]);
    let sql = format!("SELECT t.point_no, t.{column} FROM {source} CROSS JOIN {table} t WHERE t.point_no = src.no");
    let mut standing: HashMap<i64, BTreeSet<i64>> = HashMap::new();
    for (point, served) in bulk_read!(tx, (i64, i64), sql, Rows::column(said.iter().map(|at| numbers[*at])))? {
        standing.entry(point).or_default().insert(served);
    }
    let changed: Vec<usize> = said
        .into_iter()
        .filter(|at| standing.get(&numbers[*at]).cloned().unwrap_or_default() != sets[*at].iter().copied().collect())
        .collect();
    let gone = format!("DELETE FROM {table} WHERE point_no IN (SELECT no FROM {source})");
    tx.bulk(gone, Rows::column(changed.iter().map(|at| numbers[*at]))).await?;
    let mut rows = Rows::default();
    for at in &changed {
        for served in sets[*at] {
            rows.push(&[numbers[*at].into(), (*served).into()]);
        }
    }
    let source = tx.source(&[Col::Int("point_no"), Col::Int("served")]);
    let come = format!(
        "INSERT INTO {table} (point_no, {column}) SELECT point_no, served FROM {source} WHERE TRUE ON CONFLICT DO NOTHING"
    );
    tx.bulk(come, rows).await?;
    Ok(changed)
}

type OfficerKey = (i64, String, i32);

async fn known_officers(tx: &mut Tx, records: &[OfficerRecord]) -> Result<HashMap<OfficerKey, StoredOfficer>> {
    let source = tx.source(&[Col::Int("region_no")]);
    let sql = format!(
        "SELECT id, region_no, role, place, name_sealed, phone_id FROM duty_officers \
         WHERE region_no IN (SELECT region_no FROM {source})"
    );
    let found = bulk_read!(tx, StoredOfficer, sql, Rows::column(records.iter().map(|r| r.region_no)))?;
    Ok(found.into_iter().map(|o| ((o.region_no, o.role.clone(), o.place), o)).collect())
}

async fn write_officers(tx: &mut Tx, rows: Rows) -> Result<()> {
    let columns = [
        Col::Text("id"),
        Col::Int("region_no"),
        Col::Text("role"),
        Col::Int("place"),
        Col::Bytes("name_sealed"),
        Col::Int("phone_id"),
    ];
    let list = "id, region_no, role, place, name_sealed, phone_id";
    let source = tx.source(&columns);
    let sql = format!(
        "INSERT INTO duty_officers ({list}) SELECT {list} FROM {source} WHERE TRUE \
         ON CONFLICT (region_no, role, place) DO UPDATE SET \
         name_sealed = excluded.name_sealed, phone_id = excluded.phone_id"
    );
    tx.bulk(sql, rows).await?;
    Ok(())
}
