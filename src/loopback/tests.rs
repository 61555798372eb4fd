//! The gateways through real sockets: answers, losses, receipts, the journal.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use super::*;

type Heard = Arc<Mutex<Vec<(String, HeaderMap, Bytes)>>>;

fn credentials() -> Credentials {
    Credentials { username: "gong".into(), password: "pass".into(), secret: "secret".into() }
}

async fn start(behaviour: Behaviour) -> Running {
    Loopback::new(credentials(), behaviour).start(([127, 0, 0, 1], 0).into()).await.unwrap()
}

/// A receiver of callbacks that refuses the first `refuse` of them.
async fn receiver(refuse: usize) -> (String, Heard) {
    async fn hear(
        State((heard, refuse)): State<(Heard, usize)>,
        RawQuery(query): RawQuery,
        headers: HeaderMap,
        body: Bytes,
    ) -> StatusCode {
        let mut heard = heard.lock().unwrap();
        heard.push((query.unwrap_or_default(), headers, body));
        if heard.len() <= refuse { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }
    }
    let heard = Heard::default();
    let app = Router::new().route("/dlr", axum::routing::any(hear)).with_state((Arc::clone(&heard), refuse));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/dlr", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, heard)
}

async fn settled(running: &Running) -> Stats {
    for _ in 0..1_000 {
        let stats = running.stats();
        if stats.receipts_waiting == 0 {
            return stats;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("receipts still waiting: {:?}", running.stats());
}

/// Status, Retry-After and body; `None` when no whole answer came.
async fn call(request: Request<Full<Bytes>>) -> Option<(u16, Option<String>, String)> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let answer = client.request(request).await.ok()?;
    let status = answer.status().as_u16();
    let retry = answer.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
    let body = answer.into_body().collect().await.ok()?.to_bytes();
    Some((status, retry, String::from_utf8(body.to_vec()).unwrap()))
}

async fn get(running: &Running, path: &str) -> (u16, String) {
    let request = Request::get(format!("http://{}{path}", running.addr)).body(Full::default()).unwrap();
    call(request).await.map(|(status, _, body)| (status, body)).unwrap()
}

async fn post(running: &Running, path: &str, body: &str) -> Option<(u16, Option<String>, String)> {
    let signature = Signer::new("secret").unwrap().sign(b"1", body.as_bytes());
    let request = Request::post(format!("http://{}{path}", running.addr))
        .header("X-Timestamp", "1")
        .header("X-Signature", signature)
        .body(Full::from(body.to_owned()))
        .unwrap();
    call(request).await
}

/// A JSON submission to the made-up number 139 0000 `i`.
fn submission(i: u32, callback: Option<&str>) -> String {
    json!({ "id": format!("c{i}"), "to": [format!("1390000{i:04}")], "text": "水位超警", "callback": callback })
        .to_string()
}

#[tokio::test]
async fn only_loopback_addresses_are_listened_on() {
    let outcome = Loopback::new(credentials(), Behaviour::default()).start(([0, 0, 0, 0], 0).into()).await;
    assert!(matches!(outcome, Err(LoopbackError::NotLoopback(_))));
}

#[tokio::test]
async fn kannel_takes_answers_and_reports() {
    let (url, heard) = receiver(0).await;
    let running = start(Behaviour { receipt_delay: Span::fixed(5), ..Behaviour::default() }).await;
    let dlr = format!("{url}?id=0198f2c0-0000-8000-8000-000000000001&st=%d&to=%p&ref=%F");
    let dlr = percent_encoding::utf8_percent_encode(&dlr, percent_encoding::NON_ALPHANUMERIC);
    let query = format!("username=gong&password=pass&to=13900000001&text=%E6%B1%9B&coding=2&dlr-mask=27&dlr-url={dlr}");
    assert_eq!(get(&running, &format!("/cgi-bin/sendsms?{query}")).await, (202, "0: Accepted for delivery".into()));
    assert_eq!(get(&running, "/cgi-bin/sendsms?username=gong&password=no&to=1&text=a").await.0, 403);
    let stats = settled(&running).await;
    assert_eq!((stats.accepted, stats.refused, stats.receipts_sent), (1, 1, 2));
    let queries: Vec<String> = heard.lock().unwrap().iter().map(|(query, ..)| query.clone()).collect();
    assert!(queries[0].contains("st=8&to=13900000001&ref="), "{queries:?}");
    assert!(queries[1].contains("st=1&to=13900000001&ref="), "{queries:?}");
    let log = get(&running, "/log?since=0").await.1;
    assert!(log.contains("0198f2c0-0000-8000-8000-000000000001") && log.contains("\"0001\""), "{log}");
}

#[tokio::test]
async fn a_posted_form_is_taken_too() {
    let running = start(Behaviour { queued: 1.0, ..Behaviour::default() }).await;
    let answer = post(&running, "/cgi-bin/sendsms", "username=gong&password=pass&to=13900000001&text=a").await.unwrap();
    assert_eq!((answer.0, answer.2.as_str()), (202, "3: Queued for later delivery"));
}

#[tokio::test]
async fn json_receipts_are_signed_and_grouped() {
    let (url, heard) = receiver(0).await;
    let running = start(Behaviour { receipt_delay: Span::fixed(200), ..Behaviour::default() }).await;
    let body = json!({ "id": "c", "to": ["13900000001", "13900000002", "13900000003"], "text": "汛", "callback": url });
    let (status, _, text) = post(&running, "/v1/messages", &body.to_string()).await.unwrap();
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &answer["code"], answer["ids"].as_array().unwrap().len()), (200, &json!(0), 3));
    assert_eq!(settled(&running).await.receipts_sent, 3);
    let heard = heard.lock().unwrap();
    let mut seen = Vec::new();
    for (_, headers, body) in heard.iter() {
        let header = |name: &str| headers[name].as_bytes();
        assert!(Signer::new("secret").unwrap().verify(header("x-timestamp"), body, header("x-signature")));
        seen.extend(serde_json::from_slice::<Vec<Value>>(body).unwrap());
    }
    assert!(heard.len() < 3, "grouped: {}", heard.len());
    assert!(seen.iter().all(|item| item["status"] == "DELIVRD" && item["client_id"] == "c"), "{seen:?}");
    assert_eq!(
        seen.iter().map(|item| &item["id"]).collect::<Vec<_>>(),
        answer["ids"].as_array().unwrap().iter().collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn bad_signatures_and_bodies_are_refused() {
    let running = start(Behaviour::default()).await;
    let request = Request::post(format!("http://{}/v1/messages", running.addr)).body(Full::from(submission(1, None)));
    assert_eq!(call(request.unwrap()).await.unwrap().0, 401);
    assert_eq!(post(&running, "/v1/messages", "{}").await.unwrap().0, 400);
    assert_eq!(running.stats().refused, 2);
}

#[tokio::test]
async fn errors_are_answered_as_declared_and_losses_count_as_taken() {
    let running = start(Behaviour::default()).await;
    let cases = [
        ("temporary", Some(503)),
        ("permanent", Some(400)),
        ("throttle", Some(429)),
        ("lost_answer", None),
        ("half_answer", None),
    ];
    for (i, (field, status)) in (0..).zip(cases) {
        let clear = json!({ "temporary": 0, "permanent": 0, "throttle": 0, "lost_answer": 0, "half_answer": 0, "retry_after": 7 });
        post(&running, "/behaviour", &clear.to_string()).await.unwrap();
        assert_eq!(post(&running, "/behaviour", &json!({ field: 1 }).to_string()).await.unwrap().0, 200);
        let answer = post(&running, "/v1/messages", &submission(i, None)).await;
        assert_eq!(answer.as_ref().map(|answer| answer.0), status, "{field}");
        if field == "throttle" {
            assert_eq!(answer.unwrap().1.as_deref(), Some("7"));
        }
    }
    let stats = running.stats();
    assert_eq!((stats.requests, stats.accepted, stats.lost_answers), (5, 2, 2));
    assert_eq!((stats.temporary, stats.permanent, stats.throttled), (1, 1, 1));
    assert_eq!(post(&running, "/behaviour", r#"{"temporary": 2}"#).await.unwrap().0, 400);
    post(&running, "/reset", "").await.unwrap();
    assert_eq!(running.stats(), Stats::default());
}

#[tokio::test]
async fn the_first_seconds_can_be_throttled() {
    let early = Behaviour { throttle_for: 3_600.0, throttle_for_share: 1.0, ..Behaviour::default() };
    let running = start(early).await;
    assert_eq!(post(&running, "/v1/messages", &submission(1, None)).await.unwrap().0, 429);
    running.behave(Behaviour::default()).unwrap();
    assert_eq!(post(&running, "/v1/messages", &submission(1, None)).await.unwrap().0, 200);
    assert_eq!((running.stats().throttled, running.stats().messages), (1, 1));
}

#[tokio::test]
async fn a_seed_fixes_the_counts() {
    let behaviour = Behaviour {
        temporary: 0.2,
        lost_answer: 0.2,
        undelivered: 0.3,
        no_receipt: 0.2,
        doubled: 0.2,
        ..Behaviour::default()
    };
    let mut runs = Vec::new();
    for _ in 0..2 {
        let (url, heard) = receiver(0).await;
        let running = start(Behaviour { receipt_delay: Span { min: 0, max: 40 }, ..behaviour.clone() }).await;
        let bodies: Vec<String> = (0..100).map(|i| submission(i, Some(&url))).collect();
        futures_util::future::join_all(bodies.iter().map(|body| post(&running, "/v1/messages", body))).await;
        let stats = settled(&running).await;
        let items: Vec<Value> =
            heard.lock().unwrap().iter().flat_map(|h| serde_json::from_slice::<Vec<Value>>(&h.2).unwrap()).collect();
        let undelivered = items.iter().filter(|item| item["status"] == "UNDELIV").count();
        runs.push((stats.accepted, stats.temporary, stats.lost_answers, stats.receipts_sent, undelivered));
    }
    assert_eq!(runs[0], runs[1]);
    assert!(runs[0].1 > 5 && runs[0].2 > 5 && runs[0].4 > 5, "{runs:?}");
}

#[tokio::test]
async fn receipts_are_offered_again_while_the_receiver_is_down() {
    let (url, heard) = receiver(2).await;
    let running = start(Behaviour { receipt_delay: Span::fixed(0), ..Behaviour::default() }).await;
    post(&running, "/v1/messages", &submission(1, Some(&url))).await.unwrap();
    assert_eq!(settled(&running).await.receipts_sent, 1);
    assert_eq!(heard.lock().unwrap().len(), 3);
    running.behave(Behaviour { receipt_retry_for: 0, ..Behaviour::default() }).unwrap();
    post(&running, "/v1/messages", &submission(2, Some("http://127.0.0.1:1/"))).await.unwrap();
    post(&running, "/v1/messages", &submission(3, Some("http://192.0.2.1/"))).await.unwrap();
    assert_eq!(settled(&running).await.receipts_failed, 2);
}

#[tokio::test]
async fn a_receipt_can_come_before_the_answer() {
    let (url, heard) = receiver(0).await;
    let running = start(Behaviour { receipt_before_answer: 1.0, ..Behaviour::default() }).await;
    post(&running, "/v1/messages", &submission(1, Some(&url))).await.unwrap();
    assert_eq!(heard.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn the_journal_holds_every_accepted_id() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let mut loopback = Loopback::new(credentials(), Behaviour { lost_answer: 1.0, ..Behaviour::default() });
    loopback.journal = Some(path.clone());
    let running = loopback.start(([127, 0, 0, 1], 0).into()).await.unwrap();
    for _ in 0..2 {
        assert!(post(&running, "/v1/messages", &submission(1, None)).await.is_none());
    }
    let stats = running.stop().await;
    let journal = std::fs::read_to_string(path).unwrap();
    let counts: Vec<&str> = journal.lines().map(|line| line.split(' ').nth(1).unwrap()).collect();
    assert_eq!((counts, stats.duplicates), (vec!["1", "2"], 1));
}
