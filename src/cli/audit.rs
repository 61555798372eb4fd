//! `gong audit`: who did what, and whether the log is whole.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::words::when;
use super::{Context, Ended, output};
use crate::app::App;
use crate::say;
use crate::store::operators::Role;

/// Shows the audit log, and checks that nothing in it was changed or taken out.
#[derive(Debug, Args)]
#[command(after_help = "gong audit show\ngong audit verify")]
pub struct AuditArgs {
    #[command(subcommand)]
    command: Act,
}

#[derive(Debug, Subcommand)]
enum Act {
    Show(ShowArgs),
    Verify(VerifyArgs),
}

/// Shows the newest entries.
#[derive(Debug, Args)]
#[command(after_help = "gong audit show\ngong audit show -n 200 --json")]
struct ShowArgs {
    /// How many.
    #[arg(short, long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(i64).range(1..=100_000))]
    number: i64,
}

/// Recomputes the chain of hashes; exit code 1 where it is broken.
#[derive(Debug, Args)]
#[command(after_help = "gong audit verify\ngong audit verify --json")]
struct VerifyArgs {}

pub(super) async fn run(context: &Context, args: AuditArgs) -> anyhow::Result<Ended> {
    let app = context.app().await?;
    match args.command {
        Act::Show(args) => show(context, &app, args.number).await,
        Act::Verify(VerifyArgs {}) => verify(context, &app).await,
    }
}

async fn show(context: &Context, app: &App, number: i64) -> anyhow::Result<Ended> {
    context.operator(app).await?.need(Role::Auditor)?;
    let entries = app.store.audit_tail(number).await?;
    if context.global.json {
        let list: Vec<Value> = entries
            .iter()
            .map(|e| {
                let detail: Value = serde_json::from_str(&e.detail).unwrap_or_default();
                json!({ "seq": e.seq, "at": e.at, "operator": e.operator, "action": e.action,
                        "subject": e.subject, "detail": detail, "hash": e.hash })
            })
            .collect();
        output::json(&list)?;
        return Ok(Ended::Done);
    }
    let zone = app.config.zone()?;
    let headings = [
        say!("序号", "no"),
        say!("时间", "time"),
        say!("操作员", "operator"),
        say!("操作", "action"),
        say!("对象", "subject"),
        say!("详情", "detail"),
    ];
    let mut table = output::table(&headings);
    for e in entries {
        table.add_row([e.seq.to_string(), when(e.at, &zone), e.operator, e.action, e.subject, e.detail]);
    }
    output::line(table);
    Ok(Ended::Done)
}

async fn verify(context: &Context, app: &App) -> anyhow::Result<Ended> {
    let found = app.store.verify_audit().await?;
    if context.global.json {
        output::json(&match found {
            Ok(entries) => json!({ "whole": true, "entries": entries }),
            Err(seq) => json!({ "whole": false, "broken_at": seq }),
        })?;
    } else {
        output::line(match found {
            Ok(n) => say!("审计日志完整，共 {n} 条", "the audit log is whole: {n} entries"),
            Err(seq) => say!(
                "审计日志从第 {seq} 条起对不上：有记录被改动或删除。请保留现场，并与备份比对",
                "the audit log does not fit from entry {seq} on: something was changed or removed. Keep everything as it is and compare with a backup"
            ),
        });
    }
    Ok(if found.is_ok() { Ended::Done } else { Ended::NotGood })
}
