//! `gong item`: what is to be made known, from draft to approval.

mod approve;
mod read;
mod review;
mod show;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::words::{item_state, refused};
use super::{Context, Ended, output};
use crate::app::App;
use crate::domain::item::Format;
use crate::say;
use crate::store::operators::Role;

/// Enters, reviews and shows items.
#[derive(Debug, Args)]
#[command(after_help = "gong item add 通知.md\ngong item show 1\ngong item approve 1 --as 李四")]
pub struct ItemArgs {
    #[command(subcommand)]
    command: Act,
}

#[derive(Debug, Subcommand)]
enum Act {
    Add(AddArgs),
    Edit(EditArgs),
    List(ListArgs),
    Show(ShowArgs),
    Approve(approve::ApproveArgs),
    Cancel(CancelArgs),
}

/// How a file is written, where its name does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Written {
    Md,
    Toml,
    Json,
}

impl From<Written> for Format {
    fn from(written: Written) -> Self {
        match written {
            Written::Md => Self::Markdown,
            Written::Toml => Self::Toml,
            Written::Json => Self::Json,
        }
    }
}

/// Enters a file as a draft.
#[derive(Debug, Args)]
#[command(
    after_help = "gong item add 通知.md\ngong item add 预警.toml --as 张三\ncat 通知.md | gong item add - --format md"
)]
struct AddArgs {
    /// Markdown with front matter, TOML or JSON; - reads standard input.
    file: String,
    /// How it is written, where the name does not say.
    #[arg(long, value_name = "FORMAT")]
    format: Option<Written>,
}

/// Enters a new version; it needs approval again.
#[derive(Debug, Args)]
#[command(after_help = "gong item edit 1 通知.md")]
struct EditArgs {
    /// Number or id of the item.
    item: String,
    /// Markdown with front matter, TOML or JSON; - reads standard input.
    file: String,
    /// How it is written, where the name does not say.
    #[arg(long, value_name = "FORMAT")]
    format: Option<Written>,
}

/// Shows the newest items.
#[derive(Debug, Args)]
#[command(after_help = "gong item list\ngong item list --state draft")]
struct ListArgs {
    /// Only those that are draft, approved or cancelled.
    #[arg(long, value_name = "STATE", value_parser = ["draft", "approved", "cancelled"])]
    state: Option<String>,
}

/// Shows an item: its fields, its text as it goes out, approvals and dispatches.
#[derive(Debug, Args)]
#[command(after_help = "gong item show 1\ngong item show 1 --json")]
struct ShowArgs {
    /// Number or id of the item.
    item: String,
}

/// Calls an item off: nothing of it can be sent any more.
#[derive(Debug, Args)]
#[command(after_help = "gong item cancel 1")]
struct CancelArgs {
    /// Number or id of the item.
    item: String,
}

pub(super) async fn run(context: &Context, args: ItemArgs) -> anyhow::Result<Ended> {
    let app = context.app().await?;
    match args.command {
        Act::Add(args) => enter(context, &app, None, (&args.file, args.format)).await,
        Act::Edit(args) => enter(context, &app, Some(&args.item), (&args.file, args.format)).await,
        Act::List(args) => list(context, &app, args.state.as_deref()).await,
        Act::Show(args) => show::run(context, &app, &args.item).await,
        Act::Approve(args) => approve::run(context, &app, args).await,
        Act::Cancel(args) => cancel(context, &app, &args.item).await,
    }
}

