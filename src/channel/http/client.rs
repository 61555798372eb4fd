//! The HTTP client: one exchange, bounded in time and size, and what its failure
//! proves about the message.

use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::Uri;
use hyper::header::RETRY_AFTER;
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::{HttpConnector, capture_connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tower_service::Service;

use super::request::Made;
use crate::say;

/// Most bytes of an answer that are read.
pub(super) const MAX_ANSWER: usize = 64 * 1024;
/// How long an unused connection is kept; shorter than most gateways keep theirs,
/// since one that closes while a request leaves makes that message uncertain.
const IDLE: Duration = Duration::from_secs(15);

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

/// A pool of connections to one gateway.
pub(super) struct Client {
    pool: Pool<HttpsConnector<Guard>, Full<Bytes>>,
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
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(Guard(http));
        let pool = Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(in_flight)
            .build(https);
        Self { pool, timeout }
    }

    /// Sends the request and reads the whole answer.
    pub(super) async fn exchange(&self, made: Made) -> Result<Exchange, Failure> {
        let mut request = made.into_request();
        let connection = capture_connection(&mut request);
        let work = async {
            let answer = self.pool.request(request).await.map_err(|e| classify(&e))?;
            let status = answer.status().as_u16();
            let header = answer.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()).map(str::to_owned);
            let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await.map_err(|_| {
                Failure::Unheard(say!(
                    "答复不完整或超过 64 KiB（HTTP {status}）",
                    "half an answer, or more than 64 KiB (HTTP {status})"
                ))
            })?;
            Ok(Exchange { status, retry_after: header, body: body.to_bytes() })
        };
        match tokio::time::timeout(self.timeout, work).await {
            Ok(done) => done,
            Err(_) if connection.connection_metadata().is_some() => {
                Err(Failure::Unheard(say!("等待答复超时", "timed out waiting for the answer")))
            }
            Err(_) => Err(Failure::Unsent(say!("连接超时", "timed out connecting"))),
        }
    }
}

fn classify(error: &hyper_util::client::legacy::Error) -> Failure {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
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
    if error.is_connect() {
        Failure::Unsent(say!("连接不上网关", "cannot connect to the gateway"))
    } else {
        Failure::Unheard(say!("连接中断，没有答复", "the connection broke without an answer"))
    }
}

/// A connection to an address gong does not talk to.
#[derive(Debug, thiserror::Error)]
#[error("{}", say!(
    "拒绝连接链路本地或云元数据地址。请核对网关网址",
    "refused to connect to a link-local or metadata address; check the gateway's URL"
))]
struct Forbidden;

/// Whether `ip` is link-local or serves a cloud's instance metadata. Loopback and
/// private addresses are fine: that is where gateways live.
pub(in crate::channel) fn forbidden(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        // RFC 3927; and Aliyun's metadata service.
        IpAddr::V4(v4) => v4.is_link_local() || v4.octets() == [100, 100, 100, 200],
        // RFC 4291 §2.5.6; and the metadata service of AWS.
        IpAddr::V6(v6) => {
            (v6.segments()[0] & 0xffc0) == 0xfe80 || v6.segments() == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254]
        }
    }
}

/// Connects, and looks at the address it reached before a byte is written: names
/// can resolve to anything.
#[derive(Clone)]
struct Guard(HttpConnector);

impl Service<Uri> for Guard {
    type Response = TokioIo<TcpStream>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.0).poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let literal = uri.host().and_then(|h| h.trim_matches(['[', ']']).parse().ok());
        if literal.is_some_and(forbidden) {
            return std::future::ready(Err(Forbidden.into())).boxed();
        }
        let connecting = self.0.call(uri);
        async move {
            let stream = connecting.await?;
            if forbidden(stream.inner().peer_addr()?.ip()) {
                return Err(Forbidden.into());
            }
            Ok(stream)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_addresses_are_refused_and_gateways_are_not() {
        for bad in [
            "169.254.169.254",
            "169.254.0.1",
            "::ffff:169.254.169.254",
            "fe80::1",
            "febf::1",
            "fd00:ec2::254",
            "100.100.100.200",
        ] {
            assert!(forbidden(bad.parse().unwrap()), "{bad}");
        }
        for good in ["127.0.0.1", "10.0.0.5", "192.168.1.1", "::1", "fd00::1", "100.100.100.201", "8.8.8.8"] {
            assert!(!forbidden(good.parse().unwrap()), "{good}");
        }
    }
}
