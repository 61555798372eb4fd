//! The mail channel against mail servers that say what they are told to, on sockets.

use std::collections::BTreeMap;
use std::sync::Arc;

use mail_parser::{MessageParser, MimeHeaders as _};
use tokio::net::TcpListener;
use uuid::Uuid;

use super::*;
use crate::channel::http::tests::site;
use crate::channel::registry::{ChannelSettings, Registry, RegistryError};
use crate::channel::{CallbackError, ReceiptKey};

mod server;

use server::{Guard, Script, Server};

fn channel(vars: &str) -> Result<Arc<dyn Channel>, RegistryError> {
    let settings = format!(
        "[mail]\ngateway = 'smtp'\nlimits = {{ timeout = '2s', batch = 20 }}\n\
         [mail.vars]\nfrom = '河口县应急管理局 <alert@hekou.example>'\n{}\n{}",
        vars.replace(", ", "\n"),
        if vars.contains("username") { "[mail.secrets]\npassword = 'env:KEY'" } else { "" }
    );
    let settings: BTreeMap<String, ChannelSettings> = toml::from_str(&settings).unwrap();
    Ok(Registry::build(&settings, &site(None))?.get("mail").unwrap())
}

fn mails(n: u32) -> Vec<Outgoing> {
    let (title, text): (Arc<str>, Arc<str>) = ("暴雨红色预警".into(), "请立即转移。\n.\n咨询电话：0873-5550000".into());
    let html: Arc<str> = "<p>请立即转移。</p>".into();
    let one = |n: u32| Outgoing {
        client_id: Uuid::from_u128(u128::from(n) + (0x8 << 76) + (2 << 62)),
        to: format!("wang{n}@x.example").into(),
        title: Arc::clone(&title),
        text: Arc::clone(&text),
        html: Some(Arc::clone(&html)),
        facts: None,
        parts: 1,
        may_opt_out: n % 2 == 1,
    };
    (0..n).map(one).collect()
}

fn class_of(outcome: &Outcome) -> Option<Class> {
    match outcome {
        Outcome::Accepted { .. } => None,
        Outcome::Failed { class, .. } => Some(*class),
    }
}

const ALL: &[&str] = &["PIPELINING", "DSN", "AUTH PLAIN LOGIN", "STARTTLS"];

#[tokio::test]
async fn mails_go_over_one_connection_and_arrive_whole() {
    for hello in [ALL, &[]] {
        let server = Server::plain(hello, &[], 0).await;
        let channel =
            server.channel("\nunsubscribe = 'https://hekou.example/u/{id}'\nreply_to = 'office@hekou.example'");
        for _ in 0..2 {
            let outcomes = channel.send(&mails(3)).await;
            assert!(
                outcomes.iter().all(|o| matches!(o, Outcome::Accepted { code, .. } if code.starts_with("250 2.0.0"))),
                "{outcomes:?}"
            );
        }
        let seen = server.seen.lock().unwrap();
        assert_eq!((seen.connections, seen.mails.len()), (1, 6));
        assert_eq!(seen.pipelined > 0, hello.contains(&"PIPELINING"));
        let id = mails(2)[1].client_id;
        assert!(seen.lines.iter().any(|l| l.starts_with(&format!("MAIL FROM:<bounces+{id}@hekou.example>"))));
        assert_eq!(seen.lines.iter().any(|l| l.ends_with("NOTIFY=FAILURE")), hello.contains(&"DSN"));
        let mail = MessageParser::default().parse(seen.mails[1].as_bytes()).unwrap();
        assert_eq!(mail.subject(), Some("暴雨红色预警"));
        assert_eq!(mail.message_id(), Some(format!("{id}@hekou.example").as_str()));
        assert_eq!(mail.from().unwrap().first().unwrap().name(), Some("河口县应急管理局"));
        assert_eq!(mail.header_raw("Auto-Submitted").map(str::trim), Some("auto-generated"));
        assert_eq!(
            mail.header_raw("List-Unsubscribe").map(str::trim),
            Some(format!("<https://hekou.example/u/{id}>").as_str())
        );
        assert!(mail.date().is_some() && mail.header_raw("Reply-To").unwrap().contains("office@"));
        assert!(
            mail.body_text(0).unwrap().contains("请立即转移。\r\n.\r\n咨询电话")
                || mail.body_text(0).unwrap().contains("请立即转移。\n.\n咨询电话")
        );
        assert_eq!(mail.body_html(0).unwrap().trim(), "<p>请立即转移。</p>");
        assert_eq!(mail.content_type().and_then(|c| c.subtype().map(str::to_owned)).as_deref(), Some("alternative"));
        let alert = MessageParser::default().parse(seen.mails[0].as_bytes()).unwrap();
        assert!(alert.header_raw("List-Unsubscribe").is_none());
    }
}

