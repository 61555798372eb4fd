//! Copies of the embedded database: made, checked, and put back so that nothing is
//! sent twice by itself.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde_json::json;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection as _};

use super::dispatches::Dispatch;
use super::marks::under_way;
use super::{Pool, Result, Store, StoreError};
use crate::clock::Millis;
use crate::domain::delivery::{Reason, State};
use crate::say;
use crate::vault::Vault;

/// Rows a transaction.
const CHUNK: i64 = 5_000;
/// Rows put back into one batch.
const BATCH: i64 = 1_000;
/// How long an uncertain row of a restored store waits for a receipt: as long as a
/// channel waits that says nothing else.
const WAIT: Millis = 48 * 3_600_000;
/// Numbers left out after a restore. Dispatches made after the backup had the next
/// ones; receipts that still come for them must not meet new dispatches.
const GAP: i64 = 1_000;

/// What marking a restored store did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restored {
    /// Dispatches that were open; they are paused.
    pub dispatches: u64,
    /// Deliveries not known to be out; they are uncertain.
    pub uncertain: u64,
}

impl Store {
    /// Writes a consistent copy, which only its owner can read, and checks it;
    /// returns its size in bytes. An engine may go on working meanwhile.
    ///
    /// # Errors
    /// When the database is no embedded one, `to` exists, or the disk fails.
    pub async fn back_up(&self, to: &Path) -> Result<u64> {
        let Some(file) = &self.file else {
            return Err(StoreError::Refused(say!(
                "数据库是 PostgreSQL，请用 pg_dump 备份，用 pg_restore 恢复",
                "the database is PostgreSQL: back it up with pg_dump, and restore it with pg_restore"
            )));
        };
        copy_database(file, to).await?;
        Ok(fs::metadata(to).map_err(sqlx::Error::Io)?.len())
    }

