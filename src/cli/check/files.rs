//! Disk space, the key file, templates.

use std::path::Path;

use jiff::Timestamp;

use super::Report;
use crate::clock::Clock;
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

/// The calendar of working days: sound, and with this year and the next in it.
pub(super) fn calendar(report: &mut Report, config: &Config) {
    let now = Timestamp::from_millisecond(Clock::System.now());
    let (Ok(now), Ok(zone)) = (now, config.zone()) else { return };
    let today = now.to_zoned(zone).date();
    let Some(calendar) = report.need("calendar", config.calendar()) else { return };
    let years = [today.year(), today.year() + 1];
    let missing: Vec<String> = calendar.missing(&years).iter().map(ToString::to_string).collect();
    let [from, to] = years;
    if missing.is_empty() {
        report.good(
            "calendar",
            say!("工作日日历有 {from} 和 {to} 年", "the calendar of working days has {from} and {to}"),
        );
        return;
    }
    let missing = missing.join("、");
    report.warn(
        "calendar",
        say!(
            "工作日日历没有 {missing} 年，算到那一年的期限只是暂定",
            "the calendar of working days lacks {missing}; deadlines into it are provisional"
        ),
        say!(
            "放假安排公布后，写成 templates/calendar/{to}.json 放在配置文件旁边（写法见 templates/README.md），不用重启",
            "once its holidays are announced, put templates/calendar/{to}.json beside the settings (its form: templates/README.md); no restart is needed"
        ),
    );
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
