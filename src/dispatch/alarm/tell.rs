//! Who hears an alarm: a program of the site's, and a declared channel. Both are tried,
//! because the gateway that is down may be the one the alarm would go through.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use uuid::Uuid;

use super::{AlarmSettings, Ring, Trouble, spoken};
use crate::channel::registry::Registry;
use crate::channel::{AddressKind, Channel, Outcome, Outgoing, Target};
use crate::domain::recipient::{Email, Phone};
use crate::domain::sms::{segments, with_signature};
use crate::render::compose::no_facts;
use crate::say;

/// How long the program may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why nobody can be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AlarmError {
    #[error("{}", say!(
        "[alarm] channel：没有名为“{_0}”的渠道",
        "[alarm] channel: there is no channel named `{_0}`"
    ))]
    NoChannel(String),
    #[error("{}", say!(
        "[alarm] channel：渠道 {_0} 发往公告栏或入户，不能报警",
        "[alarm] channel: {_0} goes to notice boards or doors and cannot carry an alarm"
    ))]
    NoCarrier(String),
    #[error("{}", say!(
        "[alarm] to：渠道 {_0} 要写明收警报的号码或邮箱",
        "[alarm] to: name the numbers or addresses that channel {_0} is to tell"
    ))]
    Nobody(String),
    #[error("{}", say!(
        "[alarm] to：第 {n} 个不是渠道 {channel} 的号码或邮箱",
        "[alarm] to: entry {n} is no number or address of channel {channel}"
    ))]
    Address { channel: String, n: usize },
    #[error("{}", say!(
        "[alarm] command：程序 {_0} 不存在或不能执行",
        "[alarm] command: the program {_0} is not there or cannot be run"
    ))]
    Program(String),
}

/// What is said, in one piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// Of the trouble, for programs.
    pub key: String,
    pub kind: &'static str,
    /// `begins`, `lasts`, `over` or `test`.
    pub state: &'static str,
    pub title: String,
    pub text: String,
}

impl Alarm {
    /// The words for a ring, with the site's name.
    #[must_use]
    pub fn of(ring: &Ring, site: &str) -> Self {
        let (trouble, state, more) = match ring {
            Ring::Begins(trouble) => (trouble, "begins", String::new()),
            Ring::Lasts(trouble, since) => {
                let time = spoken(*since);
                (trouble, "lasts", say!("（已报警 {time}）", " (alarm since {time})"))
            }
            Ring::Over(trouble, since) => {
                let time = spoken(*since);
                (trouble, "over", say!("（已恢复，历时 {time}）", " (over, after {time})"))
            }
        };
        let title = match state {
            "over" => say!("gong 警报解除：{site}", "gong alarm over: {site}"),
            _ => say!("gong 警报：{site}", "gong alarm: {site}"),
        };
        Self::say(trouble, state, title, &more)
    }

    fn say(trouble: &Trouble, state: &'static str, title: String, more: &str) -> Self {
        Self { key: trouble.key(), kind: trouble.kind(), state, title, text: format!("{}{more}", trouble.text()) }
    }

    /// One that says that it is none.
    #[must_use]
    pub fn test(site: &str) -> Self {
        Self {
            key: "test".to_owned(),
            kind: "test",
            state: "test",
            title: say!("gong 警报测试：{site}", "gong alarm test: {site}"),
            text: say!("这是一次测试，不需要处理", "this is a test; nothing is to be done"),
        }
    }
}

/// Tells alarms.
#[derive(Clone, Default)]
pub struct Teller {
    command: Vec<String>,
    folder: PathBuf,
    channel: Option<Carrier>,
}

#[derive(Clone)]
struct Carrier {
    name: String,
    channel: Arc<dyn Channel>,
    signature: String,
    to: Vec<Arc<str>>,
}

impl Teller {
    /// Makes one of the site's settings; `folder` is where the program runs.
    ///
    /// # Errors
    /// When the channel, an address or the program is not there.
    pub fn new(settings: &AlarmSettings, registry: &Registry, folder: &Path) -> Result<Self, AlarmError> {
        if let Some(program) = settings.command.first()
            && program.contains('/')
            && !is_program(&folder.join(program))
        {
            return Err(AlarmError::Program(program.clone()));
        }
        let channel = match settings.channel.as_str() {
            "" => None,
            name => Some(carrier(name, settings, registry)?),
        };
        Ok(Self { command: settings.command.clone(), folder: folder.to_owned(), channel })
    }

