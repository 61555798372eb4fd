//! Finds the recipients that lines of a roster speak of, a chunk at a time.

use std::collections::{HashMap, HashSet};

use crate::domain::recipient::{RecipientKind, Via};
use crate::store::bulk::{Col, Rows, postgres_source, sqlite_source};
use crate::store::{Pool, Result, Store};

/// What a line says of a recipient, as keyed hashes. It is looked for by external
/// id; else by household, phone or region together with the name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Who {
    pub ext: Option<Vec<u8>>,
    pub household: Option<Vec<u8>>,
    pub phone: Option<Vec<u8>>,
    pub name: Option<Vec<u8>>,
    pub region_no: Option<i64>,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// One recipient; the kept one where it was merged away.
    One(i64),
    None,
    /// So many fit that the line names none of them.
    Several(usize),
}

/// A recipient that fits one of the facts.
#[derive(Clone, sqlx::FromRow)]
struct Candidate {
    hash: Vec<u8>,
    no: i64,
    kind: i32,
    via: i32,
    name_hash: Option<Vec<u8>>,
}

#[derive(Default)]
struct Facts {
    ext: HashMap<Vec<u8>, Vec<Candidate>>,
    household: HashMap<Vec<u8>, Vec<Candidate>>,
    phone: HashMap<Vec<u8>, Vec<Candidate>>,
    region: HashMap<(i64, Vec<u8>), Vec<i64>>,
}

/// Follows a merge to the one kept, and once more where that was merged later.
const KEPT: &str = "COALESCE(k.merged_into, r.merged_into, r.no) AS no";

impl Store {
    /// Finds a recipient for each of `all`, with at most four statements.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn find_recipients(&self, all: &[Who]) -> Result<Vec<Found>> {
        let facts = Facts {
            ext: self.by_ext(all).await?,
            household: self.by_household(all).await?,
            phone: self.by_phone(all).await?,
            region: self.by_region(all).await?,
        };
        Ok(all.iter().map(|who| facts.decide(who)).collect())
    }

    fn source(&self, cols: &[Col]) -> String {
        match &self.pool {
            Pool::Sqlite { .. } => sqlite_source(cols),
            Pool::Postgres(..) => postgres_source(cols),
        }
    }

    async fn by_ext(&self, all: &[Who]) -> Result<HashMap<Vec<u8>, Vec<Candidate>>> {
        let source = self.source(&[Col::Bytes("hash")]);
        let sql = format!(
            "SELECT r.ext_hash AS hash, {KEPT}, r.kind, 1 AS via, r.name_hash FROM {source} CROSS JOIN recipients r \
             LEFT JOIN recipients k ON k.no = r.merged_into WHERE r.ext_hash = src.hash"
        );
        // A household number without a name is the household itself.
        self.candidates(sql, all.iter().flat_map(|w| [w.ext.as_deref(), w.household.as_deref()])).await
    }

    async fn by_household(&self, all: &[Who]) -> Result<HashMap<Vec<u8>, Vec<Candidate>>> {
        let source = self.source(&[Col::Bytes("hash")]);
        let sql = format!(
            "SELECT h.ext_hash AS hash, {KEPT}, r.kind, 1 AS via, r.name_hash FROM {source} CROSS JOIN recipients h \
             CROSS JOIN recipients r LEFT JOIN recipients k ON k.no = r.merged_into \
             WHERE h.ext_hash = src.hash AND r.household_no = h.no"
        );
        self.candidates(sql, all.iter().filter(|w| w.name.is_some()).map(|w| w.household.as_deref())).await
    }

    async fn by_phone(&self, all: &[Who]) -> Result<HashMap<Vec<u8>, Vec<Candidate>>> {
        let source = self.source(&[Col::Bytes("hash")]);
        let sql = format!(
            "SELECT a.hash, {KEPT}, r.kind, ra.via, r.name_hash FROM {source} CROSS JOIN addresses a \
             CROSS JOIN recipient_addresses ra CROSS JOIN recipients r LEFT JOIN recipients k ON k.no = r.merged_into \
             WHERE a.kind = 1 AND a.hash = src.hash AND ra.address_id = a.id AND ra.merge_no = 0 \
             AND r.no = ra.recipient_no"
        );
        self.candidates(sql, all.iter().map(|w| w.phone.as_deref())).await
    }

    async fn candidates(
        &self,
        sql: String,
        hashes: impl Iterator<Item = Option<&[u8]>>,
    ) -> Result<HashMap<Vec<u8>, Vec<Candidate>>> {
        let rows = Rows::column(hashes.flatten().collect::<HashSet<_>>());
        let mut out: HashMap<Vec<u8>, Vec<Candidate>> = HashMap::new();
        if rows.is_empty() {
            return Ok(out);
        }
        let json = rows.into_json();
        let found: Vec<Candidate> =
            read!(self, |db| sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(json).fetch_all(db).await)?;
        for candidate in found {
            out.entry(candidate.hash.clone()).or_default().push(candidate);
        }
        Ok(out)
    }

    /// Names within regions. There is no index on names: the chunk's regions are
    /// few, since rosters come village by village, and each is read once.
    async fn by_region(&self, all: &[Who]) -> Result<HashMap<(i64, Vec<u8>), Vec<i64>>> {
        let mut rows = Rows::default();
        let pairs: HashSet<(i64, &[u8])> =
            all.iter().filter_map(|w| Some((w.region_no?, w.name.as_deref()?))).collect();
        for (region, name) in &pairs {
            rows.push(&[(*region).into(), (*name).into()]);
        }
        let mut out: HashMap<(i64, Vec<u8>), Vec<i64>> = HashMap::new();
        if rows.is_empty() {
            return Ok(out);
        }
        let source = self.source(&[Col::Int("region_no"), Col::Bytes("hash")]);
        let sql = format!(
            "WITH wanted AS (SELECT * FROM {source}) \
             SELECT r.region_no, r.name_hash, {KEPT} FROM recipients r LEFT JOIN recipients k ON k.no = r.merged_into \
             WHERE r.region_no IN (SELECT region_no FROM wanted) AND r.name_hash IN (SELECT hash FROM wanted)"
        );
        let json = rows.into_json();
        let found: Vec<(i64, Vec<u8>, i64)> =
            read!(self, |db| sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(json).fetch_all(db).await)?;
        for (region, name, no) in found {
            out.entry((region, name)).or_default().push(no);
        }
        Ok(out)
    }
}

