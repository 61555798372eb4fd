//! TOML, YAML and JSON brought to one plain form: keys with their lines, values as text.
//!
//! Values stay as they were written, so that a phone number with a leading zero is not
//! taken for a number. YAML is read as events, because a front matter is flat: anchors
//! and nesting are refused before they can grow.

use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use serde::de::{Deserializer, MapAccess, Visitor};
use toml::de::{DeTable, DeValue};

use super::error::ItemError;
use super::field::Field;
use crate::domain::privacy;
use crate::say;

/// A value: text, or a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    Text(String),
    List(Vec<Node>),
}

/// A key with its value, and the line of the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub key: String,
    pub line: usize,
    pub node: Node,
}

fn nested(line: usize, key: &str) -> ItemError {
    ItemError::Value {
        line,
        field: privacy::mask(key),
        expected: say!("文字或列表", "text or a list"),
        found: "{…}".to_owned(),
    }
}

/// The entries of a TOML document whose first line is `first_line` of the file.
pub fn toml(text: &str, first_line: usize) -> Result<Vec<Entry>, ItemError> {
    let line_at = |offset: usize| first_line + text[..offset.min(text.len())].matches('\n').count();
    let table = DeTable::parse(text).map_err(|e| ItemError::Syntax {
        line: e.span().map_or(first_line, |span| line_at(span.start)),
        reason: e.message().to_owned(),
    })?;
    let mut entries = Vec::new();
    for (key, value) in table.into_inner() {
        let line = line_at(key.span().start);
        let key = key.into_inner().into_owned();
        let node = toml_node(value.get_ref()).ok_or_else(|| nested(line, &key))?;
        entries.push(Entry { key, line, node });
    }
    entries.sort_by_key(|entry| entry.line);
    Ok(entries)
}

fn toml_node(value: &DeValue<'_>) -> Option<Node> {
    Some(Node::Text(match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => number.as_str().to_owned(),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(yes) => yes.to_string(),
        DeValue::Datetime(at) => at.to_string(),
        DeValue::Array(items) => {
            return items.iter().map(|item| toml_node(item.get_ref())).collect::<Option<_>>().map(Node::List);
        }
        DeValue::Table(_) => return None,
    }))
}

/// The entries of a flat YAML mapping whose first line is `first_line` of the file. A
/// full-width colon after a known key is taken for a colon.
pub fn yaml(text: &str, first_line: usize) -> Result<Vec<Entry>, ItemError> {
    let text: String = text.split_inclusive('\n').map(half_width_colon).collect();
    let mut events = Parser::new_from_str(&text);
    let mut entries = Vec::new();
    let mut inside = false;
    while let Some((event, span)) = next(&mut events, first_line)? {
        let line = first_line + span.start.line() - 1;
        match event {
            Event::MappingStart(..) => inside = true,
            Event::MappingEnd => inside = false,
            Event::Scalar(key, ..) if inside => {
                let key = key.into_owned();
                let node = yaml_node(&mut events, first_line)?.ok_or_else(|| nested(line, &key))?;
                entries.push(Entry { key, line, node });
            }
            Event::Scalar(..) | Event::SequenceStart(..) | Event::Alias(_) => {
                return Err(ItemError::Syntax { line, reason: say!("应为“键: 值”", "expected `key: value`") });
            }
            _ => {}
        }
    }
    Ok(entries)
}

type Events<'a> = Parser<'a, saphyr_parser::StrInput<'a>>;

fn next<'a>(events: &mut Events<'a>, first_line: usize) -> Result<Option<(Event<'a>, Span)>, ItemError> {
    events
        .next()
        .transpose()
        .map_err(|e| ItemError::Syntax { line: first_line + e.marker().line().max(1) - 1, reason: e.info().to_owned() })
}

/// A scalar or a list of scalars; `None` for anything deeper.
fn yaml_node(events: &mut Events<'_>, first_line: usize) -> Result<Option<Node>, ItemError> {
    match next(events, first_line)? {
        Some((Event::Scalar(text, style, ..), _)) => Ok(Some(Node::Text(yaml_text(&text, style)))),
        Some((Event::SequenceStart(..), _)) => {
            let mut items = Vec::new();
            loop {
                match next(events, first_line)? {
                    Some((Event::Scalar(text, style, ..), _)) => items.push(Node::Text(yaml_text(&text, style))),
                    Some((Event::SequenceEnd, _)) => return Ok(Some(Node::List(items))),
                    _ => return Ok(None),
                }
            }
        }
        _ => Ok(None),
    }
}

fn yaml_text(text: &str, style: ScalarStyle) -> String {
    let null = style == ScalarStyle::Plain && matches!(text, "~" | "null");
    if null { String::new() } else { text.to_owned() }
}

