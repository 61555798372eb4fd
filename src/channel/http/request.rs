//! From messages to an HTTP request, by the declaration's templates.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use handlebars::Context;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request};
use serde_json::{Map, Value, json};
use toml::Spanned;
use uuid::Uuid;

use super::place::{Origin, Places};
use crate::channel::declaration::{BodyFormat, DeclarationError, RequestSpec};
use crate::channel::registry::{Parts, RegistryError};
use crate::channel::{Outgoing, Target};
use crate::clock::Millis;
use crate::render::messages::is_item_field;
use crate::render::{Compiled, Engine, Escape, Memo, compose};
use crate::say;

/// What every template of a request may read, beside vars, secrets and lets.
const KNOWN: &[&str] =
    &["to", "tos", "title", "text", "parts", "client_id", "client_ids", "callback_url", "signature", "url", "body"];

/// What is particular to a group whose texts are equal: each by its name, and how it is
/// written over the one before.
const FIELDS: &[(&str, Put)] = &[
    ("to", |group, old| write(old, &group[0].to)),
    ("title", |group, old| write(old, &group[0].title)),
    ("text", |group, old| write(old, &group[0].text)),
    ("parts", |group, old| *old = group[0].parts.into()),
    ("client_id", |group, old| write(old, group[0].client_id.hyphenated().encode_lower(&mut Uuid::encode_buffer()))),
    ("tos", |group, old| *old = group.iter().map(|m| Value::from(&*m.to)).collect()),
    ("client_ids", |group, old| *old = group.iter().map(|m| Value::from(m.client_id.to_string())).collect()),
];

type Put = fn(&[&Outgoing], &mut Value);

/// Writes a text over another, where that left room.
fn write(old: &mut Value, text: &str) {
    match old {
        Value::String(old) => text.clone_into(old),
        _ => *old = text.into(),
    }
}

/// What one request after the other is made on: the parts that never change stay there.
pub(super) struct Desk {
    context: Context,
    places: Places,
    callback: Memo,
    url: Memo,
    body: Memo,
}

/// The compiled request of a declaration.
pub(super) struct Requests {
    method: Method,
    lets: Vec<(String, Compiled)>,
    url: Compiled,
    headers: Vec<(HeaderName, Compiled)>,
    content_type: Option<HeaderValue>,
    body: Option<Compiled>,
    /// Path and query the gateway is to call, when the request tells it.
    callback: Option<Compiled>,
    fixed: Value,
    /// What any template reads: nothing else is made.
    reads: BTreeSet<String>,
    /// Of [`FIELDS`] those.
    fields: Vec<(&'static str, Put)>,
}

impl Requests {
    pub(super) fn build(parts: &Parts<'_>) -> Result<Self, RegistryError> {
        let at = parts.declaration.kind.span().start;
        let Some(spec) = &parts.declaration.request else {
            return Err(parts.source.error(at, say!("缺少 [request]", "[request] is missing")).into());
        };
        let made = Self::compile(parts, spec)?;
        made.try_out(parts, spec)?;
        Ok(made)
    }

