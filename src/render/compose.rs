//! The text of a dispatch: one for everybody, or one for each recipient's variables.

use std::sync::Arc;

use serde_json::{Value, json};

use super::RenderError;
use super::closing::Closing;
use super::mail::{Bodies, Forms, colours};
use super::markdown;
use super::messages::{Medium, MessageTemplate, Messages, item_fields};
use crate::domain::item::{Content, Level, Relation};
use crate::domain::sms;

/// Who sends, as texts name it.
#[derive(Debug, Clone)]
pub struct Sender<'a> {
    pub name: &'a str,
    pub phone: &'a str,
    /// `【…】` before every text; empty for none.
    pub signature: &'a str,
    /// `【演练】`, `【测试】` or nothing.
    pub mark: &'a str,
}

/// The template of a call among those of SMS.
const CALL: &str = "call";

/// Makes the texts of one item version on one channel.
pub struct Composer {
    medium: Medium,
    title: Arc<str>,
    signature: String,
    closing: Closing,
    texts: Texts,
    /// What a post is made from; it may have to be made again, shorter.
    source: Option<Box<(MessageTemplate, Value)>>,
    facts: Option<Arc<Value>>,
    cut: bool,
}

enum Texts {
    Same(Text),
    Own(Box<Forms>),
}

/// A text ready to send, and its SMS parts, signature included.
#[derive(Debug, Clone)]
pub struct Text {
    /// The headline, with what it does to an earlier item and the mark of a drill.
    pub title: Arc<str>,
    pub text: Arc<str>,
    /// Beside the text, where the medium takes both.
    pub html: Option<Arc<str>>,
    /// Billable parts: of an SMS; 1 of anything else.
    pub parts: u32,
}

impl Composer {
    /// Renders the text once where no recipient's variables are in it.
    ///
    /// # Errors
    /// When the template lacks a variable or is not sound; it says where.
    pub fn new(
        messages: &Messages,
        medium: Medium,
        content: &Content,
        sender: &Sender<'_>,
    ) -> Result<Self, RenderError> {
        let own = content.sms.as_deref().filter(|_| medium == Medium::Sms);
        let template = messages.text(medium, content.kind.name(), own)?;
        let html = messages.html(medium, content.kind.name())?;
        let bodies = Bodies::new(messages, medium, content)?;
        Self::with((&template, html.as_ref(), bodies), medium, content, sender)
    }

    /// The text that calls a duty officer (叫应), with the village and the link as variables.
    ///
    /// # Errors
    /// As there.
    pub fn call(messages: &Messages, content: &Content, sender: &Sender<'_>) -> Result<Self, RenderError> {
        let template = messages.text(Medium::Sms, CALL, None)?;
        Self::with((&template, None, Bodies::default()), Medium::Sms, content, sender)
    }

    fn with(
        (template, html, bodies): (&MessageTemplate, Option<&MessageTemplate>, Bodies),
        medium: Medium,
        content: &Content,
        sender: &Sender<'_>,
    ) -> Result<Self, RenderError> {
        let shared = json!({
            "item": item(content),
            "site": { "name": sender.name, "phone": sender.phone },
            "mode_mark": sender.mark,
        });
        let signature = sender.signature.to_owned();
        let closing = Closing::new(content, sender);
        let title: Arc<str> = headline(content, sender.mark).into();
        let own = [Some(template), html, bodies.text.as_ref()].into_iter().flatten().any(|t| !t.vars().is_empty());
        let mut forms = Forms::new(template, (html, bodies), &shared);
        if own {
            let texts = Texts::Own(Box::new(forms));
            return Ok(Self { medium, title, signature, closing, texts, source: None, facts: None, cut: false });
        }
        let (text, html) = forms.render(Value::Null)?;
        let html = html.map(|html| closing.close_html(&html).into());
        let text = Text { html, ..finish(medium, &title, &signature, &closing.close(&text)) };
        let post = medium == Medium::Media;
        let facts = post.then(|| Arc::new(handed_on(shared["item"].clone(), sender)));
        let source = post.then(|| Box::new((template.clone(), shared)));
        Ok(Self { medium, title, signature, closing, texts: Texts::Same(text), source, facts, cut: false })
    }

