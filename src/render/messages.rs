//! Message texts: one template a medium and kind of item, the site's own first.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use handlebars::Context;
use jiff::tz::TimeZone;
use rust_embed::RustEmbed;
use serde_json::{Map, Value};

use super::{Compiled, Engine, Escape, RenderError};

#[derive(RustEmbed)]
#[folder = "templates/"]
struct Shipped;

/// The form a text takes; each has a folder of templates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Medium {
    Sms,
    Email,
    /// A post of an account: a chat robot, a public account, a webhook.
    Media,
    /// A printed sheet; its layouts are Typst's, not handlebars'.
    Sheet,
}

impl Medium {
    /// Those whose texts are handlebars templates.
    pub const TEXTS: [Self; 3] = [Self::Sms, Self::Email, Self::Media];

    /// The name of its folder under `templates/`.
    #[must_use]
    pub const fn folder(self) -> &'static str {
        match self {
            Self::Sms => "sms",
            Self::Email => "email",
            Self::Media => "media",
            Self::Sheet => "sheet",
        }
    }
}

/// The fields of an item that a text may use.
const ITEM: &[&str] = &[
    "kind",
    "kind_zh",
    "number",
    "title",
    "body_plain",
    "body_text",
    "body_lines",
    "body_html",
    "sms",
    "level",
    "level_zh",
    "level_colour",
    "level_ink",
    "area_text",
    "actions",
    "issuer",
    "phone",
    "effective_at",
    "expires_at",
    "relation",
    "relation_zh",
    "objection_phone",
    "url",
    "document_no",
];

const FALLBACK: &str = "default";

/// The templates of this site, compiled.
#[derive(Clone)]
pub struct Messages {
    media: BTreeMap<Medium, Templates>,
    /// `KIND.html.hbs` of mail, which stand beside its texts.
    html: Templates,
}

/// Ends the name of a template that writes HTML.
const HTML: &str = ".html";

/// The templates of one medium.
#[derive(Clone)]
struct Templates {
    engine: Engine,
    kinds: BTreeMap<String, MessageTemplate>,
}

impl Messages {
    /// Loads the shipped templates, each replaced by the one of the same name in
    /// the site's folder of that medium. Times are written in `zone`.
    ///
    /// # Errors
    /// The first template that is not sound, with its place.
    pub fn load(site_templates: Option<&Path>, zone: &TimeZone) -> Result<Self, RenderError> {
        let load = |medium| Ok((medium, Templates::load(medium, Escape::Bare, site_templates, zone)?));
        Ok(Self {
            media: Medium::TEXTS.into_iter().map(load).collect::<Result<_, RenderError>>()?,
            html: Templates::load(Medium::Email, Escape::Html, site_templates, zone)?,
        })
    }

    /// The HTML template of an item of `kind`, where the medium takes HTML beside its text.
    pub fn html(&self, medium: Medium, kind: &str) -> Result<Option<MessageTemplate>, RenderError> {
        if medium == Medium::Email { self.html.text(kind, None) } else { Ok(None) }
    }

    /// An item's body with variables of the recipients in it, for the text (`html`: for
    /// the HTML) of a mail.
    pub fn body(&self, source: &str, html: bool) -> Result<MessageTemplate, RenderError> {
        let none = || RenderError::Io(Medium::Email.folder().into(), std::io::ErrorKind::NotFound.into());
        let templates = if html { &self.html } else { self.media.get(&Medium::Email).ok_or_else(none)? };
        MessageTemplate::new(&templates.engine, "body", source)
    }

    /// The template of an item of `kind` on `medium`; `own` is the item's own text,
    /// itself a template.
    pub fn text(&self, medium: Medium, kind: &str, own: Option<&str>) -> Result<MessageTemplate, RenderError> {
        let none = || RenderError::Io(medium.folder().into(), std::io::ErrorKind::NotFound.into());
        self.media.get(&medium).ok_or_else(none)?.text(kind, own)?.ok_or_else(none)
    }
}

impl Templates {
    fn load(
        medium: Medium,
        escape: Escape,
        site_templates: Option<&Path>,
        zone: &TimeZone,
    ) -> Result<Self, RenderError> {
        let folder = medium.folder();
        let mut sources: BTreeMap<String, String> = BTreeMap::new();
        for file in Shipped::iter() {
            let name = file.strip_prefix(folder).and_then(|f| f.strip_prefix('/')).and_then(|f| f.strip_suffix(".hbs"));
            if let (Some(name), Some(found)) = (name, Shipped::get(&file)) {
                sources.insert(name.to_owned(), String::from_utf8_lossy(&found.data).trim_end().to_owned());
            }
        }
        if let Some(site) = site_templates {
            read_site(&site.join(folder), &mut sources)?;
        }
        let sources = of_form(sources, escape);
        let engine = Engine::texts(escape, zone)
            .with_partials(sources.iter().map(|(name, source)| (name.as_str(), source.as_str())))?;
        let mut kinds = BTreeMap::new();
        for (name, source) in &sources {
            kinds.insert(name.clone(), MessageTemplate::new(&engine, name, source)?);
        }
        Ok(Self { engine, kinds })
    }

    fn text(&self, kind: &str, own: Option<&str>) -> Result<Option<MessageTemplate>, RenderError> {
        match own {
            Some(own) => MessageTemplate::new(&self.engine, "sms", own).map(Some),
            None => Ok(self.kinds.get(kind).or_else(|| self.kinds.get(FALLBACK)).cloned()),
        }
    }
}

