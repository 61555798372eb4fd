//! Why a file could not be read as an item.

use super::field::Field;
use crate::say;

/// One mistake, with its line (counted from 1, in the file as given).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ItemError {
    #[error("{}", say!(
        "第 {line} 行：文件头的写法读不懂（{reason}）。值里有冒号、井号或以引号开头时，请把整个值放进引号",
        "line {line}: the front matter cannot be read ({reason}). Quote a value that holds a colon or #, or begins with a quote"
    ))]
    Syntax { line: usize, reason: String },
    #[error("{}", say!(
        "第 {line} 行：文件头以 {fence} 开始却没有结束。请在文件头之后单独写一行 {fence}",
        "line {line}: the front matter opens with {fence} and never closes. Write {fence} on a line of its own after it"
    ))]
    Unclosed { line: usize, fence: &'static str },
    #[error("{}", unknown_key(*line, key, nearest.as_deref()))]
    UnknownKey {
        line: usize,
        key: String,
        /// The known key it was probably meant to be.
        nearest: Option<String>,
    },
    #[error("{}", say!(
        "第 {line} 行：“{field}”写了两次。请删去其中一个",
        "line {line}: `{field}` stands twice. Remove one of the two"
    ))]
    Twice { line: usize, field: String },
    #[error("{}", say!(
        "第 {line} 行：“{field}”应为{expected}，而写的是“{found}”",
        "line {line}: `{field}` should be {expected}, and is `{found}`"
    ))]
    Value { line: usize, field: String, expected: String, found: String },
    #[error("{}", say!(
        "没有写类型。请在文件头写“类型: 通知”（可用：{kinds}）",
        "it does not say what kind of item it is. Write `kind: notice` in the front matter (one of {kinds})"
    ))]
    NoKind { kinds: String },
}

impl ItemError {
    /// The line and the stable name of the field, where it is about one.
    #[must_use]
    pub fn place(&self) -> (Option<&str>, Option<usize>) {
        match self {
            Self::Syntax { line, .. } | Self::Unclosed { line, .. } | Self::UnknownKey { line, .. } => {
                (None, Some(*line))
            }
            Self::Twice { line, field } | Self::Value { line, field, .. } => {
                (Field::find(field).map(Field::name), Some(*line))
            }
            Self::NoKind { .. } => (Some(Field::Kind.name()), None),
        }
    }
}

fn unknown_key(line: usize, key: &str, nearest: Option<&str>) -> String {
    match nearest {
        Some(nearest) => say!(
            "第 {line} 行：没有“{key}”这一项，是不是“{nearest}”？",
            "line {line}: there is no key `{key}`; did you mean `{nearest}`?"
        ),
        None => say!(
            "第 {line} 行：没有“{key}”这一项。请删去，或改为类型、标题、电话、级别、影响范围、措施、生效、失效、对象、范围等",
            "line {line}: there is no key `{key}`. Remove it, or use kind, title, phone, level, area_text, actions, effective_at, expires_at, audience, scope and the like"
        ),
    }
}