    /// Marks this store as restored: open dispatches stand paused, their further
    /// planning is held (others may have gone on planning), and every delivery
    /// that was still to go out or under way is uncertain, since it may have gone out
    /// after the copy was made. Nothing of it is sent again by itself.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn mark_restored(&self, operator: &str) -> Result<Restored> {
        let open: Vec<i64> =
            read!(self, |db| sqlx::query_scalar("SELECT no FROM dispatches WHERE finished_at IS NULL ORDER BY no")
                .fetch_all(db)
                .await)?;
        let mut done = Restored { dispatches: open.len() as u64, uncertain: 0 };
        for no in open {
            done.uncertain += self.doubt(no).await?;
        }
        let mut tx = self.begin().await?;
        exec!(
            &mut tx,
            sqlx::query(
                "UPDATE dispatches SET state = CASE WHEN state = 'active' THEN 'paused' ELSE state END, \
                 phase = CASE WHEN phase IN ('snapshot', 'plan', 'waiting') THEN 'held-' || phase ELSE phase END WHERE finished_at IS NULL"
            )
        )?;
        let close = "UPDATE batches SET state = 2, owner = '', lease_until = NULL, epoch = epoch + 1, marked_to = 0 WHERE state <> 2";
        exec!(&mut tx, sqlx::query(close))?;
        let skip = "UPDATE counters SET value = value + $1 WHERE name = 'dispatch'";
        exec!(&mut tx, sqlx::query(skip).bind(GAP))?;
        let detail = json!({ "dispatches": done.dispatches, "uncertain": done.uncertain });
        tx.append_audit(self.now(), operator, ("restore", "database"), &detail).await?;
        tx.commit().await?;
        self.set_meta("restored_at", &self.now().to_string()).await?;
        Ok(done)
    }

    /// Makes the unsent rows of one dispatch uncertain, by ranges of ordinals.
    async fn doubt(&self, dispatch_no: i64) -> Result<u64> {
        let last = self.last_ordinal(dispatch_no).await?;
        let waiting = [State::Planned, State::Queued, State::Retry, State::Deferred].map(|s| s.code().to_string());
        let uncertain = State::Uncertain.code();
        let (no_answer, restored) = (Reason::NoAnswer.code(), Reason::Restored.code());
        let under_way = under_way!("deliveries");
        // What was under way, or uncertain before, may have gone out before the copy.
        let sql = format!(
            "UPDATE deliveries SET reason = CASE WHEN state = {uncertain} OR {under_way} THEN {no_answer} ELSE {restored} END, \
             state = {uncertain}, batch = 0, next_at = $4 WHERE dispatch_no = $1 AND ordinal > $2 AND ordinal <= $3 \
             AND (state IN ({}) OR (state = {uncertain} AND reason <> {restored}))",
            waiting.join(",")
        );
        let (mut after, mut moved) = (0, 0);
        while after < last {
            let mut tx = self.begin().await?;
            moved += exec!(
                &mut tx,
                sqlx::query(AssertSqlSafe(sql.as_str()))
                    .bind(dispatch_no)
                    .bind(after)
                    .bind(after + CHUNK)
                    .bind(self.now() + WAIT)
            )?;
            tx.commit().await?;
            after += CHUNK;
        }
        Ok(moved)
    }

    /// Queues again what a restore made uncertain: the operator knows that nothing
    /// went out after the copy was made. What was under way then stays uncertain.
    /// Returns how many rows; the dispatch stays paused.
    ///
    /// # Errors
    /// When the dispatch is not paused, or the database fails.
    pub async fn requeue_restored(&self, dispatch: &Dispatch, operator: &str) -> Result<i64> {
        let no = dispatch.no;
        if dispatch.state != "paused" {
            let state = &dispatch.state;
            return Err(StoreError::Refused(say!(
                "发布任务 {no} 现在是 {state}。只有恢复后仍暂停的发布任务可以重新排队",
                "dispatch {no} is {state}. Only one that still stands paused after a restore can be queued again"
            )));
        }
        let (uncertain, restored) = (State::Uncertain.code(), Reason::Restored.code());
        let page = format!(
            "SELECT channel, ordinal FROM deliveries WHERE dispatch_no = $1 AND ordinal > $2 AND state = {uncertain} \
             AND reason = {restored} ORDER BY ordinal LIMIT {BATCH}"
        );
        let (mut after, mut moved) = (0, 0);
        loop {
            let rows: Vec<(i32, i64)> = read!(self, |db| sqlx::query_as(AssertSqlSafe(page.as_str()))
                .bind(no)
                .bind(after)
                .fetch_all(db)
                .await)?;
            let Some((_, last)) = rows.last() else { break };
            after = *last;
            moved += i64::try_from(rows.len()).unwrap_or(0);
            self.requeue(dispatch, &rows).await?;
        }
        let mut tx = self.begin().await?;
        let sql = "UPDATE dispatches SET phase = REPLACE(phase, 'held-', '') WHERE no = $1";
        exec!(&mut tx, sqlx::query(sql).bind(no))?;
        tx.commit().await?;
        let detail = json!({ "deliveries": moved });
        self.note_act(operator, "nothing sent", &dispatch.id, &detail).await?;
        Ok(moved)
    }

    async fn requeue(&self, dispatch: &Dispatch, rows: &[(i32, i64)]) -> Result<()> {
        let mut channels: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
        for (channel, ordinal) in rows {
            channels.entry(*channel).or_default().push(*ordinal);
        }
        let mut tx = self.begin().await?;
        let list = tx.pick(
            "SELECT value FROM json_each($3)",
            "SELECT CAST(j AS BIGINT) FROM json_array_elements_text($3::json) j",
        );
        let sql = format!(
            "UPDATE deliveries SET state = {}, reason = 0, next_at = NULL, batch = $2 WHERE dispatch_no = $1 AND ordinal IN ({list}) AND state = {}",
            State::Queued.code(),
            State::Uncertain.code()
        );
        for (channel, ordinals) in channels {
            let size = i64::try_from(ordinals.len()).unwrap_or(0);
            let batch = tx.add_batch(dispatch.no, channel, dispatch.lane, size).await?;
            exec!(
                &mut tx,
                sqlx::query(AssertSqlSafe(sql.as_str()))
                    .bind(dispatch.no)
                    .bind(batch)
                    .bind(json!(ordinals).to_string())
            )?;
        }
        tx.commit().await
    }

    /// Makes the embedded engine overwrite what this process deletes from now on.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn delete_securely(&self) -> Result<()> {
        if let Pool::Sqlite { write, .. } = &self.pool {
            sqlx::query("PRAGMA secure_delete = ON").fetch_all(write).await?;
        }
        Ok(())
    }

    /// Takes deleted bytes out of the files of the embedded store: `whole` writes the
    /// database anew, which keeps an engine waiting. Says whether the log of changes
    /// is empty; a reader under way may keep it until the next time.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn scrub(&self, whole: bool) -> Result<bool> {
        let Pool::Sqlite { write, .. } = &self.pool else { return Ok(true) };
        if whole {
            // The copy that is made on the way may be larger than memory.
            sqlx::query("PRAGMA temp_store = FILE").execute(write).await?;
            sqlx::query("VACUUM").execute(write).await?;
        }
        let (busy, _, _): (i64, i64, i64) = sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(write).await?;
        Ok(busy == 0)
    }
}

