//! `gong replies`: what people answered.

use clap::{Args, ValueEnum};
use serde_json::json;

use super::words::when;
use super::{Context, Ended, output};
use crate::domain::calls::Meaning;
use crate::domain::recipient::{Phone, masked};
use crate::say;
use crate::store::operators::Role;

/// Shows what people answered by SMS, newest first; numbers are masked.
///
/// `--reveal` shows the numbers; it needs the role of a dispatcher and is written into
/// the audit log.
#[derive(Debug, Args)]
#[command(after_help = "gong replies\ngong replies --meaning other --limit 100\ngong --as 李四 replies --reveal")]
pub struct RepliesArgs {
    /// Only those taken for this.
    #[arg(long, value_enum)]
    meaning: Option<Taken>,
    /// Replies listed at most.
    #[arg(long, default_value_t = 50)]
    limit: i64,
    /// Shows the numbers as they are.
    #[arg(long)]
    reveal: bool,
}

/// What a reply was taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Taken {
    Confirm,
    OptOut,
    Other,
}

pub(super) async fn run(context: &Context, args: RepliesArgs) -> anyhow::Result<Ended> {
    let app = context.app().await?;
    let meaning = args.meaning.map(|m| match m {
        Taken::Confirm => Meaning::Confirm,
        Taken::OptOut => Meaning::OptOut,
        Taken::Other => Meaning::Other,
    });
    if args.reveal {
        let operator = context.operator(&app).await?;
        operator.need(Role::Dispatcher)?;
        app.store.note_act(&operator.name, "reveal", "replies", &json!({ "limit": args.limit })).await?;
    }
    let counts = app.store.count_replies().await?;
    let zone = app.config.zone()?;
    let mut rows = app.store.replies(meaning, args.limit).await?;
    for row in rows.iter_mut().filter(|_| !args.reveal) {
        row.from = Phone::mobile(&row.from).map_or_else(|| masked(&row.from), |p| p.masked());
    }
    if context.global.json {
        let list: Vec<_> = rows
            .iter()
            .map(|r| json!({ "no": r.no, "channel": r.channel, "at": r.at, "meaning": r.meaning, "from": r.from, "text": r.text }))
            .collect();
        output::json(&json!({ "counts": counts, "replies": list }))?;
        return Ok(Ended::Done);
    }
    let head = [
        say!("时间", "at"),
        say!("渠道", "channel"),
        say!("号码", "from"),
        say!("理解为", "taken for"),
        say!("内容", "text"),
    ];
    let mut table = output::table(&head);
    for r in &rows {
        table.add_row([when(r.at, &zone), r.channel.clone(), r.from.clone(), word(&r.meaning), r.text.clone()]);
    }
    output::line(table);
    let counts: Vec<String> = counts.iter().map(|c| format!("{} {}", word(&c.meaning), c.n)).collect();
    if !counts.is_empty() {
        let counts = counts.join(say!("，", ", ").as_str());
        output::line(say!("共：{counts}", "in all: {counts}"));
    }
    Ok(Ended::Done)
}

fn word(meaning: &str) -> String {
    match meaning {
        "confirm" => say!("确认", "confirmation"),
        "opt_out" => say!("退订", "opt-out"),
        _ => say!("其他", "other"),
    }
}
