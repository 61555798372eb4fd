//! What an item says on a sheet: its facts in words, and who signs when.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{Level, Notice, blocks};
use crate::clock::Millis;
use crate::domain::item::{Content, ItemKind, Relation};
use crate::lang::{self, Lang};
use crate::say;

/// Who signs a sheet, and when.
#[derive(Debug, Clone, Copy)]
pub struct Signing<'a> {
    /// The unit that answers for the item.
    pub unit: &'a str,
    /// Its number, where the item names none.
    pub phone: &'a str,
    /// The day it bears: when the item was approved, or else now.
    pub at: Millis,
    pub zone: &'a TimeZone,
    /// 【演练】, 【测试】 or nothing.
    pub mark: &'a str,
    /// How the earlier sheet is called that this one changes, such as its title and
    /// serial; the item's own word for it where none is given.
    pub earlier: Option<&'a str>,
    pub large: bool,
}

/// The sheet of an item; place, serial and QR code are the caller's to fill in.
#[must_use]
pub fn notice(content: &Content, by: &Signing<'_>) -> Notice {
    let issuer = content.issuer.as_deref().filter(|i| !i.is_empty()).unwrap_or(by.unit);
    Notice {
        issuer: issuer.to_owned(),
        document_no: content.document_no.clone().unwrap_or_default(),
        title: content.title.clone(),
        mark: by.mark.to_owned(),
        level: level(content),
        relation: relation(content, by.earlier),
        body: blocks(&content.body),
        actions: content.actions.clone(),
        facts: facts(content, by),
        unit: issuer.to_owned(),
        date: dated(by.at, by.zone),
        large: by.large,
        ..Notice::default()
    }
}

/// The band above the title. What ends an alert shows no colour: from afar it would be
/// taken for one.
fn level(content: &Content) -> Option<Level> {
    let level = content.level?;
    let zh = level.zh(content.kind);
    let (what, coloured) = match content.kind {
        ItemKind::Alert => ("预警", true),
        ItemKind::Response => ("应急响应", false),
        _ => return None,
    };
    // A code of the event is for machines.
    let event = content.event_type.as_deref().filter(|e| !e.is_ascii()).unwrap_or_default();
    let word = format!("{event}{zh}{what}");
    if content.ends_another() {
        return Some(Level { word: format!("解除{word}"), colour: "none".to_owned() });
    }
    Some(Level { word, colour: if coloured { level.name() } else { "none" }.to_owned() })
}

fn relation(content: &Content, earlier: Option<&str>) -> Option<String> {
    let (relation, key) = content.relations.first()?;
    let own = say!("此前发布的第 {key} 号信息", "the earlier item {key}");
    let it = earlier.map_or(own, str::to_owned);
    Some(match relation {
        Relation::Updates => say!("本件更新{it}。旧件请撤下。", "This updates {it}. Take the earlier sheet down."),
        Relation::Corrects => {
            say!(
                "本件更正{it}，以本件为准。旧件请撤下。",
                "This corrects {it} and replaces it. Take the earlier sheet down."
            )
        }
        Relation::Lifts => say!("{it}已解除。旧件请撤下。", "This lifts {it}. Take the earlier sheet down."),
        Relation::Withdraws => {
            say!("{it}已撤回，不再有效。旧件请撤下。", "This withdraws {it}. Take the earlier sheet down.")
        }
        Relation::Interprets => say!("本件解读{it}。", "This explains {it}."),
    })
}

fn facts(content: &Content, by: &Signing<'_>) -> Vec<(String, String)> {
    let mut facts = Vec::new();
    let mut add = |name: String, value: String| {
        if !value.trim().is_empty() {
            facts.push((name, value));
        }
    };
    add(say!("影响范围", "Area"), content.area_text.clone().unwrap_or_default());
    match content.publication_days {
        Some(days) => add(say!("公示期", "Published for"), hanging(content, days, by)),
        None => add(say!("有效期", "Valid"), validity(content, by)),
    }
    add(say!("异议电话", "Objections"), content.objection_phone.clone().unwrap_or_default());
    let phone = if content.phone.trim().is_empty() { by.phone } else { &content.phone };
    add(say!("咨询电话", "Questions"), phone.to_owned());
    let relay = content.relay_unit.as_deref().filter(|unit| *unit != by.unit).unwrap_or_default();
    add(say!("转发单位", "Relayed by"), relay.to_owned());
    facts
}

