//! `gong plan`.

use super::{Context, Ended};

#[derive(Debug, clap::Args)]
pub struct PlanArgs {}

pub(super) async fn run(_context: &Context, _args: PlanArgs) -> anyhow::Result<Ended> {
    Ok(Ended::Done)
}
