//! The division tree: regions, the pairs above and below, aliases and areas.

use std::collections::{HashMap, HashSet};

use super::bulk::{Cell, Col, Rows};
use super::recipients::ensure_areas;
use super::{Result, Store, Tx};
use crate::domain::region::{Level, RegionIndex, RegionRow};

/// One region to write. Its number was chosen by the caller: a known one, or one
/// from [`Store::reserve_regions`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegionRecord {
    pub row: RegionRow,
    pub new: bool,
    pub areas: Vec<String>,
    pub aliases: Vec<String>,
}

#[derive(sqlx::FromRow)]
struct StoredRegion {
    no: i64,
    code: Option<String>,
    name: String,
    parent_no: Option<i64>,
    level: String,
}

impl Store {
    /// All regions and their aliases, for names to numbers and numbers to paths.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn regions_index(&self) -> Result<RegionIndex> {
        let rows: Vec<StoredRegion> =
            read!(self, |db| sqlx::query_as("SELECT no, code, name, parent_no, level FROM regions ORDER BY no")
                .fetch_all(db)
                .await)?;
        let aliases: Vec<(String, i64)> =
            read!(self, |db| sqlx::query_as("SELECT alias, region_no FROM region_aliases ORDER BY alias, region_no")
                .fetch_all(db)
                .await)?;
        let rows = rows.into_iter().map(|r| RegionRow {
            no: r.no,
            code: r.code,
            name: r.name,
            parent_no: r.parent_no,
            level: Level::parse(&r.level).unwrap_or(Level::Custom),
        });
        Ok(RegionIndex::new(rows.collect(), aliases))
    }

    /// Takes numbers for `n` new regions and returns the first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn reserve_regions(&self, n: usize) -> Result<i64> {
        let mut tx = self.begin().await?;
        let first = tx.take_numbers("region", i64::try_from(n).unwrap_or(i64::MAX)).await?;
        tx.commit().await?;
        Ok(first)
    }

    /// Writes regions, parents before children, in one transaction, and returns how
    /// many known ones it gave a new alias or area.
    ///
    /// # Errors
    /// When the database fails; then nothing of it happened.
    pub async fn put_regions(&self, records: &[RegionRecord], edition: &str) -> Result<HashSet<i64>> {
        let mut tx = self.begin().await?;
        let moved = moved(&mut tx, records).await?;
        write_rows(&mut tx, records, edition).await?;
        let new = records.iter().filter(|r| r.new).map(|r| r.row.no);
        add_closure(&mut tx, new).await?;
        for no in moved {
            move_subtree(&mut tx, no).await?;
        }
        let mut touched = put_aliases(&mut tx, records).await?;
        touched.extend(put_areas(&mut tx, records).await?);
        tx.commit().await?;
        Ok(touched)
    }
}

/// Known regions whose parent changes.
async fn moved(tx: &mut Tx, records: &[RegionRecord]) -> Result<Vec<i64>> {
    let mut rows = Rows::default();
    for record in records.iter().filter(|r| !r.new) {
        rows.push(&[record.row.no.into(), record.row.parent_no.into()]);
    }
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let source = tx.source(&[Col::Int("no"), Col::Int("parent_no")]);
    let sql = format!(
        "SELECT r.no FROM {source} CROSS JOIN regions r \
         WHERE r.no = src.no AND r.parent_no IS DISTINCT FROM src.parent_no"
    );
    Ok(bulk_read!(tx, (i64,), sql, rows)?.into_iter().map(|row| row.0).collect())
}

