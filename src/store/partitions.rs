//! The ranges of dispatch numbers that PostgreSQL keeps the ledger in: made ahead of
//! the work, looked over, and taken out when their time is over.

use serde::Serialize;
use serde_json::json;
use sqlx::AssertSqlSafe;

use super::lent::Server;
use super::{Pool, Result, Store, StoreError, Tx};
use crate::say;

/// The tables that are kept in ranges.
pub const LEDGER: [&str; 5] = ["members", "deliveries", "delivery_members", "attempts", "handles"];
/// Numbers a range: few enough that a range is a matter of weeks, so many that
/// thousands of small dispatches do not make thousands of tables.
pub const WIDTH: i64 = 100;
/// Members and deliveries that fill a range before its numbers are used up; a table of
/// that size is still analysed, backed up and detached in minutes.
const FULL: i64 = 100_000_000;
/// Deliveries are changed twice and more, and change on their own page while it has room.
const ROOM: &str = " WITH (fillfactor = 45)";

fn room(table: &str) -> &'static str {
    if table == "deliveries" { ROOM } else { "" }
}

/// The one partition of a table like one of the ledger's, for every number.
pub(super) fn whole_range(table: &str, like: &str) -> String {
    format!("CREATE TABLE {table}_0 PARTITION OF {table} FOR VALUES FROM (MINVALUE) TO (MAXVALUE){}", room(like))
}

/// The ranges there are, by the one table that every dispatch writes to.
const RANGES: &str = "SELECT (bounds[1])::bigint, (bounds[2])::bigint FROM (SELECT regexp_match(pg_get_expr(c.relpartbound, c.oid), \
     'FROM \\(''(\\d+)''\\) TO \\(''(\\d+)''\\)') AS bounds FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
     WHERE i.inhparent = 'deliveries'::regclass) b ORDER BY 1";

/// One range of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Range {
    /// The first dispatch number.
    pub from: i64,
    /// One more than the last.
    pub to: i64,
    pub dispatches: i64,
    /// Dispatches whose data has not been purged.
    pub unpurged: i64,
    pub members: i64,
    pub deliveries: i64,
    /// Of its tables and their indexes.
    pub bytes: i64,
}

impl Tx {
    /// The number of the next dispatch, with its range of the ledger ready: nobody has
    /// to make one while messages go out.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn next_dispatch_no(&mut self) -> Result<i64> {
        // Whoever takes a number holds the counter until the end, so that ranges are
        // made one at a time.
        let no = self.take_numbers("dispatch", 1).await?;
        let Some((from, to)) = self.ready_range(no).await? else { return Ok(no) };
        let sql =
            "SELECT CAST(COALESCE(SUM(members + deliveries), 0) AS BIGINT) FROM dispatches WHERE no >= $1 AND no < $2";
        let held: i64 = run!(self, |c| sqlx::query_scalar(sql).bind(from).bind(to).fetch_one(c).await)?;
        if held < FULL {
            return Ok(no);
        }
        self.take_numbers("dispatch", to - no).await?;
        self.ready_range(to).await?;
        Ok(to)
    }

    /// Sees to it that the range of a dispatch number is there; returns it if it was.
    pub(super) async fn ready_range(&mut self, no: i64) -> Result<Option<(i64, i64)>> {
        let Self::Postgres(t) = self else { return Ok(None) };
        let ranges: Vec<(i64, i64)> = sqlx::query_as(RANGES).fetch_all(&mut **t).await?;
        let known = ranges.into_iter().find(|(from, to)| (*from..*to).contains(&no));
        if known.is_none() {
            self.add_range(no - no % WIDTH).await?;
        }
        Ok(known)
    }

    /// Makes the tables of the range that begins with `from`. Attaching one waits for
    /// nobody who reads or writes; creating it as a partition would, for both.
    async fn add_range(&mut self, from: i64) -> Result<()> {
        for table in LEDGER {
            let room = room(table);
            for sql in [
                format!("CREATE TABLE {table}_{from} (LIKE {table} INCLUDING ALL){room}"),
                // What it counted of earlier numbers says nothing of the next one.
                format!("ALTER TABLE {table}_{from} ALTER dispatch_no SET STATISTICS 0"),
                format!(
                    "ALTER TABLE {table} ATTACH PARTITION {table}_{from} FOR VALUES FROM ({from}) TO ({})",
                    from + WIDTH
                ),
            ] {
                exec!(self, sqlx::query(AssertSqlSafe(sql)))?;
            }
        }
        Ok(())
    }
}

impl Store {
    async fn range_bounds(&self) -> Result<Vec<(i64, i64)>> {
        match &self.pool {
            Pool::Postgres(Server { pool, .. }) => Ok(sqlx::query_as(RANGES).fetch_all(pool).await?),
            Pool::Sqlite { .. } => Ok(Vec::new()),
        }
    }

