//! `gong send`.

use super::{Context, Ended};

#[derive(Debug, clap::Args)]
pub struct SendArgs {}

pub(super) async fn run(_context: &Context, _args: SendArgs) -> anyhow::Result<Ended> {
    Ok(Ended::Done)
}
