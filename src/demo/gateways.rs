//! The loopback gateways of the demo, and the lines of `gong.toml` that use them.
//! What goes wrong there hangs on the seed and the message, not on the time.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::Taken;
use crate::domain::ids::DeliveryRef;
use crate::loopback::smtp::{SmtpLoopback, SmtpRunning};
use crate::loopback::{Behaviour, Credentials, Loopback, MediaSetup, Running, Span, Stats};

/// What every gateway of the demo asks for. It is no secret on one's own machine.
const SECRET: &str = "loopback";
const SECRET_FILE: &str = "data/loopback-secret";
const WEBHOOK_FILE: &str = "data/loopback-whsec";

/// How fast, and how long to wait, for so many people.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// SMS parts a second.
    pub rate: usize,
    /// Seconds between the first step of the alert and its second.
    pub wait: u64,
}

impl Pace {
    /// Long enough that every try of the first step is over when the second begins, on a
    /// busy machine, too: else the counts would hang on the machine.
    pub fn of(people: usize) -> Self {
        let sending = u64::try_from(people / 6_000).unwrap_or(0);
        Self { rate: 6_000 + people / 10, wait: 12 + sending }
    }
}

/// A delivery as gateways know it: dispatch and ordinal.
pub type Key = (i64, i64);

/// The running gateways.
pub struct Gateways {
    sms: Running,
    media: Running,
    mail: SmtpRunning,
    journal: PathBuf,
    pace: Pace,
}

impl Gateways {
    /// Channels that plans may name.
    pub const CHANNELS: &[&str] = &["sms", "email", "wecom", "webhook", "board"];

    /// Starts them on free ports of this machine.
    ///
    /// # Errors
    /// When one cannot listen or write its journal in `dir`.
    pub async fn start(dir: &Path, seed: u64, pace: Pace) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir.join("data"))?;
        std::fs::write(dir.join(SECRET_FILE), SECRET)?;
        let setup =
            MediaSetup { key: SECRET.to_owned(), secret: SECRET.to_owned(), dir: Some(dir.join("samples/posts")) };
        std::fs::write(dir.join(WEBHOOK_FILE), setup.whsec())?;
        let journal = dir.join("data/sms-taken.log");
        let secret = SECRET.to_owned();
        let credentials = Credentials { username: "gong".to_owned(), password: secret.clone(), secret };
        let sms =
            Loopback { journal: Some(journal.clone()), ..Loopback::new(credentials.clone(), behaviour(seed, pace)) };
        let media = Loopback { media: Some(setup), ..Loopback::new(credentials, robots(seed)) };
        let mail = SmtpLoopback { dir: Some(dir.join("samples/mail")), ..SmtpLoopback::new(mail_server(seed)) };
        let anywhere = (Ipv4Addr::LOCALHOST, 0).into();
        Ok(Self {
            sms: sms.start(anywhere).await?,
            media: media.start(anywhere).await?,
            mail: mail.start(anywhere).await?,
            journal,
            pace,
        })
    }

    /// The channels of `gong.toml`.
    pub fn declarations(&self) -> String {
        let (sms, media, Pace { rate, wait }) = (self.sms.addr, self.media.addr, self.pace);
        let (wait, mail) = (wait - 1, self.mail.addr.port());
        format!(
            r#"
# 回环网关：什么都不会发到本机之外。
[channels.sms]
gateway   = "kannel"
signature = "【河口演示】"
vars      = {{ url = "http://{sms}", username = "gong" }}
secrets   = {{ password = "file:{SECRET_FILE}", token = "file:{SECRET_FILE}" }}
limits    = {{ rate = {rate}, in_flight = 64, receipt_wait = "{wait}s" }}

[channels.email]
gateway   = "smtp"
vars      = {{ host = "127.0.0.1", port = "{mail}", tls = "none", from = "河口应急演示 <alert@gong.example.com>" }}
limits    = {{ rate = 500 }}

[channels.wecom]
gateway   = "wecom"
vars      = {{ url = "http://{media}" }}
secrets   = {{ key = "file:{SECRET_FILE}" }}

[channels.webhook]
gateway   = "webhook"
vars      = {{ url = "http://{media}/webhook" }}
secrets   = {{ key = "file:{WEBHOOK_FILE}" }}

# 张贴件打印到 print/ 文件夹。
[channels.board]
gateway   = "board"
"#
        )
    }

    /// Receipts that are still on their way.
    pub fn waiting(&self) -> u64 {
        self.sms.stats().receipts_waiting
    }

    /// Stops them; how often each delivery was taken, by channel, and what the robots
    /// and the mail server took.
    ///
    /// # Errors
    /// When a journal cannot be read or names what is not ours.
    pub async fn stop(self) -> anyhow::Result<(HashMap<&'static str, HashMap<Key, u64>>, BTreeMap<String, Taken>)> {
        self.sms.stop().await;
        let posts = self.media.stop().await;
        let counted = |stats: Stats| Taken { messages: stats.messages, doubled: stats.duplicates };
        let others = [("media", counted(posts)), ("email", counted(self.mail.stop().await))];
        let others = others.map(|(name, taken)| (name.to_owned(), taken)).into();
        Ok((HashMap::from([("sms", taken(&self.journal)?)]), others))
    }
}

/// Slow now and then, busy, without an answer, without a receipt, late, twice.
fn behaviour(seed: u64, pace: Pace) -> Behaviour {
    Behaviour {
        seed,
        latency: Span { min: 1, max: 12 },
        temporary: 0.02,
        permanent: 0.004,
        throttle: 0.005,
        lost_answer: 0.003,
        half_answer: 0.001,
        undelivered: 0.02,
        no_receipt: 0.012,
        receipt_delay: Span { min: 50, max: 800 },
        late: 0.01,
        late_by: Span::fixed((pace.wait + 2) * 1_000),
        receipt_before_answer: 0.01,
        doubled: 0.03,
        disordered: 0.05,
        ..Behaviour::default()
    }
}

/// Busy now and then.
fn robots(seed: u64) -> Behaviour {
    Behaviour { seed, latency: Span { min: 20, max: 200 }, temporary: 0.15, ..Behaviour::default() }
}

/// Greylists some, and knows some mailboxes no more.
fn mail_server(seed: u64) -> Behaviour {
    Behaviour { seed, latency: Span { min: 1, max: 10 }, temporary: 0.05, permanent: 0.02, ..Behaviour::default() }
}

/// Reads a journal: client id, how many with this id, epoch milliseconds.
fn taken(journal: &Path) -> anyhow::Result<HashMap<Key, u64>> {
    let mut all = HashMap::new();
    for line in std::fs::read_to_string(journal)?.lines() {
        let id = line.split(' ').next().and_then(|id| Uuid::try_parse(id).ok());
        let Some(of) = id.and_then(DeliveryRef::from_uuid) else {
            anyhow::bail!("the journal of a gateway names what gong did not send")
        };
        *all.entry((of.dispatch_no.into(), of.ordinal.into())).or_default() += 1;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_wrong_is_possible() {
        behaviour(7, Pace::of(20_000)).check().unwrap();
        robots(7).check().unwrap();
        mail_server(7).check().unwrap();
        assert!(Pace::of(300).wait < Pace::of(200_000).wait);
    }
}
