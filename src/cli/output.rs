//! What commands print: to people on a terminal, or as JSON to programs.

#![allow(clippy::print_stdout, clippy::print_stderr)] // the one place that prints

use std::fs::File;
use std::io::{BufWriter, IsTerminal as _, Write};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{ContentArrangement, Table};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::domain::plan::PlanError;
use crate::render::RenderError;
use crate::say;
use crate::store::StoreError;

mod causes;

/// Prints a line to standard output. A reader that has left (`| head`) is no fault.
pub fn line(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints a note to standard error: advice, progress, the next step.
pub fn note(text: impl std::fmt::Display) {
    eprintln!("{text}");
}

/// Prints a value as JSON on one line.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    line(serde_json::to_string(value)?);
    Ok(())
}

/// A table with headings, as wide as the terminal.
#[must_use]
pub fn table(headings: &[String]) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic).set_header(headings);
    if !std::io::stdout().is_terminal() {
        table.set_width(160);
    }
    table
}

/// Whether people watch: progress bars and colours only then.
#[must_use]
pub fn is_watched() -> bool {
    std::io::stderr().is_terminal()
}

/// A bar over the bytes of a file; it stays hidden where nobody watches.
#[must_use]
pub fn bytes_bar(total: u64) -> ProgressBar {
    if !is_watched() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {eta}");
    ProgressBar::new(total).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Standard output, which may be closed early: `gong … | head` has seen what it wanted.
struct Shown(std::io::Stdout);

impl Write for Shown {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self.0.write(bytes) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(bytes.len()),
            other => other,
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self.0.flush() {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }
}

/// Where a CSV goes: standard output for `-`; else a file that only its owner reads,
/// with a byte-order mark, without which Excel takes Chinese for something else.
pub fn sheet(to: &Path) -> anyhow::Result<Box<dyn Write>> {
    if to == Path::new("-") {
        return Ok(Box::new(BufWriter::new(Shown(std::io::stdout()))));
    }
    let open = || -> std::io::Result<File> {
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(to)?;
        // One that was there before keeps its mode otherwise.
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        file.write_all("\u{feff}".as_bytes())?;
        Ok(file)
    };
    Ok(Box::new(BufWriter::new(open().with_context(|| to.display().to_string())?)))
}

/// Writes a file that only its owner reads.
pub fn private(to: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let write = || -> std::io::Result<()> {
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(to)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        file.write_all(bytes)
    };
    write().with_context(|| to.display().to_string())
}

/// A mistake in the command line that clap cannot see.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Misused(pub String);

/// Prints an error and says which exit code it is: 3 where a rule refused, 2 for a
/// mistake in the command line, else 1.
pub fn failed(error: &anyhow::Error, as_json: bool) -> ExitCode {
    let refused = is_refusal(error);
    let message = causes::told(error);
    if as_json {
        println!("{}", serde_json::json!({ "error": message, "refused": refused }));
    }
    let prefix = say!("错误", "error");
    eprintln!("{prefix}: {message}");
    ExitCode::from(match (refused, error.is::<Misused>()) {
        (true, _) => 3,
        (_, true) => 2,
        _ => 1,
    })
}

/// A rule refused it, or the item or the list lacks what the text needs: nothing is
/// wrong with the program or the site.
fn is_refusal(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<StoreError>(), Some(StoreError::Refused(_)))
        || error.is::<PlanError>()
        || matches!(
            error.downcast_ref::<RenderError>(),
            Some(RenderError::Missing { .. } | RenderError::Unknown { .. } | RenderError::Failed { .. })
        )
}

/// A number with thousands separators.
#[must_use]
pub fn number(n: i64) -> String {
    let digits = n.unsigned_abs().to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if n < 0 { format!("-{out}") } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_in_thousands() {
        assert_eq!(number(0), "0");
        assert_eq!(number(999), "999");
        assert_eq!(number(1_234_567), "1,234,567");
        assert_eq!(number(-1_000), "-1,000");
    }
}
