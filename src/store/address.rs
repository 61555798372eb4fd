//! The address of a store: what of it may be shown, and what is said where nobody answers.

use std::path::Path;
use std::str::FromStr as _;
use std::time::Duration;

use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};

use super::{Result, StoreError};
use crate::say;

/// How long a server that gave no connection is asked once more, for its reason.
const WHY: Duration = Duration::from_secs(3);

/// An address without its password, wherever it stands: a miswritten one may have it
/// where none belongs.
#[must_use]
pub fn shown(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let (who, host) = rest.rsplit_once('@').unwrap_or(("", rest));
    // Before an at sign only the user of a whole address is known to be no password.
    let user = if scheme.is_empty() { "***" } else { who.split(':').next().unwrap_or_default() };
    let (host, settings) = host.split_once('?').unwrap_or((host, ""));
    let settings: Vec<&str> = settings.split('&').filter(|s| !s.is_empty() && !s.contains("pass")).collect();
    let scheme = if scheme.is_empty() { String::new() } else { format!("{scheme}://") };
    let at = if who.is_empty() { String::new() } else { format!("{user}@") };
    let joint = if settings.is_empty() { "" } else { "?" };
    format!("{scheme}{at}{host}{joint}{}", settings.join("&"))
}

/// Refuses the address of an embedded store that is not there: to open it would make a new,
/// empty one, where a disk is not mounted or the address is wrong.
///
/// # Errors
/// When there is no such file.
pub fn must_exist(url: &str) -> Result<()> {
    let Some(file) = url.strip_prefix("sqlite:").and_then(|file| file.split('?').next()) else { return Ok(()) };
    if Path::new(file).exists() {
        return Ok(());
    }
    Err(StoreError::Refused(say!(
        "没有数据库文件 {file}。请核对 [store] url，看磁盘是否已挂载；新站点：gong init；从备份恢复：gong restore 备份文件",
        "there is no database file {file}. Check [store] url, and whether its disk is mounted; a new site: gong init; from a backup: gong restore BACKUP"
    )))
}

/// What to connect to a server with. A parser's own words name no setting.
pub(super) fn server(url: &str) -> Result<PgConnectOptions> {
    PgConnectOptions::from_str(url).map_err(|_| StoreError::Url(url.to_owned()))
}

/// Why no connection could be made. A pool that waited in vain does not say it, so the server
/// is asked once more.
pub(super) async fn unreachable(url: &str, options: &PgConnectOptions, error: sqlx::Error) -> StoreError {
    let error = match error {
        sqlx::Error::PoolTimedOut => match tokio::time::timeout(WHY, options.connect()).await {
            Ok(Ok(connection)) => {
                drop::<PgConnection>(connection);
                sqlx::Error::PoolTimedOut
            }
            Ok(Err(error)) => error,
            Err(late) => sqlx::Error::Io(late.into()),
        },
        error => error,
    };
    let why = match &error {
        sqlx::Error::Database(refused) => refused.message().to_owned(),
        sqlx::Error::Io(error) => error.to_string(),
        sqlx::Error::PoolTimedOut => say!("30 秒没有应答", "no answer within 30 seconds"),
        other => other.to_string(),
    };
    StoreError::Unreachable { server: shown(url), why }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Pool;

    #[test]
    fn a_password_is_not_shown() {
        for (url, safe) in [
            ("postgres://gong:geheim@db:5432/gong?sslmode=require", "postgres://gong@db:5432/gong?sslmode=require"),
            ("postgres://db/gong?password=geheim&sslmode=require", "postgres://db/gong?sslmode=require"),
            ("postgres://db/gong?password=geheim", "postgres://db/gong"),
            ("postgres://gong:ge?he/i@m@db/gong", "postgres://gong@db/gong"),
            ("postgres://db/gong", "postgres://db/gong"),
            ("postgresql//gong:geheim@db/gong", "***@db/gong"),
            ("gong:geheim@db", "***@db"),
            ("data/gong.db", "data/gong.db"),
        ] {
            assert_eq!(shown(url), safe);
            assert!(!StoreError::Url(url.to_owned()).to_string().contains("geheim"));
        }
    }

    #[tokio::test]
    async fn a_server_that_cannot_be_reached_is_named_with_its_reason() {
        // Nobody listens where a listener has just been.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let url = format!("postgres://gong:geheim@127.0.0.1:{port}/gong");
        let options = server(&url).unwrap();
        let said = unreachable(&url, &options, sqlx::Error::PoolTimedOut).await.to_string();
        assert!(said.contains(&format!("postgres://gong@127.0.0.1:{port}/gong")), "{said}");
        assert!(said.contains("refused") && said.contains("PGPASSWORD") && !said.contains("geheim"), "{said}");
        let said = crate::store::schema::create(&url).await.unwrap_err().to_string();
        assert!(said.contains("refused") && !said.contains("geheim"), "{said}");
        for wrong in ["postgres://gong:ge/heim@db/gong", "mysql://gong:geheim@db/gong"] {
            let said = Pool::open(wrong).await.unwrap_err().to_string();
            assert!(said.contains("应为 sqlite:") && !said.contains("heim"), "{said}");
        }
    }

    #[tokio::test]
    async fn a_server_says_itself_why_it_refuses() {
        let Some(url) = crate::store::testing::postgres_server() else { return };
        let place = url.rsplit_once('/').unwrap().0;
        let said = Pool::open(&format!("{place}/no_such_database")).await.unwrap_err().to_string();
        assert!(said.starts_with("连不上数据库") && said.contains("no_such_database\" does not exist"), "{said}");
    }
}
