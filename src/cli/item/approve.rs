//! `gong item approve`: nothing goes out without it.

use clap::Args;
use serde_json::json;

use super::review;
use crate::app::App;
use crate::app::prepare::unit;
use crate::cli::words::{refused, when};
use crate::cli::{Context, Ended, output};
use crate::domain::item::{ItemKind, Level};
use crate::say;
use crate::store::items::{Approval, ApprovalType, Item};
use crate::store::operators::{Operator, Role};

/// Approves the newest version of an item.
#[derive(Debug, Args)]
#[command(after_help = "gong item approve 1 --as 李四\n\
                        gong item approve 2 --fast --as 张三\n\
                        gong item approve 2 --second --as 李四\n\
                        gong item approve 3 --as 李四 --override-privacy 公示名单依法公开")]
pub struct ApproveArgs {
    /// Number or id of the item.
    item: String,
    /// By its author alone, for what cannot wait; a second signature must follow.
    #[arg(long, conflicts_with = "second")]
    fast: bool,
    /// The second signature, after --fast.
    #[arg(long)]
    second: bool,
    /// Publish the personal data that was found, for this reason.
    #[arg(long, value_name = "REASON")]
    override_privacy: Option<String>,
    /// A note that stays with the approval.
    #[arg(long, value_name = "TEXT", default_value = "")]
    note: String,
}

pub(super) async fn run(context: &Context, app: &App, args: ApproveArgs) -> anyhow::Result<Ended> {
    let operator = context.operator(app).await?;
    operator.need(Role::Reviewer)?;
    let item = app.store.item(&args.item).await?;
    let mut approvals = app.store.approvals(&item.id).await?;
    approvals.retain(|a| a.version == item.version);
    let kind = kind(app, &item, &operator, &approvals, &args)?;
    if kind != ApprovalType::Second {
        look_over(app, &item).await?;
    }
    let note = privacy_note(app, &item, &args, kind)?;
    app.store.approve_item(&item, kind, &operator, &note).await?;
    report(context, app, &item, kind, &operator)?;
    Ok(Ended::Done)
}

/// Which signature this is, or why it cannot be given.
fn kind(
    app: &App,
    item: &Item,
    operator: &Operator,
    approvals: &[Approval],
    args: &ApproveArgs,
) -> anyhow::Result<ApprovalType> {
    let (no, author, me) = (item.no, &item.created_by, &operator.name);
    if args.second {
        return second(item, operator, approvals);
    }
    if let Some(first) = approvals.first() {
        let by = &first.operator;
        return Err(refused(say!(
            "公开事项 {no} 的这一版已由 {by} 审核。发布：gong plan {no}，再 gong send {no}",
            "this version of item {no} was approved by {by} already. To send it: gong plan {no}, then gong send {no}"
        )));
    }
    if author != me || !app.config.review.four_eyes {
        return Ok(ApprovalType::Review);
    }
    if !args.fast {
        let fast = if is_fast(item) {
            say!(
                "；情况紧急时可走绿色通道：gong item approve {no} --fast",
                "; where it cannot wait: gong item approve {no} --fast"
            )
        } else {
            String::new()
        };
        return Err(refused(say!(
            "{me} 是这一版的拟稿人，不能自己审核。请由另一位审核人执行：gong item approve {no} --as 审核人（没有就先 gong operator add 姓名 --role reviewer）{fast}",
            "{me} wrote this version and cannot approve it. Let another reviewer run: gong item approve {no} --as REVIEWER (add one with gong operator add NAME --role reviewer){fast}"
        )));
    }
    if !is_fast(item) {
        return Err(refused(say!(
            "绿色通道只用于红色、橙色预警，转移避险，一级、二级应急响应及其解除。请由另一位审核人审核",
            "the fast lane is for red and orange alerts, transfer orders, responses of level one and two, and their lifting. Let another reviewer approve it"
        )));
    }
    Ok(ApprovalType::FastLane)
}

/// What an author on duty may issue alone.
fn is_fast(item: &Item) -> bool {
    let content = &item.content;
    match content.kind {
        ItemKind::TransferOrder => true,
        ItemKind::Alert | ItemKind::Response => {
            content.ends_another() || matches!(content.level, Some(Level::Red | Level::Orange))
        }
        _ => false,
    }
}

