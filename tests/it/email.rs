//! Mail, the whole path: people with addresses, the declared channel, a mail server on
//! a socket, bounces back by Maildir, by POST and by hand.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use gong::app::App;
use gong::domain::delivery::State;
use gong::loopback::Behaviour;
use gong::loopback::smtp::{SmtpLoopback, SmtpRunning};
use serde_json::json;

use crate::rig::{SOON, ask, import_people, until};
use crate::site::{ALERT, NOTICE, Site, finished, in_state, wish};
use crate::support::Run;

const RETRY: &str = "[retry]\ninitial_ms = 20\nmax_ms = 200\nsettle_ms = 100";

/// The channel `mail` to `server`, its bounces in `data/bounces`.
pub fn declared(server: &str, vars: &str, limits: &str) -> String {
    let (host, port) = server.rsplit_once(':').unwrap();
    format!(
        "{RETRY}\n[channels.mail]\ngateway = \"smtp\"\nlimits = {{ rate = 5000, {limits} }}\n\
         secrets = {{ token = \"file:data/token\" }}\n[channels.mail.vars]\nhost = \"{host}\"\nport = \"{port}\"\n\
         tls = \"none\"\n{vars}\n"
    )
}

/// `n` people with made-up addresses (RFC 2606).
pub async fn mail_people(site: &Site, app: &App, addresses: &[String]) {
    site.settle(app, 2).await;
    let mut text = String::from("编号,姓名,邮箱,常住地\n");
    for (i, address) in addresses.iter().enumerate() {
        writeln!(text, "m{i},村民{i},{address},532532101200").unwrap();
    }
    let summary = import_people(app, site.dir.path(), &text).await;
    assert_eq!((summary.read, summary.rejected), (addresses.len() as u64, 0), "{summary:?}");
}

fn addresses(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("cunmin{i}@x.example")).collect()
}

async fn server(behaviour: Behaviour, dir: &Path) -> SmtpRunning {
    let (kept, bounces) = (Some(dir.join("taken")), Some(dir.join("data/bounces")));
    let server = SmtpLoopback { dir: kept, bounces, ..SmtpLoopback::new(behaviour) };
    server.start("127.0.0.1:0".parse().unwrap()).await.unwrap()
}

const OURS: &str = "from = \"河口县应急管理局 <alert@hekou.example>\"\nbounces = \"data/bounces\"\nunsubscribe = \"mailto:td@hekou.example\"";

