//! Strict handlebars: message texts, and the requests that gateway declarations describe.
//!
//! A template is checked before it is accepted: its size, how deep its blocks and
//! partials nest (handlebars recurses, so depth is stack), its helpers, and every
//! name it uses, those in conditions too, which strict mode passes over.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use handlebars::{Context, Handlebars, RenderErrorReason, Renderable as _, StringOutput, Template};
use jiff::tz::TimeZone;

use crate::clock::Clock;
use crate::say;
pub use pieces::Memo;
use pieces::Pieces;

mod check;
mod closing;
pub mod compose;
pub mod following;
mod helpers;
mod mail;
pub mod markdown;
mod pieces;

pub mod messages;

pub use messages::{Medium, MessageTemplate, Messages, Personal};

/// Largest template, in bytes.
pub const MAX_BYTES: usize = 64 * 1024;
/// Deepest nesting of blocks and partials.
pub const MAX_DEPTH: usize = 20;

/// A place in a template: `name:line:column`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At {
    pub name: String,
    pub line: usize,
    pub column: usize,
}

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.name, self.line, self.column)
    }
}

/// What can be wrong with a template or its data. Never holds a value of the data.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    #[error("{}", say!("{at}：模板写法有误：{why}", "{at}: the template does not parse: {why}"))]
    Syntax { at: At, why: String },
    #[error("{}", say!(
        "{name}：模板过大（{bytes} 字节，上限 65536），或标签过多。请缩短",
        "{name}: the template is too large ({bytes} bytes of at most 65536) or has too many tags; shorten it"
    ))]
    TooLarge { name: String, bytes: usize },
    #[error("{}", say!(
        "{at}：嵌套超过 20 层（或互相引用）。请减少嵌套",
        "{at}: nested deeper than 20 levels (or templates that include each other); nest less"
    ))]
    TooDeep { at: At },
    #[error("{}", say!("{at}：没有名为 {helper} 的函数", "{at}: there is no helper named {helper}"))]
    Helper { at: At, helper: String },
    #[error("{}", say!("{at}：没有名为 {partial} 的子模板", "{at}: there is no partial named {partial}"))]
    Partial { at: At, partial: String },
    #[error("{}", say!("{at}：不支持{what}", "{at}: {what} is not supported"))]
    Unsupported { at: At, what: &'static str },
    #[error("{}", say!(
        "{at}：没有名为 {variable} 的变量。请核对拼写",
        "{at}: there is no variable named {variable}; check its spelling"
    ))]
    Unknown { at: At, variable: String },
    #[error("{}", say!(
        "{at}：缺少变量 {variable} 的值。请在名单或事项中补上",
        "{at}: the variable {variable} has no value; add it to the list or the item"
    ))]
    Missing { at: At, variable: String },
    #[error("{}", say!("{at}：{why}", "{at}: {why}"))]
    Failed { at: At, why: String },
    #[error("{}：{}", .0.display(), .1)]
    Io(PathBuf, #[source] std::io::Error),
}

/// How `{{name}}` writes a value; `{{{name}}}` writes it bare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Escape {
    /// As it is: message texts, header values.
    Bare,
    Html,
    /// Percent-encoded (RFC 3986): URLs.
    Url,
    /// Inside a JSON string (RFC 8259).
    Json,
    /// `application/x-www-form-urlencoded`.
    Form,
}

/// Compiles templates of one escaping, with the helpers and partials they share.
#[derive(Clone)]
pub struct Engine {
    registry: Arc<Handlebars<'static>>,
    /// Whether templates may ask for the time.
    timed: bool,
}

impl Engine {
    /// An engine for texts: dates in `zone`, no wall clock, so a text renders the same every time.
    #[must_use]
    pub fn texts(escape: Escape, zone: &TimeZone) -> Self {
        Self { registry: Arc::new(registry(escape, zone)), timed: false }
    }

    /// An engine for requests to gateways: with `now`.
    #[must_use]
    pub fn requests(escape: Escape, zone: &TimeZone, clock: &Clock) -> Self {
        let mut registry = registry(escape, zone);
        helpers::register_now(&mut registry, zone, clock);
        Self { registry: Arc::new(registry), timed: true }
    }

