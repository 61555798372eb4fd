//! Groups: named sets of recipients, by list or by rule.

use std::collections::HashMap;

use super::bulk::{Col, Rows};
use super::recipients::Keep;
use super::recipients::Written;
use super::{Result, Store};

/// What a source says of a group; what is `None` stays as it was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupRecord {
    pub name: String,
    pub unit_id: Option<String>,
    /// An audience expression instead of a list.
    pub rule: Option<String>,
    pub sensitive: Option<bool>,
    /// Date of the list, as its owner writes it.
    pub list_date: Option<String>,
    /// Epoch milliseconds.
    pub valid_until: Option<i64>,
}

/// A table of recipients under a head row: the members of a group, the rows of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Roster {
    Group(i64),
    List(i64),
}

impl Roster {
    fn parts(self) -> (&'static str, &'static str, i64) {
        match self {
            Self::Group(no) => ("group_members", "group_no", no),
            Self::List(no) => ("list_rows", "list_no", no),
        }
    }
}

impl Store {
    /// The numbers of all groups by name.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn group_numbers(&self) -> Result<HashMap<String, i64>> {
        let all: Vec<(String, i64)> =
            read!(self, |db| sqlx::query_as("SELECT name, no FROM groups").fetch_all(db).await)?;
        Ok(all.into_iter().collect())
    }

    /// Makes a group or brings it up to date, and returns its number.
    ///
    /// # Errors
    /// When the database fails or there is no such unit.
    pub async fn put_group(&self, group: &GroupRecord) -> Result<i64> {
        let mut tx = self.begin().await?;
        tx.queue_up("group").await?;
        let known: Option<i64> = run!(&mut tx, |c| sqlx::query_scalar("SELECT no FROM groups WHERE name = $1")
            .bind(&group.name)
            .fetch_optional(c)
            .await)?;
        let no = match known {
            Some(no) => no,
            None => tx.take_numbers("group", 1).await?,
        };
        let sql = "INSERT INTO groups (no, name, unit_id, rule, sensitive, list_date, valid_until) \
                   VALUES ($1, $2, $3, $4, COALESCE($5, 0), COALESCE($6, ''), $7) \
                   ON CONFLICT (no) DO UPDATE SET unit_id = COALESCE($3, groups.unit_id), \
                   rule = COALESCE($4, groups.rule), sensitive = COALESCE($5, groups.sensitive), \
                   list_date = COALESCE($6, groups.list_date), valid_until = COALESCE($7, groups.valid_until)";
        exec!(
            &mut tx,
            sqlx::query(sql)
                .bind(no)
                .bind(&group.name)
                .bind(&group.unit_id)
                .bind(&group.rule)
                .bind(group.sensitive.map(i32::from))
                .bind(&group.list_date)
                .bind(group.valid_until)
        )?;
        tx.commit().await?;
        Ok(no)
    }

    /// Adds members in one transaction; those that are there already count as unchanged.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn add_members(&self, group_no: i64, members: &[i64], keep: Keep) -> Result<Written> {
        let mut tx = self.begin().await?;
        let source = tx.source(&[Col::Int("recipient_no")]);
        // One's own membership outlives the merge that lent it.
        let sql = format!(
            "INSERT INTO group_members (group_no, recipient_no) SELECT {group_no}, recipient_no FROM {source} \
             WHERE TRUE ON CONFLICT (group_no, recipient_no) DO UPDATE SET merge_no = 0 WHERE group_members.merge_no <> 0"
        );
        let mut distinct = members.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        let added = tx.bulk(sql, Rows::column(distinct)).await?;
        if keep == Keep::Commit {
            tx.commit().await?;
        }
        let unchanged = (members.len() as u64).saturating_sub(added);
        Ok(Written { added, updated: 0, unchanged, numbers: Vec::new() })
    }

    /// Recipients of a roster after number `after`, in order; those that a merge
    /// lent to a group are not the list's own and are left out.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn roster_page(&self, roster: Roster, after: i64, limit: i64) -> Result<Vec<i64>> {
        let (table, column, no) = roster.parts();
        let lent = if matches!(roster, Roster::Group(_)) { "AND merge_no = 0" } else { "" };
        let sql = format!(
            "SELECT recipient_no FROM {table} WHERE {column} = $1 AND recipient_no > $2 {lent} \
             ORDER BY recipient_no LIMIT $3"
        );
        Ok(read!(self, |db| sqlx::query_scalar(sqlx::AssertSqlSafe(sql.as_str()))
            .bind(no)
            .bind(after)
            .bind(limit)
            .fetch_all(db)
            .await)?)
    }

    /// Takes recipients out of a roster in one transaction.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn remove_from_roster(&self, roster: Roster, recipients: &[i64]) -> Result<u64> {
        let (table, column, no) = roster.parts();
        let mut tx = self.begin().await?;
        let source = tx.source(&[Col::Int("recipient_no")]);
        let sql = format!(
            "DELETE FROM {table} WHERE {column} = {no} AND recipient_no IN (SELECT recipient_no FROM {source})"
        );
        let gone = tx.bulk(sql, Rows::column(recipients.iter().copied())).await?;
        tx.commit().await?;
        Ok(gone)
    }
}
