//! The HTTP client: one exchange, bounded in time and size, and what its failure
//! proves about the message.

use std::error::Error;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::time::{Instant, timeout_at};
use tower_service::Service as _;

use super::guard::{Forbidden, Guard};
use super::link::{Broken, Link, Links};
use super::place::Origin;
use super::request::Made;
use crate::say;

/// Most bytes of an answer that are read.
pub(super) const MAX_ANSWER: usize = 64 * 1024;

/// What came back.
pub(super) struct Exchange {
    pub status: u16,
    pub retry_after: Option<String>,
    pub body: Bytes,
}

/// Why nothing came back. The texts hold no address.
#[derive(Debug)]
pub(super) enum Failure {
    /// The declaration leads where gong does not go.
    Refused(String),
    /// Nothing was written.
    Unsent(String),
    /// Something was written and no whole answer heard.
    Unheard(String),
}

/// A client of one gateway.
pub(super) struct Client {
    connector: HttpsConnector<Guard>,
    links: Links,
    timeout: Duration,
}

impl Client {
    /// A client that keeps up to `in_flight` connections.
    pub(super) fn new(in_flight: usize, timeout: Duration) -> Self {
        // Only the first call installs; any provider that is there will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let tls = rustls::ClientConfig::builder();
        let tls = match tls.clone().with_native_roots() {
            Ok(tls) => tls.with_no_client_auth(),
            Err(error) => {
                tracing::warn!(%error, "no trusted certificates found: https gateways will not connect");
                tls.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth()
            }
        };
        let mut http = HttpConnector::new();
        http.set_nodelay(true);
        http.enforce_http(false);
        http.set_connect_timeout(Some(timeout.min(Duration::from_secs(5))));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(Guard(http));
        Self { connector, links: Links::new(in_flight), timeout }
    }

    /// Sends the request and reads the whole answer.
    pub(super) async fn exchange(&self, made: Made) -> Result<Exchange, Failure> {
        let now = Instant::now();
        let until = now + self.timeout;
        let (origin, mut request) = made.into_request();
        loop {
            let rested = self.links.take(&origin, now);
            let is_new = rested.is_none();
            let mut link = match rested {
                Some(link) => link,
                // Rare and large: apart, so that every request has not room for it.
                None => Box::pin(timeout_at(until, self.connect(&origin)))
                    .await
                    .unwrap_or_else(|_| Err(Failure::Unsent(say!("连接超时", "timed out connecting"))))?,
            };
            match link.exchange(request, until).await {
                Ok(exchange) => {
                    self.links.keep(origin, link);
                    return Ok(exchange);
                }
                Err(Broken::Unsent(_)) if is_new => return Err(unsent()),
                Err(Broken::Unsent(back)) => request = *back,
                Err(Broken::Unheard(why)) => return Err(Failure::Unheard(why)),
            }
        }
    }

    async fn connect(&self, origin: &Origin) -> Result<Link, Failure> {
        let io = self.connector.clone().call(origin.into()).await.map_err(|e| classify(&*e))?;
        Link::over(io).await.map_err(|_| unsent())
    }
}

fn unsent() -> Failure {
    Failure::Unsent(say!("连接不上网关", "cannot connect to the gateway"))
}

/// What a failure to connect proves.
fn classify(error: &(dyn Error + 'static)) -> Failure {
    let mut cause = Some(error);
    while let Some(e) = cause {
        if e.is::<Forbidden>()
            || e.downcast_ref::<io::Error>()
                .and_then(io::Error::get_ref)
                .is_some_and(<dyn Error + Send + Sync>::is::<Forbidden>)
        {
            return Failure::Refused(Forbidden.to_string());
        }
        cause = e.source();
    }
    unsent()
}
