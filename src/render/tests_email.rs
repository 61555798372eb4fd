//! Tests of mail: both forms carry the unit and the phone, and nothing of an author's HTML.

use serde_json::json;

use super::compose::{Composer, Sender};
use super::*;
use crate::domain::item::{Content, ItemKind, Level, Relation};

const NOON: i64 = 1_780_279_200_000;

fn messages(site: Option<&std::path::Path>) -> Messages {
    Messages::load(site, &TimeZone::get("Asia/Shanghai").unwrap()).unwrap()
}

fn content(kind: ItemKind) -> Content {
    Content {
        title: "关于<河口镇>的事项".into(),
        body: "第一段。\n\n- 一\n- <script>alert(1)</script>二".into(),
        phone: "0990-0000001".into(),
        issuer: Some("县应急管理局".into()),
        level: matches!(kind, ItemKind::Alert | ItemKind::Response).then_some(Level::Yellow),
        area_text: Some("青山镇".into()),
        actions: vec!["请勿外出".into()],
        effective_at: Some(NOON),
        expires_at: Some(NOON + 10_800_000),
        objection_phone: Some("0990-0000002".into()),
        ..Content::new(kind)
    }
}

fn sender(mark: &str) -> Sender<'_> {
    Sender { name: "某县人民政府", phone: "0990-0000000", signature: "", mark }
}

#[test]
fn every_kind_of_mail_carries_unit_and_phone_in_both_forms() {
    let messages = messages(None);
    for kind in ItemKind::ALL {
        for relation in [None, Some(Relation::Lifts), Some(Relation::Corrects)] {
            let mut content = content(kind);
            content.relations = relation.map(|r| (r, "7".to_owned())).into_iter().collect();
            let mail = Composer::new(&messages, Medium::Email, &content, &sender("【演练】"))
                .unwrap()
                .text(json!(null))
                .unwrap();
            let html = mail.html.unwrap();
            for form in [&*mail.text, &*html] {
                for part in ["县应急管理局", "咨询电话：0990-0000001", "请勿外出", "第一段。", "【演练】"]
                {
                    assert!(form.contains(part), "{kind:?} {relation:?} lacks {part}: {form}");
                }
                assert!(!form.contains("{{"), "{form}");
            }
            assert!(mail.text.contains("关于<河口镇>的事项") && html.contains("关于&lt;河口镇&gt;的事项"));
            assert!(
                html.starts_with("<!DOCTYPE html>") && !html.contains("<script") && html.ends_with("</html>"),
                "{html}"
            );
            assert!(html.contains("max-width:640px") && html.contains("width=device-width"));
            assert_eq!(html.contains("#ffd400"), content.level.is_some());
        }
    }
    let mut bare = content(ItemKind::Notice);
    (bare.issuer, bare.phone) = (None, String::new());
    let mail = Composer::new(&messages, Medium::Email, &bare, &sender("")).unwrap().text(json!(null)).unwrap();
    let html = mail.html.unwrap();
    assert!([&*mail.text, &*html].iter().all(|form| form.contains("某县人民政府") && form.contains("0990-0000000")));
}

#[test]
fn a_mail_reads_well() {
    let alert = Composer::new(&messages(None), Medium::Email, &content(ItemKind::Alert), &sender("")).unwrap();
    let text = { alert }.text(json!(null)).unwrap().text;
    assert_eq!(
        &*text,
        "关于<河口镇>的事项（黄色）\n\n范围：青山镇\n时间：6月1日10时 至 6月1日13时\n\n第一段。\n\n- 一\n- <script>alert(1)</script>二\n\n\
         应采取的措施：\n- 请勿外出\n\n县应急管理局\n咨询电话：0990-0000001"
    );
}

#[test]
fn variables_of_recipients_stand_in_both_forms_of_the_body() {
    let mut content = content(ItemKind::Policy);
    content.body = "{{姓名}}：补贴 **{{金额}}** 元。".into();
    let mut composer = Composer::new(&messages(None), Medium::Email, &content, &sender("【测试】")).unwrap();
    assert!(composer.is_personal());
    for (name, safe) in [("甲", "甲"), ("<b>乙", "&lt;b&gt;乙")] {
        let mail = composer.text(json!({"姓名": name, "金额": "12"})).unwrap();
        assert!(mail.text.contains(&format!("{name}：补贴 12 元。")), "{}", mail.text);
        let html = mail.html.unwrap();
        assert!(html.contains(&format!("{safe}：补贴 <strong>12</strong> 元。")), "{html}");
        assert_eq!(html.matches("【测试】").count(), 1, "{html}");
    }
    assert!(matches!(composer.text(json!({"姓名": "丙"})), Err(RenderError::Missing { .. })));
    content.body = "{{item.nothing}}".into();
    assert!(Composer::new(&messages(None), Medium::Email, &content, &sender("")).is_err());
}

#[test]
fn a_site_has_its_own_form_of_each() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("email")).unwrap();
    std::fs::write(dir.path().join("email/notice.hbs"), "本县：{{item.title}}").unwrap();
    std::fs::write(dir.path().join("email/notice.html.hbs"), "<i>{{item.title}}</i>").unwrap();
    let messages = messages(Some(dir.path()));
    let mail = Composer::new(&messages, Medium::Email, &content(ItemKind::Notice), &sender(""))
        .unwrap()
        .text(json!(null))
        .unwrap();
    // The unit and its number are added where a site's own text lacks them.
    assert!(mail.text.starts_with("本县：关于<河口镇>的事项。"), "{}", mail.text);
    let html = mail.html.unwrap();
    assert!(html.starts_with("<i>关于&lt;河口镇&gt;的事项</i><p"), "{html}");
    for form in [&*mail.text, &*html] {
        assert!(form.contains("县应急管理局，咨询电话0990-0000001"), "{form}");
    }
}
