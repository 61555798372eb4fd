//! Templates without helpers and blocks, taken apart once: text, value, text. Sending
//! renders such a template for every message, and walking handlebars' tree each time
//! costs more than the message itself.

use handlebars::template::{HelperTemplate, Parameter, TemplateElement};
use handlebars::{Path, PathSeg, Template};
use serde_json::Value;

/// One piece of a template.
#[derive(Debug, Clone)]
enum Piece {
    Text(String),
    Value { path: Vec<String>, escaped: bool },
}

/// A template as its pieces.
#[derive(Debug, Clone)]
pub(super) struct Pieces(Vec<Piece>);

/// A value this long, in bytes, is worth remembering.
const LONG: usize = 64;

/// What a template keeps from one rendering to the next: thousands of messages have one
/// text, and are as long as each other.
#[derive(Debug, Default)]
pub struct Memo {
    /// Of each piece, its long value and what that was escaped to.
    escaped: Vec<(String, String)>,
    /// Bytes of the longest result.
    room: usize,
}

impl Memo {
    /// The escaped form of the value of piece `at`.
    fn escaped(&mut self, at: usize, value: &str, escape: impl Fn(&str) -> String) -> &str {
        if self.escaped.len() <= at {
            self.escaped.resize_with(at + 1, Default::default);
        }
        let (known, escaped) = &mut self.escaped[at];
        if known != value {
            value.clone_into(known);
            *escaped = escape(value);
        }
        escaped
    }
}

impl Pieces {
    /// `None` where the template has anything but text and plain values; `is_helper`
    /// says which names are calls.
    pub(super) fn of(template: &Template, is_helper: &dyn Fn(&str) -> bool) -> Option<Self> {
        let piece = |element: &TemplateElement| match element {
            TemplateElement::RawString(text) => Some(Piece::Text(text.clone())),
            TemplateElement::Comment(_) => Some(Piece::Text(String::new())),
            TemplateElement::Expression(tag) => value(tag, true, is_helper),
            TemplateElement::HtmlExpression(tag) => value(tag, false, is_helper),
            _ => None,
        };
        template.elements.iter().map(piece).collect::<Option<_>>().map(Self)
    }

    /// The text for `data`; `None` where a value is missing, null or not a scalar, so
    /// that handlebars itself says what is wrong.
    pub(super) fn render(&self, data: &Value, escape: impl Fn(&str) -> String, memo: &mut Memo) -> Option<String> {
        let mut out = String::with_capacity(memo.room);
        for (at, piece) in self.0.iter().enumerate() {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Value { path, escaped } => match find(data, path)? {
                    Value::String(text) if *escaped && text.len() >= LONG => {
                        out.push_str(memo.escaped(at, text, &escape));
                    }
                    Value::String(text) if *escaped => out.push_str(&escape(text)),
                    Value::String(text) => out.push_str(text),
                    Value::Number(number) => out.push_str(&number.to_string()),
                    _ => return None,
                },
            }
        }
        memo.room = memo.room.max(out.len());
        Some(out)
    }

    /// The same pieces with the texts of `fixed` written into them.
    pub(super) fn knowing(self, fixed: &Value, escape: impl Fn(&str) -> String) -> Self {
        let mut pieces: Vec<Piece> = Vec::with_capacity(self.0.len());
        for piece in self.0 {
            let text = match &piece {
                Piece::Text(text) => text.clone(),
                Piece::Value { path, escaped } => match find(fixed, path) {
                    Some(Value::String(text)) if *escaped => escape(text),
                    Some(Value::String(text)) => text.clone(),
                    _ => {
                        pieces.push(piece);
                        continue;
                    }
                },
            };
            match pieces.last_mut() {
                Some(Piece::Text(before)) => before.push_str(&text),
                _ => pieces.push(Piece::Text(text)),
            }
        }
        Self(pieces)
    }
}

fn find<'a>(data: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(data, |at, name| at.as_object()?.get(name))
}

fn value(tag: &HelperTemplate, escaped: bool, is_helper: &dyn Fn(&str) -> bool) -> Option<Piece> {
    if !tag.params.is_empty() || !tag.hash.is_empty() {
        return None;
    }
    let parsed;
    let path = match &tag.name {
        Parameter::Path(path) => path,
        Parameter::Name(name) => {
            parsed = Path::parse(name).ok()?;
            &parsed
        }
        _ => return None,
    };
    let Path::Relative((segments, raw)) = path else { return None };
    if raw.starts_with('@') || is_helper(raw) {
        return None;
    }
    let named = |segment: &PathSeg| match segment {
        PathSeg::Named(name) if name != "this" => Some(name.trim_start_matches('[').trim_end_matches(']').to_owned()),
        _ => None,
    };
    let path: Vec<String> = segments.iter().map(named).collect::<Option<_>>()?;
    (!path.is_empty()).then_some(Piece::Value { path, escaped })
}
