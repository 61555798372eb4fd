//! `gong purge`: destroys what is known of people once an event is over.

use clap::Args;
use jiff::civil::Date;
use serde_json::json;

use super::{Context, Ended, output};
use crate::app::App;
use crate::clock::Millis;
use crate::say;
use crate::store::StoreError;
use crate::store::dispatches::Dispatch;
use crate::store::operators::{Operator, Role};
use crate::store::purge::Purged;

/// Destroys the personal data of a finished dispatch: who was in it, their variables,
/// where it went, receipts, replies and lists. The totals remain (`gong reach`). It cannot be
/// undone.
#[derive(Debug, Args)]
#[command(after_help = "\
gong purge 3 --dry-run
gong purge 3 --yes
gong purge --item 12 --yes
gong purge --purpose 防汛 --yes       # the recipients imported for it, too
gong purge --replies-before 2026-01-01 --yes")]
pub struct PurgeArgs {
    /// Number or id of the dispatch.
    #[arg(value_name = "DISPATCH", required_unless_present_any = ["item", "purpose", "replies_before"])]
    dispatch: Option<String>,
    /// Every dispatch of this item.
    #[arg(long, value_name = "ITEM", conflicts_with = "dispatch")]
    item: Option<String>,
    /// The recipients imported with `--purpose`, and addresses nobody else has.
    #[arg(long, value_name = "WORD", alias = "recipients")]
    purpose: Option<String>,
    /// What was replied before this day (2026-01-01), whoever sent it.
    #[arg(long, value_name = "DAY")]
    replies_before: Option<Date>,
    /// Really destroys.
    #[arg(long)]
    yes: bool,
    /// Says what would be destroyed.
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
}

pub(super) async fn run(context: &Context, args: PurgeArgs) -> anyhow::Result<Ended> {
    let app = context.app().await?;
    let operator = context.operator(&app).await?;
    operator.need(Role::Admin)?;
    let dispatches = chosen(&app, &args).await?;
    let zone = app.config.zone()?;
    let before =
        args.replies_before.map(|day| day.to_zoned(zone).map(|t| t.timestamp().as_millisecond())).transpose()?;
    let rest = (args.purpose.as_deref(), before);
    if !args.yes {
        foresee(context, &app, &dispatches, rest).await?;
        if args.dry_run {
            return Ok(Ended::Done);
        }
        return Err(StoreError::Refused(say!(
            "销毁后不能恢复。确认请加 --yes",
            "this cannot be undone. Add --yes to do it"
        ))
        .into());
    }
    let done = destroy(&app, &operator, &dispatches, rest).await?;
    // Writing the database anew would keep an engine waiting.
    let whole = !app.engine_runs();
    let clean = app.store.scrub(whole).await?;
    let rewritten = whole && clean;
    tell(context, (&dispatches, done), rewritten)?;
    if !context.global.json {
        tell_what_is_left(app.store.file.is_none(), rewritten);
    }
    Ok(Ended::Done)
}

/// What goes beside dispatches: recipients of a purpose, replies before a time.
type Rest<'a> = (Option<&'a str>, Option<Millis>);

/// The dispatches meant; all must have finished before any is touched.
async fn chosen(app: &App, args: &PurgeArgs) -> anyhow::Result<Vec<Dispatch>> {
    let dispatches = match (&args.dispatch, &args.item) {
        (Some(key), _) => vec![app.store.dispatch(key).await?],
        (None, Some(item)) => app.store.dispatches_of(&app.store.item(item).await?.id).await?,
        (None, None) => Vec::new(),
    };
    if let Some(open) = dispatches.iter().find(|d| d.finished_at.is_none()) {
        let no = open.no;
        return Err(StoreError::Refused(say!(
            "发布任务 {no} 还没有结束，不能销毁数据。查看：gong status {no}",
            "dispatch {no} has not finished; its data cannot be destroyed. See: gong status {no}"
        ))
        .into());
    }
    Ok(dispatches)
}

