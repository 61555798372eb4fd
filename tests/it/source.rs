//! Reads this repository's own files for the tests that check its rules.

use std::fs;
use std::path::{Path, PathBuf};

/// A text file of the repository.
pub struct Source {
    /// Relative to the repository, with `/`.
    pub path: String,
    pub text: String,
}

/// What holds no source of ours: in a worktree `.git` is a file, and `gong-demo` is what
/// the demonstration leaves.
const SKIPPED: [&str; 4] = [".git", "target", "tmp", "gong-demo"];

/// Every text file under `folder` (relative, `""` = all), in the order of their paths.
pub fn files(folder: &str) -> Vec<Source> {
    let root = root();
    let mut found = Vec::new();
    let mut folders = vec![root.join(folder)];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap().map(Result::unwrap) {
            let kind = entry.file_type().unwrap();
            let name = entry.file_name();
            if SKIPPED.iter().any(|s| name == *s) {
                continue;
            }
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file()
                && let Ok(text) = fs::read_to_string(entry.path())
            {
                let path = entry.path().strip_prefix(&root).unwrap().display().to_string();
                found.push(Source { path, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Every Rust file under `folder`.
pub fn rust(folder: &str) -> Vec<Source> {
    let mut all = files(folder);
    all.retain(|f| Path::new(&f.path).extension().is_some_and(|e| e == "rs"));
    assert!(!all.is_empty(), "no Rust file under {folder}");
    all
}

/// The repository's top folder.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// `text` with comments, strings and `#[cfg(test)]` items blanked, every line in its place.
pub fn code(text: &str) -> String {
    without_tests(&scrub(text))
}

/// Blanks comments, strings and characters; what they hold is no code.
fn scrub(text: &str) -> String {
    let pattern = concat!(
        r"(?s)//[^\n]*",                 // line comments, docs too
        r"|/\*.*?\*/",                   // block comments, which we do not nest
        r##"|\bb?r#".*?"#|\bb?r".*?""##, // raw strings
        r#"|"(?:\\.|[^"\\])*""#,         // strings
        r"|'(?:\\[^\n]+?|[^'\\\n])'",    // characters, not lifetimes
    );
    blank(text, &regex::Regex::new(pattern).unwrap())
}

fn blank(text: &str, pattern: &regex::Regex) -> String {
    pattern.replace_all(text, |found: &regex::Captures| spaces(&found[0])).into_owned()
}

fn spaces(text: &str) -> String {
    text.chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect()
}

/// Blanks each item that stands under `#[cfg(test)]`: tests may look wherever they must.
fn without_tests(text: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = text.to_owned();
    while let Some(at) = out.find(MARK) {
        let end = at + MARK.len() + item_length(&out[at + MARK.len()..]);
        let gap = spaces(&out[at..end]);
        out.replace_range(at..end, &gap);
    }
    out
}

/// Length of the item that `text` begins with: up to its `;` or its closing brace.
fn item_length(text: &str) -> usize {
    let (mut braces, mut others) = (0_i32, 0_i32);
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' => others += 1,
            ')' | ']' => others -= 1,
            '{' => braces += 1,
            '}' => braces -= 1,
            _ => {}
        }
        let list_goes_on = c == '}' && text[at + 1..].starts_with(';');
        if braces == 0 && others == 0 && matches!(c, ';' | '}') && !list_goes_on {
            return at + 1;
        }
    }
    text.len()
}

/// The 1-based line of byte `at`.
pub fn line(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

#[test]
fn comments_strings_and_tests_are_no_code() {
    let text = "// crate::a\nuse crate::b; let s = \"crate::c\"; let q = '\"'; r#\"x\"y\"#; fn f<'a>(x: &'a str) {}\n\
                #[cfg(test)]\nmod testing;\nfn g() {}\n#[cfg(test)]\nmod tests {\n    use crate::d;\n}\nfn h() {}\n";
    let code = code(text);
    assert_eq!(code.matches('\n').count(), text.matches('\n').count());
    assert!(code.contains("use crate::b") && code.contains("&'a str") && code.contains("fn h()"), "{code}");
    assert!(code.contains("fn g()"), "{code}");
    for gone in ["crate::a", "crate::c", "crate::d", "x\"y", "mod testing"] {
        assert!(!code.contains(gone), "{gone} is left in {code}");
    }
}
