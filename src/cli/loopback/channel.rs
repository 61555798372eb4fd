//! The lines of `gong.toml` that send through a loopback gateway.

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use clap::ValueEnum;

use crate::cli::output;
use crate::loopback::Credentials;
use crate::say;

/// The interface a site talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Gateway {
    Kannel,
    JsonHmac,
}

/// Receipts of the loopback gateway carry it; it is no secret on one's own machine.
const TOKEN: &str = "loopback";

/// The block; secrets go to files in `secrets_dir`, or else come from the environment.
///
/// # Errors
/// When a secret cannot be written.
pub(super) fn block(
    gateway: Gateway,
    listen: SocketAddr,
    credentials: &Credentials,
    secrets_dir: Option<&Path>,
) -> anyhow::Result<String> {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let url = quoted(&format!("http://{listen}"));
    let (name, vars, secrets) = match gateway {
        Gateway::Kannel => (
            "kannel",
            format!("{{ url = {url}, username = {} }}", quoted(&credentials.username)),
            vec![("password", credentials.password.as_str()), ("token", TOKEN)],
        ),
        Gateway::JsonHmac => ("json-hmac", format!("{{ url = {url} }}"), vec![("key", credentials.secret.as_str())]),
    };
    let mut specs = Vec::new();
    for (secret, value) in secrets {
        let spec = if let Some(dir) = secrets_dir {
            let path = dir.join(format!("loopback-{secret}"));
            write(&path, value)?;
            format!("file:{}", path.display())
        } else {
            let variable = format!("GONG_LOOPBACK_{}", secret.to_uppercase());
            output::note(say!(
                "请先执行：export {variable}={value}（或加 --secrets-dir data 写成文件）",
                "first run: export {variable}={value} (or add --secrets-dir data to write files)"
            ));
            format!("env:{variable}")
        };
        specs.push(format!("{secret} = {}", quoted(&spec)));
    }
    let secrets = specs.join(", ");
    let about =
        say!("回环网关，仅供演练：gong loopback sms", "a loopback gateway, to rehearse with: gong loopback sms");
    Ok(format!(
        "\n# {about}\n[channels.sms]\ngateway   = \"{name}\"\nsignature = \"【演练】\"\nvars      = {vars}\nsecrets   = {{ {secrets} }}\nlimits    = {{ rate = 500 }}"
    ))
}

/// Writes a secret to a file of its own that nobody else may read.
pub(super) fn write(path: &Path, value: &str) -> anyhow::Result<()> {
    let shown = path.display().to_string();
    let written = || -> std::io::Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        writeln!(file, "{value}")
    };
    written().map_err(|e| anyhow::anyhow!(say!("不能写入 {shown}：{e}", "cannot write {shown}: {e}")))
}
