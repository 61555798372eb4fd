//! The alarm for operators: what is wrong with the sending itself, told once when it
//! begins, again while it lasts, and once more when it is over.
//!
//! What is told names channels, lanes and times, never a person or a text.

pub mod tell;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use crate::clock::Millis;
use crate::domain::item::Lane;
use crate::domain::plan::parse_duration;
use crate::say;

/// A trouble is over when it has not been seen for so long: what comes and goes does
/// not ring each time.
const STEADY: Duration = Duration::from_mins(1);

/// `[alarm]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlarmSettings {
    /// A program and its arguments; the text comes on its standard input.
    pub command: Vec<String>,
    /// A declared channel; empty: none.
    pub channel: String,
    /// Numbers or addresses, where the channel sends to such.
    pub to: Vec<String>,
    pub immediate: String,
    pub prompt: String,
    pub routine: String,
    /// How long receipts may stay out while messages are sent.
    pub receipts: String,
    pub repeat: String,
}

impl Default for AlarmSettings {
    fn default() -> Self {
        let text = str::to_owned;
        Self {
            command: Vec::new(),
            channel: String::new(),
            to: Vec::new(),
            immediate: text("60s"),
            prompt: text("10m"),
            routine: text("2h"),
            receipts: text("2h"),
            repeat: text("30m"),
        }
    }
}

/// How long each thing may last before it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AlarmLimits {
    pub immediate: Duration,
    pub prompt: Duration,
    pub routine: Duration,
    pub receipts: Duration,
    pub repeat: Duration,
}

impl AlarmSettings {
    /// The times, or the field and value of the first that is none.
    pub fn limits(&self) -> Result<AlarmLimits, (&'static str, String)> {
        let time = |field, value: &String| {
            let ms = parse_duration(value).and_then(|ms| u64::try_from(ms).ok()).filter(|ms| *ms > 0);
            ms.map(Duration::from_millis).ok_or_else(|| (field, value.clone()))
        };
        Ok(AlarmLimits {
            immediate: time("alarm.immediate", &self.immediate)?,
            prompt: time("alarm.prompt", &self.prompt)?,
            routine: time("alarm.routine", &self.routine)?,
            receipts: time("alarm.receipts", &self.receipts)?,
            repeat: time("alarm.repeat", &self.repeat)?,
        })
    }

    /// Whether anybody would hear it.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        !self.command.is_empty() || !self.channel.is_empty()
    }
}

impl AlarmLimits {
    /// How long a lane may stand still.
    #[must_use]
    pub const fn of(&self, lane: Lane) -> Duration {
        match lane {
            Lane::Call | Lane::Immediate => self.immediate,
            Lane::Prompt => self.prompt,
            Lane::Routine => self.routine,
        }
    }

    /// The repeat interval in milliseconds.
    #[must_use]
    pub fn repeat_ms(&self) -> Millis {
        Millis::try_from(self.repeat.as_millis()).unwrap_or(Millis::MAX)
    }
}

/// Something wrong that lasts already longer than its limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// Messages wait and nothing of them moves.
    Lane {
        channel: String,
        lane: Lane,
        stalled: Duration,
        messages: i64,
    },
    /// The gateway refuses our credentials or declaration.
    Credentials {
        channel: String,
    },
    /// The receiver wants nothing of the channel any more.
    Withdrawn {
        channel: String,
    },
    /// The gateway takes nothing.
    Gateway {
        channel: String,
        since: Duration,
    },
    /// Messages are taken and no receipt comes.
    Receipts {
        channel: String,
        since: Duration,
        sent: u64,
    },
    /// Batches of a dispatch cannot be prepared for a channel (a template, a variable, the
    /// item itself); without one it cannot even be planned.
    Unready {
        dispatch: i64,
        channel: Option<String>,
    },
    Disk {
        free: u64,
    },
    /// The database does not answer.
    Store {
        since: Duration,
    },
}

