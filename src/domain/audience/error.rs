//! What can be wrong with an audience expression, and how it is shown: the
//! column, the text, a caret under the word, and what would be right.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::ast::{Place, Referent};
use super::attributes::AttributeType;
use super::parser::{MAX_CHARS, MAX_CONDITIONS, MAX_DEPTH, MAX_NAMES};
use crate::say;

/// A problem and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", render(problem, place))]
pub struct AudienceError {
    pub problem: Problem,
    pub place: Place,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("{}", say!("表达式太长，最多 {MAX_CHARS} 个字", "the expression is longer than {MAX_CHARS} characters"))]
    TooLong,
    #[error("{}", say!(
        "有不可见的字符 U+{code:04X}，请删去",
        "there is an invisible character U+{code:04X}: take it out"
    ))]
    Hidden { code: u32 },
    #[error("{}", say!("引号没有闭合", "this quotation mark is never closed"))]
    UnclosedQuote,
    #[error("{}", expected_found(*expected, found))]
    Unexpected {
        expected: Expected,
        /// Empty at the end of the expression.
        found: String,
    },
    #[error("{}", say!("没有“{found}”这种条件", "there is no condition `{found}`") + &suggest(nearest))]
    UnknownCondition { found: String, nearest: Vec<String> },
    #[error("{}", say!("“{found}”不在可选值之内：{allowed}", "`{found}` is none of: {allowed}"))]
    UnknownWord { found: String, allowed: &'static str },
    #[error("{}", say!("条件太多，最多 {MAX_CONDITIONS} 个", "there are more than {MAX_CONDITIONS} conditions"))]
    TooManyConditions,
    #[error("{}", say!(
        "名称和值太多，最多 {MAX_NAMES} 个；请把它们建成一个人群或名单",
        "there are more than {MAX_NAMES} names and values: make them a group or a list"
    ))]
    TooManyNames,
    #[error("{}", say!("嵌套太深，最多 {MAX_DEPTH} 层", "this is nested more than {MAX_DEPTH} deep"))]
    TooDeep,
    #[error("{}", unknown(*what, name) + &suggest(nearest))]
    UnknownName { what: Referent, name: String, nearest: Vec<String> },
    #[error("{}", ambiguous(name, candidates))]
    Ambiguous { name: String, candidates: Vec<String> },
    #[error("{}", say!(
        "人群“{group}”已于 {until} 过期；请更新后再用",
        "group `{group}` expired on {until}: renew it first"
    ))]
    Expired { group: String, until: String },
    #[error("{}", {
        let chain = chain.join(" → ");
        say!("人群的规则互相引用：{chain}", "the rules of these groups refer to each other: {chain}")
    })]
    Cycle { chain: Vec<String> },
    #[error("{}", say!("没有声明过属性“{name}”", "no attribute `{name}` is declared") + &suggest(nearest))]
    UnknownAttribute { name: String, nearest: Vec<String> },
    #[error("{}", {
        let form = kind.form();
        say!("“{attribute}”应为{form}，这里是“{value}”", "`{attribute}` takes {form}, not `{value}`")
    })]
    BadValue { attribute: String, kind: AttributeType, value: String },
    #[error("{}", say!(
        "“{attribute}”只能用 = != in 比较，不分大小",
        "`{attribute}` has no order: compare it with = != or in"
    ))]
    NoOrder { attribute: String },
}

/// What would have been right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    Condition,
    Joint,
    Close,
    ListOpen,
    ListNext,
    Name,
    ColonOrOperator,
}

impl Expected {
    fn words(self) -> String {
        match self {
            Self::Condition => say!(
                "一个条件，如 区域:河口镇、组:渔民、年龄 >= 60",
                "a condition such as region:河口镇, group:fishers, age >= 60"
            ),
            Self::Joint => say!("且、或，或者到此为止", "`and`, `or` or the end"),
            Self::Close => say!("且、或，或者 )", "`and`, `or` or `)`"),
            Self::ListOpen => say!("(，后面是用逗号分开的值", "`(` and values with commas between"),
            Self::ListNext => say!(", 或 )", "`,` or `)`"),
            Self::Name => {
                say!("一个名称或值；含空格或标点时加引号", "a name or value, in quotes if it has spaces or punctuation")
            }
            Self::ColonOrOperator => say!("冒号，或 = != < <= > >= in", "a colon, or one of = != < <= > >= in"),
        }
    }
}

