//! The rows of `recipients`: looked up by identity, added or brought up to date.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::RecipientRecord;
use crate::domain::recipient::{RecipientKind, purpose};
use crate::store::bulk::{Cell, Col, Rows};
use crate::store::{Result, Store, Tx};
use crate::vault::{Owner, Vault};

/// What became of a record, and of the households that records name.
pub(super) struct State {
    pub no: i64,
    pub household_no: Option<i64>,
    pub new: bool,
    pub changed: bool,
}

/// The states of the records in their order, then of households made for them.
pub(super) struct People {
    pub states: Vec<State>,
    households: HashSet<i64>,
}

impl People {
    /// Those that may have addresses already.
    pub(super) fn known(&self) -> HashSet<i64> {
        let old = self.states.iter().filter(|s| !s.new).map(|s| s.no);
        let new: HashSet<i64> = self.states.iter().filter(|s| s.new).map(|s| s.no).collect();
        old.chain(self.households.iter().copied().filter(|no| !new.contains(no))).collect()
    }
}

/// A row as it stands, without its sealed name.
#[derive(Clone, PartialEq, sqlx::FromRow)]
struct Row {
    no: i64,
    kind: i32,
    status: i32,
    away: i32,
    household_no: Option<i64>,
    region_no: i64,
    hukou_no: Option<i64>,
    born: Option<i32>,
    languages: String,
    needs: String,
    attrs: String,
    name_hash: Option<Vec<u8>>,
    ext_hash: Vec<u8>,
    source: String,
    purpose: String,
}

impl Row {
    fn new(no: i64, kind: RecipientKind, region_no: i64, identity: &[u8]) -> Self {
        Self {
            no,
            kind: kind as i32,
            status: 1,
            away: 0,
            household_no: None,
            region_no,
            hukou_no: None,
            born: None,
            languages: String::new(),
            needs: String::new(),
            attrs: "{}".to_owned(),
            name_hash: None,
            ext_hash: identity.to_vec(),
            source: String::new(),
            purpose: String::new(),
        }
    }

    /// Lays a record over it; blanks leave what was known.
    fn lay(&mut self, record: &RecipientRecord, household_no: Option<i64>, vault: &Vault) {
        let text = |into: &mut String, from: &str| {
            if !from.is_empty() {
                from.clone_into(into);
            }
        };
        self.kind = record.kind as i32;
        self.region_no = record.region_no;
        self.status = record.status.map_or(self.status, |s| s as i32);
        self.away = record.away.map_or(self.away, i32::from);
        self.household_no = household_no.or(self.household_no);
        self.hukou_no = record.hukou_no.or(self.hukou_no);
        self.born = record.born.or(self.born);
        text(&mut self.languages, &record.languages);
        text(&mut self.needs, &record.needs);
        text(&mut self.source, &record.source);
        text(&mut self.purpose, &record.purpose);
        if let Some(name) = &record.name {
            self.name_hash = Some(vault.hash(purpose::NAME, name));
        }
        if !record.attrs.is_empty() {
            let mut attrs: Map<String, Value> = serde_json::from_str(&self.attrs).unwrap_or_default();
            attrs.extend(record.attrs.clone());
            self.attrs = Value::Object(attrs).to_string();
        }
    }

    fn cells<'a>(&'a self, name_sealed: Option<&'a [u8]>) -> [Cell<'a>; 16] {
        [
            self.no.into(),
            self.kind.into(),
            self.status.into(),
            self.away.into(),
            self.household_no.into(),
            self.region_no.into(),
            self.hukou_no.into(),
            self.born.into(),
            self.languages.as_str().into(),
            self.needs.as_str().into(),
            self.attrs.as_str().into(),
            name_sealed.into(),
            self.name_hash.as_deref().into(),
            self.ext_hash.as_slice().into(),
            self.source.as_str().into(),
            self.purpose.as_str().into(),
        ]
    }
}

/// What is written of a row; the statement adds `counted` and `updated_at`.
pub(in crate::store) const COLUMNS: &[Col] = &[
    Col::Int("no"),
    Col::Int("kind"),
    Col::Int("status"),
    Col::Int("away"),
    Col::Int("household_no"),
    Col::Int("region_no"),
    Col::Int("hukou_no"),
    Col::Int("born"),
    Col::Text("languages"),
    Col::Text("needs"),
    Col::Text("attrs"),
    Col::Bytes("name_sealed"),
    Col::Bytes("name_hash"),
    Col::Bytes("ext_hash"),
    Col::Text("source"),
    Col::Text("purpose"),
];

