//! The text of a dispatch: one for everybody, or one for each recipient's variables.

use std::sync::Arc;

use serde_json::{Value, json};

use super::RenderError;
use super::markdown;
use super::messages::{Medium, MessageTemplate, Messages, Personal};
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

/// Makes the texts of one item version on one channel.
pub struct Composer {
    medium: Medium,
    title: Arc<str>,
    signature: String,
    texts: Texts,
}

enum Texts {
    Same(Text),
    Own(Box<Forms>),
}

/// The text and, where the medium takes it, its HTML.
struct Forms {
    text: Form,
    html: Option<Form>,
}

/// One form of a message: its template, and the body where that has variables itself.
struct Form {
    template: Personal,
    body: Option<(&'static str, Personal)>,
}

impl Form {
    fn new(template: &MessageTemplate, body: Option<(&'static str, MessageTemplate)>, shared: &Value) -> Self {
        let body = body.map(|(field, body)| (field, body.personal(shared.clone()).unmarked()));
        Self { template: template.personal(shared.clone()), body }
    }

    fn render(&mut self, vars: Value) -> Result<String, RenderError> {
        if let Some((field, body)) = &mut self.body {
            self.template.set_item(field, body.render(vars.clone())?);
        }
        self.template.render(vars)
    }
}

impl Forms {
    fn render(&mut self, vars: Value) -> Result<(String, Option<String>), RenderError> {
        let html = self.html.as_mut().map(|html| html.render(vars.clone())).transpose()?;
        Ok((self.text.render(vars)?, html))
    }
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
        let kind = content.kind.name();
        let template = messages.text(medium, kind, own)?;
        let html = messages.html(medium, kind)?;
        let (body, body_html) = bodies(messages, medium, content)?;
        let personal =
            [Some(&template), html.as_ref(), body.as_ref()].into_iter().flatten().any(|t| !t.vars().is_empty());
        let shared = json!({
            "item": item(content),
            "site": { "name": sender.name, "phone": sender.phone },
            "mode_mark": sender.mark,
        });
        let signature = sender.signature.to_owned();
        let title: Arc<str> = headline(content, sender.mark).into();
        let mut forms = Forms {
            text: Form::new(&template, body.map(|b| ("body_text", b)), &shared),
            html: html.map(|html| Form::new(&html, body_html.map(|b| ("body_html", b)), &shared)),
        };
        if personal {
            return Ok(Self { medium, title, signature, texts: Texts::Own(Box::new(forms)) });
        }
        let text = finish(medium, &title, &signature, forms.render(Value::Null)?);
        Ok(Self { medium, title, signature, texts: Texts::Same(text) })
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
            Texts::Own(forms) => Ok(finish(self.medium, &self.title, &self.signature, forms.render(vars)?)),
        }
    }
}

/// The body of a mail as a template in both forms, where it has variables in it.
fn bodies(
    messages: &Messages,
    medium: Medium,
    content: &Content,
) -> Result<(Option<MessageTemplate>, Option<MessageTemplate>), RenderError> {
    if medium != Medium::Email || !content.body.contains("{{") {
        return Ok((None, None));
    }
    let text = messages.body(&markdown::lines(&content.body), false)?;
    Ok((Some(text), Some(messages.body(&markdown::html(&content.body), true)?)))
}

fn finish(medium: Medium, title: &Arc<str>, signature: &str, (text, html): (String, Option<String>)) -> Text {
    let mut text = sms::with_signature(signature, text.trim());
    // A section that is left out leaves its blank lines.
    while medium == Medium::Email && text.contains("\n\n\n") {
        text = text.replace("\n\n\n", "\n\n");
    }
    let parts = if medium == Medium::Sms { sms::segments(&text).parts } else { 1 };
    Text { title: Arc::clone(title), text: text.into(), html: html.map(Into::into), parts }
}

/// The title as it stands above a text: `【演练】更正：…`.
#[must_use]
pub fn headline(content: &Content, mark: &str) -> String {
    let relation = content.relations.first().map_or("", |(relation, _)| match relation {
        Relation::Updates => "更新：",
        Relation::Corrects => "更正：",
        Relation::Lifts => "解除：",
        Relation::Withdraws => "撤回：",
        Relation::Interprets => "解读：",
    });
    format!("{mark}{relation}{}", content.title)
}

/// What of an item a text may use.
fn item(content: &Content) -> Value {
    json!({
        "kind": content.kind.name(),
        "title": content.title,
        "body_plain": plain(&content.body),
        "body_text": markdown::lines(&content.body),
        "body_html": markdown::html(&content.body),
        "sms": content.sms,
        "level_zh": content.level.map(|l| l.zh(content.kind)),
        "level_colour": content.level.map(|l| colours(l).0),
        "level_ink": content.level.map(|l| colours(l).1),
        "area_text": content.area_text,
        "actions": content.actions,
        "issuer": content.issuer,
        "phone": content.phone,
        "effective_at": content.effective_at,
        "expires_at": content.expires_at,
        "relation": content.relations.first().map(|(r, _)| r.name()),
        "document_no": content.document_no,
        "objection_phone": content.objection_phone,
    })
}

/// The colour of a level, and of the letters that can be read on it.
const fn colours(level: Level) -> (&'static str, &'static str) {
    match level {
        Level::Red => ("#c00000", "#ffffff"),
        Level::Orange => ("#e36c0a", "#ffffff"),
        Level::Yellow => ("#ffd400", "#222222"),
        Level::Blue => ("#1f5fbf", "#ffffff"),
    }
}

/// Markdown as running text: no marks, one line.
#[must_use]
pub fn plain(markdown: &str) -> String {
    use pulldown_cmark::{Event, Parser, TagEnd};
    let mut out = String::with_capacity(markdown.len());
    for event in Parser::new(markdown) {
        match event {
            Event::Text(text) | Event::Code(text) => out.push_str(&text),
            Event::SoftBreak | Event::HardBreak => {}
            Event::End(TagEnd::Paragraph | TagEnd::Heading(_) | TagEnd::Item | TagEnd::TableCell)
                if !out.ends_with(['。', '；', '：', '！', '？', '，', ' ']) =>
            {
                out.push(' ');
            }
            _ => {}
        }
    }
    out.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_becomes_running_text() {
        assert_eq!(plain("# 通知\n\n各村：\n\n- 请**立即**转移\n- 带好药品\n"), "通知 各村：请立即转移 带好药品");
    }
}