    fn compile(parts: &Parts<'_>, spec: &RequestSpec) -> Result<Self, DeclarationError> {
        let known = |path: &str| known(parts, path);
        let site = parts.site;
        let settings = settings(parts);
        let compile = |label: &str, escape: Escape, value: &Spanned<String>| {
            Engine::requests(escape, &site.zone, &site.clock)
                .compile(label, value.get_ref(), &known)
                .map(|made| made.knowing(&settings))
                .map_err(parts.source.template(value))
        };
        let (body_escape, content_type) = match spec.format {
            BodyFormat::Json => (Escape::Json, "application/json"),
            BodyFormat::Form => (Escape::Form, "application/x-www-form-urlencoded"),
            BodyFormat::Text => (Escape::Bare, "text/plain; charset=utf-8"),
        };
        let mut lets = Vec::new();
        for one in &spec.lets {
            lets.push((one.name.clone(), compile("request.let", Escape::Bare, &one.value)?));
        }
        let mut headers = Vec::new();
        for (name, value) in &spec.headers {
            let header = HeaderName::try_from(name.as_str()).map_err(|_| {
                parts.source.error(value.span().start, say!("“{name}”不是请求头", "`{name}` is not a header"))
            })?;
            headers.push((header, compile("request.headers", Escape::Bare, value)?));
        }
        let declared_type = headers.iter().any(|(name, _)| *name == CONTENT_TYPE);
        let body = spec.body.as_ref().map(|b| compile("request.body", body_escape, b)).transpose()?;
        let method = spec.method.parse().ok().filter(|m| [Method::GET, Method::POST, Method::PUT].contains(m));
        let url = compile("request.url", Escape::Url, &spec.url)?;
        let callback = callback(parts, spec)?;
        let all = [&url].into_iter().chain(&body).chain(&callback);
        let all = all.chain(lets.iter().map(|(_, l)| l)).chain(headers.iter().map(|(_, h)| h));
        let reads: BTreeSet<String> = all.flat_map(|template| template.variables().iter().cloned()).collect();
        Ok(Self {
            fields: FIELDS.iter().filter(|(name, _)| reads.contains(*name)).copied().collect(),
            reads,
            method: method.ok_or_else(|| {
                parts.source.error(
                    spec.url.span().start,
                    say!("method 应为 GET、POST 或 PUT", "method must be GET, POST or PUT"),
                )
            })?,
            lets,
            url,
            headers,
            content_type: (body.is_some() && !declared_type).then(|| HeaderValue::from_static(content_type)),
            body,
            callback,
            fixed: fixed(parts),
        })
    }

    /// Renders one made-up message, so that what could never work is said at once.
    fn try_out(&self, parts: &Parts<'_>, spec: &RequestSpec) -> Result<(), DeclarationError> {
        let message = Outgoing {
            client_id: Uuid::nil(),
            to: "13900000000".into(),
            title: "例".into(),
            html: None,
            facts: Some(compose::no_facts().into()),
            text: "【例】\"引号\"\\ & = +\n第二行".into(),
            parts: 1,
            may_opt_out: false,
        };
        let at = |value: &Spanned<String>, why: String| Err(parts.source.error(value.span().start, why));
        match self.make(&mut self.desk(), &[&message], parts.site.clock.now()) {
            Err(why) => at(&spec.url, why),
            Ok(made) => match &spec.body {
                Some(body)
                    if spec.format == BodyFormat::Json
                        && serde_json::from_slice::<Value>(made.body_bytes()).is_err() =>
                {
                    at(body, say!("填好之后不是 JSON", "filled in, this is not JSON"))
                }
                _ => Ok(()),
            },
        }
    }

    /// A desk with what never changes on it.
    pub(super) fn desk(&self) -> Desk {
        let mut context = Context::null();
        let data = context.data_mut();
        *data = self.fixed.clone();
        for (name, _) in &self.fields {
            data[name] = Value::Null;
        }
        let places = Places::default();
        Desk { context, places, callback: Memo::default(), url: Memo::default(), body: Memo::default() }
    }

    /// The request for `group`, whose texts are equal. The error says why none can
    /// be made, without any value.
    pub(super) fn make(&self, desk: &mut Desk, group: &[&Outgoing], now: Millis) -> Result<Made, String> {
        let say_why = |e: crate::render::RenderError| e.to_string();
        let Desk { context, places, callback: callback_memo, url: url_memo, body: body_memo } = desk;
        self.fill(context, group, now);
        if let Some(callback) = &self.callback {
            let url = callback.render_again(context, callback_memo).map_err(say_why)?;
            set(context, "callback_url", url.into());
        }
        for (name, value) in &self.lets {
            let value = value.render(context).map_err(say_why)?;
            if let Some(lets) = context.data_mut().get_mut("let").and_then(Value::as_object_mut) {
                lets.insert(name.clone(), value.into());
            }
        }
        let url = self.url.render_again(context, url_memo).map_err(say_why)?;
        if self.reads.contains("url") {
            set(context, "url", url.as_str().into());
        }
        let (origin, path) = places.find(url).ok_or_else(wrong_url)?;
        let body =
            self.body.as_ref().map_or(Ok(String::new()), |b| b.render_again(context, body_memo).map_err(say_why))?;
        let mut request = Request::new(());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = path.into();
        let headers = request.headers_mut();
        headers.insert(USER_AGENT, HeaderValue::from_static("gong"));
        headers.extend(self.content_type.clone().map(|value| (CONTENT_TYPE, value)));
        if self.reads.contains("body") {
            set(context, "body", body.as_str().into());
        }
        for (name, value) in &self.headers {
            let value = HeaderValue::from_maybe_shared(Bytes::from(value.render(context).map_err(say_why)?))
                .map_err(|_| say!("请求头 {name} 含有不允许的字符", "the header {name} holds characters it may not"))?;
            request.headers_mut().insert(name, value);
        }
        if !request.headers().contains_key(HOST) {
            request.headers_mut().insert(HOST, origin.host.clone());
        }
        Ok(Made { origin, request, body: Bytes::from(body) })
    }

