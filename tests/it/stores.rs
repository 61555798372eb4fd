//! The commands of whoever looks after the database, from outside.

use std::time::Duration;

use gong::app::App;
use gong::channel::{Receipt, ReceiptKey};
use gong::domain::delivery::Word;
use gong::domain::ids::DeliveryRef;
use gong::loopback::Behaviour;
use gong::store::operators::Role;
use serde_json::Value;
use sqlx::AssertSqlSafe;

use crate::rig::{SOON, until};
use crate::site::{ALERT, NOTICE, Site, finished, gateway, in_state, wish};
use crate::support::{Gong, Run, free_port, postgres_server, wait_until};

fn site() -> Gong {
    let gong = Gong::new();
    gong.run(["init", "--name", "某局", "--phone", "0873-5550000"]).ok();
    gong
}

fn said(run: &Run) -> String {
    format!("{}{}", run.stdout, run.stderr)
}

#[test]
fn the_embedded_store_says_which_migrations_it_had() {
    let gong = site();
    let status = gong.run(["migrate", "--status", "--json"]).ok().json();
    let steps = status["status"]["steps"].as_array().unwrap();
    assert!(steps.len() >= 3, "{status}");
    assert!(steps.iter().all(|s| s["applied_at"].as_i64().is_some_and(|at| at > 1_700_000_000_000)), "{status}");
    assert_eq!(status["status"]["backup"], Value::Null);
    assert!(gong.run(["migrate"]).ok().stdout.contains("不需要升级"));
    let empty = Gong::new();
    std::fs::copy(gong.dir().join("gong.toml"), empty.dir().join("gong.toml")).unwrap();
    let run = empty.run(["migrate", "--status"]);
    assert_eq!(run.code, Some(3), "{run:?}");
    assert!(!empty.dir().join("data/gong.db").exists(), "asking made a database");
    let run = gong.run(["store", "partitions"]).ok();
    assert!(run.stdout.contains("没有分区"), "{run:?}");
    assert_eq!(gong.run(["store", "move", "--undo"]).code, Some(3));
    // A disk that is not mounted is no reason to begin anew.
    std::fs::rename(gong.dir().join("data/gong.db"), gong.dir().join("elsewhere.db")).unwrap();
    for command in [&["status"][..], &["serve", "--until-idle"], &["check"], &["store", "move", "--undo"]] {
        let run = gong.run(command.iter().copied());
        assert!(run.code != Some(0) && said(&run).contains("没有数据库文件"), "{command:?}: {run:?}");
    }
    assert!(!gong.dir().join("data/gong.db").exists(), "a command made a database");
}

