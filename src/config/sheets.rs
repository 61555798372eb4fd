//! `[sheets]`: what sheets are printed with.

use std::path::PathBuf;

use serde::Deserialize;

use super::Config;
use crate::sheet::PressSettings;

/// `[sheets]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SheetsConfig {
    /// Font files or folders, beside the site's `fonts/` and the system's.
    pub fonts: Vec<PathBuf>,
    /// Printing processes at most.
    pub workers: usize,
}

impl Default for SheetsConfig {
    fn default() -> Self {
        Self { fonts: Vec::new(), workers: 1 }
    }
}

impl Config {
    /// What sheets are printed with: the site's layouts and fonts before any other.
    #[must_use]
    pub fn press(&self) -> PressSettings {
        let mut fonts = vec![self.path("fonts".as_ref())];
        fonts.extend(self.sheets.fonts.iter().map(|f| self.path(f)));
        if let Some(home) = std::env::home_dir() {
            fonts.extend([home.join(".fonts"), home.join(".local/share/fonts")]);
        }
        let templates = Some(self.path("templates".as_ref()));
        PressSettings { templates, fonts, workers: self.sheets.workers, ..PressSettings::default() }
    }
}