    /// Makes a post fit a channel that takes `max_bytes` of UTF-8: its body ends after
    /// the last sentence that fits, goes on with `read_on`, and unit and phone stay.
    /// What does not fit even so stays too long, for the caller to refuse.
    ///
    /// # Errors
    /// When the template does not render.
    pub fn within(mut self, max_bytes: Option<usize>, read_on: Option<&str>) -> Result<Self, RenderError> {
        let (Some(most), Some(read_on), Texts::Same(text), Some(source)) =
            (max_bytes, read_on, &self.texts, &mut self.source)
        else {
            return Ok(self);
        };
        if text.text.len() <= most {
            return Ok(self);
        }
        let (template, shared) = &mut **source;
        let (medium, title, signature, closing) = (self.medium, &self.title, &self.signature, &self.closing);
        let body = shared["item"]["body_text"].as_str().unwrap_or_default().to_owned();
        let mut render = |end: usize| -> Result<Text, RenderError> {
            let short = format!("{}……{read_on}", body[..end].trim_end());
            shared["item"]["body_plain"] = short.clone().into();
            shared["item"]["body_text"] = short.into();
            Ok(finish(medium, title, signature, &closing.close(&template.render(shared)?)))
        };
        let ends = sentence_ends(&body);
        // The more sentences the longer the text, so the last that fits is found by halving.
        let (mut fits, mut too_many) = (0, ends.len());
        while too_many - fits > 1 {
            let middle = fits.midpoint(too_many);
            if render(ends[middle])?.text.len() <= most { fits = middle } else { too_many = middle }
        }
        self.texts = Texts::Same(render(ends[fits])?);
        self.cut = true;
        Ok(self)
    }

    /// Whether [`Composer::within`] had to leave some of the body out.
    #[must_use]
    pub const fn is_cut(&self) -> bool {
        self.cut
    }

    /// What a post hands on of its item beside the text.
    #[must_use]
    pub fn facts(&self) -> Option<Arc<Value>> {
        self.facts.clone()
    }

    /// Whether every recipient has a text of its own.
    #[must_use]
    pub fn is_personal(&self) -> bool {
        matches!(self.texts, Texts::Own(_))
    }

    /// The text for a recipient with these variables (a JSON object, or null).
    ///
    /// # Errors
    /// When a variable is missing; it says which.
    pub fn text(&mut self, vars: Value) -> Result<Text, RenderError> {
        match &mut self.texts {
            Texts::Same(text) => Ok(text.clone()),
            Texts::Own(forms) => {
                let (text, html) = forms.render(vars)?;
                let text = finish(self.medium, &self.title, &self.signature, &self.closing.close(&text));
                Ok(Text { html: html.map(|html| self.closing.close_html(&html).into()), ..text })
            }
        }
    }
}

fn finish(medium: Medium, title: &Arc<str>, signature: &str, text: &str) -> Text {
    let mut text = sms::with_signature(signature, text.trim());
    // A section that is left out leaves its blank lines.
    while medium == Medium::Email && text.contains("\n\n\n") {
        text = text.replace("\n\n\n", "\n\n");
    }
    let parts = if medium == Medium::Sms { sms::segments(&text).parts } else { 1 };
    Text { title: Arc::clone(title), text: text.into(), html: None, parts }
}

/// The title as it stands above a text: `【演练】更正：…`.
#[must_use]
pub fn headline(content: &Content, mark: &str) -> String {
    let relation = content.relations.first().map_or(String::new(), |(relation, _)| format!("{}：", relation.zh()));
    format!("{mark}{relation}{}", content.title)
}

