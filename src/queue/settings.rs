//! `[queue]` of the configuration.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr as _;

use lapin::uri::AMQPUri;
use serde::{Deserialize, Deserializer};

use super::QueueError;
use crate::say;

/// Where batches wait. Without a broker: in the database alone.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueueSettings {
    /// The addresses of one broker or cluster, tried in turn; none: no broker.
    #[serde(deserialize_with = "one_or_several")]
    pub url: Vec<BrokerUrl>,
    /// Batches a lane that a worker has on hand or under way.
    pub prefetch: u16,
    /// Messages that gong keeps in one queue at most.
    pub depth: u32,
    /// A PEM file of authorities trusted beside the system's.
    pub ca_file: PathBuf,
}

/// A lone address needs no brackets. Nor is it repeated, with its password, in an error
/// about them.
fn one_or_several<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<BrokerUrl>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected an address, or a list of addresses in brackets")]
    enum Addresses {
        One(BrokerUrl),
        Several(Vec<BrokerUrl>),
    }
    Ok(match Addresses::deserialize(from)? {
        Addresses::One(url) => vec![url],
        Addresses::Several(urls) => urls,
    })
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self { url: Vec::new(), prefetch: 4, depth: 1_000, ca_file: PathBuf::new() }
    }
}

impl QueueSettings {
    /// Checks what can be checked without the broker.
    pub fn check(&self) -> Result<(), QueueError> {
        self.url.iter().try_for_each(|url| url.uri().map(drop))
    }
}

/// The address of a broker. It shows itself without its password.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct BrokerUrl(String);

impl BrokerUrl {
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The parts of the address (<https://www.rabbitmq.com/docs/uri-spec>).
    pub fn uri(&self) -> Result<AMQPUri, QueueError> {
        let wrong = |why: String| QueueError::Address { url: self.to_string(), why };
        // A parser's own words may repeat the address with its password.
        let mut uri = AMQPUri::from_str(&self.0)
            .map_err(|_| wrong(say!("不是 amqp:// 或 amqps:// 地址", "it is no amqp:// or amqps:// address")))?;
        // By the URI's specification a slash with nothing after it names the virtual host
        // "", which no broker has; without the slash it is the usual one, "/".
        if uri.vhost.is_empty() {
            return Err(wrong(say!(
                "末尾的“/”后面没有虚拟主机名。用默认虚拟主机“/”就去掉末尾的“/”，或写成“/%2f”",
                "nothing follows the last slash, so it names no virtual host. For the usual one, `/`, leave that slash out or write `/%2f`"
            )));
        }
        uri.query.heartbeat.get_or_insert(HEARTBEAT);
        uri.query.connection_timeout.get_or_insert(TIMEOUT);
        uri.query.frame_max.get_or_insert(FRAME);
        Ok(uri)
    }
}

/// Seconds between heartbeats.
const HEARTBEAT: u16 = 10;
/// Milliseconds for one address to answer.
const TIMEOUT: u64 = 10_000;
/// Bytes of a frame: messages are tiny, and a client keeps room for many frames.
const FRAME: u32 = 16_384;

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((scheme, rest)) = self.0.split_once("://") else { return f.write_str("***") };
        // A password may hold an unescaped slash or at sign.
        match rest.rsplit_once('@') {
            None => f.write_str(&self.0),
            Some((who, host)) => {
                let user = who.split_once(':').map_or(who, |(user, _)| user);
                write!(f, "{scheme}://{user}:***@{host}")
            }
        }
    }
}

impl fmt::Debug for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_never_shows_its_password() {
        for (url, shown) in [
            ("amqps://gong:geheim@mq1:5671/gong", "amqps://gong:***@mq1:5671/gong"),
            ("amqp://gong:ge/he@im@mq1", "amqp://gong:***@mq1"),
            ("amqp://mq1", "amqp://mq1"),
            ("gong:geheim@mq1", "***"),
        ] {
            let url = BrokerUrl::new(url);
            assert_eq!((url.to_string().as_str(), format!("{url:?}").as_str()), (shown, shown));
            let said = url.uri().map(drop).map_err(|e| e.to_string()).err().unwrap_or_default();
            assert!(!said.contains("geheim"), "{said}");
        }
    }

    #[test]
    fn an_address_is_parsed_with_our_defaults_and_its_own_words_win() {
        let uri = BrokerUrl::new("amqps://gong:a%2Fb@mq1/gong").uri().unwrap();
        assert_eq!((uri.authority.port, uri.vhost.as_str(), uri.query.heartbeat), (5671, "gong", Some(HEARTBEAT)));
        assert_eq!(uri.authority.userinfo.password, "a/b");
        let uri = BrokerUrl::new("amqp://mq1/%2f?heartbeat=30").uri().unwrap();
        assert_eq!((uri.vhost.as_str(), uri.query.heartbeat), ("/", Some(30)));
        for wrong in ["http://mq1", "mq1", ""] {
            assert!(BrokerUrl::new(wrong).uri().is_err(), "{wrong}");
        }
    }

    #[test]
    fn one_address_needs_no_brackets_and_a_wrong_kind_is_not_repeated() {
        let read = toml::from_str::<QueueSettings>;
        for text in ["url = 'amqp://gong:geheim@mq1'", "url = ['amqp://gong:geheim@mq1']"] {
            assert_eq!(read(text).unwrap().url, [BrokerUrl::new("amqp://gong:geheim@mq1")], "{text}");
        }
        let error = read("url = { a = 'amqp://gong:geheim@mq1' }").unwrap_err().message().to_owned();
        assert!(error.contains("list of addresses") && !error.contains("geheim"), "{error}");
    }

    #[test]
    fn a_slash_with_nothing_after_it_is_refused_with_what_to_write() {
        for wrong in ["amqp://gong:geheim@mq1/", "amqp://mq1:5672/?heartbeat=30"] {
            let said = BrokerUrl::new(wrong).uri().unwrap_err().to_string();
            assert!(said.contains("/%2f") && !said.contains("geheim"), "{said}");
        }
        for usual in ["amqp://mq1", "amqp://gong:x@mq1:5672", "amqp://mq1/%2F"] {
            assert_eq!(BrokerUrl::new(usual).uri().unwrap().vhost, "/", "{usual}");
        }
    }
}
