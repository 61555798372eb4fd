//! The text of an item as HTML: nothing but the tags of its own blocks, every letter
//! escaped.

use handlebars::html_escape;

use crate::sheet::{Block, Run};

/// Headings begin one level below the page's own title.
#[must_use]
pub fn of(blocks: &[Block]) -> String {
    let mut out = String::new();
    for block in blocks {
        match block {
            Block::Heading { level, text } => {
                let level = level.saturating_add(1).clamp(2, 4);
                out.push_str(&format!("<h{level}>{}</h{level}>\n", runs(text)));
            }
            Block::Paragraph { text } => out.push_str(&format!("<p>{}</p>\n", runs(text))),
            Block::List { ordered, items } => {
                let tag = if *ordered { "ol" } else { "ul" };
                let items: String = items.iter().map(|item| format!("<li>{}</li>\n", of(item))).collect();
                out.push_str(&format!("<{tag}>\n{items}</{tag}>\n"));
            }
            Block::Table { rows } => out.push_str(&table(rows)),
        }
    }
    out
}

fn table(rows: &[Vec<Vec<Run>>]) -> String {
    let cells = |row: &[Vec<Run>], open: &str, close: &str| -> String {
        row.iter().map(|cell| format!("{open}{}{close}", runs(cell))).collect()
    };
    let Some((head, body)) = rows.split_first() else { return String::new() };
    let body: String = body.iter().map(|row| format!("<tr>{}</tr>\n", cells(row, "<td>", "</td>"))).collect();
    let head = cells(head, "<th scope=\"col\">", "</th>");
    format!("<div class=\"wide\"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table></div>\n")
}

fn runs(text: &[Run]) -> String {
    let run = |run: &Run| {
        let mut text = html_escape(&run.text).replace('\n', "<br>");
        if run.emphasis {
            text = format!("<em>{text}</em>");
        }
        if run.strong {
            text = format!("<strong>{text}</strong>");
        }
        text
    };
    text.iter().map(run).collect()
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