    /// The ranges of the ledger, oldest first; none on the embedded engine.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn ranges(&self) -> Result<Vec<Range>> {
        let Pool::Postgres(Server { pool, .. }) = &self.pool else { return Ok(Vec::new()) };
        let mut ranges = Vec::new();
        for (from, to) in self.range_bounds().await? {
            let size = LEDGER.map(|t| format!("pg_total_relation_size('{t}_{from}')")).join(" + ");
            let sql = format!(
                "SELECT COUNT(*), CAST(COUNT(*) FILTER (WHERE purged_at IS NULL) AS BIGINT), CAST(COALESCE(SUM(members), 0) AS BIGINT), \
                 CAST(COALESCE(SUM(deliveries), 0) AS BIGINT), CAST({size} AS BIGINT) FROM dispatches WHERE no >= $1 AND no < $2"
            );
            let (dispatches, unpurged, members, deliveries, bytes) =
                sqlx::query_as(AssertSqlSafe(sql)).bind(from).bind(to).fetch_one(pool).await?;
            ranges.push(Range { from, to, dispatches, unpurged, members, deliveries, bytes });
        }
        Ok(ranges)
    }

    /// Takes the range that begins with `from` out of the ledger: its tables stay, as
    /// `detached_…`, and nothing of gong reads them any more. Running work goes on
    /// meanwhile. Cut short, it goes on where it stopped when it is run again.
    /// Returns the tables.
    ///
    /// # Errors
    /// When there is no such range, it is the newest, one of its dispatches has not
    /// been purged (its numbers would be lost), or the database fails.
    pub async fn detach_range(&self, from: i64, operator: &str) -> Result<Vec<String>> {
        let Pool::Postgres(Server { pool, .. }) = &self.pool else {
            return Err(StoreError::Refused(say!(
                "内置数据库没有分区。销毁旧数据请用 gong purge",
                "the embedded database has no ranges. To destroy old data: gong purge"
            )));
        };
        let ranges = self.ranges().await?;
        let newest = ranges.last().map(|r| r.from);
        if let Some(range) = ranges.iter().find(|r| r.from == from) {
            may_detach(range, newest == Some(from))?;
        }
        let mut gone = Vec::new();
        // The one that the range is known by goes last.
        for table in LEDGER.iter().filter(|t| **t != "deliveries").chain(["deliveries"].iter()) {
            let (part, aside) = (format!("{table}_{from}"), format!("detached_{table}_{from}"));
            if let Some(begun) = self.attachment(&part).await? {
                // Not in a transaction: it waits for those who use it and stops nobody.
                let how = if begun { "FINALIZE" } else { "CONCURRENTLY" };
                let sql = format!("ALTER TABLE {table} DETACH PARTITION {part} {how}");
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await?;
            }
            let sql = format!("ALTER TABLE IF EXISTS {part} RENAME TO {aside}");
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await?;
            let there: bool =
                sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL").bind(&aside).fetch_one(pool).await?;
            if there {
                gone.push(aside);
            }
        }
        if gone.is_empty() {
            return Err(StoreError::Refused(say!(
                "没有从 {from} 开始的分区。查看：gong store partitions",
                "no range begins with {from}. See: gong store partitions"
            )));
        }
        self.note_act(operator, "detach", "ledger", &json!({ "from": from, "tables": gone })).await?;
        Ok(gone)
    }

    /// Whether a table belongs to the ledger, and if so, whether detaching it was begun.
    async fn attachment(&self, part: &str) -> Result<Option<bool>> {
        let Pool::Postgres(Server { pool, .. }) = &self.pool else { return Ok(None) };
        let sql = "SELECT inhdetachpending FROM pg_inherits WHERE inhrelid = to_regclass($1)";
        Ok(sqlx::query_scalar(sql).bind(part).fetch_optional(pool).await?)
    }
}

fn may_detach(range: &Range, newest: bool) -> Result<()> {
    let (from, unpurged) = (range.from, range.unpurged);
    if newest {
        return Err(StoreError::Refused(say!(
            "从 {from} 开始的分区最新，新的发布任务要写进去，不能分离",
            "the range from {from} on is the newest: new dispatches go there, and it cannot be detached"
        )));
    }
    if unpurged > 0 {
        return Err(StoreError::Refused(say!(
            "从 {from} 开始的分区里还有 {unpurged} 个发布任务的数据没有销毁，分离后就查不到它们的到达情况。请先逐个执行：gong purge 编号 --yes（到达统计会保留）",
            "{unpurged} dispatches of the range from {from} on have not been purged; detached, nobody could see whom they reached. First, for each: gong purge NO --yes (its reach is kept)"
        )));
    }
    Ok(())
}
