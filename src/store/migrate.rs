//! Brings a database to this program's schema: a backup first, never backwards.

use std::path::{Path, PathBuf};

use sqlx::migrate::{MigrateError, Migrator};

use super::pool::Pool;
use super::upkeep::copy_database;
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
        && let Some(file) = file
    {
        let copy = backup_name(file, applied, now);
        copy_database(file, &copy).await.map_err(|e| StoreError::Backup(e.to_string()))?;
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

#[cfg(test)]
mod tests {
    use sqlx::SqlitePool;
    use sqlx::sqlite::SqliteConnectOptions;
    use tempfile::TempDir;

    use super::*;
    use crate::clock::Clock;
    use crate::store::Store;
    use crate::store::testing::NOON;
    use crate::vault::Vault;

    const VILLAGES: i64 = 3;

    /// A database as the first release left it, with rows in it.
    async fn first_release() -> (TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("gong.db");
        let pool = SqlitePool::connect_with(SqliteConnectOptions::new().filename(&file).create_if_missing(true));
        let pool = pool.await.unwrap();
        SQLITE.run_to(1, &pool).await.unwrap();
        for no in 1..=VILLAGES {
            let sql = "INSERT INTO channels (no, name) VALUES ($1, 'sms-' || $1)";
            sqlx::query(sql).bind(no).execute(&pool).await.unwrap();
        }
        pool.close().await;
        (dir, file)
    }

    async fn open(file: &Path) -> Result<Store> {
        Store::open(&format!("sqlite:{}", file.display()), Vault::from_key(&[7; 32]), Clock::held(NOON)).await
    }

    /// (schema, rows) of a database file, looked at without opening it as a store.
    async fn looked_at(file: &Path) -> (i64, i64) {
        let pool = SqlitePool::connect_with(SqliteConnectOptions::new().filename(file)).await.unwrap();
        let version = sqlx::query_scalar("SELECT MAX(version) FROM _sqlx_migrations").fetch_one(&pool).await.unwrap();
        let rows = sqlx::query_scalar("SELECT COUNT(*) FROM channels").fetch_one(&pool).await.unwrap();
        pool.close().await;
        (version, rows)
    }

    #[tokio::test]
    async fn an_older_database_is_copied_and_then_migrated() {
        use std::os::unix::fs::PermissionsExt as _;
        assert!(known_version() >= 2);
        let (_dir, file) = first_release().await;
        open(&file).await.unwrap().close().await;
        let copy = backup_name(&file, 1, NOON);
        assert_eq!(looked_at(&file).await, (known_version(), VILLAGES));
        assert_eq!(looked_at(&copy).await, (1, VILLAGES));
        assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
        // The copy is a database like any other: it can be opened in its turn.
        open(&copy).await.unwrap().close().await;
        assert_eq!(looked_at(&copy).await, (known_version(), VILLAGES));
    }

    #[tokio::test]
    async fn a_new_or_migrated_database_is_not_copied() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("gong.db");
        for _ in 0..2 {
            open(&file).await.unwrap().close().await;
        }
        let copies = std::fs::read_dir(dir.path()).unwrap().filter(|e| {
            let name = e.as_ref().unwrap().file_name();
            name.to_string_lossy().contains("before-migration")
        });
        assert_eq!(copies.count(), 0);
    }

    #[tokio::test]
    async fn without_a_copy_nothing_is_migrated() {
        let (_dir, file) = first_release().await;
        let copy = backup_name(&file, 1, NOON);
        // Nothing can be written there, by root neither.
        let mut part = copy.clone().into_os_string();
        part.push(".part");
        std::fs::create_dir(&part).unwrap();
        let error = open(&file).await.unwrap_err();
        assert!(matches!(error, StoreError::Backup(_)), "{error}");
        assert_eq!(looked_at(&file).await, (1, VILLAGES));
        assert!(!copy.exists());
        std::fs::remove_dir(&part).unwrap();
        open(&file).await.unwrap().close().await;
        assert_eq!((looked_at(&file).await.0, looked_at(&copy).await.0), (known_version(), 1));
    }
}
