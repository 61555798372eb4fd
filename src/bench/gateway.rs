//! A loopback gateway in a process of its own, so that its work is not ours.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};

use crate::loopback::{Behaviour, Credentials, Loopback, Running, Span};

/// This program, whichever name it was started by (proc(5)).
const SELF: &str = "/proc/self/exe";
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
