//! The posts that were taken, in memory and, where asked, as a file each.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::check::Post;
use super::vendor::Vendor;
use crate::clock::Millis;

/// Posts kept in memory; files are all kept.
const KEPT: usize = 1_000;

/// A post as `GET /posts` shows it.
#[derive(Debug, Clone, Serialize)]
struct Entry {
    seq: u64,
    vendor: &'static str,
    at_ms: Millis,
    id: Option<String>,
    title: String,
    text: String,
    /// Everybody in the group is told.
    at_all: bool,
}

/// All posts.
pub struct Book {
    dir: Option<PathBuf>,
    kept: Mutex<(u64, Vec<Entry>)>,
}

impl Book {
    pub fn new(dir: Option<PathBuf>) -> std::io::Result<Self> {
        if let Some(dir) = &dir {
            std::fs::create_dir_all(dir)?;
        }
        Ok(Self { dir, kept: Mutex::default() })
    }

    /// Keeps a post, and writes its file: the text, or of a webhook the JSON.
    pub async fn keep(&self, post: Post, now: Millis) {
        let seq = {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let (seq, all) = &mut *kept;
            *seq += 1;
            if all.len() == KEPT {
                all.remove(0);
            }
            all.push(Entry {
                seq: *seq,
                vendor: post.vendor.name(),
                at_ms: now,
                id: post.id,
                title: post.title,
                text: post.text.clone(),
                at_all: post.at_all,
            });
            *seq
        };
        let Some(dir) = &self.dir else { return };
        let (end, content) = match post.vendor {
            Vendor::Webhook => ("json", post.body),
            _ => ("txt", post.text + "\n"),
        };
        let path = dir.join(format!("{seq:04}-{}.{end}", post.vendor.name()));
        if let Err(error) = tokio::fs::write(&path, content).await {
            tracing::error!(%error, path = %path.display(), "a post cannot be written to its file");
        }
    }

    pub fn json(&self) -> String {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        serde_json::to_string(&kept.1).unwrap_or_default()
    }

    pub fn reset(&self) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = (0, Vec::new());
    }
}
