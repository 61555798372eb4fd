//! The Markdown that items are written in, as lines of text and as safe HTML for mail.
//!
//! No raw HTML of an author gets through: it is shown as the letters it is. Styles
//! stand inline, since mail programs drop style sheets.

use std::fmt::Write as _;

use handlebars::html_escape;
use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd};

const CELL: &str = "border:1px solid #999;padding:6px 8px;text-align:left;vertical-align:top";

fn events(markdown: &str) -> Parser<'_> {
    Parser::new_ext(markdown, Options::ENABLE_TABLES)
}

/// Plain lines: a blank line between paragraphs, `- ` before items of a list.
#[must_use]
pub fn lines(markdown: &str) -> String {
    let mut out = String::with_capacity(markdown.len());
    let mut numbers: Vec<Option<u64>> = Vec::new();
    for event in events(markdown) {
        match event {
            Event::Text(text) | Event::Code(text) | Event::Html(text) | Event::InlineHtml(text) => out.push_str(&text),
            Event::SoftBreak | Event::HardBreak => out.push('\n'),
            Event::Start(Tag::List(first)) => {
                if !out.is_empty() && !out.ends_with('\n') {
                    out.push('\n');
                }
                numbers.push(first);
            }
            Event::End(TagEnd::List(_)) => {
                numbers.pop();
                out.push('\n');
            }
            Event::Start(Tag::Item) => {
                let depth = numbers.len().saturating_sub(1);
                out.push_str(&"  ".repeat(depth));
                match numbers.last_mut() {
                    Some(Some(number)) => {
                        let _ = write!(out, "{number}. ");
                        *number += 1;
                    }
                    _ => out.push_str("- "),
                }
            }
            Event::End(TagEnd::Item | TagEnd::TableRow | TagEnd::TableHead) => end_line(&mut out),
            Event::End(TagEnd::TableCell) => out.push_str("  "),
            Event::End(TagEnd::Paragraph) if !numbers.is_empty() => end_line(&mut out),
            Event::End(TagEnd::Paragraph | TagEnd::Heading(_) | TagEnd::Table | TagEnd::CodeBlock) => {
                end_line(&mut out);
                out.push('\n');
            }
            _ => {}
        }
    }
    out.trim_end().to_owned()
}

fn end_line(out: &mut String) {
    out.truncate(out.trim_end_matches(' ').len());
    if !out.ends_with('\n') {
        out.push('\n');
    }
}

