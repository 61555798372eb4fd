//! `[alarm]`: whom gong tells that the sending itself is in trouble, and when. The
//! settings stand beside their owner, `dispatch::alarm`.

use super::{Config, ConfigError};
use crate::dispatch::alarm::AlarmLimits;
use crate::say;

impl Config {
    /// How long each thing may last before it is told.
    pub fn alarm_limits(&self) -> Result<AlarmLimits, ConfigError> {
        self.alarm.limits().map_err(|(field, value)| ConfigError::Value {
            field,
            value,
            expected: say!("时长，如 10m", "a time such as 10m"),
        })
    }
}
