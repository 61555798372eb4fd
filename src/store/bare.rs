//! The bare statements that the pipeline comes down to, for benches to compare it
//! with: the same rows into tables of the same definition and indexes, in
//! transactions of the same size, and nothing else.

use super::bulk::Col;
use super::receipts::claims::RAISE;
use super::receipts::rows::{KeptReceipt, ReceiptRows};
use super::recipients::people;
use super::{Result, Store, Tx, partitions};
use crate::clock::Millis;

/// How far a dispatch had come after one chunk of its snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    pub members: i64,
    pub deliveries: i64,
    /// The batch number given out last.
    pub batch: i64,
}

/// A table that an import fills.
struct Filled {
    table: &'static str,
    /// What its rows are cut into chunks by.
    key: &'static str,
    cols: &'static [Col],
    /// Those that the import's own statement works out.
    more: &'static [Col],
}

impl Filled {
    fn columns(&self) -> Vec<Col> {
        [self.cols, self.more].concat()
    }
}

/// The state of a batch that a bench keeps back; no part of the engine knows it.
const HELD: i32 = -1;
/// The tables that a snapshot fills.
const SNAPSHOT: [&str; 4] = ["members", "deliveries", "delivery_members", "batches"];
/// The tables that a dispatch fills, from its snapshot to its receipts.
const LEDGER: [&str; 7] = ["members", "deliveries", "delivery_members", "batches", "attempts", "handles", "receipts"];
const IMPORT: [Filled; 4] = [
    Filled {
        table: "recipients",
        key: "no",
        cols: people::COLUMNS,
        more: &[Col::Int("counted"), Col::Int("updated_at")],
    },
    Filled {
        table: "addresses",
        key: "id",
        cols: &[Col::Int("id"), Col::Int("kind"), Col::Bytes("hash"), Col::Bytes("sealed")],
        more: &[],
    },
    Filled {
        table: "recipient_addresses",
        key: "recipient_no",
        cols: &[
            Col::Int("recipient_no"),
            Col::Int("kind"),
            Col::Int("priority"),
            Col::Int("address_id"),
            Col::Int("via"),
        ],
        more: &[],
    },
    Filled {
        table: "group_members",
        key: "recipient_no",
        cols: &[Col::Int("group_no"), Col::Int("recipient_no")],
        more: &[],
    },
];

/// The rows of one chunk of an import, as the parameters of its statements.
pub struct ImportChunk([String; 4]);

/// One callback's receipts, and what they do to the deliveries of a dispatch.
pub struct BareCallback {
    dispatch_no: i64,
    state: i32,
    ordinals: Vec<i64>,
    changes: String,
    receipts: ReceiptRows,
}

impl Store {
    /// How far a dispatch has come.
    pub async fn mark_of(&self, dispatch_no: i64) -> Result<Mark> {
        let sql = "SELECT d.members, d.deliveries, c.value FROM dispatches d JOIN counters c ON c.name = 'batch' WHERE d.no = $1";
        let (members, deliveries, batch) = read!(self, |db| sqlx::query_as(sql).bind(dispatch_no).fetch_one(db).await)?;
        Ok(Mark { members, deliveries, batch })
    }

    /// Makes empty tables for [`Store::bare_snapshot`], in place of those of last time.
    pub async fn open_bare_snapshot(&self) -> Result<()> {
        self.open_bare(&SNAPSHOT).await
    }

    /// Makes empty tables for [`Store::bare_import`], in place of those of last time.
    pub async fn open_bare_import(&self) -> Result<()> {
        self.open_bare(&IMPORT.map(|f| f.table)).await
    }

    /// Writes what a chunk of the snapshot wrote, from the tables where it stands.
    pub async fn bare_snapshot(&self, dispatch_no: i64, from: Mark, to: Mark) -> Result<()> {
        let spans = [
            ("ordinal", from.members, to.members),
            ("ordinal", from.deliveries, to.deliveries),
            ("member", from.members, to.members),
            ("no", from.batch, to.batch),
        ];
        let mut tx = self.begin_hot().await?;
        for (table, (key, after, last)) in SNAPSHOT.iter().zip(spans) {
            let sql = format!(
                "INSERT INTO bare_{table} SELECT * FROM {table} WHERE dispatch_no = $1 AND {key} > $2 AND {key} <= $3"
            );
            exec!(&mut tx, sqlx::query(sqlx::AssertSqlSafe(sql)).bind(dispatch_no).bind(after).bind(last))?;
        }
        tx.commit().await
    }

