//! Duplicates: found by rule, joined, and taken apart again.
//!
//! The duplicate stays and points to the one kept, which borrows its groups and
//! addresses under the number of the merge. Undoing takes back what bears it.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::bulk::{Cell, Col, Rows};
use super::{Result, Store, Tx};

/// What makes two recipients of one kind the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MergeRule {
    /// One name and one phone of their own.
    NamePhone,
    /// One name, one birth date and one place of residence.
    NameBornRegion,
}

impl MergeRule {
    /// The word stored and typed.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NamePhone => "name+phone",
            Self::NameBornRegion => "name+born+region",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::NamePhone, Self::NameBornRegion].into_iter().find(|rule| rule.as_str() == text)
    }
}

/// A recipient and the one it is the same as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duplicate {
    pub kept: i64,
    pub merged: i64,
}

/// A merge as it stands in the books.
#[derive(Debug, Clone, serde::Serialize, sqlx::FromRow)]
pub struct Merge {
    pub no: i64,
    pub kept_no: i64,
    pub merged_no: i64,
    pub rule: String,
    pub at: i64,
    pub operator: String,
    pub undone_at: Option<i64>,
}

impl Store {
    /// The newest merges, newest first, those taken back among them.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn merges(&self, limit: i64) -> Result<Vec<Merge>> {
        let sql = "SELECT no, kept_no, merged_no, rule, at, operator, undone_at FROM merges ORDER BY no DESC LIMIT $1";
        Ok(read!(self, |db| sqlx::query_as(sql).bind(limit).fetch_all(db).await)?)
    }

    /// Pairs that the rule calls the same, at most `limit` before they are joined to
    /// clusters. Of a cluster the longest known (lowest) number is kept.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn find_duplicates(&self, rule: MergeRule, limit: i64) -> Result<Vec<Duplicate>> {
        let alike = "a.name_hash = b.name_hash AND a.kind = b.kind AND a.kind <> 2 \
                     AND a.merged_into IS NULL AND b.merged_into IS NULL";
        let sql = match rule {
            MergeRule::NamePhone => format!(
                "SELECT a.no, b.no FROM recipient_addresses x \
                 JOIN recipient_addresses y ON y.address_id = x.address_id AND y.recipient_no > x.recipient_no \
                 JOIN recipients a ON a.no = x.recipient_no JOIN recipients b ON b.no = y.recipient_no \
                 WHERE x.kind = 1 AND x.via = 1 AND y.via = 1 AND x.merge_no = 0 AND y.merge_no = 0 AND {alike} \
                 ORDER BY 1, 2 LIMIT $1"
            ),
            // Grouped, not joined to itself: a region has no index on names.
            MergeRule::NameBornRegion => "SELECT kept, no FROM (SELECT no, MIN(no) OVER \
                 (PARTITION BY region_no, name_hash, born, kind) AS kept FROM recipients \
                 WHERE kind <> 2 AND merged_into IS NULL AND name_hash IS NOT NULL AND born IS NOT NULL) t \
                 WHERE kept <> no ORDER BY 1, 2 LIMIT $1"
                .to_owned(),
        };
        let pairs: Vec<(i64, i64)> =
            read!(self, |db| sqlx::query_as(sqlx::AssertSqlSafe(sql.as_str())).bind(limit).fetch_all(db).await)?;
        Ok(clusters(&pairs))
    }

    /// Joins duplicates in one transaction (some thousands at most) and returns the
    /// number of each merge; pairs of which one is merged already are passed over.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn merge(&self, pairs: &[Duplicate], rule: MergeRule, operator: &str) -> Result<Vec<i64>> {
        let mut tx = self.begin().await?;
        tx.queue_up("merge").await?;
        let open = still_open(&mut tx, pairs).await?;
        let open: Vec<Duplicate> =
            pairs.iter().copied().filter(|p| open.contains(&p.kept) && open.contains(&p.merged)).collect();
        let first = tx.take_numbers("merge", i64::try_from(open.len()).unwrap_or(i64::MAX)).await?;
        let numbers: Vec<i64> = (first..).take(open.len()).collect();
        let mut rows = Rows::default();
        for (no, pair) in numbers.iter().zip(&open) {
            rows.push(&[
                Cell::Int(*no),
                pair.kept.into(),
                pair.merged.into(),
                rule.as_str().into(),
                self.now().into(),
                operator.into(),
            ]);
        }
        let columns = [
            Col::Int("no"),
            Col::Int("kept_no"),
            Col::Int("merged_no"),
            Col::Text("rule"),
            Col::Int("at"),
            Col::Text("operator"),
        ];
        let list = "no, kept_no, merged_no, rule, at, operator";
        let source = tx.source(&columns);
        tx.bulk(format!("INSERT INTO merges ({list}) SELECT {list} FROM {source}"), rows).await?;
        let source = tx.source(&[Col::Int("no")]);
        let sql = format!(
            "UPDATE recipients SET merged_into = m.kept_no, counted = 0 \
             FROM {source} JOIN merges m ON m.no = src.no WHERE recipients.no = m.merged_no"
        );
        tx.bulk(sql, Rows::column(numbers.iter().copied())).await?;
        lend(&mut tx, &numbers).await?;
        tx.commit().await?;
        Ok(numbers)
    }

    /// Takes merges back in one transaction; returns how many were still in force.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn undo_merges(&self, numbers: &[i64]) -> Result<u64> {
        let mut tx = self.begin().await?;
        tx.queue_up("merge").await?;
        let now = self.now();
        let source = tx.source(&[Col::Int("no")]);
        let rows = || Rows::column(numbers.iter().copied());
        let sql =
            format!("UPDATE merges SET undone_at = {now} WHERE undone_at IS NULL AND no IN (SELECT no FROM {source})");
        let undone = tx.bulk(sql, rows()).await?;
        let ours = format!("SELECT m.kept_no FROM {source} CROSS JOIN merges m WHERE m.no = src.no");
        for table in ["group_members", "recipient_addresses"] {
            let sql =
                format!("DELETE FROM {table} WHERE recipient_no IN ({ours}) AND merge_no IN (SELECT no FROM {source})");
            tx.bulk(sql, rows()).await?;
        }
        let sql = format!(
            "UPDATE recipients SET merged_into = NULL, counted = 1 FROM {source} JOIN merges m ON m.no = src.no \
             WHERE recipients.no = m.merged_no AND recipients.merged_into = m.kept_no AND m.undone_at = {now}"
        );
        tx.bulk(sql, rows()).await?;
        // What two duplicates had in common was lent once; the other lends it now.
        let sql = format!("SELECT no FROM merges WHERE undone_at IS NULL AND kept_no IN ({ours})");
        let others: Vec<(i64,)> = bulk_read!(&mut tx, (i64,), sql, rows())?;
        lend(&mut tx, &others.into_iter().map(|row| row.0).collect::<Vec<_>>()).await?;
        tx.commit().await?;
        Ok(undone)
    }
}

