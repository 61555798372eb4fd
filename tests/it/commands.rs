//! The commands that set up a site and decide what may go out, as a stranger uses them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::{Gong, Run, wait_until};

// All people and numbers here are made up.
const ALERT: &str = "---\n类型: 预警\n级别: 橙色\n标题: 暴雨橙色预警\n电话: 0873-3420000\n影响范围: 河口镇\n措施: 转移；关好门窗\n---\n六小时内有暴雨。\n";
const NOTICE: &str = "---\n类型: 通知\n标题: 停水通知\n电话: 0873-3420000\n---\n明日停水。\n";

/// A site with an author who reviews, a second reviewer and an admin.
fn site() -> Gong {
    let gong = Gong::new();
    gong.run([
        "init",
        "--name",
        "某县应急管理局",
        "--phone",
        "0873-3420000",
        "--operator",
        "张三:author,reviewer",
        "--operator",
        "李四:reviewer,dispatcher",
        "--operator",
        "王五:admin",
    ])
    .ok();
    gong
}

fn write(gong: &Gong, name: &str, text: &str) {
    fs::write(gong.dir().join(name), text).unwrap();
}

/// The number of a new item.
fn add(gong: &Gong, text: &str) -> String {
    write(gong, "item.md", text);
    let added = gong.run(["item", "add", "item.md", "--as", "张三", "--json"]).ok().json();
    added["no"].to_string()
}

fn refused(run: Run) -> Run {
    assert_eq!(run.code, Some(3), "stdout: {}\nstderr: {}", run.stdout, run.stderr);
    run
}

#[test]
fn init_makes_a_private_site_once() {
    let gong = Gong::new();
    let made = gong.run(["init", "site", "--name", "甲\"乙", "--phone", "0873-3420000", "--json"]).ok().json();
    assert_eq!(made["operators"][0]["roles"][0], "admin");
    let rights = |path: &str| fs::metadata(gong.dir().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((rights("site/data"), rights("site/data/gong.key")), (0o700, 0o600));
    let before = fs::read_to_string(gong.dir().join("site/gong.toml")).unwrap();
    let again = gong.run(["init", "site", "--name", "x", "--phone", "12345"]);
    assert_eq!(again.code, Some(1));
    assert!(again.stderr.contains("已存在"), "{}", again.stderr);
    assert_eq!(fs::read_to_string(gong.dir().join("site/gong.toml")).unwrap(), before);
    gong.run(["check", "--config", "site/gong.toml"]).ok();
}

#[test]
fn init_without_a_name_makes_nothing() {
    let gong = Gong::new();
    let run = gong.run(["init"]);
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("--name"), "{}", run.stderr);
    assert_eq!(fs::read_dir(gong.dir()).unwrap().count(), 0);
}

#[test]
fn an_author_does_not_approve_alone() {
    let gong = site();
    let no = add(&gong, NOTICE);
    let alone = refused(gong.run(["item", "approve", &no, "--as", "张三"]));
    assert!(alone.stderr.contains("拟稿人") && !alone.stderr.contains("--fast"), "{}", alone.stderr);
    refused(gong.run(["item", "approve", &no, "--as", "张三", "--fast"]));
    let done = gong.run(["item", "approve", &no, "--as", "李四", "--json"]).ok().json();
    assert_eq!(done["type"], "review");
    refused(gong.run(["item", "approve", &no, "--as", "李四"]));
    // An edited version needs approval again.
    write(&gong, "item.md", &NOTICE.replace("明日", "后日"));
    let edited = gong.run(["item", "edit", &no, "item.md", "--as", "张三", "--json"]).ok().json();
    assert_eq!((&edited["version"], &edited["state"]), (&Value::from(2), &Value::from("draft")));
}

#[test]
fn a_fast_lane_is_followed_by_another_hand() {
    let gong = site();
    let no = add(&gong, ALERT);
    let alone = refused(gong.run(["item", "approve", &no, "--as", "张三"]));
    assert!(alone.stderr.contains("--fast"), "{}", alone.stderr);
    let fast = gong.run(["item", "approve", &no, "--as", "张三", "--fast", "--json"]).ok().json();
    assert_eq!(fast["type"], "fast_lane");
    assert!(fast["second_signature_due"].is_i64());
    refused(gong.run(["item", "approve", &no, "--as", "张三", "--second"]));
    gong.run(["item", "approve", &no, "--as", "李四", "--second"]).ok();
    refused(gong.run(["item", "approve", &no, "--as", "王五", "--second"]));
    let shown = gong.run(["item", "show", &no, "--json"]).ok().json();
    assert_eq!(shown["approvals"].as_array().unwrap().len(), 2);
    assert_eq!(shown["lane"], "immediate");
}

