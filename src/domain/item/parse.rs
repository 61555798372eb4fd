//! Reading an item from a file: Markdown with front matter, TOML or JSON.
//!
//! Front matter stands between `+++` lines (TOML) or `---` lines (YAML). Keys may be
//! English or Chinese. A list may be one text, its items split by `；` or line ends.
//! Times without an offset are in the site's zone; an expiry may be a span (`+6h`),
//! which is kept as it is and counts from the effective time.

use jiff::tz::TimeZone;

use super::error::ItemError;
use super::field::Field;
use super::lines::Lines;
use super::raw::{self, Entry, Node};
use super::times::{self, Edge};
use super::{Content, ItemKind, Level, Relation};
use crate::domain::privacy;
use crate::say;

/// How a source is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Markdown,
    Toml,
    Json,
}

impl Format {
    /// By the ending of a file's name; anything else is Markdown.
    #[must_use]
    pub fn of_file(name: &str) -> Self {
        match name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).as_deref() {
            Some("toml") => Self::Toml,
            Some("json") => Self::Json,
            _ => Self::Markdown,
        }
    }
}

/// Reads `source` as an item. What it lacks is for [`super::validate`] to say; what it
/// says wrongly is an error here.
pub fn parse(source: &str, format: Format, tz: &TimeZone) -> Result<Content, ItemError> {
    parse_placed(source, format, tz).map(|(content, _)| content)
}

/// [`parse`], with the lines on which the fields stand.
pub fn parse_placed(source: &str, format: Format, tz: &TimeZone) -> Result<(Content, Lines), ItemError> {
    let source = source.trim_start_matches('\u{feff}').replace("\r\n", "\n");
    let (entries, body) = match format {
        Format::Toml => (raw::toml(&source, 1)?, ""),
        Format::Json => (raw::json(&source)?, ""),
        Format::Markdown => markdown(&source)?,
    };
    let fields = known(entries)?;
    let mut content = Content::new(kind(&fields)?);
    for (field, entry) in &fields {
        Reader { field: *field, entry, tz }.put(&mut content)?;
    }
    if content.body.is_empty() {
        body.trim().clone_into(&mut content.body);
    }
    let lines =
        Lines::new(fields.iter().map(|(field, entry)| (*field, entry.line)).collect(), first_line(&source, body));
    take_heading(&mut content);
    Ok((content, lines))
}

/// The line on which the text of `body`, the end of `source`, begins.
fn first_line(source: &str, body: &str) -> Option<usize> {
    let blank = body.len() - body.trim_start().len();
    let before = source.len() - body.len() + blank;
    (blank < body.len()).then(|| source[..before].matches('\n').count() + 1)
}

/// Front matter and what follows it.
fn markdown(source: &str) -> Result<(Vec<Entry>, &str), ItemError> {
    let blank = source.len() - source.trim_start().len();
    let fence_line = source[..blank].matches('\n').count() + 1;
    let opening = source[blank..].lines().next().unwrap_or_default().trim_end();
    let fence = match opening {
        "+++" => "+++",
        "---" => "---",
        _ => return Ok((Vec::new(), source)),
    };
    let start = (blank + source[blank..].find('\n').map_or(source.len() - blank, |at| at + 1)).min(source.len());
    let mut at = start;
    for line in source[start..].split_inclusive('\n') {
        if line.trim_end() == fence {
            let front = &source[start..at];
            let entries =
                if fence == "+++" { raw::toml(front, fence_line + 1)? } else { raw::yaml(front, fence_line + 1)? };
            return Ok((entries, &source[at + line.len()..]));
        }
        at += line.len();
    }
    Err(ItemError::Unclosed { line: fence_line, fence })
}

fn known(entries: Vec<Entry>) -> Result<Vec<(Field, Entry)>, ItemError> {
    let mut fields: Vec<(Field, Entry)> = Vec::with_capacity(entries.len());
    for entry in entries {
        let Some(field) = Field::find(&entry.key) else {
            let nearest = Field::nearest(&entry.key).map(str::to_owned);
            return Err(ItemError::UnknownKey { line: entry.line, key: shown(&entry.key), nearest });
        };
        if fields.iter().any(|(earlier, _)| *earlier == field) {
            return Err(ItemError::Twice { line: entry.line, field: field.shown().to_owned() });
        }
        fields.push((field, entry));
    }
    Ok(fields)
}

