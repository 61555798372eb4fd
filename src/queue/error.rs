//! What can go wrong with the broker, without its password.

use std::path::{Path, PathBuf};

use lapin::protocol::{AMQPErrorKind, AMQPSoftError};

use crate::say;
use crate::store::StoreError;

/// A failure of the broker or of the way to it.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    #[error("{}", say!(
        "消息队列地址“{url}”不对：{why}。应为 amqps://用户:密码@主机:端口/虚拟主机",
        "the broker address `{url}` is not one: {why}. Expected amqps://USER:PASSWORD@HOST:PORT/VHOST"
    ))]
    Address { url: String, why: String },
    #[error("{}", say!(
        "连不上消息队列：{_0}。核对 [queue] url、防火墙，以及 RabbitMQ 是否在运行",
        "cannot connect to the broker: {_0}. Check [queue] url, the firewall, and whether RabbitMQ runs"
    ))]
    Unreachable(String),
    #[error("{}", say!(
        "消息队列里已有 {name}，但参数不同（{why}）。请换一个虚拟主机，或者停下全部 gong 后删掉它：rabbitmqctl delete_queue {name}（不会丢消息，数据库里都有）",
        "the broker has {name} already, with other arguments ({why}). Use another virtual host, or stop every gong and delete it: rabbitmqctl delete_queue {name} (nothing is lost: the database has it all)"
    ))]
    Different { name: String, why: String },
    #[error("{}", say!("消息队列没有 {_0}", "the broker has no {_0}"))]
    Missing(String),
    #[error("{}", say!("消息队列 {_0} 秒内没有应答", "the broker did not answer within {_0} seconds"))]
    Silent(u64),
    #[error("{}", say!("消息队列：{_0}", "the broker: {_0}"))]
    Broker(#[from] lapin::Error),
    #[error("{}", unreadable(.0, .1))]
    Ca(PathBuf, #[source] std::io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn unreadable(path: &Path, error: &std::io::Error) -> String {
    let path = path.display();
    say!("读不了 [queue] ca_file {path}：{error}", "cannot read [queue] ca_file {path}: {error}")
}

/// Whether the broker said that something does not exist.
pub(super) fn is_missing(error: &lapin::Error) -> bool {
    is_soft(error, &AMQPSoftError::NOTFOUND)
}

/// Whether the broker said that something exists with other arguments.
pub(super) fn is_different(error: &lapin::Error) -> bool {
    is_soft(error, &AMQPSoftError::PRECONDITIONFAILED)
}

fn is_soft(error: &lapin::Error, kind: &AMQPSoftError) -> bool {
    matches!(error.kind(), lapin::ErrorKind::ProtocolError(e) if matches!(e.kind(), AMQPErrorKind::Soft(k) if k == kind))
}
