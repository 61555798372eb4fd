//! The commands that bring data in, report on it, keep it safe and destroy it, run as
//! people run them. All people and numbers are made up.

use std::time::Duration;

use crate::support::{Gong, Run, wait_until};

const REGIONS: &str = "code,name,parent,level
990101000000,青山县,,county
990101100000,东镇,990101000000,town
990101100201,新村,990101100000,village
990101100202,老村,990101100000,village
";

const PEOPLE: &str = "姓名,联系方式,常住地,人群
张三,13900000001,新村,低保户
李四,13900000002,老村,
王五,1390000,老村,
赵六,,新村,
";

const NOTICE: &str = "---
kind: notice
title: 关于停水的通知
scope: region:青山县
phone: 0873-5550000
expires: 2099-12-01 08:00
---
明天上午八点至十二点停水，请提前储水。
";

/// A site with regions, three people and one approved notice.
fn site() -> Gong {
    let gong = Gong::new();
    let people = ["--operator", "王芳:admin", "--operator", "小李:author", "--operator", "赵审:reviewer"];
    gong.run(["init", "--name", "青山县应急管理局", "--phone", "0873-5550000"].into_iter().chain(people)).ok();
    let config = gong.dir().join("gong.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}\n[channels.sms]\ngateway = \"rehearsal\"\n")).unwrap();
    for (name, text) in [("regions.csv", REGIONS), ("people.csv", PEOPLE), ("notice.md", NOTICE)] {
        std::fs::write(gong.dir().join(name), text).unwrap();
    }
    gong.run(["import", "regions", "regions.csv"]).ok();
    let run = gong.run(["import", "recipients", "people.csv", "--create-groups", "--purpose", "防汛"]);
    assert_eq!(run.code, Some(4), "{run:?}");
    gong.run(["item", "add", "notice.md", "--as", "小李"]).ok();
    gong.run(["item", "approve", "1", "--as", "赵审"]).ok();
    gong
}

fn send(gong: &Gong) {
    gong.run(["send", "1", "--to", "region:青山县", "--yes"]).ok();
}

/// Runs the engine until every dispatch has finished.
fn serve(gong: &Gong) {
    gong.run(["serve", "--until-idle", "--listen", "127.0.0.1:0"]).ok();
}

fn states(gong: &Gong) -> serde_json::Value {
    gong.run(["status", "1", "--json"]).ok().json()["states"].clone()
}

fn awaits(gong: &Gong, state: &str, n: i64) -> bool {
    wait_until(Duration::from_secs(30), || states(gong)[state] == n)
}

fn refused(run: &Run) {
    assert_eq!(run.code, Some(3), "{run:?}");
}

/// Every byte under the site's data folder.
fn bytes_of_database(gong: &Gong) -> Vec<u8> {
    let files = ["gong.db", "gong.db-wal"].map(|name| gong.dir().join("data").join(name));
    files.iter().filter(|f| f.exists()).flat_map(|f| std::fs::read(f).unwrap()).collect()
}

#[test]
fn rejected_rows_are_handed_back_and_taken_again() {
    let gong = site();
    let rejects = gong.dir().join("people.rejected.csv");
    let text = std::fs::read_to_string(&rejects).unwrap();
    assert!(text.starts_with("\u{feff}姓名,联系方式,常住地,人群,原因,行号"), "{text}");
    assert!(text.contains("王五,1390000,"), "{text}");
    std::fs::write(&rejects, text.replace("1390000,", "13900000003,")).unwrap();
    let again = gong.run(["import", "recipients", "people.rejected.csv", "--json"]).ok().json();
    assert_eq!((&again["added"], &again["rejected"]), (&1.into(), &0.into()), "{again}");
    let dry = gong.run(["import", "recipients", "people.csv", "regions.csv", "--dry-run", "--json"]);
    let dry_said = dry.json();
    assert_eq!((dry.code, &dry_said["dry_run"]), (Some(4), &true.into()), "{dry:?}");
    let columns = dry_said["files"][0]["columns"].as_array().unwrap();
    assert!(columns.iter().any(|c| c["header"] == "联系方式" && c["key"] == "phone"), "{columns:?}");
}

