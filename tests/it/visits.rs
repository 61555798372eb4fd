//! The door-knock list of villages: printed, filled in, brought back, and told in reach.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use calamine::{Reader as _, Xlsx, open_workbook};
use gong::app::App;
use gong::loopback::{Behaviour, Running, Span};
use serde_json::Value;

use crate::rig::SOON;
use crate::site::{Serving, Site, finished, gateway, wish};

/// Forty people, of whom nobody can be reached: the gateway delivers nothing, and every
/// tenth has no phone. After a second everybody stands on the list.
async fn unreached() -> (Site, App, Serving, Running) {
    let gateway = gateway(Behaviour { undelivered: 1.0, receipt_delay: Span::fixed(20), ..Behaviour::default() }).await;
    let mut site = Site::new().await.with_kannel(gateway.addr, "rate = 2000");
    let app = site.open().await;
    site.settle(&app, 40).await;
    let more = "外部编号,姓名,户号,出生日期,需求,常住地\np0,居民0,h0,1940-01-01,听障,532532101200\n";
    crate::rig::import_people(&app, site.dir.path(), more).await;
    let item = site.approve(&app, crate::site::NOTICE).await;
    let serving = site.serve(&app).await;
    let dispatch = site.send(&app, &item, &wish("all", "sms > 1s > visit")).await;
    finished(&app, dispatch.no, SOON).await;
    (site, app, serving, gateway)
}

fn rows(site: &Site, more: &[&str]) -> Vec<Value> {
    let run = site.run(&[&["visits", "1", "list", "--json"], more].concat()).ok();
    run.json()["rows"].as_array().unwrap().clone()
}

fn files(site: &Site, ending: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        std::fs::read_dir(site.dir.path().join("清单")).unwrap().map(|f| f.unwrap().path()).collect();
    found.retain(|f| f.extension().is_some_and(|e| e == ending));
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_is_printed_filled_in_and_brought_back() {
    let (site, app, serving, gateway) = unreached().await;
    let listed = rows(&site, &[]);
    // Twenty households of two; every tenth person belongs to none.
    assert_eq!(listed.len(), 24, "{listed:?}");
    assert_eq!(listed.iter().map(|r| r["people"].as_i64().unwrap()).sum::<i64>(), 40);
    let text = Value::from(listed.clone()).to_string();
    assert!(!text.contains("居民") && !text.contains("13900000"), "{text}");
    let first = &listed[0];
    assert_eq!((first["village"].as_str(), first["needs"].as_str()), (Some("城郊村"), Some("老人 1 人、听力不便")));
    assert_eq!(first["why"], "发送失败");
    assert_eq!(listed.iter().filter(|r| r["why"] == "没有电话").count(), 4, "{text}");
    assert_eq!(rows(&site, &["--village", "城郊村"]).len(), listed.iter().filter(|r| r["village"] == "城郊村").count());
    let denied = site.run(&["visits", "1", "list", "--reveal", "--as", "张三"]);
    assert!(denied.code == Some(3) && !denied.stdout.contains("居民"), "{denied:?}");

    csv_comes_back(&site);
    let reach = app.store.reach(1, &app.channel_kinds().await.unwrap(), app.store.now()).await.unwrap();
    assert!(reach.people.told_in_person > 0 && reach.people.told_in_person < 40, "{reach:?}");
    assert_eq!(reach.people.informed, reach.people.told_in_person);
    workbooks(&site);
    serving.stop().await;
    gateway.stop().await;
}

/// Results by village: told, absent, moved, refused, nothing, and one that is wrong.
fn csv_comes_back(site: &Site) {
    site.run(&["visits", "1", "list", "--format", "csv", "--out", "清单", "--reveal", "--as", "李四"]).ok();
    let all = files(site, "csv");
    assert_eq!(all.len(), 4);
    let name = all[0].file_name().unwrap().to_string_lossy().into_owned();
    assert!(name.contains("镇-") && name.contains("-入户通知清单-停水通知-20"), "{name}");
    let path = all.iter().find(|f| f.to_string_lossy().contains("城郊村")).unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains("居民0") && text.contains("13900000000"), "{text}");
    let mut reader = csv::Reader::from_reader(text.trim_start_matches('\u{feff}').as_bytes());
    let heads = reader.headers().unwrap().clone();
    let words = ["已告知", "外出", "moved", "拒签", "", "下次"];
    let mut filled = heads.iter().collect::<Vec<_>>().join(",") + "\r\n";
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert!(rows.len() >= 6, "{text}");
    for (row, word) in rows.iter().zip(words) {
        let cells: Vec<&str> =
            row.iter().enumerate().map(|(at, cell)| if &heads[at] == "结果" { word } else { cell }).collect();
        writeln!(filled, "{}", cells.join(",")).unwrap();
    }
    filled.push_str("V9-1,,,,,,,已告知,,,\nV1-9999,,,,,,,已告知,,,\n");
    // As Excel on a Chinese system saves it.
    let (bytes, ..) = encoding_rs::GBK.encode(&filled);
    std::fs::write(site.dir.path().join("填好.csv"), &bytes).unwrap();
    let import = || site.run(&["visits", "1", "import", "填好.csv", "--json", "--as", "李四"]);
    let dry = site.run(&["visits", "1", "import", "填好.csv", "--json", "--dry-run", "--as", "李四"]);
    assert_eq!((dry.code, &dry.json()["added"]), (Some(4), &Value::from(4)), "{dry:?}");
    let run = import();
    assert_eq!(run.code, Some(4), "{run:?}");
    let counts: BTreeMap<String, Value> = serde_json::from_value(run.json()).unwrap();
    for (name, n) in
        [("told", 1), ("absent", 1), ("moved", 1), ("refused", 1), ("open", 1), ("added", 4), ("rejected", 3)]
    {
        assert_eq!(counts[name], n, "{name}: {run:?}");
    }
    let rejects = std::fs::read_to_string(site.dir.path().join(counts["rejects_files"][0].as_str().unwrap())).unwrap();
    for why in ["发布任务 9 的清单", "没有这一行", "已告知、不在家、已搬走、拒绝"] {
        assert!(rejects.contains(why), "{rejects}");
    }
    let again = import().json();
    assert_eq!(
        (&again["added"], &again["unchanged"], &again["rejected"]),
        (&0.into(), &4.into(), &3.into()),
        "{again}"
    );
}

