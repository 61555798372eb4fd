//! The loopback mail server, spoken to by hand.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

const ID: &str = "00000003-0000-8000-8001-0123456789ab";

/// Everything the server says to these lines until it closes.
async fn talk(server: &SmtpRunning, lines: &str) -> String {
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    stream.write_all(lines.as_bytes()).await.unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).await.unwrap();
    said
}

fn mail(to: &str, id: &str) -> String {
    format!(
        "MAIL FROM:<bounces+{id}@hekou.example> ENVID={id}\r\nRCPT TO:<{to}> NOTIFY=FAILURE\r\nDATA\r\n\
         Message-ID: <{id}@hekou.example>\r\nSubject: x\r\n\r\n..a\r\nb\r\n.\r\n"
    )
}

fn codes(said: &str) -> Vec<&str> {
    said.lines().filter(|l| l.as_bytes().get(3) == Some(&b' ')).map(|l| &l[..3]).collect()
}

#[tokio::test]
async fn a_pipelined_session_is_answered_line_by_line() {
    let dir = tempfile::tempdir().unwrap();
    let server = SmtpLoopback { dir: Some(dir.path().to_owned()), ..SmtpLoopback::new(Behaviour::default()) };
    let server = server.start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let twice =
        format!("EHLO x\r\n{m}{m}RCPT TO:<a@b.example>\r\nDATA\r\nFOO\r\nQUIT\r\n", m = mail("w@x.example", ID));
    let said = talk(&server, &twice).await;
    assert_eq!(
        codes(&said),
        ["220", "250", "250", "250", "354", "250", "250", "250", "354", "250", "503", "554", "502", "221"]
    );
    let stats = server.stop().await;
    assert_eq!((stats.accepted, stats.duplicates), (2, 1));
    let kept = std::fs::read_to_string(dir.path().join(format!("{ID}-1.eml"))).unwrap();
    assert!(kept.ends_with("\r\n\r\n.a\r\nb\r\n"), "{kept}");
}

#[tokio::test]
async fn it_errs_as_it_is_told() {
    for (behaviour, last, taken) in [
        (Behaviour { temporary: 1.0, ..Behaviour::default() }, "451", 0),
        (Behaviour { permanent: 1.0, ..Behaviour::default() }, "550", 0),
        (Behaviour { throttle: 1.0, ..Behaviour::default() }, "421", 0),
        (Behaviour { lost_answer: 1.0, ..Behaviour::default() }, "354", 1),
    ] {
        let server = SmtpLoopback::new(behaviour).start("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let said = talk(&server, &format!("EHLO x\r\n{}QUIT\r\n", mail("w@x.example", ID))).await;
        let codes: Vec<&str> = codes(&said).into_iter().filter(|c| *c != "221").collect();
        assert_eq!(codes.last(), Some(&last), "{said}");
        assert_eq!(server.stop().await.accepted, taken);
    }
    assert!(SmtpLoopback::new(Behaviour::default()).start("192.0.2.1:25".parse().unwrap()).await.is_err());
}

#[tokio::test]
async fn what_is_not_delivered_bounces() {
    let dir = tempfile::tempdir().unwrap();
    let behaviour = Behaviour { undelivered: 1.0, receipt_delay: "0".parse().unwrap(), ..Behaviour::default() };
    let server = SmtpLoopback { bounces: Some(dir.path().to_owned()), ..SmtpLoopback::new(behaviour) };
    let server = server.start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    talk(&server, &format!("EHLO x\r\n{}QUIT\r\n", mail("w@x.example", ID))).await;
    while server.stats().receipts_sent == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let file = std::fs::read_dir(dir.path().join("new")).unwrap().next().unwrap().unwrap();
    let report = std::fs::read_to_string(file.path()).unwrap();
    assert!(
        report.contains(&format!("To: bounces+{ID}@hekou.example")) && report.contains("Status: 5.1.1"),
        "{report}"
    );
}
