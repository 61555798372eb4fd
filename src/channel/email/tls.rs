//! TLS of a mail connection: none, STARTTLS (RFC 3207), or from the first byte (RFC 8314).

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use lettre::transport::smtp::client::{AsyncTokioStream, Certificate, TlsParameters};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How a connection is protected.
pub(super) enum Tls {
    None,
    /// Required: a server that does not offer it gets nothing.
    Starttls(TlsParameters),
    Wrapped(TlsConnector, ServerName<'static>),
}

impl Tls {
    /// From the words of a declaration; `ca` is a PEM file trusted beside the system's.
    pub(super) fn new(word: &str, host: &str, ca: Option<&Path>) -> io::Result<Self> {
        // Only the first call installs; any provider that is there will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let pem = ca.map(std::fs::read).transpose()?;
        match word {
            "none" => Ok(Self::None),
            "starttls" => {
                let mut with = TlsParameters::builder(host.to_owned());
                if let Some(pem) = &pem {
                    with = with.add_root_certificate(Certificate::from_pem(pem).map_err(io::Error::other)?);
                }
                Ok(Self::Starttls(with.build_rustls().map_err(io::Error::other)?))
            }
            "tls" => {
                let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                for der in pem.iter().flat_map(|pem| CertificateDer::pem_slice_iter(pem)) {
                    roots.add(der.map_err(io::Error::other)?).map_err(io::Error::other)?;
                }
                let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
                Ok(Self::Wrapped(TlsConnector::from(Arc::new(config)), name))
            }
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }
}

/// A socket that was wrapped before the first byte.
#[derive(Debug)]
pub(super) struct Wrapped(pub TlsStream<TcpStream>);

impl AsyncTokioStream for Wrapped {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.get_ref().0.peer_addr()
    }
}

impl AsyncRead for Wrapped {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wrapped {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
