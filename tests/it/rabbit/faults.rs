//! What may happen to a broker, to the line to it, and to a worker that holds its messages.

use std::sync::Arc;
use std::time::Duration;

use gong::domain::delivery::State;
use gong::loopback::Behaviour;
use gong::queue::link::Link;
use gong::queue::settings::{BrokerUrl, QueueSettings};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use super::rig::{self, LOCALHOST, ROUTINE, books, broker, engine, own_broker};
use super::{FAST, SMALL};
use crate::proxy::Proxy;
use crate::rig::{SOON, until};
use crate::site::{ALERT, NOTICE, finished, gateway, in_state, wish};
use crate::support::{Gong, Running, free_port};

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_wiped_and_starts_anew_loses_nothing() {
    let Some(server) = own_broker().await else { return };
    let gateway = gateway(Behaviour::default()).await;
    let mut site = rig::sqlite(server.url()).await.with_kannel(gateway.addr, SMALL);
    let app = site.open().await;
    site.settle(&app, 3_000).await;
    let (serving, counts) = engine(&mut site, &app).await;
    app.store.set_rate("sms", Some(100.0), "李四").await.unwrap();
    let item = site.approve(&app, NOTICE).await;
    let dispatch = site.send(&app, &item, &wish("all", "sms")).await;
    until("it runs", SOON, async || gateway.stats().messages > 50).await;
    server.run(&["wipe"]);
    app.store.set_rate("sms", Some(2_000.0), "李四").await.unwrap();
    let done = finished(&app, dispatch.no, SOON).await;
    assert!(counts.queue.lost.get() > 0, "{:?}", counts.queue);
    assert_eq!(in_state(&app, done.no, State::Delivered).await, done.deliveries);
    assert_eq!((i64::try_from(gateway.stats().messages).unwrap(), gateway.stats().duplicates), (done.deliveries, 0));
    // Stopped and started with what it holds, it goes on as well.
    let item = site.approve(&app, NOTICE).await;
    app.store.set_rate("sms", Some(100.0), "李四").await.unwrap();
    let dispatch = site.send(&app, &item, &wish("all", "sms")).await;
    let before = gateway.stats().messages;
    until("it runs", SOON, async || gateway.stats().messages > before + 50).await;
    server.run(&["stop"]);
    server.run(&["start"]);
    app.store.set_rate("sms", Some(2_000.0), "李四").await.unwrap();
    let done = finished(&app, dispatch.no, SOON).await;
    assert_eq!(in_state(&app, done.no, State::Delivered).await, done.deliveries);
    assert_eq!(gateway.stats().duplicates, 0);
    books(&app, &site).await;
    serving.stop().await;
    gateway.stop().await;
}

