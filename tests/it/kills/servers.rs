//! A PostgreSQL that a test may kill, fill and slow down.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::support::{postgres_server, skipped};

/// A server in a folder of its own; it is stopped with this.
pub struct Postgres {
    dir: TempDir,
    pub url: String,
}

impl Postgres {
    /// `None` where the tests have no PostgreSQL.
    pub fn start() -> Option<Self> {
        postgres_server()?;
        let dir = tempfile::tempdir().unwrap();
        // The server runs as a user of its own.
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let url = tokio::task::block_in_place(|| script(dir.path(), "start"));
        Some(Self { dir, url })
    }

    pub fn run(&self, verb: &str) {
        tokio::task::block_in_place(|| script(self.dir.path(), verb));
    }
}

fn script(dir: &Path, verb: &str) -> String {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/services/postgres.sh"));
    let done = command.arg(verb).env("GONG_TEST_DIR", dir).env_remove("GONG_TEST_PG_PORT").output().unwrap();
    assert!(done.status.success(), "{verb}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

impl Drop for Postgres {
    fn drop(&mut self) {
        script(self.dir.path(), "stop");
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
