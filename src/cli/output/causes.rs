//! The causes of an error, from the outermost: each said once, and what the operating system
//! says of files and connections in the reader's language.

use std::io::{self, ErrorKind};

use crate::lang::{self, Lang};

/// What went wrong, a line for each cause that the one above does not quote.
pub(super) fn told(error: &anyhow::Error) -> String {
    let system: Vec<_> = error.chain().filter_map(|cause| cause.downcast_ref().and_then(worded)).collect();
    let mut said: Vec<String> = Vec::new();
    for cause in error.chain() {
        let part = system.iter().fold(cause.to_string(), |text, (theirs, ours)| text.replace(theirs, ours));
        if !said.iter().any(|s| s.contains(&part)) {
            said.push(part);
        }
    }
    said.join("\n  ")
}

/// The system's own words, and ours for them where ours are wanted and we have some.
fn worded(error: &io::Error) -> Option<(String, &'static str)> {
    let wanted = error.raw_os_error().is_some() && lang::current() == Lang::Zh;
    chinese(error.kind()).filter(|_| wanted).map(|ours| (error.to_string(), ours))
}

fn chinese(kind: ErrorKind) -> Option<&'static str> {
    Some(match kind {
        ErrorKind::NotFound => "没有这个文件或文件夹",
        ErrorKind::PermissionDenied => "没有权限",
        ErrorKind::AlreadyExists => "已经有了",
        ErrorKind::IsADirectory => "这是文件夹，不是文件",
        ErrorKind::NotADirectory => "路径中有一段不是文件夹",
        ErrorKind::DirectoryNotEmpty => "文件夹不是空的",
        ErrorKind::StorageFull => "磁盘满了",
        ErrorKind::QuotaExceeded => "磁盘配额用完了",
        ErrorKind::ReadOnlyFilesystem => "磁盘只能读，不能写",
        ErrorKind::FileTooLarge => "文件太大",
        ErrorKind::InvalidFilename => "文件名太长",
        ErrorKind::ResourceBusy => "正被别的程序占用",
        ErrorKind::AddrInUse => "端口已被别的程序占用",
        ErrorKind::AddrNotAvailable => "本机没有这个地址",
        ErrorKind::ConnectionRefused => "连接被拒绝，对方没有在运行",
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => "连接断了",
        ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable => "网络不通",
        ErrorKind::TimedOut => "等候超时",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn the_system_is_heard_in_the_readers_language() {
        let error = || std::fs::File::open("/no/such/file").unwrap_err();
        let told_of = |e: anyhow::Error| told(&e);
        assert_eq!(told_of(Err::<(), _>(error()).context("甲.csv").unwrap_err()), "甲.csv\n  没有这个文件或文件夹");
        let quoted = format!("打不开 甲.csv：{}。请检查文件名", error());
        let whole = Err::<(), _>(error()).context(quoted).unwrap_err();
        assert_eq!(told_of(whole), "打不开 甲.csv：没有这个文件或文件夹。请检查文件名");
    }

    #[test]
    fn what_the_system_did_not_say_stays_as_it_is() {
        let own = io::Error::new(ErrorKind::NotFound, "a frame too long");
        assert_eq!(told(&own.into()), "a frame too long");
        let twice = anyhow::anyhow!("a").context("of a");
        assert_eq!(told(&twice), "of a");
    }
}
