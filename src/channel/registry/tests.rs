//! Tests of declarations and settings: what is wrong is said with its place.

use std::fs;

use uuid::Uuid;

use super::super::http::tests::site;
use super::*;
use crate::channel::{Callback, CallbackError, Evidence, Outcome, Outgoing};

fn build(text: &str, dir: Option<&Path>) -> Result<Registry, RegistryError> {
    Registry::build(&toml::from_str(text).unwrap(), &site(dir))
}

const GOOD: &str = r#"kind = "sms_http"
[limits]
rate = 5
[secrets]
required = ["key"]
[request]
url = "http://127.0.0.1/{{to}}"
format = "json"
body = '{"t":"{{text}}"}'
[[answer]]
status = 200
class = "accepted"
"#;

const RECEIPT: &str = r#"[receipt]
format = "json"
key = "gateway"
id = "/id"
status = "/s"
words = {}
[receipt.auth]
header = "x-sig"
expect = "{{secrets.key}}"
"#;

/// The error of a site's own declaration.
fn wrong(declaration: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("own.toml"), declaration).unwrap();
    let built = build("[sms]\ngateway = 'own'\nsecrets = { key = 'env:KEY' }", Some(dir.path()));
    built.err().map_or_else(String::new, |e| e.to_string().replace(&dir.path().display().to_string(), ""))
}

#[test]
fn mistakes_in_a_declaration_are_located() {
    assert_eq!(wrong(GOOD), "");
    assert_eq!(wrong(&format!("{GOOD}{RECEIPT}")), "");
    for (from, to, place, why) in [
        ("rate = 5", "rat = 5", "/own.toml:3:1:", "rat"),
        ("rate = 5", "rate = 'x'", "/own.toml:3:8:", "不带引号的数"),
        ("[limits]", "[limits", "/own.toml:2:", ""),
        ("{{to}}", "{{too}}", "/own.toml:7:7:", "too"),
        ("{{to}}", "{{vars.none}}", "/own.toml:7:7:", "vars.none"),
        ("{{to}}", "{{shout to}}", "/own.toml:7:7:", "shout"),
        ("{{to}}", "{{#if to}}", "/own.toml:7:7:", "request.url"),
        ("http://127.0.0.1/", "ftp://127.0.0.1/", "/own.toml:7:7:", "http"),
        ("\"{{text}}\"", "{{text}}", "/own.toml:9:8:", "JSON"),
        ("status = 200", "status = '2xx'", "/own.toml:11:10:", "500-599"),
        ("status = 200", "body = '('", "/own.toml:11:8:", "正则"),
        ("status = 200", "pointer = 'code'", "/own.toml:11:11:", "JSON"),
        ("status = 200", "equals = 1", "/own.toml:1:8:", "pointer"),
        ("\"accepted\"", "\"taken\"", "/own.toml:12:9:", "accepted"),
        ("rate = 5", "timeout = '5 parsecs'", "/own.toml:3:11:", "5 parsecs"),
        ("{{text}}\"}'", "{{text}}\"}'\nmethod = 'BREW'", "/own.toml:7:7:", "GET"),
    ] {
        let error = wrong(&GOOD.replace(from, to));
        assert!(error.starts_with(place) && error.contains(why), "{to}: {error}");
    }
    for (from, to, why) in [
        ("{{secrets.key}}", "open", "密钥"),
        ("header = \"x-sig\"", "", "header"),
        ("\"/id\"", "\"id\"", "JSON"),
        ("{{secrets.key}}", "{{secrets.none}}", "secrets.none"),
    ] {
        let error = wrong(&format!("{GOOD}{}", RECEIPT.replace(from, to)));
        assert!(error.starts_with("/own.toml:2") && error.contains(why), "{to}: {error}");
    }
}

