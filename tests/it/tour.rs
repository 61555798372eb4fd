//! The tour of the README, run as it stands there, in both languages' files.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Gong, Run, Running, free_port, wait_until};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const READMES: [&str; 2] = ["README.md", "README.zh-CN.md"];

/// The example files in a folder, and the free ports that stand for the tour's own.
struct Tour {
    gong: Gong,
    at: PathBuf,
    gateway: u16,
    server: u16,
}

impl Tour {
    fn new() -> Self {
        let gong = Gong::new();
        let example = gong.dir().join("deploy/example");
        std::fs::create_dir_all(&example).unwrap();
        for file in std::fs::read_dir(Path::new(ROOT).join("deploy/example")).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), example.join(file.file_name())).unwrap();
        }
        let at = gong.dir().to_path_buf();
        Self { gong, at, gateway: free_port(), server: free_port() }
    }

    /// A line of the tour in a shell, its loopback gateway on a port of this test's.
    fn shell(&self, line: &str) -> Command {
        let listen = format!("gong loopback sms --listen 127.0.0.1:{}", self.gateway);
        let line = line.replace("gong loopback sms", &listen);
        let programs = Path::new(env!("CARGO_BIN_EXE_gong")).parent().unwrap();
        let path = std::env::join_paths([programs, Path::new("/usr/bin"), Path::new("/bin")]).unwrap();
        // The environment of the usual helper, which frees it from this shell's settings.
        let usual = self.gong.command([""; 0]);
        let mut command = Command::new("sh");
        for (name, value) in usual.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.args(["-c", &line]).current_dir(&self.at).stdin(Stdio::null());
        command.env("PATH", path).env("GONG_SERVER__LISTEN", format!("127.0.0.1:{}", self.server));
        command
    }

    fn run(&self, line: &str) -> Run {
        Run::of(&mut self.shell(line))
    }

    fn start(&self, line: &str, port: u16) -> Running {
        let mut command = self.shell(&format!("exec {line}"));
        let running = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let listens = || TcpStream::connect(("127.0.0.1", port)).is_ok();
        assert!(wait_until(Duration::from_secs(20), listens), "{line}: nobody listens on {port}");
        running
    }

    fn json(&self, line: &str) -> Value {
        self.run(line).ok().json()
    }
}

/// The lines of the shell block after `<!-- tour -->`, comments left out.
fn lines(readme: &str) -> Vec<String> {
    let text = std::fs::read_to_string(Path::new(ROOT).join(readme)).unwrap();
    let (_, rest) = text.split_once("<!-- tour -->\n```sh\n").expect("the README has a tour");
    let (block, _) = rest.split_once("\n```").unwrap();
    block.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

#[test]
fn both_readmes_take_the_same_tour() {
    let [english, chinese] = READMES.map(lines);
    assert!(english.len() > 10, "{english:?}");
    assert_eq!(english, chinese);
}

#[test]
fn the_tour_of_the_readme_ends_as_it_says() {
    let mut tour = Tour::new();
    let mut running = Vec::new();
    let mut said = BTreeMap::new();
    for line in lines(READMES[0]) {
        if let Some(folder) = line.strip_prefix("cd ") {
            tour.at = tour.at.join(folder);
        } else if let Some(line) = line.strip_suffix(" &") {
            let port = if line.contains("loopback") { tour.gateway } else { tour.server };
            running.push(tour.start(line, port));
        } else {
            let run = tour.run(&line);
            // One row of the people is wrong on purpose.
            let expected = if line.contains("import recipients") { 4 } else { 0 };
            assert_eq!(run.code, Some(expected), "{line}\n{}{}", run.stdout, run.stderr);
            said.insert(line, run.stdout);
        }
    }
    let rejected = std::fs::read_to_string(tour.gong.dir().join("deploy/example/people.rejected.csv")).unwrap();
    assert!(rejected.contains("r6,") && rejected.lines().count() == 2, "{rejected}");
    let unreached: Vec<_> = said["gong unreached 1"].lines().collect();
    assert_eq!(unreached.len(), 2, "one head, one person: {unreached:?}");
    assert!(unreached[1].contains("没有联系方式") && !unreached[1].contains("四四"), "{unreached:?}");
    check_end(&tour);
}

fn check_end(tour: &Tour) {
    let status = tour.json("gong --json status 1");
    assert_eq!((&status["state"], &status["finished"]), (&json!("finished"), &json!(true)), "{status}");
    assert_eq!(status["states"], json!({ "delivered": 2, "listed": 1 }), "{status}");
    assert_eq!(status["channels"], json!({ "sms": { "delivered": 2 }, "visit": { "listed": 1 } }), "{status}");
    let reach = tour.json("gong --json reach 1");
    let counts =
        ["audience", "reached", "reached_direct", "reached_via_household", "unreached"].map(|name| &reach[name]);
    assert_eq!(counts, [&json!(4), &json!(3), &json!(2), &json!(1), &json!(1)], "{reach}");
    assert_eq!(reach["unreached_by_reason"]["no_address"], 1, "{reach}");
    assert_eq!(tour.json("gong --json audit verify")["whole"], true);
}
