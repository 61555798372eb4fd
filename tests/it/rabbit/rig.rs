//! A virtual host for one test, a broker for one, and a proxy that can cut the line.

use std::process::Command;
use std::sync::Arc;

use gong::app::App;
use gong::telemetry::Counts;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};

use crate::ledger::Ledger;
use crate::site::{Serving, Site};
use crate::support::{free_port, open_folder};

/// A certificate for `localhost` that signed itself, with its key.
pub const LOCALHOST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/channel/email/tests/localhost.pem");

pub const ROUTINE: &str = "gong.sms.routine";

/// A virtual host of its own on the shared broker, or a whole broker.
pub struct Broker {
    pub name: String,
    url: String,
    /// A broker of its own is stopped with this.
    own: Option<Own>,
}

/// Where a broker lives, and what more stands in its `rabbitmq.conf`.
struct Own {
    dir: tempfile::TempDir,
    conf: String,
}

/// The virtual host for a test; none where no broker was named.
pub async fn broker() -> Option<Broker> {
    named()?;
    let name = format!("t{}", uuid::Uuid::now_v7().simple());
    let url = tokio::task::block_in_place(|| script(None, &["vhost", &name]));
    Some(Broker { name, url, own: None })
}

/// A broker that a test may stop and wipe.
pub async fn own_broker() -> Option<Broker> {
    named()?;
    Some(Broker::start(Own { dir: open_folder(), conf: String::new() }, &["start"]))
}

/// The nodes of one cluster, each of which a test may stop; and their addresses, by TLS.
pub async fn own_cluster(nodes: usize) -> Option<(Vec<Broker>, Vec<String>)> {
    named()?;
    let (mut all, mut urls) = (Vec::<Broker>::new(), Vec::new());
    for _ in 0..nodes {
        let (dir, port) = (open_folder(), free_port());
        let pem = dir.path().join("localhost.pem");
        std::fs::copy(LOCALHOST, &pem).unwrap();
        let conf = [
            "\ncluster_partition_handling = pause_minority".to_owned(),
            format!("listeners.ssl.1 = 127.0.0.1:{port}"),
            format!("ssl_options.certfile = {}", pem.display()),
            format!("ssl_options.keyfile = {}", pem.display()),
        ];
        let first = all.first().and_then(|first| first.own.as_ref()).map(|own| own.dir.path().to_owned());
        let own = Own { dir, conf: conf.join("\n") };
        all.push(match first {
            Some(first) => Broker::start(own, &["join", first.to_str().unwrap()]),
            None => Broker::start(own, &["start"]),
        });
        urls.push(format!("amqps://guest:guest@localhost:{port}"));
    }
    Some((all, urls))
}

#[allow(clippy::disallowed_methods)] // tests have no config file
fn named() -> Option<String> {
    let named = std::env::var("GONG_TEST_RABBITMQ").ok().filter(|url| !url.is_empty());
    if named.is_none() {
        crate::support::skipped("what needs a RabbitMQ: GONG_TEST_RABBITMQ names none");
    }
    named
}

