//! The Debian package installs into a root of its own and makes a site that works, as its
//! service's user alone; every script, unit and container file of deploy/ is sound.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use gong::queue::settings::BrokerUrl;
use regex::Regex;

use crate::source;
use crate::support::{Gong, Run, skipped};

fn deploy(file: &str) -> PathBuf {
    source::root().join("deploy").join(file)
}

fn is_a(file: &source::Source, extension: &str) -> bool {
    Path::new(&file.path).extension().is_some_and(|e| e == extension)
}

fn there(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
    let there = found.is_ok_and(|o| o.status.success());
    if !there {
        skipped(&format!("a test of what is deployed: there is no {program}"));
    }
    there
}

/// Only root can give files away.
fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skipped("what root leaves behind: this is not root");
    }
    root
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

/// The package, installed into a root without anything else in it: neither users nor the
/// libraries it depends on.
struct Installed {
    gong: Gong,
    root: PathBuf,
}

impl Installed {
    fn new() -> Self {
        let gong = Gong::new();
        let program = env!("CARGO_BIN_EXE_gong");
        let built = run(&gong, &deploy("deb/build.sh"), &["."], &[("GONG", program), ("DEB_Z", "none")]).ok();
        let package = gong.dir().join(built.stdout.trim());
        let root = gong.dir().join("root");
        for folder in ["var/lib/dpkg/info", "var/lib/dpkg/updates"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        std::fs::write(root.join("var/lib/dpkg/status"), "").unwrap();
        let installed = Self { gong, root };
        installed.dpkg(&["--install", package.to_str().unwrap()]);
        installed
    }

    fn dpkg(&self, args: &[&str]) {
        let at = self.root.display().to_string();
        let mut all = vec!["--root", &at, "--force-script-chrootless", "--force-not-root", "--force-depends"];
        all.extend(args);
        run(&self.gong, Path::new("dpkg"), &all, &[]).ok();
    }

    fn path(&self, file: &str) -> String {
        self.root.join(file).display().to_string()
    }

    /// Runs one of its programs, as this test's user.
    fn run(&self, program: &str, args: &[&str]) -> Run {
        let (at, config, gong) = (self.path(""), self.path("etc/gong/gong.toml"), self.path("usr/bin/gong"));
        let settings = [("GONG_ROOT", at.trim_end_matches('/')), ("GONG_CONFIG", &config), ("GONG", &gong)];
        run(&self.gong, &self.root.join(program), args, &settings)
    }

    fn set_up(&self) -> Run {
        let args = ["--name", "某县应急管理局", "--phone", "0873-5550000", "--operator", "管:admin"];
        self.run("usr/sbin/gong-setup", &args)
    }

    /// Gives the site to another user, as the package does where it may make users.
    fn give_to(&self, uid: u32) {
        for folder in ["etc/gong", "var/lib/gong"] {
            for file in files_below(&self.root.join(folder)) {
                chown(file, Some(uid), Some(uid)).unwrap();
            }
        }
    }

    /// Runs gong by gong-run.
    fn as_service(&self, args: &[&str]) -> Run {
        let program = self.path("usr/bin/gong");
        self.run("usr/bin/gong-run", &[&[program.as_str()], args].concat())
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned()];
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn the_debian_package_installs_without_a_network_and_makes_a_site() {
    if !there("dpkg-deb") {
        return;
    }
    let installed = Installed::new();
    let version = installed.run("usr/bin/gong", &["--version"]).ok();
    assert!(version.stdout.contains(env!("CARGO_PKG_VERSION")), "{}", version.stdout);
    installed.set_up().ok();
    let check = installed.run("usr/bin/gong", &["check", "--json"]).ok();
    assert!(check.stdout.contains("var/lib/gong/gong.key"), "{}", check.stdout);
    assert!(installed.root.join("var/lib/gong/gong.db").exists());
    assert_eq!(installed.set_up().code, Some(1), "a site that is there stays as it is");
    // What people entered outlives the package.
    installed.dpkg(&["--purge", "gong"]);
    assert!(!installed.root.join("usr/bin/gong").exists());
    assert!(["etc/gong/gong.toml", "var/lib/gong/gong.key"].iter().all(|f| installed.root.join(f).exists()));
}

/// A user that owns nothing.
const NOBODY: u32 = 65_534;

#[test]
fn root_leaves_nothing_that_the_service_cannot_open() {
    if !there("dpkg-deb") || !there("runuser") || !is_root() {
        return;
    }
    let installed = Installed::new();
    installed.set_up().ok();
    installed.as_service(&["backup", &installed.path("var/lib/gong/copy.db")]).ok();
    installed.give_to(NOBODY);
    std::fs::set_permissions(installed.gong.dir(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let before = files_below(&installed.root);
    let copy = installed.path("var/lib/gong/copy.db");
    for command in [&["restore", &copy][..], &["status"], &["backup"], &["migrate"]] {
        let refused = installed.run("usr/bin/gong", command);
        assert_eq!(refused.code, Some(3), "{command:?}: {}", refused.stderr);
        assert!(refused.stderr.contains("runuser -u nobody -- gong"), "{command:?}: {}", refused.stderr);
    }
    let script = installed.run("usr/share/gong/backup.sh", &[&installed.path("var/lib/gong/backups")]);
    assert!(script.code == Some(1) && script.stderr.contains("gong-run"), "{}", script.stderr);
    assert_eq!(files_below(&installed.root), before, "root left something behind");
    // The same by the command that was named; with a secret that only the units had.
    let secrets =
        "# a comment\n\nGONG_SITE__PHONE=\"0873-555 \\\"0001\\\"\"\nGONG_QUEUE__URL=[\"amqp://a:b@mq1/%2f\"]\n";
    std::fs::write(installed.root.join("etc/gong/secrets.env"), secrets).unwrap();
    installed.as_service(&["restore", &copy]).ok();
    let script = [&installed.path("usr/share/gong/backup.sh"), &*installed.path("var/lib/gong/backups")];
    installed.run("usr/bin/gong-run", &script).ok();
    let check = installed.as_service(&["check", "--json"]);
    assert!(check.stdout.contains("\"queue\""), "the secrets went along: {}", check.stdout);
    let shown = installed.run("usr/bin/gong-run", &["printenv", "GONG_SITE__PHONE"]).ok();
    assert_eq!(shown.stdout, "0873-555 \"0001\"\n", "as systemd reads it");
    for file in files_below(&installed.root.join("var/lib/gong")) {
        assert_eq!(std::fs::metadata(&file).unwrap().uid(), NOBODY, "{}", file.display());
    }
    // What was left by root all the same is named, with the remedy.
    let database = installed.root.join("var/lib/gong/gong.db");
    chown(&database, Some(0), Some(0)).unwrap();
    std::fs::set_permissions(&database, std::fs::Permissions::from_mode(0o600)).unwrap();
    let lost = installed.as_service(&["status"]);
    assert!(lost.code == Some(3) && lost.stderr.contains("chown -R nobody:"), "{}", lost.stderr);
    let key = installed.root.join("var/lib/gong/gong.key");
    chown(&key, Some(0), Some(0)).unwrap();
    let lost = installed.as_service(&["status"]);
    assert!(lost.code == Some(1) && lost.stderr.contains("chmod 600"), "{}", lost.stderr);
}

#[test]
fn every_unit_is_sound() {
    if !there("systemd-analyze") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_gong");
    let script = deploy("backup.sh").display().to_string();
    let units = source::files("deploy/systemd");
    assert!(units.len() > 5);
    let mut copies = Vec::new();
    for unit in &units {
        // The programs are not where the package puts them.
        let text = unit.text.replace("=/usr/bin/gong ", &format!("={program} "));
        let copy = folder.path().join(Path::new(&unit.path).file_name().unwrap());
        std::fs::write(&copy, text.replace("=/usr/share/gong/backup.sh", &format!("={script}"))).unwrap();
        copies.push(copy);
    }
    let verified = Command::new("systemd-analyze").args(["verify", "--man=no"]).args(&copies).output().unwrap();
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success() && said.is_empty(), "{said}");
}

/// systemd does not mind a unit that names one that is not there.
#[test]
fn every_unit_that_is_named_is_there() {
    let name = Regex::new(r"\bgong[a-z-]*(@[%\w*-]*)?\.(?:service|timer|target)\b").unwrap();
    let units = source::files("deploy/systemd");
    let there: BTreeSet<String> =
        units.iter().map(|u| Path::new(&u.path).file_name().unwrap().to_str().unwrap().to_owned()).collect();
    let scripts = source::files("deploy/deb");
    let mut named = 0;
    for file in units.iter().chain(&scripts) {
        for found in name.captures_iter(&file.text) {
            let unit = found.get(1).map_or_else(|| found[0].to_owned(), |i| found[0].replace(i.as_str(), "@"));
            assert!(there.contains(&unit), "{}: {}", file.path, &found[0]);
            named += 1;
        }
    }
    assert!(named > 5, "only {named} found");
    // A oneshot that fails is told; what is started by a timer has its service.
    for unit in units.iter().filter(|u| is_a(u, "timer")) {
        let service = units.iter().find(|u| u.path == unit.path.replace(".timer", ".service")).expect("its service");
        assert!(service.text.contains("OnFailure=gong-alarm@%N.service"), "{} fails in silence", service.path);
    }
}

#[test]
fn a_unit_that_fails_is_told() {
    let gong = Gong::new();
    gong.run(["init", "--name", "某局", "--phone", "0873-5550000"]).ok();
    let unit = std::fs::read_to_string(deploy("systemd/gong-alarm@.service")).unwrap();
    let words = Regex::new("ExecStart=/usr/bin/gong alarm \"(.*)\"\n").unwrap();
    let text = words.captures(&unit).unwrap()[1].replace("%H", "node1").replace("%i", "gong-backup");
    let nobody = gong.run(["alarm", &text]);
    assert!(nobody.code == Some(3) && nobody.stderr.contains("[alarm]"), "{}", nobody.stderr);
    let settings = |channel: &str| format!("[alarm]\ncommand = [\"sh\", \"-c\", \"cat > told\"]\n{channel}");
    let config = gong.dir().join("gong.toml");
    let plain = std::fs::read_to_string(&config).unwrap().replace("[alarm]\n", "");
    // A channel that is not there does not keep the program silent; nor does the database.
    for channel in ["", "channel = \"nowhere\"\n"] {
        std::fs::write(&config, format!("{plain}\n{}", settings(channel))).unwrap();
        let _ = std::fs::remove_dir_all(gong.dir().join("data"));
        gong.run(["alarm", &text]).ok();
        let told = std::fs::read_to_string(gong.dir().join("told")).unwrap();
        assert!(told.contains("某局") && told.contains("journalctl -u gong-backup"), "{told}");
        std::fs::remove_file(gong.dir().join("told")).unwrap();
    }
}

#[test]
fn the_brokers_of_the_containers_are_asked_for_the_virtual_host_that_they_have() {
    let compose = std::fs::read_to_string(deploy("docker/compose.yml")).unwrap();
    let variable = Regex::new(r"\$\{[^}]*\}").unwrap();
    let compose = variable.replace_all(&compose, "x");
    let address = Regex::new(r#"amqps?://[^"']+"#).unwrap();
    let all: Vec<&str> = address.find_iter(&compose).map(|m| m.as_str()).collect();
    assert_eq!(all.len(), 3, "{all:?}");
    for url in all {
        assert_eq!(BrokerUrl::new(url).uri().unwrap().vhost, "/", "{url}");
    }
}

#[test]
fn the_containers_that_the_handbook_names_are_there() {
    for file in source::files("deploy").iter().filter(|f| is_a(f, "yml")) {
        for event in saphyr_parser::Parser::new_from_str(&file.text) {
            assert!(event.is_ok(), "{}: {event:?}", file.path);
        }
    }
    let compose = std::fs::read_to_string(deploy("docker/compose.yml")).unwrap();
    let handbook = std::fs::read_to_string(source::root().join("docs/HANDBOOK.md")).unwrap();
    let run = Regex::new(r#"docker compose run (?:--rm |-T |-e \S+ |-v "[^"]*" )*(\w+)"#).unwrap();
    let all = Regex::new(r"docker compose (?:stop|restart) ([\w ]+)").unwrap();
    let mut named: BTreeSet<&str> = run.captures_iter(&handbook).map(|c| c.get(1).unwrap().as_str()).collect();
    named.extend(all.captures_iter(&handbook).flat_map(|c| c.get(1).unwrap().as_str().split(' ')));
    assert!(named.len() > 4, "{named:?}");
    let missing: Vec<_> = named.iter().filter(|name| !compose.contains(&format!("\n  {name}:"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn what_the_image_copies_is_in_its_context() {
    let image = std::fs::read_to_string(deploy("docker/Dockerfile")).unwrap();
    let context = std::fs::read_to_string(source::root().join(".dockerignore")).unwrap();
    let mut copied = 0;
    for line in image.lines().filter_map(|l| l.strip_prefix("COPY deploy/")) {
        for file in line.split(' ').map(|f| f.trim_start_matches("deploy/")).filter(|f| !f.starts_with('/')) {
            assert!(deploy(file).exists() && context.contains(&format!("!deploy/{file}\n")), "{file}");
            copied += 1;
        }
    }
    assert_eq!(copied, 3);
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
