//! Whose a site's files are: what root writes among another user's files, that user's
//! service cannot open.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{Result, StoreError};
use crate::say;

const ROOT: u32 = 0;

/// Refuses, before anything is written, a file of the site (the database, the key, with
/// what lies beside them) that this process's user should not write: root in another
/// user's folder, or anybody where the file is another's.
///
/// # Errors
/// [`StoreError::Refused`], with the command to run instead.
pub fn check(file: &Path) -> Result<()> {
    let me = rustix::process::geteuid().as_raw();
    let of_file = fs::metadata(file).ok().map(|m| m.uid());
    let (folder, of_folder) = folder(file);
    let shown = if of_file.is_some() { file.display() } else { folder.display() };
    if me == ROOT {
        let Some(other) = of_file.into_iter().chain([of_folder]).find(|uid| *uid != ROOT) else { return Ok(()) };
        let (who, run) = (name(other), run_as(other));
        return Err(StoreError::Refused(say!(
            "{shown} 属于用户 {who}。以 root 身份写入的文件，{who} 的服务会打不开，所以什么都没有做。请以 {who} 的身份执行：{run} …（装了 Debian 软件包：gong-run gong …）",
            "{shown} belongs to the user {who}. What root writes there the service of {who} could not open, so nothing was done. Run it as {who}: {run} … (with the Debian package: gong-run gong …)"
        )));
    }
    match of_file {
        Some(other) if other != me && !may_write(file) => {
            let (who, me, folder) = (name(other), name(me), folder.display());
            Err(StoreError::Refused(say!(
                "{shown} 属于用户 {who}，{me} 不能写入。如果是以 root 身份恢复或复制来的，请用 root 执行：chown -R {me}: {folder}",
                "{shown} belongs to the user {who}, and {me} cannot write it. If root restored or copied it, run as root: chown -R {me}: {folder}"
            )))
        }
        _ => Ok(()),
    }
}

/// The nearest folder that is there, and its owner.
fn folder(file: &Path) -> (PathBuf, u32) {
    let mut above = file.ancestors().skip(1).map(|f| if f.as_os_str().is_empty() { Path::new(".") } else { f });
    let found = above.find_map(|f| Some((f.to_owned(), fs::metadata(f).ok()?.uid())));
    found.unwrap_or_else(|| (PathBuf::from("."), rustix::process::geteuid().as_raw()))
}

fn may_write(file: &Path) -> bool {
    rustix::fs::access(file, rustix::fs::Access::WRITE_OK).is_ok()
}

/// As `/etc/passwd` says it; the number of a user of another directory.
fn name(uid: u32) -> String {
    known(uid).unwrap_or_else(|| uid.to_string())
}

fn known(uid: u32) -> Option<String> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let is = |line: &&str| line.split(':').nth(2) == Some(&uid.to_string());
    users.lines().find(is)?.split(':').next().map(str::to_owned)
}

/// What a command line of root begins with, to run the rest as that user.
fn run_as(uid: u32) -> String {
    known(uid).map_or_else(
        || format!("setpriv --reuid {uid} --regid {uid} --clear-groups gong"),
        |name| format!("runuser -u {name} -- gong"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: u32 = 65_534;

    fn said(result: Result<()>) -> String {
        match result {
            Err(StoreError::Refused(said)) => said,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn ones_own_folder_is_ones_own() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("data/deeper/gong.db");
        check(&file).unwrap();
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "").unwrap();
        check(&file).unwrap();
    }

    /// Only root can give a folder away.
    #[test]
    fn root_writes_nothing_in_another_users_folder() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("data/gong.db");
        std::os::unix::fs::chown(dir.path(), Some(NOBODY), None).unwrap();
        let refused = said(check(&file));
        assert!(refused.contains(&run_as(NOBODY)), "{refused}");
        // The file of another in a folder of root's, as in /tmp.
        std::os::unix::fs::chown(dir.path(), Some(ROOT), None).unwrap();
        fs::create_dir(file.parent().unwrap()).unwrap();
        fs::write(&file, "").unwrap();
        check(&file).unwrap();
        std::os::unix::fs::chown(&file, Some(NOBODY), None).unwrap();
        assert!(said(check(&file)).contains(&name(NOBODY)));
    }

    #[test]
    fn a_user_is_named_as_the_machine_knows_it() {
        assert_eq!(name(ROOT), "root");
        assert_eq!(name(4_000_000_000), "4000000000");
        assert!(run_as(4_000_000_000).starts_with("setpriv --reuid 4000000000 "));
    }
}
