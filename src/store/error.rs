//! What can go wrong in the store.

use crate::say;
use crate::vault::VaultError;

/// A failure of the store, worded for the person at the terminal.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{}", worded(.0))]
    Db(#[from] sqlx::Error),
    #[error(transparent)]
    Vault(#[from] VaultError),
    #[error("{}", say!(
        "数据库版本 {found} 比本程序认识的 {known} 新。请用更新的 gong 打开；什么都没有改动",
        "the database has schema {found}, newer than the {known} this program knows. Open it with a newer gong; nothing was changed"
    ))]
    Newer { found: i64, known: i64 },
    #[error("{}", say!(
        "数据库版本 {found} 比本程序需要的 {known} 旧。请先停下所有 gong 进程，备份（pg_dump），再执行：gong migrate。什么都没有改动",
        "the database has schema {found}, older than the {known} this program needs. Stop every gong process, back it up (pg_dump), then run: gong migrate. Nothing was changed"
    ))]
    Older { found: i64, known: i64 },
    #[error("{}", say!(
        "这个内置数据库已搬到 {to}，不再使用，以免同一条消息发两次。请把 gong.toml 的 [store] url 改为新地址；要搬回来：gong store move --undo",
        "this embedded database was moved to {to} and is used no more, or messages would go out twice. Put the new address into [store] url of gong.toml; to go back: gong store move --undo"
    ))]
    Moved { to: String },
    #[error("{}", say!(
        "向这个数据库的搬迁没有做完。请清空它，再执行一次：gong store move --to 地址；如果原数据库已标记为搬走：gong store move --undo",
        "a move into this database was not finished. Empty it and run again: gong store move --to URL; if the old one is marked as moved: gong store move --undo"
    ))]
    HalfMoved,
    #[error("{}", say!(
        "密钥与数据库不匹配：数据库是用另一把密钥建立的。请换回原来的密钥文件",
        "the key does not belong to this database: another key made it. Put the original key file back"
    ))]
    WrongKey,
    #[error("{}", not_an_address(.0))]
    Url(String),
    /// No connection to a server could be made; the reason is its own or the network's.
    #[error("{}", say!(
        "连不上数据库 {server}：{why}。请看数据库服务器是否在运行、网络是否通，再核对 [store] url 里的地址、用户和库名，以及口令（PGPASSWORD）",
        "cannot connect to the database {server}: {why}. See whether the server runs and can be reached, then the address, user and name in [store] url, and the password (PGPASSWORD)"
    ))]
    Unreachable { server: String, why: String },
    #[error("{}", say!(
        "升级数据库之前的备份没有成功（{_0}），所以数据库没有升级，什么都没有改动。请检查数据库所在的文件夹能否写入、磁盘是否已满，再执行一次",
        "the backup before the upgrade failed ({_0}), so the database was not upgraded and nothing was changed. See whether its folder can be written and the disk is full, then run it again"
    ))]
    Backup(String),
    #[error("{}", say!(
        "要写入的行一直被另一个事务占用，这次没有写入。请稍后再试",
        "another transaction held the rows all the time; nothing was written. Try again in a moment"
    ))]
    Held,
    #[error("{0}")]
    Migrate(String),
    #[error("{}", say!(
        "数据库 {_0} 秒没有回答。会换一个连接再试；若总是这样，请检查数据库服务器和到它的网络",
        "the database did not answer for {_0} seconds. It is tried again over another connection; if it stays so, look at the server and the network to it"
    ))]
    Silent(u64),
    /// A rule of the data was broken; the message says which and what to do.
    #[error("{0}")]
    Refused(String),
    #[error("{}", say!("数据损坏：{_0}", "damaged data: {_0}"))]
    Damaged(String),
}

/// SQLite's own words for a lock held too long tell nobody what to do.
fn worded(error: &sqlx::Error) -> String {
    let busy = |e: &dyn sqlx::error::DatabaseError| matches!(e.code().as_deref(), Some("5" | "517"));
    match error {
        sqlx::Error::Database(e) if busy(e.as_ref()) => say!(
            "数据库一直被另一个程序占用，这次没有写入任何内容。请稍后再执行一次；若总是这样，看看是不是有停住的 gong 进程",
            "another program held the database all the time; nothing was written. Run it again in a moment; if it stays so, look for a gong that hangs"
        ),
        sqlx::Error::PoolTimedOut => say!(
            "数据库 30 秒没有给出连接：服务器没有运行、网络不通，或本进程的连接都在等数据库。请检查数据库服务器和到它的网络",
            "no connection to the database within 30 seconds: the server does not run, the network is cut, or all connections of this process wait for it. Look at the server and the network to it"
        ),
        other => other.to_string(),
    }
}

/// An address may hold a password anywhere in it, above all where it is miswritten.
fn not_an_address(url: &str) -> String {
    let shown = super::address::shown(url);
    say!(
        "数据库地址“{shown}”不对：应为 sqlite:文件 或 postgres://用户@主机/库",
        "the database address `{shown}` is not one: expected sqlite:FILE or postgres://user@host/name"
    )
}

impl StoreError {
    /// The database broke off one of two transactions that were in each other's way.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Db(sqlx::Error::Database(e)) if matches!(e.code().as_deref(), Some("40001" | "40P01")))
    }

    /// The database is well and will never take these data: they break a rule of a table
    /// or are none of its type. PostgreSQL's classes 22 and 23; SQLite's `SQLITE_TOOBIG`,
    /// `SQLITE_CONSTRAINT` and `SQLITE_MISMATCH`, whose extended codes hold them in the
    /// low byte (<https://sqlite.org/rescode.html>).
    #[must_use]
    pub fn is_of_the_data(&self) -> bool {
        let Self::Db(sqlx::Error::Database(e)) = self else { return false };
        let Some(code) = e.code() else { return false };
        let embedded = code.parse::<i32>().is_ok_and(|code| matches!(code & 0xff, 18..=20));
        // A SQLSTATE has five characters; SQLite's codes have at most four digits.
        if code.len() == 5 { code.starts_with("22") || code.starts_with("23") } else { embedded }
    }
}
