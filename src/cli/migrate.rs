//! `gong migrate`: brings the database to this program's schema, or says where it stands.

use clap::Args;
use serde_json::json;

use super::{Context, Ended, output};
use crate::app::lock_database;
use crate::clock::Clock;
use crate::config::Config;
use crate::say;
use crate::store::StoreError;
use crate::store::migrate::{self, Status};

/// Brings the database to the schema this program needs.
///
/// The embedded database is copied first, and is also brought up by any other command.
/// A PostgreSQL database is changed only by this one: stop every gong process that
/// works on it, back it up (`pg_dump`), migrate, and start the new ones.
#[derive(Debug, Args)]
#[command(after_help = "gong migrate --status\ngong migrate --dry-run\ngong migrate")]
pub struct MigrateArgs {
    /// Says which migrations the database has had and which wait.
    #[arg(long)]
    status: bool,
    /// Says what would be done.
    #[arg(long, conflicts_with = "status")]
    dry_run: bool,
    /// Migrates although other gong processes are connected.
    #[arg(long)]
    while_running: bool,
}

pub(super) async fn run(context: &Context, args: MigrateArgs) -> anyhow::Result<Ended> {
    let config = context.config()?;
    let (url, now) = (config.store_url(), Clock::System.now());
    let before = migrate::status(&url, now).await?;
    if before.found > before.known {
        return Err(StoreError::Newer { found: before.found, known: before.known }.into());
    }
    if args.status || args.dry_run {
        tell(context, &before, args.dry_run)?;
        return Ok(Ended::Done);
    }
    if before.found < before.known {
        alone(&config, &before, args.while_running)?;
        let _lock = url.strip_prefix("sqlite:").map(|file| lock_database(file.as_ref())).transpose()?;
        migrate::migrate(&url, now).await?;
    }
    let after = migrate::status(&url, now).await?;
    if context.global.json {
        output::json(&json!({ "from": before.found, "to": after.found, "backup": before.backup, "status": after }))?;
        return Ok(Ended::Done);
    }
    let (from, to) = (before.found, after.found);
    output::line(if from == to {
        say!("数据库已是版本 {to}，不需要升级", "the database has schema {to} already; nothing to do")
    } else {
        say!("数据库已从版本 {from} 升级到 {to}", "the database went from schema {from} to {to}")
    });
    if let Some(backup) = before.backup {
        let backup = backup.display();
        output::note(say!("升级前的备份：{backup}", "the copy from before: {backup}"));
    }
    Ok(Ended::Done)
}

/// Refuses while others work on a server's database with an older program.
fn alone(config: &Config, status: &Status, even_so: bool) -> Result<(), StoreError> {
    if status.others.is_empty() || even_so || config.store_url().starts_with("sqlite:") {
        return Ok(());
    }
    let who = status.others.join("、");
    Err(StoreError::Refused(say!(
        "还有 gong 进程连接着这个数据库：{who}。请先全部停下再升级；确认它们不受影响时，可加 --while-running",
        "other gong processes are connected to this database: {who}. Stop them all first; if you are sure that they do not mind, add --while-running"
    )))
}

fn tell(context: &Context, status: &Status, dry_run: bool) -> anyhow::Result<()> {
    if context.global.json {
        return output::json(&json!({ "dry_run": dry_run, "status": status }));
    }
    let mut table = output::table(&[say!("编号", "no"), say!("迁移", "migration"), say!("状态", "state")]);
    for step in status.steps.iter().filter(|s| !dry_run || s.applied_at.is_none()) {
        let state = match step.applied_at {
            Some(at) => {
                let at = jiff::Timestamp::from_millisecond(at)?.strftime("%Y-%m-%d %H:%M UTC");
                say!("已执行 {at}", "applied {at}")
            }
            None => say!("待执行", "pending"),
        };
        table.add_row([step.version.to_string(), step.name.clone(), state]);
    }
    output::line(table);
    let (found, known) = (status.found, status.known);
    output::line(say!("数据库版本 {found}，本程序的版本 {known}", "schema {found}; this program's is {known}"));
    if let Some(backup) = &status.backup {
        let backup = backup.display();
        output::note(say!("升级前会先备份到 {backup}", "a copy will be made first: {backup}"));
    }
    for other in &status.others {
        output::note(say!("正连接着：{other}", "connected: {other}"));
    }
    Ok(())
}
