//! A disk that takes its time: `strace` holds back whatever asks for something to be on it.

use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::NamedTempFile;

use crate::support::{Running, skipped, wait_until};

const LONG: Duration = Duration::from_secs(20);

/// As long as this is there.
pub struct SlowDisk {
    tracer: Running,
    said: NamedTempFile,
}

impl SlowDisk {
    /// Under these processes and all that they start: every `fsync` and `fdatasync` takes so
    /// much longer. `None` where nobody may be traced.
    pub fn under(pids: &[u32], longer: Duration) -> Option<Self> {
        let said = NamedTempFile::new().unwrap();
        let mut strace = Command::new("strace");
        strace.arg("-f").arg("-o").arg(said.path()).args(["-e", "trace=fsync,fdatasync"]);
        strace.arg("-e").arg(format!("inject=fsync,fdatasync:delay_enter={}", longer.as_micros()));
        strace.args(pids.iter().map(|pid| format!("--attach={pid}"))).stdin(Stdio::null()).stderr(Stdio::null());
        let slow = strace.spawn().ok().map(|tracer| Self { tracer: Running(tracer), said });
        let slow = slow.filter(|_| wait_until(LONG, || pids.iter().all(|pid| is_traced(*pid))));
        if slow.is_none() {
            skipped("a slow disk: no process can be held up here (apt-get install strace; it takes root)");
        }
        slow
    }

    /// How often something had to wait for it.
    pub fn held(&self) -> usize {
        std::fs::read_to_string(self.said.path()).unwrap().matches("(DELAYED)").count()
    }
}

impl Drop for SlowDisk {
    /// Asked to end, it lets everybody go; killed, it might take them along.
    fn drop(&mut self) {
        crate::fleet::signal(&self.tracer, rustix::process::Signal::TERM);
        let _ = self.tracer.0.wait();
    }
}

/// Whether it is, or is gone.
fn is_traced(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    !status.lines().any(|line| line.split_whitespace().eq(["TracerPid:", "0"]))
}
