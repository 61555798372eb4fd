//! deploy/backup.sh and deploy/restore.sh bring a site back, on either engine.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::source;
use crate::support::{Gong, Run, postgres_server};

/// A site made by commands, with one dispatch that nothing serves.
struct Site {
    gong: Gong,
    /// The address of a PostgreSQL database of its own.
    url: Option<String>,
}

impl Site {
    fn new(url: Option<String>) -> Self {
        let site = Self { gong: Gong::new(), url };
        let example = source::root().join("deploy/example");
        site.gong(&[
            "init",
            "--name",
            "某局",
            "--phone",
            "0873-5550000",
            "--operator",
            "张三:author",
            "--operator",
            "李四:reviewer,dispatcher",
            "--operator",
            "管:admin",
        ])
        .ok();
        let channel = site.gong(&["loopback", "sms", "--print-channel", "--secrets-dir", "data"]).ok().stdout;
        let config = site.dir().join("gong.toml");
        std::fs::write(&config, std::fs::read_to_string(&config).unwrap() + &channel).unwrap();
        std::fs::copy(example.join("people.csv"), site.dir().join("people.csv")).unwrap();
        let regions = example.join("regions.csv").display().to_string();
        site.gong(&["--as", "张三", "import", "regions", &regions]).ok();
        site.gong(&["--as", "张三", "import", "recipients", "people.csv", "--create-groups"]);
        let item = example.join("alert.md").display().to_string();
        site.gong(&["--as", "张三", "item", "add", &item]).ok();
        site.gong(&["--as", "李四", "item", "approve", "1"]).ok();
        site.gong(&["--as", "李四", "send", "1", "--plan", "sms", "--yes"]).ok();
        site
    }

    fn dir(&self) -> &Path {
        self.gong.dir()
    }

    fn set(&self, command: &mut Command) -> Run {
        if let Some(url) = &self.url {
            command.env("GONG_STORE__URL", url);
        }
        Run::of(command)
    }

    fn gong(&self, args: &[&str]) -> Run {
        self.set(&mut self.gong.command(args))
    }

    fn script(&self, name: &str, args: &[&str], keep: &str) -> Run {
        let mut command = Command::new(source::root().join("deploy").join(name));
        for (variable, _) in self.gong.command([""; 0]).get_envs().filter(|(_, value)| value.is_none()) {
            command.env_remove(variable);
        }
        command.args(args).current_dir(self.dir());
        command.env("GONG", env!("CARGO_BIN_EXE_gong")).env("GONG_AS", "管").env("KEEP", keep);
        self.set(&mut command)
    }

    fn state(&self) -> Value {
        self.gong(&["--json", "status", "1"]).ok().json()["state"].clone()
    }

    /// What `gong check` thinks of the last backup.
    fn backup_is(&self) -> Value {
        let lines = self.gong(&["--json", "check"]).json();
        lines.as_array().unwrap().iter().find(|l| l["name"] == "backup").expect("a line on it")["state"].clone()
    }

    /// A restore that breaks off in the middle of a dump, whose checksum agrees.
    fn breaks_off(&self, backup: &Path) {
        let dump = backup.join("gong.dump");
        let whole = std::fs::read(&dump).unwrap();
        let reads = || Command::new("pg_restore").arg("--file=/dev/null").arg(&dump).output().unwrap().status.success();
        assert!(reads());
        // As late as may be: the last byte without which it cannot be read.
        let spoiled = (1..whole.len()).rev().find(|&at| {
            let mut bytes = whole.clone();
            bytes[at] ^= 0xff;
            std::fs::write(&dump, bytes).unwrap();
            !reads()
        });
        assert!(spoiled.is_some_and(|at| at > whole.len() / 2), "{spoiled:?} of {}", whole.len());
        let sums = "sha256sum gong.dump site.tar.gz > SHA256SUMS";
        assert!(Command::new("sh").args(["-c", sums]).current_dir(backup).status().unwrap().success());
        let failed = self.script("restore.sh", &[backup.to_str().unwrap(), "--replace"], "0");
        assert!(failed.code == Some(1) && failed.stderr.contains("as it was"), "{}", failed.stderr);
    }