/// Adds or updates the records and makes the households they name.
pub(super) async fn put(tx: &mut Tx, store: &Store, records: &[RecipientRecord]) -> Result<People> {
    tx.queue_up("recipient").await?;
    let mut rows = look_up(tx, records).await?;
    let mut next = number_new(tx, records, &rows).await?;
    let before: HashMap<i64, Row> = rows.values().map(|row| (row.no, row.clone())).collect();
    let mut states = Vec::with_capacity(records.len());
    let mut order: Vec<Vec<u8>> = Vec::with_capacity(records.len());
    for record in records {
        let row = take_row(&mut rows, &record.identity, &mut next, (record.kind, record.region_no));
        states.push(State { no: row.no, household_no: None, new: !before.contains_key(&row.no), changed: false });
        order.push(record.identity.clone());
    }
    for record in records {
        if let Some(household) = &record.household
            && !rows.contains_key(household)
        {
            let row = take_row(&mut rows, household, &mut next, (RecipientKind::Household, record.region_no));
            states.push(State { no: row.no, household_no: None, new: true, changed: false });
            order.push(household.clone());
        }
    }
    let mut names: HashMap<i64, Vec<u8>> = HashMap::new();
    let mut households = HashSet::new();
    for (record, state) in records.iter().zip(&mut states) {
        let household_no = record.household.as_ref().and_then(|h| rows.get(h)).map(|h| h.no);
        // A household's own line may carry its number in both columns.
        state.household_no = household_no.filter(|no| *no != state.no);
        let Some(row) = rows.get_mut(&record.identity) else { continue };
        let old = (row.name_hash.clone(), row.household_no);
        row.lay(record, state.household_no, &store.vault);
        if let Some(name) = record.name.as_ref().filter(|_| row.name_hash != old.0) {
            names.insert(row.no, store.vault.seal(Owner::Recipient(row.no), name.as_bytes()));
        }
        state.changed = before.get(&row.no).is_some_and(|known| known != row);
        households.extend(state.household_no);
        households.extend(old.1);
    }
    write(tx, store.now(), (&states, &order, &rows, &names)).await?;
    count_households(tx, &households).await?;
    Ok(People { states, households })
}

/// The row of an identity, made with the next number where there is none.
fn take_row<'a>(
    rows: &'a mut HashMap<Vec<u8>, Row>,
    identity: &[u8],
    next: &mut i64,
    (kind, region_no): (RecipientKind, i64),
) -> &'a mut Row {
    rows.entry(identity.to_vec()).or_insert_with(|| {
        let no = *next;
        *next += 1;
        Row::new(no, kind, region_no, identity)
    })
}

async fn look_up(tx: &mut Tx, records: &[RecipientRecord]) -> Result<HashMap<Vec<u8>, Row>> {
    let wanted: HashSet<&[u8]> =
        records.iter().flat_map(|r| std::iter::once(&r.identity).chain(&r.household)).map(Vec::as_slice).collect();
    let source = tx.source(&[Col::Bytes("hash")]);
    let sql = format!(
        "SELECT r.no, r.kind, r.status, r.away, r.household_no, r.region_no, r.hukou_no, r.born, r.languages, r.needs, \
         r.attrs, r.name_hash, r.ext_hash, r.source, r.purpose \
         FROM {source} CROSS JOIN recipients r WHERE r.ext_hash = src.hash"
    );
    let found = bulk_read!(tx, Row, sql, Rows::column(wanted))?;
    Ok(found.into_iter().map(|row| (row.ext_hash.clone(), row)).collect())
}

/// Takes a number for every identity that has no row, and returns the first.
async fn number_new(tx: &mut Tx, records: &[RecipientRecord], rows: &HashMap<Vec<u8>, Row>) -> Result<i64> {
    let new: HashSet<&Vec<u8>> = records
        .iter()
        .flat_map(|r| std::iter::once(&r.identity).chain(&r.household))
        .filter(|hash| !rows.contains_key(*hash))
        .collect();
    tx.take_numbers("recipient", i64::try_from(new.len()).unwrap_or(i64::MAX)).await
}

type Rowset<'a> = (&'a [State], &'a [Vec<u8>], &'a HashMap<Vec<u8>, Row>, &'a HashMap<i64, Vec<u8>>);

async fn write(tx: &mut Tx, now: i64, (states, order, rows, names): Rowset<'_>) -> Result<()> {
    let (mut new, mut changed) = (Rows::default(), Rows::default());
    for (state, identity) in states.iter().zip(order) {
        let Some(row) = rows.get(identity) else { continue };
        let cells = row.cells(names.get(&row.no).map(Vec::as_slice));
        if state.new {
            new.push(&cells);
        } else if state.changed {
            changed.push(&cells);
        }
    }
    let source = tx.source(COLUMNS);
    let list = Col::list(COLUMNS);
    tx.bulk(format!("INSERT INTO recipients ({list}, counted, updated_at) SELECT {list}, 1, {now} FROM {source}"), new)
        .await?;
    tx.bulk(
        format!(
            "UPDATE recipients SET kind = src.kind, status = src.status, away = src.away, \
             household_no = src.household_no, region_no = src.region_no, hukou_no = src.hukou_no, born = src.born, \
             languages = src.languages, needs = src.needs, attrs = src.attrs, \
             name_sealed = COALESCE(src.name_sealed, recipients.name_sealed), name_hash = src.name_hash, \
             source = src.source, purpose = src.purpose, updated_at = {now} \
             FROM {source} WHERE recipients.no = src.no"
        ),
        changed,
    )
    .await?;
    Ok(())
}

/// A household counts as a member in its own right until a person of it is known.
async fn count_households(tx: &mut Tx, households: &HashSet<i64>) -> Result<()> {
    let source = tx.source(&[Col::Int("no")]);
    let sql = format!(
        "UPDATE recipients SET counted = CASE WHEN EXISTS \
         (SELECT 1 FROM recipients p WHERE p.household_no = recipients.no) THEN 0 ELSE 1 END \
         WHERE kind = 2 AND merged_into IS NULL AND no IN (SELECT no FROM {source})"
    );
    tx.bulk(sql, Rows::column(households.iter().copied())).await?;
    Ok(())
}