/// Without its marks, a line for every paragraph, heading, row and list item.
#[must_use]
pub fn compact(markdown: &str) -> String {
    let mut out = String::with_capacity(markdown.len());
    for event in events(markdown) {
        match event {
            Event::Text(text) | Event::Code(text) => out.push_str(&text),
            Event::HardBreak => out.push('\n'),
            Event::Start(Tag::Item) => {
                out.push_str(if out.is_empty() || out.ends_with('\n') { "· " } else { "\n· " });
            }
            Event::End(TagEnd::TableCell) => out.push(' '),
            Event::End(
                TagEnd::Paragraph | TagEnd::Heading(_) | TagEnd::Item | TagEnd::TableHead | TagEnd::TableRow,
            ) if !out.ends_with('\n') => out.push('\n'),
            _ => {}
        }
    }
    out.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// Running text: no marks, one line.
#[must_use]
pub fn plain(markdown: &str) -> String {
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

/// HTML of a few plain elements, every letter of the author's escaped.
#[must_use]
pub fn html(markdown: &str) -> String {
    let mut out = String::with_capacity(markdown.len() * 2);
    let mut head = false;
    for event in events(markdown) {
        match event {
            Event::Text(text) | Event::Html(text) | Event::InlineHtml(text) => out.push_str(&html_escape(&text)),
            Event::Code(text) => {
                let _ = write!(out, "<code>{}</code>", html_escape(&text));
            }
            Event::SoftBreak => {}
            Event::HardBreak => out.push_str("<br>"),
            Event::Rule => out.push_str("<hr style=\"border:0;border-top:1px solid #ccc\">"),
            Event::Start(tag) => {
                head |= matches!(tag, Tag::TableHead);
                start(&mut out, &tag, head);
            }
            Event::End(tag) => {
                end(&mut out, tag, head);
                head &= !matches!(tag, TagEnd::TableHead);
            }
            _ => {}
        }
    }
    out
}

fn start(out: &mut String, tag: &Tag<'_>, head: bool) {
    match tag {
        Tag::Paragraph => out.push_str("<p style=\"margin:0 0 12px\">"),
        Tag::Heading { level, .. } => {
            let _ = write!(out, "<{} style=\"margin:16px 0 8px;font-size:17px\">", heading(*level));
        }
        Tag::BlockQuote(_) => {
            out.push_str("<blockquote style=\"margin:0 0 12px;padding-left:12px;border-left:3px solid #ccc\">");
        }
        Tag::CodeBlock(CodeBlockKind::Fenced(_) | CodeBlockKind::Indented) => out.push_str("<pre>"),
        Tag::List(Some(first)) => {
            let _ = write!(out, "<ol start=\"{first}\" style=\"margin:0 0 12px;padding-left:24px\">");
        }
        Tag::List(None) => out.push_str("<ul style=\"margin:0 0 12px;padding-left:24px\">"),
        Tag::Item => out.push_str("<li>"),
        Tag::Table(_) => out.push_str("<table style=\"border-collapse:collapse;margin:0 0 12px\">"),
        Tag::TableHead | Tag::TableRow => out.push_str("<tr>"),
        Tag::TableCell => {
            let _ = write!(out, "<{} style=\"{CELL}\">", if head { "th" } else { "td" });
        }
        Tag::Emphasis => out.push_str("<em>"),
        Tag::Strong => out.push_str("<strong>"),
        Tag::Link { dest_url, .. } => {
            let safe = ["https://", "http://", "mailto:", "tel:"].iter().any(|scheme| dest_url.starts_with(scheme));
            let url = if safe { html_escape(dest_url) } else { "#".to_owned() };
            let _ = write!(out, "<a href=\"{url}\">");
        }
        // Of a picture its description is left: nothing is fetched when a mail is opened.
        _ => {}
    }
}

fn end(out: &mut String, tag: TagEnd, head: bool) {
    let name = match tag {
        TagEnd::Paragraph => "p",
        TagEnd::Heading(level) => heading(level),
        TagEnd::BlockQuote(_) => "blockquote",
        TagEnd::CodeBlock => "pre",
        TagEnd::List(true) => "ol",
        TagEnd::List(false) => "ul",
        TagEnd::Item => "li",
        TagEnd::Table => "table",
        TagEnd::TableHead | TagEnd::TableRow => "tr",
        TagEnd::TableCell if head => "th",
        TagEnd::TableCell => "td",
        TagEnd::Emphasis => "em",
        TagEnd::Strong => "strong",
        TagEnd::Link => "a",
        _ => return,
    };
    let _ = write!(out, "</{name}>");
}

/// The title above is the first heading; what an author marks begins below it.
const fn heading(level: HeadingLevel) -> &'static str {
    match level {
        HeadingLevel::H1 => "h2",
        HeadingLevel::H2 => "h3",
        _ => "h4",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str =
        "# 通知\n\n各村：\n\n- 请**立即**转移\n- 带好药品\n\n1. 先\n2. 后\n\n| 村 | 户 |\n|---|---|\n| 城郊 | 12 |\n";

    #[test]
    fn lines_keep_the_shape_of_the_text() {
        assert_eq!(lines(BODY), "通知\n\n各村：\n\n- 请立即转移\n- 带好药品\n\n1. 先\n2. 后\n\n村  户\n城郊  12");
        assert_eq!(lines("第一段\n第二行\n\n第二段"), "第一段\n第二行\n\n第二段");
    }

    #[test]
    fn markdown_becomes_running_text() {
        assert_eq!(plain("# 通知\n\n各村：\n\n- 请**立即**转移\n- 带好药品\n"), "通知 各村：请立即转移 带好药品");
    }

    #[test]
    fn html_has_the_elements_and_nothing_of_the_authors() {
        let html = html(BODY);
        for part in ["<h2 ", "通知</h2>", "<ul ", "<li>请<strong>立即</strong>转移</li>", "<th ", "<td ", ">12</td>"]
        {
            assert!(html.contains(part), "{part}: {html}");
        }
        let hostile = super::html(
            "<script>alert(1)</script>\n\na <img src=x onerror=y> [好](javascript:alert(1)) ![图](https://x.example/p.png) <b>粗</b> \"&",
        );
        for bad in ["<script", "<img", "javascript:", "<b>", "p.png"] {
            assert!(!hostile.contains(bad), "{bad}: {hostile}");
        }
        assert!(hostile.contains("&lt;script&gt;") && hostile.contains("&quot;&amp;"), "{hostile}");
    }

    #[test]
    fn variables_survive_both_forms() {
        assert_eq!(lines("{{姓名}}，补贴 **{{金额}}** 元"), "{{姓名}}，补贴 {{金额}} 元");
        assert!(super::html("{{姓名}}，补贴 **{{金额}}** 元").contains("{{姓名}}，补贴 <strong>{{金额}}</strong> 元"));
    }
}
