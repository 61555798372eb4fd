//! The way to the broker: its addresses in turn, TLS, heartbeats, a name to be known by.

use std::sync::atomic::{AtomicUsize, Ordering};

use std::time::Duration;

use lapin::tcp::OwnedTLSConfig;
use lapin::{Connection, ConnectionProperties};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::counts::Blocked;
use super::error::QueueError;
use super::settings::{BrokerUrl, QueueSettings};

/// How long the broker may take to answer.
const ANSWER: Duration = Duration::from_secs(30);
/// How often whoever waits for it looks about.
const LOOK: Duration = Duration::from_millis(200);
/// How long a broker may take to say goodbye. One that is short of memory or disk does not
/// hear who has published to it.
const GOODBYE: Duration = Duration::from_secs(2);

/// Waits for what was asked of the broker. One that is short of memory or disk has said
/// so, and answers when it has room again, however long that takes.
///
/// # Errors
/// When it does not answer and has not said why, or is not waited for at `stop`.
pub(super) async fn answered<T>(
    connection: &Connection,
    stop: &CancellationToken,
    asked: impl Future<Output = Result<T, QueueError>>,
) -> Result<T, QueueError> {
    let (mut asked, mut since) = (std::pin::pin!(asked), Instant::now());
    loop {
        match tokio::time::timeout(LOOK, &mut asked).await {
            Ok(answer) => return answer,
            Err(_) if connection.status().blocked() && !stop.is_cancelled() => since = Instant::now(),
            Err(_) if connection.status().blocked() || since.elapsed() >= ANSWER => {
                return Err(QueueError::Silent(since.elapsed().as_secs()));
            }
            Err(_) => {}
        }
    }
}

/// Says while the broker takes nothing; for as long as the connection lasts.
pub(super) async fn watch(connection: &Connection, part: &str, blocked: &Blocked) {
    let mut is = None;
    loop {
        match (connection.status().blocked(), &is) {
            (true, None) => {
                tracing::warn!(
                    part,
                    "the broker is short of memory or disk and takes nothing; what it does not take waits"
                );
                is = Some(blocked.one());
            }
            (false, Some(_)) => {
                tracing::info!(part, "the broker takes messages again");
                is = None;
            }
            _ => {}
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Closes a connection whose work is done.
pub(super) async fn close(connection: &Connection) -> Result<(), QueueError> {
    if let Ok(closed) = tokio::time::timeout(GOODBYE, connection.close(200, "done".into())).await {
        return Ok(closed?);
    }
    tracing::warn!("the broker does not say goodbye; the connection is dropped");
    Ok(())
}

/// The addresses of a broker, or of the nodes of a cluster.
pub struct Link {
    brokers: Vec<BrokerUrl>,
    /// Authorities trusted beside the system's, in PEM.
    ca: Option<String>,
    /// The address that answered last is asked first.
    first: AtomicUsize,
}

impl Link {
    /// Reads what the settings name; connects nowhere. A relative `ca_file` must have
    /// been resolved.
    pub fn new(settings: &QueueSettings) -> Result<Self, QueueError> {
        settings.check()?;
        let path = &settings.ca_file;
        let ca = if path.as_os_str().is_empty() {
            None
        } else {
            Some(std::fs::read_to_string(path).map_err(|e| QueueError::Ca(path.clone(), e))?)
        };
        Ok(Self { brokers: settings.url.clone(), ca, first: AtomicUsize::new(0) })
    }

    /// Connects to the first address that answers; `name` shows in the broker's lists.
    pub async fn connect(&self, name: &str) -> Result<Connection, QueueError> {
        let first = self.first.load(Ordering::Relaxed);
        let mut refused = Vec::new();
        for i in 0..self.brokers.len() {
            let at = (first + i) % self.brokers.len();
            match self.connect_to(&self.brokers[at], name).await {
                Ok(connection) => {
                    self.first.store(at, Ordering::Relaxed);
                    return Ok(connection);
                }
                Err(error) => refused.push(format!("{}: {error}", self.brokers[at])),
            }
        }
        Err(QueueError::Unreachable(refused.join("; ")))
    }

    async fn connect_to(&self, broker: &BrokerUrl, name: &str) -> Result<Connection, QueueError> {
        // Only the first call installs; any provider that is there will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let uri = broker.uri()?;
        let patience = uri.query.connection_timeout.unwrap_or_default();
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let tls = OwnedTLSConfig { identity: None, cert_chain: self.ca.clone() };
        let connected = Connection::connect_uri_with_config(uri, properties, tls, lapin::runtime::default_runtime()?);
        // The address may take the connection and say nothing more.
        match tokio::time::timeout(std::time::Duration::from_millis(patience), connected).await {
            Ok(connected) => Ok(connected?),
            Err(_) => Err(QueueError::Silent(patience / 1_000)),
        }
    }

    /// Asks every address by itself; what each said, for `gong check`.
    pub async fn each(&self) -> Vec<(String, Result<Connection, QueueError>)> {
        let mut all = Vec::new();
        for broker in &self.brokers {
            all.push((broker.to_string(), self.connect_to(broker, "gong check").await));
        }
        all
    }
}
