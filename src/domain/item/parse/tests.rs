//! Items as people write them, and the mistakes they make.

use super::*;
use crate::domain::item::Place;
use crate::domain::item::validate;
use proptest::prelude::*;

fn shanghai() -> TimeZone {
    TimeZone::get("Asia/Shanghai").unwrap()
}

fn md(source: &str) -> Result<Content, ItemError> {
    parse(source, Format::Markdown, &shanghai())
}

const ALERT: &str = "---
类型：预警
级别: 红色
电话: 0873-3420000
灾种: 暴雨
影响范围: 河口镇、南溪镇
措施:
  - 立即转移到安置点
  - 关闭电源
生效: 2026-06-01 14:00
失效: +6h
对象: region:河口镇
更新: 12、13
---
# 暴雨红色预警

请立即转移。
";

#[test]
fn an_alert_in_chinese_yaml() {
    let content = md(ALERT).unwrap();
    assert_eq!(content.kind, ItemKind::Alert);
    assert_eq!(content.title, "暴雨红色预警");
    assert_eq!(content.body, "请立即转移。");
    assert_eq!(content.level, Some(Level::Red));
    assert_eq!(content.phone, "0873-3420000");
    assert_eq!(content.actions, ["立即转移到安置点", "关闭电源"]);
    assert_eq!(content.effective_at, Some(1_780_293_600_000));
    assert_eq!((content.expires_at, content.expires_in), (None, Some(21_600_000)));
    assert_eq!(content.expiry(0), 1_780_315_200_000);
    assert_eq!(content.relations, [(Relation::Updates, "12".to_owned()), (Relation::Updates, "13".to_owned())]);
    assert_eq!(validate(&content), []);
}

#[test]
fn toml_front_matter_and_a_toml_file_say_the_same() {
    let front = "kind = 'publication'\ntitle = '低保公示'\nphone = '0873-3420000'\npublication_days = 7\n\
        objection_phone = '0873-3420001'\neffective_at = 2026-06-01\nexpires_at = 2026-06-07\nvariables = '姓名、金额'\n";
    let markdown = md(&format!("\u{feff}\r\n+++\r\n{front}+++\r\n\r\n正文\r\n第二行\r\n")).unwrap();
    let file = parse(&format!("{front}body = '''\n正文\n第二行'''\n"), Format::Toml, &shanghai()).unwrap();
    assert_eq!(markdown, file);
    assert_eq!(file.body, "正文\n第二行");
    assert_eq!(file.variables, ["姓名", "金额"]);
    assert_eq!(file.expires_at.unwrap() - file.effective_at.unwrap(), 7 * 86_400_000);
    assert_eq!(validate(&file), []);
}

#[test]
fn stored_json_reads_back_as_itself() {
    let mut content = md(ALERT).unwrap();
    content.expires_in = None;
    content.expires_at = Some(1_780_315_200_000);
    content.sms = Some("请转移".to_owned());
    content.relations.push((Relation::Corrects, "9".to_owned()));
    let json = serde_json::to_string_pretty(&content).unwrap();
    assert_eq!(parse(&json, Format::Json, &shanghai()).unwrap(), content);
    assert_eq!(serde_json::from_str::<Content>(&json).unwrap(), content);
}

#[test]
fn a_response_level_reads_back_too() {
    let mut content = Content::new(ItemKind::Response);
    content.level = Some(Level::Orange);
    let json = serde_json::to_string(&content).unwrap();
    assert_eq!(parse(&json, Format::Json, &shanghai()).unwrap(), content);
}

#[test]
fn headings() {
    let title = |source: &str| md(source).map(|c| (c.title, c.body)).unwrap();
    let pair = |title: &str, body: &str| (title.to_owned(), body.to_owned());
    assert_eq!(title("---\n类型: 通知\n标题: 甲\n---\n# 乙\n文"), pair("甲", "# 乙\n文"));
    assert_eq!(title("---\n类型: 通知\n标题: 甲\n---\n# 甲 #\n\n文"), pair("甲", "文"));
    assert_eq!(title("---\n类型: 通知\n---\n文\n# 甲"), pair("", "文\n# 甲"));
    assert_eq!(title("---\n类型: 通知\n---"), pair("", ""));
}

