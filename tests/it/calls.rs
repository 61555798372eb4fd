//! Duty officers are called about a red alert: by SMS with a link, confirmed by link, by
//! reply and by telephone, and the next officer is asked where nobody answers.

use std::process::Command;
use std::time::Duration;

use gong::app::App;
use gong::channel::AddressKind;
use gong::clock::Clock;
use gong::import::table::Options;
use gong::import::{Run as Import, points};
use gong::store::optouts::{EVERY_KIND, OptOut};

use crate::rig::{SOON, Texts, ask, until};
use crate::site::{ALERT, NOTICE, Site, wish};
use crate::support::Run;

/// Made-up numbers; 安家河村 has nobody.
const OFFICERS: &str = "区域,职务,顺序,姓名,电话\n城郊村,村支书,1,张三,13911110001\n城郊村,村支书,2,李四,13911110002\n\
    北山村,村主任,1,王五,13911110003\n南溪村,村支书,1,赵六,13911110004\n南溪村,信息员,2,钱七,13911110005\n";
/// More than the wait between two officers.
const LATER: i64 = 11 * 60_000;

async fn officers(site: &Site, app: &App) {
    let path = site.dir.path().join("officers.csv");
    std::fs::write(&path, OFFICERS).unwrap();
    let mut table = points::open_officers(&path, &Options::default()).unwrap();
    let s = points::import_officers(&app.store, &mut table, &Import::default(), &mut |_| {}).await.unwrap();
    assert_eq!((s.added, s.rejected), (5, 0), "{s:?}");
}

/// The program in the folder of the site, beside its engine.
fn gong(site: &Site, args: &[&str]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gong"));
    Run::of(command.args(args).args(["--as", "李四"]).current_dir(site.dir.path()).env_remove("GONG_LANG"))
}

