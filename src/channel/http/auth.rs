//! Callbacks are believed only with the right signature, compared in constant time.

use std::borrow::Cow;

use handlebars::Context;
use serde_json::Value;
use subtle::ConstantTimeEq as _;

use super::request::{fixed, known};
use crate::channel::declaration::{AuthSpec, DeclarationError, TimeUnit};
use crate::channel::registry::Parts;
use crate::channel::{Callback, CallbackError};
use crate::render::{Compiled, Engine, Escape};
use crate::say;

/// RFC-less habit of signed callbacks: five minutes either way.
const TOLERANCE_MS: i64 = 300_000;

/// The compiled `auth` of a section of a declaration.
pub(super) struct Auth {
    spec: AuthSpec,
    expect: Expect,
}

/// What has to stand in a callback.
enum Expect {
    /// A secret as it is, the same every time.
    Text(String),
    /// Worked out for each, from this and what came.
    Made(Compiled, Value),
}

impl Auth {
    /// Compiles it; `name` says in errors which template is meant.
    pub(super) fn build(parts: &Parts<'_>, name: &str, spec: &AuthSpec) -> Result<Self, DeclarationError> {
        let value = &spec.expect;
        let reads = |path: &str| {
            matches!(path, "body" | "timestamp")
                || path.starts_with("secrets.") && known(parts, path)
                || path.starts_with("vars.") && known(parts, path)
        };
        let expect = Engine::requests(Escape::Bare, &parts.site.zone, &parts.site.clock)
            .compile(name, value.get_ref(), &reads)
            .map_err(parts.source.template(value))?;
        if !expect.variables().iter().any(|path| path.starts_with("secrets.")) {
            return Err(parts.source.error(
                value.span().start,
                say!(
                    "expect 里没有用到任何密钥，谁都能伪造回执",
                    "expect uses no secret, so anybody could forge receipts"
                ),
            ));
        }
        Ok(Self { spec: spec.clone(), expect: Expect::of(expect, fixed(parts)) })
    }

    /// Believes a callback, or not.
    pub(super) fn check(&self, callback: &Callback<'_>) -> Result<(), CallbackError> {
        let auth = &self.spec;
        let given = match (&auth.header, &auth.query) {
            (Some(name), _) => header(callback, name),
            (None, Some(name)) => callback.query.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str()),
            (None, None) => None,
        };
        let given = given.ok_or(CallbackError::Unauthenticated)?;
        let timestamp = fresh_timestamp(auth, callback)?;
        let expected = self.expect.to(callback, timestamp)?;
        if !expected.is_empty() && bool::from(expected.as_bytes().ct_eq(given.as_bytes())) {
            Ok(())
        } else {
            Err(CallbackError::Unauthenticated)
        }
    }
}

impl Expect {
    fn of(template: Compiled, fixed: Value) -> Self {
        if template.is_plain() && !template.variables().iter().any(|path| matches!(&**path, "body" | "timestamp")) {
            let text = Context::wraps(&fixed).ok().and_then(|data| template.render(&data).ok());
            if let Some(text) = text {
                return Self::Text(text);
            }
        }
        Self::Made(template, fixed)
    }

    fn to(&self, callback: &Callback<'_>, timestamp: &str) -> Result<Cow<'_, str>, CallbackError> {
        let (template, fixed) = match self {
            Self::Text(text) => return Ok(text.into()),
            Self::Made(template, fixed) => (template, fixed),
        };
        let mut data = fixed.clone();
        if let Some(root) = data.as_object_mut() {
            root.insert("timestamp".into(), timestamp.into());
            root.insert("body".into(), String::from_utf8_lossy(callback.body).into());
        }
        let data = Context::wraps(data).map_err(|_| CallbackError::Unauthenticated)?;
        Ok(template.render(&data).map_err(|_| CallbackError::Unauthenticated)?.into())
    }
}

fn header<'a>(callback: &Callback<'a>, name: &str) -> Option<&'a str> {
    callback.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
}

/// The signed timestamp, if it is near enough to now; empty where none is declared.
fn fresh_timestamp<'a>(auth: &AuthSpec, callback: &Callback<'a>) -> Result<&'a str, CallbackError> {
    let Some(name) = &auth.timestamp_header else { return Ok("") };
    let text = header(callback, name).ok_or(CallbackError::Unauthenticated)?;
    let number: i64 = text.trim().parse().map_err(|_| CallbackError::Unauthenticated)?;
    let at = match auth.timestamp_unit {
        TimeUnit::Unix => number.saturating_mul(1000),
        TimeUnit::UnixMs => number,
    };
    let tolerance = auth.tolerance.map_or(TOLERANCE_MS, |t| i64::try_from(t.0.as_millis()).unwrap_or(TOLERANCE_MS));
    if at.saturating_sub(callback.now).saturating_abs() > tolerance {
        Err(CallbackError::Unauthenticated)
    } else {
        Ok(text)
    }
}
