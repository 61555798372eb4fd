//! The database: schema, clock, people who act, people to reach.

use super::Report;
use crate::cli::output::number;
use crate::cli::words::when;
use crate::clock::Millis;
use crate::config::Config;
use crate::say;
use crate::store::health::Health;
use crate::store::operators::{Operator, Role};
use crate::store::{Store, StoreError, migrate};

/// Clocks of servers differ by seconds; by more, something is wrong.
const CLOCK_SLACK: Millis = 120_000;
const BACKUP_DAYS: Millis = 7;
const DAY: Millis = 86_400_000;

/// Everything the open store tells.
pub(super) async fn look(report: &mut Report, config: &Config, store: &Store) {
    let Some(health) = report.need("database", store.health().await) else { return };
    let schema = migrate::known_version();
    report.good(
        "database",
        say!("数据库可读写，结构版本 {schema}", "the database can be read and written; schema {schema}"),
    );
    clock(report, config, store, &health);
    if let Some(all) = report.need("operators", store.operators().await) {
        operators(report, config, &all);
    }
    let signed = fast_lanes(report, config, store).await;
    report.need("fast_lane", signed);
    people(report, &health);
    if store.file.is_some() {
        backup(report, config, store, &health);
    }
}

fn clock(report: &mut Report, config: &Config, store: &Store, health: &Health) {
    let (now, Ok(zone)) = (store.now(), config.zone()) else { return };
    let (at, newest) = (when(now, &zone), health.newest_at.unwrap_or(now));
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
    let (regions, people) = (number(health.regions), number(health.people));
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

fn backup(report: &mut Report, config: &Config, store: &Store, health: &Health) {
    let Ok(zone) = config.zone() else { return };
    match health.backup_at {
        Some(at) if at + BACKUP_DAYS * DAY > store.now() => {
            let at = when(at, &zone);
            report.good("backup", say!("上次备份 {at}", "last backup {at}"));
        }
        last => {
            let last = last.map_or_else(|| say!("从未", "never"), |at| when(at, &zone));
            report.warn(
                "backup",
                say!(
                    "{BACKUP_DAYS} 天内没有备份（上次：{last}）",
                    "no backup within {BACKUP_DAYS} days (last: {last})"
                ),
                say!("gong backup，并把备份和密钥存到别处", "gong backup; keep it, and the key, elsewhere"),
            );
        }
    }
}
