//! A real Kannel: what the shipped declaration sends it takes, and its delivery reports
//! come back. Its fake SMSC delivers everything and nothing leaves the machine.
//! Needs `GONG_TEST_KANNEL`, its sendsms URL (deploy/services/kannel.sh start).

use std::time::Duration;

use gong::domain::delivery::State;

use crate::site::{ALERT, Site, finished, in_state, wish};

/// People with a number each, and some on their household's, of which the site makes a
/// tenth without any: so many that 5,000 messages and more go out.
const PEOPLE: usize = 5_600;
const LIMIT: Duration = Duration::from_mins(4);

#[allow(clippy::disallowed_methods)] // tests have no config file
fn server() -> Option<String> {
    std::env::var("GONG_TEST_KANNEL").ok().filter(|url| !url.is_empty())
}

#[tokio::test(flavor = "multi_thread")]
async fn kannel_takes_five_thousand_and_reports_them_all() {
    let Some(server) = server() else { return };
    let mut site = Site::new().await.with(&format!(
        "[channels.sms]\ngateway = \"kannel\"\nsignature = \"【河口应急】\"\n\
         vars = {{ url = \"{server}\", username = \"gong\" }}\n\
         secrets = {{ password = \"file:data/kannel\", token = \"file:data/token\" }}\nlimits = {{ rate = 400 }}"
    ));
    std::fs::write(site.dir.path().join("data/kannel"), "kannel").unwrap();
    let app = site.open().await;
    site.settle(&app, PEOPLE).await;
    let serving = site.serve(&app).await;
    let item = site.approve(&app, ALERT).await;
    let prepared = app.prepare(&item, &wish("all", "sms"), "李四").await.unwrap();
    assert!(prepared.preview.deliveries >= 5_000, "{}", prepared.preview.deliveries);
    let dispatch = app.store.create_dispatch(&prepared.new).await.unwrap();
    let done = finished(&app, dispatch.no, LIMIT).await;
    assert_eq!((done.members, done.deliveries), (prepared.preview.members, prepared.preview.deliveries));
    let counts = app.store.delivery_counts(done.no).await.unwrap();
    assert_eq!(in_state(&app, done.no, State::Delivered).await, done.deliveries, "{counts:?}");
    let report = app.store.reach(done.no, &app.channel_kinds().await.unwrap(), app.store.now()).await.unwrap();
    let (own, household, none) = Site::shares(PEOPLE);
    assert_eq!(report.people.reached, i64::try_from(own + household).unwrap());
    assert_eq!(
        (report.people.handed_over, report.people.unreached),
        (report.people.reached, i64::try_from(none).unwrap())
    );
    assert_eq!(app.store.unmatched_receipts().await.unwrap(), 0);
    serving.stop().await;
}
