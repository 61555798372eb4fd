//! What an item still lacks before it may be submitted for review.

use super::{Content, ItemKind};
use crate::say;

/// One thing to mend, worded with what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("{}", say!(
        "没有标题。请写“标题: …”，或以“# 标题”开头",
        "it has no title. Write `title: …`, or begin with a `# heading`"
    ))]
    NoTitle,
    #[error("{}", say!("没有正文。请在文件头之后写正文", "it has no body. Write it below the front matter"))]
    NoBody,
    #[error("{}", say!(
        "没有咨询电话，群众收到后无处可问。请写“电话: 0873-…”（责任单位的办公电话）",
        "it has no call-back phone, so readers have nobody to ask. Write `phone: 0873-…` (the unit's office number)"
    ))]
    NoPhone,
    #[error("{}", say!(
        "电话不是号码。请只写数字、空格和连字符，如 0873-12345678",
        "the phone is not a number. Write digits, spaces and hyphens only, such as 0873-12345678"
    ))]
    PhoneNotANumber,
    #[error("{}", say!(
        "异议电话不是号码。请只写数字、空格和连字符，如 0873-12345678",
        "the objection phone is not a number. Write digits, spaces and hyphens only, such as 0873-12345678"
    ))]
    ObjectionPhoneNotANumber,
    #[error("{}", say!(
        "预警没有级别（突发事件应对法第六十四条）。请写“级别: 红色”（或橙色、黄色、蓝色）",
        "an alert states its level (Emergency Response Law art. 64). Write `level: red` (or orange, yellow, blue)"
    ))]
    AlertWithoutLevel,
    #[error("{}", say!(
        "预警没有可能影响的范围（突发事件应对法第六十四条）。请写“影响范围: …”",
        "an alert states the area it may affect (Emergency Response Law art. 64). Write `area_text: …`"
    ))]
    AlertWithoutArea,
    #[error("{}", say!(
        "预警没有应采取的措施（突发事件应对法第六十四条）。请写“措施: …”，一条一行",
        "an alert states what to do (Emergency Response Law art. 64). Write `actions: …`, one a line"
    ))]
    AlertWithoutActions,
    #[error("{}", say!(
        "失效时间不晚于生效时间。请改其中一个",
        "it expires no later than it takes effect. Change one of the two"
    ))]
    ExpiresBeforeEffective,
    #[error("{}", say!(
        "失效时间和有效期只能写一个。请删去其中一个",
        "it has both `expires_at` and `expires_in`. Remove one of the two"
    ))]
    ExpiryTwice,
    #[error("{}", say!(
        "公示没有公示天数。请写“公示天数: 7”",
        "a publication states for how many days it hangs. Write `publication_days: 7`"
    ))]
    PublicationWithoutDays,
    #[error("{}", say!(
        "公示没有异议电话。请写“异议电话: 0873-…”",
        "a publication states whom to call with an objection. Write `objection_phone: 0873-…`"
    ))]
    PublicationWithoutObjectionPhone,
}

impl Problem {
    /// The field to mend, by its stable name.
    #[must_use]
    pub const fn field(self) -> &'static str {
        match self {
            Self::NoTitle => "title",
            Self::NoBody => "body",
            Self::NoPhone | Self::PhoneNotANumber => "phone",
            Self::ObjectionPhoneNotANumber | Self::PublicationWithoutObjectionPhone => "objection_phone",
            Self::AlertWithoutLevel => "level",
            Self::AlertWithoutArea => "area_text",
            Self::AlertWithoutActions => "actions",
            Self::ExpiresBeforeEffective => "expires_at",
            Self::ExpiryTwice => "expires_in",
            Self::PublicationWithoutDays => "publication_days",
        }
    }
}