/// A schema of its own on the server, and its address.
async fn schema(server: &str) -> (sqlx::PgPool, String, String) {
    let name = format!("it_{}", uuid::Uuid::now_v7().simple());
    let admin = crate::support::pool(server).await;
    sqlx::query(AssertSqlSafe(format!("CREATE SCHEMA {name}"))).execute(&admin).await.unwrap();
    let joint = if server.contains('?') { '&' } else { '?' };
    let url = format!("{server}{joint}options[search_path]={name}");
    (admin, name, url)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_moves_to_a_server_and_back() {
    let Some(server) = postgres_server() else { return };
    let (admin, name, url) = schema(&server).await;
    let gong = site();
    gong.run(["operator", "add", "张三", "--role", "author"]).ok();
    let port = free_port().to_string();
    let engine = gong.spawn(["serve", "--listen", &format!("127.0.0.1:{port}")], "serve.log");
    let log = gong.dir().join("serve.log");
    assert!(wait_until(Duration::from_secs(30), || { std::fs::read_to_string(&log).is_ok_and(|l| l.contains(&port)) }));
    let run = gong.run(["store", "move", "--to", &url]);
    assert_eq!(run.code, Some(3), "an engine runs: {run:?}");
    drop(engine);
    let moved = gong.run(["store", "move", "--to", &url, "--json"]).ok().json();
    assert!(moved["rows"].as_u64().unwrap() > 15, "{moved}");
    for command in [&["status"][..], &["serve", "--until-idle"], &["store", "move", "--to", &url]] {
        let run = gong.run(command.iter().copied());
        assert!(run.code != Some(0) && said(&run).contains("已搬到"), "{command:?}: {run:?}");
    }

    let file = gong.dir().join("gong.toml");
    let before = std::fs::read_to_string(&file).unwrap();
    let after = before.replace("# url = \"sqlite:data/gong.db\"", &format!("url = \"{url}\"\n#"));
    assert_ne!(before, after);
    std::fs::write(&file, after).unwrap();
    let run = gong.run(["operator", "list"]).ok();
    assert!(run.stdout.contains("管理员"), "{run:?}");
    let run = gong.run(["audit", "verify"]).ok();
    assert!(!said(&run).is_empty());
    let ranges = gong.run(["store", "partitions", "--json"]).ok().json();
    assert_eq!((&ranges[0]["from"], &ranges[0]["to"]), (&0.into(), &100.into()), "{ranges}");
    assert_eq!(gong.run(["store", "partitions", "--detach", "0"]).code, Some(3));
    let status = gong.run(["migrate", "--status", "--json"]).ok().json();
    assert_eq!(status["status"]["found"], status["status"]["known"]);

    std::fs::write(&file, before).unwrap();
    // Whoever may not do it does not set the old engine going.
    let run = gong.run(["store", "move", "--undo", "--as", "张三"]);
    assert_eq!(run.code, Some(3), "{run:?}");
    assert!(said(&gong.run(["status"])).contains("已搬到"), "the mark is off, and nothing stands paused");
    gong.run(["store", "move", "--undo"]).ok();
    gong.run(["status"]).ok();
    sqlx::query(AssertSqlSafe(format!("DROP SCHEMA {name} CASCADE"))).execute(&admin).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_made_on_a_server_is_told_where_the_address_belongs() {
    let Some(server) = postgres_server() else { return };
    let (admin, name, url) = schema(&server).await;
    let gong = Gong::new();
    let with = |args: &[&str]| Run::of(gong.command(args.iter().copied()).env("GONG_STORE__URL", &url)).ok();
    let made = with(&["init", "--name", "某局", "--phone", "12345"]);
    assert!(made.stderr.contains("GONG_STORE__URL") && made.stderr.contains("[store] url"), "{made:?}");
    with(&["status"]);
    // Without it, nothing begins anew beside it.
    let lost = gong.run(["status"]);
    assert!(lost.code == Some(3) && lost.stderr.contains("[store] url"), "{lost:?}");
    sqlx::query(AssertSqlSafe(format!("DROP SCHEMA {name} CASCADE"))).execute(&admin).await.unwrap();
}

/// What was reached, without the time of asking.
fn reach(site: &Site, no: &str) -> Value {
    let mut reach = site.run(&["reach", no, "--json"]).ok().json();
    reach["as_of"].take();
    reach
}

/// Whether the engine keeps to a grant of no more than this for `sms`.
async fn slowed_to(app: &App, rate: f64) -> bool {
    let channel = app.store.channel_no("sms").await.unwrap();
    let (shares, engines) = (app.store.shares().await.unwrap(), app.store.engines().await.unwrap());
    let share = shares.iter().find(|share| share.channel == channel);
    let report = engines.iter().flat_map(|engine| &engine.reports).find(|report| report.channel == channel);
    share.zip(report).is_some_and(|(share, report)| share.rate <= rate && report.seq >= share.seq)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_range_is_taken_out_while_everything_goes_on() {
    let Some(server) = postgres_server() else { return };
    let (admin, name, url) = schema(&server).await;
    let gateway = gateway(Behaviour::default()).await;
    let mut site = Site::new().await.with(&format!("[store]\nurl = \"{url}\""));
    site = site.with_kannel(gateway.addr, "rate = 1000, in_flight = 16");
    let app = site.open().await;
    let unit = app.store.save_unit("河口县应急管理局", "0873-5550000").await.unwrap();
    app.store.save_operator("王五", &unit, &[Role::Admin]).await.unwrap();
    site.settle(&app, 50).await;
    let serving = site.serve(&app).await;
    let (alert, notice) = (site.approve(&app, ALERT).await, site.approve(&app, NOTICE).await);
    let heard = async |no: i64| {
        until("every receipt is there", SOON, async || {
            in_state(&app, no, gong::domain::delivery::State::Delivered).await > 30
        })
        .await;
        finished(&app, no, Duration::from_mins(1)).await
    };
    let old = site.send(&app, &alert, &wish("all", "sms")).await;
    assert_eq!(heard(old.no).await.no, 1);
    let reached = reach(&site, "1");
    let purged = site.run(&["purge", "1", "--yes", "--as", "王五"]).ok();
    assert!(purged.stderr.contains("autovacuum") && !purged.stderr.contains("数据库文件"), "{purged:?}");
    let table = |of: &str| AssertSqlSafe(format!("UPDATE {name}.{of}"));
    sqlx::query(table("counters SET value = 149 WHERE name = 'dispatch'")).execute(&admin).await.unwrap();
    app.store.set_rate("sms", Some(1.0), "李四").await.unwrap();
    until("the engine obeys", SOON, async || slowed_to(&app, 1.0).await).await;
    let before = gateway.stats().messages;
    let next = site.send(&app, &notice, &wish("all", "sms")).await;
    assert_eq!(next.no, 150);

    // The engine sends meanwhile, so slowly that it is not done before.
    until("it sends", SOON, async || gateway.stats().messages > before).await;
    let detach = ["store", "partitions", "--detach", "0", "--as", "王五", "--json"];
    let tables = site.run(&detach).ok().json();
    assert_eq!(tables["tables"].as_array().map(Vec::len), Some(5), "{tables}");
    let goes_on = app.store.dispatch(&next.no.to_string()).await.unwrap();
    assert!(goes_on.finished_at.is_none(), "{goes_on:?}");
    app.store.set_rate("sms", Some(1_000.0), "李四").await.unwrap();
    heard(next.no).await;
    assert_eq!(reach(&site, "1"), reached);
    for command in [&["status"][..], &["status", "1"], &["status", "150"], &["check"], &["store", "partitions"]] {
        let run = site.run(command);
        assert!(run.code == Some(0), "{command:?}: {run:?}");
    }
    comes_late(&app).await;
    // Whoever was told of the old one is nobody now; everybody is told of a new one.
    let last = site.send(&app, &notice, &wish("all", "sms")).await;
    assert_eq!(heard(last.no).await.no, 151);
    let there: i64 = sqlx::query_scalar(AssertSqlSafe(format!("SELECT COUNT(*) FROM {name}.detached_deliveries_0")))
        .fetch_one(&admin)
        .await
        .unwrap();
    assert_eq!(there, old_deliveries(&site));
    serving.stop().await;
    gateway.stop().await;
    app.store.close().await;
    sqlx::query(AssertSqlSafe(format!("DROP SCHEMA {name} CASCADE"))).execute(&admin).await.unwrap();
}

/// A receipt of the detached dispatch that comes a year late finds nothing and breaks nothing.
async fn comes_late(app: &App) {
    let id = app.store.vault.client_id(DeliveryRef { dispatch_no: 1, ordinal: 1, attempt: 1 });
    let late = [ReceiptKey::Client(id), ReceiptKey::Gateway("of long ago".to_owned())].map(|key| Receipt {
        key,
        word: Some(Word::Read),
        gone: true,
        code: String::new(),
        event_at: None,
        raw: "late".to_owned(),
    });
    app.store.record_receipts(app.store.channel_no("sms").await.unwrap(), &late).await.unwrap();
}

/// How many deliveries dispatch 1 had, by its own word.
fn old_deliveries(site: &Site) -> i64 {
    site.run(&["status", "1", "--json"]).ok().json()["deliveries"].as_i64().unwrap()
}
