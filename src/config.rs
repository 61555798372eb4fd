//! The configuration of a site: one TOML file, its defaults, and the environment.
//!
//! Each part is defined beside its owner; this file only composes them. Every
//! default stands, commented, in `templates/gong.toml`, which `gong init` writes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::civil::Time;
use jiff::tz::TimeZone;
use serde::Deserialize;

use crate::channel::registry::ChannelSettings;
use crate::clock::Millis;
use crate::dispatch::alarm::AlarmSettings;
use crate::dispatch::retry::RetrySettings;
use crate::domain::audience::Attributes;
use crate::domain::plan::{Plan, parse_duration};
use crate::domain::quiet::QuietHours;
use crate::lang::Lang;
use crate::queue::QueueSettings;
use crate::say;

mod alarm;
mod calendar;
mod calls;
mod environment;
mod intake;
mod sheets;

pub use calendar::{CalendarFault, CalendarFileError};
pub use calls::CallsConfig;
pub use environment::{arguments, env};
use environment::{environment, set};
pub use intake::{IntakeConfig, SourceConfig};
pub use sheets::SheetsConfig;

/// The file `gong init` writes, with every default in a comment.
pub const TEMPLATE: &str = include_str!("../templates/gong.toml");

/// A site's settings.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub site: SiteConfig,
    pub store: StoreConfig,
    pub queue: QueueSettings,
    pub intake: IntakeConfig,
    pub server: ServerConfig,
    pub review: ReviewConfig,
    pub quiet_hours: QuietConfig,
    pub plans: PlansConfig,
    pub calls: CallsConfig,
    pub retry: RetrySettings,
    pub disk: DiskConfig,
    pub sheets: SheetsConfig,
    pub alarm: AlarmSettings,
    pub log: LogConfig,
    pub attributes: Attributes,
    pub channels: BTreeMap<String, ChannelSettings>,
    /// The folder of the file: what relative paths are relative to.
    #[serde(skip)]
    pub base: PathBuf,
}

/// `[site]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SiteConfig {
    pub name: String,
    pub phone: String,
    pub timezone: String,
    pub lang: String,
}

impl Default for SiteConfig {
    fn default() -> Self {
        Self { name: String::new(), phone: String::new(), timezone: "Asia/Shanghai".to_owned(), lang: "zh".to_owned() }
    }
}

/// `[store]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    pub url: String,
    pub key_file: PathBuf,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self { url: "sqlite:data/gong.db".to_owned(), key_file: "data/gong.key".into() }
    }
}

/// `[server]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    pub listen: String,
    pub public_url: Option<String>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self { listen: "127.0.0.1:8088".to_owned(), public_url: None }
    }
}

/// `[review]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReviewConfig {
    pub four_eyes: bool,
    pub second_signature_within: String,
}

impl Default for ReviewConfig {
    fn default() -> Self {
        Self { four_eyes: true, second_signature_within: "24h".to_owned() }
    }
}

/// `[quiet_hours]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QuietConfig {
    pub from: String,
    pub to: String,
}

impl Default for QuietConfig {
    fn default() -> Self {
        Self { from: "22:00".to_owned(), to: "07:00".to_owned() }
    }
}

/// `[plans]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlansConfig {
    pub default: String,
}

impl Default for PlansConfig {
    fn default() -> Self {
        Self { default: "sms".to_owned() }
    }
}

/// `[disk]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DiskConfig {
    /// MiB; with less free only immediate messages go out.
    pub reserve_mb: u64,
}

impl Default for DiskConfig {
    fn default() -> Self {
        Self { reserve_mb: 500 }
    }
}

