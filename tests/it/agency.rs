//! The round trip of an agency: a workbook with an amount a row goes in, merged texts are
//! looked at, it is sent, the same rows come back with what became of each, and a second
//! round goes to the rest.

use std::collections::HashMap;
use std::path::Path;

use calamine::{Data, Reader as _, Xlsx, open_workbook};
use gong::domain::delivery::State;
use gong::loopback::{Behaviour, Span};
use rust_xlsxwriter::Workbook;

use crate::rig::SOON;
use crate::site::{Site, finished, gateway, in_state};
use crate::support::Run;

/// Its own text forgets the number to call back.
const ITEM: &str = "+++\nkind = \"notice\"\ntitle = \"耕地补贴\"\nphone = \"0873-5550000\"\nvariables = [\"姓名\", \"金额\", \"说明\"]\n\
    sms = \"{{vars.姓名}}您好，您的耕地补贴{{vars.金额}}元已发放，{{vars.说明}}\"\n+++\n见短信。\n";
const HEADS: [&str; 5] = ["外部编号", "姓名", "联系电话", "金额", "说明"];

/// The people of the list, last first, so that its order is no other's.
fn people() -> Vec<usize> {
    (0..40).rev().collect()
}

fn row(i: usize) -> [String; 5] {
    let phone = if i % 10 < 8 { format!("139{i:08}") } else { String::new() };
    let remark = match i {
        17 => "=1+1".to_owned(),
        22 => "请带身份证到镇政府一楼大厅三号窗口签字".to_owned(),
        _ => "水稻".to_owned(),
    };
    [format!("p{i}"), format!("居民{i}"), phone, format!("{}.50", 100 + i), remark]
}

fn workbook(path: &Path) {
    let mut book = Workbook::new();
    let sheet = book.add_worksheet();
    sheet.write_string(0, 0, "2026年耕地补贴发放名单").unwrap();
    for (column, head) in (0_u16..).zip(HEADS) {
        sheet.write_string(1, column, head).unwrap();
    }
    for (at, i) in (2_u32..).zip(people()) {
        for (column, cell) in (0_u16..).zip(row(i)) {
            sheet.write_string(at, column, cell).unwrap();
        }
    }
    book.save(path).unwrap();
}

/// Rows of the first sheet; a cell that is a formula would be no string.
fn rows(path: &Path) -> Vec<Vec<String>> {
    let mut book: Xlsx<_> = open_workbook(path).unwrap();
    let name = book.sheet_names()[0].clone();
    assert!(book.worksheet_formula(&name).unwrap().is_empty(), "a formula");
    let text = |cell: &Data| match cell {
        Data::String(text) => text.clone(),
        Data::Empty => String::new(),
        other => panic!("not a text: {other:?}"),
    };
    book.worksheet_range(&name).unwrap().rows().map(|row| row.iter().map(text).collect()).collect()
}

