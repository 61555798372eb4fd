//! The database: schema, clock, people who act, people to reach.

use super::Report;
use crate::cli::output::number;
use crate::cli::words::when;
use crate::clock::Millis;
use crate::config::Config;
use crate::say;
use crate::store::health::{COUNTED, Health};
use crate::store::operators::{Operator, Role};
use crate::store::{Store, StoreError, migrate};

/// Clocks of servers differ by seconds; by more, something is wrong.
const CLOCK_SLACK: Millis = 120_000;
const DAY: Millis = 86_400_000;
/// Older than this, more than one nightly backup failed.
const BACKUP_LATE: Millis = 2 * DAY;
/// Older than this, nobody looks after them.
const BACKUP_LOST: Millis = 7 * DAY;

/// Everything the open store tells.
pub(super) async fn look(report: &mut Report, config: &Config, store: &Store) {
    let Some(health) = report.need("database", store.health().await) else { return };
    let schema = migrate::known_version();
    report.good(
        "database",
        say!("数据库可读写，结构版本 {schema}", "the database can be read and written; schema {schema}"),
    );
    if let Some(newest) = report.need("clock", store.newest_time().await) {
        clock(report, config, store, newest);
    }
    if let Some(all) = report.need("operators", store.operators().await) {
        operators(report, config, &all);
    }
    let signed = fast_lanes(report, config, store).await;
    report.need("fast_lane", signed);
    people(report, &health);
    backup(report, config, store, &health);
}

/// A right clock stands behind the newest time on record.
fn clock(report: &mut Report, config: &Config, store: &Store, newest: Option<Millis>) {
    let (now, Ok(zone)) = (store.now(), config.zone()) else { return };
    let (at, newest) = (when(now, &zone), newest.unwrap_or(now));
    if newest > now + CLOCK_SLACK {
        let newest = when(newest, &zone);
        report.bad(
            "clock",
            say!("时钟是 {at}，却已有 {newest} 的记录", "the clock says {at}, and there are records of {newest}"),
            say!("校准系统时间（如启用 NTP）", "set the clock right, e.g. by NTP"),
        );
    } else {
        report.good("clock", say!("时钟 {at}", "clock {at}"));
    }
}

fn operators(report: &mut Report, config: &Config, all: &[Operator]) {
    let n = all.len();
    let can = |role| all.iter().filter(|o| o.may(role)).count();
    let lone = all
        .iter()
        .filter(|o| o.may(Role::Author))
        .any(|author| !all.iter().any(|other| other.id != author.id && other.may(Role::Reviewer)));
    let advice = say!("gong operator add 姓名 --role reviewer", "gong operator add NAME --role reviewer");
    if config.review.four_eyes && lone {
        report.warn(
            "operators",
            say!(
                "没有第二个人能审核，拟稿人写的事项发不出去",
                "nobody but the author can review, so nothing can be approved"
            ),
            advice,
        );
    } else if can(Role::Reviewer) == 0 || can(Role::Dispatcher) == 0 || can(Role::Author) == 0 {
        report.warn(
            "operators",
            say!("缺少拟稿、审核或发布中的某个角色", "nobody holds one of the roles author, reviewer, dispatcher"),
            say!(
                "gong operator list 查看，gong operator add 姓名 --role 角色",
                "see gong operator list; gong operator add NAME --role ROLE"
            ),
        );
    } else {
        report.good("operators", say!("操作员 {n} 人", "{n} operators"));
    }
}

/// Fast lanes whose second signature is overdue.
async fn fast_lanes(report: &mut Report, config: &Config, store: &Store) -> Result<(), StoreError> {
    let Ok(within) = config.second_signature_within() else { return Ok(()) };
    let overdue = store.unsigned_fast_lanes(store.now() - within).await?;
    for no in overdue {
        report.bad(
            "fast_lane",
            say!(
                "公开事项 {no} 走了绿色通道，补签已逾期",
                "item {no} took the fast lane and its second signature is overdue"
            ),
            format!("gong item approve {no} --second"),
        );
    }
    Ok(())
}

fn people(report: &mut Report, health: &Health) {
    let (regions, people) = (number(health.regions), number(health.people.min(COUNTED)));
    if health.regions == 0 {
        report.warn(
            "regions",
            say!("还没有区域", "there are no regions yet"),
            say!("gong import regions 区域.csv", "gong import regions regions.csv"),
        );
    } else {
        report.good("regions", say!("区域 {regions} 个", "{regions} regions"));
    }
    if health.people == 0 {
        report.warn(
            "recipients",
            say!("还没有对象", "there are no recipients yet"),
            say!("gong import recipients 名册.csv", "gong import recipients people.csv"),
        );
    } else if health.people > COUNTED {
        report.good("recipients", say!("对象超过 {people}", "more than {people} recipients"));
    } else {
        report.good("recipients", say!("对象 {people}", "{people} recipients"));
    }
    let (without, villages) = (health.villages_without_officer, health.villages);
    if without > 0 {
        report.warn(
            "officers",
            say!(
                "{villages} 个村中有 {without} 个没有值班联系人，到时无人可通知上门",
                "{without} of {villages} villages have no duty officer to call"
            ),
            say!("gong import officers 值班表.csv", "gong import officers officers.csv"),
        );
    }
}

/// How long ago the last backup was made; of one that was never backed up, how long there
/// has been anything to lose.
fn backup(report: &mut Report, config: &Config, store: &Store, health: &Health) {
    let Ok(zone) = config.zone() else { return };
    let age = health.backup_at.or(health.first_at).map_or(0, |since| store.now() - since);
    let days = age / DAY;
    let text = match health.backup_at {
        Some(at) => {
            let at = when(at, &zone);
            say!("上次备份 {at}（{days} 天前）", "last backup {at} ({days} days ago)")
        }
        None => say!("从未备份", "there was never a backup"),
    };
    let advice = match store.file {
        Some(_) => say!(
            "gong backup，或查看夜间备份：systemctl status gong-backup；把备份和密钥存到别处",
            "gong backup, or look at the nightly one: systemctl status gong-backup; keep it, and the key, elsewhere"
        ),
        None => say!(
            "deploy/backup.sh，或查看夜间备份：systemctl status gong-backup；用别的方法备份后执行 gong backup --made",
            "deploy/backup.sh, or look at the nightly one: systemctl status gong-backup; after a backup by other means: gong backup --made"
        ),
    };
    match health.backup_at {
        _ if age > BACKUP_LOST => report.bad("backup", text, advice),
        Some(_) if age <= BACKUP_LATE => report.good("backup", text),
        _ => report.warn("backup", text, advice),
    }
}
