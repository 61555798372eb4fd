//! Destroys what is known of people once an event is over (突发事件应对法, article 85):
//! chunk by chunk, with the totals kept. Running it again finishes what was cut short.

mod replies;

use serde::Serialize;
use serde_json::json;
use sqlx::AssertSqlSafe;

use super::bulk::{Col, Rows};
use super::dispatches::Dispatch;
use super::lent::Server;
use super::{Pool, Result, Store, StoreError, Tx};
use crate::domain::reach::ReachReport;
use crate::say;

/// Pages of a server's table a transaction: some ten thousand ids.
const PAGES: i64 = 500;
const HANDLE_PAGES: &str = "SELECT COALESCE(MAX(pg_relation_size(inhrelid)) / current_setting('block_size')::bigint, 0) + 1 \
     FROM pg_inherits WHERE inhparent = 'handles'::regclass";
pub(super) const DROP_HANDLES: &str =
    "DELETE FROM handles WHERE dispatch_no = $1 AND ctid >= $2::tid AND ctid < $3::tid";
/// Rows a transaction.
const CHUNK: i64 = 5_000;
/// Recipients a transaction; each has rows in several tables.
const PEOPLE: i64 = 2_000;

/// What a purge destroyed, or would.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Purged {
    pub members: u64,
    pub receipts: u64,
    pub replies: u64,
    pub list_rows: u64,
    pub recipients: u64,
    pub addresses: u64,
}

