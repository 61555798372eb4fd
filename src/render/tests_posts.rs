//! Tests of posts: every kind by its shipped template, and what fits a channel.

use jiff::tz::TimeZone;
use serde_json::Value;

use super::compose::{Composer, Sender};
use super::*;
use crate::domain::item::{Content, ItemKind, Level, Relation};

const NOON: i64 = 1_780_279_200_000;
const SENDER: Sender<'_> = Sender { name: "某县应急管理局", phone: "0990-0000000", signature: "", mark: "" };

fn messages() -> Messages {
    Messages::load(None, &TimeZone::get("Asia/Shanghai").unwrap()).unwrap()
}

fn content(kind: ItemKind) -> Content {
    Content {
        title: "暴雨红色预警".into(),
        body: "## 情况\n\n预计三小时\n降雨超过**一百毫米**。\n\n- 带好药品\n- 关闭电源\n".into(),
        level: Some(Level::Red),
        area_text: Some("青山镇".into()),
        actions: vec!["请勿外出".into(), "远离河道".into()],
        effective_at: Some(NOON),
        expires_at: Some(NOON + 10_800_000),
        objection_phone: Some("0990-0000009".into()),
        document_no: Some("某政发〔2026〕1号".into()),
        ..Content::new(kind)
    }
}

fn post(content: &Content, sender: &Sender<'_>) -> String {
    Composer::new(&messages(), Medium::Media, content, sender).unwrap().text(Value::Null).unwrap().text.to_string()
}

#[test]
fn every_kind_is_short_plain_and_says_who_to_call() {
    for kind in ItemKind::ALL {
        for (relation, word) in [
            (None, ""),
            (Some(Relation::Updates), "更新："),
            (Some(Relation::Corrects), "更正："),
            (Some(Relation::Lifts), "解除："),
            (Some(Relation::Withdraws), "撤回："),
        ] {
            let mut item = content(kind);
            item.relations = relation.map(|r| (r, "1".to_owned())).into_iter().collect();
            let text = post(&item, &SENDER);
            let told = text.starts_with(word) || text.contains(&format!("　{word}暴雨红色预警"));
            assert!(told && text.contains("暴雨红色预警（"), "{kind:?}: {text}");
            assert!(text.ends_with("某县应急管理局　咨询电话：0990-0000000"), "{kind:?}: {text}");
            assert!(!text.contains(['{', '}', '*', '#']) && !text.contains("\n\n"), "{kind:?}: {text}");
            assert!(text.contains("预计三小时降雨超过一百毫米。\n· 带好药品\n· 关闭电源\n"), "{kind:?}: {text}");
        }
        // Nothing but what an item must have.
        let bare = post(&Content { title: "一".into(), phone: "0990-1".into(), ..Content::new(kind) }, &SENDER);
        assert!(
            bare.contains('一') && bare.ends_with("咨询电话：0990-1") && !bare.contains("\n\n"),
            "{kind:?}: {bare}"
        );
    }
}

#[test]
fn posts_read_as_an_officer_would_write_them() {
    assert_eq!(
        post(&content(ItemKind::Alert), &Sender { mark: "【演练】", ..SENDER }),
        "【演练】暴雨红色预警（红色）\n时间：6月1日10时起，至6月1日13时\n范围：青山镇\n· 请勿外出\n· 远离河道\n\
         情况\n预计三小时降雨超过一百毫米。\n· 带好药品\n· 关闭电源\n某县应急管理局　咨询电话：0990-0000000"
    );
    let publication = post(&content(ItemKind::Publication), &SENDER);
    assert!(publication.contains("公示期至 6月1日，有异议请在此前反映：0990-0000009\n"), "{publication}");
    let policy = post(&content(ItemKind::Policy), &SENDER);
    assert!(policy.starts_with("政策　暴雨红色预警（红色）（某政发〔2026〕1号）\n"), "{policy}");
    let mut lift = content(ItemKind::TransferOrder);
    lift.relations = vec![(Relation::Lifts, "1".to_owned())];
    let lift = post(&lift, &SENDER);
    assert!(lift.contains("以上转移避险已经解除。") && !lift.contains("请勿外出"), "{lift}");
}

#[test]
fn a_post_too_long_ends_with_a_sentence_and_keeps_unit_and_phone() {
    let item = Content { body: "这是一句十二个字的话呀。".repeat(100), ..content(ItemKind::Notice) };
    let made = |most, read_on| {
        Composer::new(&messages(), Medium::Media, &item, &SENDER).unwrap().within(Some(most), read_on).unwrap()
    };
    for most in [300, 301, 500, 2_048] {
        let mut composer = made(most, Some("（全文请看公告栏）"));
        assert!(composer.is_cut());
        let text = composer.text(Value::Null).unwrap().text;
        assert!(text.len() <= most && text.len() + 36 > most - 36, "{most}: {}", text.len());
        assert!(text.contains("话呀。……（全文请看公告栏）\n某县应急管理局　咨询电话：0990-0000000"), "{text}");
        assert!(text.contains("远离河道"), "what to do is not cut: {text}");
    }
    let whole = made(10_000, Some("x"));
    assert!(!whole.is_cut());
    // Where nobody says where to read on it stays as it is, for the caller to refuse.
    let mut long = made(300, None);
    assert!(!long.is_cut() && long.text(Value::Null).unwrap().text.len() > 300);
    // What does not fit even without a body is no shorter for being cut.
    assert!(made(100, Some("x")).text(Value::Null).unwrap().text.len() > 100);
}

#[test]
fn sentences_do_not_end_in_numbers_and_addresses() {
    let body = "水位3.5米。See www.example.cn now. 下一句";
    let item = Content { title: "一".into(), body: body.into(), ..Content::new(ItemKind::Notice) };
    let whole = post(&item, &SENDER).len();
    let mut cut =
        Composer::new(&messages(), Medium::Media, &item, &SENDER).unwrap().within(Some(whole - 1), Some("")).unwrap();
    let text = cut.text(Value::Null).unwrap().text;
    assert!(text.contains("now.……\n"), "{text}");
}

#[test]
fn another_system_is_told_who_answers_for_it() {
    let made = Composer::new(&messages(), Medium::Media, &content(ItemKind::Alert), &SENDER).unwrap();
    let facts = made.facts().unwrap();
    assert_eq!((&facts["issuer"], &facts["phone"]), (&"某县应急管理局".into(), &"0990-0000000".into()));
    assert_eq!((&facts["level"], &facts["kind"]), (&"red".into(), &"alert".into()));
    assert!(Composer::new(&messages(), Medium::Sms, &content(ItemKind::Alert), &SENDER).unwrap().facts().is_none());
}