#[test]
fn personal_data_stops_an_item_until_a_reason_is_given() {
    let gong = site();
    write(&gong, "item.md", &NOTICE.replace("明日停水", "联系张三 13900001234"));
    let added = gong.run(["item", "add", "item.md", "--as", "张三", "--json"]).ok();
    let finding = &added.json()["privacy"][0];
    assert_eq!((&finding["line"], &finding["masked"]), (&Value::from(6), &Value::from("139****1234")));
    let stopped = refused(gong.run(["item", "approve", "1", "--as", "李四"]));
    assert!(stopped.stderr.contains("139****1234") && !stopped.stderr.contains("13900001234"), "{}", stopped.stderr);
    gong.run(["item", "approve", "1", "--as", "李四", "--override-privacy", "值班电话"]).ok();
    let shown = gong.run(["item", "show", "1", "--json"]).ok().json();
    assert!(shown["approvals"][0]["note"].as_str().unwrap().contains("值班电话"));
}

#[test]
fn every_problem_of_a_file_is_told_at_once() {
    let gong = site();
    write(&gong, "item.md", "---\n类型: 预警\n公开范围: 区域:(\n解除: 99\n---\n");
    let run = gong.run(["item", "add", "item.md", "--as", "张三", "--json"]);
    assert_eq!(run.code, Some(1));
    let problems = run.json()["problems"].as_array().unwrap().clone();
    let fields: Vec<&str> = problems.iter().filter_map(|p| p["field"].as_str()).collect();
    assert_eq!(fields, ["title", "body", "phone", "scope", "lifts"]);
    assert!(gong.run(["item", "list", "--json"]).ok().json().as_array().unwrap().is_empty());
}

#[test]
fn a_text_with_an_undeclared_variable_is_not_approved() {
    let gong = site();
    let text = NOTICE.replace("电话:", "变量: 金额\n短信: 补贴{{金额}}元，{{时间}}领取\n电话:");
    let no = add(&gong, &text);
    let run = refused(gong.run(["item", "approve", &no, "--as", "李四"]));
    assert!(run.stderr.contains("时间"), "{}", run.stderr);
    let no = add(&gong, &text.replace("，{{时间}}领取", ""));
    gong.run(["item", "approve", &no, "--as", "李四"]).ok();
    let shown = gong.run(["item", "show", &no, "--json"]).ok().json();
    assert_eq!(shown["sms"]["variables"][0], "金额");
}

#[test]
fn roles_are_granted_by_an_admin_and_add_up() {
    let gong = site();
    refused(gong.run(["operator", "add", "赵六", "--as", "张三"]));
    gong.run(["operator", "add", "赵六", "--role", "拟稿"]).ok();
    let both = gong.run(["operator", "add", "赵六", "--role", "reviewer", "--json"]).ok().json();
    assert_eq!(both["roles"], serde_json::json!(["author", "reviewer"]));
    let one = gong.run(["operator", "add", "赵六", "--role", "auditor", "--only", "--json"]).ok().json();
    assert_eq!(one["roles"], serde_json::json!(["auditor"]));
    refused(gong.run(["operator", "add", "王五", "--role", "author", "--only"]));
    assert_eq!(gong.run(["operator", "list", "--json"]).ok().json().as_array().unwrap().len(), 4);
}