/// (status, whole answer) of a request to the site.
async fn http(method: &str, url: &str) -> (u16, String) {
    let rest = url.strip_prefix("http://").unwrap();
    let (host, path) = rest.split_at(rest.find('/').unwrap());
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let answer = ask(host, &request).await;
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

/// (number, link) of every call that went out.
fn links(texts: &Texts) -> Vec<(String, String)> {
    let link = |text: &str| {
        let from = text.find("http://")?;
        Some(text[from..].split(' ').next()?.to_owned())
    };
    texts.all().into_iter().filter_map(|(to, text)| Some((to, link(&text)?))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_red_alert_calls_until_somebody_of_each_village_confirms() {
    let texts = Texts::start().await;
    let mut site = Site::new().await.with_kannel(texts.addr, "rate = 500, evidence = \"accept_only\"");
    let clock = Clock::held(Clock::System.now());
    let app = site.open_at(clock.clone()).await;
    site.settle(&app, 40).await;
    officers(&site, &app).await;
    let item = site.approve(&app, ALERT).await;
    let serving = site.serve(&app).await;

    let sent = gong(&site, &["send", &item, "--to", "全部", "--plan", "sms", "--yes", "--json"]).ok().json();
    let (about, call) = (sent["no"].to_string(), sent["call"].to_string());
    until("the first officers are asked", SOON, async || links(&texts).len() == 3).await;
    let asked: Vec<String> = links(&texts).into_iter().map(|(to, _)| to).collect();
    assert_eq!(asked, ["13911110001", "13911110003", "13911110004"]);
    let (_, text) = texts.all().into_iter().find(|(to, _)| to == "13911110001").unwrap();
    for part in ["【河口应急】", "暴雨红色预警", "河口镇城郊村", "回复1", "0873-5550000"] {
        assert!(text.contains(part), "{part}: {text}");
    }

    confirm_by_link(&site, &texts, &about).await;
    confirm_by_reply(&app).await;
    let wrong = gong(&site, &["confirm", &about, "--region", "河口瑶族自治县"]);
    assert_eq!(wrong.code, Some(3), "{}", wrong.stderr);
    gong(&site, &["confirm", &call, "--region", "安家河村"]).ok();

    clock.advance(LATER);
    until("the next officer is asked", SOON, async || links(&texts).len() == 4).await;
    assert!(links(&texts).iter().any(|(to, _)| to == "13911110005"));
    until("nobody is left to ask", SOON, async || app.store.dispatch(&call).await.unwrap().phase == "done").await;
    tells_the_truth(&site, &about);

    let (status, _) = http("GET", &reply_url(&app, "13911110005", "%E6%94%B6%E5%88%B0")).await;
    assert_eq!(status, 200);
    let calls = gong(&site, &["calls", &call, "--json"]).ok().json();
    assert_eq!((&calls["villages"], &calls["confirmed"]), (&4.into(), &4.into()), "{calls}");
    assert_eq!(gong(&site, &["reach", &about, "--json"]).ok().json()["audience"], 40, "officers are no audience");
    assert_eq!(gong(&site, &["audit", "verify", "--json"]).ok().json()["whole"], true);
    assert_eq!(links(&texts).len(), 4, "nobody was asked again");
    serving.stop().await;
}

/// Looking confirms nothing, pressing does, once; a forged link leads nowhere.
async fn confirm_by_link(site: &Site, texts: &Texts, about: &str) {
    let (_, link) = links(texts).into_iter().find(|(to, _)| to == "13911110001").unwrap();
    let (status, page) = http("GET", &link).await;
    assert_eq!(status, 200, "{page}");
    assert!(page.contains("<button") && page.contains("河口镇城郊村") && !page.contains("已于"), "{page}");
    assert!(page.contains("no-store") && page.contains("default-src 'none'"), "{page}");
    let calls = gong(site, &["calls", about, "--json"]);
    assert_eq!((calls.code, &calls.json()["confirmed"]), (Some(4), &0.into()), "a look is no word");
    let mut forged = link.clone();
    let last = if forged.pop() == Some('2') { '3' } else { '2' };
    forged.push(last);
    for method in ["GET", "POST"] {
        assert_eq!(http(method, &forged).await.0, 404, "{method}");
    }
    for _ in 0..2 {
        assert_eq!(http("POST", &link).await.0, 303);
    }
    let (_, page) = http("GET", &link).await;
    assert!(page.contains("确认收到（点链接）") && !page.contains("<button"), "{page}");
    let calls = gong(site, &["calls", about, "--json"]);
    assert_eq!((calls.code, &calls.json()["confirmed"]), (Some(4), &1.into()));
}

fn reply_url(app: &App, from: &str, text: &str) -> String {
    format!("{}/callbacks/sms/reply?from={from}&text={text}&token=token", app.config.public_url())
}

async fn confirm_by_reply(app: &App) {
    let url = reply_url(app, "%2B8613911110003", "1");
    assert_eq!(http("GET", &url.replace("token=token", "token=x")).await.0, 401);
    assert_eq!(http("GET", &url).await.0, 200);
    // A stranger's "1" and "TD", and a cry for help.
    for (from, text) in [("13900000000", "1"), ("13900000000", "TD"), ("13900000001", "%E6%95%91%E5%91%BD")] {
        assert_eq!(http("GET", &reply_url(app, from, text)).await.0, 200);
    }
    let kept: Vec<_> = app.store.count_replies().await.unwrap().into_iter().map(|r| (r.meaning, r.n)).collect();
    assert_eq!(kept, [("confirm".to_owned(), 1), ("opt_out".to_owned(), 1), ("other".to_owned(), 2)]);
    let out = OptOut { kind: AddressKind::Phone, value: "13900000000".into(), item_kind: EVERY_KIND.into() };
    assert_eq!(app.store.add_opt_outs(&[out]).await.unwrap(), 0, "recorded already");
}

/// Three villages confirmed, each in its way; one never, and it is for the telephone.
fn tells_the_truth(site: &Site, about: &str) {
    let run = gong(site, &["calls", about, "--json"]);
    assert_eq!(run.code, Some(4), "{}", run.stderr);
    let calls = run.json();
    assert_eq!((&calls["confirmed"], &calls["without_officer"]), (&3.into(), &1.into()), "{calls}");
    let row = |name: &str| calls["rows"].as_array().unwrap().iter().find(|r| r["village"] == name).cloned().unwrap();
    for (village, how) in [("城郊村", "link"), ("北山村", "reply"), ("安家河村", "telephone")] {
        assert_eq!(row(village)["confirmed"]["how"], how, "{village}");
    }
    let open = row("南溪村");
    assert_eq!(open["asked"].as_array().unwrap().len(), 2, "{open}");
    assert!(open["confirmed"].is_null() && open["next"].is_null(), "{open}");
    assert!(!run.stdout.contains("13911110004") && !run.stdout.contains("赵六"), "masked: {}", run.stdout);
    let table = gong(site, &["calls", about]);
    assert!(table.stdout.contains("电话联系") && table.stdout.contains("未确认 1"), "{}", table.stdout);
    let sheet = gong(site, &["calls", about, "--open", "--csv", "-"]);
    assert_eq!(sheet.stdout.lines().count(), 2, "{}", sheet.stdout);

    let report = gong(site, &["report", about]).ok().stdout;
    for part in [
        "关于《暴雨红色预警》发布情况的报告",
        "应叫应 4 个村，已确认 3 个",
        "南溪镇南溪村：信息员 钱* 139****0005",
        "须电话联系",
    ] {
        assert!(report.contains(part), "{part}\n{report}");
    }
    assert!(!report.contains("镇城郊村"), "{report}");
    gong(site, &["report", about, "--out", "report.md"]).ok();
    let markdown = std::fs::read_to_string(site.dir.path().join("report.md")).unwrap();
    assert!(markdown.starts_with("# 关于《暴雨红色预警》"), "{markdown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_is_grave_calls_and_a_drill_says_that_it_is_one() {
    let texts = Texts::start().await;
    let mut site = Site::new().await.with_kannel(texts.addr, "rate = 500, evidence = \"accept_only\"");
    let app = site.open().await;
    site.settle(&app, 20).await;
    let (alert, notice) = (site.approve(&app, ALERT).await, site.approve(&app, NOTICE).await);
    let send = |args: &[&str]| {
        let run = gong(&site, &[&["send", "--to", "全部", "--plan", "sms", "--yes", "--json"], args].concat()).ok();
        (run.json()["call"].clone(), run.stderr)
    };
    let (call, said) = send(&[&alert]);
    assert!(call.is_null() && said.contains("没有登记值班负责人"), "{said}");
    officers(&site, &app).await;
    assert!(send(&[&notice]).0.is_null(), "a notice calls nobody");
    assert!(send(&[&alert, "--mode", "dry"]).0.is_null());
    assert!(send(&[&alert, "--no-call", "已电话通知"]).0.is_null());
    let log = app.store.audit_tail(20).await.unwrap();
    assert!(log.iter().any(|entry| entry.detail.contains("已电话通知")), "the reason is on record");
    let (call, _) = send(&[&alert, "--mode", "drill"]);
    let serving = site.serve(&app).await;
    until("the officers are asked", SOON, async || links(&texts).len() == 3).await;
    let marked =
        texts.all().into_iter().filter(|(to, _)| to.starts_with("1391111")).all(|(_, t)| t.contains("【演练】"));
    assert!(marked, "{:?}", texts.all().len());
    let about = app.store.called_about(&app.store.dispatch(&call.to_string()).await.unwrap()).await.unwrap();
    assert_eq!(about.mode.name(), "drill");
    // It may have finished already.
    let _ = app.store.steer_dispatch(about.no, "cancelled", "李四").await;
    let (_, link) = links(&texts).remove(0);
    let (status, page) = http("GET", &link).await;
    assert!(status == 200 && page.contains("演练"), "{page}");
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_by_hand_repeat_for_those_who_have_not_confirmed() {
    let texts = Texts::start().await;
    let mut site = Site::new().await.with_kannel(texts.addr, "rate = 500, evidence = \"accept_only\"");
    let app = site.open().await;
    site.settle(&app, 20).await;
    officers(&site, &app).await;
    let notice = site.approve(&app, NOTICE).await;
    let about = site.send(&app, &notice, &wish("全部", "sms")).await;
    let serving = site.serve(&app).await;
    let done = async || app.store.dispatch(&about.id).await.unwrap().phase == "done";
    until("the notice is planned", Duration::from_mins(1), done).await;
    gong(&site, &["confirm", &about.id, "--region", "城郊村", "--by", "other"]).ok();
    gong(&site, &["call", &about.id]).ok();
    until("two villages are asked", SOON, async || links(&texts).len() == 2).await;
    gong(&site, &["call", &about.id]).ok();
    until("and again", SOON, async || links(&texts).len() == 4).await;
    let asked: Vec<String> = links(&texts).into_iter().map(|(to, _)| to).collect();
    assert_eq!(asked, ["13911110003", "13911110003", "13911110004", "13911110004"]);
    serving.stop().await;
}
