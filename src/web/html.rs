//! The text of an item as HTML: nothing but the tags of its own blocks, every letter
//! escaped.

use handlebars::html_escape;

use crate::sheet::{Block, Run};

/// Headings begin one level below the page's own title.
#[must_use]
pub fn of(blocks: &[Block]) -> String {
    joined(blocks, block)
}

fn block(block: &Block) -> String {
    match block {
        Block::Heading { level, text } => {
            let level = level.saturating_add(1).clamp(2, 4);
            format!("<h{level}>{}</h{level}>\n", runs(text))
        }
        Block::Paragraph { text } => format!("<p>{}</p>\n", runs(text)),
        Block::List { ordered, items } => {
            let tag = if *ordered { "ol" } else { "ul" };
            format!("<{tag}>\n{}</{tag}>\n", joined(items, |item| format!("<li>{}</li>\n", of(item))))
        }
        Block::Table { rows } => table(rows),
    }
}

fn table(rows: &[Vec<Vec<Run>>]) -> String {
    let Some((head, body)) = rows.split_first() else { return String::new() };
    let head = joined(head, |cell| format!("<th scope=\"col\">{}</th>", runs(cell)));
    let row = |row: &Vec<Vec<Run>>| joined(row, |cell| format!("<td>{}</td>", runs(cell)));
    let body = joined(body, |cells| format!("<tr>{}</tr>\n", row(cells)));
    format!("<div class=\"wide\"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table></div>\n")
}

fn runs(text: &[Run]) -> String {
    joined(text, |run| {
        let mut text = html_escape(&run.text).replace('\n', "<br>");
        if run.emphasis {
            text = format!("<em>{text}</em>");
        }
        if run.strong {
            text = format!("<strong>{text}</strong>");
        }
        text
    })
}

fn joined<T>(parts: &[T], one: impl Fn(&T) -> String) -> String {
    parts.iter().map(one).collect::<Vec<_>>().concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_stay_letters() {
        let bad = Run { text: "<script>alert('x')</script>&".into(), strong: true, emphasis: false };
        let text = of(&[
            Block::Heading { level: 1, text: vec![bad.clone()] },
            Block::List { ordered: true, items: vec![vec![Block::Paragraph { text: vec![bad.clone()] }]] },
            Block::Table { rows: vec![vec![vec![bad.clone()]], vec![vec![bad]]] },
        ]);
        assert!(!text.contains("<script"), "{text}");
        assert!(text.contains("<h2><strong>&lt;script&gt;"), "{text}");
        assert!(text.contains("<ol>") && text.contains("<th scope=\"col\">"), "{text}");
    }
}