    fn backup(&self, keep: &str) -> PathBuf {
        let run = self.script("backup.sh", &["backups"], keep).ok();
        assert!(run.stderr.contains("gong.key"), "it reminds of the key: {}", run.stderr);
        self.dir().join(run.stdout.trim())
    }
}

fn there_and_back(url: Option<String>, database: &str) {
    let site = Site::new(url);
    assert_eq!(site.state(), json!("active"));
    assert_eq!(site.backup_is(), "warn");
    let backup = site.backup("0");
    assert_eq!(site.backup_is(), "good");
    for file in [database, "site.tar.gz", "SHA256SUMS"] {
        assert!(backup.join(file).exists(), "{file} is not in the backup");
    }
    let holds = |what: &[u8]| {
        let bytes = std::fs::read(backup.join(database)).unwrap();
        bytes.windows(what.len()).any(|w| w == what)
    };
    let key = std::fs::read(site.dir().join("data/gong.key")).unwrap();
    assert!(!holds(&key[..32.min(key.len())]), "the key is in the backup");
    // After the backup something happens that the restore must take back.
    site.gong(&["--as", "李四", "cancel", "1"]).ok();
    assert_eq!(site.state(), json!("cancelled"));
    let from = backup.to_str().unwrap();
    site.script("restore.sh", &[from, "--check"], "0").ok();
    if site.url.is_some() {
        let refused = site.script("restore.sh", &[from], "0");
        assert!(refused.code != Some(0) && refused.stderr.contains("--replace"), "{}", refused.stderr);
        let replaced = site.script("restore.sh", &[from, "--replace"], "0").ok();
        assert!(!replaced.stderr.contains("drop cascades"), "{}", replaced.stderr);
    } else {
        site.script("restore.sh", &[from], "0").ok();
    }
    assert_eq!(site.state(), json!("paused"), "nothing goes out again by itself");
    assert_eq!(site.gong(&["--json", "audit", "verify"]).ok().json()["whole"], true);
    let shown = site.gong(&["--json", "item", "show", "1"]).ok();
    assert!(shown.stdout.contains("暴雨红色预警"), "{}", shown.stdout);
    // The last of three is kept; a damaged one is refused.
    site.backup_later("1");
    let last = site.backup_later("1");
    let left: Vec<_> = std::fs::read_dir(site.dir().join("backups")).unwrap().map(|f| f.unwrap().path()).collect();
    assert_eq!(left, std::slice::from_ref(&last));
    let mut bytes = std::fs::read(last.join(database)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(last.join(database), bytes).unwrap();
    let damaged = site.script("restore.sh", &[last.to_str().unwrap()], "0");
    assert!(damaged.code == Some(1) && damaged.stderr.contains("damaged"), "{}", damaged.stderr);
    assert_eq!(site.state(), json!("paused"), "and nothing was changed");
    if site.url.is_some() {
        let another = site.backup_later("0");
        site.gong(&["--as", "李四", "resume", "1"]).ok();
        site.breaks_off(&another);
        assert_eq!(site.state(), json!("active"), "what was there is there");
        assert_eq!(site.gong(&["--json", "audit", "verify"]).ok().json()["whole"], true);
    }
}

impl Site {
    /// A backup under a name of its own: names have whole seconds.
    fn backup_later(&self, keep: &str) -> PathBuf {
        let mut made = None;
        let again = || {
            let run = self.script("backup.sh", &["backups"], keep);
            made = (run.code == Some(0)).then(|| self.dir().join(run.stdout.trim()));
            made.is_some()
        };
        assert!(crate::support::wait_until(std::time::Duration::from_secs(30), again), "no backup");
        made.unwrap()
    }
}

#[test]
fn a_county_on_sqlite_comes_back() {
    there_and_back(None, "gong.db");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_province_on_postgresql_comes_back() {
    let Some(server) = postgres_server() else { return };
    let name = format!("b_{}", uuid::Uuid::now_v7().simple());
    let admin = crate::support::pool(&server).await;
    let run = async |sql: String| sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&admin).await.map(drop).unwrap();
    run(format!("CREATE DATABASE {name}")).await;
    let (before, _) = server.rsplit_once('/').unwrap();
    let url = format!("{before}/{name}");
    let done = tokio::task::spawn_blocking(move || there_and_back(Some(url), "gong.dump")).await;
    run(format!("DROP DATABASE {name} WITH (FORCE)")).await;
    done.unwrap();
}
