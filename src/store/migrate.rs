//! Brings a database to this program's schema: a backup first, never backwards.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sqlx::migrate::{MigrateError, Migrator};

use super::address::must_exist;
use super::lent::Server;
use super::pool::Pool;
use super::upkeep::copy_database;
use super::{Result, StoreError};
use crate::clock::Millis;

static SQLITE: Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("migrations/postgres");

/// One migration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    pub version: i64,
    pub name: String,
    /// When this database had it; `None` while it waits.
    pub applied_at: Option<Millis>,
}

/// Where a database stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The schema it has; 0 when it is empty.
    pub found: i64,
    /// The newest schema this program knows.
    pub known: i64,
    pub steps: Vec<Step>,
    /// The copy that is made before anything is changed; none of an empty database,
    /// and none of a server, which has backups of its own.
    pub backup: Option<PathBuf>,
    /// Other connections of gong to the same server: the address each comes from.
    pub others: Vec<String>,
}

/// The newest schema this program knows.
#[must_use]
pub fn known_version() -> i64 {
    SQLITE.iter().map(|m| m.version).max().unwrap_or(0)
}

/// Where the database at `url` stands; nothing is changed.
///
/// # Errors
/// When it cannot be reached, or an embedded one does not exist.
pub async fn status(url: &str, now: Millis) -> Result<Status> {
    let (pool, file) = existing(url).await?;
    let status = status_of(&pool, file.as_deref(), now).await;
    pool.close().await;
    status
}

/// Brings the database at `url` to this program's schema, with a copy of an embedded
/// one first. Each migration happens wholly or not at all, and whoever else migrates
/// meanwhile waits. Returns where it stood before.
///
/// # Errors
/// When it cannot be reached, is newer than this program, cannot be copied, or a
/// migration fails.
pub async fn migrate(url: &str, now: Millis) -> Result<Status> {
    let (pool, file) = existing(url).await?;
    let status = status_of(&pool, file.as_deref(), now).await;
    let done = match &status {
        Ok(_) => to_known(&pool, file.as_deref(), now).await,
        Err(_) => Ok(()),
    };
    pool.close().await;
    done.and(status)
}

async fn existing(url: &str) -> Result<(Pool, Option<PathBuf>)> {
    must_exist(url)?;
    Pool::open(url).await
}

async fn status_of(pool: &Pool, file: Option<&Path>, now: Millis) -> Result<Status> {
    let (found, known) = (applied_version(pool).await?, known_version());
    let at: HashMap<i64, Millis> = if found == 0 { HashMap::new() } else { applied_at(pool).await? };
    let migrator = pool.pick(&SQLITE, &POSTGRES);
    let step = |m: &sqlx::migrate::Migration| Step {
        version: m.version,
        name: m.description.to_string(),
        applied_at: at.get(&m.version).copied(),
    };
    let backup = file.filter(|_| found > 0 && found < known).map(|file| backup_name(file, found, now));
    Ok(Status { found, known, steps: migrator.iter().map(step).collect(), backup, others: others(pool).await? })
}

async fn applied_at(pool: &Pool) -> Result<HashMap<i64, Millis>> {
    let sql = pool.pick(
        "SELECT version, CAST(unixepoch(installed_on) * 1000 AS INTEGER) FROM _sqlx_migrations WHERE success",
        "SELECT version, CAST(extract(epoch FROM installed_on) * 1000 AS BIGINT) FROM _sqlx_migrations WHERE success",
    );
    let rows: Vec<(i64, Millis)> = match pool {
        Pool::Sqlite { read, .. } => sqlx::query_as(sql).fetch_all(read).await?,
        Pool::Postgres(Server { pool, .. }) => sqlx::query_as(sql).fetch_all(pool).await?,
    };
    Ok(rows.into_iter().collect())
}

/// Whoever else of ours is connected to this database of the server, this pool's own
/// connections aside.
async fn others(pool: &Pool) -> Result<Vec<String>> {
    let Pool::Postgres(Server { pool, .. }) = pool else { return Ok(Vec::new()) };
    let sql = "SELECT DISTINCT COALESCE(client_addr::text, 'local') || ' ' || application_name FROM pg_stat_activity \
               WHERE datname = current_database() AND application_name LIKE 'gong % ' || current_schema() \
               AND application_name <> current_setting('application_name') ORDER BY 1";
    Ok(sqlx::query_scalar(sql).fetch_all(pool).await?)
}

pub(super) async fn run(pool: &Pool, file: Option<&Path>, now: Millis) -> Result<()> {
    let (found, known) = (applied_version(pool).await?, known_version());
    // Others may be working on a server's database with the program they were started
    // with: when it changes is for the operator to say. An empty one is nobody's yet.
    if matches!(pool, Pool::Postgres(..)) && found > 0 && found < known {
        return Err(StoreError::Older { found, known });
    }
    to_known(pool, file, now).await
}

async fn to_known(pool: &Pool, file: Option<&Path>, now: Millis) -> Result<()> {
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
        Pool::Postgres(Server { pool, .. }) => POSTGRES.run(pool).await,
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
        Pool::Postgres(Server { pool, .. }) => match sqlx::query_scalar(exists).fetch_one(pool).await? {
            0_i64 => (0, 0),
            n => (n, sqlx::query_scalar(newest).fetch_one(pool).await?),
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
