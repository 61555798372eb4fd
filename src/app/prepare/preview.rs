//! What a plan shows before anything is written.

use serde::Serialize;

use crate::clock::Millis;

/// One channel of the first step, as it would go.
#[derive(Debug, Clone, Serialize)]
pub struct ChannelPreview {
    pub channel: String,
    /// address, account, point or visit: what `deliveries` counts.
    pub target: &'static str,
    pub deliveries: i64,
    /// 0 for a post, which goes to nobody in particular.
    pub addressable: i64,
    pub via_household: i64,
    pub suppressed: i64,
    /// Of one text; the most any has where they differ.
    pub parts_each: u32,
    pub parts: i64,
    pub cost_milli: i64,
    /// At the declared rate.
    pub minutes: f64,
    pub receipts: bool,
    /// The text, or one of them.
    pub text: String,
    /// It was cut to what the channel takes.
    pub cut: bool,
}

/// What would be sent.
#[derive(Debug, Serialize)]
pub struct Preview {
    pub item: String,
    pub audience: String,
    pub plan: String,
    pub members: i64,
    pub households: i64,
    pub deliveries: i64,
    pub parts: i64,
    pub cost_milli: i64,
    pub minutes: f64,
    pub channels: Vec<ChannelPreview>,
    pub no_address: i64,
    /// Some of them: masked name, region, why.
    pub no_address_some: Vec<NoAddress>,
    pub villages_without_point: Vec<String>,
    /// Accounts in which what this follows was posted, and which the plan leaves out.
    pub not_posted: Vec<String>,
    pub lane: &'static str,
    pub expires_at: Millis,
    /// The text, or one of them.
    pub sample: String,
}

/// Someone without an address.
#[derive(Debug, Serialize)]
pub struct NoAddress {
    pub name: String,
    pub region: String,
    pub why: &'static str,
}
