//! Sheets for notice boards: printed into a folder, the print queue, from where people
//! print and hang them.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::registry::{Parts, RegistryError};
use super::{Callback, CallbackError, Channel, Class, Intake, Limits, Outcome, Outgoing, Target};
use crate::render::Medium;
use crate::sheet::{Document, Press, PressError, Printed, Wants};

/// How the ledger's word begins for a sheet that lacks characters; code points follow.
pub const MISSING: &str = "missing glyphs:";
/// Code points named in the ledger at most.
const NAMED: usize = 20;

/// A print queue.
pub struct Board {
    limits: Limits,
    folder: PathBuf,
    press: Press,
}

impl Board {
    pub(super) fn build(mut parts: Parts<'_>) -> Result<Self, RegistryError> {
        let lacking = || RegistryError::Lacking { channel: parts.name.to_owned(), field: "vars.folder".to_owned() };
        let folder = parts.vars.remove("folder").ok_or_else(lacking)?;
        Ok(Self { limits: parts.limits, folder: parts.site.base_dir.join(folder), press: parts.site.press.clone() })
    }

    async fn print(&self, out: &Outgoing) -> Outcome {
        let document: Document = match serde_json::from_str(&out.text) {
            Ok(document) => document,
            Err(error) => return failed(Class::Permanent, format!("no sheet: {error}")),
        };
        let printed = match self.press.print(&document, Wants { jpg: true }).await {
            Ok(printed) => printed,
            Err(PressError::Process(why)) => return failed(Class::Temporary, format!("press: {why}")),
            Err(PressError::NotBuilt) => return failed(Class::Misconfigured, "built without sheets".to_owned()),
            // Whatever is wrong is so for every sheet: a layout, the fonts.
            Err(error) => return failed(Class::Misconfigured, format!("press: {error}")),
        };
        let code = word(&printed.missing);
        if !printed.missing.is_empty() {
            tracing::warn!(code, "a sheet lacks characters that no font has; add a font, then run: gong sheets");
        }
        let stem = self.folder.join(&*out.to);
        match tokio::task::spawn_blocking(move || keep(&stem, &printed)).await {
            Ok(Ok(_)) => Outcome::Accepted { gateway_ids: Vec::new(), code },
            Ok(Err(error)) => failed(Class::Temporary, format!("cannot write: {}", error.kind())),
            Err(error) => failed(Class::Temporary, error.to_string()),
        }
    }
}

impl Channel for Board {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn target(&self) -> Target {
        Target::Point
    }

    fn medium(&self) -> Medium {
        Medium::Sheet
    }

    fn send<'a>(&'a self, batch: &'a [Outgoing]) -> BoxFuture<'a, Vec<Outcome>> {
        async move {
            let mut outcomes = Vec::with_capacity(batch.len());
            for out in batch {
                outcomes.push(self.print(out).await);
            }
            outcomes
        }
        .boxed()
    }

    fn receipts(&self, _: &Callback<'_>) -> Result<Intake, CallbackError> {
        Err(CallbackError::NotTaken)
    }
}

fn failed(class: Class, code: String) -> Outcome {
    Outcome::Failed { class, code, retry_after: None }
}

/// What the ledger says of a printed sheet.
#[must_use]
pub fn word(missing: &[char]) -> String {
    if missing.is_empty() {
        return "printed".to_owned();
    }
    let named: Vec<String> = missing.iter().take(NAMED).map(|c| format!("U+{:04X}", u32::from(*c))).collect();
    format!("{MISSING} {}", named.join(" "))
}

/// Writes a printed document as `STEM.pdf` and, where there is a picture, `STEM.jpg`,
/// each whole or not at all; what was there before is replaced. Blocking. Returns the
/// paths.
pub fn keep(stem: &Path, printed: &Printed) -> std::io::Result<Vec<PathBuf>> {
    let folder = stem.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut kept = Vec::new();
    for (extension, bytes) in [("pdf", Some(&printed.pdf)), ("jpg", printed.jpg.as_ref())] {
        let Some(bytes) = bytes else { continue };
        // `with_extension` would cut a title at its last full stop.
        let mut path = stem.as_os_str().to_owned();
        path.push(format!(".{extension}"));
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(bytes)?;
        // What hangs in public is no secret, and another account may do the printing.
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
        file.as_file().sync_all()?;
        file.persist(&path)?;
        kept.push(path.into());
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sheet_is_kept_whole_and_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let stem = dir.path().join("3-通知/河口镇-v1.5");
        let printed = Printed { pdf: b"%PDF-1".to_vec(), jpg: Some(b"jpg".to_vec()), ..Printed::default() };
        let kept = keep(&stem, &printed).unwrap();
        assert_eq!(kept.len(), 2);
        assert!(kept[0].ends_with("河口镇-v1.5.pdf"), "{kept:?}");
        keep(&stem, &Printed { pdf: b"%PDF-2".to_vec(), ..Printed::default() }).unwrap();
        assert_eq!(std::fs::read(&kept[0]).unwrap(), b"%PDF-2");
        assert_eq!(std::fs::read_dir(stem.parent().unwrap()).unwrap().count(), 2, "a temporary file stayed behind");
        assert_eq!(std::fs::metadata(&kept[0]).unwrap().permissions().mode() & 0o777, 0o644);
    }

    #[test]
    fn the_ledger_names_what_no_font_has() {
        assert_eq!(word(&[]), "printed");
        assert_eq!(word(&['㙍', '𠀀']), "missing glyphs: U+364D U+20000");
    }
}