#[test]
fn a_group_is_replaced_by_one_file_only() {
    let gong = site();
    std::fs::write(gong.dir().join("a.csv"), "姓名,常住地\n张三,新村\n").unwrap();
    std::fs::write(gong.dir().join("b.csv"), "姓名,常住地\n李四,老村\n").unwrap();
    refused(&gong.run(["import", "groups", "a.csv", "b.csv", "--group", "低保户", "--replace"]));
    let run = gong.run(["import", "groups", "b.csv", "--group", "低保户", "--replace", "--json"]).ok().json();
    assert_eq!((&run["added"], &run["removed"]), (&1.into(), &1.into()), "{run}");
    assert_eq!(gong.run(["import", "groups", "--group", "低保户"]).code, Some(2));
    let ruled = gong.run(["import", "groups", "--group", "新村人", "--rule", "region:新村", "--json"]).ok().json();
    assert_eq!(ruled["people"], 2, "{ruled}");
}

#[test]
fn names_and_numbers_are_masked_unless_a_dispatcher_reveals_them() {
    let gong = site();
    send(&gong);
    serve(&gong);
    let reach = gong.run(["reach", "1", "--json"]).ok().json();
    assert_eq!((&reach["audience"], &reach["handed_over"]), (&3.into(), &2.into()), "{reach}");
    let masked = gong.run(["unreached", "1"]).ok().stdout;
    assert!(masked.contains("张*") && masked.contains("139****0001") && masked.contains("没有联系方式"), "{masked}");
    assert!(!masked.contains("张三"), "{masked}");
    refused(&gong.run(["unreached", "1", "--reveal", "--as", "小李"]));
    gong.run(["unreached", "1", "--reveal", "--csv", "u.csv", "--as", "王芳"]).ok();
    let shown = std::fs::read_to_string(gong.dir().join("u.csv")).unwrap();
    assert!(shown.starts_with('\u{feff}') && shown.contains("张三") && shown.contains("13900000001"), "{shown}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&gong.dir().join("u.csv").metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let villages = gong.run(["reach", "1", "--by", "village", "--csv", "-"]).ok().stdout;
    assert_eq!(villages.lines().count(), 1 + 1 + 2, "{villages}");
}

#[test]
fn what_an_operator_sees_and_decides_is_in_words_and_what_is_no_setting_is_refused() {
    let gong = site();
    send(&gong);
    let status = gong.run(["status"]).ok().stdout;
    assert!(["紧急程度", "正式", "进行中"].iter().all(|w| status.contains(w)) && !status.contains("live"), "{status}");
    let said = |args: &[&str]| gong.run(args.iter().copied()).ok().stdout;
    assert!(said(&["item", "show", "1"]).contains("（正式，进行中）"));
    assert_eq!(said(&["pause", "channel:sms"]).trim(), "渠道 sms 已暂停。恢复：gong resume channel:sms");
    assert_eq!(said(&["resume", "channel:sms"]).trim(), "渠道 sms 已恢复");
    let paused = gong.run(["pause", "channel:sms", "--json"]).ok().json();
    assert_eq!((&paused["channel"], &paused["state"]), (&"sms".into(), &"paused".into()));
    assert_eq!(said(&["rate", "sms", "20"]).trim(), "渠道 sms 的速率：20 条/秒");
    assert_eq!(said(&["rate", "sms", "declared"]).trim(), "渠道 sms 的速率：按网关声明");
    for wrong in [&["rate", "sms", "fast"], &["rate", "sms", "0"], &["rate", "smss", "5"]] {
        refused(&gong.run(wrong.iter().copied()));
    }
    for wrong in ["pause", "resume", "cancel"] {
        refused(&gong.run([wrong, "channel:smss"]));
    }
}

#[test]
fn a_restored_store_sends_nothing_by_itself() {
    let gong = site();
    gong.run(["pause", "channel:sms"]).ok();
    send(&gong);
    let mut engine = gong.spawn(["serve", "--listen", "127.0.0.1:0"], "serve.log");
    assert!(awaits(&gong, "queued", 2), "{}", states(&gong));
    gong.run(["backup", "copy.db"]).ok();
    refused(&gong.run(["backup", "copy.db"]));
    refused(&gong.run(["restore", "copy.db"]));
    engine.0.kill().unwrap();
    engine.0.wait().unwrap();

    std::fs::write(gong.dir().join("other.key"), "08".repeat(32)).unwrap();
    assert_eq!(gong.run(["restore", "people.csv"]).code, Some(3));
    let restored = gong.run(["restore", "copy.db", "--json"]).ok().json();
    assert_eq!((&restored["uncertain"], &restored["open_dispatches"][0]), (&2.into(), &1.into()), "{restored}");
    assert!(gong.dir().join(restored["moved_aside"].as_str().unwrap()).exists());
    gong.run(["resume", "channel:sms"]).ok();
    let mut engine = gong.spawn(["serve", "--listen", "127.0.0.1:0"], "serve.log");
    assert_eq!(states(&gong)["uncertain"], 2);
    // The operator knows that nothing went out.
    let queued = gong.run(["restore", "--nothing-sent", "1", "--json"]).ok().json();
    assert_eq!(queued["queued"], 2);
    assert_eq!(states(&gong)["queued"], 2, "paused until resumed");
    gong.run(["resume", "1"]).ok();
    assert!(awaits(&gong, "sent", 2), "{}", states(&gong));
    refused(&gong.run(["restore", "--nothing-sent", "1"]));
    engine.0.kill().unwrap();
}

#[test]
fn a_copy_of_another_key_is_not_put_in_place() {
    let (gong, other) = (site(), site());
    other.run(["backup", "copy.db"]).ok();
    std::fs::copy(other.dir().join("copy.db"), gong.dir().join("foreign.db")).unwrap();
    let run = gong.run(["restore", "foreign.db"]);
    assert_ne!(run.code, Some(0), "{run:?}");
    assert_eq!(gong.run(["item", "show", "1"]).code, Some(0), "the present database stays");
    assert!(!gong.dir().join("data/gong.db.restoring").exists());
}

#[test]
fn a_purge_leaves_the_totals_and_no_one() {
    let gong = site();
    send(&gong);
    refused(&gong.run(["purge", "1", "--yes"]));
    serve(&gong);
    refused(&gong.run(["purge", "1"]));
    refused(&gong.run(["purge", "--purpose", "防汛", "--yes"]));
    let before = gong.run(["reach", "1", "--json"]).ok().json();
    let dry = gong.run(["purge", "1", "--dry-run", "--json"]).ok().json();
    assert_eq!(dry["purged"]["members"], 3, "{dry}");
    let done = gong.run(["purge", "--item", "1", "--purpose", "防汛", "--yes", "--json"]).ok().json();
    assert_eq!((&done["purged"]["recipients"], &done["purged"]["addresses"]), (&3.into(), &2.into()), "{done}");
    let after = gong.run(["reach", "1", "--json"]).ok().json();
    assert_eq!((&after["audience"], &after["by_region"]), (&before["audience"], &before["by_region"]));
    assert_eq!(gong.run(["unreached", "1", "--json"]).ok().json()["unreached"], 0);
    // The purpose stands in the clear beside each recipient, and in the audit log once.
    let purpose = "防汛".as_bytes();
    let left = bytes_of_database(&gong).windows(purpose.len()).filter(|w| *w == purpose).count();
    assert_eq!(left, 1, "deleted rows are still in the file");
}

#[test]
fn a_nearly_full_disk_keeps_routine_messages_back() {
    let gong = site();
    let config = gong.dir().join("gong.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let full = text.replace("# reserve_mb = 500", "reserve_mb = 1000000000000");
    assert_ne!(text, full);
    std::fs::write(&config, full).unwrap();
    send(&gong);
    let mut engine = gong.spawn(["serve", "--listen", "127.0.0.1:0"], "serve.log");
    assert!(awaits(&gong, "queued", 2), "{}", states(&gong));
    let log = gong.dir().join("serve.log");
    let warned = || std::fs::read_to_string(&log).unwrap().contains("nearly full");
    assert!(wait_until(Duration::from_secs(20), warned));
    engine.0.kill().unwrap();
    engine.0.wait().unwrap();
    assert_eq!(states(&gong)["queued"], 2);
}
