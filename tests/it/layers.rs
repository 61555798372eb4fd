//! The import order of the layers, and the one home of each thing that has one.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;

use crate::source::{self, Source, code, line};

/// Lowest first. A module imports from its own layer and from those before it.
const LAYERS: &[&[&str]] = &[
    &["lang", "clock", "failpoint"],
    &["domain"],
    // Above the domain, whose ids it encrypts, and open to all that do I/O.
    &["vault"],
    &["store", "channel", "render", "sheet"],
    // Claims and publishes the batches of the store, and imports nothing else of its layer.
    &["queue"],
    &["telemetry"],
    &["planner", "dispatch", "receipts", "import", "cluster"],
    &["config"],
    &["web"],
    // The loopback gateways and the bench stand beside the program they try.
    &["app", "loopback", "bench"],
    &["demo"],
    &["cli"],
];

/// What may stand in some files only.
struct Home {
    pattern: &'static str,
    /// Where the rule looks.
    within: &'static str,
    /// Paths, or folders ending in `/`, that are excepted.
    except: &'static [&'static str],
    why: &'static str,
}

const HOMES: &[Home] = &[
    Home {
        pattern: r"\basync\b|\.await\b|\b(?:tokio|sqlx|hyper|axum|futures_util)\b|\bstd::(?:fs|net|env|process)\b|\bstd::\{[^}]*\b(?:fs|net|env|process)\b",
        within: "src/domain",
        except: &[],
        why: "the domain is pure: pass in what was read, and the time",
    },
    Home {
        pattern: r"\bsqlx::",
        within: "src/",
        except: &["src/store.rs", "src/store/"],
        why: "all SQL lives in src/store: give it a function there, named for the one fact or transaction it is",
    },
    Home {
        pattern: r"\bbackoff::",
        within: "src/",
        except: &["src/dispatch/retry.rs"],
        why: "retry intervals come from src/dispatch/retry.rs alone, so that the crate behind it can be changed",
    },
    Home {
        pattern: r"\bstd::env\b|\bstd::\{[^}]*\benv\b",
        within: "src/",
        except: &["src/config.rs", "src/config/"],
        why: "the environment is read in src/config.rs alone",
    },
];

/// One import of another top-level module.
#[derive(Debug, PartialEq, Eq)]
struct Import {
    line: usize,
    module: String,
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|l| l.contains(&module))
}

/// The modules from the crate's root to this file: `src/store/meta.rs` → `store`, `meta`.
fn module_path(path: &str) -> Vec<&str> {
    path.trim_start_matches("src/").trim_end_matches(".rs").split('/').filter(|p| *p != "mod").collect()
}

/// Test helpers, compiled under `#[cfg(test)]`, may look wherever they must.
fn is_checked(file: &Source) -> bool {
    !matches!(file.path.as_str(), "src/lib.rs" | "src/main.rs") && module_path(&file.path).last() != Some(&"testing")
}

/// What `code` imports from the crate's root, by `crate::` or by enough `super::`s.
fn imports(path: &str, code: &str) -> Vec<Import> {
    let depth = module_path(path).len();
    let pattern = Regex::new(r"\b(?:crate|super(?:\s*::\s*super)*)\s*::\s*(\{|\w+)").unwrap();
    let mut found = Vec::new();
    for hit in pattern.captures_iter(code) {
        let whole = hit.get(0).unwrap();
        let up = whole.as_str().matches("super").count();
        if up > 0 && up < depth {
            continue;
        }
        let names = match &hit[1] {
            "{" => first_names(&code[whole.end()..]),
            name => vec![name.to_owned()],
        };
        let line = line(code, whole.start());
        found.extend(names.into_iter().map(|module| Import { line, module }));
    }
    found
}

/// The names a `{…}` list begins its entries with; `list` starts after the brace.
fn first_names(list: &str) -> Vec<String> {
    let mut depth = 1;
    let mut entries = vec![String::new()];
    for c in list.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => entries.push(String::new()),
            _ => entries.last_mut().unwrap().push(c),
        }
        if depth == 0 {
            break;
        }
    }
    let name = |e: &String| e.trim().split(|c: char| !c.is_alphanumeric() && c != '_').next().map(str::to_owned);
    entries.iter().filter_map(name).filter(|n| !n.is_empty()).collect()
}

fn top_modules(files: &[Source]) -> BTreeSet<String> {
    let checked = files.iter().filter(|f| is_checked(f));
    checked.map(|f| module_path(&f.path)[0].to_owned()).collect()
}

#[test]
fn modules_import_from_their_own_layer_and_those_below() {
    let files = source::rust("src");
    let modules = top_modules(&files);
    let mut wrong = Vec::new();
    let mut seen: BTreeMap<(String, String), String> = BTreeMap::new();
    for module in &modules {
        if layer(module).is_none() {
            wrong.push(format!("src/{module}.rs: stands in no layer; give it a place in tests/it/layers.rs"));
        }
    }
    for file in files.iter().filter(|f| is_checked(f)) {
        let from = module_path(&file.path)[0].to_owned();
        for Import { line, module: to } in imports(&file.path, &code(&file.text)) {
            // Anything else at the root is a macro.
            if to == from || !modules.contains(&to) {
                continue;
            }
            let place = format!("{}:{line}", file.path);
            if layer(&to) > layer(&from) {
                wrong.push(format!("{place}: {from} imports {to}, which stands above it"));
            }
            if let Some(back) = seen.get(&(to.clone(), from.clone())) {
                wrong.push(format!("{place}: {from} imports {to}, and {back} the other way round"));
            }
            seen.entry((from.clone(), to)).or_insert(place);
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn things_with_a_home_stay_in_it() {
    let files = source::rust("src");
    let mut wrong = Vec::new();
    for home in HOMES {
        let pattern = Regex::new(home.pattern).unwrap();
        for file in files.iter().filter(|f| f.path.starts_with(home.within)) {
            let excepted =
                home.except.iter().any(|e| file.path == *e || (e.ends_with('/') && file.path.starts_with(e)));
            if excepted || module_path(&file.path).last() == Some(&"testing") {
                continue;
            }
            let code = code(&file.text);
            for hit in pattern.find_iter(&code) {
                let place = format!("{}:{}", file.path, line(&code, hit.start()));
                wrong.push(format!("{place}: `{}`: {}", hit.as_str(), home.why));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn imports_are_found_in_every_form() {
    let text = "use crate::clock::Millis;\nuse crate::{store::{Store, meta}, web};\nlet x = super::super::app::run();\n\
                use super::pool;\npub(super) fn f() { $crate::lang::current() }\n";
    let found: Vec<_> = imports("src/store/meta.rs", text).into_iter().map(|i| (i.line, i.module)).collect();
    let expected = [(1, "clock"), (2, "store"), (2, "web"), (3, "app"), (5, "lang")];
    assert_eq!(found, expected.map(|(line, module)| (line, module.to_owned())));
    assert_eq!(imports("src/web.rs", "use super::cli;"), [Import { line: 1, module: "cli".into() }]);
}
