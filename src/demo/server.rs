//! `gong serve` as a process of its own, so that its memory is its own.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpStream;

use super::site::Site;
use crate::say;

/// How long a server may take until it listens, and until it has drained.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(20);

/// A running server; it is killed when this is dropped.
pub struct Server {
    child: Child,
}

/// A port of this machine on which nobody listens now.
///
/// # Errors
/// When there is none.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

impl Server {
    /// Starts it and waits until it listens.
    ///
    /// # Errors
    /// When it does not, with what it said.
    pub async fn start(site: &Site<'_>, port: u16) -> anyhow::Result<Self> {
        site.stage.command("gong serve &");
        let path = site.dir.join("logs/serve.log");
        std::fs::create_dir_all(site.dir.join("logs"))?;
        let log = File::create(&path)?;
        let mut command = site.command(&["serve"]);
        let child = command.stdout(log.try_clone()?).stderr(log).stdin(Stdio::null()).spawn()?;
        let mut server = Self { child };
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
            if Instant::now() > until || server.child.try_wait()?.is_some() {
                let said = std::fs::read_to_string(&path).unwrap_or_default();
                anyhow::bail!(say!("gong serve 没有启动：\n{said}", "gong serve did not start:\n{said}"));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(server)
    }

    /// The most memory it held so far, in bytes.
    pub fn peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
        line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).unwrap_or(0) * 1024
    }

    /// Lets it finish what is under way and end.
    ///
    /// # Errors
    /// When it does not end well.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            kill_process(pid, Signal::TERM)?;
        }
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait()? {
                anyhow::ensure!(status.success(), "gong serve: {status}");
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
        anyhow::bail!(say!("gong serve 没有按时停止", "gong serve did not stop in time"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Gone already is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
