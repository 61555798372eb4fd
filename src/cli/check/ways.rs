//! The channels: whether each is declared soundly, and, where asked, answers.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::net::TcpStream;

use super::Report;
use crate::channel::Evidence;
use crate::channel::registry::{Registry, Site};
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::say;
use crate::sheet::Press;

const PATIENCE: Duration = Duration::from_secs(5);

/// A line a channel; the registry holds those that are sound.
pub(super) fn channels(report: &mut Report, config: &Config) -> Registry {
    if config.channels.is_empty() {
        report.warn(
            "channels",
            say!("没有配置任何渠道，只能演练", "no channel is set up; only rehearsals are possible"),
            say!(
                "先用回环网关练习：gong loopback sms --print-channel --secrets-dir data >> gong.toml",
                "practise with a loopback gateway: gong loopback sms --print-channel --secrets-dir data >> gong.toml"
            ),
        );
    }
    let Ok(zone) = config.zone() else { return Registry::default() };
    let (folder, public_url) = (config.path("channels".as_ref()), config.public_url());
    let site = Site {
        channels_dir: folder.is_dir().then_some(folder.as_path()),
        base_dir: &config.base,
        env: &config::env,
        public_url: &public_url,
        zone,
        clock: Clock::System,
        to_send: true,
        press: Press::default(),
    };
    let mut sound = BTreeMap::new();
    for (name, settings) in &config.channels {
        let id = format!("channel:{name}");
        let one = BTreeMap::from([(name.clone(), settings.clone())]);
        let Some(registry) = report.need(&id, Registry::build(&one, &site)) else { continue };
        let Some(channel) = registry.get(name) else { continue };
        let limits = channel.limits();
        let gateway = settings.each().into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(" + ");
        let (rate, receipts) = (limits.rate, limits.evidence == Evidence::Receipts);
        let evidence = if receipts { say!("有回执", "with receipts") } else { say!("无回执", "accept-only") };
        report.good(
            &id,
            say!(
                "渠道 {name}：{gateway}，每秒 {rate} 条，{evidence}",
                "channel {name}: {gateway}, {rate} parts a second, {evidence}"
            ),
        );
        let far = settings.each().iter().any(|(_, s)| s.vars.get("url").is_some_and(|url| !is_here(url)));
        if receipts && far && is_here(&public_url) {
            report.warn(
                &id,
                say!(
                    "回执地址是 {public_url}，渠道 {name} 的网关访问不到",
                    "receipts go to {public_url}, which the gateway of channel {name} cannot reach"
                ),
                say!("设置 [server] public_url 和 listen", "set [server] public_url and listen"),
            );
        }
        sound.insert(name.clone(), settings.clone());
    }
    Registry::build(&sound, &site).unwrap_or_default()
}

fn is_here(url: &str) -> bool {
    host(url).is_some_and(|at| {
        let name = at.rsplit_once(':').map_or(at.as_str(), |(name, _)| name);
        name == "localhost" || name.starts_with("127.") || name == "[::1]"
    })
}

/// `host:port` of an http(s) URL.
fn host(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let at = rest.split(['/', '?', '#']).next()?;
    let at = at.rsplit_once('@').map_or(at, |(_, at)| at);
    let has_port = at.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let port = if scheme == "https" { 443 } else { 80 };
    Some(if has_port { at.to_owned() } else { format!("{at}:{port}") })
}

/// Opens a connection to every gateway and sends nothing.
pub(super) async fn connect(report: &mut Report, config: &Config, registry: &Registry) {
    greet(report, registry).await;
    let all = config.channels.iter().flat_map(|(name, settings)| {
        let several = !settings.gateways.is_empty();
        let named = move |gateway: String| if several { format!("{name}/{gateway}") } else { name.clone() };
        settings.each().into_iter().map(move |(gateway, settings)| (named(gateway), settings))
    });
    for (name, settings) in all {
        let Some(at) = settings.vars.get("url").and_then(|url| host(url)) else { continue };
        let id = format!("connect:{name}");
        let why = match tokio::time::timeout(PATIENCE, TcpStream::connect(&at)).await {
            Ok(Ok(_)) => {
                report.good(&id, say!("渠道 {name}：{at} 接得通", "channel {name}: {at} answers"));
                continue;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => say!("5 秒内没有应答", "no answer within 5 seconds"),
        };
        report.bad(
            &id,
            say!("渠道 {name}：接不通 {at}（{why}）", "channel {name}: cannot connect to {at} ({why})"),
            say!(
                "核对地址、防火墙，以及网关是否在运行",
                "check the address, the firewall, and whether the gateway runs"
            ),
        );
    }
}

/// Greets those that have a greeting (EHLO, log-in), and says goodbye.
async fn greet(report: &mut Report, registry: &Registry) {
    for name in registry.names() {
        let Some(channel) = registry.get(name) else { continue };
        let id = format!("connect:{name}");
        match channel.probe().await {
            None => {}
            Some(Ok(at)) => report.good(&id, say!("渠道 {name}：{at} 应答正常", "channel {name}: {at} greets us")),
            Some(Err(why)) => report.bad(
                &id,
                say!("渠道 {name}：{why}", "channel {name}: {why}"),
                say!(
                    "核对地址、端口、tls、用户名和密码，以及服务器是否在运行",
                    "check address, port, tls, user name and password, and whether the server runs"
                ),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_from_urls() {
        assert_eq!(host("http://10.0.0.5:13013").as_deref(), Some("10.0.0.5:13013"));
        assert_eq!(host("https://sms.example/a?b").as_deref(), Some("sms.example:443"));
        assert_eq!(host("http://u@[::1]:9013/").as_deref(), Some("[::1]:9013"));
        assert_eq!(host("nonsense"), None);
        assert!(is_here("http://127.0.0.1:9013") && is_here("http://[::1]:80/") && !is_here("https://sms.example"));
    }
}