/// Checks that a file is a sound database of ours, made with this key and not by a
/// newer program.
///
/// # Errors
/// When it is not, or cannot be read.
pub async fn check_copy(copy: &Path, vault: &Vault) -> Result<()> {
    let mut db = open_copy(copy).await?;
    sound(&mut db, copy).await?;
    let known = super::migrate::known_version();
    let unknown = |_| not_ours(copy);
    let found: i64 = sqlx::query_scalar("SELECT COALESCE(MAX(version), 0) FROM _sqlx_migrations")
        .fetch_one(&mut db)
        .await
        .map_err(unknown)?;
    if found > known {
        return Err(StoreError::Newer { found, known });
    }
    let key: Option<String> = sqlx::query_scalar("SELECT value FROM meta WHERE key = 'key_check'")
        .fetch_optional(&mut db)
        .await
        .map_err(unknown)?;
    if key.as_deref() != Some(vault.check_value()) {
        return Err(StoreError::WrongKey);
    }
    Ok(db.close().await?)
}

/// Writes a consistent copy of the database file `from` to the new file `to`, mode
/// 0600, and checks it. `to` appears only when it is whole.
///
/// # Errors
/// When `to` exists, or the disk fails.
pub async fn copy_database(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        let to = to.display();
        return Err(StoreError::Refused(say!(
            "{to} 已经存在，不会覆盖。请换一个文件名",
            "{to} exists and is not overwritten. Choose another name"
        )));
    }
    let mut part = to.as_os_str().to_owned();
    part.push(".part");
    let part = Path::new(&part);
    let done = copy_into(from, part).await.and_then(|()| Ok(fs::rename(part, to).map_err(sqlx::Error::Io)?));
    if done.is_err() {
        // The first error says more than a second one would.
        for left in [part.display().to_string(), format!("{}-journal", part.display())] {
            let _ = fs::remove_file(left);
        }
    }
    done
}

async fn copy_into(from: &Path, part: &Path) -> Result<()> {
    // VACUUM INTO takes a file that exists and is empty; so the mode is ours.
    File::options().write(true).create(true).truncate(true).mode(0o600).open(part).map_err(sqlx::Error::Io)?;
    let mut db = open_copy(from).await?;
    sqlx::query("VACUUM INTO $1").bind(part.to_string_lossy().into_owned()).execute(&mut db).await?;
    db.close().await?;
    let mut copy = open_copy(part).await?;
    sound(&mut copy, part).await?;
    copy.close().await?;
    File::open(part).and_then(|file| file.sync_all()).map_err(sqlx::Error::Io)?;
    Ok(())
}

async fn open_copy(path: &Path) -> Result<SqliteConnection> {
    let options = SqliteConnectOptions::new().filename(path).read_only(true);
    Ok(SqliteConnection::connect_with(&options).await?)
}

async fn sound(db: &mut SqliteConnection, path: &Path) -> Result<()> {
    let said: Vec<String> =
        sqlx::query_scalar("PRAGMA integrity_check").fetch_all(db).await.map_err(|_| not_ours(path))?;
    if said.iter().any(|line| line != "ok") {
        return Err(StoreError::Damaged(path.display().to_string()));
    }
    Ok(())
}

fn not_ours(path: &Path) -> StoreError {
    let path = path.display();
    StoreError::Refused(say!("{path} 不是 gong 的数据库备份", "{path} is no copy of a gong database"))
}

#[cfg(test)]
mod tests;
