//! Where a request goes: the gateway, and what it is asked there.

use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use hyper::Uri;
use hyper::header::HeaderValue;
use hyper::http::uri::{Authority, PathAndQuery, Scheme};

/// A gateway, as far as connections to it are the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    pub scheme: Scheme,
    pub authority: Authority,
    /// The same for the `Host` header.
    pub host: HeaderValue,
}

impl Origin {
    fn of(scheme: Scheme, authority: Authority) -> Option<Self> {
        let host = host(&scheme, &authority)?;
        Some(Self { scheme, authority, host })
    }
}

/// The host and, where it is not the scheme's own, the port; never user and password
/// (RFC 9112 §3.2).
fn host(scheme: &Scheme, authority: &Authority) -> Option<HeaderValue> {
    let usual = if *scheme == Scheme::HTTPS { 443 } else { 80 };
    let whole = authority.as_str();
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

/// Takes URLs apart. Most of a channel's lead to one gateway, so what stands before
/// the path is parsed once.
#[derive(Default)]
pub(super) struct Places {
    /// Scheme and authority as they were written, and what they came to.
    last: Option<(String, Arc<Origin>)>,
}

impl Places {
    /// The gateway a URL leads to, and its path and query; none where it is no
    /// `http://` or `https://` URL.
    pub(super) fn find(&mut self, url: String) -> Option<(Arc<Origin>, PathAndQuery)> {
        if let Some((before, origin)) = &self.last
            && url.len() < usize::from(u16::MAX)
            && url.strip_prefix(before.as_str()).is_some_and(|path| path.starts_with('/'))
        {
            let mut path = Bytes::from(url);
            path.advance(before.len());
            return Some((Arc::clone(origin), PathAndQuery::from_maybe_shared(path).ok()?));
        }
        let uri = Uri::try_from(url.as_str()).ok()?.into_parts();
        let (scheme, authority) = (uri.scheme?, uri.authority?);
        if scheme != Scheme::HTTP && scheme != Scheme::HTTPS {
            return None;
        }
        let before = url.get(..scheme.as_str().len() + "://".len() + authority.as_str().len());
        let origin = Arc::new(Origin::of(scheme, authority)?);
        self.last = before.map(|before| (before.to_owned(), Arc::clone(&origin)));
        Some((origin, uri.path_and_query.unwrap_or(PathAndQuery::from_static("/"))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(places: &mut Places, url: &str) -> Option<(Origin, String)> {
        places.find(url.to_owned()).map(|(origin, path)| ((*origin).clone(), path.as_str().to_owned()))
    }

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
            let (origin, path) = find(&mut Places::default(), url).unwrap();
            assert_eq!((origin.host.to_str().unwrap(), path.as_str()), (named, "/"), "{url}");
            assert_eq!(Uri::from(&origin).authority(), Some(&origin.authority), "{url}");
        }
    }

    #[test]
    fn a_url_after_another_is_taken_apart_as_if_it_were_the_first() {
        let long = format!("http://a.example/{}", "x".repeat(70_000));
        let urls = [
            "http://a.example/send?to=1&text=%E4%BD%A0",
            "http://a.example/",
            "http://a.example",
            "http://a.example?q",
            "http://a.example/a#there",
            "http://a.example#there",
            "http://a.example/a b",
            "http://a.example/\u{7}",
            "http://a.example/中",
            &long,
            "http://a.example:80/x",
            "http://a.example:8080/x",
            "http://a.example.evil.example/x",
            "http://a.example@evil.example/x",
            "http://user:word@a.example/x",
            "HTTP://a.example/x",
            "http://A.EXAMPLE/x",
            "https://a.example/x",
            "ftp://a.example/x",
            "http:///x",
            "//a.example/x",
            "/x",
            "a.example",
            "",
        ];
        for first in urls {
            for second in urls {
                let mut places = Places::default();
                find(&mut places, first);
                let alone = find(&mut Places::default(), second);
                assert_eq!(find(&mut places, second), alone, "{second:.40} after {first:.40}");
            }
        }
        assert_eq!(find(&mut Places::default(), urls[0]).unwrap().1, "/send?to=1&text=%E4%BD%A0");
        assert!(find(&mut Places::default(), "ftp://a.example/x").is_none());
    }
}
