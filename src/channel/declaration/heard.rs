//! `[reply]`: what people answer (mobile-originated messages), and how it is believed.

use serde::Deserialize;

use super::receipt::{AuthSpec, ReceiptFormat, ReplySpec};
use super::values::Pointer;

/// `[reply]`: callbacks at `/callbacks/CHANNEL/reply`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeardSpec {
    pub format: ReceiptFormat,
    pub auth: AuthSpec,
    /// Where the list of replies stands; `""` is the whole body; without it there is one.
    pub list: Option<Pointer>,
    /// Who: a JSON pointer, or the name of a parameter.
    pub from: String,
    /// What: likewise.
    pub text: String,
    #[serde(default)]
    pub reply: ReplySpec,
}