fn expected_found(expected: Expected, found: &str) -> String {
    let expected = expected.words();
    if found.is_empty() {
        say!("表达式到这里就断了，应有{expected}", "the expression ends here; expected {expected}")
    } else {
        say!("这里是“{found}”，应为{expected}", "found `{found}`, expected {expected}")
    }
}

fn unknown(what: Referent, name: &str) -> String {
    match what {
        Referent::Region => say!("没有区域“{name}”", "there is no region `{name}`"),
        Referent::Area => say!("没有片区“{name}”", "there is no area `{name}`"),
        Referent::Group => say!("没有人群“{name}”", "there is no group `{name}`"),
        Referent::List => say!("没有名单“{name}”", "there is no list `{name}`"),
        Referent::Told | Referent::Unreached => say!("没有发布任务“{name}”", "there is no dispatch `{name}`"),
    }
}

fn ambiguous(name: &str, candidates: &[String]) -> String {
    let list = candidates.join("\n    ");
    say!("“{name}”不止一个，请写明是哪一个：\n    {list}", "`{name}` could be several; say which:\n    {list}")
}

fn suggest(nearest: &[String]) -> String {
    if nearest.is_empty() {
        return String::new();
    }
    let (zh, en) = (nearest.join("、"), nearest.join(", "));
    say!("；是不是：{zh}？", "; did you mean {en}?")
}

/// At most three of `known` that look like `word`, the likeliest first.
#[must_use]
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    const LIKE_ENOUGH: f64 = 0.5;
    let folded = word.to_lowercase();
    let mut scored: Vec<(f64, &str)> = known
        .into_iter()
        .filter_map(|candidate| {
            let other = candidate.to_lowercase();
            let within = !folded.is_empty() && (other.contains(&folded) || folded.contains(&other));
            let score = strsim::normalized_damerau_levenshtein(&folded, &other);
            let score = if within { score.max(LIKE_ENOUGH) } else { score };
            (score >= LIKE_ENOUGH).then_some((score, candidate))
        })
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    scored.dedup_by(|a, b| a.1 == b.1);
    scored.into_iter().take(3).map(|(_, name)| name.to_owned()).collect()
}

fn render(problem: &Problem, place: &Place) -> String {
    let Some(origin) = &place.origin else { return problem.to_string() };
    let column = place.column;
    let head = match &origin.group {
        Some(group) => say!("人群“{group}”的规则第 {column} 列：", "rule of group `{group}`, column {column}: "),
        None => say!("第 {column} 列：", "column {column}: "),
    };
    let (line, carets) = excerpt(&origin.text, place);
    format!("{head}{problem}\n  {line}\n  {carets}")
}

/// The text around a place and the carets under it, as wide as a terminal shows
/// them. Control characters, which may be the error, show as U+FFFD.
fn excerpt(text: &str, place: &Place) -> (String, String) {
    const AROUND: usize = 40;
    let at = place.column.saturating_sub(1);
    let from = at.saturating_sub(AROUND);
    let chars: Vec<char> = text.chars().skip(from).take(at - from + place.width + AROUND).map(visible).collect();
    let more = text.chars().nth(from + chars.len()).is_some();
    let before = if from > 0 { "…" } else { "" };
    let line: String = chars.iter().collect();
    let lead: String = before.chars().chain(chars.iter().copied().take(at - from)).collect();
    let marked: usize = chars.iter().skip(at - from).take(place.width).map(|c| c.width().unwrap_or(1)).sum();
    let carets = " ".repeat(lead.width()) + &"^".repeat(marked.max(1));
    (format!("{before}{line}{}", if more { "…" } else { "" }), carets)
}

fn visible(c: char) -> char {
    if super::lexer::is_hidden(c) { '\u{fffd}' } else { c }
}
