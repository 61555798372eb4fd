//! Disk space, the key file, templates.

use std::path::Path;

use super::Report;
use crate::config::Config;
use crate::domain::item::ItemKind;
use crate::render::messages::{Medium, Messages};
use crate::say;
use crate::vault::Vault;

const MIB: u64 = 1024 * 1024;

/// Free space where the database grows, against the reserve.
pub(super) fn disk(report: &mut Report, config: &Config) {
    let url = config.store_url();
    let folder = url.strip_prefix("sqlite:").and_then(|file| Path::new(file).parent()).unwrap_or(&config.base);
    let Ok(stat) = rustix::fs::statvfs(if folder.exists() { folder } else { &config.base }) else { return };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize) / MIB;
    let reserve = config.disk.reserve_mb;
    let text = say!("磁盘剩余 {free} MiB（保留 {reserve} MiB）", "{free} MiB of disk free ({reserve} MiB reserved)");
    let advice = say!(
        "腾出空间，或把数据库移到更大的磁盘；低于保留值时只发紧急信息",
        "free some space or move the database; below the reserve only urgent messages go out"
    );
    match free {
        free if free < reserve => report.bad("disk", text, advice),
        free if free < reserve.saturating_mul(4) => report.warn("disk", text, advice),
        _ => report.good("disk", text),
    }
}

/// The key: there, private, and a key.
pub(super) fn key(report: &mut Report, config: &Config) -> Option<Vault> {
    let path = config.path(&config.store.key_file);
    let vault = report.need("key", Vault::open(&path))?;
    let path = path.display();
    report.good("key", say!("密钥 {path}（请确认另存了一份）", "key {path} (make sure a copy is kept elsewhere)"));
    Some(vault)
}

/// Every template compiles, and every kind of item has one.
pub(super) fn templates(report: &mut Report, config: &Config) -> Option<Messages> {
    let zone = report.need("templates", config.zone())?;
    let messages = report.need("templates", Messages::load(Some(&config.path("templates".as_ref())), &zone))?;
    for kind in ItemKind::ALL {
        report.need("templates", messages.text(Medium::Sms, kind.name(), None))?;
    }
    let n = ItemKind::ALL.len();
    report.good("templates", say!("{n} 类公开事项的短信模板可用", "SMS templates for {n} kinds of item"));
    Some(messages)
}