#[tokio::test]
async fn refusals_have_their_class_and_the_connection_goes_on() {
    for (verb, answer, class) in [
        ("RCPT", "550 5.1.1 <wang0@x.example>: unknown", Class::AddressGone),
        ("RCPT", "450 4.2.0 greylisted", Class::Temporary),
        ("RCPT", "452 4.5.3 too many", Class::Throttled),
        ("MAIL", "452 4.3.1 no space", Class::Temporary),
        ("DATA", "554 5.7.1 refused", Class::Permanent),
        (".", "554 5.7.1 spam", Class::Permanent),
        (".", "451 4.3.0 queue", Class::Temporary),
    ] {
        for hello in [ALL, &[]] {
            let server = Server::plain(hello, &[(verb, answer)], 1).await;
            let channel = server.channel("");
            let outcomes = channel.send(&mails(2)).await;
            for outcome in &outcomes {
                let Outcome::Failed { class: is, code, .. } = outcome else {
                    // A mail refused at its end was seen; the next one goes.
                    assert_eq!(verb, ".");
                    continue;
                };
                assert_eq!(*is, class, "{verb} {answer}");
                assert!(!code.contains("wang"), "{code}");
            }
            assert_eq!(class_of(&outcomes[0]), Some(class));
            let seen = server.seen.lock().unwrap();
            assert_eq!(seen.connections, 1, "{verb} {answer}: {:?}", seen.lines);
            assert_eq!(
                seen.lines.iter().any(|l| l == "RSET"),
                matches!(verb, "RCPT" | "DATA") && !(verb == "RCPT" && hello == ALL),
                "{verb} {:?}",
                seen.lines
            );
        }
    }
}

#[tokio::test]
async fn what_breaks_says_what_is_known() {
    // Written whole, no answer: nobody knows.
    let server = Server::plain(ALL, &[(".", "!")], 1).await;
    let outcomes = server.channel("").send(&mails(3)).await;
    assert_eq!(outcomes.iter().map(class_of).collect::<Vec<_>>(), [Some(Class::Unknown), None, None]);
    assert_eq!(server.seen.lock().unwrap().mails.len(), 3);
    // Nothing of the content was written.
    for (verb, class) in [("MAIL", Class::Unreachable), ("DATA", Class::Unreachable), ("greeting", Class::Unreachable)]
    {
        let server = Server::plain(ALL, &[(verb, "!")], 1).await;
        assert_eq!(class_of(&server.channel("").send(&mails(1)).await[0]), Some(class), "{verb}");
        assert!(server.seen.lock().unwrap().mails.is_empty());
    }
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let channel = channel(&format!("host = '127.0.0.1', port = '{nobody}', tls = 'none'")).unwrap();
    let outcomes = channel.send(&mails(2)).await;
    assert!(outcomes.iter().all(|o| class_of(o) == Some(Class::Unreachable)));
    assert!(channel.probe().await.unwrap().is_err());
}

#[tokio::test]
async fn a_kept_connection_that_closed_is_made_anew() {
    for answer in ["!", "421 4.4.2 timeout exceeded"] {
        let server = Server::plain(ALL, &[], 0).await;
        let channel = server.channel("\nmails_per_connection = '2'");
        assert!(channel.send(&mails(1)).await.iter().all(|o| class_of(o).is_none()));
        // Five more: two connections' worth and a half.
        assert!(channel.send(&mails(5)).await.iter().all(|o| class_of(o).is_none()));
        assert_eq!(server.seen.lock().unwrap().connections, 3);
        let server = Server::plain(ALL, &[("greeting", answer)], 1).await;
        let class = class_of(&server.channel("").send(&mails(1)).await[0]);
        assert_eq!(class, Some(if answer == "!" { Class::Unreachable } else { Class::Throttled }));
    }
    // The server closes the connection after each mail, without a word.
    let server = Server::plain(&["PIPELINING"], &[(".", "~250 2.0.0 Ok")], 99).await;
    let channel = server.channel("");
    assert_eq!(class_of(&channel.send(&mails(1)).await[0]), None);
    let outcomes = channel.send(&mails(3)).await;
    assert!(outcomes.iter().all(|o| class_of(o).is_none()), "{outcomes:?}");
    let seen = server.seen.lock().unwrap();
    assert_eq!((seen.connections, seen.mails.len()), (4, 4));
}

