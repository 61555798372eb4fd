//! Posts to chat robots and a webhook, from an approved item to the robots' own codes,
//! over real sockets: every signature, every vendor's refusals, drills, lifts, lengths.

use std::net::SocketAddr;
use std::time::Duration;

use gong::app::App;
use gong::app::prepare::Wish;
use gong::channel::Class;
use gong::domain::delivery::State;
use gong::domain::reach::Proof;
use gong::loopback::{Behaviour, Loopback, MediaSetup, Running};
use gong::store::dispatches::Mode;
use serde_json::Value;

use crate::rig::{SOON, until};
use crate::site::{ALERT, NOTICE, Serving, Site, credentials, finished, in_state, wish};
use crate::support::{Gong, free_port, wait_until};

const ALL: &str = "wecom,dingtalk,feishu,webhook";
const QUICK: &str = "[retry]\ninitial_ms = 20\nmax_ms = 200\nsettle_ms = 100\n";

fn setup() -> MediaSetup {
    MediaSetup { key: "robot token".into(), secret: "SEC+/ signs=".into(), dir: None }
}

async fn robots(behaviour: Behaviour) -> Running {
    let loopback = Loopback { media: Some(setup()), ..Loopback::new(credentials(), behaviour) };
    loopback.start("127.0.0.1:0".parse().unwrap()).await.unwrap()
}

/// A site with a channel to each robot and to the webhook at `hook`.
async fn site(at: SocketAddr, hook: &str, limits: &str) -> Site {
    let site = Site::new().await;
    let data = site.dir.path().join("data");
    for (name, secret) in [("robot", setup().key), ("sign", setup().secret), ("whsec", setup().whsec())] {
        std::fs::write(data.join(name), secret).unwrap();
    }
    let limits = format!("limits = {{ rate = 200 {limits} }}");
    site.with(QUICK).with(&format!(
        "[channels.wecom]\ngateway = \"wecom\"\nvars = {{ url = \"http://{at}\" }}\nsecrets = {{ key = \"file:data/robot\" }}\n{limits}\n\
         [channels.dingtalk]\ngateway = \"dingtalk\"\nvars = {{ url = \"http://{at}\" }}\n\
         secrets = {{ token = \"file:data/robot\", secret = \"file:data/sign\" }}\n{limits}\n\
         [channels.feishu]\ngateway = \"feishu\"\nvars = {{ url = \"http://{at}\" }}\n\
         secrets = {{ token = \"file:data/robot\", secret = \"file:data/sign\" }}\n{limits}\n\
         [channels.webhook]\ngateway = \"webhook\"\nvars = {{ url = \"http://{at}{hook}\" }}\nsecrets = {{ key = \"file:data/whsec\" }}\n{limits}"
    ))
}

/// Robots without trouble, a site that posts to them and serves, and `people` in it.
async fn quiet_site(people: usize) -> (Running, Site, App, Serving) {
    let robots = robots(Behaviour::default()).await;
    let (site, app, serving) = served(site(robots.addr, "/webhook", "").await, people).await;
    (robots, site, app, serving)
}

async fn served(mut site: Site, people: usize) -> (Site, App, Serving) {
    let app = site.open().await;
    site.settle(&app, people).await;
    let serving = site.serve(&app).await;
    (site, app, serving)
}

fn posts(robots: &Running) -> Vec<Value> {
    serde_json::from_str(&robots.posts()).unwrap()
}

/// The texts that stand in each account, in their order.
fn texts(robots: &Running, vendor: &str) -> Vec<String> {
    posts(robots).iter().filter(|p| p["vendor"] == vendor).map(|p| p["text"].as_str().unwrap().to_owned()).collect()
}

fn follow(relation: &str, item: &str) -> String {
    ALERT.replace("phone =", &format!("{relation} = \"{item}\"\nphone ="))
}

