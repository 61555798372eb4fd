//! Where gong connects to, and where it does not.

use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use hyper::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

use crate::say;

/// A connection to an address gong does not talk to.
#[derive(Debug, thiserror::Error)]
#[error("{}", say!(
    "拒绝连接链路本地或云元数据地址。请核对网关网址",
    "refused to connect to a link-local or metadata address; check the gateway's URL"
))]
pub(super) struct Forbidden;

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
pub(super) struct Guard(pub HttpConnector);

impl Service<Uri> for Guard {
    type Response = TokioIo<TcpStream>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
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