async fn write_rows(tx: &mut Tx, records: &[RegionRecord], edition: &str) -> Result<()> {
    let (mut new, mut known) = (Rows::default(), Rows::default());
    for RegionRecord { row, new: is_new, .. } in records {
        let rows = if *is_new { &mut new } else { &mut known };
        rows.push(&[
            row.no.into(),
            row.code.as_deref().into(),
            row.name.as_str().into(),
            row.parent_no.into(),
            row.level.as_str().into(),
            edition.into(),
        ]);
    }
    let columns = [
        Col::Int("no"),
        Col::Text("code"),
        Col::Text("name"),
        Col::Int("parent_no"),
        Col::Text("level"),
        Col::Text("edition"),
    ];
    let source = tx.source(&columns);
    let list = "no, code, name, parent_no, level, edition";
    tx.bulk(format!("INSERT INTO regions ({list}) SELECT {list} FROM {source}"), new).await?;
    tx.bulk(
        format!(
            "UPDATE regions SET code = COALESCE(src.code, regions.code), name = src.name, parent_no = src.parent_no, \
             level = src.level, edition = CASE WHEN src.edition = '' THEN regions.edition ELSE src.edition END \
             FROM {source} WHERE regions.no = src.no"
        ),
        known,
    )
    .await?;
    Ok(())
}

/// Pairs every new region with itself and with all above it.
async fn add_closure(tx: &mut Tx, regions: impl Iterator<Item = i64>) -> Result<()> {
    let source = tx.source(&[Col::Int("no")]);
    let sql = format!(
        "INSERT INTO region_closure (ancestor, descendant) \
         WITH RECURSIVE up (ancestor, descendant) AS (\
           SELECT no, no FROM {source} \
           UNION SELECT r.parent_no, up.descendant FROM up JOIN regions r ON r.no = up.ancestor \
           WHERE r.parent_no IS NOT NULL) \
         SELECT ancestor, descendant FROM up WHERE TRUE ON CONFLICT DO NOTHING"
    );
    tx.bulk(sql, Rows::column(regions)).await?;
    Ok(())
}

/// Takes a subtree out from under its old ancestors and pairs it with the new ones.
async fn move_subtree(tx: &mut Tx, no: i64) -> Result<()> {
    let below = "(SELECT descendant FROM region_closure WHERE ancestor = $1)";
    let cut = format!("DELETE FROM region_closure WHERE descendant IN {below} AND ancestor NOT IN {below}");
    exec!(tx, sqlx::query(sqlx::AssertSqlSafe(cut)).bind(no))?;
    let joined = "INSERT INTO region_closure (ancestor, descendant) \
                  SELECT up.ancestor, down.descendant FROM regions r \
                  JOIN region_closure up ON up.descendant = r.parent_no \
                  JOIN region_closure down ON down.ancestor = r.no \
                  WHERE r.no = $1 ON CONFLICT DO NOTHING";
    exec!(tx, sqlx::query(joined).bind(no))?;
    Ok(())
}

async fn put_aliases(tx: &mut Tx, records: &[RegionRecord]) -> Result<HashSet<i64>> {
    let mut rows = Rows::default();
    for record in records {
        for alias in &record.aliases {
            rows.push(&[alias.as_str().into(), record.row.no.into()]);
        }
    }
    let source = tx.source(&[Col::Text("alias"), Col::Int("region_no")]);
    let sql = format!(
        "INSERT INTO region_aliases (alias, region_no) SELECT alias, region_no FROM {source} WHERE TRUE \
         ON CONFLICT DO NOTHING RETURNING region_no"
    );
    Ok(bulk_read!(tx, (i64,), sql, rows)?.into_iter().map(|row| row.0).collect())
}

async fn put_areas(tx: &mut Tx, records: &[RegionRecord]) -> Result<HashSet<i64>> {
    let names: HashSet<&str> = records.iter().flat_map(|r| r.areas.iter().map(String::as_str)).collect();
    if names.is_empty() {
        return Ok(HashSet::new());
    }
    let numbers: HashMap<String, i64> = ensure_areas(tx, &names).await?;
    let mut rows = Rows::default();
    for record in records {
        for area in record.areas.iter().filter_map(|name| numbers.get(name)) {
            rows.push(&[Cell::Int(*area), record.row.no.into()]);
        }
    }
    let source = tx.source(&[Col::Int("area_no"), Col::Int("region_no")]);
    let sql = format!(
        "INSERT INTO area_regions (area_no, region_no) SELECT area_no, region_no FROM {source} WHERE TRUE \
         ON CONFLICT DO NOTHING RETURNING region_no"
    );
    Ok(bulk_read!(tx, (i64,), sql, rows)?.into_iter().map(|row| row.0).collect())
}
