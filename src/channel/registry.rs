//! The channels of this site, by name: each a gateway's declaration with the
//! site's own settings.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use rust_embed::RustEmbed;
use serde::Deserialize;

use super::declaration::{Declaration, DeclarationError, Kind, LimitsSpec, SecretsSpec, Source};
use super::email::Email;
use super::failover::{Failover, Member};
use super::http::Http;
use super::point::Board;
use super::rehearsal::Rehearsal;
use super::{Channel, Limits};
use crate::clock::Clock;
use crate::domain::mistake::unreadable;
use crate::say;
use crate::sheet::Press;

mod secret;

pub use secret::{Secret, SecretError};

#[derive(RustEmbed)]
#[folder = "channels/"]
struct Shipped;

/// Largest declaration, in bytes.
const MAX_DECLARATION: u64 = 256 * 1024;

/// `[channels.NAME]` of the site's configuration.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelSettings {
    /// The declaration: `NAME.toml` of the site's channels folder, or a shipped one.
    #[serde(default)]
    pub gateway: String,
    /// Several instead of one; messages go to each by its share.
    #[serde(default)]
    pub gateways: Vec<GatewaySettings>,
    #[serde(default)]
    pub vars: BTreeMap<String, String>,
    /// Each `env:NAME` or `file:PATH`.
    #[serde(default)]
    pub secrets: BTreeMap<String, String>,
    #[serde(default)]
    pub limits: LimitsSpec,
    /// `【…】` before every text, in place of the declaration's.
    pub signature: Option<String>,
}

/// One of the gateways of a channel that has several.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewaySettings {
    pub gateway: String,
    /// What it is called in callbacks and the ledger, where it is not the declaration's name.
    pub name: Option<String>,
    #[serde(default)]
    pub vars: BTreeMap<String, String>,
    #[serde(default)]
    pub secrets: BTreeMap<String, String>,
    #[serde(default)]
    pub limits: LimitsSpec,
}

impl ChannelSettings {
    /// Its gateways by name, each with the settings of a channel that has no other.
    #[must_use]
    pub fn each(&self) -> Vec<(String, Self)> {
        if self.gateways.is_empty() {
            return vec![(self.gateway.clone(), self.clone())];
        }
        let mut all: Vec<(String, Self)> = Vec::with_capacity(self.gateways.len());
        for one in &self.gateways {
            let wanted = one.name.clone().unwrap_or_else(|| one.gateway.clone());
            let taken = |name: &str| all.iter().any(|(earlier, _)| earlier == name);
            // The same declaration twice: kannel, kannel-2.
            let name = if taken(&wanted) && one.name.is_none() {
                (2..=self.gateways.len()).map(|n| format!("{wanted}-{n}")).find(|name| !taken(name)).unwrap_or_default()
            } else {
                wanted
            };
            let settings = Self {
                gateway: one.gateway.clone(),
                gateways: Vec::new(),
                vars: one.vars.clone(),
                secrets: one.secrets.clone(),
                limits: one.limits.clone(),
                signature: self.signature.clone(),
            };
            all.push((name, settings));
        }
        all
    }
}

/// What channels are built with.
pub struct Site<'a> {
    /// The folder with the site's own declarations; they win over the shipped ones.
    pub channels_dir: Option<&'a Path>,
    /// What `file:` secrets are relative to.
    pub base_dir: &'a Path,
    /// Reads an environment variable.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// The address under which gateways reach this site, without a slash at the end.
    pub public_url: &'a str,
    pub zone: TimeZone,
    pub clock: Clock,
    /// Secrets must be there: something will be sent. Commands beside the engine
    /// need the channels' limits alone.
    pub to_send: bool,
    /// Prints the sheets of notice boards.
    pub press: Press,
}