impl Store {
    /// What a purge of this dispatch would destroy.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn purgeable(&self, dispatch: &Dispatch) -> Result<Purged> {
        let count = async |sql: &'static str, no: i64| -> Result<u64> {
            let n: i64 = read!(self, |db| sqlx::query_scalar(sql).bind(no).fetch_one(db).await)?;
            Ok(u64::try_from(n).unwrap_or(0))
        };
        let list_rows = match self.list_to_purge(dispatch).await? {
            Some(list) => count("SELECT COUNT(*) FROM list_rows WHERE list_no = $1", list).await?,
            None => 0,
        };
        Ok(Purged {
            members: count("SELECT COUNT(*) FROM members WHERE dispatch_no = $1", dispatch.no).await?,
            receipts: count("SELECT COUNT(*) FROM receipts WHERE dispatch_no = $1", dispatch.no).await?,
            replies: self.replies_to(dispatch).await?.len() as u64,
            list_rows,
            ..Purged::default()
        })
    }

    /// Destroys the members of a finished dispatch with their variables, where its
    /// deliveries went, its receipts and gateway ids, what was replied to it, and the
    /// list it took variables from. `report` is kept in their place; deliveries and attempts stay as counts.
    ///
    /// # Errors
    /// When the dispatch has not finished, or the database fails.
    pub async fn purge_dispatch(&self, dispatch: &Dispatch, report: &ReachReport, operator: &str) -> Result<Purged> {
        let no = dispatch.no;
        if dispatch.finished_at.is_none() {
            return Err(StoreError::Refused(say!(
                "发布任务 {no} 还没有结束，不能销毁数据。查看：gong status {no}",
                "dispatch {no} has not finished; its data cannot be destroyed. See: gong status {no}"
            )));
        }
        let list = self.list_to_purge(dispatch).await?;
        // From here on the report stands for the rows, so a purge cut short shows no
        // wrong numbers.
        if dispatch.purged_at.is_none() {
            self.keep_report(dispatch, report, operator).await?;
        }
        // While it is still known where it went.
        let answers = self.replies_to(dispatch).await?;
        let replies = self.drop_replies(&answers).await?;
        self.by_ranges("delivery_members", ("DELETE FROM delivery_members", "member"), no).await?;
        let members = self.by_ranges("members", ("DELETE FROM members", "ordinal"), no).await?;
        self.drop_handles(no).await?;
        for (table, change) in [
            ("visits", "DELETE FROM visits"),
            ("postings", "UPDATE postings SET by_sealed = NULL"),
            // A number of its own for each, for targets are unique. A point is nobody's.
            (
                "deliveries",
                "UPDATE deliveries SET target = CASE WHEN state IN (20, 21, 22) THEN target ELSE -ordinal END, variant = 0",
            ),
        ] {
            self.by_ranges(table, (change, "ordinal"), no).await?;
        }
        let receipts = self
            .drain("DELETE FROM receipts WHERE no IN (SELECT no FROM receipts WHERE dispatch_no = $1 LIMIT $2)", no)
            .await?;
        let list_rows = match list {
            Some(list) => {
                let sql = "DELETE FROM list_rows WHERE list_no = $1 AND recipient_no IN \
                           (SELECT recipient_no FROM list_rows WHERE list_no = $1 LIMIT $2)";
                self.drain(sql, list).await?
            }
            None => 0,
        };
        Ok(Purged { members, receipts, replies, list_rows, ..Purged::default() })
    }

    /// The list of a dispatch, unless another dispatch still needs it.
    async fn list_to_purge(&self, dispatch: &Dispatch) -> Result<Option<i64>> {
        let Some(list) = dispatch.list_no else { return Ok(None) };
        let sql = "SELECT COUNT(*) FROM dispatches WHERE list_no = $1 AND no <> $2 AND purged_at IS NULL";
        let others: i64 = read!(self, |db| sqlx::query_scalar(sql).bind(list).bind(dispatch.no).fetch_one(db).await)?;
        Ok((others == 0).then_some(list))
    }

    async fn keep_report(&self, dispatch: &Dispatch, report: &ReachReport, operator: &str) -> Result<()> {
        let kept = serde_json::to_string(report).map_err(|e| StoreError::Damaged(e.to_string()))?;
        let mut tx = self.begin().await?;
        let sql = "UPDATE dispatches SET reach = $2, purged_at = $3 WHERE no = $1 AND purged_at IS NULL";
        exec!(&mut tx, sqlx::query(sql).bind(dispatch.no).bind(kept).bind(self.now()))?;
        let detail = json!({ "dispatch": dispatch.no, "members": dispatch.members });
        tx.append_audit(self.now(), operator, ("purge", &dispatch.id), &detail).await?;
        tx.commit().await
    }

    /// Changes the rows of a dispatch in `table` by ranges of `key`.
    async fn by_ranges(&self, table: &str, (change, key): (&str, &str), no: i64) -> Result<u64> {
        let ends =
            format!("SELECT COALESCE(MIN({key}), 1) - 1, COALESCE(MAX({key}), 0) FROM {table} WHERE dispatch_no = $1");
        let (mut after, last): (i64, i64) =
            read!(self, |db| sqlx::query_as(AssertSqlSafe(ends)).bind(no).fetch_one(db).await)?;
        let sql = format!("{change} WHERE dispatch_no = $1 AND {key} > $2 AND {key} <= $3");
        let mut changed = 0;
        while after < last {
            let mut tx = self.begin().await?;
            changed +=
                exec!(&mut tx, sqlx::query(AssertSqlSafe(sql.as_str())).bind(no).bind(after).bind(after + CHUNK))?;
            tx.commit().await?;
            after += CHUNK;
        }
        Ok(changed)
    }

    /// Deletes what gateways called the messages of a dispatch. A server has no index for
    /// that, which would cost more with each message than reading its range once, page by
    /// page, does in the end.
    pub(super) async fn drop_handles(&self, no: i64) -> Result<()> {
        let Pool::Postgres(Server { pool, .. }) = &self.pool else {
            return self.by_ranges("handles", ("DELETE FROM handles", "ordinal"), no).await.map(drop);
        };
        // The longest range there is: where this one ends before, nothing is read.
        let longest: i64 = sqlx::query_scalar(HANDLE_PAGES).fetch_one(pool).await?;
        let mut first = 0;
        while first < longest {
            let (from, to) = (format!("({first},0)"), format!("({},0)", first + PAGES));
            let mut tx = self.begin().await?;
            exec!(&mut tx, sqlx::query(DROP_HANDLES).bind(no).bind(from).bind(to))?;
            tx.commit().await?;
            first += PAGES;
        }
        Ok(())
    }

    /// Repeats a statement that deletes at most `$2` rows of `$1` until none is left.
    async fn drain(&self, sql: &'static str, of: i64) -> Result<u64> {
        let mut deleted = 0;
        loop {
            let mut tx = self.begin().await?;
            let n = exec!(&mut tx, sqlx::query(sql).bind(of).bind(CHUNK))?;
            tx.commit().await?;
            deleted += n;
            if n == 0 {
                return Ok(deleted);
            }
        }
    }

    /// How many recipients came for this purpose.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn count_purpose(&self, purpose: &str) -> Result<u64> {
        let sql = "SELECT COUNT(*) FROM recipients WHERE purpose = $1";
        let n: i64 = read!(self, |db| sqlx::query_scalar(sql).bind(purpose).fetch_one(db).await)?;
        Ok(u64::try_from(n).unwrap_or(0))
    }

    /// Destroys the recipients that came for a purpose, addresses nobody else has, and
    /// what was replied from these.
    /// A household stays while persons of another purpose live in it.
    ///
    /// # Errors
    /// When a dispatch that is not purged has them as members, or the database fails.
    pub async fn purge_purpose(&self, purpose: &str, operator: &str) -> Result<Purged> {
        let sql = "SELECT p.no FROM dispatches p WHERE p.purged_at IS NULL AND EXISTS (SELECT 1 FROM members m \
                   JOIN recipients r ON r.no = m.recipient_no WHERE m.dispatch_no = p.no AND r.purpose = $1) ORDER BY p.no LIMIT 20";
        let held: Vec<i64> = read!(self, |db| sqlx::query_scalar(sql).bind(purpose).fetch_all(db).await)?;
        if !held.is_empty() {
            let held = held.iter().map(ToString::to_string).collect::<Vec<_>>().join("、");
            return Err(StoreError::Refused(say!(
                "这些发布任务还用到这些对象：{held}。请先逐个销毁：gong purge 编号 --yes",
                "these dispatches still hold such recipients: {held}. Purge them first: gong purge NO --yes"
            )));
        }
        self.note_act(operator, "purge", "recipients", &json!({ "purpose": purpose })).await?;
        let page = format!(
            "SELECT no FROM recipients r WHERE r.purpose = $1 AND r.no > $2 AND NOT (r.kind = 2 AND EXISTS \
             (SELECT 1 FROM recipients o WHERE o.household_no = r.no AND o.purpose <> $1)) ORDER BY r.no LIMIT {PEOPLE}"
        );
        // While it is still known whose number is whose.
        let answers = self.replies_of_purpose(purpose).await?;
        let replies = self.drop_replies(&answers).await?;
        let (mut after, mut done) = (0, Purged { replies, ..Purged::default() });
        loop {
            let people: Vec<i64> = read!(self, |db| sqlx::query_scalar(AssertSqlSafe(page.as_str()))
                .bind(purpose)
                .bind(after)
                .fetch_all(db)
                .await)?;
            let Some(last) = people.last() else { break };
            after = *last;
            let mut tx = self.begin().await?;
            done.addresses += tx.destroy(&people).await?;
            done.recipients += people.len() as u64;
            tx.commit().await?;
        }
        Ok(done)
    }
}

