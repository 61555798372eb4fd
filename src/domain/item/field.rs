//! The keys of an item's front matter: a stable English name and the Chinese words
//! people write.

use super::Relation;
use crate::lang::{self, Lang};

/// A key that means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    Kind,
    Title,
    Body,
    Sms,
    Issuer,
    RelayUnit,
    Phone,
    Level,
    EventType,
    AreaText,
    Actions,
    EffectiveAt,
    ExpiresAt,
    ExpiresIn,
    Scope,
    Audience,
    Relations,
    Related(Relation),
    Catalogue,
    DocumentNo,
    PublicationDays,
    /// Stands in the stored JSON; people write 工作日 after the number.
    PublicationWorking,
    FormedOn,
    ObjectionPhone,
    Variables,
}

/// Stable name first, then the Chinese name shown, then aliases.
const NAMES: &[(Field, &[&str])] = &[
    (Field::Kind, &["kind", "类型", "type", "事项类型", "种类"]),
    (Field::Title, &["title", "标题"]),
    (Field::Body, &["body", "正文", "text", "内容"]),
    (Field::Sms, &["sms", "短信", "短信内容"]),
    (Field::Issuer, &["issuer", "发布单位", "发文单位", "落款"]),
    (Field::RelayUnit, &["relay_unit", "转发单位"]),
    (Field::Phone, &["phone", "电话", "tel", "咨询电话", "联系电话"]),
    (Field::Level, &["level", "级别", "预警级别", "响应级别", "等级"]),
    (Field::EventType, &["event_type", "灾种", "event", "事件类型", "事件"]),
    (Field::AreaText, &["area_text", "影响范围", "area", "影响区域", "可能影响范围"]),
    (Field::Actions, &["actions", "措施", "应采取的措施", "防范措施", "应对措施"]),
    (Field::EffectiveAt, &["effective_at", "生效", "effective", "生效时间", "起始时间"]),
    (Field::ExpiresAt, &["expires_at", "失效", "expires", "失效时间", "截止时间"]),
    (Field::ExpiresIn, &["expires_in", "有效期"]),
    (Field::Scope, &["scope", "范围", "公开范围", "公开对象"]),
    (Field::Audience, &["audience", "对象", "发布对象"]),
    (Field::Relations, &["relations", "关系"]),
    (Field::Related(Relation::Updates), &["updates", "更新"]),
    (Field::Related(Relation::Corrects), &["corrects", "更正"]),
    (Field::Related(Relation::Lifts), &["lifts", "解除"]),
    (Field::Related(Relation::Withdraws), &["withdraws", "撤回"]),
    (Field::Related(Relation::Interprets), &["interprets", "解读"]),
    (Field::Catalogue, &["catalogue", "目录", "catalog", "公开目录", "目录项"]),
    (Field::DocumentNo, &["document_no", "文号", "发文字号"]),
    (Field::PublicationDays, &["publication_days", "公示天数", "公示期"]),
    (Field::PublicationWorking, &["publication_working", "公示按工作日"]),
    (Field::FormedOn, &["formed_on", "形成日期", "formed", "形成时间", "成文日期"]),
    (Field::ObjectionPhone, &["objection_phone", "异议电话", "监督电话"]),
    (Field::Variables, &["variables", "变量"]),
];

impl Field {
    /// Reads a key in either language; case, spaces and hyphens do not matter.
    pub fn find(key: &str) -> Option<Self> {
        let key = plain(key);
        NAMES.iter().find(|(_, names)| names.contains(&key.as_str())).map(|(field, _)| *field)
    }

    fn names(self) -> &'static [&'static str] {
        NAMES.iter().find(|(field, _)| *field == self).map_or(&["", ""][..], |(_, names)| *names)
    }

    /// The stable name.
    pub fn name(self) -> &'static str {
        self.names()[0]
    }

    /// The key to show, in the language of this process.
    pub fn shown(self) -> &'static str {
        match lang::current() {
            Lang::Zh => self.names()[1],
            Lang::En => self.name(),
        }
    }

    /// The known key that an unknown one was probably meant to be.
    pub fn nearest(key: &str) -> Option<&'static str> {
        let key = plain(key);
        let (name, distance) = NAMES
            .iter()
            .flat_map(|(_, names)| names.iter())
            .map(|name| (*name, strsim::damerau_levenshtein(name, &key)))
            .min_by_key(|(_, distance)| *distance)?;
        // One slip in three characters is a typo; more is another word.
        (distance <= (key.chars().count() / 3).max(1) && distance < name.chars().count()).then_some(name)
    }
}

fn plain(key: &str) -> String {
    key.trim().to_lowercase().replace([' ', '-'], "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_means_two_things() {
        let mut seen = std::collections::HashSet::new();
        for (field, names) in NAMES {
            assert!(names.len() >= 2 && !field.shown().is_empty());
            for name in *names {
                assert!(seen.insert(name), "{name} stands twice");
                assert_eq!(Field::find(name), Some(*field));
            }
        }
        assert_eq!(Field::find(" Event-Type "), Some(Field::EventType));
    }

    #[test]
    fn typos_are_recognised_and_strangers_are_not() {
        assert_eq!(Field::nearest("titel"), Some("title"));
        assert_eq!(Field::nearest("影响范畴"), Some("影响范围"));
        assert_eq!(Field::nearest("expire_at"), Some("expires_at"));
        assert_eq!(Field::nearest("作者"), None);
        assert_eq!(Field::nearest("colour"), None);
        assert_eq!(Field::nearest("x"), None);
    }
}
