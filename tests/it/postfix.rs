//! A real Postfix: it delivers to a mailbox, bounces an unknown user, and the bounce
//! is matched. Runs where `GONG_TEST_POSTFIX` names one (tests/run.sh starts it).

use gong::domain::delivery::State;
use mail_parser::MessageParser;

use crate::email::{declared, mail_people};
use crate::rig::{SOON, until};
use crate::site::{ALERT, NOTICE, Site, in_state, wish};
use crate::support::postfix;

#[tokio::test(flavor = "multi_thread")]
async fn postfix_delivers_and_its_bounce_is_matched() {
    let Some((at, folder)) = postfix() else { return };
    // Two runs at once would take each other's bounces.
    let lock = std::fs::File::create(folder.with_file_name("test.lock")).unwrap();
    let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await.unwrap().unwrap();
    let run = uuid::Uuid::now_v7().simple().to_string();
    let (known, unknown) = (format!("people+{run}@gong.test"), format!("nobody{run}@gong.test"));
    let vars = format!(
        "from = \"河口县应急管理局 <alert@gong.test>\"\nverp = \"bounces\"\nbounces = \"{}\"",
        folder.join("bounces").display()
    );
    let mut site = Site::new().await.with(&declared(&at, &vars, "in_flight = 2"));
    let app = site.open().await;
    mail_people(&site, &app, &[known.clone(), unknown]).await;
    let serving = site.serve(&app).await;
    let item = site.approve(&app, ALERT).await;
    let dispatch = site.send(&app, &item, &wish("all", "mail")).await;
    until("Postfix's bounce is matched", SOON, async || in_state(&app, dispatch.no, State::Undelivered).await == 1)
        .await;
    assert_eq!(in_state(&app, dispatch.no, State::Sent).await, 1);
    let mailbox = folder.join("people/new");
    let mut mail = None;
    until("the mail lies in its box", SOON, async || {
        let files = std::fs::read_dir(&mailbox).into_iter().flatten().flatten();
        mail = files.filter_map(|f| std::fs::read(f.path()).ok()).find(|m| String::from_utf8_lossy(m).contains(&known));
        mail.is_some()
    })
    .await;
    let mail = mail.unwrap();
    let mail = MessageParser::default().parse(&mail).unwrap();
    assert_eq!(mail.subject(), Some("暴雨红色预警"));
    assert!(
        mail.body_text(0).unwrap().contains("请沿河各村立即转移") && mail.body_html(0).unwrap().contains("#c00000")
    );
    assert!(mail.header_raw("Return-Path").unwrap().contains("<bounces+"));
    // The mailbox that is not there gets nothing more.
    let item = site.approve(&app, NOTICE).await;
    let again = site.send(&app, &item, &wish("all", "mail")).await;
    until("the second goes to one", SOON, async || in_state(&app, again.no, State::Sent).await == 1).await;
    assert_eq!(app.store.dispatch(&again.id).await.unwrap().deliveries, 1);
    serving.stop().await;
    drop(lock);
}
