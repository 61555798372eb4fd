//! Tests against gateways that listen on a socket and misbehave.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::tz::TimeZone;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

use super::*;
use crate::channel::registry::{ChannelSettings, Registry, Site};
use crate::vault::hex;

pub(crate) const NOON: i64 = 1_780_279_200_000;

/// A request as a gateway saw it.
#[derive(Debug, Clone)]
struct Heard {
    line: String,
    headers: String,
    body: String,
}

impl Heard {
    fn header(&self, name: &str) -> &str {
        let found = self.headers.lines().find_map(|l| l.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name)));
        found.map_or("", |(_, value)| value)
    }
}

/// What a gateway does with a request.
enum Act {
    Answer(u16, &'static str, String),
    /// These bytes, then the connection closes.
    Raw(&'static str),
    /// Never answers.
    Hang,
}

struct Double {
    url: String,
    heard: Arc<Mutex<Vec<Heard>>>,
    connections: Arc<AtomicUsize>,
}

async fn double(act: impl Fn(&Heard) -> Act + Send + Sync + 'static) -> Double {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let heard = Arc::new(Mutex::new(Vec::new()));
    let connections = Arc::new(AtomicUsize::new(0));
    let (seen, counted, act) = (Arc::clone(&heard), Arc::clone(&connections), Arc::new(act));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(serve(stream, Arc::clone(&seen), Arc::clone(&act)));
        }
    });
    Double { url, heard, connections }
}

async fn serve(mut stream: TcpStream, seen: Arc<Mutex<Vec<Heard>>>, act: Arc<impl Fn(&Heard) -> Act>) {
    while let Some(request) = read_request(&mut stream).await {
        let act = act(&request);
        seen.lock().unwrap().push(request);
        match act {
            Act::Answer(status, extra, body) => {
                let head = format!("HTTP/1.1 {status} X\r\n{extra}content-length: {}\r\n\r\n", body.len());
                stream.write_all((head + &body).as_bytes()).await.unwrap();
            }
            Act::Raw(bytes) => {
                stream.write_all(bytes.as_bytes()).await.unwrap();
                return;
            }
            Act::Hang => std::future::pending().await,
        }
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<Heard> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let (line, headers) = head.split_once("\r\n").unwrap_or((head, ""));
            let heard = Heard { line: line.into(), headers: headers.replace("\r\n", "\n"), body: body.into() };
            if body.len() >= heard.header("content-length").parse().unwrap_or(0) {
                return Some(heard);
            }
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return None,
            Ok(n) => bytes.extend_from_slice(&chunk[..n]),
        }
    }
}

fn env(name: &str) -> Option<String> {
    match name {
        "KEY" => Some("k1".into()),
        "PASSWORD" => Some("p&w 1".into()),
        "TOKEN" => Some("t0ken".into()),
        _ => None,
    }
}

/// A site whose clock stands at [`NOON`].
pub(crate) fn site(channels_dir: Option<&Path>) -> Site<'_> {
    Site {
        channels_dir,
        base_dir: Path::new("/nonexistent"),
        env: &env,
        public_url: "https://gong.example.cn",
        zone: TimeZone::get("Asia/Shanghai").unwrap(),
        clock: Clock::held(NOON),
        to_send: true,
        press: crate::sheet::Press::default(),
    }
}

fn settings(text: &str) -> BTreeMap<String, ChannelSettings> {
    toml::from_str(text).unwrap()
}

fn channel(text: &str) -> Arc<dyn Channel> {
    Registry::build(&settings(text), &site(None)).unwrap().get("sms").unwrap()
}

pub(crate) fn kannel(url: &str) -> Arc<dyn Channel> {
    kannel_within(url, "10s")
}

fn kannel_within(url: &str, timeout: &str) -> Arc<dyn Channel> {
    channel(&format!(
        "[sms]\ngateway = 'kannel'\nvars = {{ url = '{url}', username = 'gong' }}\nsecrets = {{ password = 'env:PASSWORD', token = 'env:TOKEN' }}\nlimits = {{ timeout = '{timeout}' }}"
    ))
}

