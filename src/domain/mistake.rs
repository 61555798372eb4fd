//! A mistake in a TOML text: where it stands and what was expected there. Never what was
//! written there instead, for that may be a password.

use crate::say;

/// A mistake, by line and column, both from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    pub line: usize,
    pub column: usize,
    pub why: String,
}

impl Mistake {
    /// What a parser found in `text`.
    #[must_use]
    pub fn of(text: &str, error: &toml::de::Error) -> Self {
        let span = error.span().unwrap_or(0..0);
        let (line, column) = position(text, span.start);
        let mut why = worded(error.message());
        let found = text.get(span).unwrap_or_default();
        if let Some(wide) = found.chars().find(|c| "“”‘’＝，：；［］｛｝＂＇　".contains(*c)) {
            why += &say!(
                "（这里有全角的“{wide}”，应改为半角符号）",
                " (there is a full-width {wide}; write the plain one)"
            );
        }
        Self { line, column, why }
    }
}

/// Line and column of a byte of a text, both from 1, in characters.
#[must_use]
pub fn position(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

/// Why a text file cannot be read: often an editor wrote it in another encoding.
#[must_use]
pub fn unreadable(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::InvalidData => say!(
            "不是 UTF-8 编码。请用编辑器另存为 UTF-8，再执行一次",
            "it is not UTF-8. Save it as UTF-8 in an editor, then run it again"
        ),
        _ => error.to_string(),
    }
}

/// A parser's words, without the value that it met.
#[must_use]
pub fn worded(message: &str) -> String {
    // What was expected stands last, and is the parser's own; a value may say the same word.
    let expected = message.rsplit_once(", expected ").map_or("", |(_, expected)| expected);
    let options = expected.trim_start_matches("one of ").replace("` or `", ", ").replace('`', "");
    let kind = kind(expected);
    let name = message.split('`').nth(1).unwrap_or_default();
    let begins = |with: &str| message.starts_with(with);
    if begins("unknown field") && options.is_empty() {
        say!("这里不能写“{name}”", "there is no setting `{name}` here")
    } else if begins("unknown field") {
        say!("没有“{name}”这个设置；这里可以写：{options}", "there is no setting `{name}` here; there are: {options}")
    } else if begins("missing field") {
        say!("缺少 {name}", "{name} is missing")
    } else if begins("unknown variant") {
        say!("没有这个取值；可以是：{options}", "there is no such value; it may be: {options}")
    } else if begins("invalid type") || begins("invalid value:") || begins("invalid length") {
        say!("这里应为{kind}", "expected {expected} here")
    } else if begins("duplicate ") {
        say!("同一个设置写了两次", "the same setting stands here twice")
    } else if begins("string values must be quoted") {
        say!("文字两边要加英文引号", "a text stands in quotes")
    } else if begins("invalid basic string") || begins("invalid literal string") {
        say!("英文引号没有成对", "a quote is missing")
    } else if begins("key with no value") {
        say!("设置项后面缺少“=”和值", "a setting without `=` and a value")
    } else if message.is_ascii() {
        say!("TOML 写法不对：{message}", "{message}")
    } else {
        message.to_owned()
    }
}

/// A kind of value, in the reader's words.
fn kind(expected: &str) -> String {
    match expected {
        "a string" | "path string" => "文字（加英文引号）".to_owned(),
        "a boolean" => "true 或 false".to_owned(),
        "a sequence" => "列表（方括号）".to_owned(),
        "u8" | "u16" | "u32" | "u64" | "usize" => "不带引号的正整数".to_owned(),
        "i32" | "i64" => "不带引号的整数".to_owned(),
        "f32" | "f64" => "不带引号的数".to_owned(),
        "a map" => "一组设置（花括号或单独一节）".to_owned(),
        part if part.starts_with("struct ") => "一组设置（花括号或单独一节）".to_owned(),
        other => format!(" {other}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)] // only read
    struct Settings {
        url: String,
        #[serde(default)]
        rate: u32,
        #[serde(default)]
        secrets: BTreeMap<String, String>,
        #[serde(default)]
        form: Form,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Form {
        #[default]
        Json,
        Xml,
    }

    #[test]
    fn a_mistake_is_located_and_explained_without_what_was_written() {
        let at = "url = \"a://u:geheim@h\"\n";
        for (text, place, why) in [
            ("url = \"a://u:geheim@h\n".to_owned(), (1, 22), "引号没有成对"),
            ("url = a://u:geheim@h\n".to_owned(), (1, 7), "英文引号"),
            ("url = “a://u:geheim@h”\n".to_owned(), (1, 7), "全角的““”"),
            ("url = [\"geheim\"]\n".to_owned(), (1, 7), "应为文字"),
            ("rate = 1\n".to_owned(), (1, 1), "缺少 url"),
            (format!("{at}rate = \"geheim, expected geheim\"\n"), (2, 8), "正整数"),
            (format!("{at}rate = -139\n"), (2, 8), "正整数"),
            (format!("{at}secrets = \"geheim\"\n"), (2, 11), "一组设置"),
            (format!("{at}form = \"geheim\"\n"), (2, 8), "可以是：json, xml"),
            (format!("{at}pasword = \"geheim\"\n"), (2, 1), "没有“pasword”这个设置；这里可以写：url, rate"),
            (format!("{at}{at}"), (2, 1), "写了两次"),
            (format!("{at}geheim\n{at}"), (2, 7), "缺少“=”"),
            (format!("{at}rate = 1 geheim\n"), (2, 8), "英文引号"),
            (format!("{at}[geheim\n"), (2, 8), "TOML 写法不对"),
        ] {
            let error = toml::from_str::<Settings>(&text).unwrap_err();
            let found = Mistake::of(&text, &error);
            assert_eq!((found.line, found.column), place, "{text}{error}");
            assert!(found.why.contains(why), "{text}{found:?}");
            assert!(!found.why.contains("geheim") && !found.why.contains("139"), "{found:?}");
        }
    }
}