    /// Whether there is anybody to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.command.is_empty() && self.channel.is_none()
    }

    /// Tells it by every way there is; each with how it went, in the ways' own words.
    pub async fn tell(&self, alarm: &Alarm) -> Vec<(&'static str, Result<(), String>)> {
        let mut told = Vec::new();
        if let Some((program, arguments)) = self.command.split_first() {
            let run = self.run(program, arguments, alarm);
            let done = tokio::time::timeout(PATIENCE, run).await;
            told.push(("command", done.unwrap_or_else(|_| Err("it took longer than 30 s".to_owned()))));
        }
        if let Some(carrier) = &self.channel {
            told.push(("channel", carrier.send(alarm).await));
        }
        told
    }

    async fn run(&self, program: &str, arguments: &[String], alarm: &Alarm) -> Result<(), String> {
        // A program by its path is the site's own; a bare name is looked for as usual.
        let program = if program.contains('/') { self.folder.join(program) } else { program.into() };
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&self.folder).kill_on_drop(true);
        command.env("GONG_ALARM_KEY", &alarm.key).env("GONG_ALARM_STATE", alarm.state);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|e| e.to_string())?;
        if let Some(mut words) = child.stdin.take() {
            // A program that does not read is told by its environment.
            let _ = words.write_all(format!("{}\n{}\n", alarm.title, alarm.text).as_bytes()).await;
        }
        let status = child.wait().await.map_err(|e| e.to_string())?;
        if status.success() { Ok(()) } else { Err(status.to_string()) }
    }
}

/// Whether a file may be run by anybody.
fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

fn carrier(name: &str, settings: &AlarmSettings, registry: &Registry) -> Result<Carrier, AlarmError> {
    let channel = registry.get(name).ok_or_else(|| AlarmError::NoChannel(name.to_owned()))?;
    let address = |kind, text: &str| -> Option<Arc<str>> {
        match kind {
            AddressKind::Phone => Phone::parse(text).map(|p| p.as_str().into()),
            AddressKind::Email => Email::parse(text).map(|e| e.as_str().into()),
        }
    };
    let to = match channel.target() {
        Target::Account => vec![name.into()],
        Target::Address(_) if settings.to.is_empty() => return Err(AlarmError::Nobody(name.to_owned())),
        Target::Address(kind) => {
            let read = settings.to.iter().enumerate().map(|(i, text)| {
                address(kind, text).ok_or_else(|| AlarmError::Address { channel: name.to_owned(), n: i + 1 })
            });
            read.collect::<Result<_, _>>()?
        }
        Target::Point | Target::Visit => return Err(AlarmError::NoCarrier(name.to_owned())),
    };
    let signature = registry.signature(name).unwrap_or_default().to_owned();
    Ok(Carrier { name: name.to_owned(), channel, signature, to })
}

impl Carrier {
    /// One message each, beside the channel's own queue: an alarm waits for nobody.
    async fn send(&self, alarm: &Alarm) -> Result<(), String> {
        let text = with_signature(&self.signature, &format!("{}\n{}", alarm.title, alarm.text));
        let parts = segments(&text).parts;
        let (title, text): (Arc<str>, Arc<str>) = (alarm.title.as_str().into(), text.into());
        let mut failed = Vec::new();
        for to in &self.to {
            let message = Outgoing {
                client_id: Uuid::now_v7(),
                to: Arc::clone(to),
                title: Arc::clone(&title),
                text: Arc::clone(&text),
                html: None,
                facts: Some(no_facts().into()),
                parts,
                may_opt_out: false,
            };
            for outcome in self.channel.send(&[message]).await {
                if let Outcome::Failed { class, code, .. } = outcome {
                    failed.push(format!("{}: {class:?} {code}", self.name));
                }
            }
        }
        if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(command: &[&str], folder: &Path) -> Result<Teller, AlarmError> {
        let command = command.iter().map(|&s| s.to_owned()).collect();
        Teller::new(&AlarmSettings { command, ..AlarmSettings::default() }, &Registry::default(), folder)
    }

    #[tokio::test]
    async fn a_program_reads_the_alarm_and_its_failure_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let script = "cat > said; printf '%s %s' \"$GONG_ALARM_KEY\" \"$GONG_ALARM_STATE\" >> said";
        let ring = Ring::Over(Trouble::Disk { free: 7 << 20 }, Duration::from_mins(5));
        let alarm = Alarm::of(&ring, "某县应急管理局");
        let told = running(&["sh", "-c", script], dir.path()).unwrap().tell(&alarm).await;
        assert_eq!(told, [("command", Ok(()))]);
        let said = std::fs::read_to_string(dir.path().join("said")).unwrap();
        assert!(said.contains("某县应急管理局") && said.contains("7 MB") && said.ends_with("disk over"), "{said}");
        let told = running(&["sh", "-c", "exit 3"], dir.path()).unwrap().tell(&alarm).await;
        assert!(told[0].1.as_ref().is_err_and(|e| e.contains('3')), "{told:?}");
    }

    #[test]
    fn what_is_not_there_is_said_at_once() {
        let dir = tempfile::tempdir().unwrap();
        assert!(running(&[], dir.path()).unwrap().is_empty());
        assert_eq!(running(&["bin/page"], dir.path()).err(), Some(AlarmError::Program("bin/page".to_owned())));
        let settings = AlarmSettings { channel: "duty".to_owned(), ..AlarmSettings::default() };
        let made = Teller::new(&settings, &Registry::default(), dir.path());
        assert_eq!(made.err(), Some(AlarmError::NoChannel("duty".to_owned())));
    }
}
