//! Lines to the database that go dead without a word, as when its host loses power.

use std::time::Duration;

use gong::domain::delivery::State;
use gong::loopback::Behaviour;
use sqlx::AssertSqlSafe;

use crate::proxy::{Proxy, port_of};
use crate::rig::{SOON, until};
use crate::site::{ALERT, Site, gateway, wish};
use crate::support::postgres_server;

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_whose_lines_went_dead_goes_on_over_others() {
    let Some(server) = postgres_server() else { return };
    let schema = format!("it_{}", uuid::Uuid::now_v7().simple());
    let admin = crate::support::pool(&server).await;
    sqlx::query(AssertSqlSafe(format!("CREATE SCHEMA {schema}"))).execute(&admin).await.unwrap();
    let port = port_of(&server);
    let line = Proxy::to(port).await;
    let by = server.replace(&format!(":{port}/"), &format!(":{}/", line.port));
    let joint = if by.contains('?') { '&' } else { '?' };
    let gateway = gateway(Behaviour::default()).await;
    let site = Site::new().await.with(&format!("[store]\nurl = \"{by}{joint}options[search_path]={schema}\""));
    let mut site = site.with("[retry]\nsettle_ms = 1000").with_kannel(gateway.addr, "rate = 200, in_flight = 16");
    let app = site.open().await;
    site.settle(&app, 3_000).await;
    let serving = site.serve(&app).await;
    let item = site.approve(&app, ALERT).await;
    let dispatch = site.send(&app, &item, &wish("all", "sms")).await;
    let count = async |what: &str| -> i64 {
        let sql = format!("SELECT COUNT(*) FROM {schema}.{what}");
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&admin).await.unwrap()
    };
    for round in 1..=2 {
        until("it runs", SOON, async || gateway.stats().messages > round * 400).await;
        // Who connects anew is heard.
        line.silence();
        line.heal();
    }
    let over = format!("dispatches WHERE no = {} AND finished_at IS NOT NULL", dispatch.no);
    until("it ends", SOON + Duration::from_mins(1), async || count(&over).await == 1).await;
    let delivered = count(&format!("deliveries WHERE state = {}", State::Delivered.code())).await;
    assert_eq!((delivered, count("deliveries").await), (delivered, delivered));
    let doubtful = count("tries WHERE class = 6").await;
    let doubled = i64::try_from(gateway.stats().duplicates).unwrap();
    assert!(doubled <= doubtful, "{doubled} twice, {doubtful} of them flagged");
    serving.stop().await;
    let in_use = || app.store.pool_use().iter().map(|p| p.open - p.idle).sum::<u32>();
    until("no dead connection keeps its place in the pool", SOON, async || in_use() == 0).await;
    app.store.close().await;
    gateway.stop().await;
    sqlx::query(AssertSqlSafe(format!("DROP SCHEMA {schema} CASCADE"))).execute(&admin).await.unwrap();
}
