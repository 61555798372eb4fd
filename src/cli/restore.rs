//! `gong restore`: puts a copy in the place of the database, with everything paused.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use super::{Context, Ended, output};
use crate::app::lock_database;
use crate::clock::Clock;
use crate::config::Config;
use crate::say;
use crate::store::operators::Role;
use crate::store::upkeep::{self, Restored};
use crate::store::{Store, StoreError, owner};
use crate::vault::Vault;

/// Puts a backup in the place of the database. The present one is moved aside, never
/// deleted.
///
/// Everything stands paused afterwards: what was still to go out when the copy was
/// made may have gone out since, so gong sends none of it again by itself.
#[derive(Debug, Args)]
#[command(after_help = "\
gong restore data/backups/gong-20260601-080000.db
gong restore /mnt/usb/gong.db --key /mnt/safe/gong.key
gong restore --nothing-sent 3     # nothing went out since the copy: queue it again
gong resume 3                     # then go on
gong restore --brought-back       # PostgreSQL, after pg_restore")]
pub struct RestoreArgs {
    /// The copy.
    #[arg(value_name = "FROM", required_unless_present_any = ["nothing_sent", "brought_back"])]
    from: Option<PathBuf>,
    /// The key of the copy, where the site has none yet.
    #[arg(long, value_name = "KEYFILE")]
    key: Option<PathBuf>,
    /// Queues again what the restore left uncertain in this dispatch.
    #[arg(long, value_name = "DISPATCH", conflicts_with_all = ["from", "key"])]
    nothing_sent: Option<String>,
    /// pg_restore has brought the PostgreSQL database back: pauses everything in it
    /// before an engine starts.
    #[arg(long, conflicts_with_all = ["from", "key", "nothing_sent"])]
    brought_back: bool,
}