    /// The same engine with `partials` (name, source) for `{{> name}}`.
    pub fn with_partials<'a>(self, partials: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, RenderError> {
        let mut registry = (*self.registry).clone();
        for (name, source) in partials {
            registry.register_template(name, check::parse(name, source)?);
        }
        Ok(Self { registry: Arc::new(registry), timed: self.timed })
    }

    /// Compiles and checks `source`; `known` says which dotted paths the data will hold.
    pub fn compile(&self, name: &str, source: &str, known: &dyn Fn(&str) -> bool) -> Result<Compiled, RenderError> {
        let template = check::parse(name, source)?;
        let variables = check::variables(self, &template, known)?;
        let pieces = Pieces::of(&template, &|name| check::is_helper(self, name));
        Ok(Compiled { registry: Arc::clone(&self.registry), template, variables, pieces })
    }
}

fn registry(escape: Escape, zone: &TimeZone) -> Handlebars<'static> {
    let mut registry = Handlebars::new();
    registry.set_strict_mode(true);
    registry.set_prevent_indent(true);
    match escape {
        Escape::Bare => registry.register_escape_fn(handlebars::no_escape),
        Escape::Html => registry.register_escape_fn(handlebars::html_escape),
        Escape::Url => registry.register_escape_fn(helpers::percent),
        Escape::Json => registry.register_escape_fn(helpers::json_inner),
        Escape::Form => registry.register_escape_fn(helpers::form),
    }
    registry.unregister_helper("raw");
    registry.unregister_helper("log");
    helpers::register(&mut registry, zone);
    registry
}

/// A checked template, ready to render any number of times.
#[derive(Clone)]
pub struct Compiled {
    registry: Arc<Handlebars<'static>>,
    template: Template,
    variables: BTreeSet<String>,
    pieces: Option<Pieces>,
}

impl Compiled {
    /// The dotted paths this template reads.
    #[must_use]
    pub fn variables(&self) -> &BTreeSet<String> {
        &self.variables
    }

    /// Made of text and plain values alone: the same data renders the same.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.pieces.is_some()
    }

    /// The same template with the texts of `fixed` written into it, where it is made of
    /// plain values; whatever renders it has them in its data, too.
    #[must_use]
    pub fn knowing(mut self, fixed: &serde_json::Value) -> Self {
        self.pieces = self.pieces.map(|pieces| pieces.knowing(fixed, self.registry.get_escape_fn()));
        self
    }

    /// Renders with `data`.
    pub fn render(&self, data: &Context) -> Result<String, RenderError> {
        self.render_again(data, &mut Memo::default())
    }

    /// Renders with `data`; `memo` is this template's, from one rendering to the next.
    pub fn render_again(&self, data: &Context, memo: &mut Memo) -> Result<String, RenderError> {
        let plain = self.pieces.as_ref();
        if let Some(text) = plain.and_then(|p| p.render(data.data(), self.registry.get_escape_fn(), memo)) {
            return Ok(text);
        }
        let mut out = StringOutput::new();
        let mut state = handlebars::RenderContext::new(self.template.name.as_ref());
        self.template
            .render(&self.registry, data, &mut state, &mut out)
            .map_err(|error| explain(self.template.name.as_deref().unwrap_or_default(), &error))?;
        out.into_string().map_err(|e| RenderError::Failed { at: check::start(&self.template), why: e.to_string() })
    }
}

impl std::fmt::Debug for Compiled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compiled").field("name", &self.template.name).finish_non_exhaustive()
    }
}

/// The dotted paths a template reads, without regard to what is known.
pub fn variables(source: &str) -> Result<BTreeSet<String>, RenderError> {
    let engine = Engine::texts(Escape::Bare, &TimeZone::UTC);
    Ok(engine.compile("template", source, &|_| true)?.variables)
}

fn explain(name: &str, error: &handlebars::RenderError) -> RenderError {
    let at = At {
        name: error.template_name.clone().unwrap_or_else(|| name.to_owned()),
        line: error.line_no.unwrap_or(1),
        column: error.column_no.unwrap_or(1),
    };
    match error.reason() {
        RenderErrorReason::MissingVariable(path) => {
            RenderError::Missing { at, variable: path.clone().unwrap_or_else(|| "?".into()) }
        }
        RenderErrorReason::HelperNotFound(helper) => RenderError::Helper { at, helper: helper.clone() },
        RenderErrorReason::PartialNotFound(partial) => RenderError::Partial { at, partial: partial.clone() },
        reason => RenderError::Failed { at, why: reason.to_string() },
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_email;
#[cfg(test)]
mod tests_posts;