impl Tx {
    /// Deletes these recipients and whatever names them; returns the addresses that
    /// went with them.
    async fn destroy(&mut self, people: &[i64]) -> Result<u64> {
        let source = self.source(&[Col::Int("no")]);
        let rows = || Rows::column(people.iter().copied());
        let addresses = self.addresses_of(people).await?;
        // A duplicate of one that goes counts for itself again.
        let sql = format!(
            "UPDATE recipients SET merged_into = NULL, counted = 1 WHERE merged_into IN (SELECT no FROM {source})"
        );
        self.bulk(sql, rows()).await?;
        for (table, column) in [
            ("recipient_addresses", "recipient_no"),
            ("group_members", "recipient_no"),
            ("area_recipients", "recipient_no"),
            ("list_rows", "recipient_no"),
            ("point_households", "recipient_no"),
            ("merges", "kept_no"),
            ("merges", "merged_no"),
            ("recipients", "no"),
        ] {
            self.bulk(format!("DELETE FROM {table} WHERE {column} IN (SELECT no FROM {source})"), rows()).await?;
        }
        let sql = format!(
            "DELETE FROM addresses WHERE id IN (SELECT no FROM {source}) \
             AND NOT EXISTS (SELECT 1 FROM recipient_addresses ra WHERE ra.address_id = addresses.id) \
             AND NOT EXISTS (SELECT 1 FROM points p WHERE p.phone_id = addresses.id) \
             AND NOT EXISTS (SELECT 1 FROM duty_officers o WHERE o.phone_id = addresses.id)"
        );
        self.bulk(sql, Rows::column(addresses)).await
    }