/// Adds a file as a new item, or as the next version of `edited`.
async fn enter(
    context: &Context,
    app: &App,
    edited: Option<&str>,
    (file, format): (&str, Option<Written>),
) -> anyhow::Result<Ended> {
    let operator = context.operator(app).await?;
    operator.need(Role::Author)?;
    let before = match edited {
        Some(key) => Some(app.store.item(key).await?),
        None => None,
    };
    let zone = app.config.zone()?;
    let format = format.map_or_else(|| Format::of_file(file), Format::from);
    let source = read::source(file)?;
    let source = if format == Format::Markdown { read::with_tables(&source, file)? } else { source };
    let (draft, lines) = crate::domain::item::parse_placed(&source, format, &zone)
        .map_err(|e| if file == "-" { anyhow::anyhow!("{e}") } else { anyhow::anyhow!("{file}: {e}") })?;
    let mut problems = review::problems(&app.store, &draft).await?;
    review::place(&mut problems, &lines);
    if !problems.is_empty() {
        review::print_problems(context, file, &problems)?;
        return Ok(Ended::NotGood);
    }
    let phones = review::own_phones(&draft, &app.config.site.phone);
    let findings = review::source_findings(&source, &phones);
    let warnings = review::warnings(app, &draft).await?;
    let item = match &before {
        Some(before) => app.store.edit_item(before, &draft, &operator).await?,
        None => app.store.add_item(&draft, &operator).await?,
    };
    let next = format!("gong item approve {}", item.no);
    if context.global.json {
        let (id, no, version, state) = (&item.id, item.no, item.version, &item.state);
        output::json(&json!({
            "item": id, "no": no, "version": version, "state": state, "lane": draft.lane().name(),
            "privacy": findings, "warnings": warnings, "next": next,
        }))?;
        return Ok(Ended::Done);
    }
    let (no, version, id, title) = (item.no, item.version, &item.id, &draft.title);
    output::line(say!(
        "公开事项 {no}（第 {version} 版）已录入，待审核：{title}\n编号 {id}",
        "item {no} (version {version}) is entered as a draft: {title}\nid {id}"
    ));
    review::print_findings(&findings);
    for warning in &warnings {
        output::note(say!("注意：{warning}", "note: {warning}"));
    }
    output::note(say!(
        "下一步：gong item show {no} 核对，再由审核人执行 {next} --as 审核人",
        "Next: look it over with gong item show {no}, then a reviewer runs {next} --as REVIEWER"
    ));
    Ok(Ended::Done)
}

async fn list(context: &Context, app: &App, state: Option<&str>) -> anyhow::Result<Ended> {
    let zone = app.config.zone()?;
    let items: Vec<_> = app.store.items().await?.into_iter().filter(|i| state.is_none_or(|s| i.state == s)).collect();
    if context.global.json {
        let list: Vec<_> = items.iter().map(show::summary).collect();
        output::json(&list)?;
        return Ok(Ended::Done);
    }
    if items.is_empty() {
        output::note(say!(
            "没有公开事项。录入：gong item add 文件",
            "there are no items. To enter one: gong item add FILE"
        ));
        return Ok(Ended::Done);
    }
    let headings = [
        say!("编号", "no"),
        say!("状态", "state"),
        say!("类型", "kind"),
        say!("标题", "title"),
        say!("版本", "version"),
        say!("拟稿", "author"),
        say!("录入时间", "entered"),
    ];
    let mut table = output::table(&headings);
    for i in items {
        table.add_row([
            i.no.to_string(),
            item_state(&i.state),
            i.content.kind.label().to_owned(),
            i.content.title.clone(),
            i.version.to_string(),
            i.created_by.clone(),
            super::words::when(i.created_at, &zone),
        ]);
    }
    output::line(table);
    Ok(Ended::Done)
}

async fn cancel(context: &Context, app: &App, key: &str) -> anyhow::Result<Ended> {
    let operator = context.operator(app).await?;
    let item = app.store.item(key).await?;
    if item.created_by != operator.name {
        operator.need(Role::Reviewer)?;
    }
    let no = item.no;
    if item.state == "cancelled" {
        return Err(refused(say!("公开事项 {no} 已经撤销过了", "item {no} is cancelled already")));
    }
    let stopped = app.store.cancel_item(&item, &operator).await?;
    if context.global.json {
        output::json(&json!({ "item": item.id, "no": no, "state": "cancelled", "stopped_dispatches": stopped }))?;
        return Ok(Ended::Done);
    }
    output::line(say!("公开事项 {no} 已撤销，不能再发布", "item {no} is cancelled and can no longer be sent"));
    for dispatch in stopped {
        output::line(say!(
            "它的发布任务 {dispatch} 已停止，未提交的不再发出",
            "its dispatch {dispatch} was stopped; what was not handed over stays"
        ));
    }
    Ok(Ended::Done)
}
