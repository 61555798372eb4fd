//! What follows an item: lifts and corrections; and what only looks like one: drills,
//! dry runs, texts to the operator's own phone.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use gong::app::App;
use gong::app::prepare::Wish;
use gong::domain::delivery::State;
use gong::loopback::{Behaviour, Span};
use gong::store::StoreError;
use gong::store::dispatches::{Dispatch, Mode};

use crate::ledger::Ledger;
use crate::rig::{self, SOON, Texts, delivery_of, until};
use crate::site::{ALERT, NOTICE, Site, finished, gateway, in_state, wish};
use crate::support::wait_until;

fn follow(relation: &str, item: &str) -> String {
    NOTICE.replace("phone =", &format!("{relation} = \"{item}\"\nphone ="))
}

fn by(plan: &str) -> Wish {
    Wish { plan: Some(plan.to_owned()), ..Wish::default() }
}

/// The addresses of deliveries.
async fn targets(site: &Site) -> Vec<(i64, i64, i64)> {
    let ledger = Ledger::open(&site.database()).await;
    let rows = ledger.pairs("SELECT dispatch_no, ordinal, target FROM deliveries").await;
    ledger.close().await;
    rows
}

async fn sent_to(site: &Site, dispatch: &Dispatch) -> BTreeSet<i64> {
    targets(site).await.into_iter().filter(|(d, ..)| *d == dispatch.no).map(|(_, _, target)| target).collect()
}

