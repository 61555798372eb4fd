//! A loopback gateway in a process of its own, so that its work is not ours.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::loopback::{Behaviour, Credentials, Loopback, Running, Span};

/// This program, whichever name it was started by (proc(5)).
pub(super) const SELF: &str = "/proc/self/exe";
/// What its clients say; everything about it is made up.
pub const USERNAME: &str = "gong";
pub const PASSWORD: &str = "bench";

/// A gateway that runs as another process and ends with this one.
pub(super) struct Process {
    child: Child,
    pub addr: SocketAddr,
}

impl Process {
    /// Starts one and waits until it listens.
    pub fn start(latency_ms: u64, receipts: bool) -> anyhow::Result<Self> {
        let mut command = Command::new(SELF);
        command.args(["bench", "gateway", "--latency", &latency_ms.to_string()]);
        if receipts {
            command.arg("--receipts");
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        if let Some(out) = child.stdout.take() {
            BufReader::new(out).read_line(&mut line)?;
        }
        let addr = line.trim().parse();
        let addr = addr.map_err(|_| anyhow::anyhow!("the gateway did not say where it listens but {line:?}"))?;
        Ok(Self { child, addr })
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// What it answers to a GET.
    pub async fn get(&self, path: &str) -> anyhow::Result<Bytes> {
        let client: Client<HttpConnector, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
        let answer = client.get(format!("{}{path}", self.url()).parse()?).await?;
        Ok(answer.into_body().collect().await?.to_bytes())
    }

    /// How many numbers it has taken.
    pub async fn messages(&self) -> anyhow::Result<i64> {
        let stats: Value = serde_json::from_slice(&self.get("/stats").await?)?;
        Ok(stats["messages"].as_i64().unwrap_or(0))
    }

    /// What it took from the `since`-th on: client id and time in epoch milliseconds.
    pub async fn took(&self, mut since: i64) -> anyhow::Result<Vec<(Uuid, i64)>> {
        let mut all = Vec::new();
        loop {
            let page = self.get(&format!("/log?since={since}")).await?;
            let before = all.len();
            for line in page.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
                let entry: Entry = serde_json::from_slice(line)?;
                since = entry.seq + 1;
                all.push((entry.client_id.parse()?, entry.at_ms));
            }
            if all.len() == before {
                return Ok(all);
            }
        }
    }
}

/// A line of the gateway's log.
#[derive(Deserialize)]
struct Entry {
    seq: i64,
    client_id: String,
    at_ms: i64,
}

impl Drop for Process {
    fn drop(&mut self) {
        // Gone already is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts the gateway itself on a free port.
///
/// # Errors
/// When there is none.
pub async fn listen(latency_ms: u64, receipts: bool) -> anyhow::Result<Running> {
    let credentials =
        Credentials { username: USERNAME.to_owned(), password: PASSWORD.to_owned(), secret: PASSWORD.to_owned() };
    let silent = f64::from(u8::from(!receipts));
    let behaviour = Behaviour {
        latency: Span::fixed(latency_ms),
        no_receipt: silent,
        // Drops the word that comes before the final one.
        disordered: silent,
        ..Behaviour::default()
    };
    Ok(Loopback::new(credentials, behaviour).start((Ipv4Addr::LOCALHOST, 0).into()).await?)
}
