//! From a callback to what people answered.

use serde_json::Value;

use super::auth::Auth;
use super::receipt::form_pairs;
use crate::channel::declaration::{DeclarationError, HeardSpec, ReceiptFormat, plain};
use crate::channel::registry::Parts;
use crate::channel::{Callback, CallbackError, Heard, Said};

/// Most replies read from one callback.
const MAX_REPLIES: usize = 10_000;
/// Letters kept of one reply; longer than any long SMS.
const MAX_TEXT: usize = 2_000;

/// The compiled reply section of a declaration.
pub(super) struct Replies {
    spec: HeardSpec,
    auth: Auth,
}

impl Replies {
    pub(super) fn build(parts: &Parts<'_>) -> Result<Option<Self>, DeclarationError> {
        let Some(spec) = &parts.declaration.reply else { return Ok(None) };
        let auth = Auth::build(parts, "reply.auth.expect", &spec.auth)?;
        Ok(Some(Self { spec: spec.clone(), auth }))
    }

    /// Believes and reads a callback.
    pub(super) fn read(&self, callback: &Callback<'_>) -> Result<Heard, CallbackError> {
        self.auth.check(callback)?;
        let said = match self.spec.format {
            ReceiptFormat::Json => self.read_json(callback)?,
            ReceiptFormat::Form => vec![self.read_pairs(&form_pairs(callback.body))?],
            ReceiptFormat::Query => vec![self.read_pairs(callback.query)?],
        };
        let reply = &self.spec.reply;
        Ok(Heard {
            said,
            reply_status: reply.status,
            reply_type: reply.content_type.clone(),
            reply_body: reply.body.clone(),
        })
    }

    fn read_json(&self, callback: &Callback<'_>) -> Result<Vec<Said>, CallbackError> {
        let body: Value = serde_json::from_slice(callback.body)
            .map_err(|e| CallbackError::Malformed(format!("not JSON at line {} column {}", e.line(), e.column())))?;
        let entries = match &self.spec.list {
            None => std::slice::from_ref(&body),
            Some(list) => list
                .of(&body)
                .and_then(Value::as_array)
                .map(Vec::as_slice)
                .ok_or_else(|| CallbackError::Malformed(format!("no list at \"{}\"", list.0)))?,
        };
        if entries.len() > MAX_REPLIES {
            return Err(CallbackError::Malformed(format!("more than {MAX_REPLIES} replies")));
        }
        entries.iter().map(|entry| self.said(&|at| entry.pointer(at).and_then(plain))).collect()
    }

    fn read_pairs(&self, pairs: &[(String, String)]) -> Result<Said, CallbackError> {
        self.said(&|name| pairs.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone()))
    }

    fn said(&self, get: &dyn Fn(&str) -> Option<String>) -> Result<Said, CallbackError> {
        let lacks = |at: &str| CallbackError::Malformed(format!("no value at \"{at}\""));
        let from = get(&self.spec.from).filter(|f| !f.is_empty()).ok_or_else(|| lacks(&self.spec.from))?;
        let text = get(&self.spec.text).ok_or_else(|| lacks(&self.spec.text))?;
        Ok(Said { from, text: text.chars().take(MAX_TEXT).collect() })
    }
}
