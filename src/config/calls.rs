//! `[calls]`: which dispatches call duty officers (叫应), how, and how patiently.

use serde::Deserialize;

use super::{Config, ConfigError};
use crate::domain::item::{Content, ItemKind, Level};
use crate::domain::plan::{Plan, Step, parse_duration};
use crate::say;

/// `[calls]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CallsConfig {
    pub channel: String,
    /// Before the next officer is asked.
    pub wait: String,
    /// How many are asked in turn.
    pub officers: usize,
    /// Alerts of these levels.
    pub levels: Vec<Level>,
    pub transfer_orders: bool,
}

impl Default for CallsConfig {
    fn default() -> Self {
        Self {
            channel: "sms".to_owned(),
            wait: "10m".to_owned(),
            officers: 3,
            levels: vec![Level::Red, Level::Orange],
            transfer_orders: true,
        }
    }
}

impl CallsConfig {
    /// Whether duty officers must confirm what an item says. A lift needs no answer.
    #[must_use]
    pub fn are_for(&self, content: &Content) -> bool {
        let wanted = match content.kind {
            ItemKind::Alert => content.level.is_some_and(|level| self.levels.contains(&level)),
            ItemKind::TransferOrder => self.transfer_orders,
            _ => false,
        };
        wanted && !content.ends_another()
    }
}

impl Config {
    /// The plan of a call: one officer a village after the other.
    pub fn call_plan(&self) -> Result<Plan, ConfigError> {
        let calls = &self.calls;
        let wait = parse_duration(&calls.wait).filter(|wait| *wait > 0).ok_or_else(|| ConfigError::Value {
            field: "calls.wait",
            value: calls.wait.clone(),
            expected: say!("时长，如 10m", "a time such as 10m"),
        })?;
        if !(1..=9).contains(&calls.officers) {
            return Err(ConfigError::Value {
                field: "calls.officers",
                value: calls.officers.to_string(),
                expected: say!("1 到 9", "1 to 9"),
            });
        }
        Ok(Plan { steps: vec![Step { channels: vec![calls.channel.clone()], wait }; calls.officers] })
    }

    /// The address under which people outside reach this site, where one is configured:
    /// the one it listens on by default is this machine's alone.
    #[must_use]
    pub fn open_url(&self) -> Option<String> {
        self.server.public_url.is_some().then(|| self.public_url())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::item::Relation;

    #[test]
    fn grave_alerts_and_transfer_orders_call() {
        let calls = CallsConfig::default();
        let mut alert = Content::new(ItemKind::Alert);
        assert!(!calls.are_for(&alert));
        alert.level = Some(Level::Orange);
        assert!(calls.are_for(&alert));
        alert.relations.push((Relation::Lifts, "1".into()));
        assert!(!calls.are_for(&alert), "a lift");
        assert!(calls.are_for(&Content::new(ItemKind::TransferOrder)));
        assert!(!calls.are_for(&Content::new(ItemKind::Notice)));
    }

    #[test]
    fn a_call_asks_one_officer_after_the_other() {
        let mut config = Config::default();
        assert_eq!(config.call_plan().unwrap().to_string(), "sms > 10m > sms > 10m > sms");
        config.calls.officers = 0;
        assert!(config.call_plan().is_err());
        config.calls = CallsConfig { wait: "soon".into(), ..CallsConfig::default() };
        assert!(config.call_plan().is_err());
    }
}