impl Trouble {
    /// The kinds, as `kind` of `gong_alarms`.
    pub const KINDS: [&str; 8] =
        ["lane", "credentials", "withdrawn", "gateway", "receipts", "unready", "disk", "store"];

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Lane { .. } => "lane",
            Self::Credentials { .. } => "credentials",
            Self::Withdrawn { .. } => "withdrawn",
            Self::Gateway { .. } => "gateway",
            Self::Receipts { .. } => "receipts",
            Self::Unready { .. } => "unready",
            Self::Disk { .. } => "disk",
            Self::Store { .. } => "store",
        }
    }

    /// What makes it the same trouble as before.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Lane { channel, lane, .. } => format!("lane:{channel}:{}", lane.name()),
            Self::Credentials { channel }
            | Self::Withdrawn { channel }
            | Self::Gateway { channel, .. }
            | Self::Receipts { channel, .. } => format!("{}:{channel}", self.kind()),
            Self::Unready { dispatch, channel: None } => format!("unready:{dispatch}"),
            Self::Unready { dispatch, channel: Some(channel) } => format!("unready:{channel}:{dispatch}"),
            Self::Disk { .. } | Self::Store { .. } => self.kind().to_owned(),
        }
    }

    /// What is wrong and what to do, in the language of this process.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Lane { channel, lane, stalled, messages } => {
                let (lane, time) = (lane.label(), spoken(*stalled));
                say!(
                    "渠道 {channel} 的{lane}信息停滞 {time}，约 {messages} 条在等。请看 gong status 和日志，确认有工作进程在运行",
                    "{lane} messages of channel {channel} have stood still for {time}, about {messages} wait. Look at gong status and the log; make sure that a worker runs"
                )
            }
            Self::Credentials { channel } => say!(
                "渠道 {channel} 的网关不认我们的用户名、密码或签名，渠道已停，信息在等。请执行 gong check --connect",
                "the gateway of channel {channel} refuses our credentials or declaration; the channel stops and its messages wait. Run: gong check --connect"
            ),
            Self::Withdrawn { channel } => say!(
                "渠道 {channel} 的接收方声明不再接收，渠道已暂停，信息在等，不会丢。请与对方核实；恢复后执行 gong resume channel:{channel}",
                "the receiver of channel {channel} says that it takes nothing any more; the channel is paused and its messages wait. Ask the receiver; when it takes them again: gong resume channel:{channel}"
            ),
            Self::Gateway { channel, since } => {
                let time = spoken(*since);
                say!(
                    "渠道 {channel} 的网关已有 {time} 一条也不收，信息在等，不会丢。请查网络和网关，执行 gong check --connect",
                    "the gateway of channel {channel} has taken nothing for {time}; its messages wait, none is lost. Look at the network and the gateway: gong check --connect"
                )
            }
            Self::Receipts { channel, since, sent } => {
                let time = spoken(*since);
                say!(
                    "渠道 {channel} 已有 {time} 没有回执，其间发出 {sent} 条。请核对网关上登记的回执地址和防火墙",
                    "no receipt of channel {channel} came for {time}, in which {sent} messages were taken. Check the callback address that the gateway has, and the firewall"
                )
            }
            Self::Unready { dispatch, channel: None } => say!(
                "任务 {dispatch} 无法规划（对象、内容或方案有误），还没有发出，一直在重试，其他任务照常。原因见日志；改好后自动发出",
                "dispatch {dispatch} cannot be planned (its audience, item or plan): it is not sent and tried again and again, everything else goes on. The log says why; once that is mended it goes by itself"
            ),
            Self::Unready { dispatch, channel: Some(channel) } => say!(
                "任务 {dispatch} 在渠道 {channel} 上有批次无法准备（模板、变量或内容有误），没有发出，每分钟重试，其他任务照常。原因见日志；改好后自动发出",
                "batches of dispatch {dispatch} on channel {channel} cannot be prepared (a template, a variable, the item itself): they are not sent and tried every minute, everything else goes on. The log says why; once that is mended they go by themselves"
            ),
            Self::Disk { free } => {
                let mb = free / (1024 * 1024);
                say!(
                    "磁盘只剩 {mb} MB，只发特急信息。请腾出空间",
                    "the disk has {mb} MB left: only immediate messages go out. Make room"
                )
            }
            Self::Store { since } => {
                let time = spoken(*since);
                say!(
                    "数据库已有 {time} 不应答，什么都不会发出",
                    "the database has not answered for {time}; nothing goes out"
                )
            }
        }
    }
}

/// A time as people say it.
fn spoken(time: Duration) -> String {
    let (minutes, seconds) = (time.as_secs() / 60, time.as_secs());
    if minutes >= 2 {
        say!("{minutes} 分钟", "{minutes} minutes")
    } else {
        say!("{seconds} 秒", "{seconds} seconds")
    }
}

/// What is to be told now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ring {
    Begins(Trouble),
    /// It lasts; how long since it began.
    Lasts(Trouble, Duration),
    Over(Trouble, Duration),
}

