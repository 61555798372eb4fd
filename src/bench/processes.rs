//! This program as further processes on the site of a bench, as operators run it.

use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::gateway::{Process, SELF, USERNAME};
use super::site::{CHANNEL, Site};
use super::{Settings, peak};

/// Writes the configuration of a site over one number a request, for processes; returns
/// the file.
pub(super) fn configuration(
    site: &Site,
    gateway: &Process,
    (rate, in_flight): (f64, usize),
    settings: &Settings,
) -> anyhow::Result<PathBuf> {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let (config, mut text) = (&site.app.config, String::new());
    writeln!(text, "[store]\nurl = {}\nkey_file = \"bench.key\"", quoted(&config.store.url))?;
    if let Some(broker) = &settings.broker {
        writeln!(text, "[queue]\nurl = [{}]", quoted(broker))?;
    }
    writeln!(text, "[quiet_hours]\nfrom = {0}\nto = {0}", quoted(&config.quiet_hours.to))?;
    writeln!(
        text,
        "[channels.{CHANNEL}]\ngateway = \"kannel\"\nvars = {{ url = \"{}\", username = \"{USERNAME}\" }}\n\
         secrets = {{ password = \"file:secret\", token = \"file:secret\" }}\n\
         limits = {{ rate = {rate:?}, in_flight = {in_flight}, evidence = \"accept_only\" }}",
        gateway.url()
    )?;
    let file = site.folder.path().join("gong.toml");
    std::fs::write(&file, text)?;
    Ok(file)
}

/// A process of this program; killed where it was not told to end.
pub(super) struct Gong(Child);

impl Gong {
    /// Starts it, its words going to a file beside the configuration.
    pub fn start(configuration: &Path, args: &[&str]) -> anyhow::Result<Self> {
        let log = File::options().create(true).append(true).open(configuration.with_extension("log"))?;
        let mut command = Command::new(SELF);
        command.args(args).arg("--config").arg(configuration).stdin(Stdio::null());
        Ok(Self(command.stdout(log.try_clone()?).stderr(log).spawn()?))
    }

    /// The most memory it held, in bytes; fails where it has ended.
    pub fn peak(&mut self) -> anyhow::Result<u64> {
        if let Some(status) = self.0.try_wait()? {
            anyhow::bail!("a process of the bench ended: {status}");
        }
        Ok(peak::of(&self.0.id().to_string()))
    }

    /// Tells it to end, and waits until it has drained.
    pub async fn end(mut self) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.0), Signal::TERM)?;
        let status = tokio::task::spawn_blocking(move || self.0.wait()).await??;
        anyhow::ensure!(status.success(), "a process of the bench did not end well: {status}");
        Ok(())
    }
}

impl Drop for Gong {
    fn drop(&mut self) {
        // Gone already is as well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