/// Where `body` may end: at 0 and after every sentence and line. ASCII stops count
/// before a space alone, so that 3.5 and a web address stay whole.
fn sentence_ends(body: &str) -> Vec<usize> {
    let mut ends = vec![0];
    let mut letters = body.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        let spaced = letters.peek().is_none_or(|(_, next)| next.is_whitespace());
        if matches!(letter, '。' | '！' | '？' | '；' | '\n') || (spaced && matches!(letter, '.' | '!' | '?' | ';'))
        {
            ends.push(at + letter.len_utf8());
        }
    }
    ends
}

/// The facts of no item: every field is there and empty.
#[must_use]
pub fn no_facts() -> Value {
    item_fields().map(|field| (field.to_owned(), Value::Null)).collect::<serde_json::Map<_, _>>().into()
}

/// What of an item a text may use.
fn item(content: &Content) -> Value {
    let mut item = no_facts();
    let known = facts(content);
    if let (Some(item), Value::Object(known)) = (item.as_object_mut(), known) {
        item.extend(known);
    }
    item
}

/// The fields of an item as another system gets them: who answers for it is there.
fn handed_on(mut item: Value, sender: &Sender<'_>) -> Value {
    for (field, of_unit) in [("issuer", sender.name), ("phone", sender.phone)] {
        if item[field].as_str().is_none_or(str::is_empty) {
            item[field] = of_unit.into();
        }
    }
    item
}

fn facts(content: &Content) -> Value {
    let relation = content.relations.first().map(|(relation, _)| *relation);
    json!({
        "kind": content.kind.name(),
        "kind_zh": content.kind.zh(),
        "number": content.document_no,
        "title": content.title,
        "body_plain": markdown::plain(&content.body),
        "body_text": markdown::compact(&content.body),
        "body_lines": markdown::lines(&content.body),
        "body_html": markdown::html(&content.body),
        "document_no": content.document_no,
        "level_colour": content.level.map(|l| colours(l).0),
        "level_ink": content.level.map(|l| colours(l).1),
        "sms": content.sms,
        "level": content.level.map(Level::name),
        "level_zh": content.level.map(|l| l.zh(content.kind)),
        "area_text": content.area_text,
        "actions": content.actions,
        "issuer": content.issuer,
        "phone": content.phone,
        "effective_at": content.effective_at,
        "expires_at": content.expires_at,
        "objection_phone": content.objection_phone,
        "relation": relation.map(Relation::name),
        "relation_zh": relation.map(Relation::zh),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the kind and the medium, a text says who sends it and where to call back.
    #[test]
    fn every_shipped_text_names_the_unit_and_a_number() {
        let messages = Messages::load(None, &jiff::tz::TimeZone::UTC).unwrap();
        let sender = Sender { name: "某县应急管理局", phone: "0873-5550000", signature: "", mark: "" };
        for kind in crate::domain::item::ItemKind::ALL {
            for (medium, issuer, relation) in Medium::TEXTS.into_iter().flat_map(|m| {
                let lifts = Some(Relation::Lifts);
                [(m, None, None), (m, Some("某县人民政府"), None), (m, None, lifts)]
            }) {
                let mut content = Content::new(kind);
                content.title = "关于防汛的事".to_owned();
                content.body = "请看公告栏。".repeat(200);
                content.issuer = issuer.map(str::to_owned);
                content.relations = relation.map(|r| (r, "1".to_owned())).into_iter().collect();
                let template = messages.text(medium, kind.name(), None).unwrap();
                let data = json!({ "item": item(&content), "site": { "name": sender.name, "phone": sender.phone }, "mode_mark": "" });
                let text = template.render(&data).unwrap();
                let unit = issuer.unwrap_or(sender.name);
                assert!(text.contains(unit) && text.contains(sender.phone), "{kind:?} {medium:?}: {text}");
            }
        }
    }
}