/// `[log]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    pub filter: String,
    pub dir: Option<PathBuf>,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { filter: "info".to_owned(), dir: None }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{}", not_found(.0))]
    NotFound(PathBuf),
    #[error("{}: {}", .0.display(), .1)]
    Io(PathBuf, #[source] std::io::Error),
    #[error("{}: {}", .0.display(), .1)]
    Toml(PathBuf, String),
    #[error(transparent)]
    Queue(#[from] crate::queue::QueueError),
    #[error("{}", say!("环境变量 {name} 不对应任何设置：{why}", "the environment variable {name} fits no setting: {why}"))]
    Env { name: String, why: String },
    #[error("{}", say!("配置 {field} = “{value}”不对：应为{expected}", "the setting {field} = `{value}` is wrong: expected {expected}"))]
    Value { field: &'static str, value: String, expected: String },
}

fn not_found(path: &Path) -> String {
    let path = path.display();
    say!(
        "找不到配置文件 {path}。第一次使用请先执行：gong init；不在当前文件夹时用 --config 指定",
        "there is no configuration {path}. To begin, run: gong init; if it is elsewhere, name it with --config"
    )
}

impl Config {
    /// Reads `path`, then lets `GONG_SECTION__KEY` variables override it.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => ConfigError::NotFound(path.to_owned()),
            _ => ConfigError::Io(path.to_owned(), e),
        })?;
        let overrides: Vec<(String, String)> = environment().collect();
        let mut config = Self::parse(&text, path, &overrides)?;
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        config.base = std::path::absolute(folder).map_err(|e| ConfigError::Io(path.to_owned(), e))?;
        config.check()?;
        Ok(config)
    }

    fn parse(text: &str, path: &Path, overrides: &[(String, String)]) -> Result<Self, ConfigError> {
        let wrong = |e: toml::de::Error| ConfigError::Toml(path.to_owned(), e.to_string());
        // Without overrides errors keep their line and column.
        if overrides.is_empty() {
            return toml::from_str(text).map_err(wrong);
        }
        let mut table: toml::Table = toml::from_str(text).map_err(wrong)?;
        for (name, value) in overrides {
            set(&mut table, name, value)?;
        }
        table.try_into().map_err(wrong)
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.zone()?;
        self.quiet()?;
        self.second_signature_within()?;
        self.default_plan()?;
        self.call_plan()?;
        self.alarm_limits()?;
        self.queue.check()?;
        self.check_intake()?;
        Ok(())
    }

    /// A path of the configuration, from its own folder.
    #[must_use]
    pub fn path(&self, path: &Path) -> PathBuf {
        self.base.join(path)
    }

    /// The address of the database, with its file from the configuration's folder.
    #[must_use]
    pub fn store_url(&self) -> String {
        match self.store.url.strip_prefix("sqlite:") {
            Some(file) if !file.starts_with(":memory:") => {
                format!("sqlite:{}", self.base.join(file.trim_start_matches("//")).display())
            }
            _ => self.store.url.clone(),
        }
    }

    /// The settings of the queue, with its files from the configuration's folder.
    #[must_use]
    pub fn queue_settings(&self) -> QueueSettings {
        let mut settings = self.queue.clone();
        if !settings.ca_file.as_os_str().is_empty() {
            settings.ca_file = self.base.join(&settings.ca_file);
        }
        settings
    }

    /// The address under which gateways reach the callbacks.
    #[must_use]
    pub fn public_url(&self) -> String {
        match &self.server.public_url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => format!("http://{}", self.server.listen),
        }
    }

    /// The site's time zone, from the bundled tz database.
    pub fn zone(&self) -> Result<TimeZone, ConfigError> {
        TimeZone::get(&self.site.timezone).map_err(|_| ConfigError::Value {
            field: "site.timezone",
            value: self.site.timezone.clone(),
            expected: say!("时区名，如 Asia/Shanghai", "the name of a time zone such as Asia/Shanghai"),
        })
    }

    /// When routine messages wait.
    pub fn quiet(&self) -> Result<QuietHours, ConfigError> {
        let time = |field, value: &str| -> Result<Time, ConfigError> {
            Time::strptime("%H:%M", value).map_err(|_| ConfigError::Value {
                field,
                value: value.to_owned(),
                expected: say!("时间，如 22:00", "a time of day such as 22:00"),
            })
        };
        Ok(QuietHours {
            from: time("quiet_hours.from", &self.quiet_hours.from)?,
            to: time("quiet_hours.to", &self.quiet_hours.to)?,
            zone: self.zone()?,
        })
    }

    /// Milliseconds within which a fast lane's second signature must follow.
    pub fn second_signature_within(&self) -> Result<Millis, ConfigError> {
        parse_duration(&self.review.second_signature_within).ok_or_else(|| ConfigError::Value {
            field: "review.second_signature_within",
            value: self.review.second_signature_within.clone(),
            expected: say!("时长，如 24h", "a time such as 24h"),
        })
    }

    /// The plan of a dispatch that names none.
    pub fn default_plan(&self) -> Result<Plan, ConfigError> {
        Plan::parse(&self.plans.default).map_err(|e| ConfigError::Value {
            field: "plans.default",
            value: self.plans.default.clone(),
            expected: e.to_string(),
        })
    }

    /// The language the site reads.
    #[must_use]
    pub fn lang(&self) -> Lang {
        if self.site.lang == "en" { Lang::En } else { Lang::Zh }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str, overrides: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let overrides: Vec<_> = overrides.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        Config::parse(text, Path::new("gong.toml"), &overrides)
    }

    #[test]
    fn the_shipped_file_says_the_defaults() {
        let shipped = TEMPLATE.replace("{{name}}", "").replace("{{phone}}", "");
        let uncommented: String = shipped
            .lines()
            .map(|l| match l.strip_prefix("# ") {
                Some(rest)
                    if rest
                        .split(" = ")
                        .next()
                        .is_some_and(|k| k.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
                        && rest.contains(" = ")
                        && !rest.contains('{') =>
                {
                    rest
                }
                _ => l,
            })
            .filter(|l| !l.starts_with("gateway") && !l.starts_with("signature") && !l.starts_with("dir ="))
            .fold(String::new(), |all, l| all + l + "\n");
        let (written, default) = (parsed(&uncommented, &[]).unwrap(), parsed("", &[]).unwrap());
        let mut expected = format!("{default:?}");
        expected = expected.replace("public_url: None", "public_url: Some(\"http://127.0.0.1:8088\")");
        assert_eq!(format!("{written:?}"), expected);
    }

    #[test]
    fn the_environment_overrides_and_keeps_types() {
        let config = parsed(
            "[site]\nphone = \"1\"",
            &[("site.phone", "0873-5550000"), ("retry.attempts", "3"), ("review.four_eyes", "false")],
        )
        .unwrap();
        assert_eq!(config.site.phone, "0873-5550000");
        assert_eq!(config.retry.attempts, 3);
        assert!(!config.review.four_eyes);
    }

    #[test]
    fn a_typo_is_located() {
        let error = parsed("[site]\nnaem = \"x\"\n", &[]).unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("naem"), "{error}");
    }
}
