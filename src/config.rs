//! The configuration of a site: one TOML file, its defaults, and the environment.
//!
//! Each part is defined beside its owner; this file only composes them. Every
//! default stands, commented, in `templates/gong.toml`, which `gong init` writes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::civil::Time;
use jiff::tz::TimeZone;
use serde::Deserialize;
use tracing_subscriber::EnvFilter;

use crate::channel::registry::ChannelSettings;
use crate::clock::Millis;
use crate::dispatch::alarm::AlarmSettings;
use crate::dispatch::retry::RetrySettings;
use crate::domain::audience::Attributes;
use crate::domain::mistake::Mistake;
use crate::domain::plan::{Plan, parse_duration};
use crate::domain::quiet::QuietHours;
use crate::lang::Lang;
use crate::queue::QueueSettings;
use crate::say;

mod alarm;
mod calendar;
mod calls;
mod environment;
mod error;
mod intake;
mod sections;
mod sheets;

pub use calendar::{CalendarFault, CalendarFileError};
pub use calls::CallsConfig;
pub use environment::{arguments, env};
use environment::{environment, overridden};
pub use error::ConfigError;
pub use intake::{IntakeConfig, SourceConfig};
pub use sections::{
    DiskConfig, EventsConfig, LogConfig, PlansConfig, QuietConfig, ReviewConfig, ServerConfig, SiteConfig, StoreConfig,
};
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
    pub events: EventsConfig,
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

impl Config {
    /// Reads `path`, then lets `GONG_SECTION__KEY` variables override it.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => ConfigError::NotFound(path.to_owned()),
            _ => ConfigError::Io(path.to_owned(), e),
        })?;
        let mut config = Self::parse(&text, path, &environment()?)?;
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        config.base = std::path::absolute(folder).map_err(|e| ConfigError::Io(path.to_owned(), e))?;
        config.check()?;
        Ok(config)
    }

    fn parse(text: &str, path: &Path, overrides: &[(String, String)]) -> Result<Self, ConfigError> {
        let wrong = |e: toml::de::Error| ConfigError::Toml(path.to_owned(), Mistake::of(text, &e));
        let file: toml::Table = toml::from_str(text).map_err(wrong)?;
        overridden(&file, overrides).map_err(|error| match toml::from_str::<Self>(text) {
            // What no variable mends is told by its place in the file.
            Err(written) => wrong(written),
            Ok(_) => error,
        })
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.lang()?;
        self.zone()?;
        self.quiet()?;
        self.second_signature_within()?;
        self.default_plan()?;
        self.call_plan()?;
        self.alarm_limits()?;
        self.queue.check()?;
        self.check_intake()?;
        self.check_server()
    }

    /// What would only come to light when the service starts, or never.
    fn check_server(&self) -> Result<(), ConfigError> {
        let listen = &self.server.listen;
        let port = |(host, port): (&str, &str)| !host.is_empty() && port.parse::<u16>().is_ok();
        if !listen.rsplit_once(':').is_some_and(port) {
            return Err(ConfigError::Value {
                field: "server.listen",
                value: listen.clone(),
                expected: say!("地址和端口，如 127.0.0.1:8088", "an address and a port such as 127.0.0.1:8088"),
            });
        }
        match EnvFilter::try_new(&self.log.filter) {
            Ok(_) => Ok(()),
            Err(_) => Err(ConfigError::Value {
                field: "log.filter",
                value: self.log.filter.clone(),
                expected: say!("日志级别，如 info 或 gong=debug", "a level such as info, or gong=debug"),
            }),
        }
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
    pub fn lang(&self) -> Result<Lang, ConfigError> {
        self.site.lang.parse().map_err(|_| ConfigError::Value {
            field: "site.lang",
            value: self.site.lang.clone(),
            expected: say!("“zh”或“en”", "zh or en"),
        })
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
        assert_eq!(parsed("", &[("site.phone", "12345"), ("site.name", "7")]).unwrap().site.phone, "12345");
        assert_eq!(config.retry.attempts, 3);
        assert!(!config.review.four_eyes);
    }

    #[test]
    fn a_typo_is_located() {
        for overrides in [&[][..], &[("site.phone", "1")]] {
            let error = parsed("[site]\nnaem = \"x\"\n", overrides).unwrap_err().to_string();
            assert!(error.contains("第 2 行第 1 列") && error.contains("naem"), "{error}");
        }
    }

    #[test]
    fn what_would_keep_the_service_from_starting_is_found_before() {
        for (field, wrong) in [
            ("server.listen", "gehe"),
            ("server.listen", "127.0.0.1:99999"),
            ("server.listen", ":8088"),
            ("log.filter", "gong=loud"),
            ("site.lang", "english"),
        ] {
            let error = parsed("", &[(field, wrong)]).unwrap().check().unwrap_err().to_string();
            assert!(error.contains(field) && error.contains(wrong), "{error}");
        }
        for (field, right) in [
            ("server.listen", "[::]:8088"),
            ("server.listen", "gong.local:80"),
            ("log.filter", "gong=debug,warn"),
            ("site.lang", "en"),
        ] {
            parsed("", &[(field, right)]).unwrap().check().unwrap();
        }
    }

    #[test]
    fn an_error_never_shows_a_value() {
        let quoted = "[store]\nurl = \"postgres://gong:geheim@db/gong\n";
        let error = parsed(quoted, &[("site.phone", "1")]).unwrap_err().to_string();
        assert!(error.contains("gong.toml 第 2 行") && !error.contains("geheim"), "{error}");
        let error = parsed("", &[("site.phone", "1"), ("disk.reserve_mb", "geheim"), ("log.filter", "warn")]);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("GONG_DISK__RESERVE_MB") && error.contains("正整数"), "{error}");
        assert!(!error.contains("geheim") && !error.contains("GONG_SITE__PHONE"), "{error}");
    }
}
