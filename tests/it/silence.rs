//! Lines to the database that go dead without a word, as when its host loses power.

use std::time::Duration;

use gong::domain::delivery::State;
use gong::loopback::Behaviour;
use sqlx::{AssertSqlSafe, PgPool};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::rig::{AWAKE, SOON, until};
use crate::site::{ALERT, Site, gateway, wish};
use crate::support::postgres_server;

/// A line to a server of this machine.
struct Line {
    port: u16,
    dead: watch::Sender<()>,
}

impl Line {
    async fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (dead, heard) = watch::channel(());
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut heard = heard.clone();
                heard.mark_unchanged();
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => return,
                        _ = heard.changed() => {}
                    }
                    // Neither end hears that the other is gone.
                    while heard.changed().await.is_ok() {}
                    drop((near, far));
                });
            }
        });
        Self { port, dead }
    }

    /// Nothing comes through any more, in either direction; who connects anew is heard.
    fn goes_dead(&self) {
        self.dead.send_replace(());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_whose_lines_went_dead_goes_on_over_others() {
    let Some(server) = postgres_server() else { return };
    let schema = format!("it_{}", uuid::Uuid::now_v7().simple());
    let admin = PgPool::connect(&server).await.unwrap();
    sqlx::query(AssertSqlSafe(format!("CREATE SCHEMA {schema}"))).execute(&admin).await.unwrap();
    let port: u16 = server.rsplit_once('/').unwrap().0.rsplit(':').next().unwrap().parse().unwrap();
    let line = Line::to(port).await;
    let by = server.replace(&format!(":{port}/"), &format!(":{}/", line.port));
    let joint = if by.contains('?') { '&' } else { '?' };
    let gateway = gateway(Behaviour::default()).await;
    let site = Site::new().await.with(&format!("[store]\nurl = \"{by}{joint}options[search_path]={schema}\""));
    let mut site =
        site.with(AWAKE).with("[retry]\nsettle_ms = 1000").with_kannel(gateway.addr, "rate = 200, in_flight = 16");
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
        line.goes_dead();
    }
    let over = format!("dispatches WHERE no = {} AND finished_at IS NOT NULL", dispatch.no);
    until("it ends", SOON + Duration::from_mins(1), async || count(&over).await == 1).await;
    let delivered = count(&format!("deliveries WHERE state = {}", State::Delivered.code())).await;
    assert_eq!((delivered, count("deliveries").await), (delivered, delivered));
    let doubtful = count("attempts WHERE class = 6").await;
    let doubled = i64::try_from(gateway.stats().duplicates).unwrap();
    assert!(doubled <= doubtful, "{doubled} twice, {doubtful} of them flagged");
    serving.stop().await;
    app.store.close().await;
    gateway.stop().await;
    sqlx::query(AssertSqlSafe(format!("DROP SCHEMA {schema} CASCADE"))).execute(&admin).await.unwrap();
}
