//! The small sections of `gong.toml`, with their defaults.

use std::path::PathBuf;

use serde::Deserialize;

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

/// `[events]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EventsConfig {
    /// Whether subscribers of `gong.events` are told what happens.
    pub enabled: bool,
}

impl Default for EventsConfig {
    fn default() -> Self {
        Self { enabled: true }
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