/// The templates that write HTML, under their bare names, or those that do not.
fn of_form(sources: BTreeMap<String, String>, escape: Escape) -> BTreeMap<String, String> {
    let bare = |(name, source): (String, String)| match name.strip_suffix(HTML) {
        Some(bare) => (escape == Escape::Html).then(|| (bare.to_owned(), source)),
        None => (escape != Escape::Html).then_some((name, source)),
    };
    sources.into_iter().filter_map(bare).collect()
}

fn read_site(folder: &Path, sources: &mut BTreeMap<String, String>) -> Result<(), RenderError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |e| RenderError::Io(path, e)
    };
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder).map_err(io(folder))? {
        let path = entry.map_err(io(folder))?.path();
        if path.extension().is_none_or(|e| e != "hbs") {
            continue;
        }
        let size = std::fs::metadata(&path).map_err(io(&path))?.len();
        let Some(name) = path.file_stem().and_then(|s| s.to_str()).map(str::to_owned) else { continue };
        if size > super::MAX_BYTES as u64 {
            return Err(RenderError::TooLarge { name, bytes: usize::try_from(size).unwrap_or(usize::MAX) });
        }
        let source = std::fs::read_to_string(&path).map_err(io(&path))?;
        sources.insert(name, source.trim_end().to_owned());
    }
    Ok(())
}

/// Whether an item has a field of this name, for texts and requests.
#[must_use]
pub fn is_item_field(field: &str) -> bool {
    ITEM.contains(&field.split('.').next().unwrap_or(field))
}

/// The fields an item may have.
pub(super) fn item_fields() -> impl Iterator<Item = &'static str> {
    ITEM.iter().copied()
}

fn known(path: &str) -> bool {
    match path.split_once('.') {
        Some(("item", field)) => is_item_field(field),
        Some(("site", field)) => matches!(field, "name" | "phone"),
        Some(("vars", _)) => true,
        Some(_) => false,
        // A bare name is one of the recipient's variables.
        None => true,
    }
}

/// One message text, compiled once for any number of recipients. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MessageTemplate {
    compiled: Arc<Compiled>,
    vars: Arc<BTreeSet<String>>,
    bare: Arc<[String]>,
}

impl MessageTemplate {
    fn new(engine: &Engine, name: &str, source: &str) -> Result<Self, RenderError> {
        let compiled = engine.compile(name, source, &known)?;
        let mut vars = BTreeSet::new();
        let mut bare = Vec::new();
        for path in compiled.variables() {
            if let Some(var) = path.strip_prefix("vars.") {
                vars.insert(var.split('.').next().unwrap_or(var).to_owned());
            } else if !path.contains('.') && !matches!(path.as_str(), "item" | "site" | "vars" | "mode_mark") {
                vars.insert(path.clone());
                bare.push(path.clone());
            }
        }
        Ok(Self { compiled: Arc::new(compiled), vars: Arc::new(vars), bare: bare.into() })
    }

    /// The recipient's variables this text needs; empty when everyone gets the same text.
    #[must_use]
    pub fn vars(&self) -> &BTreeSet<String> {
        &self.vars
    }

    /// Every dotted path this text reads.
    #[must_use]
    pub fn variables(&self) -> &BTreeSet<String> {
        self.compiled.variables()
    }

    /// Renders one text from `{item, site, mode_mark, vars}`. The mark of a drill or
    /// a test stands in front whether or not the template has it.
    pub fn render(&self, data: &Value) -> Result<String, RenderError> {
        let vars = data.get("vars").cloned().unwrap_or_default();
        self.personal(data.clone()).render(vars)
    }

    /// Sets what all recipients share (`{item, site, mode_mark}`), to render once for each.
    #[must_use]
    pub fn personal(&self, shared: Value) -> Personal {
        let mark = shared.get("mode_mark").and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut context = Context::null();
        *context.data_mut() = match shared {
            Value::Object(fields) => Value::Object(fields),
            _ => Value::Object(Map::new()),
        };
        Personal { template: self.clone(), context, mark }
    }
}

/// A text and what its recipients share.
pub struct Personal {
    template: MessageTemplate,
    context: Context,
    mark: String,
}

impl Personal {
    /// The same for a piece of a text, which bears no mark of its own.
    #[must_use]
    pub fn unmarked(self) -> Self {
        Self { mark: String::new(), ..self }
    }

    /// Sets a field of the item that all texts to come share.
    pub fn set_item(&mut self, field: &str, value: String) {
        if let Some(item) = self.context.data_mut().get_mut("item").and_then(Value::as_object_mut) {
            item.insert(field.to_owned(), Value::String(value));
        }
    }

    /// The text for the recipient with these variables (a JSON object, or null).
    pub fn render(&mut self, vars: Value) -> Result<String, RenderError> {
        if let Some(root) = self.context.data_mut().as_object_mut() {
            for name in self.template.bare.iter() {
                match vars.get(name) {
                    Some(value) => root.insert(name.clone(), value.clone()),
                    None => root.remove(name),
                };
            }
            root.insert("vars".to_owned(), if vars.is_object() { vars } else { Value::Object(Map::new()) });
        }
        let text = self.template.compiled.render(&self.context)?;
        Ok(if self.mark.is_empty() || text.contains(&self.mark) { text } else { format!("{}{text}", self.mark) })
    }
}
