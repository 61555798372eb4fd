//! People, households and organisations: written in bulk, found by what a roster
//! knows of them.
//!
//! A recipient's identity is its external id, as a keyed hash. Where the source has
//! none, the importer makes one of region, name and first phone (or household, or
//! birth date) under another hash purpose, so that the same file changes nothing
//! when it comes again.

mod contacts;
mod find;
pub(super) mod people;

use std::collections::{HashMap, HashSet};

pub(crate) use contacts::put_addresses;
pub use find::{Found, Who};

use self::people::State;
use super::bulk::{Cell, Col, Rows};
use super::{Result, Store, Tx};
use crate::channel::AddressKind;
use crate::domain::recipient::{RecipientKind, Status, Via};

/// One address of a record, in its one form.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Contact {
    pub kind: AddressKind,
    pub value: String,
    pub via: Via,
}

/// One recipient as a source states it; what is `None` or empty stays as it was.
/// It has no `Debug`: it is personal data throughout.
#[derive(Clone)]
pub struct RecipientRecord {
    /// Keyed hash that tells it from every other.
    pub identity: Vec<u8>,
    pub kind: RecipientKind,
    pub status: Option<Status>,
    pub away: Option<bool>,
    /// Identity of its household.
    pub household: Option<Vec<u8>>,
    pub region_no: i64,
    pub hukou_no: Option<i64>,
    /// yyyymmdd.
    pub born: Option<i32>,
    pub name: Option<String>,
    /// `,yao,miao,`
    pub languages: String,
    /// `,hearing,`
    pub needs: String,
    pub attrs: serde_json::Map<String, serde_json::Value>,
    pub source: String,
    pub purpose: String,
    /// Replace what was known by the same kind and via.
    pub contacts: Vec<Contact>,
    /// Names; made when new.
    pub areas: Vec<String>,
    /// Numbers of groups to join.
    pub groups: Vec<i64>,
}

/// What a bulk write did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    pub added: u64,
    pub updated: u64,
    pub unchanged: u64,
    /// The number of each record, in their order.
    pub numbers: Vec<i64>,
}

/// Whether a bulk write is kept or only tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    Commit,
    /// Everything runs and is rolled back.
    RollBack,
}

impl Store {
    /// Writes recipients, their addresses, areas and groups in one transaction.
    /// A few thousand records keep it under 100 ms. For those that `again` names, the
    /// source spoke before: their addresses are added to what it said.
    ///
    /// # Errors
    /// When the database fails; then nothing of it happened.
    pub async fn put_recipients(
        &self,
        records: Vec<RecipientRecord>,
        keep: Keep,
        again: &(dyn Fn(i64) -> bool + Sync),
    ) -> Result<Written> {
        let (records, places) = join_repeats(records);
        let mut tx = self.begin().await?;
        let mut people = people::put(&mut tx, self, &records).await?;
        let wishes = wishes(&records, &people.states, again);
        let known: HashSet<i64> = people.known();
        let touched = contacts::put_links(&mut tx, &self.vault, &wishes, &known).await?;
        for state in &mut people.states {
            state.changed |= touched.contains(&state.no);
        }
        join_areas(&mut tx, &records, &mut people.states).await?;
        join_groups(&mut tx, &records, &mut people.states).await?;
        if keep == Keep::Commit {
            tx.commit().await?;
        }
        let states = &people.states[..records.len()];
        let count = |test: fn(&State) -> bool| states.iter().filter(|s| test(s)).count() as u64;
        Ok(Written {
            added: count(|s| s.new),
            updated: count(|s| !s.new && s.changed),
            unchanged: count(|s| !s.new && !s.changed),
            numbers: places.iter().map(|at| states[*at].no).collect(),
        })
    }

    /// The name of a recipient, opened; for matching by eye and for printing.
    ///
    /// # Errors
    /// When the database fails or the name does not open with this key.
    pub async fn recipient_name(&self, no: i64) -> Result<Option<String>> {
        let sealed: Option<Option<Vec<u8>>> =
            read!(self, |db| sqlx::query_scalar("SELECT name_sealed FROM recipients WHERE no = $1")
                .bind(no)
                .fetch_optional(db)
                .await)?;
        let Some(sealed) = sealed.flatten() else { return Ok(None) };
        Ok(Some(self.vault.open_text(crate::vault::Owner::Recipient(no), &sealed)?))
    }
}

/// Joins records of one identity (a line a phone number is common) and says where
/// each record went.
fn join_repeats(records: Vec<RecipientRecord>) -> (Vec<RecipientRecord>, Vec<usize>) {
    let mut at: HashMap<Vec<u8>, usize> = HashMap::with_capacity(records.len());
    let mut out: Vec<RecipientRecord> = Vec::with_capacity(records.len());
    let mut places = Vec::with_capacity(records.len());
    for record in records {
        if let Some(&first) = at.get(&record.identity) {
            merge_repeat(&mut out[first], record);
            places.push(first);
        } else {
            at.insert(record.identity.clone(), out.len());
            places.push(out.len());
            out.push(record);
        }
    }
    (out, places)
}

