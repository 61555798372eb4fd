//! A PostgreSQL that a test may kill, fill and slow down.

use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::support::{open_folder, postgres_server, skipped};

/// A server in a folder of its own; it is stopped with this.
pub struct Postgres {
    dir: TempDir,
    env: Vec<(&'static str, String)>,
    pub url: String,
}

impl Postgres {
    /// `None` where the tests have no PostgreSQL.
    pub fn start() -> Option<Self> {
        Self::start_with(Vec::new())
    }

    /// With these variables in its environment, whenever it is started.
    pub fn start_with(env: Vec<(&'static str, String)>) -> Option<Self> {
        postgres_server()?;
        let mut server = Self { dir: open_folder(), env, url: String::new() };
        server.url = server.run("start");
        Some(server)
    }

    /// Does as its script says; what that prints.
    pub fn run(&self, verb: &str) -> String {
        let done = tokio::task::block_in_place(|| self.ask(verb));
        assert!(done.status.success(), "{verb}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }

    pub fn is_up(&self) -> bool {
        tokio::task::block_in_place(|| self.ask("status")).status.success()
    }

    fn ask(&self, verb: &str) -> Output {
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/services/postgres.sh"));
        command.arg(verb).env("GONG_TEST_DIR", self.dir.path()).env_remove("GONG_TEST_PG_PORT");
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.output().unwrap()
    }

    /// All of its processes.
    pub fn pids(&self) -> Vec<u32> {
        let file = std::fs::read_to_string(self.dir.path().join("postgres/data/postmaster.pid")).unwrap();
        let first = file.lines().next().unwrap();
        let children = Command::new("pgrep").args(["-P", first]).output().unwrap();
        let children = String::from_utf8(children.stdout).unwrap();
        std::iter::once(first).chain(children.lines()).map(|pid| pid.parse().unwrap()).collect()
    }

    /// What it says in its own log.
    pub fn words(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("postgres/server.log")).unwrap()
    }

    /// Stops it and starts it with its write-ahead log on this disk.
    pub fn log_on(&self, disk: &SmallDisk) {
        self.run("stop");
        let (from, to) = (self.dir.path().join("postgres/data/pg_wal"), disk.path().join("wal"));
        let moved = Command::new("mv").arg(&from).arg(&to).status().unwrap();
        assert!(moved.success());
        std::os::unix::fs::symlink(to, from).unwrap();
        self.run("start");
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let stopped = self.ask("stop");
        assert!(stopped.status.success() || std::thread::panicking(), "it does not stop: {stopped:?}");
    }
}

/// A small disk in memory, where this machine lets us mount one.
pub struct SmallDisk(TempDir);

impl SmallDisk {
    pub fn of_mb(mb: u32) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={mb}m,mode=777");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).output();
        let mounted = mounted.is_ok_and(|done| done.status.success());
        if !mounted {
            skipped("a database whose disk is full: no disk can be mounted here (it takes root)");
        }
        mounted.then_some(Self(dir))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes until nothing more goes on it.
    pub fn fill(&self) {
        use std::io::Write as _;
        let mut ballast = std::fs::File::create(self.path().join("ballast")).unwrap();
        while ballast.write(&[1; 8_192]).is_ok_and(|n| n > 0) {}
    }

    pub fn make_room(&self) {
        std::fs::remove_file(self.path().join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Whoever failed may leave it in use; it is gone from sight all the same.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}
