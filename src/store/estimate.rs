//! What a dispatch would write, counted without writing it: the same choice of
//! targets as the snapshot makes, over the recipients themselves.

use serde::Serialize;

use super::{Result, Store};
use crate::channel::{AddressKind, Target};

/// How a channel would meet an audience.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct ChannelEstimate {
    /// Members with a target.
    pub addressable: i64,
    /// Of those, through the household's address only.
    pub via_household: i64,
    /// Different targets: the deliveries (one a member where texts are personal).
    pub targets: i64,
    /// Deliveries not sent because their target opted out.
    pub suppressed: i64,
}

impl ChannelEstimate {
    /// One delivery a target, whoever stands behind it.
    #[must_use]
    pub const fn of_targets(n: i64) -> Self {
        Self { addressable: n, via_household: 0, targets: n, suppressed: 0 }
    }
}

/// Someone the channels of the first step have no address for.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Unaddressed {
    pub no: i64,
    pub name_sealed: Option<Vec<u8>>,
    pub region: String,
    /// An address there was, and a gateway said it does not exist.
    pub gone: i64,
}

pub(super) fn members(predicate: &str) -> String {
    format!(
        "SELECT r.no, r.household_no, r.region_no, r.name_sealed FROM recipients r WHERE r.counted = 1 AND r.status = 1 AND ({predicate})"
    )
}

fn first_address(owner: &str, kind: i32) -> String {
    format!(
        "(SELECT ra.address_id FROM recipient_addresses ra WHERE ra.recipient_no = {owner} AND ra.kind = {kind} \
         AND NOT EXISTS (SELECT 1 FROM addresses g WHERE g.id = ra.address_id AND g.gone = 1) ORDER BY ra.priority LIMIT 1)"
    )
}

fn opted_out(address: &str, item: &str) -> String {
    format!(
        "EXISTS (SELECT 1 FROM addresses a JOIN opt_outs o ON o.kind = a.kind AND o.hash = a.hash \
         WHERE a.id = {address} AND o.item_kind IN ('*', '{item}'))"
    )
}

impl Store {
    /// Counts what one channel of the first step would do.
    pub async fn estimate_channel(
        &self,
        predicate: &str,
        kind: Target,
        personal: bool,
        opt_out_kind: Option<&str>,
    ) -> Result<ChannelEstimate> {
        let (own, household) = match kind {
            Target::Address(kind) => (first_address("m.no", kind as i32), first_address("m.household_no", kind as i32)),
            Target::Visit => ("COALESCE(m.household_no, m.no)".to_owned(), "CAST(NULL AS BIGINT)".to_owned()),
            // One post for all, which reaches nobody in particular.
            Target::Account => ("0".to_owned(), "CAST(NULL AS BIGINT)".to_owned()),
            Target::Point => return self.estimate_points(predicate).await,
        };
        let opted_out = match (kind, opt_out_kind) {
            (Target::Address(_), Some(item)) => opted_out("COALESCE(t.own, t.household)", item),
            _ => "1 = 0".to_owned(),
        };
        let key = if personal { "COALESCE(own, household) * 0 + no" } else { "COALESCE(own, household)" };
        let sql = format!(
            "WITH m AS ({members}), t AS (SELECT m.no, {own} AS own, {household} AS household FROM m), \
             f AS (SELECT t.no, t.own, t.household, CASE WHEN {opted_out} THEN 1 ELSE 0 END AS out_ FROM t) \
             SELECT CAST(COUNT(COALESCE(own, household)) AS BIGINT) AS addressable, \
             CAST(COALESCE(SUM(CASE WHEN own IS NULL AND household IS NOT NULL THEN 1 ELSE 0 END), 0) AS BIGINT) AS via_household, \
             CAST(COUNT(DISTINCT {key}) AS BIGINT) AS targets, \
             CAST(COUNT(DISTINCT CASE WHEN out_ = 1 THEN {key} END) AS BIGINT) AS suppressed FROM f",
            members = members(predicate),
        );
        Ok(read!(self, |db| sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_one(db).await)?)
    }

