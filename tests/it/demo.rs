//! `gong demo`, small: it ends well, leaves what it says, and comes out the same again.

use std::path::Path;

use serde_json::Value;

use crate::support::{Gong, Run};

const PEOPLE: &str = "300";

fn demo(gong: &Gong, out: &str) -> Value {
    gong.run(["--json", "demo", "--out", out, "--people", PEOPLE, "--seed", "7"]).ok().json()
}

/// What must be the same again: not where, when, how fast and how large.
fn counts(mut outcome: Value) -> Value {
    let fields = outcome.as_object_mut().unwrap();
    for name in ["dir", "seconds", "server_peak_bytes", "left"] {
        fields.remove(name).unwrap_or_else(|| panic!("{name}"));
    }
    outcome
}

/// The commands of NEXT.txt in a shell, one after the other.
fn next(dir: &Path) -> Vec<(String, Run)> {
    let text = std::fs::read_to_string(dir.join("NEXT.txt")).unwrap();
    let (head, tries): (Vec<&str>, Vec<&str>) = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .partition(|line| line.starts_with("export ") || line.starts_with("cd "));
    assert_eq!((head.len(), tries.len()), (2, 5), "{text}");
    let run = |line: &str| {
        let script = format!("{}\n{line}", head.join("\n"));
        let done = std::process::Command::new("sh").args(["-c", &script]).current_dir("/").output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Run { code: done.status.code(), stdout: text(done.stdout), stderr: text(done.stderr) }
    };
    tries.into_iter().map(|line| (line.to_owned(), run(line))).collect()
}

#[test]
fn the_demo_ends_well_and_comes_out_the_same_again() {
    let gong = Gong::new();
    let first = demo(&gong, "one");
    assert_eq!(first["wrong"], serde_json::json!([]), "{first}");
    assert_eq!(first["persons"], 300);
    assert!(first["dispatches"].as_array().unwrap().len() >= 5, "{first}");
    let dir = gong.dir().join("one");
    for name in ["NEXT.txt", "gong.toml", "data/gong.db", "reach.csv", "items", "samples", "tables"] {
        assert!(dir.join(name).exists(), "{name}");
    }
    for (line, run) in next(&dir) {
        assert_eq!(run.code, Some(0), "{line}\n{}{}", run.stdout, run.stderr);
        assert!(!run.stdout.trim().is_empty(), "{line} says nothing");
    }
    assert_eq!(counts(first), counts(demo(&gong, "two")), "the same seed, the same counts");
}

#[test]
fn a_folder_in_use_is_left_alone() {
    let gong = Gong::new();
    std::fs::write(gong.dir().join("mine"), "mine").unwrap();
    let run = gong.run(["demo", "--out", ".", "--people", PEOPLE]);
    assert_eq!((run.code, std::fs::read_dir(gong.dir()).unwrap().count()), (Some(1), 1), "{}", run.stderr);
}
