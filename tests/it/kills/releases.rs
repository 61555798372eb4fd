//! No release has failpoints: a build without the feature is without the crate.

use std::process::Command;

use crate::source;
use crate::support::Gong;

/// Who is built with the crate `fail`, by these flags.
#[allow(clippy::disallowed_methods)] // tests have no config file
fn builds_with_failpoints(flags: &[&str]) -> bool {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = Command::new(cargo);
    command.args(["tree", "--offline", "--locked", "-e", "normal", "--prefix", "none"]).args(flags);
    let tree = command.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    String::from_utf8(tree.stdout).unwrap().lines().any(|line| line.starts_with("fail v"))
}

#[test]
fn only_who_asks_for_failpoints_builds_them() {
    assert!(!builds_with_failpoints(&[]));
    assert!(!builds_with_failpoints(&["--no-default-features"]));
    assert!(builds_with_failpoints(&["--features", "failpoints"]));
}

#[test]
fn nothing_that_ships_asks_for_failpoints() {
    for file in source::files("deploy") {
        assert!(!file.text.contains("failpoints"), "{}", file.path);
    }
}

/// A word that is none of its grammar ends a program that reads the variable.
#[test]
fn without_them_the_variable_means_nothing() {
    let gong = Gong::new();
    let done = gong.command(["--version"]).env("FAILPOINTS", "nonsense").output().unwrap();
    assert_eq!(done.status.success(), !cfg!(feature = "failpoints"), "{done:?}");
}
