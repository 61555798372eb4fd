//! `gong completions`: what a shell needs to complete this command line.

use clap::Args;
use clap_complete::Shell;

use super::{Ended, locale, output};

/// Prints the completions of a shell.
#[derive(Debug, Args)]
#[command(after_help = "gong completions bash > ~/.local/share/bash-completion/completions/gong\n\
                        gong completions zsh > ~/.zfunc/_gong")]
pub struct CompletionsArgs {
    /// bash, elvish, fish, powershell or zsh.
    shell: Shell,
}

pub(super) fn run(args: &CompletionsArgs) -> anyhow::Result<Ended> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut locale::command(), "gong", &mut script);
    output::line(String::from_utf8(script)?.trim_end());
    Ok(Ended::Done)
}
