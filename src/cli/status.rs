//! `gong status`.

use super::{Context, Ended};

#[derive(Debug, clap::Args)]
pub struct StatusArgs {}

pub(super) async fn run(_context: &Context, _args: StatusArgs) -> anyhow::Result<Ended> {
    Ok(Ended::Done)
}
