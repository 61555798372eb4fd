//! The Markdown subset that items are written in, as blocks.

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use super::{Block, Run};

/// Reads headings, paragraphs, lists, tables, emphasis and line breaks; a link is its
/// text with the address behind it, anything else is its text. Raw HTML is dropped
/// but for the text between its tags.
#[must_use]
pub fn blocks(markdown: &str) -> Vec<Block> {
    let mut reader = Reader::default();
    for event in Parser::new_ext(markdown, Options::ENABLE_TABLES) {
        reader.take(event);
    }
    let mut blocks = reader.finish();
    raise(&mut blocks);
    blocks
}

/// The highest heading is of the first level, however many marks it was written with: a
/// text whose title stands elsewhere begins its own with two.
fn raise(blocks: &mut [Block]) {
    let level = |block: &Block| if let Block::Heading { level, .. } = block { Some(*level) } else { None };
    let above = blocks.iter().filter_map(level).min().unwrap_or(1) - 1;
    for block in blocks {
        if let Block::Heading { level, .. } = block {
            *level -= above;
        }
    }
}

/// The blocks that are open: the document, and every list item in it.
struct Open {
    blocks: Vec<Block>,
}

/// A list under way.
struct List {
    ordered: bool,
    items: Vec<Vec<Block>>,
}

#[derive(Default)]
struct Reader {
    done: Vec<Block>,
    open: Vec<Open>,
    lists: Vec<List>,
    text: Vec<Run>,
    strong: u32,
    emphasis: u32,
    links: Vec<String>,
    rows: Vec<Vec<Vec<Run>>>,
    html: bool,
}

impl Reader {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) | Event::Code(text) | Event::InlineMath(text) | Event::DisplayMath(text) => {
                self.push(&text);
            }
            Event::Html(html) => self.push(&untagged(&html)),
            Event::InlineHtml(html) => self.push(&untagged(&html)),
            Event::SoftBreak => self.soft_break(),
            Event::HardBreak => self.push("\n"),
            Event::FootnoteReference(name) => self.push(&format!("[{name}]")),
            Event::TaskListMarker(ticked) => self.push(if ticked { "√ " } else { "□ " }),
            Event::Rule => self.paragraph(),
        }
    }

    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::Strong => self.strong += 1,
            Tag::Emphasis => self.emphasis += 1,
            Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. } => self.links.push(dest_url.into_string()),
            Tag::List(first) => {
                self.paragraph();
                self.lists.push(List { ordered: first.is_some(), items: Vec::new() });
            }
            Tag::Item => self.open.push(Open { blocks: Vec::new() }),
            Tag::Table(_) => {
                self.paragraph();
                self.rows.clear();
            }
            Tag::TableHead | Tag::TableRow => self.rows.push(Vec::new()),
            Tag::HtmlBlock => self.html = true,
            Tag::Paragraph | Tag::Heading { .. } | Tag::CodeBlock(_) => self.paragraph(),
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Strong => self.strong = self.strong.saturating_sub(1),
            TagEnd::Emphasis => self.emphasis = self.emphasis.saturating_sub(1),
            TagEnd::Link | TagEnd::Image => self.link(),
            TagEnd::Heading(level) => {
                let text = std::mem::take(&mut self.text);
                if !text.is_empty() {
                    self.add(Block::Heading { level: (level as u8).min(3), text });
                }
            }
            TagEnd::Item => {
                self.paragraph();
                let blocks = self.open.pop().map(|o| o.blocks).unwrap_or_default();
                if let Some(list) = self.lists.last_mut() {
                    list.items.push(blocks);
                }
            }
            TagEnd::List(_) => {
                if let Some(List { ordered, items }) = self.lists.pop() {
                    self.add(Block::List { ordered, items });
                }
            }
            TagEnd::TableCell => {
                let text = std::mem::take(&mut self.text);
                if let Some(row) = self.rows.last_mut() {
                    row.push(text);
                }
            }
            TagEnd::Table => {
                let rows = std::mem::take(&mut self.rows);
                self.add(Block::Table { rows });
            }
            TagEnd::HtmlBlock => {
                self.html = false;
                self.paragraph();
            }
            TagEnd::Paragraph | TagEnd::CodeBlock => self.paragraph(),
            _ => {}
        }
    }

    /// The end of the address follows the text, unless it is the text.
    fn link(&mut self) {
        let Some(url) = self.links.pop() else { return };
        let said = self.text.last().is_some_and(|run| run.text.ends_with(url.trim_start_matches("mailto:")));
        if !url.is_empty() && !said {
            self.push(&format!("（{url}）"));
        }
    }

    /// Chinese lines join as they are; Latin words need the space.
    fn soft_break(&mut self) {
        if self.text.last().and_then(|r| r.text.chars().last()).is_some_and(|c| c.is_ascii_graphic()) {
            self.push(" ");
        }
    }

    fn push(&mut self, text: &str) {
        let text = if self.html { text.trim() } else { text };
        if text.is_empty() {
            return;
        }
        let (strong, emphasis) = (self.strong > 0, self.emphasis > 0);
        match self.text.last_mut() {
            Some(run) if run.strong == strong && run.emphasis == emphasis => run.text.push_str(text),
            _ => self.text.push(Run { text: text.to_owned(), strong, emphasis }),
        }
    }

    fn paragraph(&mut self) {
        let mut text = std::mem::take(&mut self.text);
        // The line end of a block of code.
        if let Some(last) = text.last_mut() {
            last.text.truncate(last.text.trim_end_matches('\n').len());
        }
        text.retain(|run| !run.text.is_empty());
        if !text.is_empty() {
            self.add(Block::Paragraph { text });
        }
    }

    fn add(&mut self, block: Block) {
        self.open.last_mut().map_or(&mut self.done, |open| &mut open.blocks).push(block);
    }

    fn finish(mut self) -> Vec<Block> {
        self.paragraph();
        self.done
    }
}

