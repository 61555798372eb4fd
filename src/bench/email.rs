//! The engine over SMTP: Postfix's smtp-sink takes the mails, its smtp-source is the ceiling.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use super::dispatch::{engine, persons_for};
use super::site::{Ask, Site, TEXT};
use super::{Measured, Run, Settings};
use crate::channel::AddressKind;
use crate::channel::declaration::LimitsSpec;
use crate::channel::registry::ChannelSettings;
use crate::dispatch::job::compose;
use crate::domain::item::{Content, ItemKind};
use crate::render::Medium;
use crate::store::dispatches::Mode;

/// Kept connections, of gong and of the ceiling.
const CONNECTIONS: usize = 2;
/// Mails handed to a connection at a time.
const BATCH: usize = 100;
/// Headers and MIME borders of a mail, about.
const HEADERS: usize = 900;
const SOON: Duration = Duration::from_secs(5);

pub(super) async fn run(settings: &Settings, n: i64) -> anyhow::Result<Measured> {
    let sink = Sink::start()?;
    let site = Site::open(settings, channel(sink.addr), None).await?;
    site.people_with(persons_for(n), AddressKind::Email).await?;
    let length = length(&site)?;
    let (mut runs, mut details) = (Vec::new(), Map::new());
    for counted in settings.rounds() {
        let (n, took, turns, held) = engine(&site, Ask::default()).await?;
        site.app.store.empty_ledger().await?;
        let bare = source(sink.addr, n, length)?;
        details.insert("turns".into(), turns.into());
        if counted {
            runs.push(Run::new(n, took, bare, held));
        }
    }
    site.close().await?;
    details.insert("connections".into(), CONNECTIONS.into());
    details.insert("mail_bytes".into(), length.into());
    details.insert("peer".into(), Value::from("smtp-sink"));
    let ceiling = "Postfix's smtp-source with as many kept connections and mails as long, to the same smtp-sink";
    Ok(Measured { name: "email", ceiling, runs, details })
}

fn channel(sink: SocketAddr) -> ChannelSettings {
    let pair = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let port = sink.port().to_string();
    let vars = [
        ("host", "127.0.0.1"),
        ("port", port.as_str()),
        ("tls", "none"),
        ("from", "alert@gong.example"),
        ("mails_per_connection", "1000000000"),
    ];
    ChannelSettings {
        gateway: "smtp".to_owned(),
        vars: vars.into_iter().map(pair).collect(),
        limits: LimitsSpec {
            rate: Some(1e6),
            in_flight: Some(CONNECTIONS),
            batch: Some(BATCH),
            ..LimitsSpec::default()
        },
        ..ChannelSettings::default()
    }
}

/// Bytes of the mail that everybody gets, about: both forms in base64.
fn length(site: &Site) -> anyhow::Result<usize> {
    let content = Content { title: "医保缴费".into(), sms: Some(TEXT.into()), ..Content::new(ItemKind::Notice) };
    let mut composer = compose(&site.app.messages, (Medium::Email, &content), &site.app.site(), "", Mode::Live)?;
    let mail = composer.text(Value::Null)?;
    let letters = mail.text.len() + mail.html.map_or(0, |html| html.len());
    Ok(HEADERS + letters * 4 / 3)
}

fn source(sink: SocketAddr, n: i64, length: usize) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let done = tool("smtp-source")
        .args(["-d", "-f", "alert@gong.example", "-t", "p13900000001@gong.example", "-M", "gong.example"])
        .args(["-s", &CONNECTIONS.to_string(), "-m", &n.to_string(), "-l", &length.to_string()])
        .arg(sink.to_string())
        .status()?;
    anyhow::ensure!(done.success(), "smtp-source ended with {done}");
    Ok(began.elapsed())
}

/// A program of Postfix, which Debian puts where only root looks.
fn tool(name: &str) -> Command {
    let there = std::path::Path::new("/usr/sbin").join(name);
    if there.exists() { Command::new(there) } else { Command::new(name) }
}

/// A mail server that throws everything away; it ends with us.
struct Sink {
    child: Child,
    addr: SocketAddr,
}

impl Sink {
    fn start() -> anyhow::Result<Self> {
        let addr = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = tool("smtp-sink");
        if rustix::process::geteuid().is_root() {
            command.args(["-u", "nobody"]);
        }
        let child = command
            .args([&addr.to_string(), "1024"])
            .stdin(Stdio::null())
            .spawn()
            .map_err(|e| anyhow::anyhow!("smtp-sink does not start ({e}): apt-get install postfix"))?;
        let sink = Self { child, addr };
        let began = Instant::now();
        while TcpStream::connect(addr).is_err() {
            anyhow::ensure!(began.elapsed() < SOON, "smtp-sink does not listen on {addr}");
            // It says nothing when it listens, so it is asked until it answers.
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(sink)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // Gone already is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
