//! `gong store`: moves the embedded store into PostgreSQL, and keeps a large ledger.

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::{Context, Ended, output};
use crate::app::lock_database;
use crate::clock::Clock;
use crate::say;
use crate::store::address::shown;
use crate::store::moving::MovedTable;
use crate::store::operators::Role;
use crate::store::partitions::Range;
use crate::store::{Store, StoreError};
use crate::vault::Vault;

/// Where the data lives.
#[derive(Debug, Args)]
#[command(after_help = "gong store move --to postgres://gong@db.local/gong\ngong store partitions")]
pub struct StoreArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Move(MoveArgs),
    Partitions(PartitionsArgs),
}

/// Copies the embedded store into an empty PostgreSQL, and compares every table.
///
/// The engine must be stopped; others wait. Nothing of the old store changes but a mark
/// that it was moved, so that no engine starts on it by mistake. `--undo` takes the mark
/// off; since the new one may have sent meanwhile, everything stands paused then, as
/// after `gong restore`.
#[derive(Debug, Args)]
#[command(after_help = "gong store move --to postgres://gong@db.local/gong\ngong store move --undo")]
struct MoveArgs {
    /// The empty database.
    #[arg(long, value_name = "URL", required_unless_present = "undo")]
    to: Option<String>,
    /// Goes back to the embedded store.
    #[arg(long, conflicts_with = "to")]
    undo: bool,
}

/// Lists the ranges of dispatch numbers that PostgreSQL keeps the ledger in, or takes an
/// old one out.
///
/// A range can go when all its dispatches have been purged; what they reached stays.
/// Its tables stay in the database as `detached_…`, to be dumped and dropped.
#[derive(Debug, Args)]
#[command(after_help = "gong store partitions\ngong store partitions --detach 0")]
struct PartitionsArgs {
    /// The first number of the range to take out.
    #[arg(long, value_name = "FROM")]
    detach: Option<i64>,
}

pub(super) async fn run(context: &Context, args: StoreArgs) -> anyhow::Result<Ended> {
    match args.what {
        What::Move(args) if args.undo => undo(context).await,
        What::Move(args) => move_to(context, &args.to.unwrap_or_default()).await,
        What::Partitions(args) => partitions(context, args).await,
    }
}

async fn move_to(context: &Context, url: &str) -> anyhow::Result<Ended> {
    let config = context.site()?;
    let Some(database) = config.store_url().strip_prefix("sqlite:").map(std::path::PathBuf::from) else {
        return Err(
            StoreError::Refused(say!("这个站点已经在用 PostgreSQL", "this site is on PostgreSQL already")).into()
        );
    };
    let _lock = lock_database(&database)?;
    let vault = Vault::open(&config.path(&config.store.key_file))?;
    let store = Store::open(&config.store_url(), vault, Clock::System).await?;
    let operator = store.acting(context.global.operator.as_deref()).await?;
    operator.need(Role::Admin)?;
    store.note_act(&operator.name, "move", "database", &json!({ "to": shown(url) })).await?;
    let bar = rows_bar();
    let moved = store
        .move_to(url, |done, all| {
            bar.set_length(all);
            bar.set_position(done);
        })
        .await?;
    bar.finish_and_clear();
    store.close().await;
    tell(context, url, &moved)?;
    Ok(Ended::Done)
}

fn rows_bar() -> ProgressBar {
    if !output::is_watched() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} {eta}");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn tell(context: &Context, url: &str, moved: &[MovedTable]) -> anyhow::Result<()> {
    let rows: u64 = moved.iter().map(|t| t.rows).sum();
    if context.global.json {
        return output::json(&json!({ "to": shown(url), "rows": rows, "tables": moved }));
    }
    let number = |n: u64| output::number(i64::try_from(n).unwrap_or(i64::MAX));
    let mut table = output::table(&[say!("表", "table"), say!("行数", "rows"), say!("校验和", "checksum")]);
    for t in moved.iter().filter(|t| t.rows > 0) {
        table.add_row([t.table.clone(), number(t.rows), t.checksum.clone()]);
    }
    output::line(table);
    let (tables, rows) = (moved.len(), number(rows));
    output::line(say!(
        "已搬迁 {tables} 张表、{rows} 行，行数和校验和全部一致",
        "moved {tables} tables and {rows} rows; every count and checksum agrees"
    ));
    let url = shown(url);
    output::note(say!(
        "请把 gong.toml 改为：\n[store]\nurl = \"{url}\"\n密钥文件不变；口令不写在这里，放进环境变量 PGPASSWORD。原数据库没有改动，已标记为搬走；要搬回来：gong store move --undo",
        "Put into gong.toml:\n[store]\nurl = \"{url}\"\nThe key file stays; the password goes into the environment, PGPASSWORD. The old database is as it was, and marked as moved; to go back: gong store move --undo"
    ));
    Ok(())
}