/// What stands between the tags.
fn untagged(html: &str) -> String {
    let mut out = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(start) = rest.find('<') {
        out.push_str(&rest[..start]);
        rest = rest[start..].find('>').map_or("", |end| &rest[start + end + 1..]);
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(text: &str) -> Vec<Run> {
        vec![Run { text: text.to_owned(), ..Run::default() }]
    }

    /// All letters of the blocks, in order.
    fn letters(blocks: &[Block]) -> String {
        let runs = |text: &[Run]| text.iter().map(|r| r.text.as_str()).collect::<String>();
        let one = |block: &Block| match block {
            Block::Heading { text, .. } | Block::Paragraph { text } => runs(text),
            Block::List { items, .. } => items.iter().map(|item| letters(item)).collect(),
            Block::Table { rows } => rows.iter().flatten().map(|cell| runs(cell)).collect(),
        };
        blocks.iter().map(one).collect()
    }

    #[test]
    fn the_highest_heading_is_the_first_level() {
        let levels = |text: &str| -> Vec<u8> {
            let level = |b: Block| if let Block::Heading { level, .. } = b { Some(level) } else { None };
            blocks(text).into_iter().filter_map(level).collect()
        };
        assert_eq!(levels("## 一、甲\n\n### （一）乙\n\n## 二、丙"), [1, 2, 1]);
        assert_eq!(levels("# 一、甲\n\n### 1．乙"), [1, 3]);
    }

    #[test]
    fn a_policy_is_read_whole() {
        let text = "# 一、对象\n\n各村**低保户**和*渔民*，\n详见[办法](https://example.cn/a)。\n\n\
                    1. 申请\n   - 村里办\n   - 线上办\n2. 审核\n\n| 村 | 户 |\n|---|---|\n| 甲 | 3 |\n";
        let strong = Run { text: "低保户".into(), strong: true, emphasis: false };
        let soft = Run { text: "渔民".into(), strong: false, emphasis: true };
        let plain = |t: &str| Run { text: t.into(), ..Run::default() };
        let paragraph = |t: &str| Block::Paragraph { text: run(t) };
        assert_eq!(
            blocks(text),
            [
                Block::Heading { level: 1, text: run("一、对象") },
                Block::Paragraph {
                    text: vec![plain("各村"), strong, plain("和"), soft, plain("，详见办法（https://example.cn/a）。"),]
                },
                Block::List {
                    ordered: true,
                    items: vec![
                        vec![
                            paragraph("申请"),
                            Block::List {
                                ordered: false,
                                items: vec![vec![paragraph("村里办")], vec![paragraph("线上办")]]
                            },
                        ],
                        vec![paragraph("审核")],
                    ]
                },
                Block::Table { rows: vec![vec![run("村"), run("户")], vec![run("甲"), run("3")]] },
            ]
        );
    }

    #[test]
    fn html_leaves_its_text_and_breaks_stay() {
        assert_eq!(letters(&blocks("<div>\n甲<b>乙</b>\n</div>\n\n丙<br>丁")), "甲乙丙丁");
        assert_eq!(blocks("甲  \n乙"), [Block::Paragraph { text: run("甲\n乙") }]);
        assert_eq!(blocks("<https://example.cn>"), [Block::Paragraph { text: run("https://example.cn") }]);
        assert_eq!(letters(&blocks("#### 小标题")), "小标题");
        assert_eq!(blocks(""), []);
    }

    proptest! {
        /// Whatever is written, no Chinese character or digit of it is lost or doubled.
        #[test]
        fn no_text_is_lost(text in "([一-龥0-9a-z#*_> \\-+.()!\n]|\n\n|\n- |\n1\\. ){0,80}") {
            let kept = |c: &char| ('\u{4e00}'..='\u{9fff}').contains(c);
            let before: String = text.chars().filter(kept).collect();
            let after: String = letters(&blocks(&text)).chars().filter(kept).collect();
            prop_assert_eq!(before, after);
        }
    }
}