/// Those of the pairs that no merge has taken yet.
async fn still_open(tx: &mut Tx, pairs: &[Duplicate]) -> Result<HashSet<i64>> {
    let all: HashSet<i64> = pairs.iter().flat_map(|p| [p.kept, p.merged]).collect();
    let source = tx.source(&[Col::Int("no")]);
    let sql =
        format!("SELECT r.no FROM {source} CROSS JOIN recipients r WHERE r.no = src.no AND r.merged_into IS NULL");
    Ok(bulk_read!(tx, (i64,), sql, Rows::column(all))?.into_iter().map(|row| row.0).collect())
}

/// Lends groups and addresses of the merged to the kept, where those lack them.
async fn lend(tx: &mut Tx, merges: &[i64]) -> Result<()> {
    let source = tx.source(&[Col::Int("no")]);
    let groups = format!(
        "INSERT INTO group_members (group_no, recipient_no, merge_no) \
         SELECT g.group_no, m.kept_no, MIN(m.no) FROM {source} CROSS JOIN merges m CROSS JOIN group_members g \
         WHERE m.no = src.no AND g.recipient_no = m.merged_no GROUP BY g.group_no, m.kept_no ON CONFLICT DO NOTHING"
    );
    tx.bulk(groups, Rows::column(merges.iter().copied())).await?;
    // From 1,000 on: after all addresses of its own.
    let addresses = format!(
        "INSERT INTO recipient_addresses (recipient_no, kind, priority, address_id, via, merge_no) \
         SELECT x.kept_no, x.kind, COALESCE((SELECT MAX(p.priority) FROM recipient_addresses p \
           WHERE p.recipient_no = x.kept_no AND p.kind = x.kind AND p.merge_no <> 0), 999) \
           + row_number() OVER (PARTITION BY x.kept_no, x.kind ORDER BY x.via, x.address_id), \
           x.address_id, x.via, x.merge_no \
         FROM (SELECT m.kept_no, ra.kind, ra.address_id, MIN(ra.via) AS via, MIN(m.no) AS merge_no \
           FROM {source} CROSS JOIN merges m CROSS JOIN recipient_addresses ra \
           WHERE m.no = src.no AND ra.recipient_no = m.merged_no AND NOT EXISTS (SELECT 1 FROM recipient_addresses o \
             WHERE o.recipient_no = m.kept_no AND o.kind = ra.kind AND o.address_id = ra.address_id) \
           GROUP BY m.kept_no, ra.kind, ra.address_id) x"
    );
    tx.bulk(addresses, Rows::column(merges.iter().copied())).await?;
    Ok(())
}

/// Joins pairs that share a recipient; each cluster is kept by its lowest number.
fn clusters(pairs: &[(i64, i64)]) -> Vec<Duplicate> {
    fn root(up: &mut HashMap<i64, i64>, no: i64) -> i64 {
        let mut at = no;
        while let Some(&next) = up.get(&at) {
            at = next;
        }
        if at != no {
            up.insert(no, at);
        }
        at
    }
    let mut up: HashMap<i64, i64> = HashMap::new();
    for (a, b) in pairs {
        let (a, b) = (root(&mut up, *a), root(&mut up, *b));
        if a != b {
            up.insert(a.max(b), a.min(b));
        }
    }
    let members: Vec<i64> = up.keys().copied().collect();
    let kept: BTreeMap<i64, i64> = members.into_iter().map(|no| (no, root(&mut up, no))).collect();
    kept.into_iter().map(|(merged, kept)| Duplicate { kept, merged }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_join_to_one_kept() {
        let found = clusters(&[(2, 5), (5, 9), (1, 9), (20, 21)]);
        let pair = |kept, merged| Duplicate { kept, merged };
        assert_eq!(found, [pair(1, 2), pair(1, 5), pair(1, 9), pair(20, 21)]);
    }
}
