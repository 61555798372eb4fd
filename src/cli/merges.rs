//! `gong merges`: duplicates found by rule, joined, and taken apart again.

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Context, Ended, output};
use crate::app::App;
use crate::say;
use crate::store::merges::MergeRule;
use crate::store::operators::{Operator, Role};

/// Pairs joined in one transaction.
const CHUNK: i64 = 2_000;

/// Duplicate recipients: found by rule, joined, and taken apart again.
#[derive(Debug, Args)]
#[command(after_help = "\
gong merges find --rule name+phone
gong merges apply --rule name+phone
gong merges list
gong merges undo 17")]
pub struct MergesArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Lists pairs that a rule calls the same.
    #[command(after_help = "gong merges find --rule name+phone")]
    Find {
        /// name+phone or name+born+region.
        #[arg(long, value_parser = rule)]
        rule: MergeRule,
        /// Pairs listed at most.
        #[arg(long, default_value_t = 100)]
        limit: i64,
    },
    /// Joins them: the one known longest keeps the groups and addresses of both.
    #[command(after_help = "gong merges apply --rule name+born+region")]
    Apply {
        /// name+phone or name+born+region.
        #[arg(long, value_parser = rule)]
        rule: MergeRule,
    },
    /// Lists merges, newest first.
    #[command(after_help = "gong merges list --limit 20")]
    List {
        /// Merges listed at most.
        #[arg(long, default_value_t = 100)]
        limit: i64,
    },
    /// Takes merges back.
    #[command(after_help = "gong merges undo 17 18")]
    Undo {
        /// Numbers of merges.
        #[arg(value_name = "NO", required = true)]
        numbers: Vec<i64>,
    },
}

fn rule(text: &str) -> Result<MergeRule, String> {
    MergeRule::parse(text)
        .ok_or_else(|| say!("应为 name+phone 或 name+born+region", "expected name+phone or name+born+region"))
}

pub(super) async fn run(context: &Context, args: MergesArgs) -> anyhow::Result<Ended> {
    let app = context.app().await?;
    let operator = context.operator(&app).await?;
    operator.need(Role::Author)?;
    let json = context.global.json;
    match args.what {
        What::Find { rule, limit } => find(&app, rule, limit, json).await?,
        What::Apply { rule } => apply(&app, &operator, rule, json).await?,
        What::List { limit } => list(&app, limit, json).await?,
        What::Undo { numbers } => {
            let undone = app.store.undo_merges(&numbers).await?;
            app.store.note_act(&operator.name, "undo merges", "recipients", &json!({ "merges": numbers })).await?;
            if json {
                output::json(&json!({ "undone": undone }))?;
            } else {
                output::line(say!("撤销了 {undone} 个合并", "{undone} merges taken back"));
            }
        }
    }
    Ok(Ended::Done)
}

async fn find(app: &App, rule: MergeRule, limit: i64, json: bool) -> anyhow::Result<()> {
    let pairs = app.store.find_duplicates(rule, limit).await?;
    if json {
        let pairs: Vec<_> = pairs.iter().map(|p| json!({ "kept": p.kept, "merged": p.merged })).collect();
        return output::json(&json!({ "rule": rule.as_str(), "pairs": pairs }));
    }
    let mut table = output::table(&[say!("保留", "kept"), say!("重复", "duplicate")]);
    for pair in &pairs {
        table.add_row([pair.kept.to_string(), pair.merged.to_string()]);
    }
    output::line(table);
    let (n, rule) = (pairs.len(), rule.as_str());
    output::note(say!(
        "{n} 对（对象编号）。合并：gong merges apply --rule {rule}",
        "{n} pairs (numbers of recipients). To join them: gong merges apply --rule {rule}"
    ));
    Ok(())
}

async fn apply(app: &App, operator: &Operator, rule: MergeRule, json: bool) -> anyhow::Result<()> {
    let mut merged = 0;
    loop {
        let pairs = app.store.find_duplicates(rule, CHUNK).await?;
        let numbers = app.store.merge(&pairs, rule, &operator.name).await?;
        if numbers.is_empty() {
            break;
        }
        merged += numbers.len();
    }
    if merged > 0 {
        let detail = json!({ "rule": rule.as_str(), "merges": merged });
        app.store.note_act(&operator.name, "merge", "recipients", &detail).await?;
    }
    if json {
        return output::json(&json!({ "rule": rule.as_str(), "merged": merged }));
    }
    output::line(say!("合并了 {merged} 个重复的对象", "{merged} duplicates joined"));
    Ok(())
}

async fn list(app: &App, limit: i64, json: bool) -> anyhow::Result<()> {
    let merges = app.store.merges(limit).await?;
    if json {
        return output::json(&merges);
    }
    let headings = [
        say!("编号", "no"),
        say!("保留", "kept"),
        say!("重复", "duplicate"),
        say!("规则", "rule"),
        say!("时间", "at"),
        say!("操作员", "operator"),
        say!("状态", "state"),
    ];
    let (mut table, zone) = (output::table(&headings), app.config.zone()?);
    for m in merges {
        let at = jiff::Timestamp::from_millisecond(m.at)?.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M").to_string();
        let state = if m.undone_at.is_some() { say!("已撤销", "undone") } else { say!("有效", "in force") };
        let no = |n: i64| n.to_string();
        table.add_row([no(m.no), no(m.kept_no), no(m.merged_no), m.rule, at, m.operator, state]);
    }
    output::line(table);
    Ok(())
}