impl Facts {
    /// The first fact that points to anyone decides.
    fn decide(&self, who: &Who) -> Found {
        let of = |map: &HashMap<Vec<u8>, Vec<Candidate>>, hash: &Option<Vec<u8>>| {
            hash.as_ref().and_then(|h| map.get(h)).cloned().unwrap_or_default()
        };
        let named = |mut all: Vec<Candidate>| {
            all.retain(|c| c.name_hash == who.name);
            one(all.iter().map(|c| c.no))
        };
        let mut answers = vec![one(of(&self.ext, &who.ext).iter().map(|c| c.no))];
        if let Some(name) = &who.name {
            answers.push(named(of(&self.household, &who.household)));
            answers.push(named(of(&self.phone, &who.phone)));
            let region = who.region_no.and_then(|no| self.region.get(&(no, name.clone())));
            // A phone that is someone else's, or a household without that name, is a
            // contradiction, and the name alone shall not overrule it.
            if who.phone.is_none() && who.household.is_none() {
                answers.push(one(region.into_iter().flatten().copied()));
            }
        } else {
            answers.push(one(of(&self.ext, &who.household).iter().map(|c| c.no)));
            answers.push(owner(&of(&self.phone, &who.phone)));
        }
        answers.into_iter().find(|found| *found != Found::None).unwrap_or(Found::None)
    }
}

/// Whose phone it is: the one person's own, before those who share it.
fn owner(all: &[Candidate]) -> Found {
    let own = |c: &&Candidate| c.via == Via::Own as i32 && c.kind != RecipientKind::Household as i32;
    match one(all.iter().filter(own).map(|c| c.no)) {
        Found::None => one(all.iter().map(|c| c.no)),
        found => found,
    }
}

fn one(numbers: impl Iterator<Item = i64>) -> Found {
    let distinct: HashSet<i64> = numbers.collect();
    match distinct.len() {
        0 => Found::None,
        1 => distinct.into_iter().next().map_or(Found::None, Found::One),
        n => Found::Several(n),
    }
}
