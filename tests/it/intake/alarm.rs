//! Letters and events while the broker is short of something and takes nothing.

use std::time::Duration;

use gong::loopback::Behaviour;
use serde_json::Value;

use super::sender::{Sender, heard_until, signed, subscriber};
use super::{WEATHER, bodies, exists, items, letter};
use crate::fleet::told_to_end;
use crate::rabbit::rig::{engine, own_broker, sqlite};
use crate::rig::{SOON, get, until};
use crate::site::{ALERT, Site, finished, gateway, wish};
use crate::support::{Gong, Running};

/// The program itself in the folder of a site.
fn serve(site: &Site) -> Running {
    let log = std::fs::File::create(site.dir.path().join("serve.log")).unwrap();
    let mut command = Gong::command_in(site.dir.path(), ["serve"]);
    command.stdout(log.try_clone().unwrap()).stderr(log);
    Running(command.spawn().unwrap())
}

/// Whether the program says that the broker takes nothing.
async fn says_so(site: &Site) -> bool {
    tokio::net::TcpStream::connect(site.address()).await.is_ok()
        && get(site.address(), "/metrics").await.lines().any(|line| line == "gong_queue_blocked 1")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_without_room_delays_answers_and_events_and_holds_up_no_end() {
    let Some(broker) = own_broker().await else { return };
    let gateway = gateway(Behaviour { receipt_delay: "5".parse().unwrap(), ..Behaviour::default() }).await;
    let site = sqlite(broker.url()).await.with(WEATHER);
    let mut site = site.with_kannel(gateway.addr, "rate = 2, in_flight = 16");
    let app = site.open().await;
    site.settle(&app, 200).await;
    let (serving, _) = engine(&mut site, &app).await;
    let mut weather = Sender::new(&broker).await;
    until("gong publishes events", SOON, async || exists(&broker).await).await;
    let mut office = subscriber(&broker).await;
    serving.stop().await;
    weather.tell(signed("k-1"), letter("山洪").as_bytes()).await;
    // More than any disk has.
    broker.ctl(&["set_disk_free_limit", "1000000GB"]);

    let running = serve(&site);
    until("the letter is entered", SOON, async || items(&app).await == 1).await;
    // Its answer is the only thing that there is to publish.
    until("people can see why it is not answered", SOON, async || says_so(&site).await).await;
    let item = site.approve(&app, ALERT).await;
    let dispatch = site.send(&app, &item, &wish("all", "sms")).await;
    until("there is something to tell", SOON, async || !app.store.pending_events(1).await.unwrap().is_empty()).await;
    let took = told_to_end(running).await;
    assert!(took < Duration::from_secs(30), "it ended after {took:?}");

    // Whoever starts meanwhile waits, too, and can be told to end.
    let (serving, counts) = engine(&mut site, &app).await;
    until("the letter has come again", SOON, async || counts.queue.entered.get() == 1).await;
    until("it waits", SOON, async || counts.queue.blocked.get() == 1).await;
    let early = tokio::time::timeout(Duration::from_millis(300), weather.hear()).await;
    assert!(early.is_err(), "{early:?} came by a broker that takes nothing");
    let no = dispatch.no.to_string();
    until("it is planned", SOON, async || app.store.dispatch(&no).await.unwrap().phase == "done").await;
    app.store.steer_dispatch(dispatch.no, "paused", "李四").await.unwrap();

    broker.ctl(&["set_disk_free_limit", "50MB"]);
    let said: Value = serde_json::from_str(&weather.hear().await).unwrap();
    assert_eq!((&said["ok"], items(&app).await), (&Value::Bool(true), 2), "{said}");
    let mut all = heard_until(&mut office, "dispatch.paused").await;
    app.store.steer_dispatch(dispatch.no, "active", "李四").await.unwrap();
    all.extend(heard_until(&mut office, "dispatch.resumed").await);
    app.store.set_rate("sms", Some(2_000.0), "李四").await.unwrap();
    all.extend(heard_until(&mut office, "dispatch.finished").await);
    until("the broker takes everything", SOON, async || counts.queue.blocked.get() == 0).await;
    let done = finished(&app, dispatch.no, SOON).await;
    // What the first process had sent off may come once more: a subscriber skips it.
    let (mut told, mut last) = (bodies(&all), 0);
    told.retain(|event| {
        let no = event["no"].as_i64().unwrap();
        let fresh = no > last;
        last = last.max(no);
        fresh
    });
    let steps = ["created", "started", "paused", "resumed", "finished"].map(|word| format!("dispatch.{word}"));
    let heard: Vec<_> = told.iter().filter_map(|e| steps.iter().position(|s| e["event"] == s.as_str())).collect();
    assert_eq!(heard, [0, 1, 2, 3, 4], "{told:?}");
    assert_eq!(told.last().unwrap()["states"]["delivered"], done.deliveries);
    serving.stop().await;
    gateway.stop().await;
}