async fn codes(app: &App, no: i64) -> Vec<(String, i32, String)> {
    let held = app.store.held_posts(no).await.unwrap();
    held.into_iter().map(|h| (h.channel, h.class, h.code)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_post_an_account_and_nobody_counts_as_reached() {
    let (robots, site, app, serving) = quiet_site(40).await;
    let item = site.approve(&app, ALERT).await;
    let prepared = app.prepare(&item, &wish("all", ALL), "李四").await.unwrap();
    assert_eq!((prepared.preview.deliveries, prepared.preview.no_address), (4, 0));
    for channel in &prepared.preview.channels {
        assert_eq!((channel.target, channel.deliveries, channel.addressable, channel.cut), ("account", 1, 0, false));
        assert!(channel.text.contains("暴雨红色预警"), "{}", channel.text);
    }
    let dispatch = app.store.create_dispatch(&prepared.new).await.unwrap();
    let done = finished(&app, dispatch.no, SOON).await;
    assert_eq!((done.members, done.deliveries), (40, 4));
    assert_eq!(in_state(&app, done.no, State::Sent).await, 4);
    for vendor in ALL.split(',') {
        let [text] = &texts(&robots, vendor)[..] else { panic!("{vendor}: {}", robots.posts()) };
        assert!(text.contains("河口县应急管理局　咨询电话：0873-5550000"), "{vendor}: {text}");
    }
    let told_all: Vec<bool> = posts(&robots).iter().map(|p| p["at_all"] == true).collect();
    assert_eq!(told_all.iter().filter(|all| **all).count(), 3, "a red alert tells everybody in the three chats");
    let hook = posts(&robots).into_iter().find(|p| p["vendor"] == "webhook").unwrap();
    assert_eq!(hook["title"], "暴雨红色预警");
    assert!(hook["id"].as_str().unwrap().parse::<uuid::Uuid>().is_ok(), "{hook}");

    let report = app.store.reach(done.no, &app.channel_kinds().await.unwrap(), app.store.now()).await.unwrap();
    assert_eq!((report.people.audience, report.people.handed_over, report.people.reached), (40, 0, 0));
    assert_eq!(report.by_channel.len(), 4);
    assert!(report.by_channel.iter().all(|c| (c.evidence, c.handed_over, c.reached) == (Proof::Published, 1, 0)));
    assert!(codes(&app, done.no).await.is_empty());
    serving.stop().await;
    robots.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lift_is_posted_where_its_alert_was() {
    let (robots, site, app, serving) = quiet_site(40).await;
    let item = site.approve(&app, ALERT).await;
    let dispatch = site.send(&app, &item, &wish("all", "wecom,feishu")).await;
    finished(&app, dispatch.no, SOON).await;
    let lift = site.approve(&app, &follow("lifts", &item)).await;
    // Whoever read the post may be any of them: nobody was told by name.
    let by = |plan: &str| Wish { plan: Some(plan.to_owned()), ..Wish::default() };
    let prepared = app.prepare(&lift, &by("wecom"), "李四").await.unwrap();
    assert_eq!(prepared.preview.members, 40);
    assert_eq!(prepared.preview.not_posted, ["feishu"]);
    let dispatch = site.send(&app, &lift, &by("wecom,feishu")).await;
    let done = finished(&app, dispatch.no, SOON).await;
    assert_eq!(in_state(&app, done.no, State::Sent).await, 2);
    for vendor in ["wecom", "feishu"] {
        let texts = texts(&robots, vendor);
        assert!(texts.len() == 2 && texts[1].contains("解除：暴雨红色预警"), "{texts:?}");
    }
    serving.stop().await;
    robots.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_says_so_and_a_dry_run_posts_nothing() {
    let (robots, site, app, serving) = quiet_site(40).await;
    let item = site.approve(&app, ALERT).await;
    for mode in [Mode::Dry, Mode::Drill] {
        // In a dry run the rehearsal stands in for four accounts and for the phones.
        let plan = if mode == Mode::Dry { "rehearsal,wecom,dingtalk,feishu,webhook" } else { ALL };
        let wish = Wish { mode: Some(mode), ..wish("all", plan) };
        let prepared = app.prepare(&item, &wish, "李四").await.unwrap();
        let dispatch = app.store.create_dispatch(&prepared.new).await.unwrap();
        let done = finished(&app, dispatch.no, SOON).await;
        assert_eq!(done.deliveries, prepared.preview.deliveries, "{mode:?}");
        assert_eq!(in_state(&app, done.no, State::Sent).await, done.deliveries, "{mode:?}");
        assert_eq!(posts(&robots).len(), if mode == Mode::Dry { 0 } else { 4 });
    }
    for vendor in ["wecom", "dingtalk", "webhook"] {
        assert!(texts(&robots, vendor)[0].starts_with("【演练】"), "{vendor}");
    }
    serving.stop().await;
    robots.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_stops_the_channel_and_is_named() {
    let robots = robots(Behaviour::default()).await;
    let site = site(robots.addr, "/webhook", "").await;
    let data = site.dir.path().join("data");
    std::fs::write(data.join("sign"), "not the secret").unwrap();
    std::fs::write(data.join("whsec"), "whsec_bm90IHRoZSBzZWNyZXQ=").unwrap();
    let (site, app, serving) = served(site, 10).await;
    let item = site.approve(&app, ALERT).await;
    let signed = site.send(&app, &item, &wish("all", "dingtalk,feishu,webhook")).await;
    until("three refusals", SOON, async || codes(&app, signed.no).await.len() == 3).await;
    let refused = codes(&app, signed.no).await;
    assert!(refused.iter().all(|(_, class, _)| *class == Class::Misconfigured as i32), "{refused:?}");
    let words = ["310000 sign not match", "19021 sign match fail", "HTTP 401"];
    assert!(refused.iter().zip(words).all(|((.., code), word)| code.contains(word)), "{refused:?}");
    assert_eq!(in_state(&app, signed.no, State::Retry).await, 3, "they wait for whoever mends it");
    assert_eq!((posts(&robots).len(), robots.stats().refused), (0, 3));
    serving.stop().await;
    robots.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_is_named_too() {
    let robots = robots(Behaviour::default()).await;
    let site = site(robots.addr, "/webhook/gone", "").await;
    std::fs::write(site.dir.path().join("data/robot"), "another robot's").unwrap();
    let (site, app, serving) = served(site, 10).await;
    let item = site.approve(&app, ALERT).await;
    let dispatch = site.send(&app, &item, &wish("all", ALL)).await;
    until("four refusals", SOON, async || codes(&app, dispatch.no).await.len() == 4).await;
    let refused = codes(&app, dispatch.no).await;
    let wrong = Class::Misconfigured as i32;
    let wanted = [
        ("wecom", wrong, "93000"),
        ("dingtalk", wrong, "300005"),
        ("feishu", wrong, "19001"),
        ("webhook", Class::Withdrawn as i32, "HTTP 410: the receiver has disabled this webhook"),
    ];
    for ((channel, class, code), (name, of_class, word)) in refused.iter().zip(wanted) {
        assert!(channel == name && *class == of_class && code.contains(word), "{refused:?}");
    }
    assert_eq!(in_state(&app, dispatch.no, State::Failed).await, 0, "a webhook taken away waits for its operator");
    serving.stop().await;
    robots.stop().await;
}

/// All posts meet `trouble`, which then ends; returns the classes they met first.
async fn through(trouble: Behaviour, source: &str) -> (Site, App, i64, Running, Vec<(String, i32, String)>) {
    let robots = robots(trouble).await;
    let site = site(robots.addr, "/webhook", ", timeout = \"5s\"").await;
    let (site, app, serving) = served(site, 10).await;
    let item = site.approve(&app, source).await;
    let dispatch = site.send(&app, &item, &wish("all", ALL)).await;
    until("four answers", SOON, async || codes(&app, dispatch.no).await.len() == 4).await;
    let met = codes(&app, dispatch.no).await;
    robots.behave(Behaviour { dedupe: true, ..Behaviour::default() }).unwrap();
    if source == ALERT {
        let done = finished(&app, dispatch.no, SOON).await;
        assert_eq!(in_state(&app, done.no, State::Sent).await, 4, "{met:?}");
    } else {
        // The webhook takes a repeat for what it is; the robots' posts wait for no receipt.
        until("the webhook's repeat", SOON, async || in_state(&app, dispatch.no, State::Sent).await == 1).await;
    }
    serving.stop().await;
    (site, app, dispatch.no, robots, met)
}

fn classes(met: &[(String, i32, String)]) -> Vec<i32> {
    met.iter().map(|(_, class, _)| *class).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_for_now_goes_later() {
    let (.., robots, met) = through(Behaviour { throttle: 1.0, retry_after: 0, ..Behaviour::default() }, ALERT).await;
    assert_eq!(classes(&met), [Class::Throttled as i32; 4], "{met:?}");
    assert!(
        met.iter().zip(["45009", "130101", "11232", "HTTP 429"]).all(|((.., code), w)| code.contains(w)),
        "{met:?}"
    );
    assert_eq!(posts(&robots).len(), 4);
    let (.., robots, met) = through(Behaviour { temporary: 1.0, ..Behaviour::default() }, ALERT).await;
    assert_eq!(classes(&met), [Class::Temporary as i32; 4], "{met:?}");
    assert_eq!(posts(&robots).len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_repeated_for_an_alert_and_never_for_a_notice() {
    for source in [ALERT, NOTICE] {
        let (site, app, no, robots, met) =
            through(Behaviour { lost_answer: 1.0, dedupe: true, ..Behaviour::default() }, source).await;
        assert_eq!(classes(&met), [Class::Unknown as i32; 4], "{met:?}");
        // The webhook knows the repeat by its id; a robot posts it again, which an alert is worth.
        let hooks: Vec<Value> = posts(&robots).into_iter().filter(|p| p["vendor"] == "webhook").collect();
        assert_eq!(hooks.len(), 1);
        if source == NOTICE {
            assert_eq!(texts(&robots, "wecom").len(), 1);
            assert_eq!(in_state(&app, no, State::Uncertain).await, 3);
        }
        drop(site);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_vendors_pace_holds_posts_back_and_loses_none() {
    let robots = robots(Behaviour { retry_after: 0, ..Behaviour::default() }).await;
    let site = site(robots.addr, "/webhook", ", in_flight = 8").await;
    let (site, app, serving) = served(site, 10).await;
    let mut sent = Vec::new();
    for n in 0..8 {
        let item = site.approve(&app, &ALERT.replace("暴雨红色预警", &format!("暴雨红色预警{n}"))).await;
        sent.push(site.send(&app, &item, &wish("all", "feishu")).await.no);
    }
    for no in sent {
        assert_eq!(in_state(&app, finished(&app, no, SOON).await.no, State::Sent).await, 1);
    }
    assert_eq!(texts(&robots, "feishu").len(), 8);
    serving.stop().await;
    robots.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_post_is_cut_where_declared_and_else_refused() {
    let (robots, site, app, serving) = quiet_site(10).await;
    let item = site.approve(&app, &NOTICE.replace("明日", &"明日停水，请各户提前储水。".repeat(100))).await;
    let prepared = app.prepare(&item, &wish("all", "wecom,dingtalk"), "李四").await.unwrap();
    assert_eq!(prepared.preview.channels.iter().map(|c| c.cut).collect::<Vec<_>>(), [true, false]);
    let dispatch = app.store.create_dispatch(&prepared.new).await.unwrap();
    finished(&app, dispatch.no, SOON).await;
    let [text] = &texts(&robots, "wecom")[..] else { panic!("{}", robots.posts()) };
    assert_eq!(*text, prepared.preview.channels[0].text, "what was planned is what was posted");
    assert!(text.len() <= 2_048 && text.contains("储水。……（未完，"), "{text}");
    assert!(text.ends_with("咨询电话：0873-5550000"), "{text}");
    serving.stop().await;
    drop(app);
    let path = site.write_config();
    let config = std::fs::read_to_string(&path).unwrap().replacen("rate = 200 ", "rate = 200, read_on = \"\" ", 1);
    std::fs::write(&path, config).unwrap();
    let app = App::open(gong::config::Config::load(&path).unwrap()).await.unwrap();
    let refused = app.prepare(&item, &wish("all", "wecom"), "李四").await.err().unwrap().to_string();
    assert!(refused.contains("2048") && refused.contains("read_on"), "{refused}");
    robots.stop().await;
}

#[test]
fn the_program_posts_through_its_own_robots() {
    let gong = Gong::new();
    gong.run([
        "init",
        "--name",
        "河口县应急管理局",
        "--phone",
        "0873-5550000",
        "--operator",
        "张三:author,admin",
        "--operator",
        "李四:reviewer,dispatcher",
    ])
    .ok();
    let listen = format!("127.0.0.1:{}", free_port());
    let block = ["loopback", "media", "--listen", &listen, "--print-channel", "--secrets-dir", "data"];
    let config = gong.dir().join("gong.toml");
    let text = std::fs::read_to_string(&config).unwrap() + &gong.run(block).ok().stdout;
    std::fs::write(&config, text).unwrap();
    let robots = gong.spawn(["loopback", "media", "--listen", &listen, "--dir", "posts"], "robots.log");
    assert!(wait_until(Duration::from_secs(20), || std::net::TcpStream::connect(&listen).is_ok()));
    crate::rig::write(&gong, "regions.csv", crate::rig::REGIONS);
    crate::rig::write(&gong, "people.csv", "编号,姓名,手机,常住地\np1,居民,13900000001,城郊村\n");
    gong.run(["import", "regions", "regions.csv", "--as", "张三"]).ok();
    gong.run(["import", "recipients", "people.csv", "--as", "张三"]).ok();
    let no = crate::rig::approved(&gong, ALERT);
    let plan = gong.run(["plan", &no, "--to", "all", "--plan", ALL]).ok().stdout;
    assert!(plan.contains("只公开发布") && plan.contains("1 篇"), "{plan}");
    gong.run(["send", &no, "--to", "all", "--plan", ALL, "--as", "李四", "--yes"]).ok();
    gong.run(["serve", "--listen", &format!("127.0.0.1:{}", free_port()), "--until-idle"]).ok();
    let status = gong.run(["status", "1"]).ok().stdout;
    assert!(status.contains("公开发布 4/4 篇"), "{status}");
    let reach = gong.run(["reach", "1"]).ok().stdout;
    assert!(reach.contains("公开发布（篇，不计人数）") && reach.contains("没有逐人发送"), "{reach}");
    let mut files: Vec<String> = std::fs::read_dir(gong.dir().join("posts"))
        .unwrap()
        .map(|f| f.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    files.sort_by_key(|name| name.split_once('-').map(|(_, end)| end.to_owned()));
    let ends: Vec<&str> = files.iter().map(|name| name.split_once('-').unwrap().1).collect();
    assert_eq!(ends, ["dingtalk.txt", "feishu.txt", "webhook.json", "wecom.txt"]);
    drop(robots);
}
