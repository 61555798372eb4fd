//! Why a configuration cannot be used.

use std::path::{Path, PathBuf};

use crate::domain::mistake::{Mistake, unreadable};
use crate::say;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{}", not_found(.0))]
    NotFound(PathBuf),
    #[error("{}: {}", .0.display(), unreadable(.1))]
    Io(PathBuf, #[source] std::io::Error),
    #[error("{}", mistaken(.0, .1))]
    Toml(PathBuf, Mistake),
    #[error(transparent)]
    Queue(#[from] crate::queue::QueueError),
    #[error("{}", say!("环境变量 {name} 不能用：{why}", "the environment variable {name} cannot be used: {why}"))]
    Env { name: String, why: String },
    #[error("{}", say!("配置 {field} = “{value}”不对：应为{expected}", "the setting {field} = `{value}` is wrong: expected {expected}"))]
    Value { field: &'static str, value: String, expected: String },
}

fn not_found(path: &Path) -> String {
    let path = path.display();
    say!(
        "找不到配置文件 {path}。第一次使用请先执行：gong init；不在当前文件夹时用 --config 指定",
        "there is no configuration {path}. To begin, run: gong init; if it is elsewhere, name it with --config"
    )
}

fn mistaken(path: &Path, mistake: &Mistake) -> String {
    let (path, Mistake { line, column, why }) = (path.display(), mistake);
    say!("{path} 第 {line} 行第 {column} 列：{why}", "{path}, line {line}, column {column}: {why}")
}
