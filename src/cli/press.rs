//! `gong press`: the child process that prints; started by gong itself.

use clap::Args;

use super::Ended;
#[cfg(not(feature = "sheets"))]
use crate::sheet::PressError;

/// Reads documents from standard input and answers with pages on standard output.
#[derive(Debug, Args)]
pub struct PressArgs {}

#[cfg(feature = "sheets")]
pub(super) fn run(_args: &PressArgs) -> anyhow::Result<Ended> {
    crate::sheet::serve::serve(std::io::stdin().lock(), std::io::BufWriter::new(std::io::stdout().lock()))?;
    Ok(Ended::Done)
}

#[cfg(not(feature = "sheets"))]
pub(super) fn run(_args: &PressArgs) -> anyhow::Result<Ended> {
    Err(PressError::NotBuilt.into())
}