pub(super) async fn run(context: &Context, args: RestoreArgs) -> anyhow::Result<Ended> {
    if let Some(dispatch) = &args.nothing_sent {
        return nothing_sent(context, dispatch).await;
    }
    if args.brought_back {
        return brought_back(context).await;
    }
    let from = args.from.unwrap_or_default();
    let config = context.config()?;
    let Some(database) = config.store_url().strip_prefix("sqlite:").map(PathBuf::from) else {
        return Err(StoreError::Refused(say!(
            "数据库是 PostgreSQL，请先停掉全部 gong，用 pg_restore 恢复，然后执行 gong restore --brought-back 再启动",
            "the database is PostgreSQL: stop every gong, restore it with pg_restore, then run gong restore --brought-back before you start"
        ))
        .into());
    };
    owner::check(&database)?;
    if let Some(folder) = database.parent() {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let lock = lock_database(&database)?;
    let vault = key(&config, args.key.as_deref())?;
    upkeep::check_copy(&from, &vault).await.with_context(|| from.display().to_string())?;
    let next = with_suffix(&database, ".restoring");
    clear(&next)?;
    let done = prepare(context, (&from, &next), vault).await;
    let (restored, open) = match done {
        Ok(done) => done,
        Err(error) => {
            // The copy itself is untouched, and so is the present database.
            let _ = clear(&next);
            return Err(error);
        }
    };
    let aside = swap(&database, &next)?;
    drop(lock);
    tell(context, restored, &open, aside.as_deref())?;
    Ok(Ended::Done)
}

/// The key of the copy: the site's own, or the given one, which becomes the site's.
fn key(config: &Config, given: Option<&Path>) -> anyhow::Result<Vault> {
    let own = config.path(&config.store.key_file);
    let Some(given) = given else { return Ok(Vault::open(&own)?) };
    let vault = Vault::open(given)?;
    if !own.exists() {
        owner::check(&own)?;
        if let Some(folder) = own.parent() {
            fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        // Keeps the mode, which only the owner can read.
        fs::copy(given, &own).with_context(|| own.display().to_string())?;
    } else if Vault::open(&own)?.check_value() != vault.check_value() {
        let own = own.display();
        return Err(StoreError::Refused(say!(
            "{own} 是另一把密钥。请先把它移到别处，再执行恢复",
            "{own} is another key. Move it elsewhere first, then restore"
        ))
        .into());
    }
    Ok(vault)
}

/// Copies, brings to this program's schema and marks as restored, all beside the
/// present database. Returns the open dispatches.
async fn prepare(
    context: &Context,
    (from, next): (&Path, &Path),
    vault: Vault,
) -> anyhow::Result<(Restored, Vec<i64>)> {
    upkeep::copy_database(from, next).await?;
    let store = Store::open(&format!("sqlite:{}", next.display()), vault, Clock::System).await?;
    let operator = store.acting(context.global.operator.as_deref()).await?;
    operator.need(Role::Admin)?;
    let restored = store.mark_restored(&operator.name).await?;
    let open = store.dispatches(true).await?.into_iter().map(|d| d.no).collect();
    store.close().await;
    Ok((restored, open))
}

fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Removes what an earlier restore left that was cut short.
fn clear(next: &Path) -> anyhow::Result<()> {
    for file in ["", "-wal", "-shm", ".part"].map(|s| with_suffix(next, s)) {
        if file.exists() {
            fs::remove_file(&file).with_context(|| file.display().to_string())?;
        }
    }
    Ok(())
}

/// Moves the present database aside with its log, and the new one into its place.
fn swap(database: &Path, next: &Path) -> anyhow::Result<Option<PathBuf>> {
    let mut aside = None;
    if database.exists() {
        let name = with_suffix(database, &format!(".before-restore-{}", Clock::System.now()));
        for part in ["-wal", "-shm", ""] {
            let (from, to) = (with_suffix(database, part), with_suffix(&name, part));
            if from.exists() {
                fs::rename(&from, &to).with_context(|| from.display().to_string())?;
            }
        }
        aside = Some(name);
    }
    fs::rename(next, database).with_context(|| database.display().to_string())?;
    if let Some(folder) = database.parent() {
        fs::File::open(folder)?.sync_all()?;
    }
    Ok(aside)
}

fn tell(context: &Context, restored: Restored, open: &[i64], aside: Option<&Path>) -> anyhow::Result<()> {
    if context.global.json {
        return output::json(
            &json!({ "open_dispatches": open, "uncertain": restored.uncertain, "moved_aside": aside }),
        );
    }
    let n = output::number(i64::try_from(restored.uncertain).unwrap_or(i64::MAX));
    output::line(say!("已恢复。{n} 条发送记录状态不明", "restored; {n} deliveries are uncertain"));
    if let Some(aside) = aside {
        let aside = aside.display();
        output::line(say!("原数据库移到 {aside}", "the database that was there is now {aside}"));
    }
    if !open.is_empty() {
        let list = open.iter().map(ToString::to_string).collect::<Vec<_>>().join("、");
        output::note(say!(
            "未结束的发布任务都已暂停：{list}。备份之后可能已经发出，所以不会自动再发：\n  \
             确知备份后没有发出过：gong restore --nothing-sent 编号，再执行 gong resume 编号\n  \
             不能确定：gong resume 编号，状态不明的只等回执，48 小时后记为无结果；还没有编入名单的会继续发出\n  \
             不再发送：gong cancel 编号",
            "open dispatches stand paused: {list}. They may have gone out after the copy was made, so nothing is sent again by itself:\n  \
             nothing went out since: gong restore --nothing-sent NO, then gong resume NO\n  \
             not sure: gong resume NO; what is uncertain only waits for receipts and is unknown after 48 hours; whoever was not in the snapshot yet is still sent to\n  \
             not to be sent: gong cancel NO"
        ));
    }
    Ok(())
}

/// Marks a PostgreSQL database that pg_restore brought back.
async fn brought_back(context: &Context) -> anyhow::Result<Ended> {
    let app = context.app().await?;
    let operator = context.operator(&app).await?;
    operator.need(Role::Admin)?;
    if app.store.file.is_some() {
        return Err(StoreError::Refused(say!(
            "数据库是 SQLite，请用：gong restore 备份文件",
            "the database is SQLite: use gong restore BACKUP"
        ))
        .into());
    }
    let restored = app.store.mark_restored(&operator.name).await?;
    let open: Vec<i64> = app.store.dispatches(true).await?.into_iter().map(|d| d.no).collect();
    tell(context, restored, &open, None)?;
    Ok(Ended::Done)
}

async fn nothing_sent(context: &Context, dispatch: &str) -> anyhow::Result<Ended> {
    let app = context.app().await?;
    let operator = context.operator(&app).await?;
    operator.need(Role::Admin)?;
    let dispatch = app.store.dispatch(dispatch).await?;
    let queued = app.store.requeue_restored(&dispatch, &operator.name).await?;
    let no = dispatch.no;
    if context.global.json {
        output::json(&json!({ "dispatch": dispatch.id, "no": no, "queued": queued }))?;
    } else {
        let n = output::number(queued);
        output::line(say!(
            "发布任务 {no}：{n} 条重新排队。继续发送：gong resume {no}",
            "dispatch {no}: {n} queued again. To go on: gong resume {no}"
        ));
    }
    Ok(Ended::Done)
}