/// Why the channels could not be built.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error(transparent)]
    Declaration(#[from] DeclarationError),
    #[error("{}", say!(
        "[channels.{_0}]：渠道名只能用小写字母、数字和连字符",
        "[channels.{_0}]: a channel's name is lowercase letters, digits and hyphens"
    ))]
    Name(String),
    #[error("{}", say!(
        "[channels.{channel}]：没有网关声明 {gateway}.toml。现有：{known}",
        "[channels.{channel}]: there is no gateway declaration {gateway}.toml; there are: {known}"
    ))]
    NoGateway { channel: String, gateway: String, known: String },
    #[error("{}", say!("[channels.{channel}]：{field} 的值不合理", "[channels.{channel}]: {field} makes no sense"))]
    Setting { channel: String, field: String },
    #[error("{}", say!(
        "[channels.{channel}]：缺少 {field}。请在配置中给出",
        "[channels.{channel}]: {field} is missing; give it in the configuration"
    ))]
    Lacking { channel: String, field: String },
    #[error("{}", say!(
        "[channels.{channel}]：网关声明里没有 {field}。请核对拼写",
        "[channels.{channel}]: the declaration knows no {field}; check its spelling"
    ))]
    Undeclared { channel: String, field: String },
    #[error("[channels.{channel}] secrets.{name}: {error}")]
    Secret { channel: String, name: String, error: SecretError },
    #[error("{}: {}", .0.display(), unreadable(.1))]
    Io(PathBuf, #[source] std::io::Error),
}

/// What a kind of channel is made from.
pub(super) struct Parts<'a> {
    pub name: &'a str,
    pub source: Source<'a>,
    pub declaration: Declaration,
    pub limits: Limits,
    pub timeout: Duration,
    pub vars: BTreeMap<String, String>,
    pub secrets: BTreeMap<String, Secret>,
    pub signature: String,
    pub site: &'a Site<'a>,
}

struct Entry {
    channel: Arc<dyn Channel>,
    signature: String,
}

/// The channels that are set up.
#[derive(Default)]
pub struct Registry {
    entries: BTreeMap<String, Entry>,
}

impl Registry {
    /// Builds every channel of `settings`.
    ///
    /// # Errors
    /// The first thing that is wrong, with file, line and column, or with the setting's name.
    pub fn build(settings: &BTreeMap<String, ChannelSettings>, site: &Site<'_>) -> Result<Self, RegistryError> {
        let mut entries = BTreeMap::new();
        for (name, setting) in settings {
            let valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            if name.is_empty() || !name.bytes().all(valid) {
                return Err(RegistryError::Name(name.clone()));
            }
            let entry =
                if setting.gateways.is_empty() { build_one(name, setting, site)? } else { join(name, setting, site)? };
            entries.insert(name.clone(), entry);
        }
        Ok(Self { entries })
    }

    /// The channel of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<dyn Channel>> {
        self.entries.get(name).map(|e| Arc::clone(&e.channel))
    }

    /// What stands before every text of this channel; empty where the gateway adds it.
    #[must_use]
    pub fn signature(&self, name: &str) -> Option<&str> {
        self.entries.get(name).map(|e| e.signature.as_str())
    }

    /// The names of all channels.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }
}

/// A channel over several gateways. Settings of one gateway have no place beside them.
fn join(name: &str, setting: &ChannelSettings, site: &Site<'_>) -> Result<Entry, RegistryError> {
    let wrong = |field: &str| RegistryError::Setting { channel: name.to_owned(), field: field.to_owned() };
    let beside = [
        (!setting.gateway.is_empty(), "gateway"),
        (!setting.vars.is_empty(), "vars"),
        (!setting.secrets.is_empty(), "secrets"),
        (setting.limits != LimitsSpec::default(), "limits"),
    ];
    if let Some((_, field)) = beside.iter().find(|(given, _)| *given) {
        return Err(wrong(field));
    }
    let mut members: Vec<Member> = Vec::new();
    let mut signature = None;
    for (gateway, settings) in setting.each() {
        let valid = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if gateway.is_empty() || !gateway.bytes().all(valid) || members.iter().any(|m| m.name == gateway) {
            return Err(wrong("gateways.name"));
        }
        let made = build_one(&format!("{name}/{gateway}"), &settings, site)?;
        signature.get_or_insert(made.signature);
        members.push(Member { name: gateway, channel: made.channel });
    }
    let channel = Failover::new(name, members).ok_or_else(|| wrong("gateways"))?;
    Ok(Entry { channel: Arc::new(channel), signature: signature.unwrap_or_default() })
}

