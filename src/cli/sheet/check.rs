//! `gong sheet check`: whether every character of a text can be printed here.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use crate::cli::{Context, Ended, output};
use crate::say;
use crate::sheet::{Block, Document, Notice, Press, Run, Wants};

/// Characters a document: a few pages.
const SOME: usize = 2_000;

/// Says which characters of a text no font at hand draws; nothing is stored.
///
/// Text files (UTF-8 or GBK): a roster as CSV, an item as Markdown. `-` reads standard
/// input.
#[derive(Debug, Args)]
#[command(
    after_help = "gong sheet check 对象.csv items/*.md\necho 䶮喆 | gong sheet check -\ngong sheet check --json 区划.csv"
)]
pub(super) struct CheckArgs {
    /// The files.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

/// What a file holds.
#[derive(Debug, Serialize)]
struct Checked {
    file: PathBuf,
    characters: usize,
    distinct: usize,
    missing: Vec<Missing>,
}

/// A character that cannot be printed.
#[derive(Debug, Serialize)]
struct Missing {
    character: char,
    code: String,
    times: usize,
    /// Where it stands first.
    line: usize,
}

/// Times and first line of every character that leaves ink.
type Letters = BTreeMap<char, (usize, usize)>;

pub(super) async fn run(context: &Context, args: CheckArgs) -> anyhow::Result<Ended> {
    let press = Press::new(context.config()?.press());
    let mut all = Vec::with_capacity(args.files.len());
    for file in args.files {
        let text = read(&file)?;
        all.push(check(&press, file, &letters(&text)).await?);
    }
    let whole = all.iter().all(|c| c.missing.is_empty());
    if context.global.json {
        output::json(&serde_json::json!({ "files": all }))?;
    } else {
        all.iter().for_each(tell);
        if !whole {
            output::note(say!(
                "这些字纸上是空框。请安装含这些字的字体（如 apt-get install fonts-noto-cjk），或放进站点的 fonts/ 文件夹",
                "they are boxes on paper. Install a font that has them (such as apt-get install fonts-noto-cjk), or put one into the site's folder fonts/"
            ));
        }
    }
    Ok(if whole { Ended::Done } else { Ended::InPart })
}

fn tell(checked: &Checked) {
    let (file, distinct, lost) = (checked.file.display(), checked.distinct, checked.missing.len());
    if lost == 0 {
        output::line(say!("{file}：{distinct} 种字符，都能打印", "{file}: {distinct} characters, all print"));
        return;
    }
    output::line(say!(
        "{file}：{distinct} 种字符，{lost} 种打印不出：",
        "{file}: {distinct} characters, {lost} of them do not print:"
    ));
    for one in &checked.missing {
        let (c, code, times, line) = (one.character.escape_debug(), &one.code, one.times, one.line);
        output::line(say!(
            "  {c}  {code}  {times} 次，第 {line} 行起",
            "  {c}  {code}  {times} times, from line {line}"
        ));
    }
}

/// The text of a file, UTF-8 or else GBK.
fn read(file: &Path) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut bytes)?;
    } else {
        bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
    }
    let shown = file.display();
    anyhow::ensure!(
        !bytes.contains(&0),
        say!("{shown} 不是文本文件。表格请另存为 CSV", "{shown} is no text file. Save a spreadsheet as CSV")
    );
    let text = String::from_utf8(bytes);
    Ok(text.unwrap_or_else(|e| encoding_rs::GBK.decode(e.as_bytes()).0.into_owned()))
}

fn letters(text: &str) -> Letters {
    let mut letters = Letters::new();
    for (line, row) in (1..).zip(text.trim_start_matches('\u{feff}').lines()) {
        for letter in row.chars().filter(|c| !c.is_whitespace()) {
            letters.entry(letter).or_insert((0, line)).0 += 1;
        }
    }
    letters
}

/// Prints every character once, and looks what came of it.
async fn check(press: &Press, file: PathBuf, letters: &Letters) -> anyhow::Result<Checked> {
    // What controls a terminal leaves no ink anywhere.
    let (bare, drawn): (Vec<char>, Vec<char>) = letters.keys().partition(|c| c.is_control());
    let mut lost = bare;
    for some in drawn.chunks(SOME) {
        let run = Run { text: some.iter().collect(), ..Run::default() };
        let notice = Notice { body: vec![Block::Paragraph { text: vec![run] }], ..Notice::default() };
        lost.extend(press.print(&Document::Notice(Box::new(notice)), Wants::default()).await?.missing);
    }
    lost.sort_unstable();
    let told = |c: char| {
        let (times, line) = letters.get(&c).copied().unwrap_or_default();
        Missing { character: c, code: format!("U+{:04X}", u32::from(c)), times, line }
    };
    let characters = letters.values().map(|(times, _)| times).sum();
    Ok(Checked { file, characters, distinct: letters.len(), missing: lost.into_iter().map(told).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_counted_with_their_first_line() {
        let found = letters("\u{feff}甲 乙\n乙\t丙\n");
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [('丙', (1, 2)), ('乙', (2, 1)), ('甲', (1, 1))]);
    }

    #[test]
    fn files_of_old_programs_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.csv");
        std::fs::write(&path, encoding_rs::GBK.encode("姓名,喆").0).unwrap();
        assert_eq!(read(&path).unwrap(), "姓名,喆");
        std::fs::write(&path, b"PK\x03\x04\0").unwrap();
        assert!(read(&path).is_err());
    }
}
