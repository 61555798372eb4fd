//! What the tests of behaviour share: the gateway's log, a gateway that keeps the
//! texts it was given, conditions to wait for, and a site set up by commands alone.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use gong::app::App;
use gong::clock::Clock;
use gong::import::table::Options;
use gong::import::{Mode, Run, Summary, lists, recipients};
use gong::loopback::Running;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, ToSocketAddrs};
use uuid::Uuid;

use crate::support::Gong;

/// How long a condition may take that should hold at once, on a busy machine.
pub const SOON: Duration = Duration::from_mins(2);

/// Waits until it holds; fails, naming `what`, when it does not in `limit`.
pub async fn until(what: &str, limit: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let end = tokio::time::Instant::now() + limit;
    while !holds().await {
        assert!(tokio::time::Instant::now() < end, "it never came to that: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// How long a step may take on a busy machine that takes a moment on a free one, and
/// would take far longer if it did not work.
pub const BUSY: Duration = Duration::from_secs(15);

/// Waits until nothing leaves any more: a second after a pause, or a busy machine's few.
pub async fn stands(gateway: &Running) {
    let end = tokio::time::Instant::now() + Duration::from_secs(6);
    let second = Duration::from_secs(1);
    tokio::time::sleep(second).await;
    loop {
        let before = gateway.stats().messages;
        tokio::time::sleep(second).await;
        let left = gateway.stats().messages - before;
        if left == 0 {
            return;
        }
        assert!(tokio::time::Instant::now() < end, "{left} messages left in a second, long after the pause");
    }
}

/// A message that a loopback gateway took.
#[derive(Debug, Clone)]
pub struct Entry {
    pub client_id: Uuid,
    /// How many with this client id, this one included.
    pub n: u64,
    pub at_ms: i64,
}

/// Everything a loopback gateway took, in order.
pub async fn log(gateway: SocketAddr) -> Vec<Entry> {
    log_since(gateway, &mut 0).await
}

/// What it took from the place `since` on, which then stands behind it.
pub async fn log_since(gateway: SocketAddr, since: &mut u64) -> Vec<Entry> {
    let mut all = Vec::new();
    loop {
        let page = get(gateway, &format!("/log?since={since}")).await;
        let before = all.len();
        for line in page.lines().filter(|l| !l.is_empty()) {
            let entry: serde_json::Value = serde_json::from_str(line).unwrap();
            *since = entry["seq"].as_u64().unwrap() + 1;
            all.push(Entry {
                client_id: entry["client_id"].as_str().unwrap().parse().unwrap(),
                n: entry["n"].as_u64().unwrap(),
                at_ms: entry["at_ms"].as_i64().unwrap(),
            });
        }
        if all.len() == before {
            return all;
        }
    }
}

/// The whole answer to a request.
pub async fn ask(host: impl ToSocketAddrs, request: &str) -> String {
    let mut stream = TcpStream::connect(host).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

pub async fn get(host: SocketAddr, path: &str) -> String {
    let answer = ask(host, &format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await;
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// Calls the channel `sms` back: the messages of these ids have arrived, as the gateway of
/// the JSON format signs it. The whole answer.
pub async fn call_back(host: SocketAddr, ids: &[String]) -> String {
    let receipt = |id| serde_json::json!({ "id": id, "status": "DELIVRD" });
    let body = ids.iter().map(receipt).collect::<serde_json::Value>().to_string();
    let at = Clock::System.now();
    // The key of every site here.
    let mut mac = Hmac::<Sha256>::new_from_slice(b"secret").unwrap();
    mac.update(format!("{at}\n{body}").as_bytes());
    let signature = hex::encode(mac.finalize().into_bytes());
    let request = format!(
        "POST /callbacks/sms HTTP/1.0\r\nContent-Type: application/json\r\nX-Timestamp: {at}\r\nX-Signature: {signature}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    ask(host, &request).await
}

/// The value of a sample of `/metrics`, named with its labels.
pub fn sample(metrics: &str, name: &str) -> Option<f64> {
    metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// The dispatch and the delivery that an entry of the log is of.
pub fn delivery_of(app: &App, entry: &Entry) -> (i64, i64) {
    let of = app.store.vault.read_client_id(entry.client_id).expect("an id of ours");
    (i64::from(of.dispatch_no), i64::from(of.ordinal))
}

/// (number, text) of what was taken.
type Kept = Arc<Mutex<Vec<(String, String)>>>;

/// A gateway that takes everything, calls nobody back, and keeps the texts.
pub struct Texts {
    pub addr: SocketAddr,
    kept: Kept,
}

impl Texts {
    pub async fn start() -> Self {
        async fn take(
            State(kept): State<Kept>,
            Query(query): Query<HashMap<String, String>>,
        ) -> (StatusCode, &'static str) {
            kept.lock().unwrap().push((query["to"].clone(), query["text"].clone()));
            (StatusCode::ACCEPTED, "0: Accepted for delivery")
        }
        let kept = Kept::default();
        let app = Router::new().route("/cgi-bin/sendsms", axum::routing::get(take)).with_state(Arc::clone(&kept));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { addr, kept }
    }

    /// (number, text) of all so far, sorted.
    pub fn all(&self) -> Vec<(String, String)> {
        let mut all = self.kept.lock().unwrap().clone();
        all.sort();
        all
    }
}

/// Imports people from a table.
pub async fn import_people(app: &App, dir: &Path, text: &str) -> Summary {
    let path = dir.join("more.csv");
    std::fs::write(&path, text).unwrap();
    let mut table = recipients::open(&path, &Options::default()).unwrap();
    let options = recipients::RecipientOptions::new(jiff::civil::date(2026, 6, 1));
    recipients::import(&app.store, &mut table, &Run::default(), &options, &mut |_| {}).await.unwrap()
}

/// Imports a list of variables.
pub async fn import_list(app: &App, dir: &Path, name: &str, text: &str) -> Summary {
    let path = dir.join("list.csv");
    std::fs::write(&path, text).unwrap();
    let mut table = lists::open(&path, &Options::default()).unwrap();
    let options = lists::ListOptions {
        name: name.to_owned(),
        mode: Mode::Append,
        create: false,
        today: jiff::civil::date(2026, 6, 1),
    };
    lists::import(&app.store, &mut table, &Run::default(), &options, &mut |_| {}).await.unwrap()
}

pub const REGIONS: &str = "code,name,parent,level\n532532000000,河口瑶族自治县,,county\n532532101000,河口镇,532532000000,town\n\
    532532102000,南溪镇,532532000000,town\n532532101200,城郊村,532532101000,village\n532532102200,南溪村,532532102000,village\n";

/// A site as a stranger sets it up: two towns of one village each, `n` people in each,
/// and the channel `sms` to `gateway`. 张三 writes, 李四 reviews and sends.
pub fn town(n: usize, gateway: SocketAddr) -> Gong {
    let gong = Gong::new();
    let people = ["--operator", "张三:author", "--operator", "李四:reviewer,dispatcher", "--operator", "王五:admin"];
    gong.run([&["init", "--name", "河口县应急管理局", "--phone", "0873-5550000"], &people[..]].concat()).ok();
    declare(&gong, gateway);
    let mut people = String::from("编号,姓名,手机,常住地\n");
    for i in 0..2 * n {
        let village = if i < n { "城郊村" } else { "南溪村" };
        writeln!(people, "p{i},居民{i},139{i:08},{village}").unwrap();
    }
    write(&gong, "regions.csv", REGIONS);
    write(&gong, "people.csv", &people);
    gong.run(["import", "regions", "regions.csv", "--as", "张三"]).ok();
    gong.run(["import", "recipients", "people.csv", "--as", "张三"]).ok();
    gong
}

/// Adds the channel `sms` to a site's configuration, and takes its quiet hours out.
fn declare(gong: &Gong, gateway: SocketAddr) {
    write(gong, "data/password", "pass");
    write(gong, "data/token", "token");
    let path = gong.dir().join("gong.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let more = format!(
        "\n[channels.sms]\ngateway = \"kannel\"\nsignature = \"【河口应急】\"\n\
         vars = {{ url = \"http://{gateway}\", username = \"gong\" }}\n\
         secrets = {{ password = \"file:data/password\", token = \"file:data/token\" }}\n\
         limits = {{ rate = 500, evidence = \"accept_only\" }}\n"
    );
    std::fs::write(path, text + &more).unwrap();
}

pub fn write(gong: &Gong, name: &str, text: &str) -> PathBuf {
    let path = gong.dir().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// Enters an item and has it approved; its number.
pub fn approved(gong: &Gong, text: &str) -> String {
    write(gong, "item.md", text);
    let no = gong.run(["item", "add", "item.md", "--as", "张三", "--json"]).ok().json()["no"].to_string();
    gong.run(["item", "approve", &no, "--as", "李四"]).ok();
    no
}
