//! The Debian package installs into a root of its own and makes a site that works, and
//! every script of deploy/ is one.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::source;
use crate::support::{Gong, Run};

fn deploy(file: &str) -> PathBuf {
    source::root().join("deploy").join(file)
}

fn there(program: &str) -> bool {
    Command::new("sh").args(["-c", &format!("command -v {program}")]).output().is_ok_and(|o| o.status.success())
}

/// The program's environment without this shell's own settings.
fn run(gong: &Gong, program: &Path, args: &[&str], settings: &[(&str, &str)]) -> Run {
    let usual = gong.command([""; 0]);
    let mut command = Command::new(program);
    for (name, _) in usual.get_envs().filter(|(_, value)| value.is_none()) {
        command.env_remove(name);
    }
    command.args(args).current_dir(gong.dir()).envs(settings.iter().copied());
    Run::of(&mut command)
}

#[test]
fn the_debian_package_installs_without_a_network_and_makes_a_site() {
    if !there("dpkg-deb") {
        return;
    }
    let gong = Gong::new();
    let program = env!("CARGO_BIN_EXE_gong");
    let built = run(&gong, &deploy("deb/build.sh"), &["."], &[("GONG", program), ("DEB_Z", "none")]).ok();
    let package = gong.dir().join(built.stdout.trim());
    // A root without anything in it: neither users nor the libraries it depends on.
    let root = gong.dir().join("root");
    for folder in ["var/lib/dpkg/info", "var/lib/dpkg/updates"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    std::fs::write(root.join("var/lib/dpkg/status"), "").unwrap();
    let at = root.display().to_string();
    let dpkg = |args: &[&str]| {
        let mut all = vec!["--root", &at, "--force-script-chrootless", "--force-not-root", "--force-depends"];
        all.extend(args);
        run(&gong, Path::new("dpkg"), &all, &[]).ok()
    };
    dpkg(&["--install", package.to_str().unwrap()]);
    let installed = root.join("usr/bin/gong");
    let version = run(&gong, &installed, &["--version"], &[]).ok();
    assert!(version.stdout.contains(env!("CARGO_PKG_VERSION")), "{}", version.stdout);
    let setup = root.join("usr/sbin/gong-setup");
    let settings = [("GONG_ROOT", at.as_str()), ("GONG", installed.to_str().unwrap())];
    let args = ["--name", "某县应急管理局", "--phone", "0873-5550000", "--operator", "管:admin"];
    run(&gong, &setup, &args, &settings).ok();
    let config = root.join("etc/gong/gong.toml");
    let check = run(&gong, &installed, &["check", "--json"], &[("GONG_CONFIG", config.to_str().unwrap())]).ok();
    assert!(check.stdout.contains("var/lib/gong/gong.key"), "{}", check.stdout);
    assert!(root.join("var/lib/gong/gong.db").exists());
    assert_eq!(run(&gong, &setup, &args, &settings).code, Some(1), "a site that is there stays as it is");
    // What people entered outlives the package.
    dpkg(&["--purge", "gong"]);
    assert!(!installed.exists() && config.exists() && root.join("var/lib/gong/gong.key").exists());
}

#[test]
fn every_script_is_one() {
    for file in source::files("deploy").iter().filter(|f| f.text.starts_with("#!")) {
        let shell = if file.text.starts_with("#!/bin/sh") { "sh" } else { "bash" };
        let read = Command::new(shell).arg("-n").arg(source::root().join(&file.path)).output().unwrap();
        assert!(read.status.success(), "{}: {}", file.path, String::from_utf8_lossy(&read.stderr));
        let strict = file.text.contains("\nset -e");
        assert!(strict, "{} goes on after an error", file.path);
    }
}
