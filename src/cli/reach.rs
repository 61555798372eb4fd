//! `gong reach`: whom a dispatch reached.

use std::path::PathBuf;

use clap::Args;

use super::reach_view::{self, By};
use super::{Context, Ended, output};
use crate::say;

/// Shows whom a dispatch reached, as people, households, regions and channels.
#[derive(Debug, Args)]
#[command(after_help = "\
gong reach 3
gong reach 3 --by village
gong reach 3 --csv 到达情况.csv
gong reach 3 --by town --csv -
gong reach 3 --json")]
pub struct ReachArgs {
    /// Number or id of the dispatch.
    #[arg(value_name = "DISPATCH")]
    dispatch: String,
    /// One table alone.
    #[arg(long, value_enum)]
    by: Option<By>,
    /// Writes CSV to a file, or to standard output with `-`.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
}

pub(super) async fn run(context: &Context, args: ReachArgs) -> anyhow::Result<Ended> {
    let app = context.app().await?;
    let dispatch = app.store.dispatch(&args.dispatch).await?;
    let kinds = app.channel_kinds().await?;
    let report = app.store.reach(dispatch.no, &kinds, app.store.now()).await?;
    if context.global.json {
        output::json(&report)?;
        return Ok(Ended::Done);
    }
    let Some(to) = args.csv else {
        output::line(args.by.map_or_else(|| reach_view::table(&report), |by| reach_view::table_by(&report, by)));
        return Ok(Ended::Done);
    };
    let report = match args.by {
        Some(by) => reach_view::narrow(report, by),
        None => report,
    };
    let mut out = output::sheet(&to)?;
    out.write_all(reach_view::csv(&report).as_bytes())?;
    out.flush()?;
    if to.as_os_str() != "-" {
        let to = to.display();
        output::note(say!("已写入 {to}", "written to {to}"));
    }
    Ok(Ended::Done)
}
