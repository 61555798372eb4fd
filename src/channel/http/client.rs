//! The HTTP client: one exchange, bounded in time and size, and what its failure
//! proves about the message.

use std::error::Error;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{HOST, HeaderValue};
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use hyper::{Request, Uri};
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::time::{Instant, timeout_at};
use tower_service::Service as _;

use super::guard::{Forbidden, Guard};
use super::link::{Broken, Link, Links, Origin};
use super::request::{Made, wrong_url};
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
        let until = Instant::now() + self.timeout;
        let (origin, mut request) = addressed(made).ok_or_else(|| Failure::Refused(wrong_url()))?;
        loop {
            let rested = self.links.take(&origin);
            let is_new = rested.is_none();
            let mut link = match rested {
                Some(link) => link,
                None => timeout_at(until, self.connect(&origin))
                    .await
                    .unwrap_or_else(|_| Err(Failure::Unsent(say!("连接超时", "timed out connecting"))))?,
            };
            match timeout_at(until, link.exchange(request)).await {
                Ok(Ok(exchange)) => {
                    self.links.keep(origin, link);
                    return Ok(exchange);
                }
                Ok(Err(Broken::Unsent(_))) if is_new => return Err(unsent()),
                Ok(Err(Broken::Unsent(back))) => request = *back,
                Ok(Err(Broken::Unheard(why))) => return Err(Failure::Unheard(why)),
                Err(_) => return Err(Failure::Unheard(say!("等待答复超时", "timed out waiting for the answer"))),
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

/// Where a request goes, and the request as that host is to get it (RFC 9112 §3.2.1).
fn addressed(made: Made) -> Option<(Origin, Request<Full<Bytes>>)> {
    let mut request = made.into_request();
    let uri = std::mem::take(request.uri_mut()).into_parts();
    let origin = Origin { scheme: uri.scheme?, authority: uri.authority? };
    *request.uri_mut() = uri.path_and_query.unwrap_or(PathAndQuery::from_static("/")).into();
    if !request.headers().contains_key(HOST) {
        request.headers_mut().insert(HOST, host(&origin)?);
    }
    Some((origin, request))
}

/// The host and, where it is not the scheme's own, the port; never user and password.
fn host(Origin { scheme, authority }: &Origin) -> Option<HeaderValue> {
    let usual = if *scheme == Scheme::HTTPS { 443 } else { 80 };
    let whole = Authority::as_str(authority);
    let bare = whole.rsplit_once('@').map_or(whole, |(_, host)| host);
    let bare = if authority.port_u16() == Some(usual) { authority.host() } else { bare };
    HeaderValue::from_str(bare).ok()
}

impl From<&Origin> for Uri {
    fn from(origin: &Origin) -> Self {
        let mut parts = hyper::http::uri::Parts::default();
        parts.scheme = Some(origin.scheme.clone());
        parts.authority = Some(origin.authority.clone());
        parts.path_and_query = Some(PathAndQuery::from_static("/"));
        // All three parts are there, which is all that can be wrong.
        Self::from_parts(parts).unwrap_or_default()
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_named_without_its_usual_port_and_without_user() {
        for (url, named) in [
            ("http://10.0.0.5:13013", "10.0.0.5:13013"),
            ("http://a.example:80", "a.example"),
            ("https://a.example:443", "a.example"),
            ("https://a.example:80", "a.example:80"),
            ("http://user:word@a.example", "a.example"),
            ("http://[::1]:8080", "[::1]:8080"),
        ] {
            let uri = url.parse::<Uri>().unwrap().into_parts();
            let origin = Origin { scheme: uri.scheme.unwrap(), authority: uri.authority.unwrap() };
            assert_eq!(host(&origin).unwrap(), named, "{url}");
            assert_eq!(Uri::from(&origin).authority(), Some(&origin.authority), "{url}");
        }
    }
}