#[test]
fn mistakes_in_settings_name_the_setting() {
    let kannel = "[sms]\ngateway = 'kannel'\n";
    for (text, why) in [
        ("[sms]\ngateway = 'nokia'", "rehearsal"),
        ("[sms]\ngateway = '../kannel'", "../kannel"),
        ("['a/b']\ngateway = 'rehearsal'", "a/b"),
        ("[sms]\ngateway = 'rehearsal'\nlimits = { rate = 0 }", "limits.rate"),
        ("[sms]\ngateway = 'rehearsal'\nlimits = { evidence = 'receipts' }", "limits.evidence"),
        (&format!("{kannel}secrets = {{ password = 'env:PASSWORD', token = 'env:TOKEN' }}"), "vars.url"),
        (&format!("{kannel}vars = {{ url = 'http://x', username = 'u' }}"), "secrets.password"),
        (&format!("{kannel}vars = {{ uri = 'http://x' }}"), "vars.uri"),
        (
            &format!(
                "{kannel}vars = {{ url = 'http://x', username = 'u' }}\nsecrets = {{ password = 'hunter2', token = 'env:TOKEN' }}"
            ),
            "secrets.password",
        ),
        (
            &format!(
                "{kannel}vars = {{ url = 'http://x', username = 'u' }}\nsecrets = {{ password = 'env:NONE', token = 'env:TOKEN' }}"
            ),
            "NONE",
        ),
    ] {
        let error = build(text, None).err().unwrap().to_string();
        assert!(error.contains(why) && !error.contains("hunter2"), "{text}: {error}");
    }
    assert!(toml::from_str::<BTreeMap<String, ChannelSettings>>("[sms]\ngateway = 'kannel'\nrate = 5").is_err());
}

#[test]
fn the_sites_limits_and_signature_win() {
    let text = "[sms]\ngateway = 'kannel'\nsignature = '【某县】'\nvars = { url = 'http://127.0.0.1', username = 'u' }\nsecrets = { password = 'env:PASSWORD', token = 'env:TOKEN' }\nlimits = { rate = 7.5, receipt_wait = '2d' }";
    let registry = build(text, None).unwrap();
    let channel = registry.get("sms").unwrap();
    let limits = channel.limits();
    assert_eq!(
        (limits.rate.to_string(), limits.in_flight, limits.receipt_wait),
        ("7.5".into(), 32, Duration::from_hours(48))
    );
    assert_eq!((limits.evidence, limits.idempotent), (Evidence::Receipts, false));
    assert_eq!(registry.signature("sms"), Some("【某县】"));
    assert_eq!(registry.names().collect::<Vec<_>>(), ["sms"]);
    assert!(registry.get("none").is_none());
}

#[tokio::test]
async fn a_rehearsal_takes_everything_and_nothing_leaves() {
    let channel = build("[drill]\ngateway = 'rehearsal'", None).unwrap().get("drill").unwrap();
    assert!(channel.limits().rate > 1e8 && channel.limits().batch == 1000);
    let message = Outgoing {
        client_id: Uuid::nil(),
        to: "13900000001".into(),
        title: "".into(),
        text: "x".into(),
        html: None,
        facts: None,
        parts: 1,
        may_opt_out: false,
    };
    let outcomes = channel.send(&vec![message; 1000]).await;
    assert!(outcomes.len() == 1000 && outcomes.iter().all(|o| matches!(o, Outcome::Accepted { .. })));
    let callback = Callback { method: "GET", query: &[], headers: &[], body: b"", now: 0 };
    assert_eq!(channel.receipts(&callback), Err(CallbackError::NotTaken));
}

#[test]
fn a_channel_may_have_several_gateways() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("own.toml"), GOOD).unwrap();
    let one = "{ gateway = 'own', secrets = { key = 'env:KEY' } }";
    let with = |more: &str, gateways: &str| {
        build(&format!("[sms]\n{more}\ngateways = [{gateways}]"), Some(dir.path()))
            .map(|r| r.get("sms").unwrap().limits().rate)
            .map_err(|e| e.to_string())
    };
    assert_eq!(with("", &format!("{one}, {one}")), Ok(10.0));
    assert_eq!(with("", one), Ok(5.0));
    for (more, gateways, why) in [
        ("gateway = 'own'", one.to_owned(), "gateway"),
        ("vars = { a = 'b' }", one.to_owned(), "vars"),
        ("limits = { rate = 3 }", one.to_owned(), "limits"),
        ("", "{ gateway = 'own' }".to_owned(), "[channels.sms/own]"),
        ("", format!("{one}, {}", one.replacen("gateway", "name = 'own', gateway", 1)), "gateways.name"),
        ("", format!("{one}, {}", one.replacen("gateway", "name = 'a/b', gateway", 1)), "gateways.name"),
        // One goes to phones, the other to nobody's address.
        ("", format!("{one}, {{ gateway = 'post' }}"), "gateways"),
    ] {
        fs::write(dir.path().join("post.toml"), GOOD.replace("sms_http", "media").replace("required = [\"key\"]", ""))
            .unwrap();
        let error = with(more, &gateways).unwrap_err();
        assert!(error.contains(why), "{more} {gateways}: {error}");
    }
    assert!(build("[sms]\nsignature = '【某县】'", None).err().unwrap().to_string().contains("gateway"));
}
