//! A round of an agency: a list with an amount for each, a text for each, and a second
//! round for those whom the first did not reach.

use gong::app::prepare::Wish;
use gong::domain::delivery::State;
use gong::domain::sms;
use gong::loopback::{Behaviour, Span};
use gong::store::StoreError;

use crate::rig::{self, SOON, Texts};
use crate::site::{Site, finished, gateway, in_state, wish};

const ITEM: &str = "+++\nkind = \"notice\"\ntitle = \"耕地补贴\"\nphone = \"0873-5550000\"\nvariables = [\"金额\", \"事由\"]\n\
    sms = \"您的耕地补贴{{vars.金额}}元（{{vars.事由}}）已发放，咨询电话0873-5550000\"\n+++\n见短信。\n";

/// One in every three has a reason that makes the text two parts long.
fn reason(i: usize) -> String {
    if i.is_multiple_of(3) {
        "退耕还林及水毁农田修复补助，含上年度结转部分，户主本人领取，逾期不再办理，请携带证件".into()
    } else {
        "水稻".into()
    }
}

fn row(i: usize) -> String {
    format!("p{i},{}.50,{}\n", 100 + i, reason(i))
}

fn text(i: usize) -> String {
    format!("【河口应急】您的耕地补贴{}.50元（{}）已发放，咨询电话0873-5550000", 100 + i, reason(i))
}

/// A list of the people with these numbers.
fn list(people: impl Iterator<Item = usize>) -> String {
    String::from("外部编号,金额,事由\n") + &people.map(row).collect::<String>()
}

async fn why(app: &gong::app::App, item: &str, wish: &Wish) -> String {
    let error = app.prepare(item, wish, "李四").await.err().unwrap();
    assert!(matches!(error.downcast_ref(), Some(StoreError::Refused(_))), "{error}");
    error.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_on_a_list_gets_a_text_of_their_own() {
    let texts = Texts::start().await;
    let limits = "rate = 2000, evidence = \"accept_only\"";
    let mut site = Site::new().await.with_kannel(texts.addr, limits);
    let app = site.open().await;
    site.settle(&app, 100).await;
    // Two people on one phone.
    let pair = "外部编号,姓名,手机,常住地\npair1,夫,13700000001,532532101200\npair2,妻,13700000001,532532101200\n";
    rig::import_people(&app, site.dir.path(), pair).await;
    let rows = list(0..60) + "pair1,7.00,甲\npair2,8.00,乙\n";
    assert_eq!(rig::import_list(&app, site.dir.path(), "补贴", &rows).await.added, 62);
    let item = site.approve(&app, ITEM).await;

    let plan = wish("list:补贴", "sms");
    let prepared = app.prepare(&item, &plan, "李四").await.unwrap();
    // Every tenth has no phone.
    let reached: Vec<usize> = (0..60).filter(|i| i % 10 != 9).collect();
    let parts: u32 = reached.iter().map(|i| sms::segments(&text(*i)).parts).sum::<u32>() + 2;
    let preview = &prepared.preview;
    assert!(parts > 56 + 10, "some texts are longer");
    assert_eq!((preview.members, preview.deliveries, preview.parts), (62, 56, i64::from(parts)));
    assert_eq!((preview.channels[0].parts_each, preview.no_address), (2, 6));
    assert!(reached.iter().any(|i| text(*i) == preview.sample), "{}", preview.sample);

    let serving = site.serve(&app).await;
    let dispatch = app.store.create_dispatch(&prepared.new).await.unwrap();
    let done = finished(&app, dispatch.no, SOON).await;
    assert_eq!((done.members, done.deliveries), (62, 56));
    let sent = texts.all();
    let mut expected: Vec<String> = reached.iter().map(|i| text(*i)).collect();
    for (amount, whom) in [("7.00", "甲"), ("8.00", "乙")] {
        expected.push(format!("【河口应急】您的耕地补贴{amount}元（{whom}）已发放，咨询电话0873-5550000"));
    }
    expected.sort();
    let mut got: Vec<String> = sent.iter().map(|(_, text)| text.clone()).collect();
    got.sort();
    assert_eq!(got, expected);
    assert_eq!(sent.iter().filter(|(to, _)| to == "13700000001").count(), 2, "a shared phone gets both");
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_text_lacks_is_said_before_anything_is_sent() {
    let site = Site::new().await.with_kannel("127.0.0.1:9".parse().unwrap(), "rate = 10");
    let app = site.open().await;
    site.settle(&app, 30).await;
    let item = site.approve(&app, ITEM).await;
    assert!(why(&app, &item, &wish("all", "sms")).await.contains("恰好来自一份名单"));
    rig::import_list(&app, site.dir.path(), "补贴", &list(0..10)).await;
    let more = why(&app, &item, &wish("list:补贴 or region:532532102000", "sms")).await;
    // Of those in the town that are not on the list.
    let without = (10..30).filter(|i| i % 10 != 9 && i / 2 % 4 >= 2).count();
    assert!(more.contains(&format!("{without} 人在名单里没有自己的一行")), "{more}");
    let few = "外部编号,金额\np1,5.00\n";
    rig::import_list(&app, site.dir.path(), "缺列", few).await;
    let error = app.prepare(&item, &wish("list:缺列", "sms"), "李四").await.err().unwrap();
    assert!(error.to_string().contains("事由"), "{error}");
    assert!(app.store.dispatches(false).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_round_goes_to_those_not_reached() {
    let gateway = gateway(Behaviour { undelivered: 0.4, receipt_delay: Span::fixed(20), ..Behaviour::default() }).await;
    let mut site = Site::new().await.with_kannel(gateway.addr, "rate = 2000");
    let app = site.open().await;
    site.settle(&app, 100).await;
    rig::import_list(&app, site.dir.path(), "补贴", &list(0..80)).await;
    let item = site.approve(&app, ITEM).await;
    let serving = site.serve(&app).await;
    let first = site.send(&app, &item, &wish("list:补贴", "sms")).await;
    let first = finished(&app, first.no, SOON).await;
    let (delivered, missed) =
        (in_state(&app, first.no, State::Delivered).await, in_state(&app, first.no, State::Undelivered).await);
    assert!(delivered > 20 && missed > 10, "{delivered} {missed}");
    gateway.behave(Behaviour { receipt_delay: Span::fixed(20), ..Behaviour::default() }).unwrap();
    let second = wish(&format!("list:补贴 and unreached:{}", first.no), "sms");
    let second = site.send(&app, &item, &second).await;
    let second = finished(&app, second.no, SOON).await;
    // Eight have no phone, and were not reached either.
    assert_eq!((second.members, second.deliveries), (missed + 8, missed));
    assert_eq!(in_state(&app, second.no, State::Delivered).await, missed);
    serving.stop().await;
    gateway.stop().await;
}
