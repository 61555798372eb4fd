//! The process's environment: settings, secrets, the words of the command line.

use super::ConfigError;
use crate::say;

/// `GONG_SECTION__KEY` variables, as (dotted path, value).
pub(super) fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars().filter_map(|(name, value)| {
        let path = name.strip_prefix("GONG_")?;
        path.contains("__").then(|| (path.to_lowercase().replace("__", "."), value))
    })
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

/// Puts a value at a dotted path.
pub(super) fn set(table: &mut toml::Table, path: &str, value: &str) -> Result<(), ConfigError> {
    let wrong =
        |why: String| ConfigError::Env { name: format!("GONG_{}", path.to_uppercase().replace('.', "__")), why };
    let mut keys: Vec<&str> = path.split('.').collect();
    let Some(last) = keys.pop() else { return Ok(()) };
    let mut at = table;
    for key in keys {
        let next = at.entry(key).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        at = next.as_table_mut().ok_or_else(|| wrong(say!("{key} 不是一节", "{key} is not a section")))?;
    }
    // A number or true/false stays one; anything else is text.
    let parsed = toml::from_str::<toml::Table>(&format!("v = {value}")).ok().and_then(|mut t| t.remove("v"));
    let value =
        parsed.filter(|v| !v.is_str() && !v.is_datetime()).unwrap_or_else(|| toml::Value::String(value.to_owned()));
    at.insert(last.to_owned(), value);
    Ok(())
}
