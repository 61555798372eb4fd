//! The rules of the house that neither the compiler nor clippy keeps.

use std::path::Path;

use regex::Regex;

use crate::source::{self, line};

const MAX_LINES: usize = 400;

/// Longer files, each with its reason.
const LONGER: &[(&str, &str)] = &[];

#[test]
fn every_file_opens_by_saying_what_it_is() {
    let mut files = source::rust("src");
    files.extend(source::rust("tests"));
    let silent: Vec<_> = files.iter().filter(|f| !f.text.starts_with("//! ")).map(|f| f.path.as_str()).collect();
    assert!(silent.is_empty(), "these do not open with a `//!` sentence: {silent:?}");
}

#[test]
fn files_stay_short_enough_to_read() {
    let mut files = source::rust("src");
    files.extend(source::rust("tests"));
    for (path, reason) in LONGER {
        let lines = files.iter().find(|f| f.path == *path).map(|f| f.text.lines().count());
        assert!(lines.is_some_and(|n| n >= MAX_LINES), "{path} needs no exception any more ({reason})");
    }
    let long = files.iter().filter(|f| LONGER.iter().all(|(path, _)| f.path != *path)).filter_map(|f| {
        let lines = f.text.lines().count();
        (lines >= MAX_LINES).then(|| format!("{}: {lines} lines", f.path))
    });
    let long: Vec<_> = long.collect();
    assert!(long.is_empty(), "split these at a seam, to under {MAX_LINES} lines: {long:?}");
}

#[test]
fn nothing_names_somebodys_machine() {
    // In pieces, so that this file does not name them either.
    let pattern = ["(?:^|[^\\w./-])/(?:wo", "rk|ro", "ot|ho", "me/\\w+|Us", "ers/\\w+)/"].concat();
    let pattern = Regex::new(&pattern).unwrap();
    let mut wrong = Vec::new();
    for file in source::files("") {
        // The paths inside a container are its own.
        if Path::new(&file.path).file_name().is_some_and(|n| n.to_string_lossy().starts_with("Dockerfile")) {
            continue;
        }
        for hit in pattern.find_iter(&file.text) {
            wrong.push(format!("{}:{}: {}", file.path, line(&file.text, hit.start()), hit.as_str().trim()));
        }
    }
    assert!(wrong.is_empty(), "paths of a machine:\n{}", wrong.join("\n"));
}