fn build_one(name: &str, setting: &ChannelSettings, site: &Site<'_>) -> Result<Entry, RegistryError> {
    if setting.gateway.is_empty() {
        return Err(RegistryError::Lacking { channel: name.to_owned(), field: "gateway".to_owned() });
    }
    let (file, text) = read_declaration(name, &setting.gateway, site)?;
    let source = Source { file: &file, text: &text };
    let declaration = source.parse()?;
    let (limits, timeout) = setting
        .limits
        .over(&declaration.limits, declaration.has_receipts())
        .map_err(|field| RegistryError::Setting { channel: name.to_owned(), field: format!("limits.{field}") })?;
    let vars = merge_vars(name, &declaration, &setting.vars)?;
    let secrets = resolve_secrets(name, &declaration.secrets, setting, site)?;
    let signature = setting.signature.clone().unwrap_or_else(|| declaration.sms.signature.clone());
    let kind = *declaration.kind.get_ref();
    let parts = Parts { name, source, declaration, limits, timeout, vars, secrets, signature: signature.clone(), site };
    let channel: Arc<dyn Channel> = match kind {
        Kind::SmsHttp | Kind::Media => Arc::new(Http::build(parts)?),
        Kind::Email => Arc::new(Email::build(parts)?),
        Kind::Point => Arc::new(Board::build(parts)?),
        Kind::Rehearsal => Arc::new(Rehearsal::new(parts.limits, parts.declaration.aim())),
    };
    Ok(Entry { channel, signature })
}

fn read_declaration(channel: &str, gateway: &str, site: &Site<'_>) -> Result<(String, String), RegistryError> {
    let file = format!("{gateway}.toml");
    let safe = gateway.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if let Some(folder) = site.channels_dir.filter(|_| safe) {
        let path = folder.join(&file);
        match std::fs::metadata(&path) {
            Ok(meta) if meta.len() <= MAX_DECLARATION => {
                let text = std::fs::read_to_string(&path).map_err(|e| RegistryError::Io(path.clone(), e))?;
                return Ok((path.display().to_string(), text));
            }
            Ok(_) => return Err(RegistryError::Io(path, std::io::ErrorKind::FileTooLarge.into())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(RegistryError::Io(path, e)),
        }
    }
    let shipped = Shipped::get(&file).filter(|_| safe).ok_or_else(|| RegistryError::NoGateway {
        channel: channel.to_owned(),
        gateway: gateway.to_owned(),
        known: Shipped::iter()
            .filter_map(|f| f.strip_suffix(".toml").map(str::to_owned))
            .collect::<Vec<_>>()
            .join(", "),
    })?;
    Ok((format!("channels/{file}"), String::from_utf8_lossy(&shipped.data).into_owned()))
}

fn merge_vars(
    channel: &str,
    declaration: &Declaration,
    given: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, RegistryError> {
    let field = |name: &String| (channel.to_owned(), format!("vars.{name}"));
    let mut vars = declaration.vars.clone();
    for (name, value) in given {
        let slot = vars.get_mut(name).ok_or_else(|| {
            let (channel, field) = field(name);
            RegistryError::Undeclared { channel, field }
        })?;
        slot.clone_from(value);
    }
    match vars.iter().find(|(name, value)| value.is_empty() && !declaration.optional.contains(name)) {
        Some((name, _)) => {
            let (channel, field) = field(name);
            Err(RegistryError::Lacking { channel, field })
        }
        None => Ok(vars),
    }
}

fn resolve_secrets(
    channel: &str,
    declared: &SecretsSpec,
    setting: &ChannelSettings,
    site: &Site<'_>,
) -> Result<BTreeMap<String, Secret>, RegistryError> {
    let known = |name: &&String| declared.required.contains(name) || declared.optional.contains(name);
    if let Some(extra) = setting.secrets.keys().find(|name| !known(name)) {
        return Err(RegistryError::Undeclared { channel: channel.to_owned(), field: format!("secrets.{extra}") });
    }
    let given = declared.optional.iter().filter(|name| setting.secrets.contains_key(*name));
    declared
        .required
        .iter()
        .chain(given)
        .map(|name| {
            let spec = setting.secrets.get(name).ok_or_else(|| RegistryError::Lacking {
                channel: channel.to_owned(),
                field: format!("secrets.{name}"),
            })?;
            let secret = match Secret::resolve(spec, site.base_dir, site.env) {
                Err(error) if site.to_send || matches!(error, SecretError::Plain) => {
                    return Err(RegistryError::Secret { channel: channel.to_owned(), name: name.clone(), error });
                }
                Err(_) => Secret::absent(),
                Ok(secret) => secret,
            };
            Ok((name.clone(), secret))
        })
        .collect()
}

#[cfg(test)]
mod tests;