    /// Reads a part of what an import wrote, the `at`-th of `of`.
    pub async fn bare_import_chunk(&self, at: i64, of: i64) -> Result<ImportChunk> {
        let mut all = Vec::with_capacity(IMPORT.len());
        for f in &IMPORT {
            let sql = format!("SELECT COALESCE(MAX({}), 0) FROM {}", f.key, f.table);
            let last: i64 = read!(self, |db| sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(db).await)?;
            let (after, to) = (last * at / of, last * (at + 1) / of);
            let cells: Vec<String> = f.columns().into_iter().map(|col| self.cell(col)).collect();
            let cells = cells.join(", ");
            let rows = self.pool.pick(
                format!("json_group_array(json_array({cells}))"),
                format!("COALESCE(json_agg(json_build_array({cells})), '[]')::text"),
            );
            let sql = format!("SELECT {rows} FROM {} WHERE {key} > $1 AND {key} <= $2", f.table, key = f.key);
            let json: String = read!(self, |db| sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
                .bind(after)
                .bind(to)
                .fetch_one(db)
                .await)?;
            all.push(json);
        }
        Ok(ImportChunk(all.try_into().unwrap_or_default()))
    }

    /// Writes the rows of a chunk, known already, in one transaction.
    pub async fn bare_import(&self, chunk: ImportChunk) -> Result<()> {
        let mut tx = self.begin().await?;
        for (f, json) in IMPORT.iter().zip(chunk.0) {
            let columns = f.columns();
            let (list, source) = (Col::list(&columns), tx.source(&columns));
            let sql = format!("INSERT INTO bare_{} ({list}) SELECT {list} FROM {source}", f.table);
            exec!(&mut tx, sqlx::query(sqlx::AssertSqlSafe(sql)).bind(json))?;
        }
        tx.commit().await
    }

    /// Receipts of a dispatch's deliveries as the parameters of their statements.
    pub fn bare_callback(&self, dispatch_no: i64, state: i32, receipts: Vec<KeptReceipt>) -> BareCallback {
        let ordinals: Vec<i64> = receipts.iter().filter_map(|r| r.to.map(|t| t.1)).collect();
        let changes: Vec<_> = ordinals.iter().map(|o| (dispatch_no, o, state)).collect();
        let changes = serde_json::json!(changes).to_string();
        BareCallback { dispatch_no, state, ordinals, changes, receipts: ReceiptRows::new(&self.pool, receipts) }
    }

    /// Writes receipts and what they do to their deliveries, everything known already.
    pub async fn bare_receipts(&self, channel: i32, at: Millis, callback: &BareCallback) -> Result<()> {
        let mut tx = self.begin_hot().await?;
        tx.keep_receipts(channel, at, &callback.receipts).await?;
        if let Tx::Postgres(t) = &mut tx {
            let n = callback.ordinals.len();
            sqlx::query(RAISE)
                .bind(vec![callback.dispatch_no; n])
                .bind(&callback.ordinals)
                .bind(vec![callback.state; n])
                .bind(vec![Some(at); n])
                .bind(vec![Some(at); n])
                .bind(vec![None::<Millis>; n])
                .execute(&mut **t)
                .await?;
            return tx.commit().await;
        }
        let source = tx.source(&[Col::Int("dispatch_no"), Col::Int("ordinal"), Col::Int("state")]);
        let sql = format!(
            "UPDATE deliveries SET state = src.state, reason = 0, next_at = NULL, handed_at = COALESCE(handed_at, {at}), \
             reached_at = COALESCE(reached_at, {at}) FROM {source} \
             WHERE deliveries.dispatch_no = src.dispatch_no AND deliveries.ordinal = src.ordinal"
        );
        exec!(&mut tx, sqlx::query(sqlx::AssertSqlSafe(sql)).bind(&callback.changes))?;
        tx.commit().await
    }

    /// Forgets every dispatch's rows and closes the dispatches.
    pub async fn empty_ledger(&self) -> Result<()> {
        self.empty(&LEDGER).await?;
        let mut tx = self.begin().await?;
        let sql =
            "UPDATE dispatches SET state = 'cancelled', phase = 'done', finished_at = $1 WHERE finished_at IS NULL";
        exec!(&mut tx, sqlx::query(sql).bind(self.now()))?;
        tx.commit().await
    }

    /// Forgets what imports brought.
    pub async fn empty_people(&self) -> Result<()> {
        self.empty(&IMPORT.map(|f| f.table)).await
    }