fn said(run: &Run) -> String {
    format!("{}{}", run.stdout, run.stderr)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_goes_in_and_comes_back_with_what_became_of_each_row() {
    let gateway = gateway(Behaviour { undelivered: 0.4, receipt_delay: Span::fixed(20), ..Behaviour::default() }).await;
    let mut site = Site::new().await.with_kannel(gateway.addr, "rate = 2000");
    let app = site.open().await;
    site.settle(&app, 60).await;
    let file = site.dir.path().join("名单.xlsx");
    workbook(&file);
    site.run(&["import", "lists", "名单.xlsx", "--list", "补贴", "--as", "张三"]).ok();
    let item = site.approve(&app, ITEM).await;

    let to = ["--to", "名单:补贴", "--plan", "sms"];
    let plan = site.run(&[&["plan", &item, "--samples", "5", "--json"], &to[..]].concat()).ok();
    let samples = plan.json()["samples"].as_array().unwrap().clone();
    assert_eq!(samples.len(), 5);
    // Row 3 is person 39, who has no phone; 38 is reached by the household's.
    assert_eq!((samples[0]["row_no"].as_i64(), samples[4]["row_no"].as_i64()), (Some(4), Some(42)), "{plan:?}");
    let longest: Vec<_> = samples.iter().filter(|s| s["longest"] == true).collect();
    assert_eq!(longest.len(), 1);
    assert!(longest[0]["text"].as_str().unwrap().contains("三号窗口签字。咨询电话0873-5550000"), "{plan:?}");
    assert!(!plan.stdout.contains("居民") && plan.stdout.contains("居*您好，您的耕地补贴122.50元"), "{plan:?}");
    assert!(samples.iter().all(|s| s["to"].as_str().unwrap().contains("****")), "{plan:?}");
    let refused = site.run(&[&["plan", &item, "--reveal", "--as", "张三"], &to[..]].concat());
    assert!(refused.code == Some(3) && !said(&refused).contains("居民22"), "{refused:?}");
    let open = site.run(&[&["plan", &item, "--reveal", "--as", "李四"], &to[..]].concat()).ok();
    assert!(open.stdout.contains("居民22您好") && open.stdout.contains("最长的一条"), "{open:?}");

    let serving = site.serve(&app).await;
    let sent = site.run(&[&["send", &item, "--yes", "--json", "--as", "李四"], &to[..]].concat()).ok();
    assert_eq!(sent.json()["no"], 1);
    let first = finished(&app, 1, SOON).await;
    let delivered = in_state(&app, 1, State::Delivered).await;
    let missed = in_state(&app, 1, State::Undelivered).await;
    assert!(first.members == 40 && delivered > 5 && missed > 5, "{delivered} {missed}");
    let back = site.dir.path().join("结果.xlsx");
    site.run(&["results", "1", "--reveal", "--out", "结果.xlsx", "--as", "李四"]).ok();
    came_back(&rows(&back), (delivered, missed));
    masked(&site);

    gateway.behave(Behaviour { receipt_delay: Span::fixed(20), ..Behaviour::default() }).unwrap();
    let again = ["send", &item, "--to", "unreached:1", "--plan", "sms", "--yes", "--json", "--as", "李四"];
    let second = site.run(&again).ok().json()["no"].as_i64().unwrap();
    let second = finished(&app, second, SOON).await;
    // Four of the list have no phone at all.
    assert_eq!((second.parent_no, second.members, second.deliveries), (Some(1), missed + 4, missed));
    site.run(&["results", "1", "--rounds", "--reveal", "--out", "两轮.xlsx", "--as", "李四"]).ok();
    let joined = rows(&site.dir.path().join("两轮.xlsx"));
    let status: HashMap<&str, usize> = joined[1..].iter().fold(HashMap::new(), |mut n, row| {
        *n.entry(row[5].as_str()).or_default() += 1;
        n
    });
    assert_eq!(status.iter().filter(|(s, _)| s.starts_with("已到达")).map(|(_, n)| n).sum::<usize>(), 36, "{status:?}");
    assert_eq!(status["未到达"], 4);
    let audit = site.run(&["audit", "verify", "--json"]).ok();
    assert_eq!(audit.json()["whole"], true);
    serving.stop().await;
    gateway.stop().await;
}

/// The rows as they went in, in their order, and what became of them.
fn came_back(rows: &[Vec<String>], (delivered, missed): (i64, i64)) {
    assert_eq!(rows[0][..5], HEADS.map(str::to_owned));
    assert_eq!(rows[0][5..], ["到达状态", "渠道", "到达时间", "原因"].map(str::to_owned));
    assert_eq!(rows.len(), 41);
    let mut counts: HashMap<String, i64> = HashMap::new();
    for (row_in, row_out) in people().into_iter().map(row).zip(&rows[1..]) {
        assert_eq!(row_out[..5], row_in, "the row as it came");
        let reached = row_out[5].starts_with("已到达");
        assert_eq!(reached, !row_out[7].is_empty(), "{row_out:?}");
        assert_eq!(reached, row_out[8].is_empty(), "{row_out:?}");
        *counts.entry(if reached { "reached".to_owned() } else { row_out[8].clone() }).or_default() += 1;
    }
    assert_eq!(counts.remove("reached"), Some(delivered), "{counts:?}");
    assert_eq!(counts.remove("网关回执：未送达"), Some(missed), "{counts:?}");
    assert_eq!(counts.remove("没有联系方式"), Some(4), "{counts:?}");
    assert!(counts.is_empty(), "{counts:?}");
}

/// Without the right, names and numbers are hidden, and a formula is defused.
fn masked(site: &Site) {
    let run = site.run(&["results", "1"]).ok();
    assert!(!run.stdout.contains("居民") && run.stdout.contains("居*"), "{run:?}");
    assert!(run.stdout.contains("139****0017") && !run.stdout.contains("13900000017"), "{run:?}");
    assert!(run.stdout.contains("'=1+1"), "{run:?}");
    assert!(run.stderr.contains("unreached:1"), "{run:?}");
    let refused = site.run(&["results", "1", "--reveal", "--as", "张三"]);
    assert!(refused.code == Some(3) && !said(&refused).contains("居民"), "{refused:?}");
    let json = site.run(&["results", "1", "--json"]).ok().json();
    assert_eq!(json["rows"].as_array().unwrap().len(), 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_list_there_is_a_row_a_member() {
    let site = Site::new().await.with_kannel("127.0.0.1:9".parse().unwrap(), "rate = 10");
    let app = site.open().await;
    site.settle(&app, 20).await;
    let item = site.approve(&app, crate::site::NOTICE).await;
    let dispatch = site.send(&app, &item, &crate::site::wish("all", "sms")).await;
    let (wake, stop) = Default::default();
    let planner = app.planner(wake, stop).await.unwrap();
    let mut pace = gong::planner::Pace::default();
    while planner.step(&mut pace).await.unwrap() {}
    site.run(&["results", &dispatch.no.to_string(), "--out", "人.csv"]).ok();
    let text = std::fs::read_to_string(site.dir.path().join("人.csv")).unwrap();
    assert_eq!(text.lines().count(), 21);
    assert!(text.contains("139****0003,河口瑶族自治县/河口镇/北山村,待发送"), "{text}");
    assert_eq!(text.lines().filter(|l| l.contains("没有联系方式")).count(), 2, "{text}");
}
