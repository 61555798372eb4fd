//! Schemas of a database server that live for one bench.

use sqlx::{ConnectOptions as _, Connection as _};

use super::{Result, StoreError, address};

/// Makes a schema with a name of its own, and returns the name.
///
/// # Errors
/// When the address is not a server's, or it does not let us.
pub async fn create(server: &str) -> Result<String> {
    let name = format!("bench_{}", uuid::Uuid::now_v7().simple());
    execute(server, format!("CREATE SCHEMA {name}")).await?;
    Ok(name)
}

/// The address of a database that sees this schema alone.
#[must_use]
pub fn url(server: &str, schema: &str) -> String {
    let joint = if server.contains('?') { '&' } else { '?' };
    format!("{server}{joint}options[search_path]={schema}")
}

/// Removes a schema and everything in it.
///
/// # Errors
/// When the server does not let us.
pub async fn drop(server: &str, name: &str) -> Result<()> {
    execute(server, format!("DROP SCHEMA {name} CASCADE")).await
}

async fn execute(server: &str, sql: String) -> Result<()> {
    if !server.starts_with("postgres") {
        return Err(StoreError::Url(server.to_owned()));
    }
    let options = address::server(server)?;
    let mut connection = match options.connect().await {
        Ok(connection) => connection,
        Err(error) => return Err(address::unreachable(server, &options, error).await),
    };
    sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await?;
    Ok(connection.close().await?)
}
