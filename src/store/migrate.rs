//! Brings a database to this program's schema: a backup first, never backwards.

use std::path::{Path, PathBuf};

use sqlx::migrate::{MigrateError, Migrator};

use super::pool::Pool;
use super::{Result, StoreError};
use crate::clock::Millis;

static SQLITE: Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("migrations/postgres");

/// The newest schema this program knows.
#[must_use]
pub fn known_version() -> i64 {
    SQLITE.iter().map(|m| m.version).max().unwrap_or(0)
}

pub(super) async fn run(pool: &Pool, file: Option<&Path>, now: Millis) -> Result<()> {
    let applied = applied_version(pool).await?;
    let known = known_version();
    if applied > known {
        return Err(StoreError::Newer { found: applied, known });
    }
    if applied == known {
        return Ok(());
    }
    if applied > 0
        && let (Pool::Sqlite { write, .. }, Some(file)) = (pool, file)
    {
        let copy = backup_name(file, applied, now);
        vacuum_into(write, &copy).await.map_err(|e| StoreError::Backup(e.to_string()))?;
        tracing::info!(backup = %copy.display(), from = applied, to = known, "backed up before migrating");
    }
    let done = match pool {
        Pool::Sqlite { write, .. } => SQLITE.run(write).await,
        Pool::Postgres(pool) => POSTGRES.run(pool).await,
    };
    done.map_err(|e| migrate_error(&e, known))
}

fn migrate_error(error: &MigrateError, known: i64) -> StoreError {
    match error {
        MigrateError::VersionMissing(found) => StoreError::Newer { found: *found, known },
        other => StoreError::Migrate(other.to_string()),
    }
}

/// The schema a database has; 0 when it is new.
async fn applied_version(pool: &Pool) -> Result<i64> {
    let exists = pool.pick(
        "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = '_sqlx_migrations'",
        "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = current_schema() AND table_name = '_sqlx_migrations'",
    );
    let newest = "SELECT COALESCE(MAX(version), 0) FROM _sqlx_migrations";
    let (found, version): (i64, i64) = match pool {
        Pool::Sqlite { write, .. } => match sqlx::query_scalar(exists).fetch_one(write).await? {
            0_i64 => (0, 0),
            n => (n, sqlx::query_scalar(newest).fetch_one(write).await?),
        },
        Pool::Postgres(p) => match sqlx::query_scalar(exists).fetch_one(p).await? {
            0_i64 => (0, 0),
            n => (n, sqlx::query_scalar(newest).fetch_one(p).await?),
        },
    };
    Ok(if found == 0 { 0 } else { version })
}

fn backup_name(file: &Path, version: i64, now: Millis) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".before-migration-{version}-{now}"));
    file.with_file_name(name)
}

/// Writes a consistent copy of an embedded database to `to`.
pub(super) async fn vacuum_into(pool: &sqlx::SqlitePool, to: &Path) -> sqlx::Result<()> {
    sqlx::query("VACUUM INTO $1").bind(to.to_string_lossy().into_owned()).execute(pool).await.map(drop)
}