pub(crate) fn json_hmac(url: &str) -> Arc<dyn Channel> {
    channel(&format!(
        "[sms]\ngateway = 'json-hmac'\nvars = {{ url = '{url}' }}\nsecrets = {{ key = 'env:KEY' }}\nlimits = {{ batch = 10 }}"
    ))
}

/// A message to a made-up number.
fn message(n: u32, text: &str) -> Outgoing {
    Outgoing {
        client_id: Uuid::from_u128(u128::from(n) + 1),
        to: format!("139{n:08}").into(),
        title: "".into(),
        text: text.into(),
        html: None,
        facts: None,
        parts: 1,
        may_opt_out: false,
    }
}

fn class(outcome: &Outcome) -> Option<Class> {
    match outcome {
        Outcome::Accepted { .. } => None,
        Outcome::Failed { class, .. } => Some(*class),
    }
}

async fn send_one(channel: &Arc<dyn Channel>) -> Outcome {
    let outcomes = channel.send(&[message(1, "汛情 a&b \"引\"\n二")]).await;
    assert_eq!(outcomes.len(), 1);
    outcomes.into_iter().next().unwrap()
}

/// One gateway that always does the same; Kannel's declaration.
async fn kannel_says(act: impl Fn() -> Act + Send + Sync + 'static) -> Outcome {
    send_one(&kannel(&double(move |_| act()).await.url)).await
}

#[tokio::test]
async fn kannel_gets_everything_encoded_and_our_id_comes_back() {
    let gateway = double(|_| Act::Answer(202, "", "0: Accepted for delivery".into())).await;
    let channel = kannel(&gateway.url);
    let outcome = send_one(&channel).await;
    assert_eq!(outcome, Outcome::Accepted { gateway_ids: vec![], code: "HTTP 202".into() });
    let heard = gateway.heard.lock().unwrap()[0].clone();
    let id = Uuid::from_u128(2);
    assert_eq!(
        heard.line,
        format!(
            "GET /cgi-bin/sendsms?username=gong&password=p%26w%201&to=13900000001&text=%E6%B1%9B%E6%83%85%20a%26b%20%22%E5%BC%95%22%0A%E4%BA%8C&charset=UTF-8&coding=2&dlr-mask=31&dlr-url=https%3A%2F%2Fgong.example.cn%2Fcallbacks%2Fsms%3Fid%3D{id}%26status%3D%25d%26time%3D%25T%26token%3Dt0ken HTTP/1.1"
        )
    );
}