/// Who was told is off the list; who was out is on it, and is told by a later visit.
fn workbooks(site: &Site) {
    let open = rows(site, &[]);
    assert_eq!(open.len(), 21);
    let absent: Vec<_> = open.iter().filter(|r| r["state"] == "absent").collect();
    assert_eq!(absent.len(), 1, "{open:?}");
    let row = absent[0]["row"].as_str().unwrap();
    site.run(&["visits", "1", "list", "--format", "xlsx", "--out", "清单", "--as", "李四"]).ok();
    let books = files(site, "xlsx");
    assert_eq!(books.len(), 2, "a workbook a town");
    let book: Xlsx<_> = open_workbook(&books[0]).unwrap();
    assert_eq!(book.sheet_names().len(), 2, "a sheet a village");
    // Nothing filled in but what is known: nothing changes.
    let paths: Vec<&str> = books.iter().map(|b| b.to_str().unwrap()).collect();
    let import = [&["visits", "1", "import", "--json", "--as", "李四"], &paths[..]].concat();
    let read = site.run(&import).ok().json();
    assert_eq!((&read["added"], &read["unchanged"], &read["open"]), (&0.into(), &1.into(), &20.into()), "{read}");
    let told =
        site.run(&["visits", "1", "record", "--row", row, "--result", "told", "--by", "李明", "--as", "李四"]).ok();
    assert!(told.stdout.contains("已告知"), "{told:?}");
    let back = site.run(&["visits", "1", "record", "--row", row, "--result", "不在家", "--as", "李四"]);
    assert!(back.code == Some(3) && back.stderr.contains("已经告知"), "{back:?}");
    let by_home = site.run(&["visits", "1", "record", "--household", "h19", "--result", "moved", "--as", "李四"]).ok();
    assert!(by_home.stderr.contains("台账"), "{by_home:?}");
    assert_eq!(rows(site, &[]).len(), 19);
    let all = rows(site, &["--all"]);
    assert_eq!(all.iter().find(|r| r["row"] == row).unwrap()["by"], "李*");
    assert_eq!(all.len(), 24);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispatch_that_visits_nobody_has_no_list() {
    let site = Site::new().await.with_kannel("127.0.0.1:9".parse().unwrap(), "rate = 10");
    let app = site.open().await;
    site.settle(&app, 10).await;
    let item = site.approve(&app, crate::site::NOTICE).await;
    site.send(&app, &item, &wish("all", "sms")).await;
    let run = site.run(&["visits", "1", "list"]);
    assert!(run.code == Some(3) && run.stderr.contains("还没有入户清单"), "{run:?}");
}
