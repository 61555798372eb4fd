//! `gong import`: tables of places, people, groups, lists, boards, officers and refusals.

mod args;
mod show;

use std::path::Path;

use anyhow::Context as _;
use args::{GroupArgs, What};
use clap::Args;
use jiff::civil::Date;

use super::{Context, Ended, output};
use crate::app::App;
use crate::import::recipients::RecipientOptions;
use crate::import::table::Table;
use crate::import::{self, Mode, Progress, Run, Summary};
use crate::say;
use crate::store::StoreError;
use crate::store::groups::GroupRecord;
use crate::store::operators::{Operator, Role};

/// Brings in tables (CSV or xlsx). The columns are found by their headers; rows at
/// fault go to a file of their own, to be mended and fed again.
#[derive(Debug, Args)]
#[command(after_help = "\
gong import regions 区划.xlsx --edition 2023-06-30
gong import recipients 对象.csv --source 乡镇台账 --purpose 防汛 --create-groups
gong import groups 低保户.csv --group 低保户 --replace
gong import groups --group 种粮大户 --rule '作物=水稻 且 亩数>=50'
gong import lists 补贴.csv --list 2026年补贴
gong import recipients 对象.csv --dry-run --column phone=联系方式")]
pub struct ImportArgs {
    #[command(subcommand)]
    what: What,
}

pub(super) async fn run(context: &Context, args: ImportArgs) -> anyhow::Result<Ended> {
    args.what.need_files()?;
    let app = context.app().await?;
    let operator = context.operator(&app).await?;
    operator.need(Role::Author)?;
    if let What::Groups(group) = &args.what
        && let Some(rule) = &group.rule
    {
        return put_rule(context, &app, &operator, (group, rule)).await;
    }
    let files = args.what.files();
    if args.what.mode() == Mode::Replace && files.paths.len() > 1 {
        return Err(StoreError::Refused(say!(
            "--replace 只能用于一个文件：后一个文件会移出前一个文件的对象。请先合并文件",
            "--replace takes one file: a second one would take out what the first brought in. Join the files first"
        ))
        .into());
    }
    let mut report = show::Report::new(files.dry_run, context.global.json);
    for path in &files.paths {
        let done = one(&app, &operator, &args.what, path).await;
        let (mapping, summary) = match done {
            Ok(done) => done,
            Err(error) => {
                report.finish()?;
                return Err(error);
            }
        };
        report.add(path, &mapping, &summary, &args.what.again(&summary));
        if !files.dry_run {
            let detail = serde_json::json!({ "read": summary.read, "added": summary.added, "updated": summary.updated,
                "removed": summary.removed, "rejected": summary.rejected });
            app.store.note_act(&operator.name, "import", args.what.word(), &detail).await?;
        }
    }
    let rejected = report.rejected();
    report.finish()?;
    Ok(if rejected { Ended::InPart } else { Ended::Done })
}