/// The kind comes first: it decides how a level is read.
fn kind(fields: &[(Field, Entry)]) -> Result<ItemKind, ItemError> {
    let kinds = || ItemKind::ALL.map(ItemKind::label).join(&say!("、", ", "));
    let Some((_, entry)) = fields.iter().find(|(field, _)| *field == Field::Kind) else {
        return Err(ItemError::NoKind { kinds: kinds() });
    };
    match &entry.node {
        Node::Text(word) => ItemKind::from_word(word),
        Node::List(_) => None,
    }
    .ok_or_else(|| {
        let kinds = kinds();
        wrong(Field::Kind, entry, say!("{kinds} 之一", "one of {kinds}"))
    })
}

/// A first `# heading` is the title where none is given, and is not said twice.
fn take_heading(content: &mut Content) {
    let (first, rest) = content.body.split_once('\n').unwrap_or((&content.body, ""));
    let Some(heading) = first.strip_prefix("# ").map(|h| h.trim().trim_end_matches('#').trim_end()) else { return };
    if content.title.is_empty() || content.title == heading {
        content.title = heading.to_owned();
        content.body = rest.trim_start().to_owned();
    }
}

fn wrong(field: Field, entry: &Entry, expected: String) -> ItemError {
    let found = match &entry.node {
        Node::Text(text) => shown(text),
        Node::List(items) => {
            let n = items.len();
            say!("{n} 项的列表", "a list of {n}")
        }
    };
    ItemError::Value { line: entry.line, field: field.shown().to_owned(), expected, found }
}

/// Enough of a value to recognise it, personal data starred.
fn shown(text: &str) -> String {
    let masked = privacy::mask(text.trim());
    let mut chars = masked.chars();
    let head: String = chars.by_ref().take(40).collect();
    if chars.next().is_some() { format!("{head}…") } else { head }
}

/// One field on its way into the content.
struct Reader<'a> {
    field: Field,
    entry: &'a Entry,
    tz: &'a TimeZone,
}

