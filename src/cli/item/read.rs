//! The file of an item, or standard input.

use std::io::Read as _;

use crate::say;

/// Longest source, in bytes; an item is a page or two.
const MAX: u64 = 1024 * 1024;

/// Reads `file`; `-` is standard input.
pub(super) fn source(file: &str) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let read = if file == "-" {
        std::io::stdin().lock().take(MAX + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|f| f.take(MAX + 1).read_to_end(&mut bytes))
    };
    read.map_err(|e| {
        anyhow::anyhow!(say!("读不出 {file}：{e}。请核对文件名", "cannot read {file}: {e}. Check the name"))
    })?;
    anyhow::ensure!(
        bytes.len() as u64 <= MAX,
        say!("{file} 超过 1 MiB，不像一个公开事项", "{file} is larger than 1 MiB; that is not an item")
    );
    String::from_utf8(bytes).map_err(|_| {
        anyhow::anyhow!(say!(
            "{file} 不是 UTF-8 文本。请另存为 UTF-8 编码",
            "{file} is not UTF-8 text. Save it in UTF-8"
        ))
    })
}
