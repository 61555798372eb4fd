//! Tests of templates: what renders, and what is refused with its place.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::clock::Clock;

const NOON: i64 = 1_780_279_200_000;

fn zone() -> TimeZone {
    TimeZone::get("Asia/Shanghai").unwrap()
}

fn request(escape: Escape, source: &str, data: &Value) -> Result<String, RenderError> {
    let engine = Engine::requests(escape, &zone(), &Clock::held(NOON));
    engine.compile("t", source, &|_| true)?.render(&Context::wraps(data).unwrap())
}

fn bare(source: &str) -> String {
    request(Escape::Bare, source, &json!({"text": "你好 a&b\"", "list": [1, "b"], "at": NOON, "key": "Jefe"})).unwrap()
}

#[test]
fn helpers_give_the_published_values() {
    // RFC 2202 §2 case 2, RFC 4231 §4.3, RFC 1321 §A.5.
    let data = "what do ya want for nothing?";
    assert_eq!(bare(&format!("{{{{hmac \"md5\" key \"{data}\"}}}}")), "750c783e6ab0b503eaa86e310a5db738");
    assert_eq!(
        bare(&format!("{{{{hmac \"sha256\" key \"{data}\"}}}}")),
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    );
    assert_eq!(
        bare(&format!("{{{{hmac \"sha256\" \"4a656665\" \"{data}\" key_encoding=\"hex\"}}}}")),
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    );
    // Feishu's recipe, an empty message; and the example of Standard Webhooks.
    assert_eq!(
        bare("{{hmac \"sha256\" (concat \"1599360473\" \"\\n\" \"secret\") \"\" \"base64\"}}"),
        "q4jswNiMy51J5JuQV566yJat0/lQ/c+22kINzUgKsGU="
    );
    for (encoding, prefix) in [("whsec", "whsec_"), ("whsec", ""), ("base64", "")] {
        let key = format!("{prefix}MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let signed = "msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{\\\"test\\\": 2432232314}";
        assert_eq!(
            bare(&format!("{{{{hmac \"sha256\" \"{key}\" \"{signed}\" \"base64\" key_encoding=\"{encoding}\"}}}}")),
            "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }
    assert_eq!(bare("{{md5 \"abc\"}}"), "900150983cd24fb0d6963f7d28e17f72");
    assert_eq!(bare("{{sha256 \"abc\" \"base64\"}}"), "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=");
    assert_eq!(bare("{{base64 text}}"), "5L2g5aW9IGEmYiI=");
    assert_eq!(bare("{{json text}} {{json list}}"), "\"你好 a&b\\\"\" [1,\"b\"]");
    assert_eq!(bare("{{pct text}} {{form text}}"), "%E4%BD%A0%E5%A5%BD%20a%26b%22 %E4%BD%A0%E5%A5%BD+a%26b%22");
    assert_eq!(
        bare("{{now}} {{now \"unix_ms\"}} {{now \"rfc3339\"}} {{now \"compact\"}}"),
        "1780279200 1780279200000 2026-06-01T02:00:00Z 20260601100000"
    );
    assert_eq!(bare("{{date at}} {{date at \"%Y-%m-%d\"}}"), "6月1日10时 2026-06-01");
    assert_eq!(
        bare("{{join list \";\"}} {{concat key \"\\n\" 1}} {{upper key}} {{lower key}} {{left text 2}}"),
        "1;b Jefe\n1 JEFE jefe 你好"
    );
}

#[test]
fn each_escaping_fits_its_place() {
    let data = json!({"text": "a&b \"c\"\n中"});
    let render = |escape| request(escape, "{{text}}|{{{text}}}", &data).unwrap();
    assert_eq!(render(Escape::Url), "a%26b%20%22c%22%0A%E4%B8%AD|a&b \"c\"\n中");
    assert_eq!(render(Escape::Json), "a&b \\\"c\\\"\\n中|a&b \"c\"\n中");
    assert_eq!(render(Escape::Form), "a%26b+%22c%22%0A%E4%B8%AD|a&b \"c\"\n中");
    assert_eq!(render(Escape::Html), "a&amp;b &quot;c&quot;\n中|a&b \"c\"\n中");
    assert_eq!(request(Escape::Json, "{{json text}}", &data).unwrap(), "\"a&b \\\"c\\\"\\n中\"");
}

fn refused(source: &str) -> RenderError {
    let engine = Engine::texts(Escape::Bare, &zone());
    let known = |path: &str| path == "item.title" || path == "item.list" || path == "item";
    engine.compile("t", source, &known).unwrap_err()
}

#[test]
fn errors_name_the_place_and_the_variable() {
    let wrong = refused("甲\n{{item.title}} {{#if item.titel}}x{{/if}}");
    assert!(
        matches!(&wrong, RenderError::Unknown { at, variable } if at.line == 2 && variable == "item.titel"),
        "{wrong}"
    );
    assert!(wrong.to_string().contains("t:2:"), "{wrong}");
    assert!(
        matches!(refused("{{#with item}}{{titel}}{{/with}}"), RenderError::Unknown { variable, .. } if variable == "item.titel")
    );
    assert!(matches!(refused("{{shout item.title}}"), RenderError::Helper { helper, .. } if helper == "shout"));
    assert!(matches!(refused("{{left (shout item.title) 1}}"), RenderError::Helper { .. }));
    assert!(matches!(refused("{{now}}"), RenderError::Unknown { .. }));
    assert!(matches!(refused("{{> none}}"), RenderError::Partial { .. }));
    assert!(matches!(refused("{{#if item.title}}"), RenderError::Syntax { .. }));
    assert!(matches!(refused("{{#*inline \"x\"}}{{/inline}}"), RenderError::Unsupported { .. }));
    let missing = request(Escape::Bare, "ab {{vars.x}}", &json!({"vars": {}})).unwrap_err();
    assert!(
        matches!(&missing, RenderError::Missing { at, variable } if (at.line, at.column) == (1, 4) && variable == "vars.x"),
        "{missing}"
    );
    let missing = request(Escape::Bare, "{{upper vars.x}}", &json!({"vars": {}})).unwrap_err();
    assert!(matches!(missing, RenderError::Missing { variable, .. } if variable == "vars.x"));
}

#[test]
fn what_would_overflow_the_stack_is_refused() {
    let nested = |n: usize| format!("{}{}", "{{#if item.title}}".repeat(n), "{{/if}}".repeat(n));
    assert!(matches!(refused(&nested(21)), RenderError::TooDeep { .. }));
    assert!(matches!(refused(&nested(200)), RenderError::TooDeep { .. }));
    assert!(matches!(refused(&nested(3000)), RenderError::TooLarge { .. }));
    assert!(matches!(refused(&format!("{{{{left {}", "(left ".repeat(9000))), RenderError::TooLarge { .. }));
    assert!(matches!(refused(&"x".repeat(MAX_BYTES + 1)), RenderError::TooLarge { .. }));
    let chain = format!("{{{{#if item}}}}{}{{{{/if}}}}", "{{else if item}}x".repeat(40));
    assert!(matches!(refused(&chain), RenderError::TooDeep { .. }));
    let engine =
        Engine::texts(Escape::Bare, &zone()).with_partials([("a", "{{> b}}"), ("b", "{{> a}}")].into_iter()).unwrap();
    assert!(matches!(engine.compile("t", "{{> a}}", &|_| true), Err(RenderError::TooDeep { .. })));
    let fan = Engine::texts(Escape::Bare, &zone())
        .with_partials(
            [
                ("a", "{{> b}}{{> b}}{{> b}}{{> b}}{{> b}}{{> b}}{{> b}}{{> b}}"),
                ("b", &"{{> c}}".repeat(90)),
                ("c", &"{{> d}}".repeat(90)),
                ("d", "x"),
            ]
            .into_iter(),
        )
        .unwrap();
    assert!(matches!(fan.compile("t", "{{> a}}", &|_| true), Err(RenderError::TooDeep { .. })));
}

#[test]
fn variables_are_listed_from_the_root() {
    let found = variables(
        "{{vars.金额}} {{#with item}}{{title}} {{../site.name}}{{/with}} {{#each item.actions as |a i|}}{{a}}{{this}}{{@index}}{{/each}} {{#if (eq b.c \"x\")}}{{@root.d}}{{/if}}",
    )
    .unwrap();
    let found: Vec<&str> = found.iter().map(String::as_str).collect();
    assert_eq!(found, ["b.c", "d", "item", "item.actions", "item.title", "site.name", "vars.金额"]);
}

fn sample(relation: impl Into<Value>) -> Value {
    let relation: Value = relation.into();
    json!({
        "item": {"kind": "alert", "title": "暴雨红色预警", "body_plain": "预计三小时降雨超过一百毫米。", "sms": null,
            "level_zh": "红色", "area_text": "青山镇", "actions": ["请勿外出", "远离河道"], "issuer": "县应急管理局",
            "phone": "0990-0000001", "effective_at": NOON, "expires_at": NOON + 10_800_000, "relation": relation, "url": null, "number": 1},
        "site": {"name": "某县人民政府", "phone": "0990-0000000"}, "mode_mark": "", "vars": {},
    })
}

#[test]
fn every_kind_carries_unit_and_phone() {
    let messages = Messages::load(None, &zone()).unwrap();
    for kind in [
        "alert",
        "incident_update",
        "response",
        "transfer_order",
        "relief_need",
        "policy",
        "interpretation",
        "publication",
        "consultation",
        "notice",
        "village_affairs",
        "default",
        "a kind of tomorrow",
    ] {
        for relation in [Value::Null, json!("lifts"), json!("corrects")] {
            let text = messages.text(Medium::Sms, kind, None).unwrap().render(&sample(relation)).unwrap();
            assert!(
                text.contains("县应急管理局") && text.contains("0990-0000001") && text.contains("暴雨红色预警"),
                "{kind}: {text}"
            );
            assert!(!text.contains(['\n', '{', '}']), "{kind}: {text}");
        }
    }
    let alert = messages.text(Medium::Sms, "alert", None).unwrap();
    assert_eq!(
        alert.render(&sample(Value::Null)).unwrap(),
        "暴雨红色预警（红色）。范围：青山镇。6月1日10时起至6月1日13时。请勿外出。远离河道。县应急管理局，咨询电话0990-0000001"
    );
    assert!(alert.vars().is_empty());
}

#[test]
fn an_items_own_text_takes_variables_and_the_mark_of_a_drill() {
    let messages = Messages::load(None, &zone()).unwrap();
    let own =
        messages.text(Medium::Sms, "notice", Some("{{姓名}}，补贴{{vars.amount}}元已发放。{{item.issuer}}")).unwrap();
    assert_eq!(own.vars().iter().map(String::as_str).collect::<Vec<_>>(), ["amount", "姓名"]);
    let mut shared = sample(Value::Null);
    shared["mode_mark"] = json!("【演练】");
    let mut personal = own.personal(shared);
    assert_eq!(
        personal.render(json!({"姓名": "甲", "amount": "12"})).unwrap(),
        "【演练】甲，补贴12元已发放。县应急管理局"
    );
    assert_eq!(personal.render(json!({"姓名": "乙", "amount": 3})).unwrap(), "【演练】乙，补贴3元已发放。县应急管理局");
    // What one recipient has does not stay for the next.
    assert!(
        matches!(personal.render(json!({"amount": 3})), Err(RenderError::Missing { variable, .. }) if variable == "姓名")
    );
    assert!(messages.text(Medium::Sms, "notice", Some("{{item.nothing}}")).is_err());
}

#[test]
fn the_sites_own_template_wins_and_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("sms")).unwrap();
    let file = dir.path().join("sms/notice.hbs");
    std::fs::write(&file, "【本县】{{item.title}}{{> _sign}}\n").unwrap();
    let messages = Messages::load(Some(dir.path()), &zone()).unwrap();
    let text = messages.text(Medium::Sms, "notice", None).unwrap().render(&sample(Value::Null)).unwrap();
    assert_eq!(text, "【本县】暴雨红色预警县应急管理局，咨询电话0990-0000001");
    std::fs::write(&file, "好\n{{item.tilte}}").unwrap();
    let error = Messages::load(Some(dir.path()), &zone()).err().unwrap().to_string();
    assert!(error.contains("notice:2:1") && error.contains("item.tilte"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_text_of_an_author_panics(source in "(\\{\\{|\\}\\}|#if |/if|else|[a-z. (){}\"~^>!]|预警){0,60}") {
        let engine = Engine::texts(Escape::Bare, &TimeZone::UTC);
        if let Ok(compiled) = engine.compile("t", &source, &|_| true) {
            let _ = compiled.render(&Context::null());
        }
    }

    #[test]
    fn json_stays_json(text in "\\PC{0,40}|[\\x00-\\x1f\"\\\\]{0,10}") {
        let body = request(Escape::Json, "{\"t\":\"{{text}}\",\"u\":{{json text}}}", &json!({"text": text})).unwrap();
        let parsed: Value = serde_json::from_str(&body).unwrap();
        prop_assert_eq!(parsed["t"].as_str(), Some(text.as_str()));
        prop_assert_eq!(&parsed["t"], &parsed["u"]);
    }
}

proptest::proptest! {
    /// A template of plain values renders as handlebars itself does.
    #[test]
    fn pieces_render_as_handlebars_does(a in "\\PC{0,12}", n in proptest::prelude::any::<i64>(), text in "[a-z&<\u{4e00}-\u{4e20} ]{0,12}") {
        let source = format!("{text}{{{{a}}}}-{{{{{{b.a}}}}}}{{{{! note }}}} {{{{b.n}}}}{text}");
        let data = serde_json::json!({"a": a, "b": {"a": a, "n": n}});
        for escape in [Escape::Bare, Escape::Html, Escape::Url, Escape::Json, Escape::Form] {
            let mut plain = super::registry(escape, &TimeZone::UTC);
            plain.register_template_string("t", &source).unwrap();
            let engine = Engine::texts(escape, &TimeZone::UTC);
            let compiled = engine.compile("t", &source, &|_| true).unwrap();
            proptest::prop_assert!(compiled.pieces.is_some());
            let context = Context::wraps(&data).unwrap();
            proptest::prop_assert_eq!(compiled.render(&context).unwrap(), plain.render("t", &data).unwrap());
        }
    }

    /// What a memo keeps changes nothing, nor does what is written in beforehand.
    #[test]
    fn a_memo_and_what_is_known_change_nothing(texts in proptest::collection::vec("[a&<\u{4e00} ]{0,80}", 1..4), set in "\\PC{0,12}") {
        let engine = Engine::texts(Escape::Url, &TimeZone::UTC);
        let fresh = engine.compile("t", "{{set.a}}?{{text}}&{{{set.a}}}{{text}}", &|_| true).unwrap();
        let known = fresh.clone().knowing(&serde_json::json!({"set": {"a": set}}));
        let mut memo = Memo::default();
        for text in texts {
            let data = Context::wraps(serde_json::json!({"set": {"a": set}, "text": text})).unwrap();
            proptest::prop_assert_eq!(known.render_again(&data, &mut memo).unwrap(), fresh.render(&data).unwrap());
        }
    }
}