/// The broker is far away: whatever waits is published before the first answer is there.
#[tokio::test(flavor = "multi_thread")]
async fn all_that_waits_is_published_before_the_first_is_confirmed() {
    let Some(server) = broker().await else { return };
    let proxy = Proxy::to(server.port()).await;
    let gateway = gateway(Behaviour::default()).await;
    let mut site = rig::sqlite(&server.by(proxy.port)).await.with_kannel(gateway.addr, SMALL);
    let app = site.open().await;
    site.settle(&app, 3_000).await;
    let (serving, counts) = engine(&mut site, &app).await;
    until("its queue is there", SOON, async || server.depth(ROUTINE).await.is_some_and(|(_, c)| c > 0)).await;
    app.store.pause_channel("sms", true, "李四").await.unwrap();
    let item = site.approve(&app, NOTICE).await;
    let dispatch = site.send(&app, &item, &wish("all", "sms")).await;
    let done = async || app.store.dispatch(&dispatch.no.to_string()).await.unwrap().phase == "done";
    until("it is planned", SOON, done).await;
    let batches = app.store.open_batches(dispatch.no).await.unwrap();
    assert!(batches >= 10, "{batches}");
    proxy.hold();
    app.store.pause_channel("sms", false, "李四").await.unwrap();
    until("most of them lie with the broker", SOON, async || {
        server.depth(ROUTINE).await.is_some_and(|(ready, _)| i64::from(ready) > batches / 2)
    })
    .await;
    assert_eq!(counts.queue.published.get(), 0, "gong knows of none");
    proxy.heal();
    app.store.set_rate("sms", Some(2_000.0), "李四").await.unwrap();
    let done = finished(&app, dispatch.no, SOON).await;
    assert_eq!(in_state(&app, done.no, State::Delivered).await, done.deliveries);
    assert_eq!(gateway.stats().duplicates, 0);
    serving.stop().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_is_cut_and_healed_loses_and_doubles_nothing() {
    let Some(server) = broker().await else { return };
    let proxy = Proxy::to(server.port()).await;
    let gateway = gateway(Behaviour::default()).await;
    let mut site = rig::sqlite(&server.by(proxy.port)).await.with_kannel(gateway.addr, SMALL);
    let app = site.open().await;
    site.settle(&app, 3_000).await;
    let (serving, counts) = engine(&mut site, &app).await;
    app.store.set_rate("sms", Some(500.0), "李四").await.unwrap();
    let item = site.approve(&app, NOTICE).await;
    let dispatch = site.send(&app, &item, &wish("all", "sms")).await;
    for round in 1..=3 {
        let before = gateway.stats().messages;
        until("it runs", SOON, async || gateway.stats().messages > before + 100).await;
        proxy.cut();
        until("it is seen", SOON, async || counts.queue.broken.get() >= 2 * round).await;
        sleep(Duration::from_millis(500)).await;
        proxy.heal();
    }
    let done = finished(&app, dispatch.no, SOON).await;
    assert_eq!(in_state(&app, done.no, State::Delivered).await, done.deliveries);
    assert_eq!((i64::try_from(gateway.stats().messages).unwrap(), gateway.stats().duplicates), (done.deliveries, 0));
    books(&app, &site).await;
    serving.stop().await;
    gateway.stop().await;
}

/// A process of workers alone in the folder of a site.
fn worker(site: &crate::site::Site) -> Running {
    let log = std::fs::File::create(site.dir.path().join("worker.log")).unwrap();
    let mut command = Gong::command_in(site.dir.path(), ["work", "--channels", "sms"]);
    command.stdout(log.try_clone().unwrap()).stderr(log);
    Running(command.spawn().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_worker_held_goes_to_the_others() {
    let Some(server) = broker().await else { return };
    let Some(site) = rig::postgres(server.url()).await else { return };
    let gateway = gateway(Behaviour { receipt_delay: "5".parse().unwrap(), ..Behaviour::default() }).await;
    let limits = format!("{SMALL}, receipt_wait = \"60s\"");
    let mut site = site.with_kannel(gateway.addr, &limits);
    let app = site.open().await;
    site.settle(&app, 4_000).await;
    app.store.set_rate("sms", Some(200.0), "李四").await.unwrap();
    let (serving, _) = engine(&mut site, &app).await;
    let mut dead = worker(&site);
    until("both consume", SOON, async || server.depth(ROUTINE).await.is_some_and(|(_, c)| c == 2)).await;
    let item = site.approve(&app, NOTICE).await;
    let dispatch = site.send(&app, &item, &wish("all", "sms")).await;
    until("it runs", SOON, async || gateway.stats().messages > 500).await;
    dead.0.kill().unwrap();
    dead.0.wait().unwrap();
    until("its messages are free", SOON, async || server.depth(ROUTINE).await.is_some_and(|(_, c)| c == 1)).await;
    app.store.set_rate("sms", Some(2_000.0), "李四").await.unwrap();
    let done = finished(&app, dispatch.no, Duration::from_mins(3)).await;
    let delivered = in_state(&app, done.no, State::Delivered).await;
    // A notice is not repeated: of what was in the dead one's window and had not reached
    // the gateway no word comes.
    let unknown = in_state(&app, done.no, State::Unknown).await;
    assert_eq!(delivered + unknown, done.deliveries, "{:?}", app.store.delivery_counts(done.no).await);
    assert!(unknown <= 32, "{unknown} in doubt, twice sixteen in flight at the most");
    assert_eq!(gateway.stats().duplicates, 0);
    serving.stop().await;
    gateway.stop().await;
}

/// Ends TLS before the broker, with a certificate for `localhost`.
pub async fn tls_before(broker: u16) -> u16 {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let pem = include_bytes!("../../../src/channel/email/tests/localhost.pem");
    let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(pem).unwrap();
    let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut near) = acceptor.accept(socket).await else { return };
                let mut far = TcpStream::connect(("127.0.0.1", broker)).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_is_reached_by_tls_and_by_any_of_its_addresses() {
    let Some(server) = broker().await else { return };
    let port = tls_before(server.port()).await;
    let tls = server.by(port).replace("amqp://", "amqps://").replace("127.0.0.1", "localhost");
    let nobody = format!("amqp://gong:geheim@127.0.0.1:{}/%2f", free_port());
    let settings = |urls: &[&str], ca: &str| QueueSettings {
        url: urls.iter().map(|url| BrokerUrl::new(*url)).collect(),
        ca_file: ca.into(),
        ..QueueSettings::default()
    };
    let link = Link::new(&settings(&[&nobody, &tls], LOCALHOST)).unwrap();
    for _ in 0..2 {
        let connection = link.connect("test").await.unwrap();
        assert!(connection.status().connected());
        assert_eq!(connection.configuration().heartbeat(), 10);
    }
    // `gong check` asks every address by itself.
    let site = rig::sqlite_with(server.url(), "[queue]\n").await;
    site.write_config();
    let report = site.run(&["check", "--connect", "--json"]).json();
    let said = |state: &str| {
        let lines = report.as_array().unwrap().iter();
        lines.filter(|l| l["name"] == "connect:queue" && l["state"] == state).count()
    };
    assert_eq!((said("good"), said("bad")), (1, 0), "{report}");
    // A certificate that nobody vouches for is refused, and no error shows a password.
    let wrong = server.url().replace("guest:guest", "guest:geheim");
    for urls in [vec![tls.as_str()], vec![&nobody], vec![&wrong], vec![&nobody, &wrong]] {
        let error = Link::new(&settings(&urls, "")).unwrap().connect("test").await.unwrap_err().to_string();
        assert!(error.contains("***@") && !error.contains("geheim") && !error.contains("guest:guest"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_broker_a_site_starts_and_goes_on_when_it_comes() {
    let Some(server) = broker().await else { return };
    let proxy = Proxy::to(server.port()).await;
    proxy.cut();
    let gateway = gateway(Behaviour { no_receipt: 1.0, ..Behaviour::default() }).await;
    let mut site = rig::sqlite(&server.by(proxy.port)).await.with_kannel(gateway.addr, FAST);
    let app = site.open().await;
    site.settle(&app, 200).await;
    let (serving, counts) = engine(&mut site, &app).await;
    let item = site.approve(&app, ALERT).await;
    let dispatch = site.send(&app, &item, &wish("all", "sms")).await;
    until("it misses the broker", SOON, async || counts.queue.broken.get() >= 2).await;
    assert_eq!(gateway.stats().messages, 0);
    proxy.heal();
    let done = finished(&app, dispatch.no, SOON).await;
    assert_eq!(in_state(&app, done.no, State::Sent).await, done.deliveries);
    serving.stop().await;
    gateway.stop().await;
}