#[test]
fn check_goes_on_past_what_is_wrong() {
    let gong = site();
    fs::set_permissions(gong.dir().join("data/gong.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let toml = gong.dir().join("gong.toml");
    let text = fs::read_to_string(&toml).unwrap() + "\n[channels.sms]\ngateway = \"nowhere\"\n";
    fs::write(&toml, text).unwrap();
    let run = gong.run(["check", "--json"]);
    assert_eq!(run.code, Some(1));
    let lines = run.json();
    let state = |name: &str| {
        let found = lines.as_array().unwrap().iter().find(|l| l["name"] == name);
        found.unwrap_or_else(|| panic!("{name}: {lines}"))["state"].clone()
    };
    assert_eq!((state("config"), state("templates")), ("good".into(), "good".into()));
    assert_eq!((state("key"), state("channel:sms")), ("bad".into(), "bad".into()));
}

#[test]
fn the_audit_log_is_whole_and_shown() {
    let gong = site();
    assert_eq!(gong.run(["audit", "verify", "--json"]).ok().json()["entries"], 3);
    let shown = gong.run(["audit", "show", "-n", "1", "--json", "--as", "王五"]).ok().json();
    assert_eq!(shown[0]["action"], "operator");
    refused(gong.run(["audit", "show", "--as", "张三"]));
}

#[test]
fn a_loopback_gateway_fits_the_lines_it_prints() {
    let gong = site();
    let mut running = gong.spawn(["loopback", "sms", "--listen", "127.0.0.1:0", "--json"], "loopback.log");
    let log = || fs::read_to_string(gong.dir().join("loopback.log")).unwrap_or_default();
    assert!(wait_until(Duration::from_secs(20), || log().contains('\n')));
    let first: Value = serde_json::from_str(log().lines().next().unwrap()).unwrap();
    let at = first["listening"].as_str().unwrap();
    for gateway in ["kannel", "json-hmac"] {
        let lines = gong.run([
            "loopback",
            "sms",
            "--print-channel",
            "--secrets-dir",
            "data",
            "--listen",
            at,
            "--gateway",
            gateway,
        ]);
        let toml = gong.dir().join("site.toml");
        let text = fs::read_to_string(gong.dir().join("gong.toml")).unwrap() + &lines.ok().stdout;
        fs::write(toml, text).unwrap();
        gong.run(["check", "--connect", "--config", "site.toml"]).ok();
    }
    let pid = running.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(running.0.wait().unwrap().success());
    let stats: Value = serde_json::from_str(log().lines().last().unwrap()).unwrap();
    assert_eq!(stats["messages"], 0);
}

#[test]
fn mistakes_on_the_command_line_are_explained_in_chinese() {
    let gong = Gong::new();
    for args in [vec!["frobnicate"], vec!["item", "approve"], vec!["item", "list", "--nope"]] {
        let run = gong.run(&args);
        assert_eq!(run.code, Some(2), "{args:?}");
        assert!(run.stderr.starts_with("错误: "), "{}", run.stderr);
        let mut english = vec!["--lang", "en"];
        english.extend(args);
        assert!(gong.run(english).stderr.starts_with("error: "));
    }
    assert!(gong.run(["item", "--help"]).ok().stdout.contains("用法:"));
    assert!(gong.run(["completions", "bash"]).ok().stdout.contains("_gong"));
}

/// The day by which it must be disclosed, and what happens where the year is not known.
#[test]
fn deadlines_follow_the_calendar_of_working_days() {
    let gong = crate::rig::town(1, "127.0.0.1:9".parse().unwrap());
    let item = "---\n类型: 公示\n标题: 名单\n电话: 0873-5550000\n异议电话: 0873-5550001\n公示天数: 7个工作日\n\
                生效: 2026-09-18\n形成日期: 2026-09-18\n---\n名单如下。\n";
    std::fs::write(gong.dir().join("item.md"), item).unwrap();
    let no = gong.run(["item", "add", "item.md", "--as", "张三", "--json"]).ok().json()["no"].to_string();
    let shown = gong.run(["item", "show", &no, "--json"]).ok().json();
    assert_eq!(shown["publication_end"]["date"], "2026-09-29");
    assert_eq!(shown["disclosure_deadline"]["date"], "2026-10-22");
    assert!(gong.run(["item", "show", &no]).ok().stdout.contains("2026-10-22（20 个工作日"));
    // The site's own year replaces the shipped one, without a rebuild.
    std::fs::create_dir_all(gong.dir().join("templates/calendar")).unwrap();
    let own = gong.dir().join("templates/calendar/own.json");
    std::fs::write(&own, r#"{"years": {"2026": {"holidays": ["2026-09-29"]}}}"#).unwrap();
    assert_eq!(gong.run(["item", "show", &no, "--json"]).ok().json()["publication_end"]["date"], "2026-09-30");
    std::fs::write(&own, r#"{"years": {"2026": {"holidays": ["2025-09-29"]}}}"#).unwrap();
    let check = gong.run(["check"]);
    assert!(check.code == Some(1) && check.stdout.contains("own.json: 2026 年里写了别的年份"), "{check:?}");
    std::fs::remove_file(&own).unwrap();
    let lines = gong.run(["check", "--json"]).json();
    assert!(lines.as_array().unwrap().iter().any(|l| l["name"] == "calendar"), "{lines}");
    // Of the item's file the lines are named that have to be mended.
    std::fs::write(
        gong.dir().join("bad.md"),
        item.replace("0873-5550001", "纪委").replace("标题: 名单\n", "").replace("名单如下。\n", ""),
    )
    .unwrap();
    let refused = gong.run(["item", "add", "bad.md", "--as", "张三"]);
    assert!(refused.stderr.contains("objection_phone: 第 4 行"), "{}", refused.stderr);
    assert!(refused.stderr.contains("title: ") && refused.stderr.contains("写在第 7 行之后"), "{}", refused.stderr);
}
