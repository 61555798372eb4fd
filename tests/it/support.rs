//! Drives the built program from outside: a folder of its own, arguments in, words out.

use std::ffi::OsStr;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use sqlx::postgres::{PgPool, PgPoolOptions};
use tempfile::TempDir;

/// The program `gong` in a fresh folder that goes away with it.
pub struct Gong {
    dir: TempDir,
}

/// What one run of the program said.
#[derive(Debug)]
pub struct Run {
    /// The exit code; none when a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A program that keeps running; it is killed when this goes out of scope.
pub struct Running(pub Child);

impl Gong {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// The folder it runs in.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The program with `args`, not yet started, free of this shell's own settings.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        Self::command_in(self.dir(), args)
    }

    /// Runs it to its end in a folder of somebody else's.
    pub fn beside(dir: &Path, args: &[&str]) -> Run {
        Run::of(&mut Self::command_in(dir, args))
    }

    pub fn command_in<S: AsRef<OsStr>>(dir: &Path, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gong"));
        for (name, _) in std::env::vars_os().filter(|(n, _)| n.to_string_lossy().starts_with("GONG_")) {
            command.env_remove(name);
        }
        command.args(args).current_dir(dir).env("LANG", "C").stdin(Stdio::null());
        // Tests do the same by night as by day.
        command.env("GONG_QUIET_HOURS__FROM", "00:00").env("GONG_QUIET_HOURS__TO", "00:00");
        command
    }

    /// Runs it to its end.
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Run {
        Run::of(&mut self.command(args))
    }

    /// Starts it and lets it run, its words going to the file `log` in its folder.
    pub fn spawn<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>, log: &str) -> Running {
        let log = std::fs::File::create(self.dir().join(log)).unwrap();
        let mut command = self.command(args);
        command.stdout(log.try_clone().unwrap()).stderr(log);
        Running(command.spawn().unwrap())
    }
}

impl Run {
    /// Runs a command to its end. An engine in this very process goes on meanwhile: one
    /// that stood still inside a transaction would lock the program out of the database.
    /// So a test with only one thread panics here.
    pub fn of(command: &mut Command) -> Self {
        let done = tokio::task::block_in_place(|| command.output()).unwrap();
        let text = |bytes| String::from_utf8(bytes).expect("the program writes UTF-8");
        Self { code: done.status.code(), stdout: text(done.stdout), stderr: text(done.stderr) }
    }

    /// Asserts that it went well, and passes it on.
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// What it printed, where it was called with `--json`.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("not JSON ({e}): {}", self.stdout))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // An error says that it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits on a condition, not for a time: asks every few milliseconds until it holds,
/// and says whether it did before `limit` was over.
pub fn wait_until(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if holds() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        // What is waited for happens in another process, which wakes nobody here.
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A port of 127.0.0.1 that nobody listened on just now.
pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// A folder for a server, which runs as a user of its own.
pub fn open_folder() -> TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

/// Connections to a server, without the task that may spin for ever (sqlx issue 3645).
pub async fn pool(url: &str) -> PgPool {
    PgPoolOptions::new().idle_timeout(None).max_lifetime(None).connect(url).await.unwrap()
}

/// The PostgreSQL server to test on, if one was named.
#[allow(clippy::disallowed_methods)] // tests have no config file
pub fn postgres_server() -> Option<String> {
    let named = std::env::var("GONG_TEST_POSTGRES").ok().filter(|url| !url.is_empty());
    if named.is_none() {
        skipped("what needs a PostgreSQL: GONG_TEST_POSTGRES names none");
    }
    named
}

#[test]
fn the_program_runs_in_a_folder_of_its_own() {
    let gong = Gong::new();
    let run = gong.run(["--version"]).ok();
    assert_eq!(run.stderr, "");
    let left: Vec<_> = std::fs::read_dir(gong.dir()).unwrap().collect();
    assert!(left.is_empty(), "asking for the version left {left:?} behind");
}

#[test]
fn a_spawned_program_can_be_awaited() {
    let gong = Gong::new();
    let mut running = gong.spawn(["--version"], "version.log");
    assert!(wait_until(Duration::from_secs(20), || running.0.try_wait().unwrap().is_some()));
    assert!(gong.dir().join("version.log").exists());
}

#[test]
fn waiting_ends_with_the_condition_or_the_limit() {
    let mut asked = 0;
    let third_time = || {
        asked += 1;
        asked == 3
    };
    assert!(wait_until(Duration::from_secs(20), third_time));
    assert!(!wait_until(Duration::ZERO, || false));
}

#[test]
fn a_free_port_can_be_listened_on() {
    assert!(TcpListener::bind(("127.0.0.1", free_port())).is_ok());
}

#[test]
fn what_was_printed_is_read_as_json() {
    let run = Run { code: Some(0), stdout: "{\"reached\": 3}\n".into(), stderr: String::new() };
    assert_eq!(run.ok().json()["reached"], 3);
}

/// The Postfix to test with, if one was named: `HOST:PORT FOLDER` as
/// `deploy/services/postfix.sh` prints it.
#[allow(clippy::disallowed_methods)] // tests have no config file
pub fn postfix() -> Option<(String, std::path::PathBuf)> {
    let named = std::env::var("GONG_TEST_POSTFIX").ok()?;
    let (at, folder) = named.split_once(' ')?;
    Some((at.to_owned(), folder.into()))
}

/// Keeps a line in the file that this variable names, where it names one.
#[allow(clippy::disallowed_methods)] // tests have no config file
pub fn keep(variable: &str, line: &str) {
    let Some(path) = std::env::var_os(variable) else { return };
    let mut kept = std::fs::File::options().create(true).append(true).open(path).unwrap();
    // In one write: other tests keep theirs beside.
    kept.write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// Says that this machine lacks what a test needs: whoever started the tests is to know
/// which of them proved nothing. The file is the one that `GONG_TEST_SKIPPED` names.
#[allow(clippy::print_stdout)] // for who looks at one test
pub fn skipped(why: &str) {
    println!("skipped: {why}");
    keep("GONG_TEST_SKIPPED", why);
}

/// Keeps how long it took from a fault's end, or from a death, until it was made good.
#[allow(clippy::print_stdout)] // for who looks at one test
pub fn tell(what: &str, took: Duration) {
    println!("recovered after {:.1} s: {what}", took.as_secs_f64());
    keep("GONG_TEST_RECOVERY", &format!("{:>6.1} s  {what}", took.as_secs_f64()));
}

/// The seed of a random test: `GONG_TEST_SEED`, or its own.
#[allow(clippy::disallowed_methods)] // tests have no config file
pub fn seed(own: u64) -> u64 {
    std::env::var("GONG_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(own)
}
