//! What one version of an item says; the JSON in `item_versions.body`.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::{ItemKind, Lane, Level, Relation, default_validity, honours_opt_out, lane};
use crate::clock::Millis;
use crate::domain::calendar::{Calendar, DISCLOSURE, DISCLOSURE_OF_DECISIONS, Deadline};

/// One version of an item. Times are epoch milliseconds, UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Content {
    pub kind: ItemKind,
    #[serde(default)]
    pub title: String,
    /// Markdown.
    #[serde(default)]
    pub body: String,
    /// The text for SMS where it is not drawn from the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sms: Option<String>,
    /// The issuing unit where it is not the one that answers for the item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay_unit: Option<String>,
    /// The number people call back.
    #[serde(default)]
    pub phone: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// A name (暴雨) or a code (11B03).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// 影响范围, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub area_text: Option<String>,
    /// 应采取的措施, one each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_at: Option<Millis>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Millis>,
    /// Milliseconds from the effective time; instead of `expires_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<Millis>,
    /// The widest allowed audience (公开对象), an expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The audience of a dispatch that names none, an expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// Earlier items by number or id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub relations: Vec<(Relation, String)>,
    /// The row of the disclosure catalogue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalogue: Option<String>,
    /// 文号.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document_no: Option<String>,
    /// 公示天数.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publication_days: Option<u32>,
    /// They are working days (工作日), not calendar days.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub publication_working: bool,
    /// 形成日期: when the information was formed or changed, or the decision was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub formed_on: Option<Date>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objection_phone: Option<String>,
    /// The variables a recipient that the text uses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variables: Vec<String>,
}

impl Content {
    /// An item of `kind` that says nothing yet.
    #[must_use]
    pub const fn new(kind: ItemKind) -> Self {
        Self {
            kind,
            title: String::new(),
            body: String::new(),
            sms: None,
            issuer: None,
            relay_unit: None,
            phone: String::new(),
            level: None,
            event_type: None,
            area_text: None,
            actions: Vec::new(),
            effective_at: None,
            expires_at: None,
            expires_in: None,
            scope: None,
            audience: None,
            relations: Vec::new(),
            catalogue: None,
            document_no: None,
            publication_days: None,
            publication_working: false,
            formed_on: None,
            objection_phone: None,
            variables: Vec::new(),
        }
    }

    /// The last day of its publication (公示), for one that begins on `from`, a day that
    /// does not count itself (民法典 art. 201); `None` where it has none.
    #[must_use]
    pub fn publication_end(&self, from: Date, calendar: &Calendar) -> Option<Deadline> {
        let days = self.publication_days?;
        if self.publication_working {
            return Some(calendar.add(from, days));
        }
        let date = from.checked_add(jiff::Span::new().try_days(days).ok()?).ok()?;
        Some(Deadline { date, provisional_from: None })
    }

    /// Until when it must be disclosed, and the working days that gives it: 7 for permits
    /// and penalties, else 20; `None` where it does not say when it was formed.
    #[must_use]
    pub fn disclosure_deadline(&self, calendar: &Calendar) -> Option<(Deadline, u32)> {
        let from = self.formed_on?;
        let is_decision = |text: &str| text.contains("行政许可") || text.contains("行政处罚");
        let decision = is_decision(&self.title) || self.catalogue.as_deref().is_some_and(is_decision);
        let days = if decision { DISCLOSURE_OF_DECISIONS } else { DISCLOSURE };
        Some((calendar.add(from, days), days))
    }

    /// Whether it ends an earlier item rather than announcing something.
    #[must_use]
    pub fn ends_another(&self) -> bool {
        self.relations.iter().any(|(relation, _)| matches!(relation, Relation::Lifts | Relation::Withdraws))
    }

    /// Whether opt-outs stop it. A lift reaches whoever was told, whatever its kind.
    #[must_use]
    pub fn honours_opt_out(&self) -> bool {
        honours_opt_out(self.kind) && !self.relations.iter().any(|(relation, _)| *relation == Relation::Lifts)
    }

    /// The lane it goes in by rule.
    #[must_use]
    pub const fn lane(&self) -> Lane {
        lane(self.kind, self.level)
    }

    /// When it ends, for an item approved at `approved_at`: as it says, or after the
    /// default validity of its kind.
    #[must_use]
    pub fn expiry(&self, approved_at: Millis) -> Millis {
        self.expires_at.unwrap_or_else(|| {
            let from = self.effective_at.unwrap_or(approved_at);
            from.saturating_add(self.expires_in.unwrap_or_else(|| default_validity(self.kind)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_field_is_refused() {
        let error = serde_json::from_str::<Content>(r#"{"kind":"notice","titel":"x"}"#).unwrap_err();
        assert!(error.to_string().contains("titel"), "{error}");
    }

    #[test]
    fn empty_fields_take_no_room() {
        let json = serde_json::to_string(&Content::new(ItemKind::Notice)).unwrap();
        assert_eq!(json, r#"{"kind":"notice","title":"","body":"","phone":""}"#);
        assert_eq!(serde_json::from_str::<Content>(&json).unwrap(), Content::new(ItemKind::Notice));
    }

    #[test]
    fn expiry_is_what_it_says_or_the_default() {
        let mut content = Content::new(ItemKind::TransferOrder);
        assert_eq!(content.expiry(1_000), 1_000 + 12 * 3_600_000);
        content.effective_at = Some(5_000);
        content.expires_in = Some(60_000);
        assert_eq!(content.expiry(1_000), 65_000);
        content.expires_at = Some(9_000);
        assert_eq!(content.expiry(1_000), 9_000);
    }

    #[test]
    fn days_are_counted_as_the_item_says() {
        let calendar = Calendar::parse(include_str!("../../../templates/calendar/cn.json")).unwrap();
        let day = jiff::civil::date;
        let mut content = Content::new(ItemKind::Publication);
        let end = |c: &Content| c.publication_end(day(2026, 9, 18), &calendar).map(|d| d.date);
        assert_eq!((end(&content), content.disclosure_deadline(&calendar)), (None, None));
        content.publication_days = Some(7);
        assert_eq!(end(&content), Some(day(2026, 9, 25)));
        content.publication_working = true;
        assert_eq!(end(&content), Some(day(2026, 9, 29)));
        content.formed_on = Some(day(2026, 9, 18));
        let until = |c: &Content| c.disclosure_deadline(&calendar).map(|(d, n)| (d.date, n));
        assert_eq!(until(&content), Some((day(2026, 10, 22), 20)));
        content.catalogue = Some("行政许可 · 采砂".to_owned());
        assert_eq!(until(&content), Some((day(2026, 9, 29), 7)));
        let json = serde_json::to_string(&content).unwrap();
        assert!(json.contains(r#""formed_on":"2026-09-18""#), "{json}");
        assert_eq!(serde_json::from_str::<Content>(&json).unwrap(), content);
    }

    #[test]
    fn a_lift_ignores_opt_outs_whatever_its_kind() {
        let mut content = Content::new(ItemKind::Notice);
        assert!(content.honours_opt_out());
        content.relations.push((Relation::Lifts, "12".to_owned()));
        assert!(!content.honours_opt_out());
        assert!(content.ends_another());
    }
}
