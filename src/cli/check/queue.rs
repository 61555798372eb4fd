//! The broker: whether its settings are sound, and, where asked, every address answers.

use super::Report;
use crate::config::Config;
use crate::domain::item::Lane;
use crate::queue::link::Link;
use crate::queue::topology::{DEAD, depth, queue_name};
use crate::say;

/// Nothing is said of a site without a broker. Nothing is declared or published.
pub(super) async fn broker(report: &mut Report, config: &Config, connect: bool) {
    let settings = config.queue_settings();
    let addresses = settings.url.len();
    if addresses == 0 {
        return;
    }
    let Some(link) = report.need("queue", Link::new(&settings)) else { return };
    report.good("queue", say!("消息队列：{addresses} 个地址", "the broker: {addresses} addresses"));
    if config.store.url.starts_with("sqlite:") {
        report.warn(
            "queue",
            say!("数据库是内嵌的，消息队列没有用处", "the store is the embedded one: a broker is of no use to it"),
            say!("去掉 [queue] url，或改用 PostgreSQL", "take [queue] url out, or use PostgreSQL"),
        );
    }
    if !connect {
        return;
    }
    let mut dead = None;
    for (address, answer) in link.each().await {
        let connection = match answer {
            Ok(connection) => connection,
            Err(error) => {
                report.bad("connect:queue", format!("{address}: {error}"), "");
                continue;
            }
        };
        report.good("connect:queue", say!("消息队列 {address} 应答正常", "the broker {address} answers"));
        if dead.is_none() {
            dead = depth(&connection, DEAD).await.ok().flatten().map(|depth| depth.messages);
        }
        let mut missing = Vec::new();
        for name in config.channels.keys() {
            let queue = queue_name(name, Lane::Routine);
            if !matches!(depth(&connection, &queue).await, Ok(Some(_))) {
                missing.push(queue);
            }
        }
        if !missing.is_empty() {
            let missing = missing.join(", ");
            report.warn(
                "connect:queue",
                say!("{address} 上还没有队列 {missing}", "{address} has no queue {missing} yet"),
                say!("引擎第一次运行时建立：gong serve", "the engine declares them when it first runs: gong serve"),
            );
        }
    }
    if let Some(dead) = dead.filter(|dead| *dead > 0) {
        report.warn(
            "connect:dead",
            say!("死信队列 {DEAD} 里有 {dead} 条消息", "{dead} messages lie with the dead letters, in {DEAD}"),
            say!(
                "逐条查看，原因在消息头里：rabbitmqadmin get queue={DEAD}；查明以后清空",
                "look at them, their headers say why: rabbitmqadmin get queue={DEAD}; empty it once the cause is found"
            ),
        );
    }
}