/// Runs the service script and returns what it printed.
#[allow(clippy::disallowed_methods)] // tests have no config file
fn script(own: Option<&Own>, args: &[&str]) -> String {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/services/rabbitmq.sh"));
    if let Some(Own { dir, conf }) = own {
        let all = std::env::var("GONG_TEST_RABBITMQ_CONF").unwrap_or_default() + conf;
        command.env("GONG_TEST_DIR", dir.path()).env_remove("GONG_TEST_RABBITMQ_PORT");
        command.env("GONG_TEST_RABBITMQ_CONF", all);
    }
    let done = command.args(args).output().unwrap();
    assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

/// Messages that a worker takes ahead, by [`Broker::settings`].
pub const PREFETCH: u32 = 2;

impl Broker {
    fn start(own: Own, args: &[&str]) -> Self {
        let url = tokio::task::block_in_place(|| script(Some(&own), args));
        Self { name: "/".to_owned(), url, own: Some(own) }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// What stands in the configuration of engines beside it, which take few batches at once.
    pub fn settings(&self) -> String {
        format!("[queue]\nprefetch = {PREFETCH}\nurl = [\"{}\"]", self.url)
    }

    /// The port of AMQP.
    pub fn port(&self) -> u16 {
        let host = self.url.rsplit('@').next().unwrap();
        host.split('/').next().unwrap().rsplit(':').next().unwrap().parse().unwrap()
    }

    /// Its URL by way of another port of this machine.
    pub fn by(&self, port: u16) -> String {
        self.url.replace(&format!(":{}", self.port()), &format!(":{port}"))
    }

    /// `rabbitmqctl`.
    pub fn ctl(&self, args: &[&str]) {
        self.run(&[&["ctl"], args].concat());
    }

    /// Runs the script for this broker; what it printed.
    pub fn run(&self, args: &[&str]) -> String {
        tokio::task::block_in_place(|| script(self.own.as_ref(), args))
    }

    /// Messages of a queue that its consumers have and did not acknowledge, as the broker
    /// itself says; it counts every few seconds. None before the queue is declared.
    pub fn unacknowledged(&self, queue: &str) -> u32 {
        let said = self.run(&["ctl", "list_queues", "-p", &self.name, "name", "messages_unacknowledged"]);
        let mut lines = said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        lines.find(|words| words.first() == Some(&queue)).map_or(0, |words| words[1].parse().unwrap())
    }

    pub async fn channel(&self) -> Channel {
        let connection = Connection::connect(&self.url, ConnectionProperties::default()).await.unwrap();
        connection.create_channel().await.unwrap()
    }

    /// Publishes to a queue, confirmed.
    pub async fn publish(&self, queue: &str, body: &str) {
        assert!(self.try_publish(queue, body).await, "{queue} takes it");
    }

    /// Publishes to a queue; false where it refuses.
    pub async fn try_publish(&self, queue: &str, body: &str) -> bool {
        let channel = self.channel().await;
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let (key, options) = (
            queue.strip_prefix("gong.").unwrap(),
            BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() },
        );
        let sent = channel
            .basic_publish("gong".into(), key.into(), options, body.as_bytes(), BasicProperties::default())
            .await
            .unwrap();
        let kept = sent.await.unwrap();
        let taken = kept.is_ack();
        assert!(kept.take_message().is_none(), "{queue} is there");
        taken
    }

    /// (messages, consumers) of a queue.
    pub async fn depth(&self, queue: &str) -> Option<(u32, u32)> {
        let connection = Connection::connect(&self.url, ConnectionProperties::default()).await.ok()?;
        let depth = gong::queue::topology::depth(&connection, queue).await.unwrap();
        depth.map(|d| (d.messages, d.consumers))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        match &self.own {
            Some(own) => drop(script(Some(own), &["stop"])),
            // A test that failed says more than what its host could.
            None if std::thread::panicking() => {}
            None => drop(script(None, &["drop", &self.name])),
        }
    }
}

/// (messages, consumers) of a queue once all its consumers are gone.
pub async fn held(broker: &Broker, queue: &str) -> (u32, u32) {
    crate::rig::until("the consumers are gone", crate::rig::SOON, async || {
        broker.depth(queue).await.is_some_and(|(_, consumers)| consumers == 0)
    })
    .await;
    broker.depth(queue).await.unwrap()
}

/// A site with the embedded store and this broker.
pub async fn sqlite(url: &str) -> Site {
    sqlite_with(url, "[queue]\n").await
}

/// With further settings of `[queue]`.
pub async fn sqlite_with(url: &str, queue: &str) -> Site {
    Site::new().await.with(&format!("{queue}url = [\"{url}\"]"))
}

/// A site with this broker on PostgreSQL, in a schema of its own, where a server was named.
pub async fn postgres(url: &str) -> Option<Site> {
    sqlite(url).await.on_postgres().await
}

/// Sites on every store there is.
pub async fn engines(url: &str) -> Vec<(&'static str, Site)> {
    let mut all = vec![("sqlite", sqlite(url).await)];
    all.extend(postgres(url).await.map(|site| ("postgres", site)));
    all
}

/// Starts the engine of a site, and shows its counts.
pub async fn engine(site: &mut Site, app: &App) -> (Serving, Arc<Counts>) {
    let engine = app.start_engine().await.unwrap();
    let counts = engine.counts();
    (site.serve_engine(engine).await, counts)
}

/// The books balance, whatever the broker did.
pub async fn books(app: &App, site: &Site) {
    if app.store.file.is_some() {
        let ledger = Ledger::open(&site.database()).await;
        ledger.assert_conserved().await;
        ledger.close().await;
    }
}