async fn foresee(
    context: &Context,
    app: &App,
    dispatches: &[Dispatch],
    (purpose, before): Rest<'_>,
) -> anyhow::Result<()> {
    let mut all = Purged::default();
    for dispatch in dispatches {
        add(&mut all, app.store.purgeable(dispatch).await?);
    }
    if let Some(purpose) = purpose {
        all.recipients = app.store.count_purpose(purpose).await?;
    }
    if let Some(before) = before {
        all.replies += app.store.count_replies_before(before).await?;
    }
    if context.global.json {
        return output::json(&json!({ "dry_run": true, "dispatches": numbers(dispatches), "purged": all }));
    }
    output::line(say!("将要销毁：", "would be destroyed:"));
    output::line(lines(all));
    Ok(())
}

async fn destroy(
    app: &App,
    operator: &Operator,
    dispatches: &[Dispatch],
    (purpose, before): Rest<'_>,
) -> anyhow::Result<Purged> {
    app.store.delete_securely().await?;
    let kinds = app.channel_kinds().await?;
    let mut all = Purged::default();
    for dispatch in dispatches {
        let report = app.store.reach(dispatch.no, &kinds, app.store.now()).await?;
        add(&mut all, app.store.purge_dispatch(dispatch, &report, &operator.name).await?);
    }
    if let Some(purpose) = purpose {
        add(&mut all, app.store.purge_purpose(purpose, &operator.name).await?);
    }
    if let Some(before) = before {
        all.replies += app.store.purge_replies_before(before, &operator.name).await?;
    }
    Ok(all)
}

fn add(all: &mut Purged, one: Purged) {
    all.members += one.members;
    all.receipts += one.receipts;
    all.replies += one.replies;
    all.list_rows += one.list_rows;
    all.recipients += one.recipients;
    all.addresses += one.addresses;
}

fn numbers(dispatches: &[Dispatch]) -> Vec<i64> {
    dispatches.iter().map(|d| d.no).collect()
}

fn lines(all: Purged) -> String {
    let n = |n: u64| output::number(i64::try_from(n).unwrap_or(i64::MAX));
    let (members, receipts, replies, rows) = (n(all.members), n(all.receipts), n(all.replies), n(all.list_rows));
    let (recipients, addresses) = (n(all.recipients), n(all.addresses));
    say!(
        "  发布名单 {members} 人，回执 {receipts} 条，回复 {replies} 条，名单数据 {rows} 行，对象 {recipients} 个，地址 {addresses} 个",
        "  {members} members, {receipts} receipts, {replies} replies, {rows} list rows, {recipients} recipients, {addresses} addresses"
    )
}

fn tell(context: &Context, (dispatches, done): (&[Dispatch], Purged), rewritten: bool) -> anyhow::Result<()> {
    if context.global.json {
        return output::json(
            &json!({ "dry_run": false, "dispatches": numbers(dispatches), "purged": done, "rewritten": rewritten }),
        );
    }
    output::line(say!("已销毁：", "destroyed:"));
    output::line(lines(done));
    Ok(())
}

/// Where the bytes of deleted rows may still be found.
fn tell_what_is_left(server: bool, rewritten: bool) {
    if server {
        output::note(say!(
            "数据库服务器已删除这些行，其空间由 autovacuum 收回、由新的数据覆盖；WAL 归档里还有，请按归档的保存期限清理",
            "the database server has deleted these rows; autovacuum reclaims their space, new data overwrite it. The WAL archive still holds them: let it expire"
        ));
    } else if !rewritten {
        output::note(say!(
            "引擎正在运行，已删除的内容已被覆盖；停止引擎后再执行一次，会重写整个数据库文件",
            "an engine is running: what was deleted is overwritten. Run it once more with the engine stopped to write the whole file anew"
        ));
    }
    output::note(say!(
        "以前的备份和导出的文件里还有这些数据，请一并销毁",
        "backups and exported files from before still hold these data: destroy them as well"
    ));
}