    /// How many of the audience none of the given kinds of address reaches, and the
    /// first `limit` of them.
    pub async fn unaddressed(&self, predicate: &str, kinds: &[i32], limit: i64) -> Result<(i64, Vec<Unaddressed>)> {
        let kinds: Vec<String> = kinds.iter().map(ToString::to_string).collect();
        let kinds = if kinds.is_empty() { "0".to_owned() } else { kinds.join(",") };
        let usable = "NOT EXISTS (SELECT 1 FROM addresses g WHERE g.id = ra.address_id AND g.gone = 1)";
        let none = format!(
            "FROM ({}) m JOIN regions g ON g.no = m.region_no WHERE NOT EXISTS (SELECT 1 FROM recipient_addresses ra \
             WHERE ra.recipient_no = m.no AND ra.kind IN ({kinds}) AND {usable}) \
             AND NOT EXISTS (SELECT 1 FROM recipient_addresses ra WHERE ra.recipient_no = m.household_no AND ra.kind IN ({kinds}) AND {usable})",
            members(predicate)
        );
        let count: i64 = read!(self, |db| sqlx::query_scalar(sqlx::AssertSqlSafe(format!("SELECT COUNT(*) {none}")))
            .fetch_one(db)
            .await)?;
        let sql = format!(
            "SELECT m.no, m.name_sealed, g.name AS region, \
             (SELECT COUNT(*) FROM recipient_addresses ra WHERE ra.recipient_no = m.no AND ra.kind IN ({kinds})) AS gone \
             {none} ORDER BY m.region_no, m.no LIMIT $1"
        );
        let rows = read!(self, |db| sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(limit).fetch_all(db).await)?;
        Ok((count, rows))
    }

    /// Villages (or, outside any village, the regions themselves) where members live
    /// and no point hangs.
    pub async fn villages_without_point(&self, predicate: &str) -> Result<Vec<String>> {
        let sql = format!(
            "WITH homes AS (SELECT DISTINCT m.region_no FROM ({}) m), \
             villages AS (SELECT DISTINCT COALESCE((SELECT v.no FROM region_closure c JOIN regions v ON v.no = c.ancestor \
               WHERE c.descendant = h.region_no AND v.level = 'village' LIMIT 1), h.region_no) AS no FROM homes h) \
             SELECT g.name FROM villages v JOIN regions g ON g.no = v.no WHERE NOT EXISTS (SELECT 1 FROM points p \
             JOIN region_closure c ON c.descendant = p.region_no WHERE c.ancestor = v.no) ORDER BY g.code, g.name",
            members(predicate)
        );
        Ok(read!(self, |db| sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(db).await)?)
    }

    /// Sealed variables of list rows whose recipient is in the audience and will be
    /// sent to, by recipient, after one of them.
    pub async fn audience_vars(
        &self,
        predicate: &str,
        list: i64,
        (kind, opt_out_kind): (AddressKind, Option<&str>),
        (after, limit): (i64, i64),
    ) -> Result<Vec<(i64, Vec<u8>)>> {
        let target = format!(
            "COALESCE({}, {})",
            first_address("r.no", kind as i32),
            first_address("r.household_no", kind as i32)
        );
        let wanted = opt_out_kind.map_or(String::new(), |item| format!(" AND NOT {}", opted_out(&target, item)));
        let sql = format!(
            "SELECT l.recipient_no, l.vars_sealed FROM list_rows l JOIN recipients r ON r.no = l.recipient_no \
             WHERE l.list_no = $1 AND l.recipient_no > $2 AND r.counted = 1 AND r.status = 1 AND ({predicate}) \
             AND {target} IS NOT NULL{wanted} ORDER BY l.recipient_no LIMIT $3"
        );
        Ok(read!(self, |db| sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(list)
            .bind(after)
            .bind(limit)
            .fetch_all(db)
            .await)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::made_up::MadeUp;
    use crate::store::testing::stores;

    /// Variables are read of those alone who will be sent to.
    #[tokio::test]
    async fn rows_of_a_list_are_those_with_a_target() {
        for test in stores().await {
            let store = &test.store;
            store.make_up_people(MadeUp { persons: 40, villages: 2, seed: 1 }).await.unwrap();
            let list = store.put_list("补贴", &["金额".to_owned()]).await.unwrap();
            let everybody = store.audience_page("TRUE", 0, 1_000).await.unwrap();
            let row = |(row_no, no): (i64, &i64)| crate::store::lists::ListRow {
                recipient_no: *no,
                row_no,
                vars: serde_json::Map::new(),
            };
            let rows: Vec<_> = (1..).zip(&everybody).map(row).collect();
            store.put_list_rows(list, &rows, crate::store::recipients::Keep::Commit).await.unwrap();
            let kind = AddressKind::Phone;
            for opt_out in [None, Some("notice")] {
                let estimate = store.estimate_channel("TRUE", Target::Address(kind), true, opt_out).await.unwrap();
                let read = store.audience_vars("TRUE", list, (kind, opt_out), (0, 1_000)).await.unwrap();
                assert_eq!(
                    read.len(),
                    usize::try_from(estimate.targets - estimate.suppressed).unwrap(),
                    "{}",
                    test.engine
                );
                assert!(!read.is_empty() && read.len() <= everybody.len());
            }
        }
    }
}