#[tokio::test]
async fn the_signature_holds_over_what_was_sent() {
    let gateway = double(|_| Act::Answer(200, "", r#"{"code":0,"id":"AbC-9"}"#.into())).await;
    let outcome = send_one(&json_hmac(&gateway.url)).await;
    assert_eq!(outcome, Outcome::Accepted { gateway_ids: vec!["abc-9".into()], code: "0".into() });
    let heard = gateway.heard.lock().unwrap()[0].clone();
    assert_eq!(heard.line, "POST /v1/messages HTTP/1.1");
    assert_eq!((heard.header("content-type"), heard.header("x-timestamp")), ("application/json", "1780279200000"));
    assert_eq!(heard.header("x-signature"), sign("1780279200000", &heard.body));
    let body: Value = serde_json::from_str(&heard.body).unwrap();
    assert_eq!(body["text"], "汛情 a&b \"引\"\n二");
    assert_eq!(body["to"], serde_json::json!(["13900000001"]));
    assert_eq!(body["id"], Uuid::from_u128(2).to_string());
}

pub(crate) fn sign(timestamp: &str, body: &str) -> String {
    use hmac::{Hmac, Mac};
    let mut mac = <Hmac<sha2::Sha256> as Mac>::new_from_slice(b"k1").unwrap();
    mac.update(format!("{timestamp}\n{body}").as_bytes());
    hex(&mac.finalize().into_bytes())
}

#[tokio::test]
async fn equal_texts_share_a_request_and_outcomes_keep_their_order() {
    let gateway = double(|heard| {
        let body: Value = serde_json::from_str(&heard.body).unwrap();
        let text = body["text"].as_str().unwrap();
        let ids: Vec<String> = body["to"].as_array().unwrap().iter().map(|to| format!("{text}{to}")).collect();
        Act::Answer(200, "", serde_json::json!({"code": 0, "ids": ids}).to_string())
    })
    .await;
    let batch = [message(1, "甲"), message(2, "乙"), message(3, "甲")];
    let outcomes = json_hmac(&gateway.url).send(&batch).await;
    let ids: Vec<_> = outcomes
        .iter()
        .map(|o| match o {
            Outcome::Accepted { gateway_ids, .. } => gateway_ids.join(","),
            Outcome::Failed { .. } => String::new(),
        })
        .collect();
    assert_eq!(ids, ["甲\"13900000001\"", "乙\"13900000002\"", "甲\"13900000003\""]);
    assert_eq!(gateway.heard.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn an_answer_is_classed_by_the_rules() {
    for (status, body, expected) in [
        (202, "3: Queued for later delivery", None),
        (503, "Temporal failure, try again later.", Some(Class::Temporary)),
        (403, "Not routable. Do not try again.", Some(Class::Permanent)),
        (403, "Authorization failed for sendsms", Some(Class::Misconfigured)),
        (400, "Authorization failed", Some(Class::Misconfigured)),
        (400, "Empty receiver number not allowed", Some(Class::Permanent)),
        (500, "", Some(Class::Temporary)),
        (302, "", Some(Class::Misconfigured)),
        (200, "<html>wrong</html>", Some(Class::Unknown)),
    ] {
        let outcome = kannel_says(move || Act::Answer(status, "", body.into())).await;
        assert_eq!(class(&outcome), expected, "{status} {body}");
    }
    for (body, expected) in [
        (r#"{"code":1001,"message":"slow"}"#, Some(Class::Throttled)),
        (r#"{"code":1002,"message":"busy"}"#, Some(Class::Temporary)),
        (r#"{"code":2002,"message":"no 13900000001"}"#, Some(Class::AddressGone)),
        (r#"{"code":2001,"message":"text"}"#, Some(Class::Permanent)),
        (r#"{"code":3001,"message":"key"}"#, Some(Class::Misconfigured)),
        (r#"{"code":"#, Some(Class::Unknown)),
        (r#"{"kode":0}"#, Some(Class::Unknown)),
    ] {
        let gateway = double(move |_| Act::Answer(200, "", body.into())).await;
        let outcome = send_one(&json_hmac(&gateway.url)).await;
        assert_eq!(class(&outcome), expected, "{body}");
        if let Outcome::Failed { code, .. } = outcome {
            assert!(!code.contains("13900000001"), "{code}");
        }
    }
}

#[tokio::test]
async fn retry_after_is_obeyed() {
    let wait = |header: &'static str| async move {
        let gateway = double(move |_| Act::Answer(429, header, String::new())).await;
        match send_one(&json_hmac(&gateway.url)).await {
            Outcome::Failed { class: Class::Throttled, retry_after, .. } => retry_after,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(wait("retry-after: 7\r\n").await, Some(Duration::from_secs(7)));
    assert_eq!(wait("retry-after: Mon, 01 Jun 2026 02:00:30 GMT\r\n").await, Some(Duration::from_secs(30)));
    assert_eq!(wait("").await, None);
}

#[tokio::test]
async fn what_may_have_arrived_is_unknown_and_what_cannot_have_is_temporary() {
    let silent = double(|_| Act::Hang).await;
    assert_eq!(class(&send_one(&kannel_within(&silent.url, "300ms")).await), Some(Class::Unknown));
    assert_eq!(silent.heard.lock().unwrap().len(), 1);
    assert_eq!(class(&kannel_says(|| Act::Raw("")).await), Some(Class::Unknown));
    assert_eq!(class(&kannel_says(|| Act::Raw("HTTP/1.1 202 X\r\ncontent-le")).await), Some(Class::Unknown));
    let half = "HTTP/1.1 202 X\r\ncontent-length: 100\r\n\r\n0: Acc";
    assert_eq!(class(&kannel_says(move || Act::Raw(half)).await), Some(Class::Unknown));
    assert_eq!(class(&kannel_says(|| Act::Answer(202, "", "0: ".repeat(30_000))).await), Some(Class::Unknown));
    // Nobody listens on a port that was just given back.
    let closed = { TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap() };
    assert_eq!(class(&send_one(&kannel(&format!("http://{closed}"))).await), Some(Class::Unreachable));
    assert_eq!(class(&send_one(&kannel("http://169.254.169.254")).await), Some(Class::Misconfigured));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let target = double(|_| Act::Answer(202, "", "0: Accepted".into())).await;
    let location: &'static str = format!("location: {}\r\n", target.url).leak();
    let outcome = kannel_says(move || Act::Answer(307, location, String::new())).await;
    assert_eq!(class(&outcome), Some(Class::Misconfigured));
    assert!(target.heard.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_connection_that_ended_is_replaced() {
    let last = "HTTP/1.1 202 X\r\nconnection: close\r\ncontent-length: 5\r\n\r\n0: OK";
    let gateway = double(move |_| Act::Raw(last)).await;
    let channel = kannel(&gateway.url);
    for _ in 0..3 {
        assert_eq!(class(&send_one(&channel).await), None);
    }
    assert_eq!(gateway.connections.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn connections_are_kept() {
    let gateway = double(|_| Act::Answer(202, "", "0: Accepted".into())).await;
    let channel = kannel(&gateway.url);
    for _ in 0..5 {
        assert_eq!(class(&send_one(&channel).await), None);
    }
    assert_eq!(gateway.connections.load(Ordering::SeqCst), 1);
}

const EACH: &str = r#"
kind = "sms_http"
[limits]
batch = 10
[vars]
url = ""
[request]
url = "{{{vars.url}}}/send"
format = "form"
headers = { X-Q = "{{let.twice}}|{{url}}" }
body = "to={{join tos \",\"}}&text={{text}}"
[[request.let]]
name = "once"
value = "{{pct text}}"
[[request.let]]
name = "twice"
value = "{{base64 let.once}}"
[[answer]]
status = "200-299"
class = "accepted"
[answer_each]
list = "/results"
number = "/mobile"
[[answer_each.rule]]
pointer = "/code"
equals = "OK"
class = "accepted"
id = "/ids"
[[answer_each.rule]]
pointer = "/code"
equals = "GONE"
class = "address_gone"
"#;

#[tokio::test]
async fn a_batch_is_answered_number_by_number() {
    let gateway = double(|_| {
        let body = r#"{"results":[{"mobile":"+8613900000002","code":"GONE"},{"mobile":"13900000001","code":"OK","ids":["p1","p2"]},{"mobile":"13900000003","code":"?"}]}"#;
        Act::Answer(200, "", body.into())
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("each.toml"), EACH).unwrap();
    let text = format!("[sms]\ngateway = 'each'\nvars = {{ url = '{}' }}", gateway.url);
    let channel = Registry::build(&settings(&text), &site(Some(dir.path()))).unwrap().get("sms").unwrap();
    let batch: Vec<_> = (1..=4).map(|n| message(n, "x y")).collect();
    let outcomes = channel.send(&batch).await;
    assert_eq!(outcomes[0], Outcome::Accepted { gateway_ids: vec!["p1".into(), "p2".into()], code: "OK".into() });
    assert_eq!(
        outcomes.iter().map(class).collect::<Vec<_>>(),
        [None, Some(Class::AddressGone), Some(Class::Unknown), Some(Class::Unknown)]
    );
    let heard = gateway.heard.lock().unwrap()[0].clone();
    assert_eq!(heard.header("x-q"), format!("eCUyMHk=|{}/send", gateway.url));
    assert_eq!(heard.body, "to=13900000001%2C13900000002%2C13900000003%2C13900000004&text=x+y");
}
