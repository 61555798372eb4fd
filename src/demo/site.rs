//! The demo's folder as a site: commands run in it as people type them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use serde_json::Value;

use super::Stage;
use crate::config;
use crate::lang::{self, Lang};
use crate::say;

/// This program, whichever name it was started by (proc(5)).
const SELF: &str = "/proc/self/exe";
/// Writes what is to be said. A made-up name, as the other.
pub const AUTHOR: &str = "张文华";
/// Looks it over and sends it.
pub const REVIEWER: &str = "李秀英";
pub const UNIT: &str = "河口瑶族自治县应急管理局";
pub const PHONE: &str = "0873-5550110";

/// A folder with a `gong.toml`.
pub struct Site<'a> {
    pub dir: PathBuf,
    pub stage: &'a dyn Stage,
}

/// How one command ended.
pub struct Said {
    pub stdout: String,
    pub stderr: String,
}

impl Site<'_> {
    /// `gong` with `args` in this folder, free of this shell's settings.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(SELF);
        command.env_clear();
        for name in ["PATH", "HOME", "TMPDIR"] {
            if let Some(value) = config::env(name) {
                command.env(name, value);
            }
        }
        let language = if lang::current() == Lang::En { "en" } else { "zh" };
        command.env("GONG_LANG", language).args(args).current_dir(&self.dir).stdin(Stdio::null());
        command
    }

    /// Shows a command and runs it; shows what it said.
    ///
    /// # Errors
    /// When it fails. Rows set aside (exit code 4) are no failure.
    pub async fn show(&self, args: &[&str]) -> anyhow::Result<Said> {
        self.stage.command(&line(args));
        let said = self.run(args).await?;
        self.stage.words(said.stdout.trim_end());
        Ok(said)
    }

    /// Shows a command and runs it with `--json`; what it said is for the caller.
    ///
    /// # Errors
    /// When it fails or prints no JSON.
    pub async fn ask(&self, args: &[&str]) -> anyhow::Result<Value> {
        self.stage.command(&line(args));
        self.query(args).await
    }

    /// Runs a command with `--json` unseen.
    ///
    /// # Errors
    /// When it fails or prints no JSON.
    pub async fn query(&self, args: &[&str]) -> anyhow::Result<Value> {
        let mut all = vec!["--json"];
        all.extend(args);
        let said = self.run(&all).await?;
        serde_json::from_str(&said.stdout).with_context(|| line(args))
    }

    /// Runs a command unseen.
    ///
    /// # Errors
    /// When it fails; rows set aside (exit code 4) are no failure.
    pub async fn run(&self, args: &[&str]) -> anyhow::Result<Said> {
        let mut command = self.command(args);
        let done = tokio::task::spawn_blocking(move || command.output()).await??;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let (code, said) = (done.status.code(), Said { stdout: text(done.stdout), stderr: text(done.stderr) });
        if matches!(code, Some(0 | 4)) {
            return Ok(said);
        }
        let (line, why) = (line(args), said.stderr.trim());
        anyhow::bail!(say!("演示中断：{line}\n  {why}", "the demo broke off: {line}\n  {why}"))
    }

    /// Makes the site and points it at this machine alone.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub async fn init(&self, port: u16, channels: &str) -> anyhow::Result<()> {
        let (author, reviewer) = (format!("{AUTHOR}:author"), format!("{REVIEWER}:reviewer,dispatcher,auditor"));
        self.show(&["init", ".", "--name", UNIT, "--phone", PHONE, "--operator", &author, "--operator", &reviewer])
            .await?;
        let file = self.dir.join("gong.toml");
        let mut settings = std::fs::read_to_string(&file)?;
        let (address, url) = (format!("\"127.0.0.1:{port}\""), format!("\"http://127.0.0.1:{port}\""));
        // So that the demo looks the same at night, and a retry is seen while one looks on.
        let changes = [
            ("server.listen", address.as_str()),
            ("server.public_url", url.as_str()),
            ("calls.wait", "\"8s\""),
            ("calls.officers", "2"),
            ("quiet_hours.from", "\"00:00\""),
            ("quiet_hours.to", "\"00:00\""),
            ("retry.initial_ms", "300"),
            ("retry.max_ms", "2000"),
            ("retry.settle_ms", "2000"),
            ("log.dir", "\"logs\""),
        ];
        for (name, value) in changes {
            settings = set(&settings, name, value)?;
        }
        settings.push_str("\n[attributes]\naddress = { type = \"text\", aliases = [\"住址\"] }\n");
        settings.push_str(channels);
        std::fs::write(&file, settings).with_context(|| file.display().to_string())
    }
}

/// The template with the comment of a default taken away and the value changed; `name`
/// is the table and the key, joined by a dot.
fn set(settings: &str, name: &str, value: &str) -> anyhow::Result<String> {
    let (mut found, mut table) = (0, "");
    let (of, key) = name.split_once('.').unwrap_or(("", name));
    let changed = settings.lines().map(|line| {
        table = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')).unwrap_or(table);
        let default = line.strip_prefix("# ").and_then(|l| l.split_once('='));
        let is = table == of && default.is_some_and(|(n, _)| n.trim() == key);
        found += usize::from(is);
        if is { format!("{key} = {value}") } else { line.to_owned() }
    });
    let changed = changed.collect::<Vec<_>>().join("\n") + "\n";
    anyhow::ensure!(found == 1, "{found} settings of the template are called {name}");
    Ok(changed)
}

/// A command as it is typed.
#[must_use]
pub fn line(args: &[&str]) -> String {
    let plain = |word: &str| word.chars().all(|c| c.is_alphanumeric() || "-_./=:+，、".contains(c)) && !word.is_empty();
    let quoted =
        |word: &&str| if plain(word) { (*word).to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) };
    std::iter::once("gong".to_owned()).chain(args.iter().map(quoted)).collect::<Vec<_>>().join(" ")
}

/// Whether the folder can be taken: empty, or not there.
///
/// # Errors
/// When there is something in it.
pub fn take(dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let shown = dir.display();
    anyhow::ensure!(
        std::fs::read_dir(dir)?.next().is_none(),
        say!(
            "{shown} 不是空文件夹。请用 --out 换一个，演示不会动已有的东西",
            "{shown} is not empty. Choose another with --out; the demo touches nothing that is there"
        )
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_read_as_they_are_typed() {
        assert_eq!(line(&["send", "1", "--plan", "sms > 5s > visit"]), "gong send 1 --plan 'sms > 5s > visit'");
        assert_eq!(line(&["--as", "张文华", "check"]), "gong --as 张文华 check");
    }

    #[test]
    fn every_setting_of_the_demo_stands_in_the_template_once() {
        for name in [
            "server.listen",
            "server.public_url",
            "calls.wait",
            "calls.officers",
            "quiet_hours.from",
            "quiet_hours.to",
            "retry.initial_ms",
            "retry.max_ms",
            "retry.settle_ms",
            "log.dir",
        ] {
            set(config::TEMPLATE, name, "1").unwrap();
        }
        assert!(set(config::TEMPLATE, "log.nothing", "1").is_err());
    }
}
