//! `gong unreached`: the members that nobody is known to have informed, and why.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::{Context, Ended, output, reach_view};
use crate::app::App;
use crate::domain::reach::ChannelKinds;
use crate::say;
use crate::store::operators::Role;
use crate::store::reach::UnreachedRow;

/// Members read at a time.
const PAGE: i64 = 5_000;

/// Lists whom a dispatch did not reach and why, as CSV: the door-knock list.
///
/// Names and addresses are masked. `--reveal` shows them; it needs the role of a
/// dispatcher and is written into the audit log.
#[derive(Debug, Args)]
#[command(after_help = "\
gong unreached 3
gong unreached 3 --csv 未到达.csv
gong --as 王芳 unreached 3 --reveal --csv 入户名单.csv")]
pub struct UnreachedArgs {
    /// Number or id of the dispatch.
    #[arg(value_name = "DISPATCH")]
    dispatch: String,
    /// The file to write; standard output with `-` or when not given.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Shows names and addresses as they are.
    #[arg(long)]
    reveal: bool,
}

pub(super) async fn run(context: &Context, args: UnreachedArgs) -> anyhow::Result<Ended> {
    let app = context.app().await?;
    let dispatch = app.store.dispatch(&args.dispatch).await?;
    let kinds = app.channel_kinds().await?;
    if args.reveal {
        let operator = context.operator(&app).await?;
        operator.need(Role::Dispatcher)?;
        // Before the first row is shown: a broken pipe hides nothing from the log.
        let people = app.store.reach(dispatch.no, &kinds, app.store.now()).await?.people.unreached;
        let detail = json!({ "dispatch": dispatch.no, "people": people });
        app.store.note_act(&operator.name, "reveal", &dispatch.id, &detail).await?;
    }
    let to = args.csv.unwrap_or_else(|| "-".into());
    let as_json = context.global.json;
    let mut out = if as_json { output::sheet(Path::new("-"))? } else { output::sheet(&to)? };
    let from = Source { app: &app, kinds: &kinds, no: dispatch.no, reveal: args.reveal };
    let rows = if as_json { from.write_json(&mut *out).await? } else { from.write_csv(&mut *out).await? };
    out.flush()?;
    if !as_json {
        let (n, shown) = (output::number(rows), to.display());
        if to == Path::new("-") {
            output::note(say!("共 {n} 人未到达", "{n} people were not reached"));
        } else {
            output::note(say!("共 {n} 人未到达，写入 {shown}", "{n} people were not reached; written to {shown}"));
        }
        if dispatch.purged_at.is_some() {
            output::note(say!(
                "这个发布任务的个人数据已销毁，只保留汇总：gong reach",
                "the personal data of this dispatch is destroyed; the totals remain: gong reach"
            ));
        }
    }
    Ok(Ended::Done)
}

struct Source<'a> {
    app: &'a App,
    kinds: &'a ChannelKinds,
    no: i64,
    reveal: bool,
}

impl Source<'_> {
    async fn page(&self, after: i64) -> anyhow::Result<Vec<UnreachedRow>> {
        let store = &self.app.store;
        if self.reveal {
            return Ok(store.unreached_revealed(self.no, self.kinds, after, PAGE).await?);
        }
        let mut rows = store.unreached(self.no, self.kinds, after, PAGE).await?;
        for row in &mut rows {
            row.name = row.name.as_deref().map(mask);
        }
        Ok(rows)
    }

    async fn write_csv(&self, out: &mut dyn Write) -> anyhow::Result<i64> {
        out.write_all(reach_view::csv_row_head(!self.reveal).as_bytes())?;
        let (mut after, mut n) = (0, 0);
        loop {
            let page = self.page(after).await?;
            let Some(last) = page.last() else { return Ok(n) };
            after = last.ordinal;
            for row in &page {
                out.write_all(reach_view::csv_row(row).as_bytes())?;
                n += 1;
            }
        }
    }

    /// One JSON object whose rows are written as they are read.
    async fn write_json(&self, out: &mut dyn Write) -> anyhow::Result<i64> {
        write!(out, "{{\"dispatch_no\":{},\"masked\":{},\"rows\":[", self.no, !self.reveal)?;
        let (mut after, mut n) = (0, 0);
        loop {
            let page = self.page(after).await?;
            let Some(last) = page.last() else { break };
            after = last.ordinal;
            for row in &page {
                let comma = if n > 0 { "," } else { "" };
                let row = json!({ "ordinal": row.ordinal, "recipient_no": row.recipient_no, "name": row.name, "region": row.region,
                    "household_no": row.household_no, "away": row.away, "reason": row.reason, "channel": row.channel, "address": row.address });
                write!(out, "{comma}{row}")?;
                n += 1;
            }
        }
        writeln!(out, "],\"unreached\":{n}}}")?;
        Ok(n)
    }
}

/// The family name, or the first letter: `张*`.
fn mask(name: &str) -> String {
    let stars = name.chars().count().saturating_sub(1).clamp(1, 2);
    name.chars().take(1).chain(std::iter::repeat_n('*', stars)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_first_character() {
        assert_eq!(mask("张三"), "张*");
        assert_eq!(mask("欧阳小明"), "欧**");
        assert_eq!(mask("李"), "李*");
    }
}
