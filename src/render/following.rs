//! The site's templates as they are now: read again when a file of theirs changed.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Mutex;

use jiff::tz::TimeZone;

use super::messages::{Medium, Messages};

/// What tells one state of the folder from another: each template's name, time of
/// change (seconds, nanoseconds), size and inode.
type Stamp = Vec<(PathBuf, i64, i64, u64, u64)>;

/// Templates that follow their folder.
pub struct Following {
    folder: PathBuf,
    zone: TimeZone,
    held: Mutex<(Stamp, Messages)>,
}

impl Following {
    /// Begins with `loaded`, read from the site's `folder` before.
    #[must_use]
    pub fn new(folder: PathBuf, zone: TimeZone, loaded: Messages) -> Self {
        // The first look reads them again: they may have changed since they were loaded.
        let never = vec![(PathBuf::new(), -1, -1, 0, 0)];
        Self { folder, zone, held: Mutex::new((never, loaded)) }
    }

    /// The templates of now. While one in the folder is not sound, the last sound ones:
    /// an alert does not wait for a template of another kind that is being written, and
    /// nothing new can be approved meanwhile.
    #[must_use]
    pub fn current(&self) -> Messages {
        let mut held = self.held.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let stamp = self.stamp();
        if stamp != held.0 {
            match Messages::load(Some(&self.folder), &self.zone) {
                Ok(messages) => held.1 = messages,
                Err(error) => tracing::error!(%error, "a template is not sound; the last sound ones stay in use"),
            }
            held.0 = stamp;
        }
        held.1.clone()
    }

    fn stamp(&self) -> Stamp {
        let folders = Medium::TEXTS.iter().map(|m| self.folder.join(m.folder()));
        let mut stamp: Stamp = folders
            .filter_map(|folder| std::fs::read_dir(folder).ok())
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let of = std::fs::metadata(entry.path()).ok()?;
                Some((entry.path(), of.mtime(), of.mtime_nsec(), of.size(), of.ino()))
            })
            .collect();
        stamp.sort();
        stamp
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::item::{Content, ItemKind};
    use crate::render::compose::{Composer, Sender};

    fn text(messages: &Messages) -> String {
        let sender = Sender { name: "某局", phone: "12345", signature: "", mark: "" };
        let content = Content { title: "停水".into(), ..Content::new(ItemKind::Notice) };
        let mut composer = Composer::new(messages, Medium::Sms, &content, &sender).unwrap();
        composer.text(serde_json::Value::Null).unwrap().text.to_string()
    }

    #[test]
    fn a_changed_template_holds_at_once_and_a_broken_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let loaded = Messages::load(Some(dir.path()), &TimeZone::UTC).unwrap();
        let following = Following::new(dir.path().to_owned(), TimeZone::UTC, loaded);
        let shipped = text(&following.current());
        std::fs::create_dir(dir.path().join("sms")).unwrap();
        let file = dir.path().join("sms/notice.hbs");
        std::fs::write(&file, "甲：{{item.title}}").unwrap();
        assert!(text(&following.current()).starts_with("甲：停水"));
        std::fs::write(&file, "乙：{{item.title}}").unwrap();
        assert!(text(&following.current()).starts_with("乙：停水"));
        std::fs::write(&file, "丙：{{item.titel}}").unwrap();
        assert!(text(&following.current()).starts_with("乙：停水"));
        std::fs::remove_file(&file).unwrap();
        assert_eq!(text(&following.current()), shipped);
    }
}