fn half_width_colon(line: &str) -> String {
    match line.split_once('：') {
        Some((key, value)) if !key.contains(':') && !key.starts_with(' ') && Field::find(key).is_some() => {
            format!("{key}: {value}")
        }
        _ => line.to_owned(),
    }
}

/// The entries of a JSON object; nulls are left out.
pub fn json(text: &str) -> Result<Vec<Entry>, ItemError> {
    let syntax = |e: serde_json::Error| ItemError::Syntax { line: e.line().max(1), reason: e.to_string() };
    let mut source = serde_json::Deserializer::from_str(text);
    let pairs = source.deserialize_map(Pairs).map_err(syntax)?;
    source.end().map_err(syntax)?;
    let mut entries = Vec::new();
    for (key, value) in pairs {
        let line = json_line(text, &key);
        if !value.is_null() {
            let node = json_node(value).ok_or_else(|| nested(line, &key))?;
            entries.push(Entry { key, line, node });
        }
    }
    Ok(entries)
}

fn json_node(value: serde_json::Value) -> Option<Node> {
    use serde_json::Value;
    Some(match value {
        Value::String(text) => Node::Text(text),
        Value::Array(items) => Node::List(items.into_iter().map(json_node).collect::<Option<_>>()?),
        Value::Object(_) => return None,
        Value::Null => Node::Text(String::new()),
        Value::Bool(_) | Value::Number(_) => Node::Text(value.to_string()),
    })
}

/// The line on which `key` stands as a key; the parser does not tell.
fn json_line(text: &str, key: &str) -> usize {
    let quoted = serde_json::Value::from(key).to_string();
    let is_key = |(at, _): &(usize, &str)| text[at + quoted.len()..].trim_start().starts_with(':');
    text.match_indices(&quoted).find(is_key).map_or(1, |(at, _)| text[..at].matches('\n').count() + 1)
}

/// All pairs of an object in order, repeated keys included.
struct Pairs;

impl<'de> Visitor<'de> for Pairs {
    type Value = Vec<(String, serde_json::Value)>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(key: &str, line: usize, value: &str) -> Entry {
        Entry { key: key.to_owned(), line, node: Node::Text(value.to_owned()) }
    }

    #[test]
    fn the_three_formats_come_to_the_same() {
        let expected = |first: usize| {
            vec![
                text("title", first, "暴雨"),
                text("phone", first + 1, "0873"),
                Entry {
                    key: "actions".to_owned(),
                    line: first + 2,
                    node: Node::List(vec![Node::Text("甲".to_owned()), Node::Text("乙".to_owned())]),
                },
            ]
        };
        assert_eq!(toml("title = \"暴雨\"\nphone = '0873'\nactions = ['甲', '乙']", 2), Ok(expected(2)));
        assert_eq!(yaml("title: 暴雨\nphone: 0873\nactions:\n  - 甲\n  - 乙\n", 5), Ok(expected(5)));
        assert_eq!(yaml("title: 暴雨\nphone: 0873\nactions: [甲, 乙]\n", 5), Ok(expected(5)));
        assert_eq!(
            json("{\"title\": \"暴雨\",\n\"phone\": \"0873\",\n\"actions\" : [\"甲\",\"乙\"], \"sms\": null}"),
            Ok(expected(1))
        );
    }

    #[test]
    fn yaml_as_people_type_it() {
        assert_eq!(
            yaml("标题：暴雨：红色\n对象: |\n  甲：乙\n电话: ~\n", 2),
            Ok(vec![text("标题", 2, "暴雨：红色"), text("对象", 3, "甲：乙\n"), text("电话", 5, ""),])
        );
        assert_eq!(yaml("", 2), Ok(vec![]));
    }

    #[test]
    fn mistakes_carry_their_line() {
        let line = |result: Result<Vec<Entry>, ItemError>| match result.unwrap_err() {
            ItemError::Syntax { line, .. } | ItemError::Value { line, .. } => line,
            other => panic!("{other:?}"),
        };
        assert_eq!(line(toml("title = 'a'\nphone = \n", 2)), 3);
        assert_eq!(line(yaml("title: a\nbody: b: c\n", 2)), 3);
        assert_eq!(line(yaml("title: a\nactions: {a: b}\n", 2)), 3);
        assert_eq!(line(yaml("title: a\nactions:\n - [b]\n", 2)), 3);
        assert_eq!(line(yaml("只是一句话\n", 2)), 2);
        assert_eq!(line(yaml("a: &x 1\nb: *x\n", 2)), 3);
        assert_eq!(line(json("{\"title\": \"a\",\n\"x\": {}}")), 2);
        assert_eq!(line(json("{\"title\": \"a\"\n \"x\": 1}")), 2);
        assert_eq!(line(json("[]")), 1);
    }
}