#[test]
fn mistakes_say_line_field_and_remedy() {
    let say = |source: &str| md(source).unwrap_err().to_string();
    assert!(say("没有文件头").contains("类型: 通知"));
    assert!(say("\n---\n类型: 通知\n").starts_with("第 2 行：文件头以 --- 开始"));
    assert!(say("---\n类型: 通知\n电活: 1\n---\n").contains("第 3 行：没有“电活”这一项，是不是“电话”"));
    assert!(say("+++\nkind = 'notice'\n\ntitel = 'x'\n+++\n").contains("第 4 行"));
    assert!(say("---\n类型: 通告令\n---\n").contains("预警、灾情动态"));
    assert!(say("---\n类型: 通知\ntitle: a\n标题: b\n---\n").contains("第 4 行：“标题”写了两次"));
    assert!(say("---\n类型: 预警\n级别: 紫色\n---\n").contains("红色、橙色"));
    assert!(say("---\n类型: 应急响应\n级别: 红色\n---\n").contains("应急响应没有颜色"));
    assert!(say("---\n类型: 通知\n生效: 明天\n---\n").contains("2026-06-01 14:00"));
    assert!(say("---\n类型: 通知\n失效: +6\n---\n").contains("时长，如 +6h"));
    assert!(say("---\n类型: 公示\n公示天数: 七\n---\n").contains("天数，如 7"));
    assert!(say("---\n类型: 通知\n标题: [a, b]\n---\n").contains("2 项的列表"));
    assert!(say("---\n类型: 通知\n短信: a: b\n---\n").contains("第 3 行"));
    assert!(say("---\n类型: 通知\n失效: +6h\n有效期: 2d\n---\n").contains("第 4 行：“有效期”写了两次"));
}

#[test]
fn an_error_never_shows_personal_data() {
    let error = md("---\n类型: 通知\n生效: 13900000001\n---\n").unwrap_err().to_string();
    assert!(error.contains("139****0001") && !error.contains("13900000001"), "{error}");
}

#[test]
fn formats_by_file_name() {
    assert_eq!(Format::of_file("a/预警.TOML"), Format::Toml);
    assert_eq!(Format::of_file("x.json"), Format::Json);
    assert_eq!(Format::of_file("x.md"), Format::Markdown);
}

proptest! {
    #[test]
    fn any_source_is_read_or_refused_without_panic(
        front in "[类型通知标题:：\\-+\\[\\]{}&*#'\"=| \n0-9a-z]{0,80}", body in "\\PC{0,40}",
    ) {
        for fence in ["---", "+++"] {
            if let Ok(content) = md(&format!("{fence}\nkind: notice\n{front}\n{fence}\n{body}")) {
                let _ = validate(&content);
            }
        }
        prop_assert!(parse(&front, Format::Json, &shanghai()).is_err());
        let _ = parse(&front, Format::Toml, &shanghai());
    }
}

#[test]
fn fields_are_found_where_they_stand_or_should() {
    let placed = |source: &str, format| parse_placed(source, format, &TimeZone::UTC).unwrap().1;
    let lines = placed("\n---\n类型: 公示\n异议电话: 纪委\n失效: +6h\n---\n\n# 名单\n正文\n", Format::Markdown);
    assert_eq!(lines.place("objection_phone"), Some(Place::At(4)));
    assert_eq!(lines.place("expires_in"), Some(Place::At(5)));
    assert_eq!(lines.place("title"), Some(Place::At(8)));
    assert_eq!(lines.place("phone"), Some(Place::After(5)));
    let lines = placed("kind = 'notice'\nphone = 'x'\nactions = [\n 'a',\n]\ntitle = 'b'\n", Format::Toml);
    assert_eq!((lines.place("title"), lines.place("phone")), (Some(Place::At(6)), Some(Place::At(2))));
    assert_eq!(lines.place("body"), Some(Place::After(6)));
    let lines = placed("{\n \"kind\": \"notice\",\n \"phone\": \"x\"\n}", Format::Json);
    assert_eq!((lines.place("phone"), lines.place("title")), (Some(Place::At(3)), Some(Place::After(3))));
    assert_eq!(lines.place("no such field"), None);
}

#[test]
fn days_are_calendar_days_unless_it_says_otherwise() {
    let read = |days: &str| {
        let source = format!("---\n类型: 公示\n公示天数: {days}\n形成日期: 2026年9月18日\n---\n# 名单\n");
        parse(&source, Format::Markdown, &shanghai()).map(|c| (c.publication_days, c.publication_working, c.formed_on))
    };
    let formed = Some(jiff::civil::date(2026, 9, 18));
    for (text, expected) in [
        ("7", (Some(7), false, formed)),
        ("7天", (Some(7), false, formed)),
        ("7 日", (Some(7), false, formed)),
        ("7个工作日", (Some(7), true, formed)),
        ("7 工作日", (Some(7), true, formed)),
        ("7 working days", (Some(7), true, formed)),
    ] {
        assert_eq!(read(text), Ok(expected), "{text}");
    }
    for wrong in ["工作日", "0个工作日", "七", "7个"] {
        assert!(matches!(read(wrong), Err(ItemError::Value { line: 3, .. })), "{wrong}");
    }
    let source = "---\n类型: 公示\n形成日期: 上周\n---\n# 名单\n";
    assert!(matches!(parse(source, Format::Markdown, &shanghai()), Err(ItemError::Value { line: 3, .. })));
}
