//! `gong demo`, small: it ends well, leaves what it says, and comes out the same again.

use std::path::{Path, PathBuf};

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
    // How often an alert is said again after a lost answer depends on whose receipt
    // was faster; what becomes of everybody does not.
    fields["gateways"]["sms"].as_object_mut().unwrap().remove("messages").unwrap();
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
        Run::of(std::process::Command::new("sh").args(["-c", &script]).current_dir("/"))
    };
    tries.into_iter().map(|line| (line.to_owned(), run(line))).collect()
}

/// The files below a folder whose names end so.
fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
    found
}

/// A sheet a village as PDF and as a picture that a chat group takes, the towns bound,
/// the doors to knock at, and what the gateways took.
fn artefacts(dir: &Path) {
    let (pdf, jpg) = (files(&dir.join("sheets"), ".pdf"), files(&dir.join("sheets"), ".jpg"));
    assert!(jpg.len() >= 26 && pdf.len() == jpg.len() + 2, "{} sheets, {} pictures", pdf.len(), jpg.len());
    for picture in &jpg {
        assert!(std::fs::metadata(picture).unwrap().len() < 500_000, "{}", picture.display());
        let name = picture.file_name().unwrap().to_string_lossy().into_owned();
        let parts: Vec<&str> = name.split('-').collect();
        assert!(parts.len() >= 5 && parts[0].ends_with('镇') && parts[2].contains("预警"), "{name}");
    }
    assert!(pdf.iter().all(|p| std::fs::read(p).unwrap().starts_with(b"%PDF-")));
    assert!(files(&dir.join("visits"), ".xlsx").len() == 2 && !files(&dir.join("visits"), ".pdf").is_empty());
    assert!(files(&dir.join("samples"), ".sms.txt").len() == 7);
    assert!(!files(&dir.join("samples/posts"), "").is_empty());
    assert!(!files(&dir.join("samples/mail"), ".eml").is_empty());
    let page = std::fs::read_to_string(dir.join("reach.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("河口镇") && !page.contains("<script"));
    let report = std::fs::read_to_string(dir.join("情况报告.md")).unwrap();
    assert!(report.contains("坝洒"), "the village that did not answer is named: {report}");
}

#[test]
fn the_demo_ends_well_and_comes_out_the_same_again() {
    let gong = Gong::new();
    let first = demo(&gong, "one");
    assert_eq!(first["wrong"], serde_json::json!([]), "{first}");
    assert_eq!(first["persons"], 300);
    assert!(first["dispatches"].as_array().unwrap().len() >= 5, "{first}");
    let dir = gong.dir().join("one");
    for name in ["NEXT.txt", "gong.toml", "data/gong.db", "reach.csv", "reach.html", "情况报告.pdf", "情况报告.md"]
    {
        assert!(dir.join(name).is_file(), "{name}");
    }
    artefacts(&dir);
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