    /// Puts in what is particular to this group, as far as a template reads it.
    fn fill(&self, context: &mut Context, group: &[&Outgoing], now: Millis) {
        let Some(first) = group.first() else { return };
        set(context, "now", now.into());
        for (name, put) in &self.fields {
            if let Some(old) = context.data_mut().get_mut(*name) {
                put(group, old);
            }
        }
        if let Some(facts) = &first.facts {
            set(context, "item", Value::clone(facts));
        }
    }
}

/// A request and its body, kept apart until it goes out, and the gateway it goes to.
pub(super) struct Made {
    origin: Arc<Origin>,
    request: Request<()>,
    body: Bytes,
}

impl Made {
    fn body_bytes(&self) -> &[u8] {
        &self.body
    }

    pub(super) fn into_request(self) -> (Arc<Origin>, Request<Full<Bytes>>) {
        let body = self.body;
        (self.origin, self.request.map(|()| Full::new(body)))
    }
}

fn wrong_url() -> String {
    say!(
        "网址不对：应以 http:// 或 https:// 开头，且不含空格等字符",
        "the URL is not one: http:// or https://, without spaces"
    )
}

fn set(context: &mut Context, name: &str, value: Value) {
    match context.data_mut().get_mut(name) {
        Some(slot) => *slot = value,
        None => context.data_mut()[name] = value,
    }
}

/// Whether a template of this channel may read `path`.
pub(super) fn known(parts: &Parts<'_>, path: &str) -> bool {
    match path.split_once('.') {
        Some(("vars", name)) => parts.vars.contains_key(name),
        Some(("secrets", name)) => parts.secrets.contains_key(name),
        Some(("let", name)) => {
            parts.declaration.request.as_ref().is_some_and(|r| r.lets.iter().any(|l| l.name == name))
        }
        // A post has one item behind it; a message to somebody is its text and no more.
        Some(("item", name)) => parts.declaration.aim().0 == Target::Account && is_item_field(name),
        Some(_) => false,
        None => KNOWN.contains(&path),
    }
}

/// What the site set, as templates see it.
fn settings(parts: &Parts<'_>) -> Value {
    let secrets: Map<String, Value> =
        parts.secrets.iter().map(|(name, secret)| (name.clone(), secret.expose().into())).collect();
    json!({"vars": parts.vars, "secrets": secrets, "signature": parts.signature})
}

/// The same, and what may be put in anew for a message.
pub(super) fn fixed(parts: &Parts<'_>) -> Value {
    let mut fixed = settings(parts);
    fixed["callback_url"] = callback_base(parts).into();
    fixed["let"] = json!({});
    fixed
}

fn callback_base(parts: &Parts<'_>) -> String {
    format!("{}/callbacks/{}", parts.site.public_url.trim_end_matches('/'), parts.name)
}

/// The callback's template, unless it is the same for every message or nobody reads it.
fn callback(parts: &Parts<'_>, spec: &RequestSpec) -> Result<Option<Compiled>, DeclarationError> {
    let Some(query) = parts.declaration.receipt.as_ref().and_then(|r| r.callback_query.as_ref()) else {
        return Ok(None);
    };
    let texts = [&spec.url]
        .into_iter()
        .chain(&spec.body)
        .chain(spec.headers.values())
        .chain(spec.lets.iter().map(|l| &l.value));
    if !texts.into_iter().any(|t| t.get_ref().contains("callback_url")) {
        return Ok(None);
    }
    let source = format!("{}{}", callback_base(parts), query.get_ref());
    Engine::requests(Escape::Url, &parts.site.zone, &parts.site.clock)
        .compile("receipt.callback_query", &source, &|path| known(parts, path))
        .map(|made| Some(made.knowing(&settings(parts))))
        .map_err(parts.source.template(query))
}
