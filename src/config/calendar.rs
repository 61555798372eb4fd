//! The calendar of working days: the shipped years, and the site's own over them.

use std::path::Path;

use super::Config;
use crate::domain::calendar::{Calendar, CalendarError};

const SHIPPED: &str = include_str!("../../templates/calendar/cn.json");

/// Why there is no calendar.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {why}")]
pub struct CalendarFileError {
    pub file: String,
    #[source]
    pub why: CalendarFault,
}

/// What is wrong with the file.
#[derive(Debug, thiserror::Error)]
pub enum CalendarFault {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Content(#[from] CalendarError),
}

impl Config {
    /// The shipped calendar, with each year that a file of the site's
    /// `templates/calendar/` names in place of the shipped one. Read anew each time, so
    /// that a new year needs neither a rebuild nor a restart.
    ///
    /// # Errors
    /// The file that is wrong, and how.
    pub fn calendar(&self) -> Result<Calendar, CalendarFileError> {
        let said = |file: String| move |why: CalendarFault| CalendarFileError { file, why };
        let mut calendar =
            Calendar::parse(SHIPPED).map_err(|e| said("templates/calendar/cn.json".to_owned())(e.into()))?;
        let folder = self.path(Path::new("templates/calendar"));
        let Ok(entries) = std::fs::read_dir(&folder) else { return Ok(calendar) };
        let mut files: Vec<_> = entries.flatten().map(|e| e.path()).collect();
        files.retain(|f| f.extension().is_some_and(|e| e == "json"));
        files.sort();
        for file in files {
            let wrong = said(file.display().to_string());
            let read = std::fs::read_to_string(&file).map_err(CalendarFault::from);
            calendar.replace(read.and_then(|text| Ok(Calendar::parse(&text)?)).map_err(wrong)?);
        }
        Ok(calendar)
    }
}
