//! Operators are told when the sending stands still: gateways that refuse, take nothing,
//! or never answer, over real sockets; and traces name deliveries, never people.

mod standing;

use std::net::SocketAddr;
use std::path::Path;

use gong::channel::{Receipt, ReceiptKey};
use gong::domain::delivery::Word;
use gong::loopback::{Behaviour, Credentials, Loopback, MediaSetup, Running};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::rig::{SOON, get, sample, until};
use crate::site::{ALERT, Site, credentials, gateway, wish};
use crate::support::free_port;

/// A channel over the Kannel format with a time-out that no test waits for.
fn channel(name: &str, at: SocketAddr) -> String {
    format!(
        "[channels.{name}]\ngateway = \"kannel\"\nsignature = \"【河口应急】\"\n\
         vars = {{ url = \"http://{at}\", username = \"gong\" }}\n\
         secrets = {{ password = \"file:data/password\", token = \"file:data/token\" }}\n\
         limits = {{ rate = 500, in_flight = 4, timeout = \"2m\" }}"
    )
}

/// Takes every connection and never says a word, until it is stopped.
async fn mute() -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            kept.push(connection);
        }
    });
    (at, task)
}

async fn robot() -> Running {
    let setup = MediaSetup { key: "robot token".into(), secret: "SEC+/ signs=".into(), dir: None };
    let loopback = Loopback { media: Some(setup), ..Loopback::new(credentials(), Behaviour::default()) };
    loopback.start("127.0.0.1:0".parse().unwrap()).await.unwrap()
}

/// A site whose alarms go to a program that keeps them and to a chat robot.
async fn site(robot: SocketAddr) -> Site {
    let site = Site::new().await;
    std::fs::write(site.dir.path().join("data/robot"), "robot token").unwrap();
    site.with(&format!(
        "[alarm]\ncommand = [\"sh\", \"-c\", \"cat >> said; echo $GONG_ALARM_KEY $GONG_ALARM_STATE >> keys\"]\n\
         channel = \"duty\"\nimmediate = \"1s\"\n\
         [channels.duty]\ngateway = \"wecom\"\nvars = {{ url = \"http://{robot}\" }}\nsecrets = {{ key = \"file:data/robot\" }}\n\
         limits = {{ rate = 100 }}"
    ))
}

fn read(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(name)).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_named_hears_of_gateways_that_take_nothing() {
    let robot = robot().await;
    let refusing = Credentials { password: "another".to_owned(), ..credentials() };
    let refusing = Loopback::new(refusing, Behaviour::default()).start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let (mute, silence) = mute().await;
    let closed: SocketAddr = format!("127.0.0.1:{}", free_port()).parse().unwrap();
    let mut site = site(robot.addr).await;
    for (name, at) in [("closed", closed), ("refusing", refusing.addr), ("mute", mute)] {
        site = site.with(&channel(name, at));
    }
    let app = site.open().await;
    site.settle(&app, 100).await;
    let serving = site.serve(&app).await;
    let item = site.approve(&app, ALERT).await;
    site.send(&app, &item, &wish("all", "closed,refusing,mute")).await;

    let folder = site.dir.path();
    let wanted = ["gateway:closed begins", "credentials:refusing begins", "lane:mute:immediate begins"];
    until("every alarm is told", SOON, async || {
        let keys = read(folder, "keys");
        wanted.iter().all(|key| keys.contains(key)) && wanted.len() <= robot.posts().matches("gong 警报").count()
    })
    .await;
    let (keys, said) = (read(folder, "keys"), read(folder, "said") + &robot.posts());
    assert!(keys.lines().count() == 3 && wanted.iter().all(|w| keys.contains(w)), "once each, one a cause: {keys}");
    assert!(said.contains("河口县应急管理局") && said.contains("gong check --connect"), "{said}");
    // Ports and seconds have digits, too.
    let has_phone = |text: &str| text.contains("13900000") || text.contains("139*");
    assert!(!has_phone(&said) && !said.contains("居民") && !said.contains("立即转移"), "{said}");

    let metrics = get(site.address(), "/metrics").await;
    for line in [
        "gong_alarms{kind=\"gateway\"} 1",
        "gong_alarms{kind=\"credentials\"} 1",
        "gong_alarms{kind=\"disk\"} 0",
        "gong_alarms_told_total{how=\"failed\"} 0",
        "gong_channel_stopped{channel=\"refusing\",why=\"misconfigured\"} 1",
        "gong_channel_stopped{channel=\"closed\",why=\"unreachable\"} 1",
        "gong_lane_leased_batches{channel=\"mute\",lane=\"immediate\"} 1",
        "gong_dispatches{lane=\"immediate\",state=\"active\"} 1",
        "gong_answers_total{channel=\"mute\",class=\"accepted\"} 0",
        "gong_store_up 1",
        "gong_leases_expired 0",
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line} is not in\n{metrics}");
    }
    assert!(!has_phone(&metrics), "{metrics}");
    // By the ways that stood at 0 from the start, and by no other.
    let told = |m: &str, how: &str| sample(m, &format!("gong_alarms_told_total{{how=\"{how}\"}}")) == Some(3.0);
    until("each is counted by its way", SOON, async || {
        let m = get(site.address(), "/metrics").await;
        told(&m, "command") && told(&m, "channel") && m.matches("gong_alarms_told_total{").count() == 3
    })
    .await;
    assert!(sample(&metrics, "gong_disk_free_bytes{under=\"database\"}").is_some_and(|free| free > 1e6), "{metrics}");
    assert!(sample(&metrics, "gong_store_size_bytes{engine=\"sqlite\"}").is_some_and(|size| size > 1e5), "{metrics}");
    // The drain hears the last answers out; this is how they come.
    silence.abort();
    serving.stop().await;
    refusing.stop().await;
    robot.stop().await;
}