fn taken(site: &Site) -> Vec<String> {
    let files = std::fs::read_dir(site.dir.path().join("taken")).unwrap();
    files.map(|f| std::fs::read_to_string(f.unwrap().path()).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_is_retried_never_doubled_and_its_bounces_are_known() {
    let site = Site::new().await;
    let behaviour = Behaviour {
        temporary: 0.2,
        throttle: 0.05,
        lost_answer: 0.05,
        half_answer: 0.05,
        undelivered: 0.1,
        receipt_delay: "0-30".parse().unwrap(),
        ..Behaviour::default()
    };
    let server = server(behaviour, site.dir.path()).await;
    let mut site =
        site.with(&declared(&server.addr.to_string(), OURS, "in_flight = 4, batch = 8, receipt_wait = \"1s\""));
    let app = site.open().await;
    mail_people(&site, &app, &addresses(120)).await;
    let serving = site.serve(&app).await;
    let item = site.approve(&app, NOTICE).await;
    let dispatch = site.send(&app, &item, &wish("all", "mail")).await;
    assert_eq!(finished(&app, dispatch.no, SOON).await.deliveries, 120);
    let stats = server.stats();
    assert_eq!((stats.accepted, stats.duplicates), (120, 0), "{stats:?}");
    assert!(stats.temporary > 5 && stats.lost_answers > 2 && stats.throttled > 0, "{stats:?}");
    until("every bounce is known", SOON, async || {
        let bounced = i64::try_from(server.stats().receipts_sent).unwrap();
        bounced > 2 && in_state(&app, dispatch.no, State::Undelivered).await == bounced
    })
    .await;
    let undelivered = in_state(&app, dispatch.no, State::Undelivered).await;
    let (sent, unknown) =
        (in_state(&app, dispatch.no, State::Sent).await, in_state(&app, dispatch.no, State::Unknown).await);
    assert_eq!(sent + unknown + undelivered, 120);
    assert!(unknown > 0 && unknown <= i64::try_from(stats.lost_answers).unwrap(), "{unknown}");
    let mails = taken(&site);
    assert_eq!(mails.len(), 120);
    assert!(
        mails
            .iter()
            .all(|m| m.contains("List-Unsubscribe: <mailto:td@hekou.example>") && m.contains("multipart/alternative"))
    );
    // Whoever has no mailbox gets no further mail.
    server.behave(Behaviour::default()).unwrap();
    let item = site.approve(&app, ALERT).await;
    let again = site.send(&app, &item, &wish("all", "mail")).await;
    assert_eq!(finished(&app, again.no, SOON).await.deliveries, 120 - undelivered);
    assert_eq!(in_state(&app, again.no, State::Sent).await, 120 - undelivered);
    assert_eq!(
        taken(&site).iter().filter(|m| !m.contains("List-Unsubscribe")).count(),
        usize::try_from(120 - undelivered).unwrap()
    );
    serving.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_is_repeated_under_its_own_id_and_arrivals_are_reported() {
    let site = Site::new().await;
    let behaviour = Behaviour { lost_answer: 0.2, receipt_delay: "0".parse().unwrap(), ..Behaviour::default() };
    let server = server(behaviour, site.dir.path()).await;
    let vars = format!("{OURS}\nnotify = \"success\"");
    let mut site = site.with(&declared(&server.addr.to_string(), &vars, "batch = 5, evidence = \"receipts\""));
    let app = site.open().await;
    mail_people(&site, &app, &addresses(40)).await;
    let serving = site.serve(&app).await;
    let item = site.approve(&app, ALERT).await;
    let dispatch = site.send(&app, &item, &wish("all", "mail")).await;
    finished(&app, dispatch.no, SOON).await;
    assert_eq!(in_state(&app, dispatch.no, State::Delivered).await, 40);
    let stats = server.stop().await;
    // A repeat bears the same Message-ID: whoever reads it can tell.
    assert!(stats.duplicates > 0 && stats.duplicates <= stats.lost_answers, "{stats:?}");
    serving.stop().await;
}

fn bounce(id: &str) -> String {
    format!(
        "To: bounces+{id}@hekou.example\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=\"b\"\r\n\r\n\
         --b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example\r\n\r\n\
         Final-Recipient: rfc822; cunmin0@x.example\r\nAction: failed\r\nStatus: 5.2.2\r\n\r\n--b--\r\n"
    )
}

async fn post(to: SocketAddr, token: &str, body: &str) -> String {
    let request = format!(
        "POST /callbacks/mail HTTP/1.1\r\nHost: {to}\r\nAuthorization: Bearer {token}\r\nContent-Type: message/rfc822\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let answer = ask(to, &request).await;
    answer.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn bounces_come_by_post_and_by_hand() {
    let site = Site::new().await;
    let server = server(Behaviour::default(), site.dir.path()).await;
    let mut site = site.with(&declared(&server.addr.to_string(), OURS, "batch = 5"));
    let app = site.open().await;
    mail_people(&site, &app, &addresses(2)).await;
    let public: SocketAddr = app.config.server.listen.parse().unwrap();
    let serving = site.serve(&app).await;
    let item = site.approve(&app, NOTICE).await;
    let dispatch = site.send(&app, &item, &wish("all", "mail")).await;
    until("both are sent", SOON, async || in_state(&app, dispatch.no, State::Sent).await == 2).await;
    let id = |mail: &String| mail.split("Message-ID: <").nth(1).unwrap().split('@').next().unwrap().to_owned();
    let ids: Vec<String> = taken(&site).iter().map(id).collect();
    assert!(post(public, "wrong", &bounce(&ids[0])).await.contains("401"));
    assert_eq!(in_state(&app, dispatch.no, State::Undelivered).await, 0);
    assert!(post(public, "token", &bounce(&ids[0])).await.contains("200"));
    assert_eq!(in_state(&app, dispatch.no, State::Undelivered).await, 1);
    let file = site.dir.path().join("bounce.eml");
    std::fs::write(&file, bounce(&ids[1])).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_gong"));
    command.arg("--config").arg(file.with_file_name("gong.toml")).args(["bounce", "mail", "--json"]).arg(file);
    let run = Run::of(&mut command).ok();
    assert_eq!(run.json(), json!({"mails": 1, "matched": 1}));
    assert_eq!(in_state(&app, dispatch.no, State::Undelivered).await, 2);
    tokio::time::timeout(Duration::from_secs(30), serving.stop()).await.unwrap();
    server.stop().await;
}