async fn undo(context: &Context) -> anyhow::Result<Ended> {
    let config = context.site()?;
    let url = config.store_url();
    let Some(database) = url.strip_prefix("sqlite:") else {
        return Err(StoreError::Refused(say!(
            "请先把 gong.toml 的 [store] url 改回原来的数据库文件",
            "first put the old database file back into [store] url of gong.toml"
        ))
        .into());
    };
    let _lock = lock_database(database.as_ref())?;
    let vault = Vault::open(&config.path(&config.store.key_file))?;
    let store = Store::open_moved(&url, vault, Clock::System).await?;
    let operator = store.acting(context.global.operator.as_deref()).await?;
    operator.need(Role::Admin)?;
    let restored = store.take_back(&operator.name).await?;
    store.close().await;
    let (dispatches, uncertain) = (restored.dispatches, restored.uncertain);
    if context.global.json {
        output::json(&json!({ "paused": dispatches, "uncertain": uncertain }))?;
        return Ok(Ended::Done);
    }
    output::line(say!(
        "已改回内置数据库。{dispatches} 个发布任务已暂停，{uncertain} 条发送记录可能已由新数据库发出，标为待核对",
        "back on the embedded store. {dispatches} dispatches stand paused; {uncertain} deliveries may have been sent by the other one and are uncertain"
    ));
    output::note(say!(
        "还连着新数据库的 gong 进程要全部停掉，否则同一条消息会发两次。确定新数据库什么都没有发过时：gong restore --nothing-sent 编号，再 gong resume 编号",
        "stop every gong that is still on the other one, or messages go out twice. If you know that it sent nothing: gong restore --nothing-sent NO, then gong resume NO"
    ));
    Ok(Ended::Done)
}

async fn partitions(context: &Context, args: PartitionsArgs) -> anyhow::Result<Ended> {
    let app = context.app().await?;
    if let Some(from) = args.detach {
        let operator = context.operator(&app).await?;
        operator.need(Role::Admin)?;
        let tables = app.store.detach_range(from, &operator.name).await?;
        if context.global.json {
            output::json(&json!({ "from": from, "tables": tables }))?;
            return Ok(Ended::Done);
        }
        for table in &tables {
            output::line(table);
        }
        let list = tables.join(", ");
        output::note(say!(
            "这些表已不属于台账。存档：pg_dump -t 'detached_*'；不再需要时：DROP TABLE {list}",
            "these tables are out of the ledger. To keep them: pg_dump -t 'detached_*'; when nobody needs them: DROP TABLE {list}"
        ));
        return Ok(Ended::Done);
    }
    let ranges = app.store.ranges().await?;
    if context.global.json {
        output::json(&ranges)?;
        return Ok(Ended::Done);
    }
    show(&ranges);
    Ok(Ended::Done)
}

fn show(ranges: &[Range]) {
    if ranges.is_empty() {
        output::line(say!("内置数据库没有分区", "the embedded database has no ranges"));
        return;
    }
    let mut table = output::table(&[
        say!("编号", "numbers"),
        say!("发布任务", "dispatches"),
        say!("未销毁", "not purged"),
        say!("名单", "members"),
        say!("发送记录", "deliveries"),
        say!("占用（MiB）", "MiB"),
    ]);
    for r in ranges {
        table.add_row([
            format!("{}–{}", r.from, r.to - 1),
            output::number(r.dispatches),
            output::number(r.unpurged),
            output::number(r.members),
            output::number(r.deliveries),
            output::number(r.bytes / 1_048_576),
        ]);
    }
    output::line(table);
}
