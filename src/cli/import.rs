//! `gong import`: tables of places, people, groups, lists, boards, officers and refusals.

mod show;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, Subcommand};
use jiff::civil::Date;

use super::{Cli, Context, Ended, output};
use crate::app::App;
use crate::import::recipients::RecipientOptions;
use crate::import::table::{Options, Table};
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

#[derive(Debug, Subcommand)]
enum What {
    /// The division tree: code, name, parent, level, areas, aliases.
    Regions {
        #[command(flatten)]
        files: Files,
        /// Edition of the division tables, such as 2023-06-30.
        #[arg(long, value_name = "DATE", default_value = "")]
        edition: String,
    },
    /// People, households and organisations.
    Recipients {
        #[command(flatten)]
        files: Files,
        /// Makes groups that the file names and that do not exist.
        #[arg(long)]
        create_groups: bool,
        /// Residence of rows that name none.
        #[arg(long, value_name = "REGION")]
        region: Option<String>,
        /// Where the data comes from.
        #[arg(long, default_value = "")]
        source: String,
        /// What the data may be used for; `gong purge --purpose` destroys it by this word.
        #[arg(long, default_value = "")]
        purpose: String,
    },
    /// The members of a group, or a group by rule.
    Groups(GroupArgs),
    /// A list: variables for each recipient, such as an amount.
    Lists {
        #[command(flatten)]
        files: Files,
        /// Name of the list.
        #[arg(long = "list", value_name = "NAME")]
        name: String,
        #[command(flatten)]
        whole: Whole,
        /// Makes recipients of rows that match nobody and say name and region.
        #[arg(long)]
        create: bool,
    },
    /// Boards, screens, loudspeakers and desks.
    Points {
        #[command(flatten)]
        files: Files,
    },
    /// Duty officers, by region and order of calling.
    Officers {
        #[command(flatten)]
        files: Files,
    },
    /// Who does not want to hear: phones and mailboxes, with the kind of item.
    Optouts {
        #[command(flatten)]
        files: Files,
        /// Takes these refusals back.
        #[arg(long)]
        remove: bool,
    },
}

/// What every import takes.
#[derive(Debug, Args)]
struct Files {
    /// CSV or xlsx files, read one after the other.
    #[arg(value_name = "FILE")]
    paths: Vec<PathBuf>,
    /// Reads and checks everything, and writes nothing but the rejected rows.
    #[arg(long)]
    dry_run: bool,
    /// The header to take for a field.
    #[arg(long = "column", value_name = "KEY=HEADER", value_parser = pair)]
    columns: Vec<(String, String)>,
    /// Worksheet of a workbook.
    #[arg(long, value_name = "NAME")]
    sheet: Option<String>,
    /// Folder for files of rejected rows; beside the table when not given.
    #[arg(long, value_name = "DIR")]
    rejects: Option<PathBuf>,
}

/// Whether a file is the whole of it.
#[derive(Debug, Clone, Copy, Args)]
struct Whole {
    /// The file is all there is: what it lacks is taken out.
    #[arg(long, conflicts_with = "append")]
    replace: bool,
    /// The file adds to what is there (the default).
    #[arg(long)]
    append: bool,
}

impl Whole {
    fn mode(self) -> Mode {
        if self.replace { Mode::Replace } else { Mode::Append }
    }
}

#[derive(Debug, Args)]
struct GroupArgs {
    #[command(flatten)]
    files: Files,
    /// Name of the group.
    #[arg(long = "group", value_name = "NAME")]
    name: String,
    #[command(flatten)]
    whole: Whole,
    /// Members by an audience expression instead of a list.
    #[arg(long, value_name = "AUDIENCE", conflicts_with = "paths")]
    rule: Option<String>,
    /// Never shown or exported by name.
    #[arg(long)]
    sensitive: bool,
    /// Date of the list.
    #[arg(long, value_name = "DATE")]
    list_date: Option<String>,
    /// Last day on which the group holds.
    #[arg(long, value_name = "DATE")]
    valid_until: Option<Date>,
}

/// Reads `key=header`.
fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, header)) if !key.trim().is_empty() && !header.trim().is_empty() => {
            Ok((key.trim().to_owned(), header.trim().to_owned()))
        }
        _ => Err(say!("应为 字段=表头，如 phone=联系方式", "expected KEY=HEADER, such as phone=Mobile")),
    }
}

