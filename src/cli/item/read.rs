//! The file of an item, or standard input, and the spreadsheets it names.

use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;

use crate::say;
use crate::sheet;

/// Longest source, in bytes; an item is a page or two.
const MAX: u64 = 1024 * 1024;
/// Largest spreadsheet, in bytes.
const MAX_XLSX: u64 = 8 * 1024 * 1024;

/// Puts spreadsheets in: a line of its own such as `表格：名单.xlsx` (or `table:
/// list.xlsx`) becomes the table in the first sheet of that file, which lies beside
/// `file`. What is reviewed, searched for personal data and sent is the table itself.
pub(super) fn with_tables(source: &str, file: &str) -> anyhow::Result<String> {
    let mut out = String::with_capacity(source.len());
    for (i, line) in source.split_inclusive('\n').enumerate() {
        match spreadsheet(line) {
            Some(name) => {
                let no = i + 1;
                let table = table(name, file).with_context(|| format!("{file}:{no}"))?;
                out.extend(["\n", &table, "\n"]);
            }
            None => out.push_str(line),
        }
    }
    Ok(out)
}

/// The file that a line names, where it is one that stands for a table.
fn spreadsheet(line: &str) -> Option<&str> {
    let line = line.trim();
    let (word, name) = line.split_once(['：', ':'])?;
    let named = matches!(word.trim(), "表格" | "附表") || word.trim().eq_ignore_ascii_case("table");
    let name = name.trim();
    (named && name.to_ascii_lowercase().ends_with(".xlsx")).then_some(name)
}

fn table(name: &str, file: &str) -> anyhow::Result<String> {
    // An item may come from elsewhere: it names what lies beside it and nothing else.
    anyhow::ensure!(
        !name.contains(['/', '\\']),
        say!(
            "表格文件 {name} 须和事项文件放在同一个文件夹，只写文件名",
            "the spreadsheet {name} must lie beside the item's file; write its bare name"
        )
    );
    let folder = if file == "-" { None } else { Path::new(file).parent() };
    let path = folder.unwrap_or(Path::new("")).join(name);
    let shown = path.display();
    let mut bytes = Vec::new();
    std::fs::File::open(&path)
        .and_then(|f| f.take(MAX_XLSX + 1).read_to_end(&mut bytes))
        .with_context(|| say!("读不出表格 {shown}", "cannot read the spreadsheet {shown}"))?;
    anyhow::ensure!(
        bytes.len() as u64 <= MAX_XLSX,
        say!("表格 {shown} 超过 8 MiB", "the spreadsheet {shown} is larger than 8 MiB")
    );
    let table = sheet::table_from_xlsx(&bytes).with_context(|| shown.to_string())?;
    Ok(sheet::to_markdown(&table))
}

/// Reads `file`; `-` is standard input.
pub(super) fn source(file: &str) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let read = if file == "-" {
        std::io::stdin().lock().take(MAX + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|f| f.take(MAX + 1).read_to_end(&mut bytes))
    };
    read.with_context(|| say!("读不出 {file}。请核对文件名", "cannot read {file}. Check the name"))?;
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