fn is_refusal(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<StoreError>(), Some(StoreError::Refused(_)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_correction_goes_to_those_who_were_told_and_to_nobody_else() {
    // Some are refused for good, of some nobody hears whether they were taken.
    let behaviour = Behaviour { permanent: 0.2, lost_answer: 0.3, no_receipt: 0.3, ..Behaviour::default() };
    let gateway = gateway(Behaviour { receipt_delay: Span::fixed(100), ..behaviour }).await;
    let limits = "rate = 1000, in_flight = 16, receipt_wait = \"1500ms\"";
    let mut site = Site::new().await.with_kannel(gateway.addr, limits);
    let app = site.open().await;
    site.settle(&app, 200).await;
    let item = site.approve(&app, NOTICE).await;
    let serving = site.serve(&app).await;
    let first = site.send(&app, &item, &wish("region:532532101000", "sms")).await;
    let first = finished(&app, first.no, SOON).await;
    for state in [State::Delivered, State::Unknown, State::Failed] {
        assert!(in_state(&app, first.no, state).await > 0, "{state:?}");
    }
    let taken: BTreeSet<(i64, i64)> = rig::log(gateway.addr).await.iter().map(|e| delivery_of(&app, e)).collect();
    let told: BTreeSet<i64> =
        targets(&site).await.into_iter().filter(|(d, o, _)| taken.contains(&(*d, *o))).map(|(.., t)| t).collect();

    let mut joined = String::from("外部编号,姓名,手机,常住地\n");
    for i in 0..20 {
        writeln!(joined, "new{i},新居民{i},1391{i:07},532532101200").unwrap();
    }
    assert_eq!(rig::import_people(&app, site.dir.path(), &joined).await.added, 20);
    gateway.behave(Behaviour { receipt_delay: Span::fixed(20), ..Behaviour::default() }).unwrap();
    let correction = site.approve(&app, &follow("corrects", &item)).await;
    let refused = app.prepare(&correction, &wish("all", "sms"), "李四").await.err().unwrap();
    assert!(is_refusal(&refused) && refused.to_string().contains("--to"), "{refused}");
    let second = site.send(&app, &correction, &by("sms")).await;
    let second = finished(&app, second.no, SOON).await;
    assert_eq!(sent_to(&site, &second).await, told);
    assert!(told.len() < usize::try_from(first.deliveries).unwrap());

    // The lift of the correction goes to whoever was told of either.
    let lift = site.approve(&app, &follow("lifts", &correction)).await;
    let third = site.send(&app, &lift, &by("sms")).await;
    let third = finished(&app, third.no, SOON).await;
    assert_eq!(sent_to(&site, &third).await, told);
    serving.stop().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lift_stops_what_it_lifts_and_follows_it_to_the_last() {
    let behaviour =
        Behaviour { latency: Span { min: 20, max: 60 }, receipt_delay: Span::fixed(20), ..Behaviour::default() };
    let gateway = gateway(behaviour).await;
    let mut site = Site::new().await.with_kannel(gateway.addr, "rate = 60, in_flight = 16");
    let app = site.open().await;
    site.settle(&app, 600).await;
    let item = site.approve(&app, ALERT).await;
    let lift = site.approve(&app, &follow("lifts", &item)).await;
    let serving = site.serve(&app).await;
    let alert = site.send(&app, &item, &wish("all", "sms")).await;
    until("under way", SOON, async || gateway.stats().messages >= 60).await;
    let before = gateway.stats().messages;
    let lifted = app.prepare(&lift, &by("sms"), "李四").await.unwrap();
    let lifted = app.store.create_dispatch(&lifted.new).await.unwrap();
    let alert = finished(&app, alert.no, SOON).await;
    assert_eq!(alert.state, "cancelled");
    let lifted = finished(&app, lifted.no, SOON).await;
    let log = rig::log(gateway.addr).await;
    let taken: BTreeSet<(i64, i64)> =
        log.iter().map(|e| delivery_of(&app, e)).filter(|(d, _)| *d == alert.no).collect();
    assert!(taken.len() < usize::try_from(before).unwrap() + 60, "{} of the alert after the lift", taken.len());
    let told: BTreeSet<i64> =
        targets(&site).await.into_iter().filter(|(d, o, _)| taken.contains(&(*d, *o))).map(|(.., t)| t).collect();
    let heard = sent_to(&site, &lifted).await;
    let missed: Vec<_> = told.difference(&heard).collect();
    assert!(missed.is_empty(), "{} heard of the alert and not of its end", missed.len());
    // Whoever was in the window counts as told.
    assert!(heard.len() - told.len() <= 60, "{} of {}", heard.len(), told.len());
    serving.stop().await;
    gateway.stop().await;
}

async fn with_mode(app: &App, site: &Site, item: &str, mode: Mode) -> Dispatch {
    site.send(app, item, &Wish { mode: Some(mode), ..wish("all", "sms") }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_says_so_and_a_dry_run_says_nothing() {
    let texts = Texts::start().await;
    let mut site = Site::new().await.with_kannel(texts.addr, "rate = 1000, evidence = \"accept_only\"");
    let app = site.open().await;
    site.settle(&app, 50).await;
    let item = site.approve(&app, ALERT).await;
    let serving = site.serve(&app).await;
    let dry = with_mode(&app, &site, &item, Mode::Dry).await;
    let dry = finished(&app, dry.no, SOON).await;
    assert_eq!((dry.mode, dry.members, dry.deliveries), (Mode::Dry, 50, 45));
    assert!(texts.all().is_empty(), "a dry run sent something");
    let drill = with_mode(&app, &site, &item, Mode::Drill).await;
    let drill = finished(&app, drill.no, SOON).await;
    assert_eq!(drill.mode, Mode::Drill);
    let sent = texts.all();
    assert_eq!(sent.len(), 45);
    assert!(sent.iter().all(|(_, text)| text.starts_with("【河口应急】【演练】")), "{}", sent[0].1);
    // The lift of a drill follows the drill; there was no live alert.
    let lift = site.approve(&app, &follow("lifts", &item)).await;
    assert!(is_refusal(&app.prepare(&lift, &by("sms"), "李四").await.err().unwrap()));
    let lifted = app.prepare(&lift, &Wish { mode: Some(Mode::Drill), ..by("sms") }, "李四").await.unwrap();
    assert_eq!(lifted.preview.members, 45);
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_keep_within_what_was_approved() {
    let texts = Texts::start().await;
    let addr = texts.addr;
    tokio::task::spawn_blocking(move || {
        let gong = rig::town(20, addr);
        let scoped = "---\n类型: 通知\n标题: 停水通知\n电话: 0873-5550000\n公开范围: 区域:河口镇\n---\n明日停水。\n";
        let no = rig::approved(&gong, scoped);
        let run = |args: &[&str]| gong.run([&["send", &no, "--as", "李四", "--yes"], args].concat());
        let beyond = run(&["--to", "全部"]);
        assert_eq!(beyond.code, Some(3), "{beyond:?}");
        assert!(beyond.stderr.contains("20 人不在本事项允许的公开范围内"), "{}", beyond.stderr);
        let empty = run(&["--to", "区域:河口镇 且 年龄>=150"]);
        assert_eq!(empty.code, Some(3), "{empty:?}");
        assert!(empty.stderr.contains("发布对象是空的"), "{}", empty.stderr);
        let within = run(&["--to", "区域:河口镇", "--json"]).ok().json();
        assert_eq!(within["mode"], "live");

        // Three do not want notices; an alert they get all the same.
        rig::write(&gong, "refusals.csv", "手机\n13900000001\n13900000002\n13900000003\n");
        gong.run(["import", "optouts", "refusals.csv", "--as", "张三"]).ok();
        let plan = gong.run(["plan", &no, "--to", "区域:河口镇", "--as", "李四", "--json"]).ok().json();
        assert_eq!((&plan["channels"][0]["deliveries"], &plan["channels"][0]["suppressed"]), (&20.into(), &3.into()));
    })
    .await
    .unwrap();
    assert!(texts.all().is_empty(), "no engine ran");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_honoured_by_a_notice_and_not_by_an_alert() {
    let texts = Texts::start().await;
    let limits = "rate = 1000, evidence = \"accept_only\"";
    let mut site = Site::new().await.with_kannel(texts.addr, limits);
    let app = site.open().await;
    site.settle(&app, 50).await;
    let path = site.dir.path().join("refusals.csv");
    std::fs::write(&path, "手机\n13900000001\n13900000002\n").unwrap();
    let mut table = gong::import::optouts::open(&path, &gong::import::table::Options::default()).unwrap();
    gong::import::optouts::import(&app.store, &mut table, &gong::import::Run::default(), false, &mut |_| {})
        .await
        .unwrap();
    let serving = site.serve(&app).await;
    let notice = site.approve(&app, NOTICE).await;
    let notice = site.send(&app, &notice, &wish("all", "sms")).await;
    let notice = finished(&app, notice.no, SOON).await;
    assert_eq!(in_state(&app, notice.no, State::Suppressed).await, 2);
    let sent = texts.all();
    assert_eq!(sent.len(), 43);
    assert!(sent.iter().all(|(to, _)| to != "13900000001" && to != "13900000002"));
    let alert = site.approve(&app, ALERT).await;
    let alert = site.send(&app, &alert, &wish("all", "sms")).await;
    finished(&app, alert.no, SOON).await;
    assert_eq!(texts.all().len(), 43 + 45);
    serving.stop().await;
}

/// What is previewed is what goes out, also when a template changed while the engine ran.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_template_needs_no_restart() {
    let texts = Texts::start().await;
    let mut site = Site::new().await.with_kannel(texts.addr, "rate = 2000, evidence = \"accept_only\"");
    let app = site.open().await;
    site.settle(&app, 10).await;
    let serving = site.serve(&app).await;
    let first = site.approve(&app, NOTICE).await;
    let first = site.send(&app, &first, &wish("all", "sms")).await;
    finished(&app, first.no, SOON).await;
    let before = texts.all().len();
    std::fs::create_dir_all(site.dir.path().join("templates/sms")).unwrap();
    std::fs::write(site.dir.path().join("templates/sms/notice.hbs"), "新写法：{{item.title}}").unwrap();
    // A command that starts now previews the new wording.
    let beside = site.open().await;
    let second = site.approve(&beside, NOTICE).await;
    let prepared = beside.prepare(&second, &wish("all", "sms"), "李四").await.unwrap();
    assert!(prepared.preview.sample.contains("新写法：停水通知"), "{}", prepared.preview.sample);
    let second = beside.store.create_dispatch(&prepared.new).await.unwrap();
    finished(&app, second.no, SOON).await;
    let new = texts.all().iter().filter(|(_, text)| *text == prepared.preview.sample).count();
    assert_eq!((new, texts.all().len()), (before, 2 * before));
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_goes_to_the_named_number_alone() {
    let texts = Texts::start().await;
    let addr = texts.addr;
    let report = tokio::task::spawn_blocking(move || {
        let gong = rig::town(5, addr);
        // A post of an account, where nobody listens.
        std::fs::create_dir_all(gong.dir().join("channels")).unwrap();
        rig::write(
            &gong,
            "channels/post.toml",
            "kind = \"media\"\n[request]\nurl = \"http://127.0.0.1:9/\"\n[[answer]]\nclass = \"accepted\"\n",
        );
        let config = std::fs::read_to_string(gong.dir().join("gong.toml")).unwrap();
        rig::write(&gong, "gong.toml", &format!("{config}\n[channels.robot]\ngateway = \"post\"\n"));
        let no = rig::approved(&gong, "---\n类型: 通知\n标题: 停水通知\n电话: 0873-5550000\n---\n明日停水。\n");
        let sent = gong.run(["send", &no, "--test-to", "13912345678", "--as", "李四", "--json"]).ok().json();
        assert_eq!((&sent["mode"], &sent["members"], &sent["deliveries"]), (&"test".into(), &0.into(), &1.into()));
        let _engine = gong.spawn(["serve", "--listen", "127.0.0.1:0"], "serve.log");
        let report = || gong.run(["status", &sent["no"].to_string(), "--json"]).ok().json();
        assert!(wait_until(Duration::from_secs(20), || report()["finished"] == true), "{}", report());
        let wrong = gong.run(["send", &no, "--test-to", "12345", "--as", "李四"]);
        assert_eq!(wrong.code, Some(3));
        assert!(wrong.stderr.contains("不是手机号码"), "{}", wrong.stderr);
        let wrong = gong.run(["send", &no, "--to", "全部", "--plan", "smz", "--yes", "--as", "李四"]);
        assert_eq!(wrong.code, Some(3));
        assert!(wrong.stderr.contains("没有名为“smz”的渠道"), "{}", wrong.stderr);
        // What goes to no number and no mailbox has no text to try.
        for (plan, to, word) in [
            ("visit", "13912345678", "没有可测试的文本"),
            ("visit > 1h > sms", "13912345678", "没有可测试的文本"),
            ("robot", "13912345678", "没有可测试的文本"),
            ("sms", "a@example.com", "不发电子邮箱"),
            ("sms", "a@", "不是电子邮箱"),
        ] {
            let run = gong.run(["send", &no, "--test-to", to, "--plan", plan, "--as", "李四"]);
            assert_eq!(run.code, Some(3), "{plan}: {run:?}");
            assert!(run.stderr.contains(word), "{plan}: {}", run.stderr);
        }
        report()
    })
    .await
    .unwrap();
    assert_eq!(report["states"], serde_json::json!({ "sent": 1 }));
    let sent = texts.all();
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert_eq!(sent[0].0, "13912345678");
    assert!(sent[0].1.starts_with("【河口应急】【测试】"), "{}", sent[0].1);
}
