//! Bounces that a mail server puts into a Maildir: read, kept, and moved from `new`
//! to `cur` once they are on disk.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::fs;
use tokio_util::sync::CancellationToken;

use super::{IntakeError, ReceiptDesk};

/// How often we look.
const EVERY: Duration = Duration::from_secs(2);
/// Of a larger bounce only the beginning is read: the report stands there.
const MAX_MAIL: u64 = 1024 * 1024;

/// Watches until told to stop. What cannot be read is said once, and tried again.
pub async fn watch(desk: ReceiptDesk, channel: String, dir: PathBuf, stop: CancellationToken) {
    let mut said = false;
    loop {
        match sweep(&desk, &channel, &dir).await {
            Ok(_) => said = false,
            Err(error) if !said => {
                said = true;
                tracing::error!(channel, %error, "the bounces of this channel cannot be read; trying again");
            }
            Err(_) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

/// Takes what lies there now; says how many mails that were.
///
/// # Errors
/// When a folder cannot be read or written, or the store does not keep them.
pub async fn sweep(desk: &ReceiptDesk, channel: &str, dir: &Path) -> io::Result<usize> {
    let (new, cur) = (dir.join("new"), dir.join("cur"));
    for folder in [&new, &cur, &dir.join("tmp")] {
        fs::create_dir_all(folder).await?;
    }
    let mut taken = 0;
    let mut files = fs::read_dir(&new).await?;
    while let Some(file) = files.next_entry().await? {
        if !file.file_type().await?.is_file() {
            continue;
        }
        let mail = read(&file.path()).await?;
        match desk.take_mail(channel, &mail).await {
            Ok(_) => taken += 1,
            // Not a bounce: it must not lie in the way of those that are.
            Err(IntakeError::Callback(_)) => {}
            Err(error) => return Err(io::Error::other(error)),
        }
        let mut name = file.file_name();
        name.push(":2,S");
        fs::rename(file.path(), cur.join(name)).await?;
    }
    Ok(taken)
}

async fn read(path: &Path) -> io::Result<Vec<u8>> {
    use tokio::io::AsyncReadExt as _;
    let mut mail = Vec::new();
    fs::File::open(path).await?.take(MAX_MAIL).read_to_end(&mut mail).await?;
    Ok(mail)
}
