//! Lists: variables for each recipient, sealed.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::bulk::{Cell, Col, Rows};
use super::recipients::{Keep, Written};
use super::{Result, Store, StoreError, Tx};
use crate::vault::Owner;

/// The variables of one recipient.
#[derive(Clone)]
pub struct ListRow {
    pub recipient_no: i64,
    /// In the file it came from.
    pub row_no: i64,
    pub vars: Map<String, Value>,
}

impl Store {
    /// The number of a list and the names of its variables.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list(&self, name: &str) -> Result<Option<(i64, Vec<String>)>> {
        let found: Option<(i64, String)> =
            read!(self, |db| sqlx::query_as("SELECT no, columns FROM lists WHERE name = $1")
                .bind(name)
                .fetch_optional(db)
                .await)?;
        let read = |columns: String| {
            serde_json::from_str(&columns).map_err(|e| StoreError::Damaged(format!("lists.columns: {e}")))
        };
        found.map(|(no, columns)| Ok((no, read(columns)?))).transpose()
    }

    /// The columns of a list, by its number.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_by_no(&self, no: i64) -> Result<Option<(i64, Vec<String>)>> {
        let name: Option<String> = read!(self, |db| sqlx::query_scalar("SELECT name FROM lists WHERE no = $1")
            .bind(no)
            .fetch_optional(db)
            .await)?;
        match name {
            Some(name) => self.list(&name).await,
            None => Ok(None),
        }
    }

    /// Makes a list or gives it new columns, and returns its number.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn put_list(&self, name: &str, columns: &[String]) -> Result<i64> {
        let known = self.list(name).await?;
        let mut tx = self.begin().await?;
        let no = match known {
            Some((no, _)) => no,
            None => tx.take_numbers("list", 1).await?,
        };
        let sql = "INSERT INTO lists (no, name, columns, created_at) VALUES ($1, $2, $3, $4) \
                   ON CONFLICT (no) DO UPDATE SET columns = excluded.columns";
        let columns = Value::from(columns).to_string();
        exec!(&mut tx, sqlx::query(sql).bind(no).bind(name).bind(columns).bind(self.now()))?;
        tx.commit().await?;
        Ok(no)
    }

    /// Writes rows of a list in one transaction; one row a recipient.
    ///
    /// # Errors
    /// When the database fails, or what stands there does not open with this key.
    pub async fn put_list_rows(&self, list_no: i64, all: &[ListRow], keep: Keep) -> Result<Written> {
        let mut tx = self.begin().await?;
        tx.queue_up("list").await?;
        let standing = standing(&mut tx, list_no, all).await?;
        let mut written = Written::default();
        let mut rows = Rows::default();
        for row in all {
            let owner = Owner::ListRow(list_no, row.recipient_no);
            let plain = Value::Object(row.vars.clone()).to_string();
            match standing.get(&row.recipient_no) {
                None => written.added += 1,
                Some((row_no, sealed)) => {
                    if *row_no == row.row_no && self.vault.open_sealed(owner, sealed)? == plain.as_bytes() {
                        written.unchanged += 1;
                        continue;
                    }
                    written.updated += 1;
                }
            }
            let sealed = self.vault.seal(owner, plain.as_bytes());
            rows.push(&[row.recipient_no.into(), row.row_no.into(), Cell::Bytes(&sealed)]);
        }
        let source = tx.source(&[Col::Int("recipient_no"), Col::Int("row_no"), Col::Bytes("vars_sealed")]);
        let sql = format!(
            "INSERT INTO list_rows (list_no, recipient_no, row_no, vars_sealed) \
             SELECT {list_no}, recipient_no, row_no, vars_sealed FROM {source} WHERE TRUE \
             ON CONFLICT (list_no, recipient_no) DO UPDATE SET row_no = excluded.row_no, vars_sealed = excluded.vars_sealed"
        );
        tx.bulk(sql, rows).await?;
        if keep == Keep::Commit {
            tx.commit().await?;
        }
        written.numbers = all.iter().map(|row| row.recipient_no).collect();
        Ok(written)
    }
}

async fn standing(tx: &mut Tx, list_no: i64, all: &[ListRow]) -> Result<HashMap<i64, (i64, Vec<u8>)>> {
    let source = tx.source(&[Col::Int("recipient_no")]);
    let sql = format!(
        "SELECT l.recipient_no, l.row_no, l.vars_sealed FROM {source} CROSS JOIN list_rows l \
         WHERE l.list_no = {list_no} AND l.recipient_no = src.recipient_no"
    );
    let rows = Rows::column(all.iter().map(|row| row.recipient_no));
    let found = bulk_read!(tx, (i64, i64, Vec<u8>), sql, rows)?;
    Ok(found.into_iter().map(|(no, row_no, sealed)| (no, (row_no, sealed))).collect())
}