pub(super) async fn run(context: &Context, args: ImportArgs) -> anyhow::Result<Ended> {
    args.what.need_files();
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

impl What {
    fn files(&self) -> &Files {
        match self {
            Self::Groups(group) => &group.files,
            Self::Regions { files, .. }
            | Self::Recipients { files, .. }
            | Self::Lists { files, .. }
            | Self::Points { files }
            | Self::Officers { files }
            | Self::Optouts { files, .. } => files,
        }
    }

    /// Ends the program where there is nothing to read. Only a rule needs no file, and
    /// an argument shared by all kinds cannot say so to clap.
    fn need_files(&self) {
        let by_rule = matches!(self, Self::Groups(group) if group.rule.is_some());
        if self.files().paths.is_empty() && !by_rule {
            let text = say!("请给出要导入的文件", "name the files to import");
            Cli::command().error(ErrorKind::MissingRequiredArgument, text).exit();
        }
    }

    fn mode(&self) -> Mode {
        match self {
            Self::Groups(group) => group.whole.mode(),
            Self::Lists { whole, .. } => whole.mode(),
            _ => Mode::Append,
        }
    }

    const fn word(&self) -> &'static str {
        match self {
            Self::Regions { .. } => "regions",
            Self::Recipients { .. } => "recipients",
            Self::Groups(_) => "groups",
            Self::Lists { .. } => "lists",
            Self::Points { .. } => "points",
            Self::Officers { .. } => "officers",
            Self::Optouts { .. } => "optouts",
        }
    }

    /// The command that feeds the mended rejects; they are never the whole of a group.
    fn again(&self, summary: &Summary) -> String {
        let Some(file) = &summary.rejects_file else { return String::new() };
        let mut words = vec!["gong import".to_owned(), self.word().to_owned(), quoted(&file.display().to_string())];
        let mut with = |name: &str, value: &str| {
            if !value.is_empty() {
                words.push(format!("{name} {}", quoted(value)));
            }
        };
        match self {
            Self::Regions { edition, .. } => with("--edition", edition),
            Self::Recipients { source, purpose, region, .. } => {
                with("--region", region.as_deref().unwrap_or_default());
                with("--source", source);
                with("--purpose", purpose);
            }
            Self::Groups(group) => with("--group", &group.name),
            Self::Lists { name, .. } => with("--list", name),
            Self::Points { .. } | Self::Officers { .. } | Self::Optouts { .. } => {}
        }
        for (key, header) in &self.files().columns {
            with("--column", &format!("{key}={header}"));
        }
        match self {
            Self::Recipients { create_groups: true, .. } => words.push("--create-groups".into()),
            Self::Lists { create: true, .. } => words.push("--create".into()),
            Self::Optouts { remove: true, .. } => words.push("--remove".into()),
            _ => {}
        }
        words.join(" ")
    }

    /// Opens a table; reads its first rows, on a thread that may wait for the disk.
    fn open(&self, path: &Path) -> Result<Table, import::ImportError> {
        use import::{groups, lists, optouts, points, recipients, regions};
        let files = self.files();
        let options = Options { columns: files.columns.clone(), sheet: files.sheet.clone(), extra: false };
        let open = match self {
            Self::Regions { .. } => regions::open,
            Self::Recipients { .. } => recipients::open,
            Self::Groups(_) => groups::open,
            Self::Lists { .. } => lists::open,
            Self::Points { .. } => points::open,
            Self::Officers { .. } => points::open_officers,
            Self::Optouts { .. } => optouts::open,
        };
        Ok(tokio::task::block_in_place(|| open(path, &options))?)
    }
}

/// A word as a shell takes it.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./=:+，、".contains(c);
    if text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_given_as_pairs() {
        assert_eq!(pair("phone = 联系 方式").unwrap(), ("phone".into(), "联系 方式".into()));
        assert!(pair("phone").is_err() && pair("=x").is_err() && pair("phone=").is_err());
    }

    #[test]
    fn words_are_quoted_for_the_shell() {
        assert_eq!(quoted("对象.csv"), "对象.csv");
        assert_eq!(quoted("a b's"), r"'a b'\''s'");
    }
}