fn second(item: &Item, operator: &Operator, approvals: &[Approval]) -> anyhow::Result<ApprovalType> {
    let no = item.no;
    let fast = approvals.iter().find(|a| a.r#type == ApprovalType::FastLane.name());
    let Some(fast) = fast else {
        return Err(refused(say!(
            "公开事项 {no} 的这一版没有走绿色通道，不需要补签",
            "this version of item {no} did not take the fast lane; it needs no second signature"
        )));
    };
    if let Some(done) = approvals.iter().find(|a| a.r#type == ApprovalType::Second.name()) {
        let by = &done.operator;
        return Err(refused(say!("{by} 已经补签过了", "{by} has given the second signature already")));
    }
    if fast.operator == operator.name {
        let me = &operator.name;
        return Err(refused(say!(
            "{me} 就是第一个签字的人，补签须由另一人执行：gong item approve {no} --second --as 审核人",
            "{me} gave the first signature; someone else gives the second: gong item approve {no} --second --as REVIEWER"
        )));
    }
    Ok(ApprovalType::Second)
}

/// Refuses what is incomplete, expired, or cannot be rendered.
async fn look_over(app: &App, item: &Item) -> anyhow::Result<()> {
    let (no, content, now) = (item.no, &item.content, app.store.now());
    let mut wrong: Vec<String> = review::problems(&app.store, content)
        .await?
        .into_iter()
        .map(|p| format!("{}: {}", p.field, p.text.replace('\n', "\n    ")))
        .collect();
    if content.expiry(now) <= now {
        let at = when(content.expiry(now), &app.config.zone()?);
        wrong.push(say!("expires_at: 已于 {at} 失效，发出去也没有用", "expires_at: it expired at {at}"));
    }
    match review::preview(app, content, &unit(app, item)) {
        Err(error) => wrong.push(format!("sms: {error}")),
        Ok(preview) => {
            let missing = review::undeclared(content, &preview).join("、");
            if !missing.is_empty() {
                wrong.push(say!(
                    "variables: 短信用了变量 {missing}，但“变量”里没有写",
                    "variables: the text uses {missing}, which `variables` does not name"
                ));
            }
        }
    }
    for note in app.posts_at_fault(content, &unit(app, item)) {
        output::note(note);
    }
    if wrong.is_empty() {
        return Ok(());
    }
    let list = wrong.join("\n  ");
    Err(refused(say!(
        "公开事项 {no} 还不能审核：\n  {list}\n改好后执行：gong item edit {no} 文件",
        "item {no} cannot be approved yet:\n  {list}\nMend it with: gong item edit {no} FILE"
    )))
}

/// The note, with the reason why personal data may be published.
fn privacy_note(app: &App, item: &Item, args: &ApproveArgs, kind: ApprovalType) -> anyhow::Result<String> {
    let note = args.note.trim();
    let reason = args.override_privacy.as_deref().map(str::trim).filter(|r| !r.is_empty());
    let mut phones = review::own_phones(&item.content, &item.unit_phone);
    phones.push(app.config.site.phone.clone());
    let found = review::findings(&item.content, &phones);
    if found.is_empty() || kind == ApprovalType::Second {
        return Ok(note.to_owned());
    }
    let Some(reason) = reason else {
        let (no, list) = (item.no, found.iter().map(review::describe).collect::<Vec<_>>().join("\n  "));
        return Err(refused(say!(
            "公开事项 {no} 里有个人信息：\n  {list}\n请先删去或打码（gong item edit {no} 文件）；依法必须公开的，写明理由：--override-privacy 理由",
            "item {no} holds personal data:\n  {list}\nRemove or mask it (gong item edit {no} FILE); where the law wants it public, say why: --override-privacy REASON"
        )));
    };
    let n = found.len();
    let kept = say!("个人信息 {n} 处准予公开：{reason}", "{n} pieces of personal data allowed: {reason}");
    Ok(if note.is_empty() { kept } else { format!("{note}；{kept}") })
}

fn report(context: &Context, app: &App, item: &Item, kind: ApprovalType, operator: &Operator) -> anyhow::Result<()> {
    let due = (kind == ApprovalType::FastLane)
        .then(|| app.config.second_signature_within().map(|within| app.store.now() + within))
        .transpose()?;
    let (no, version, by) = (item.no, item.version, &operator.name);
    if context.global.json {
        return output::json(&json!({
            "item": item.id, "no": no, "version": version, "state": "approved",
            "type": kind.name(), "operator": by, "second_signature_due": due,
        }));
    }
    output::line(match kind {
        ApprovalType::Second => say!(
            "公开事项 {no} 第 {version} 版已由 {by} 补签",
            "{by} gave the second signature to item {no}, version {version}"
        ),
        _ => say!("公开事项 {no} 第 {version} 版已由 {by} 审核", "item {no}, version {version}, is approved by {by}"),
    });
    if let Some(due) = due {
        let due = when(due, &app.config.zone()?);
        output::note(say!(
            "走了绿色通道并已记录：须在 {due} 前由另一位审核人补签：gong item approve {no} --second --as 审核人",
            "this was the fast lane, and it is on record: by {due} another reviewer must run: gong item approve {no} --second --as REVIEWER"
        ));
    }
    if kind != ApprovalType::Second {
        output::note(say!(
            "下一步：gong plan {no}，核对后 gong send {no}",
            "Next: gong plan {no}, and when it looks right gong send {no}"
        ));
    }
    Ok(())
}
