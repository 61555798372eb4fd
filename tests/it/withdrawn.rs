//! A receiver that answers 410 Gone takes nothing any more: its channel pauses, everybody
//! who should hear of it does, and an operator's word lets it go on. Over a socket double.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use gong::domain::delivery::State;
use gong::loopback::MediaSetup;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::rig::{SOON, get, until};
use crate::site::{ALERT, Site, finished, in_state, wish};

/// An endpoint that is gone, until it is not.
#[derive(Default)]
struct Endpoint {
    back: AtomicBool,
    asked: AtomicU32,
}

impl Endpoint {
    async fn start(self: &Arc<Self>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let endpoint = Arc::clone(self);
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&endpoint).answer(connection));
            }
        });
        at
    }

    /// One request, one answer.
    async fn answer(self: Arc<Self>, mut connection: TcpStream) {
        let (mut heard, mut piece) = (String::new(), [0; 4096]);
        while !heard.trim_end().ends_with('}') {
            let Ok(n @ 1..) = connection.read(&mut piece).await else { return };
            heard += &String::from_utf8_lossy(&piece[..n]);
        }
        assert!(heard.contains("webhook-signature: v1,"), "{heard}");
        self.asked.fetch_add(1, Ordering::SeqCst);
        let status = if self.back.load(Ordering::SeqCst) { "204 No Content" } else { "410 Gone" };
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        connection.write_all(answer.as_bytes()).await.unwrap();
    }
}

async fn site(endpoint: SocketAddr) -> Site {
    let site = Site::new().await;
    let setup = MediaSetup { key: "robot token".into(), secret: "SEC+/ signs=".into(), dir: None };
    std::fs::write(site.dir.path().join("data/whsec"), setup.whsec()).unwrap();
    site.with("[retry]\ninitial_ms = 20\nmax_ms = 200\nsettle_ms = 100").with(&format!(
        "[alarm]\ncommand = [\"sh\", \"-c\", \"cat >> said; echo $GONG_ALARM_KEY $GONG_ALARM_STATE >> keys\"]\n\
         [channels.portal]\ngateway = \"webhook\"\nvars = {{ url = \"http://{endpoint}/hook\" }}\n\
         secrets = {{ key = \"file:data/whsec\" }}\nlimits = {{ rate = 100 }}"
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_gone_pauses_its_channel_until_an_operator_resumes_it() {
    let endpoint = Arc::new(Endpoint::default());
    let mut site = site(endpoint.start().await).await;
    let app = site.open().await;
    site.settle(&app, 10).await;
    let serving = site.serve(&app).await;
    let item = site.approve(&app, ALERT).await;
    let first = site.send(&app, &item, &wish("all", "portal")).await;
    let paused =
        async || app.store.channels().await.unwrap().into_iter().any(|c| c.name == "portal" && c.is_withdrawn());
    until("the channel is paused", SOON, paused).await;

    let read = |name: &str| std::fs::read_to_string(site.dir.path().join(name)).unwrap_or_default();
    until("the alarm rings", SOON, async || read("keys").contains("withdrawn:portal begins")).await;
    until("all of it is told", SOON, async || read("said").contains("gong resume channel:portal")).await;
    let metrics = get(site.address(), "/metrics").await;
    for line in [
        "gong_channel_stopped{channel=\"portal\",why=\"withdrawn\"} 1",
        "gong_channel_paused{channel=\"portal\"} 1",
        "gong_alarms{kind=\"withdrawn\"} 1",
        "gong_answers_total{channel=\"portal\",class=\"withdrawn\"} 1",
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line} is not in\n{metrics}");
    }
    let no = first.no.to_string();
    for command in [&["status"][..], &["status", &no]] {
        let run = site.run(command).ok();
        let said = run.stdout + &run.stderr;
        assert!(said.contains("不再接收") && said.contains("gong resume channel:portal"), "{command:?}: {said}");
    }
    let status = site.run(&["status", &no, "--json"]).ok().json();
    assert_eq!(status["paused"], serde_json::json!([{ "channel": "portal", "withdrawn": true }]), "{status}");
    assert_eq!((status["finished"].as_bool(), endpoint.asked.load(Ordering::SeqCst)), (Some(false), 1), "{status}");
    let act = app.store.audit_tail(1).await.unwrap().remove(0);
    assert_eq!((act.operator.as_str(), act.action.as_str(), act.subject.as_str()), ("gong", "pause channel", "portal"));
    assert!(act.detail.contains("withdrawn") && act.detail.contains("410"), "{}", act.detail);

    // A second one waits, too, and is not tried; then the receiver is back.
    let second = site.send(&app, &item, &wish("all", "portal")).await;
    until("it is planned", SOON, async || in_state(&app, second.no, State::Queued).await == 1).await;
    endpoint.back.store(true, Ordering::SeqCst);
    site.run(&["resume", "channel:portal", "--as", "李四"]).ok();
    for no in [first.no, second.no] {
        finished(&app, no, SOON).await;
        assert_eq!(in_state(&app, no, State::Sent).await, 1);
    }
    assert_eq!(endpoint.asked.load(Ordering::SeqCst), 3);
    assert!(!paused().await);
    serving.stop().await;
}
