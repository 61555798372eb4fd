//! The shipped gateway declarations against the loopback gateways: what one side
//! writes the other reads, in both directions.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use bytes::Bytes;
use gong::channel::registry::{Registry, Site};
use gong::channel::{Callback, Channel, Class, Outcome, Outgoing, Receipt, ReceiptKey};
use gong::clock::Clock;
use gong::domain::delivery::Word;
use gong::loopback::{Behaviour, Credentials, Loopback, Running};
use jiff::tz::TimeZone;
use uuid::Uuid;

type Heard = Arc<Mutex<Vec<(Vec<(String, String)>, HeaderMap, Bytes)>>>;

struct World {
    gateway: Running,
    channel: Arc<dyn Channel>,
    heard: Heard,
}

async fn receiver() -> (SocketAddr, Heard) {
    async fn hear(
        State(heard): State<Heard>,
        Query(query): Query<Vec<(String, String)>>,
        headers: HeaderMap,
        body: Bytes,
    ) {
        heard.lock().unwrap().push((query, headers, body));
    }
    let heard = Heard::default();
    let app = Router::new().route("/callbacks/sms", axum::routing::any(hear)).with_state(Arc::clone(&heard));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    (addr, heard)
}

/// A loopback gateway and the channel that a shipped declaration makes of it.
async fn world(gateway: &str, behaviour: Behaviour, secret: &str) -> World {
    let credentials = Credentials { username: "gong".into(), password: "s3 cr&t".into(), secret: "s3 cr&t".into() };
    let running = Loopback::new(credentials, behaviour).start(([127, 0, 0, 1], 0).into()).await.unwrap();
    let (addr, heard) = receiver().await;
    let (vars, secrets) = match gateway {
        "kannel" => ("username = 'gong'", "password = 'env:SECRET', token = 'env:TOKEN'"),
        _ => ("account = 'gong'", "key = 'env:SECRET'"),
    };
    let url = running.addr;
    let settings = format!(
        "[sms]\ngateway = '{gateway}'\nvars = {{ url = 'http://{url}', {vars} }}\nsecrets = {{ {secrets} }}\nlimits = {{ batch = 3 }}"
    );
    let secret = secret.to_owned();
    let registry = Registry::build(
        &toml::from_str(&settings).unwrap(),
        &Site {
            channels_dir: None,
            base_dir: Path::new("."),
            to_send: true,
            press: gong::sheet::Press::default(),
            env: &|name| Some(if name == "SECRET" { secret.clone() } else { "t0ken".to_owned() }),
            public_url: &format!("http://{addr}"),
            zone: TimeZone::UTC,
            clock: Clock::System,
        },
    )
    .unwrap();
    World { gateway: running, channel: registry.get("sms").unwrap(), heard }
}

/// Messages to made-up numbers, the same text for all.
fn messages(range: std::ops::Range<u32>) -> Vec<Outgoing> {
    let message = |n: u32| Outgoing {
        client_id: Uuid::from_u128(u128::from(n) + 1),
        to: format!("139{n:08}").into(),
        title: "".into(),
        text: "【某县】汛情 50% a&b+c，请转移".into(),
        html: None,
        facts: None,
        parts: 1,
        may_opt_out: false,
    };
    range.map(message).collect()
}

async fn receipts(world: &World) -> Vec<Receipt> {
    for _ in 0..1_000 {
        if world.gateway.stats().receipts_waiting == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let heard = world.heard.lock().unwrap().clone();
    let read = heard.iter().flat_map(|(query, headers, body)| {
        let headers: Vec<_> =
            headers.iter().map(|(n, v)| (n.to_string(), v.to_str().unwrap_or_default().to_owned())).collect();
        let now = Clock::System.now();
        let callback = Callback { method: "GET", query, headers: &headers, body, now };
        world.channel.receipts(&callback).unwrap().receipts
    });
    read.collect()
}

#[tokio::test]
async fn kannel_takes_and_reports_every_message() {
    let world = world("kannel", Behaviour::default(), "s3 cr&t").await;
    let batch = messages(0..1);
    for _ in 0..3 {
        assert!(matches!(world.channel.send(&batch).await[0], Outcome::Accepted { .. }));
    }
    let reports = receipts(&world).await;
    let last = reports.iter().filter(|r| r.word == Some(Word::Delivered));
    let keys: HashSet<_> = last.map(|r| r.key.clone()).collect();
    assert_eq!(keys, HashSet::from([ReceiptKey::Client(batch[0].client_id)]));
    assert!(reports.iter().all(|r| r.event_at.is_some() && !r.raw.contains("t0ken")), "{reports:?}");
}

#[tokio::test]
async fn the_json_gateway_takes_batches_and_reports_each_number() {
    let world = world("json-hmac", Behaviour::default(), "s3 cr&t").await;
    let mut ids = BTreeMap::new();
    for from in [0, 3, 6] {
        let batch = messages(from..from + 3);
        for (message, outcome) in batch.iter().zip(world.channel.send(&batch).await) {
            let Outcome::Accepted { gateway_ids, .. } = outcome else { panic!("{outcome:?}") };
            assert_eq!(gateway_ids.len(), 1);
            ids.insert(gateway_ids[0].clone(), Arc::clone(&message.to));
        }
    }
    assert_eq!(ids.len(), 9);
    for receipt in receipts(&world).await.iter().filter(|r| r.word == Some(Word::Delivered)) {
        let ReceiptKey::Gateway(id) = &receipt.key else { panic!("{receipt:?}") };
        let to = ids.remove(id).unwrap();
        assert!(receipt.raw.contains(&*to));
    }
    assert!(ids.is_empty(), "no receipt for {ids:?}");
}

#[tokio::test]
async fn refusals_keep_their_class() {
    for gateway in ["kannel", "json-hmac"] {
        let one = |behaviour: Behaviour, secret: &'static str| async move {
            let world = world(gateway, behaviour, secret).await;
            match world.channel.send(&messages(0..1)).await.remove(0) {
                Outcome::Failed { class, retry_after, .. } => (class, retry_after),
                accepted @ Outcome::Accepted { .. } => panic!("{accepted:?}"),
            }
        };
        assert_eq!(one(Behaviour::default(), "wrong").await.0, Class::Misconfigured, "{gateway}");
        let behaviour = Behaviour { temporary: 1.0, ..Behaviour::default() };
        assert_eq!(one(behaviour, "s3 cr&t").await.0, Class::Temporary, "{gateway}");
        let behaviour = Behaviour { permanent: 1.0, ..Behaviour::default() };
        assert_eq!(one(behaviour, "s3 cr&t").await.0, Class::Permanent, "{gateway}");
        for behaviour in [
            Behaviour { lost_answer: 1.0, ..Behaviour::default() },
            Behaviour { half_answer: 1.0, ..Behaviour::default() },
        ] {
            assert_eq!(one(behaviour, "s3 cr&t").await.0, Class::Unknown, "{gateway}");
        }
        let behaviour = Behaviour { throttle: 1.0, retry_after: 9, ..Behaviour::default() };
        assert_eq!(one(behaviour, "s3 cr&t").await, (Class::Throttled, Some(Duration::from_secs(9))), "{gateway}");
    }
}
