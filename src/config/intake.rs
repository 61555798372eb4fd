//! `[intake]`: which other systems hand items in over the broker, and who answers for
//! what they hand in.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Config, ConfigError};
use crate::say;

/// `[intake]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IntakeConfig {
    /// KiB of a message.
    pub max_kb: usize,
    pub sources: BTreeMap<String, SourceConfig>,
}

impl Default for IntakeConfig {
    fn default() -> Self {
        Self { max_kb: 1_024, sources: BTreeMap::new() }
    }
}

/// `[intake.sources.NAME]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// The operator who answers for its items, and by that the unit.
    pub operator: String,
    /// The broker's user it publishes as, where that is not its name. Empty: any user may
    /// say to be this source.
    pub user: Option<String>,
}

impl IntakeConfig {
    /// The source that a message comes from: the one it names, or the one of its user.
    /// `None` where the message does not prove it.
    #[must_use]
    pub fn source(&self, named: Option<&str>, user: Option<&str>) -> Option<(&str, &SourceConfig)> {
        let mut all = self.sources.iter().map(|(name, source)| (name.as_str(), source));
        let its_user =
            |(name, source): &(&str, &SourceConfig)| source.user.clone().unwrap_or_else(|| (*name).to_owned());
        match named {
            Some(named) => all
                .find(|(name, _)| *name == named)
                .filter(|source| its_user(source).is_empty() || user == Some(its_user(source).as_str())),
            None => all.find(|source| !its_user(source).is_empty() && user == Some(its_user(source).as_str())),
        }
    }
}

impl Config {
    /// Every source has somebody who answers for it.
    pub(super) fn check_intake(&self) -> Result<(), ConfigError> {
        match self.intake.sources.iter().find(|(_, source)| source.operator.trim().is_empty()) {
            None => Ok(()),
            Some((name, _)) => Err(ConfigError::Value {
                field: "intake.sources.*.operator",
                value: String::new(),
                expected: say!(
                    "为来源 {name} 负责的操作员姓名",
                    "the name of the operator who answers for the source {name}"
                ),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_known_by_its_user_and_never_by_its_word_alone() {
        let source =
            |user: Option<&str>| SourceConfig { operator: "气象接口".to_owned(), user: user.map(str::to_owned) };
        let sources = [("weather", None), ("police", Some("mq-police")), ("lab", Some(""))];
        let sources = sources.map(|(name, user)| (name.to_owned(), source(user)));
        let intake = IntakeConfig { sources: sources.into(), ..IntakeConfig::default() };
        for (named, user, found) in [
            (None, Some("weather"), Some("weather")),
            (Some("weather"), Some("weather"), Some("weather")),
            (Some("weather"), None, None),
            (Some("weather"), Some("mq-police"), None),
            (None, Some("mq-police"), Some("police")),
            (Some("police"), Some("police"), None),
            (Some("lab"), None, Some("lab")),
            (Some("lab"), Some("anyone"), Some("lab")),
            (None, Some(""), None),
            (None, None, None),
            (Some("nobody"), Some("nobody"), None),
        ] {
            assert_eq!(intake.source(named, user).map(|(name, _)| name), found, "{named:?} {user:?}");
        }
    }
}