    async fn empty(&self, tables: &[&str]) -> Result<()> {
        let mut tx = self.begin().await?;
        for table in tables {
            let sql = tx.pick(format!("DELETE FROM {table}"), format!("TRUNCATE {table}"));
            exec!(&mut tx, sqlx::query(sqlx::AssertSqlSafe(sql)))?;
        }
        tx.commit().await?;
        self.settle().await
    }

    /// Keeps the batches of a dispatch that are ready from everybody, or lets them go.
    pub async fn hold_batches(&self, dispatch_no: i64, hold: bool) -> Result<()> {
        let (from, to) = if hold { (0, HELD) } else { (HELD, 0) };
        let mut tx = self.begin().await?;
        let sql = "UPDATE batches SET state = $3 WHERE dispatch_no = $1 AND state = $2";
        exec!(&mut tx, sqlx::query(sql).bind(dispatch_no).bind(from).bind(to))?;
        tx.commit().await
    }

    /// Batches of a dispatch that are not done.
    pub async fn open_batches(&self, dispatch_no: i64) -> Result<i64> {
        let sql = "SELECT COUNT(*) FROM batches WHERE dispatch_no = $1 AND state < 2";
        Ok(read!(self, |db| sqlx::query_scalar(sql).bind(dispatch_no).fetch_one(db).await)?)
    }

    /// Brings the embedded database's log into its file, so that what was written
    /// before is not paid for by what comes next.
    pub async fn settle(&self) -> Result<()> {
        if let super::Pool::Sqlite { write, .. } = &self.pool {
            sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(write).await?;
        }
        Ok(())
    }

    async fn open_bare(&self, tables: &[&str]) -> Result<()> {
        let mut tx = self.begin().await?;
        for table in tables {
            let drop = format!("DROP TABLE IF EXISTS bare_{table}");
            exec!(&mut tx, sqlx::query(sqlx::AssertSqlSafe(drop)))?;
            for sql in tx.definitions(table).await? {
                exec!(&mut tx, sqlx::query(sqlx::AssertSqlSafe(sql)))?;
            }
        }
        tx.commit().await?;
        self.settle().await
    }

    fn cell(&self, col: Col) -> String {
        match col {
            Col::Int(name) | Col::Text(name) => name.to_owned(),
            Col::Bytes(name) => self
                .pool
                .pick(format!("CASE WHEN {name} IS NOT NULL THEN hex({name}) END"), format!("encode({name}, 'hex')")),
        }
    }
}

impl Tx {
    /// What makes `bare_table` like `table`, indexes and all.
    async fn definitions(&mut self, table: &str) -> Result<Vec<String>> {
        let Self::Sqlite(t) = self else {
            let like = format!("CREATE TABLE bare_{table} (LIKE {table} INCLUDING ALL)");
            if !partitions::LEDGER.contains(&table) {
                return Ok(vec![like]);
            }
            let part = partitions::whole_range(&format!("bare_{table}"), table);
            return Ok(vec![format!("{like} PARTITION BY RANGE (dispatch_no)"), part]);
        };
        let sql = "SELECT sql FROM sqlite_master WHERE tbl_name = $1 AND sql IS NOT NULL ORDER BY type DESC";
        let made: Vec<String> = sqlx::query_scalar(sql).bind(table).fetch_all(&mut **t).await?;
        let bare = |sql: String| {
            sql.replacen(&format!("TABLE {table} "), &format!("TABLE bare_{table} "), 1)
                .replacen(" INDEX ", " INDEX bare_", 1)
                .replacen(&format!(" ON {table} "), &format!(" ON bare_{table} "), 1)
        };
        Ok(made.into_iter().map(bare).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::made_up::MadeUp;
    use crate::store::testing::stores;

    #[tokio::test]
    async fn bare_imports_write_the_same_rows() {
        for t in stores().await {
            t.store.make_up_people(MadeUp { persons: 500, villages: 3, seed: 1 }).await.unwrap();
            t.store.open_bare_import().await.unwrap();
            for at in 0..3 {
                let chunk = t.store.bare_import_chunk(at, 3).await.unwrap();
                t.store.bare_import(chunk).await.unwrap();
            }
            for table in IMPORT.map(|f| f.table) {
                let both =
                    format!("SELECT COUNT(*) FROM (SELECT * FROM {table} EXCEPT SELECT * FROM bare_{table}) AS x");
                assert_eq!(t.store.probe_count(both).await, 0, "{table} on {}", t.engine);
            }
            t.store.empty_people().await.unwrap();
            assert_eq!(t.store.probe_count("SELECT COUNT(*) FROM recipients".to_owned()).await, 0);
        }
    }
}