/// Takes everything and never says a word of it.
fn silent() -> Behaviour {
    Behaviour { no_receipt: 1.0, disordered: 1.0, ..Behaviour::default() }
}

/// A callback address that was wrong from the first day: not one receipt ever comes. A
/// restart forgets none of it, and the first receipt ends it.
async fn nobody_ever_answers(site: Site, gateway: &Running) {
    let mut site = site.with_kannel(gateway.addr, "rate = 500").with(
        "[alarm]\ncommand = [\"sh\", \"-c\", \"echo $GONG_ALARM_KEY $GONG_ALARM_STATE >> keys\"]\nreceipts = \"4s\"",
    );
    let app = site.open().await;
    site.settle(&app, 60).await;
    let serving = site.serve(&app).await;
    let item = site.approve(&app, ALERT).await;
    site.send(&app, &item, &wish("all", "sms")).await;
    let folder = site.dir.path().to_owned();
    until("the silence is told", SOON, async || read(&folder, "keys").contains("receipts:sms begins")).await;
    let unheard = "gong_receipts_unheard_seconds{channel=\"sms\"}";
    let metrics = get(site.address(), "/metrics").await;
    assert!(sample(&metrics, unheard).is_some_and(|s| s >= 4.0), "{metrics}");
    assert_eq!(sample(&metrics, "gong_receipt_age_seconds{channel=\"sms\"}"), None, "there is no newest receipt");
    serving.stop().await;
    let sms = app.store.channel_no("sms").await.unwrap();
    let kept = app.store.silences().await.unwrap();
    assert!(kept.len() == 1 && kept[0].channel == sms && kept[0].sent >= 20, "{kept:?}");
    app.store.close().await;

    let app = site.open().await;
    let serving = site.serve(&app).await;
    let mut at_last = 0.0;
    until("the restarted engine knows of it", SOON, async || {
        at_last = sample(&get(site.address(), "/metrics").await, unheard).unwrap_or_default();
        at_last > 0.0
    })
    .await;
    #[allow(clippy::cast_precision_loss)] // far below 2^52
    let lasts = (app.store.now() - kept[0].since) as f64 / 1000.0;
    assert!(at_last > 4.0 && (lasts - 8.0..=lasts).contains(&at_last), "{at_last} of {lasts}");
    let receipt = Receipt {
        key: ReceiptKey::Gateway("of another time".to_owned()),
        word: Some(Word::Delivered),
        gone: false,
        code: String::new(),
        event_at: None,
        raw: String::new(),
    };
    app.store.record_receipts(sms, &[receipt]).await.unwrap();
    until("a receipt ends it", SOON, async || sample(&get(site.address(), "/metrics").await, unheard) == Some(0.0))
        .await;
    assert_eq!(app.store.silences().await.unwrap(), []);
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_that_never_came_are_missed_on_one_machine() {
    let gateway = gateway(silent()).await;
    nobody_ever_answers(Site::new().await, &gateway).await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_that_never_came_are_missed_on_a_server() {
    let gateway = gateway(silent()).await;
    if let Some(site) = Site::new().await.on_postgres().await {
        nobody_ever_answers(site, &gateway).await;
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_who_is_told_and_a_test_alarm_arrives() {
    let robot = robot().await;
    let site = site(robot.addr).await;
    site.open().await.store.close().await;
    let run = site.run(&["check", "--alarm", "--json"]);
    let lines = run.json();
    let named = |name: &str| lines.as_array().unwrap().iter().find(|l| l["name"] == name).cloned();
    for name in ["alarm", "alarm:command", "alarm:channel"] {
        assert_eq!(named(name).unwrap_or_else(|| panic!("{name}: {lines}"))["state"], "good", "{lines}");
    }
    assert!(read(site.dir.path(), "said").contains("gong 警报测试"), "{}", read(site.dir.path(), "said"));
    assert!(robot.posts().contains("gong 警报测试"), "{}", robot.posts());
    robot.stop().await;
    let lines = site.run(&["check", "--alarm", "--json"]).json();
    let told = lines.as_array().unwrap().iter().find(|l| l["name"] == "alarm:channel").cloned().unwrap();
    assert_eq!(told["state"], "bad", "{told}");
    // Where nobody is named, a test that was asked for has failed.
    let mute = Site::new().await;
    mute.open().await.store.close().await;
    for (args, state) in [(&["check", "--json"][..], "warn"), (&["check", "--alarm", "--json"], "bad")] {
        let lines = mute.run(args).json();
        let alarm = lines.as_array().unwrap().iter().find(|l| l["name"] == "alarm").cloned().unwrap();
        assert_eq!(alarm["state"], state, "{alarm}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn traces_name_dispatch_batch_and_delivery_and_nobody() {
    let gateway = gateway(Behaviour::default()).await;
    let site = Site::new().await.with("[log]\nfilter = \"gong=debug\"\ndir = \"logs\"");
    let site = site.with_kannel(gateway.addr, "rate = 500").closed();
    let app = site.open().await;
    site.settle(&app, 20).await;
    let item = site.approve(&app, ALERT).await;
    let dispatch = site.send(&app, &item, &wish("all", "sms")).await;
    app.store.close().await;
    std::fs::create_dir_all(site.dir.path().join("logs")).unwrap();
    // Receipts wait for nobody here: what was sent is all there is to see.
    let mut serve = std::process::Command::new(env!("CARGO_BIN_EXE_gong"));
    serve
        .arg("serve")
        .current_dir(site.dir.path())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    let serving = crate::support::Running(serve.spawn().unwrap());
    let logs = || {
        let files = std::fs::read_dir(site.dir.path().join("logs")).unwrap();
        files.map(|f| std::fs::read_to_string(f.unwrap().path()).unwrap()).collect::<String>()
    };
    until("the sends are in the log", SOON, async || logs().matches("\"message\":\"answered\"").count() >= 18).await;
    drop(serving);
    let logs = logs();
    let sent = logs.lines().find(|l| l.contains("\"message\":\"answered\"")).unwrap();
    let line: serde_json::Value = serde_json::from_str(sent).unwrap();
    let span = &line["span"];
    assert_eq!((&span["name"], &span["channel"]), (&"send".into(), &"sms".into()), "{sent}");
    assert_eq!(span["dispatch"], dispatch.no, "{sent}");
    assert!(span["batch"].as_i64() > Some(0) && span["delivery"].as_i64() > Some(0), "{sent}");
    for name in ["plan", "load"] {
        assert!(logs.contains(&format!("\"name\":\"{name}\"")), "no span {name}");
    }
    let phone = regex::Regex::new(r"\b1[3-9]\d{9}\b").unwrap();
    assert!(!phone.is_match(&logs) && !logs.contains("居民"), "a person stands in the log");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_say_who_leads_who_is_there_and_what_was_granted() {
    let gateway = gateway(Behaviour::default()).await;
    let site = Site::new().await.with_kannel(gateway.addr, "rate = 500");
    let Some(mut site) = site.on_postgres().await else { return };
    let app = site.open().await;
    let serving = site.serve(&app).await;
    let wanted = [
        "gong_leads{role=\"planner\"} 1",
        "gong_leads{role=\"scheduler\"} 1",
        "gong_leader_term{role=\"planner\"} 1",
        "gong_leaderless_seconds{role=\"planner\"} 0.0",
        "gong_engines{role=\"workers\"} 1",
        "gong_engines{role=\"web\"} 1",
        "gong_channel_granted{channel=\"sms\"} 500.0",
    ];
    until("the engine shows itself", SOON, async || {
        let metrics = get(site.address(), "/metrics").await;
        wanted.iter().all(|w| metrics.lines().any(|line| line == *w))
    })
    .await;
    let metrics = get(site.address(), "/metrics").await;
    assert!(sample(&metrics, "gong_disk_free_bytes{under=\"site\"}").is_some_and(|free| free > 1e6), "{metrics}");
    assert!(sample(&metrics, "gong_store_size_bytes{engine=\"postgres\"}").is_some_and(|size| size > 1e6), "{metrics}");
    assert!(!metrics.contains("under=\"database\""), "another machine's disk is not ours to show:\n{metrics}");
    // Another one sees that nobody leads any more, and since when.
    serving.stop().await;
    let vacant = app.store.crew().await.unwrap().unwrap();
    assert!(vacant.roles.iter().all(|r| (1..60_000).contains(&r.vacant_ms)) && vacant.roles.len() >= 2, "{vacant:?}");
    assert_eq!(vacant.engines["workers"], 0, "{vacant:?}");
    gateway.stop().await;
}