fn merge_repeat(into: &mut RecipientRecord, from: RecipientRecord) {
    let text = |into: &mut String, from: String| {
        if !from.is_empty() {
            *into = from;
        }
    };
    into.kind = from.kind;
    into.region_no = from.region_no;
    into.status = from.status.or(into.status);
    into.away = from.away.or(into.away);
    into.hukou_no = from.hukou_no.or(into.hukou_no);
    into.born = from.born.or(into.born);
    into.household = from.household.or(into.household.take());
    into.name = from.name.or(into.name.take());
    text(&mut into.languages, from.languages);
    text(&mut into.needs, from.needs);
    text(&mut into.source, from.source);
    text(&mut into.purpose, from.purpose);
    into.attrs.extend(from.attrs);
    into.contacts.extend(from.contacts);
    into.areas.extend(from.areas);
    into.groups.extend(from.groups);
}

/// The addresses each recipient shall have: its own, and those its household gets
/// from its persons.
fn wishes(records: &[RecipientRecord], states: &[State], again: &dyn Fn(i64) -> bool) -> Vec<contacts::Wish> {
    let mut all = Vec::with_capacity(records.len());
    for (record, state) in records.iter().zip(states) {
        if !record.contacts.is_empty() {
            all.push(contacts::Wish { no: state.no, contacts: record.contacts.clone(), replace: !again(state.no) });
        }
        if let Some(household) = state.household_no {
            let shared: Vec<Contact> = record.contacts.iter().filter(|c| c.via == Via::Household).cloned().collect();
            if !shared.is_empty() {
                all.push(contacts::Wish { no: household, contacts: shared, replace: false });
            }
        }
    }
    all
}

async fn join_areas(tx: &mut Tx, records: &[RecipientRecord], states: &mut [State]) -> Result<()> {
    let names: HashSet<&str> = records.iter().flat_map(|r| r.areas.iter().map(String::as_str)).collect();
    if names.is_empty() {
        return Ok(());
    }
    let numbers = ensure_areas(tx, &names).await?;
    let mut rows = Rows::default();
    for (record, state) in records.iter().zip(&*states) {
        for no in record.areas.iter().filter_map(|name| numbers.get(name)) {
            rows.push(&[Cell::Int(*no), Cell::Int(state.no)]);
        }
    }
    join(tx, ("area_recipients", "area_no"), rows, states).await
}

async fn join_groups(tx: &mut Tx, records: &[RecipientRecord], states: &mut [State]) -> Result<()> {
    let mut rows = Rows::default();
    for (record, state) in records.iter().zip(&*states) {
        for no in &record.groups {
            rows.push(&[Cell::Int(*no), Cell::Int(state.no)]);
        }
    }
    join(tx, ("group_members", "group_no"), rows, states).await
}

/// Adds rows of a number and a recipient to `table`; who was not there yet has changed.
async fn join(tx: &mut Tx, (table, column): (&str, &'static str), rows: Rows, states: &mut [State]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let source = tx.source(&[Col::Int(column), Col::Int("recipient_no")]);
    let sql = format!(
        "INSERT INTO {table} ({column}, recipient_no) SELECT {column}, recipient_no FROM {source} WHERE TRUE \
         ON CONFLICT DO NOTHING RETURNING recipient_no"
    );
    mark_changed(&bulk_read!(tx, (i64,), sql, rows)?, states);
    Ok(())
}

fn mark_changed(touched: &[(i64,)], states: &mut [State]) {
    let touched: HashSet<i64> = touched.iter().map(|row| row.0).collect();
    for state in states {
        state.changed |= touched.contains(&state.no);
    }
}

/// The numbers of areas by name; new names become areas.
pub(super) async fn ensure_areas(tx: &mut Tx, names: &HashSet<&str>) -> Result<HashMap<String, i64>> {
    let source = tx.source(&[Col::Text("name")]);
    let sql = format!("SELECT a.name, a.no FROM {source} CROSS JOIN areas a WHERE a.name = src.name");
    tx.queue_up("area").await?;
    let found = bulk_read!(tx, (String, i64), sql, Rows::column(names.iter().copied()))?;
    let mut numbers: HashMap<String, i64> = found.into_iter().collect();
    let mut new: Vec<&str> = names.iter().copied().filter(|name| !numbers.contains_key(*name)).collect();
    new.sort_unstable();
    let first = tx.take_numbers("area", i64::try_from(new.len()).unwrap_or(i64::MAX)).await?;
    let mut rows = Rows::default();
    for (no, name) in (first..).zip(new) {
        rows.push(&[Cell::Int(no), Cell::Text(name)]);
        numbers.insert(name.to_owned(), no);
    }
    let source = tx.source(&[Col::Int("no"), Col::Text("name")]);
    tx.bulk(format!("INSERT INTO areas (no, name) SELECT no, name FROM {source}"), rows).await?;
    Ok(numbers)
}