/// Everything that keeps `content` from review, in the order of the form; empty when
/// it may go. An item that lifts or withdraws another needs no level, area or actions of
/// its own (突发事件应对法 art. 70).
#[must_use]
pub fn validate(content: &Content) -> Vec<Problem> {
    let objection = content.objection_phone.as_deref().unwrap_or_default();
    let announces = |kind| content.kind == kind && !content.ends_another();
    let (alert, publication) = (announces(ItemKind::Alert), announces(ItemKind::Publication));
    let too_early = match (content.effective_at, content.expires_at) {
        (Some(effective), Some(expires)) => expires <= effective,
        _ => false,
    };
    let checks = [
        (blank(&content.title), Problem::NoTitle),
        (blank(&content.body), Problem::NoBody),
        (blank(&content.phone), Problem::NoPhone),
        (!blank(&content.phone) && !is_number(&content.phone), Problem::PhoneNotANumber),
        (alert && content.level.is_none(), Problem::AlertWithoutLevel),
        (alert && blank(content.area_text.as_deref().unwrap_or_default()), Problem::AlertWithoutArea),
        (alert && content.actions.iter().all(|action| blank(action)), Problem::AlertWithoutActions),
        (too_early, Problem::ExpiresBeforeEffective),
        (content.expires_at.is_some() && content.expires_in.is_some(), Problem::ExpiryTwice),
        (publication && content.publication_days.is_none_or(|days| days == 0), Problem::PublicationWithoutDays),
        (publication && blank(objection), Problem::PublicationWithoutObjectionPhone),
        (!blank(objection) && !is_number(objection), Problem::ObjectionPhoneNotANumber),
    ];
    checks.into_iter().filter_map(|(wrong, problem)| wrong.then_some(problem)).collect()
}

fn blank(text: &str) -> bool {
    text.trim().is_empty()
}

/// Three digits (110) to a landline with country code and extension; several numbers
/// may stand side by side.
fn is_number(phone: &str) -> bool {
    phone.split(['、', '，', ',', '；', ';', '/']).all(|one| {
        let digits = one.chars().filter(char::is_ascii_digit).count();
        let plain =
            one.chars().all(|c| c.is_ascii_digit() || matches!(c, ' ' | '-' | '+' | '(' | ')' | '（' | '）' | '转'));
        plain && (3..=20).contains(&digits)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::item::{Level, Relation};

    fn sound(kind: ItemKind) -> Content {
        let mut content = Content::new(kind);
        content.title = "标题".to_owned();
        content.body = "正文".to_owned();
        content.phone = "0873-3420000".to_owned();
        content
    }

    #[test]
    fn an_empty_alert_lacks_what_article_64_asks() {
        assert_eq!(
            validate(&Content::new(ItemKind::Alert)),
            [
                Problem::NoTitle,
                Problem::NoBody,
                Problem::NoPhone,
                Problem::AlertWithoutLevel,
                Problem::AlertWithoutArea,
                Problem::AlertWithoutActions,
            ]
        );
    }

    #[test]
    fn a_sound_item_has_no_problem() {
        let mut alert = sound(ItemKind::Alert);
        alert.level = Some(Level::Red);
        alert.area_text = Some("河口镇".to_owned());
        alert.actions = vec!["转移".to_owned()];
        assert_eq!(validate(&alert), []);
        assert_eq!(validate(&sound(ItemKind::Notice)), []);
    }

    #[test]
    fn a_lift_needs_no_level_of_its_own() {
        let mut lift = sound(ItemKind::Alert);
        lift.relations.push((Relation::Lifts, "12".to_owned()));
        assert_eq!(validate(&lift), []);
    }

    #[test]
    fn a_publication_needs_days_and_an_objection_phone() {
        let mut publication = sound(ItemKind::Publication);
        publication.publication_days = Some(0);
        assert_eq!(
            validate(&publication),
            [Problem::PublicationWithoutDays, Problem::PublicationWithoutObjectionPhone]
        );
        publication.publication_days = Some(7);
        publication.objection_phone = Some("纪委".to_owned());
        assert_eq!(validate(&publication), [Problem::ObjectionPhoneNotANumber]);
    }

    #[test]
    fn times_are_in_order() {
        let mut notice = sound(ItemKind::Notice);
        notice.effective_at = Some(2_000);
        notice.expires_at = Some(2_000);
        notice.expires_in = Some(1);
        assert_eq!(validate(&notice), [Problem::ExpiresBeforeEffective, Problem::ExpiryTwice]);
    }

    #[test]
    fn phones_as_units_write_them() {
        for phone in ["12345", "0873-3420000", "(0873) 3420000转801", "0873-3420000、0873-3420001", "+86 873 3420000"]
        {
            assert!(is_number(phone), "{phone}");
        }
        for phone in ["办公室", "12", "0873-342000o", "0873-3420000、"] {
            assert!(!is_number(phone), "{phone}");
        }
    }
}