struct Ringing {
    trouble: Trouble,
    began: Instant,
    told: Instant,
    seen: Instant,
}

/// Remembers what rings.
#[derive(Default)]
pub struct Bell {
    ringing: BTreeMap<String, Ringing>,
}

impl Bell {
    /// Hears what is wrong now; returns what is to be told.
    pub fn hear(&mut self, troubles: Vec<Trouble>, repeat: Duration, now: Instant) -> Vec<Ring> {
        let mut rings = Vec::new();
        for trouble in troubles {
            let key = trouble.key();
            let Some(known) = self.ringing.get_mut(&key) else {
                rings.push(Ring::Begins(trouble.clone()));
                self.ringing.insert(key, Ringing { trouble, began: now, told: now, seen: now });
                continue;
            };
            known.seen = now;
            known.trouble = trouble;
            if now.duration_since(known.told) >= repeat {
                known.told = now;
                rings.push(Ring::Lasts(known.trouble.clone(), now.duration_since(known.began)));
            }
        }
        self.ringing.retain(|_, known| {
            let over = now.duration_since(known.seen) >= STEADY;
            if over {
                rings.push(Ring::Over(known.trouble.clone(), now.duration_since(known.began)));
            }
            !over
        });
        rings
    }

    /// How many of a kind ring.
    #[must_use]
    pub fn count(&self, kind: &str) -> usize {
        self.ringing.values().filter(|r| r.trouble.kind() == kind).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> Vec<Trouble> {
        vec![Trouble::Disk { free: 1024 * 1024 }]
    }

    #[test]
    fn it_rings_once_then_at_its_interval_then_when_it_is_over() {
        let (start, repeat) = (Instant::now(), Duration::from_mins(30));
        let at = |s: u64| start + Duration::from_secs(s);
        let mut bell = Bell::default();
        assert_eq!(bell.hear(disk(), repeat, at(0)), [Ring::Begins(disk()[0].clone())]);
        assert!(bell.hear(disk(), repeat, at(5)).is_empty() && bell.count("disk") == 1);
        // Gone for less than a minute, and back: still the same trouble.
        assert!(bell.hear(Vec::new(), repeat, at(40)).is_empty());
        assert!(bell.hear(disk(), repeat, at(60)).is_empty());
        assert_eq!(bell.hear(disk(), repeat, at(1_800)), [Ring::Lasts(disk()[0].clone(), Duration::from_mins(30))]);
        assert!(bell.hear(disk(), repeat, at(1_900)).is_empty());
        assert!(bell.hear(Vec::new(), repeat, at(1_959)).is_empty());
        assert_eq!(
            bell.hear(Vec::new(), repeat, at(1_960)),
            [Ring::Over(disk()[0].clone(), Duration::from_secs(1_960))]
        );
        assert_eq!(bell.count("disk"), 0);
        assert_eq!(bell.hear(disk(), repeat, at(1_965)).len(), 1, "it begins anew");
    }

    #[test]
    fn each_lane_of_each_channel_is_a_trouble_of_its_own() {
        let lane = |channel: &str, lane, s| Trouble::Lane {
            channel: channel.to_owned(),
            lane,
            stalled: Duration::from_secs(s),
            messages: 5,
        };
        assert_eq!(lane("sms", Lane::Immediate, 61).key(), lane("sms", Lane::Immediate, 99).key());
        assert_ne!(lane("sms", Lane::Immediate, 61).key(), lane("sms", Lane::Prompt, 61).key());
        assert_ne!(lane("sms", Lane::Immediate, 61).key(), lane("mail", Lane::Immediate, 61).key());
        assert!(Trouble::KINDS.contains(&lane("sms", Lane::Call, 1).kind()));
        assert!(lane("sms", Lane::Immediate, 180).text().contains('3'));
    }

    #[test]
    fn times_are_read_and_a_wrong_one_is_named() {
        let limits = AlarmSettings::default().limits().unwrap();
        assert_eq!(limits.of(Lane::Call), Duration::from_mins(1));
        assert_eq!(limits.of(Lane::Routine), Duration::from_hours(2));
        assert_eq!(limits.repeat_ms(), 1_800_000);
        let wrong = AlarmSettings { prompt: "0s".to_owned(), ..AlarmSettings::default() };
        assert_eq!(wrong.limits(), Err(("alarm.prompt", "0s".to_owned())));
    }
}