impl Reader<'_> {
    fn put(&self, to: &mut Content) -> Result<(), ItemError> {
        match self.field {
            Field::Kind => {}
            Field::Title => to.title = self.text()?.unwrap_or_default(),
            Field::Body => to.body = self.text()?.unwrap_or_default(),
            Field::Phone => to.phone = self.text()?.unwrap_or_default(),
            Field::Sms => to.sms = self.text()?,
            Field::Issuer => to.issuer = self.text()?,
            Field::RelayUnit => to.relay_unit = self.text()?,
            Field::EventType => to.event_type = self.text()?,
            Field::AreaText => to.area_text = self.text()?,
            Field::Scope => to.scope = self.text()?,
            Field::Audience => to.audience = self.text()?,
            Field::Catalogue => to.catalogue = self.text()?,
            Field::DocumentNo => to.document_no = self.text()?,
            Field::ObjectionPhone => to.objection_phone = self.text()?,
            Field::Level => to.level = self.level(to.kind)?,
            Field::Actions => to.actions = self.list(&[])?,
            Field::Variables => to.variables = self.list(&['，', ',', '、', ' '])?,
            Field::EffectiveAt => {
                to.effective_at = self.read(|t| times::point(t, self.tz, Edge::Start), point_wanted)?;
            }
            Field::ExpiresAt => self.expiry(to)?,
            Field::ExpiresIn => self.validity(to)?,
            Field::PublicationDays => {
                let read = self.read(days, days_wanted)?;
                to.publication_days = read.map(|(n, _)| n);
                to.publication_working |= read.is_some_and(|(_, working)| working);
            }
            Field::PublicationWorking => to.publication_working |= self.read(yes, yes_wanted)?.unwrap_or(false),
            Field::FormedOn => to.formed_on = self.read(times::day, day_wanted)?,
            Field::Related(relation) => {
                let targets = self.list(&['，', ',', '、', ' '])?;
                to.relations.extend(targets.into_iter().map(|target| (relation, target)));
            }
            Field::Relations => to.relations.extend(self.pairs()?),
        }
        Ok(())
    }

    /// One text; `None` when it is blank.
    fn text(&self) -> Result<Option<String>, ItemError> {
        match &self.entry.node {
            Node::Text(text) => Ok(Some(text.trim()).filter(|t| !t.is_empty()).map(str::to_owned)),
            Node::List(_) => Err(self.wrong(say!("一个值", "one value"))),
        }
    }

    fn list(&self, marks: &[char]) -> Result<Vec<String>, ItemError> {
        let mut found = Vec::new();
        match &self.entry.node {
            Node::Text(text) => found.extend(text.split(|c| matches!(c, '；' | ';' | '\n') || marks.contains(&c))),
            Node::List(items) => {
                for item in items {
                    let Node::Text(text) = item else {
                        return Err(self.wrong(say!("文字的列表", "a list of texts")));
                    };
                    found.push(text);
                }
            }
        }
        Ok(found.into_iter().map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned).collect())
    }

    fn read<T>(&self, read: impl Fn(&str) -> Option<T>, wanted: fn() -> String) -> Result<Option<T>, ItemError> {
        self.text()?.map(|text| read(&text).ok_or_else(|| self.wrong(wanted()))).transpose()
    }

    fn level(&self, kind: ItemKind) -> Result<Option<Level>, ItemError> {
        let wanted = if kind == ItemKind::Response {
            || say!("一级、二级、三级或四级（应急响应没有颜色）", "1, 2, 3 or 4 (a response has no colour)")
        } else {
            || say!("红色、橙色、黄色或蓝色", "red, orange, yellow or blue")
        };
        self.read(|text| Level::from_word(text, kind), wanted)
    }

    fn expiry(&self, to: &mut Content) -> Result<(), ItemError> {
        let Some(text) = self.text()? else { return Ok(()) };
        if text.starts_with('+') {
            return self.validity(to);
        }
        to.expires_at = self.read(|t| times::point(t, self.tz, Edge::End), point_wanted)?;
        Ok(())
    }

    fn validity(&self, to: &mut Content) -> Result<(), ItemError> {
        if to.expires_in.is_some() {
            return Err(ItemError::Twice { line: self.entry.line, field: Field::ExpiresIn.shown().to_owned() });
        }
        to.expires_in = self.read(times::span, span_wanted)?;
        Ok(())
    }

    /// `[["updates", "12"], …]`, what the stored JSON holds.
    fn pairs(&self) -> Result<Vec<(Relation, String)>, ItemError> {
        let wanted = || self.wrong(say!(r#"[["更新", "事项号"]] 的样子"#, r#"pairs such as [["updates", "12"]]"#));
        let Node::List(pairs) = &self.entry.node else { return Err(wanted()) };
        pairs
            .iter()
            .map(|pair| match pair {
                Node::List(pair) => match pair.as_slice() {
                    [Node::Text(word), Node::Text(target)] if !target.trim().is_empty() => {
                        Relation::from_word(word).map(|relation| (relation, target.trim().to_owned()))
                    }
                    _ => None,
                },
                Node::Text(_) => None,
            })
            .collect::<Option<_>>()
            .ok_or_else(wanted)
    }

    fn wrong(&self, expected: String) -> ItemError {
        wrong(self.field, self.entry, expected)
    }
}

/// A number of days, and whether they are working days.
fn days(text: &str) -> Option<(u32, bool)> {
    let text = text.trim();
    let (number, working) = match text.strip_suffix("工作日").or_else(|| text.strip_suffix("working days")) {
        Some(number) => (number.trim_end().trim_end_matches('个'), true),
        None => (text.trim_end_matches(['天', '日']), false),
    };
    let number = number.trim_end().parse().ok().filter(|days| (1..=3_650).contains(days))?;
    Some((number, working))
}

fn days_wanted() -> String {
    say!("天数，如 7 或 7个工作日", "a number of days such as 7, or 7 working days")
}

fn yes(text: &str) -> Option<bool> {
    match text.trim() {
        "true" | "是" => Some(true),
        "false" | "否" => Some(false),
        _ => None,
    }
}

fn yes_wanted() -> String {
    say!("是或否", "true or false")
}

fn day_wanted() -> String {
    say!("日期，如 2026-09-18", "a date such as 2026-09-18")
}

fn point_wanted() -> String {
    say!(
        "时间，如 2026-06-01 14:00 或 2026-06-01T14:00:00+08:00",
        "a time such as 2026-06-01 14:00 or 2026-06-01T14:00:00+08:00"
    )
}

fn span_wanted() -> String {
    say!("时长，如 +6h、+30m、+2d", "a span such as +6h, +30m or +2d")
}

#[cfg(test)]
mod tests;