/// 公示期: the days, and from when to when as far as the item says it. Whether days
/// are working days is the item's to say, so no end is counted out here.
fn hanging(content: &Content, days: u32, by: &Signing<'_>) -> String {
    let from = dated(content.effective_at.unwrap_or(by.at), by.zone);
    match content.expires_at {
        Some(until) => {
            let until = dated(until, by.zone);
            say!("{days}天（{from}至{until}）", "{days} days ({from} to {until})")
        }
        None => say!("{days}天（自{from}起）", "{days} days (from {from})"),
    }
}

/// 有效期 as the item says it; nothing where it does not.
fn validity(content: &Content, by: &Signing<'_>) -> String {
    let until = match (content.expires_at, content.expires_in) {
        (None, None) => return String::new(),
        _ => timed(content.expiry(by.at), by.zone),
    };
    match content.effective_at {
        Some(from) => {
            let from = timed(from, by.zone);
            say!("{from}至{until}", "{from} to {until}")
        }
        None => say!("至{until}", "until {until}"),
    }
}

/// A day as documents bear it: 2026年7月1日 (GB/T 9704-2012, 7.3.5.5: no leading zeros).
#[must_use]
pub fn dated(at: Millis, zone: &TimeZone) -> String {
    written(at, zone, if lang::current() == Lang::Zh { "%Y年%-m月%-d日" } else { "%-d %B %Y" })
}

fn timed(at: Millis, zone: &TimeZone) -> String {
    let zh = lang::current() == Lang::Zh;
    let text = written(at, zone, if zh { "%Y年%-m月%-d日%-H时%M分" } else { "%-d %B %Y %H:%M" });
    // On the hour nobody writes the minutes.
    text.strip_suffix("00分").map_or(text.clone(), str::to_owned)
}

fn written(at: Millis, zone: &TimeZone, form: &str) -> String {
    Timestamp::from_millisecond(at)
        .map_or_else(|_| String::new(), |t| t.to_zoned(zone.clone()).strftime(form).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::item;

    const AT: Millis = 1_782_867_600_000; // 2026-07-01 09:00 in Shanghai
    const HOUR: Millis = 3_600_000;

    fn shanghai() -> TimeZone {
        TimeZone::get("Asia/Shanghai").unwrap()
    }

    fn by(zone: &TimeZone) -> Signing<'_> {
        Signing {
            unit: "某县应急管理局", phone: "0870-0000000", at: AT, zone, mark: "", earlier: None, large: false
        }
    }

    #[test]
    fn an_alert_shows_its_level_area_and_validity() {
        let zone = shanghai();
        let mut content = Content::new(ItemKind::Alert);
        content.level = Some(item::Level::Red);
        content.event_type = Some("暴雨".to_owned());
        content.area_text = Some("甲镇、乙镇".to_owned());
        content.effective_at = Some(AT);
        content.expires_in = Some(12 * HOUR + 30 * 60_000);
        let notice = super::notice(&content, &by(&zone));
        assert_eq!(notice.level, Some(Level { word: "暴雨红色预警".into(), colour: "red".into() }));
        assert_eq!(notice.date, "2026年7月1日");
        let expected = [
            ("影响范围", "甲镇、乙镇"),
            ("有效期", "2026年7月1日9时至2026年7月1日21时30分"),
            ("咨询电话", "0870-0000000"),
        ];
        assert_eq!(notice.facts, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_lift_has_no_colour_and_names_the_earlier_sheet() {
        let zone = shanghai();
        let mut content = Content::new(ItemKind::Alert);
        content.level = Some(item::Level::Orange);
        content.relations = vec![(Relation::Lifts, "3".to_owned())];
        let lift = super::notice(&content, &Signing { earlier: Some("《暴雨预警》（序号 7）"), ..by(&zone) });
        assert_eq!(lift.level, Some(Level { word: "解除橙色预警".into(), colour: "none".into() }));
        assert_eq!(lift.relation.as_deref(), Some("《暴雨预警》（序号 7）已解除。旧件请撤下。"));
    }

    #[test]
    fn a_publication_says_how_long_it_hangs_and_whom_to_call() {
        let zone = shanghai();
        let mut content = Content::new(ItemKind::Publication);
        content.publication_days = Some(7);
        content.objection_phone = Some("0870-0000001".to_owned());
        content.issuer = Some("某镇人民政府".to_owned());
        let notice = super::notice(&content, &by(&zone));
        assert_eq!(notice.unit, "某镇人民政府");
        assert_eq!(notice.facts[0], ("公示期".to_owned(), "7天（自2026年7月1日起）".to_owned()));
        assert_eq!(notice.facts[1].0, "异议电话");
    }
}
