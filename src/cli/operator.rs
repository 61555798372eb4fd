//! `gong operator`: who acts at this site.

use clap::{Args, Subcommand};
use serde_json::json;

use super::words::{self, refused};
use super::{Context, Ended, output};
use crate::app::App;
use crate::say;
use crate::store::operators::{Operator, Role};

/// Adds and shows the people who act.
#[derive(Debug, Args)]
#[command(after_help = "gong operator list\ngong operator add 李四 --role reviewer")]
pub struct OperatorArgs {
    #[command(subcommand)]
    command: Act,
}

#[derive(Debug, Subcommand)]
enum Act {
    Add(AddArgs),
    List(ListArgs),
}

/// Adds an operator, or grants further roles to one.
#[derive(Debug, Args)]
#[command(after_help = "gong operator add 张三 --role author,dispatcher\n\
                        gong operator add 王五 --role reviewer --unit 某镇人民政府 --phone 0873-3420001\n\
                        gong operator add 张三 --role author --only")]
struct AddArgs {
    /// The person's name, as used with --as.
    #[arg(value_name = "NAME")]
    person: String,
    /// author, reviewer, dispatcher, auditor, admin; several with commas.
    #[arg(long = "role", value_name = "ROLES")]
    held: Vec<String>,
    /// Take away every role not named.
    #[arg(long)]
    only: bool,
    /// The unit acted for, where it is not yours.
    #[arg(long, value_name = "UNIT")]
    unit: Option<String>,
    /// The phone of a new unit, or a unit's new phone.
    #[arg(long, value_name = "PHONE")]
    phone: Option<String>,
}

/// Shows every operator.
#[derive(Debug, Args)]
#[command(after_help = "gong operator list\ngong operator list --json")]
struct ListArgs {}

pub(super) async fn run(context: &Context, args: OperatorArgs) -> anyhow::Result<Ended> {
    let app = context.app().await?;
    match args.command {
        Act::Add(args) => add(context, &app, args).await,
        Act::List(ListArgs {}) => list(context, &app).await,
    }
}

async fn add(context: &Context, app: &App, args: AddArgs) -> anyhow::Result<Ended> {
    let all = app.store.operators().await?;
    // A site without an admin could never get one.
    let admins = all.iter().any(|o| o.may(Role::Admin));
    let me = if admins || !all.is_empty() { Some(context.operator(app).await?) } else { None };
    if let (true, Some(me)) = (admins, &me) {
        me.need(Role::Admin)?;
    }
    let person = words::name(&say!("姓名", "the name"), &args.person)?;
    let before = all.iter().find(|o| o.name == person);
    let mut held = words::roles(&args.held.join(","))?;
    if !args.only
        && let Some(before) = before
    {
        held.extend(words::roles(&before.roles)?);
        held = Role::ALL.into_iter().filter(|r| held.contains(r)).collect();
    }
    if held.is_empty() {
        held.push(Role::Author);
    }
    let loses_admin = before.is_some_and(|b| b.may(Role::Admin)) && !held.contains(&Role::Admin);
    if loses_admin && all.iter().filter(|o| o.may(Role::Admin)).count() == 1 {
        return Err(refused(say!(
            "{person} 是唯一的管理员，不能取消这个角色。请先给另一个人管理员角色",
            "{person} is the only admin and keeps that role. Make someone else an admin first"
        )));
    }
    let unit = unit(app, &all, before.or(me.as_ref()), &args).await?;
    let id = app.store.save_operator(&person, &unit, &held).await?;
    let names: Vec<&str> = held.iter().map(|r| r.name()).collect();
    if context.global.json {
        output::json(&json!({ "id": id, "name": person, "unit": unit, "roles": names }))?;
    } else {
        let held = names.iter().map(|r| words::role(r)).collect::<Vec<_>>().join("、");
        output::line(say!(
            "{person}：{held}。操作时用 --as {person}",
            "{person}: {held}. To act as this person: --as {person}"
        ));
    }
    Ok(Ended::Done)
}

/// The id of the unit to act for.
async fn unit(app: &App, all: &[Operator], default: Option<&Operator>, args: &AddArgs) -> anyhow::Result<String> {
    let phone = args.phone.as_deref().map(words::phone).transpose()?;
    let name = match &args.unit {
        Some(unit) => words::name(&say!("单位名称", "the unit's name"), unit)?,
        None => default.map_or_else(|| app.config.site.name.clone(), |o| o.unit.clone()),
    };
    if let Some(phone) = phone {
        return Ok(app.store.save_unit(&name, &phone).await?);
    }
    if let Some(known) = all.iter().find(|o| o.unit == name) {
        return Ok(known.unit_id.clone());
    }
    if args.unit.is_none() {
        return Ok(app.store.save_unit(&name, &app.config.site.phone).await?);
    }
    anyhow::bail!(say!(
        "“{name}”是新单位，请同时给出它的咨询电话：--phone 0873-…",
        "`{name}` is a new unit; give its call-back phone as well: --phone 0873-…"
    ))
}

async fn list(context: &Context, app: &App) -> anyhow::Result<Ended> {
    let all = app.store.operators().await?;
    if context.global.json {
        output::json(&all)?;
        return Ok(Ended::Done);
    }
    let mut table = output::table(&[say!("姓名", "name"), say!("单位", "unit"), say!("角色", "roles")]);
    for o in &all {
        let held: Vec<String> = o.roles.split(',').map(words::role).collect();
        table.add_row([o.name.clone(), o.unit.clone(), held.join("、")]);
    }
    output::line(table);
    Ok(Ended::Done)
}