#[tokio::test]
async fn a_silent_server_is_not_waited_for_longer_than_declared() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let channel = channel(&format!("host = '127.0.0.1', port = '{port}', tls = 'none'")).unwrap();
    let began = Instant::now();
    assert_eq!(class_of(&channel.send(&mails(1)).await[0]), Some(Class::Unreachable));
    assert!(began.elapsed() < Duration::from_secs(8));
}

#[tokio::test]
async fn log_in_and_tls_are_as_declared() {
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, include_bytes!("tests/localhost.pem")).unwrap();
    for (guard, word) in [(Guard::Starttls, "starttls"), (Guard::Wrapped, "tls")] {
        let server = Server::start(ALL, Script::new(), 0, guard).await;
        let vars = format!("host = 'localhost', port = '{}', tls = '{word}', username = 'gong'", server.port);
        let trusted = channel(&format!("{vars}, ca = '{}'", ca.display())).unwrap();
        assert_eq!(class_of(&trusted.send(&mails(1)).await[0]), None, "{word}");
        let stranger = channel(&vars).unwrap();
        assert_eq!(class_of(&stranger.send(&mails(1)).await[0]), Some(Class::Misconfigured), "{word}");
        let seen = server.seen.lock().unwrap();
        assert_eq!(seen.mails.len(), 1);
        assert!(seen.lines.iter().any(|l| l.starts_with("AUTH PLAIN ")), "{:?}", seen.lines);
    }
    // Not offered: no password and no mail goes in the clear.
    let server = Server::plain(&["AUTH PLAIN"], &[], 0).await;
    let strict = channel(&format!("host = '127.0.0.1', port = '{}', username = 'gong'", server.port)).unwrap();
    assert_eq!(class_of(&strict.send(&mails(1)).await[0]), Some(Class::Misconfigured));
    assert!(!server.seen.lock().unwrap().lines.iter().any(|l| l.starts_with("AUTH")));
    let server = Server::plain(ALL, &[("AUTH", "535 5.7.8 no")], 1).await;
    let refused = server.channel("\nusername = 'gong'").send(&mails(1)).await;
    assert_eq!(class_of(&refused[0]), Some(Class::Misconfigured));
}

#[tokio::test]
async fn what_would_break_a_header_is_refused() {
    let server = Server::plain(ALL, &[], 0).await;
    let channel = server.channel("");
    let mut batch = mails(5);
    batch[0].to = "a@x.example\r\nBcc: b@x.example".into();
    batch[1].title = "好\r\nBcc: b@x.example".into();
    batch[2].to = "张@x.example".into();
    batch[3].to = "a@x.example> NOTIFY=NEVER".into();
    let classes: Vec<_> = channel.send(&batch).await.iter().map(class_of).collect();
    assert_eq!(
        classes,
        [Some(Class::Permanent), Some(Class::Permanent), Some(Class::Permanent), Some(Class::Permanent), None]
    );
    assert_eq!(server.seen.lock().unwrap().mails.len(), 1);
}

#[test]
fn settings_are_refused_by_name() {
    let good = "host = '127.0.0.1', port = '25', tls = 'none'";
    assert!(channel(good).is_ok());
    for (from, to, field) in [
        ("port = '25'", "port = 'x'", "vars.port"),
        ("tls = 'none'", "tls = 'maybe'", "vars.tls"),
        ("tls = 'none'", "tls = 'none'\nverp = 'a b'", "vars.verp"),
        ("tls = 'none'", "tls = 'none'\nunsubscribe = 'ftp://x'", "vars.unsubscribe"),
        ("tls = 'none'", "tls = 'none'\nnotify = 'never'", "vars.notify"),
        ("host = '127.0.0.1'", "host = ''", "vars.host"),
    ] {
        let error = channel(&good.replace(from, to)).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains(field), "{field}: {error}");
    }
}

#[test]
fn bounces_need_the_token() {
    let channel = channel("host = '127.0.0.1', tls = 'none'").unwrap();
    let callback = Callback { method: "POST", query: &[], headers: &[], body: b"", now: 0 };
    assert_eq!(channel.receipts(&callback), Err(CallbackError::NotTaken));
    let mail = "To: bounces+00000003-0000-8000-8001-0123456789ab@hekou.example\r\n\r\nx\r\n";
    let read = channel.bounce(mail.as_bytes()).unwrap();
    assert!(matches!(read[0].key, ReceiptKey::Client(_)));
}
