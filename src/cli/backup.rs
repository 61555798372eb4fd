//! `gong backup`: a consistent copy of the embedded database.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use super::{Context, Ended, output};
use crate::app::App;
use crate::say;
use crate::store::operators::Role;

/// Copies the database while everything goes on. The key is not in the copy: without
/// it nobody can read names or numbers, so keep the two apart.
#[derive(Debug, Args)]
#[command(after_help = "gong backup\ngong backup /mnt/usb/gong-20260601.db\ngong backup --made")]
pub struct BackupArgs {
    /// The new file; data/backups/gong-DATE-TIME.db beside the database when not given.
    #[arg(value_name = "TO")]
    to: Option<PathBuf>,
    /// Notes, for `gong check`, that another program (`pg_dump`) has just made a backup.
    #[arg(long, conflicts_with = "to")]
    made: bool,
}

pub(super) async fn run(context: &Context, args: BackupArgs) -> anyhow::Result<Ended> {
    let app = context.app().await?;
    let operator = context.operator(&app).await?;
    operator.need(Role::Admin)?;
    if args.made {
        app.store.note_act(&operator.name, "backup", "database", &json!({ "by": "another program" })).await?;
        if context.global.json {
            output::json(&json!({ "noted": true }))?;
        } else {
            output::line(say!("已记下：刚刚做好一份备份", "noted that a backup was made just now"));
        }
        return Ok(Ended::Done);
    }
    let to = match args.to {
        Some(to) => to,
        None => default_place(&app)?,
    };
    let bytes = app.store.back_up(&to).await.with_context(|| {
        let to = to.display();
        say!("不能备份到 {to}", "cannot back up to {to}")
    })?;
    app.store.note_act(&operator.name, "backup", "database", &json!({ "bytes": bytes })).await?;
    let key = app.config.path(&app.config.store.key_file);
    if context.global.json {
        output::json(&json!({ "file": to, "bytes": bytes, "key_file": key }))?;
        return Ok(Ended::Done);
    }
    let (to, key, size) = (to.display(), key.display(), output::number(i64::try_from(bytes).unwrap_or(i64::MAX)));
    output::line(say!("已备份到 {to}（{size} 字节，已检查完整）", "backed up to {to} ({size} bytes, checked)"));
    output::note(say!(
        "备份中没有密钥。请把密钥 {key} 另存在别处：没有密钥，备份无法读取。恢复：gong restore {to}",
        "the key is not in it. Keep {key} somewhere else: without it the copy cannot be read. To restore: gong restore {to}"
    ));
    Ok(Ended::Done)
}

/// A name by the time of the site, in a folder that only its owner reads.
fn default_place(app: &App) -> anyhow::Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt as _;
    let beside = app.store.file.as_ref().and_then(|file| file.parent()).map(PathBuf::from).unwrap_or_default();
    let folder = beside.join("backups");
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .with_context(|| folder.display().to_string())?;
    let now = jiff::Timestamp::from_millisecond(app.store.now())?.to_zoned(app.config.zone()?);
    Ok(folder.join(now.strftime("gong-%Y%m%d-%H%M%S.db").to_string()))
}