/// Imports one file: how its header was understood, and what came of its rows.
async fn one(app: &App, operator: &Operator, what: &What, path: &Path) -> anyhow::Result<(Vec<show::Column>, Summary)> {
    let mut table = what.open(path)?;
    let columns = show::columns(table.mapping(), |header| match what {
        What::Lists { .. } => Some(header.to_owned()),
        What::Recipients { .. } => app.config.attributes.find(header).map(|(name, _)| name.to_owned()),
        _ => None,
    });
    let bar = output::bytes_bar(table.size_hint_bytes());
    let mut tell = |progress: Progress| bar.set_position(progress.read);
    let run = Run { dry_run: what.files().dry_run, rejects: what.files().rejects.clone() };
    if let Some(folder) = &run.rejects {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let done = feed(app, operator, (what, &run), &mut table, &mut tell).await;
    bar.finish_and_clear();
    Ok((columns, done?))
}

async fn feed(
    app: &App,
    operator: &Operator,
    (what, run): (&What, &Run),
    table: &mut Table,
    tell: &mut dyn FnMut(Progress),
) -> anyhow::Result<Summary> {
    use import::{groups, lists, optouts, points, recipients, regions};
    let store = &*app.store;
    Ok(match what {
        What::Regions { edition, .. } => regions::import(store, table, run, edition, tell).await?,
        What::Recipients { create_groups, region, source, purpose, .. } => {
            let attributes = &app.config.attributes;
            let read = |header: &str, text: &str| {
                let (name, attribute) = attributes.find(header)?;
                let value = attribute.kind.value(text).ok_or_else(|| attribute.kind.form());
                Some(value.map(|value| (name.to_owned(), value)))
            };
            let region_no = match region {
                Some(text) => Some(store.regions_index().await?.resolve(text)?),
                None => None,
            };
            let options = RecipientOptions {
                create_groups: *create_groups,
                region_no,
                source: source.clone(),
                purpose: purpose.clone(),
                attributes: Some(&read),
                today: today(app)?,
            };
            recipients::import(store, table, run, &options, tell).await?
        }
        What::Groups(args) => {
            let group = args.record(app, operator).await?;
            groups::import(store, table, (run, args.whole.mode()), &group, tell).await?
        }
        What::Lists { name, whole, create, .. } => {
            let options =
                lists::ListOptions { name: name.clone(), mode: whole.mode(), create: *create, today: today(app)? };
            lists::import(store, table, run, &options, tell).await?
        }
        What::Points { .. } => points::import(store, table, run, tell).await?,
        What::Officers { .. } => points::import_officers(store, table, run, tell).await?,
        What::Optouts { remove, .. } => optouts::import(store, table, run, *remove, tell).await?,
    })
}

/// Today at the site.
fn today(app: &App) -> anyhow::Result<Date> {
    let now = jiff::Timestamp::from_millisecond(app.store.now())?;
    Ok(now.to_zoned(app.config.zone()?).date())
}

impl GroupArgs {
    async fn record(&self, app: &App, operator: &Operator) -> anyhow::Result<GroupRecord> {
        // A group belongs to the unit that made it; who feeds it later changes nothing.
        let new = !app.store.group_numbers().await?.contains_key(&self.name);
        let valid_until = match self.valid_until {
            Some(day) => Some(day.tomorrow()?.to_zoned(app.config.zone()?)?.timestamp().as_millisecond()),
            None => None,
        };
        Ok(GroupRecord {
            name: self.name.clone(),
            unit_id: new.then(|| operator.unit_id.clone()),
            rule: None,
            sensitive: self.sensitive.then_some(true),
            list_date: self.list_date.clone(),
            valid_until,
        })
    }
}

/// Makes a group whose members are whoever fits the rule, and says how many do now.
async fn put_rule(
    context: &Context,
    app: &App,
    operator: &Operator,
    (group, rule): (&GroupArgs, &str),
) -> anyhow::Result<Ended> {
    let today = today(app)?;
    let day = i32::from(today.year()) * 10_000 + i32::from(today.month()) * 100 + i32::from(today.day());
    let expr = crate::domain::audience::parse_rule(rule, &group.name)?;
    let audience = app.store.resolve_audience(&expr, &app.config.attributes, day).await?;
    let people = app.store.count_audience(&audience, None).await?.people;
    let name = &group.name;
    if !group.files.dry_run {
        let record = GroupRecord { rule: Some(rule.to_owned()), ..group.record(app, operator).await? };
        app.store.put_group(&record).await?;
        app.store.note_act(&operator.name, "import", "groups", &serde_json::json!({ "rule": true })).await?;
    }
    if context.global.json {
        let dry_run = group.files.dry_run;
        output::json(
            &serde_json::json!({ "dry_run": dry_run, "group": name, "rule": audience.canonical, "people": people }),
        )?;
    } else {
        let n = output::number(people);
        output::line(say!("人群“{name}”按规则确定成员，现有 {n} 人", "group `{name}` by rule; {n} people fit now"));
    }
    Ok(Ended::Done)
}