    async fn addresses_of(&mut self, people: &[i64]) -> Result<Vec<i64>> {
        let list = self.pick(
            "SELECT value FROM json_each($1)",
            "SELECT CAST(j AS BIGINT) FROM json_array_elements_text($1::json) j",
        );
        let sql = format!("SELECT DISTINCT address_id FROM recipient_addresses WHERE recipient_no IN ({list})");
        let people = json!(people).to_string();
        Ok(run!(self, |c| sqlx::query_scalar(AssertSqlSafe(sql)).bind(people).fetch_all(c).await)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::stores;

    #[tokio::test]
    async fn people_of_one_purpose_go_and_shared_addresses_stay() {
        for t in stores().await {
            let mut tx = t.store.begin().await.unwrap();
            // 1: a household with 2 of the same purpose and 3 of another; 4 was merged into 2.
            for (no, kind, household, merged, purpose) in [
                (1, 2, "NULL", "NULL", "flood"),
                (2, 1, "1", "NULL", "flood"),
                (3, 1, "1", "NULL", "other"),
                (4, 1, "NULL", "2", "other"),
            ] {
                let sql = format!(
                    "INSERT INTO recipients (no, kind, counted, region_no, household_no, merged_into, purpose, updated_at) \
                     VALUES ({no}, {kind}, 0, 1, {household}, {merged}, '{purpose}', 0)"
                );
                exec!(&mut tx, sqlx::query(AssertSqlSafe(sql))).unwrap();
            }
            for (recipient, address) in [(2_i64, 10_i64), (2, 11), (3, 11)] {
                let sql =
                    "INSERT INTO addresses (id, kind, hash, sealed) VALUES ($1, 1, $2, $2) ON CONFLICT DO NOTHING";
                exec!(&mut tx, sqlx::query(sql).bind(address).bind(address.to_be_bytes().to_vec())).unwrap();
                let sql = "INSERT INTO recipient_addresses (recipient_no, kind, priority, address_id, via) VALUES ($1, 1, $2, $2, 1)";
                exec!(&mut tx, sqlx::query(sql).bind(recipient).bind(i32::try_from(address).unwrap())).unwrap();
            }
            tx.commit().await.unwrap();
            let done = t.store.purge_purpose("flood", "王芳").await.unwrap();
            assert_eq!((done.recipients, done.addresses), (1, 1), "{}", t.engine);
            let left = t.store.probe_lines("SELECT CAST(no AS TEXT) FROM recipients ORDER BY no".into()).await;
            assert_eq!(left, ["1", "3", "4"], "{}", t.engine);
            let counted = "SELECT COUNT(*) FROM recipients WHERE no = 4 AND counted = 1 AND merged_into IS NULL";
            assert_eq!(t.store.probe_count(counted.into()).await, 1, "{}", t.engine);
            assert_eq!(t.store.probe_count("SELECT id FROM addresses".into()).await, 11, "{}", t.engine);
        }
    }
}
