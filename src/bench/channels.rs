//! The channels that are measured: one number a request as Kannel takes it, or many, signed;
//! and those whose gateway only calls back.

use std::path::Path;

use anyhow::Context as _;

use super::gateway::USERNAME;
use crate::channel::Evidence;
use crate::channel::declaration::LimitsSpec;
use crate::channel::registry::ChannelSettings;

/// Faster than any machine here: the rate is not what limits.
pub(super) const FAST: f64 = 1e6;
/// The window for each request under way: 2,048 for 256 of them, as the handbook says for a
/// gateway that answers within milliseconds.
const WINDOW: usize = 8;
/// A declaration of our own, see [`declare`].
const BACK_MANY: &str = "back-many";
/// Where nobody listens: nothing is sent there.
const NOBODY: &str = "http://127.0.0.1:1";

/// Parts a second and requests at once; nothing comes back.
pub(super) fn limits(rate: f64, in_flight: usize) -> LimitsSpec {
    let (rate, in_flight) = (Some(rate), Some(in_flight));
    LimitsSpec { rate, in_flight, evidence: Some(Evidence::AcceptOnly), ..LimitsSpec::default() }
}

/// The same over a window of [`WINDOW`].
pub(super) fn windowed(limits: LimitsSpec) -> LimitsSpec {
    LimitsSpec { window: limits.in_flight.map(|n| WINDOW * n), ..limits }
}

/// One number a request.
pub(super) fn kannel(url: &str, limits: LimitsSpec) -> ChannelSettings {
    channel("kannel", &[("url", url), ("username", USERNAME)], &["password", "token"], limits)
}

/// Many numbers a request, signed.
pub(super) fn many(url: &str, limits: LimitsSpec) -> ChannelSettings {
    json("json-hmac", url, limits)
}

/// Only calls back: one receipt a callback, or several of them, signed.
pub(super) fn back(receipts: usize) -> ChannelSettings {
    if receipts == 1 { kannel(NOBODY, LimitsSpec::default()) } else { json(BACK_MANY, NOBODY, LimitsSpec::default()) }
}

/// Writes into the folder of a site the declaration of a gateway that reports several
/// messages at once, each by the id that we gave it.
///
/// # Errors
/// When it cannot be written.
pub(super) fn declare(site: &Path) -> anyhow::Result<()> {
    let by_gateway = include_str!("../../channels/json-hmac.toml");
    let by_ours = by_gateway.replacen("key = \"gateway\"\nid = \"/id\"", "key = \"client\"\nid = \"/client_id\"", 1);
    anyhow::ensure!(by_ours != by_gateway, "channels/json-hmac.toml names its receipts in another way");
    let folder = site.join("channels");
    let file = folder.join(format!("{BACK_MANY}.toml"));
    let written = std::fs::create_dir(&folder).and_then(|()| std::fs::write(&file, by_ours));
    written.with_context(|| file.display().to_string())
}

fn json(gateway: &str, url: &str, limits: LimitsSpec) -> ChannelSettings {
    channel(gateway, &[("url", url)], &["key"], limits)
}

fn channel(gateway: &str, vars: &[(&str, &str)], secrets: &[&str], limits: LimitsSpec) -> ChannelSettings {
    ChannelSettings {
        gateway: gateway.to_owned(),
        gateways: Vec::new(),
        vars: vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        secrets: secrets.iter().map(|name| ((*name).to_owned(), "file:secret".to_owned())).collect(),
        limits,
        signature: None,
    }
}
