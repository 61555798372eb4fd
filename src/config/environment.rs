//! The process's environment: settings, secrets, the words of the command line.

use super::{Config, ConfigError};
use crate::domain::mistake::worded;
use crate::say;

/// `GONG_SECTION__KEY` variables, as (dotted path, value). Another program's may hold any
/// bytes, as where a terminal writes GBK; one of ours must be UTF-8.
pub(super) fn environment() -> Result<Vec<(String, String)>, ConfigError> {
    let mut found = Vec::new();
    for (name, value) in std::env::vars_os() {
        let Some(path) = name.to_str().and_then(|name| name.strip_prefix("GONG_")) else { continue };
        if !path.contains("__") {
            continue;
        }
        let path = path.to_lowercase().replace("__", ".");
        let value = value
            .into_string()
            .map_err(|_| ConfigError::Env {
                name: variable(&path), why: say!("不是 UTF-8 编码", "it is not UTF-8")
            })?;
        found.push((path, value));
    }
    Ok(found)
}

/// Reads one environment variable; secrets of channels come this way.
#[must_use]
pub fn env(name: &str) -> Option<String> {
    #[allow(clippy::disallowed_methods)] // its one home
    std::env::var(name).ok()
}

/// The words of the command line, to learn its language before it is parsed.
#[must_use]
pub fn arguments() -> Vec<std::ffi::OsString> {
    std::env::args_os().collect()
}

/// The variable that sets a dotted path.
fn variable(path: &str) -> String {
    format!("GONG_{}", path.to_uppercase().replace('.', "__"))
}

/// The settings of a file with those of the environment over them.
///
/// # Errors
/// What is wrong with a variable, where the file by itself is well.
pub(super) fn overridden(file: &toml::Table, overrides: &[(String, String)]) -> Result<Config, ConfigError> {
    let table = merged(file, overrides)?;
    table.try_into().map_err(|e| ConfigError::Env { name: culprit(file, overrides), why: worded(e.message()) })
}

fn merged<'a>(
    file: &toml::Table,
    overrides: impl IntoIterator<Item = &'a (String, String)>,
) -> Result<toml::Table, ConfigError> {
    let mut table = file.clone();
    for (path, value) in overrides {
        put(&mut table, path, fitting(file, path, value))?;
    }
    Ok(table)
}

/// The variable without which all is well, or else all of them.
fn culprit(file: &toml::Table, overrides: &[(String, String)]) -> String {
    let well_without =
        |left_out: &str| merged(file, overrides.iter().filter(|(path, _)| path != left_out)).is_ok_and(is_well);
    match overrides.iter().find(|(path, _)| well_without(path)) {
        Some((path, _)) => variable(path),
        None => overrides.iter().map(|(path, _)| variable(path)).collect::<Vec<_>>().join(", "),
    }
}

fn is_well(table: toml::Table) -> bool {
    table.try_into::<Config>().is_ok()
}

/// A number, true or false, or a list stays one, unless its setting is a text: 12345 may
/// be a telephone number. Anything else is text.
fn fitting(file: &toml::Table, path: &str, value: &str) -> toml::Value {
    let text = || toml::Value::String(value.to_owned());
    let parsed = toml::from_str::<toml::Table>(&format!("v = {value}")).ok().and_then(|mut t| t.remove("v"));
    let Some(parsed) = parsed.filter(|v| !v.is_str() && !v.is_datetime()) else { return text() };
    let fits = |value: toml::Value| {
        let mut table = file.clone();
        put(&mut table, path, value).is_ok() && is_well(table)
    };
    if !fits(parsed.clone()) && fits(text()) { text() } else { parsed }
}

/// Puts a value at a dotted path.
fn put(table: &mut toml::Table, path: &str, value: toml::Value) -> Result<(), ConfigError> {
    let mut keys: Vec<&str> = path.split('.').collect();
    let Some(last) = keys.pop() else { return Ok(()) };
    let mut at = table;
    for key in keys {
        let next = at.entry(key).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        at = next.as_table_mut().ok_or_else(|| ConfigError::Env {
            name: variable(path),
            why: say!("{key} 不是一节", "{key} is not a section"),
        })?;
    }
    at.insert(last.to_owned(), value);
    Ok(())
}
