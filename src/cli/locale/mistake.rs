//! What is wrong with a command line, in Chinese: clap words it in English only.

use std::error::Error as _;

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// The mistake, the usage and what to do next, in Chinese.
pub(super) fn chinese(error: &clap::Error) -> String {
    let mut lines = vec![format!("错误: {}", what(error))];
    let near = [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand, ContextKind::SuggestedValue];
    let near: Vec<String> = near.into_iter().flat_map(|kind| said(error, kind)).collect();
    if !near.is_empty() {
        lines.push(format!("  是不是 {}？", near.join("、")));
    }
    let valid = [ContextKind::ValidValue, ContextKind::ValidSubcommand];
    let valid: Vec<String> = valid.into_iter().flat_map(|kind| said(error, kind)).collect();
    if !valid.is_empty() {
        lines.push(format!("  可以写：{}", valid.join("、")));
    }
    if let Some(usage) = said(error, ContextKind::Usage).first() {
        lines.push(format!("\n用法: {}", usage.trim_start_matches("Usage:").trim()));
    }
    lines.push("\n加 --help 看用法和示例".to_owned());
    lines.join("\n")
}

/// clap's marks in a help text, in Chinese.
pub(super) fn marks(help: &str) -> String {
    [
        ("[env: ", "[环境变量: "),
        ("[default: ", "[默认: "),
        ("[possible values: ", "[可写: "),
        ("[aliases: ", "[也可写: "),
        ("Possible values:", "可以写:"),
    ]
    .iter()
    .fold(help.to_owned(), |text, (english, chinese)| text.replace(english, chinese))
}

fn what(error: &clap::Error) -> String {
    let all = |kind| said(error, kind).join("、");
    let arg = all(ContextKind::InvalidArg);
    let value = all(ContextKind::InvalidValue);
    match error.kind() {
        ErrorKind::UnknownArgument if arg.starts_with('-') => format!("没有 {arg} 这个选项"),
        ErrorKind::UnknownArgument => format!("多写了“{arg}”"),
        ErrorKind::InvalidSubcommand => format!("没有“{}”这个命令", all(ContextKind::InvalidSubcommand)),
        ErrorKind::MissingRequiredArgument => format!("还缺 {arg}"),
        ErrorKind::MissingSubcommand => "还要写一个子命令".to_owned(),
        ErrorKind::InvalidValue if value.is_empty() => format!("{arg} 后面要写一个值"),
        ErrorKind::InvalidValue => format!("{arg} 不能写“{value}”"),
        ErrorKind::ValueValidation => format!("{arg} 不能写“{value}”{}", why(error)),
        ErrorKind::TooManyValues => format!("{arg} 多写了“{value}”"),
        ErrorKind::TooFewValues | ErrorKind::WrongNumberOfValues => format!("{arg} 的值个数不对"),
        ErrorKind::NoEquals => format!("{arg} 的值要用等号连着写"),
        ErrorKind::ArgumentConflict => {
            let other = all(ContextKind::PriorArg);
            if other == arg || other.is_empty() {
                format!("{arg} 只能写一次")
            } else {
                format!("{arg} 不能和 {other} 一起用")
            }
        }
        ErrorKind::InvalidUtf8 => "命令行不是 UTF-8 文字".to_owned(),
        _ => "命令行写得不对".to_owned(),
    }
}

/// Why a value was not taken: in our words, or in those of the few checks of clap's own.
fn why(error: &clap::Error) -> String {
    let why = error.source().map(ToString::to_string).unwrap_or_default();
    let why = match why.split_once(" is not in ") {
        Some((_, range)) => format!("应在 {range} 之内"),
        None if why.contains("invalid digit") || why.contains("parse integer") || why.contains("too large") => {
            "应为整数".to_owned()
        }
        None if why.contains("float") => "应为数字".to_owned(),
        None if why.is_ascii() => String::new(),
        None => why,
    };
    if why.is_empty() { why } else { format!("：{why}") }
}

fn said(error: &clap::Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()].into_iter().filter(|t| !t.is_empty()).collect(),
        Some(ContextValue::Strings(texts)) => texts.clone(),
        Some(ContextValue::StyledStr(text)) => vec![text.to_string()],
        Some(ContextValue::StyledStrs(texts)) => texts.iter().map(ToString::to_string).collect(),
        _ => Vec::new(),
    }
}
