//! A message in its forms: the text, and for a mail its HTML, each with the
//! variables of its recipient.

use serde_json::Value;

use super::RenderError;
use super::markdown;
use super::messages::{Medium, MessageTemplate, Messages, Personal};
use crate::domain::item::{Content, Level};

/// The text and, where the medium takes it, its HTML.
pub(super) struct Forms {
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
    pub(super) fn render(&mut self, vars: Value) -> Result<(String, Option<String>), RenderError> {
        let html = self.html.as_mut().map(|html| html.render(vars.clone())).transpose()?;
        Ok((self.text.render(vars)?, html))
    }
}

impl Forms {
    pub(super) fn new(
        text: &MessageTemplate,
        (html, bodies): (Option<&MessageTemplate>, Bodies),
        shared: &Value,
    ) -> Self {
        Self {
            text: Form::new(text, bodies.text.map(|b| ("body_lines", b)), shared),
            html: html.map(|html| Form::new(html, bodies.html.map(|b| ("body_html", b)), shared)),
        }
    }
}

/// The body of a mail as a template in both forms, where it has variables in it.
#[derive(Default)]
pub(super) struct Bodies {
    pub text: Option<MessageTemplate>,
    pub html: Option<MessageTemplate>,
}

impl Bodies {
    pub(super) fn new(messages: &Messages, medium: Medium, content: &Content) -> Result<Self, RenderError> {
        if medium != Medium::Email || !content.body.contains("{{") {
            return Ok(Self::default());
        }
        let text = messages.body(&markdown::lines(&content.body), false)?;
        Ok(Self { text: Some(text), html: Some(messages.body(&markdown::html(&content.body), true)?) })
    }
}

/// The colour of a level, and of the letters that can be read on it.
pub(super) const fn colours(level: Level) -> (&'static str, &'static str) {
    match level {
        Level::Red => ("#c00000", "#ffffff"),
        Level::Orange => ("#e36c0a", "#ffffff"),
        Level::Yellow => ("#ffd400", "#222222"),
        Level::Blue => ("#1f5fbf", "#ffffff"),
    }
}
