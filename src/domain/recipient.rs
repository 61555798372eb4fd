//! Who can be told: kinds, states and the facts that identify and reach a person.
//!
//! Everything typed by hand arrives in full-width digits, with spaces, hyphens and
//! country codes; the newtypes here exist only in their one canonical form, so that
//! equal values have equal hashes.

mod contact;
mod identity;

pub use contact::{Email, Phone};
pub use identity::{IdNumber, born_of_age, normal_ext, parse_born};

/// The purposes of [`crate::vault::Vault::hash`] for personal data.
pub mod purpose {
    pub const PHONE: &str = "phone";
    pub const EMAIL: &str = "email";
    pub const NAME: &str = "name";
    pub const EXT: &str = "ext";
    /// Stands in for an external id where the source has none.
    pub const IDENTITY: &str = "identity";
}

/// What a recipient is; the numbers stand in `recipients.kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum RecipientKind {
    Person = 1,
    Household = 2,
    Organisation = 3,
}

/// Whether a recipient is still there; the numbers stand in `recipients.status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Status {
    Active = 1,
    Moved = 2,
    Dead = 3,
}

/// Whose address it is; the numbers stand in `recipient_addresses.via`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(i32)]
pub enum Via {
    Own = 1,
    Household = 2,
    Guardian = 3,
    Agent = 4,
}

/// Reads a word of a table by its English or Chinese names.
fn word<T: Copy>(text: &str, names: &[(T, &[&str])]) -> Option<T> {
    let text = fold(text).to_lowercase();
    names.iter().find(|(_, words)| words.contains(&text.as_str())).map(|(value, _)| *value)
}

impl RecipientKind {
    const NAMES: &[(Self, &[&str])] = &[
        (Self::Person, &["person", "个人", "居民", "村民", "人", "1"]),
        (Self::Household, &["household", "户", "家庭", "农户", "住户", "2"]),
        (
            Self::Organisation,
            &["organisation", "organization", "单位", "组织", "企业", "学校", "合作社", "商户", "机构", "3"],
        ),
    ];

    /// Reads 个人, 户, 单位 and their like.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        word(text, Self::NAMES)
    }
}

impl Status {
    const NAMES: &[(Self, &[&str])] = &[
        (Self::Active, &["active", "正常", "在册", "在世", "有效", "1"]),
        (Self::Moved, &["moved", "迁出", "迁走", "注销", "2"]),
        (Self::Dead, &["dead", "死亡", "去世", "已故", "3"]),
    ];

    /// Reads 正常, 迁出, 死亡 and their like.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        word(text, Self::NAMES)
    }
}

/// Reads 是 / 否, yes / no, 1 / 0, and what columns named 外出 hold.
#[must_use]
pub fn parse_flag(text: &str) -> Option<bool> {
    const NAMES: &[(bool, &[&str])] = &[
        (true, &["1", "是", "有", "外出", "在外", "务工", "外出务工", "y", "yes", "true", "away", "√", "对"]),
        (false, &["0", "否", "无", "没有", "在家", "在村", "未外出", "n", "no", "false", "home", "×", "错"]),
    ];
    word(text, NAMES)
}

/// Half-width, trimmed, without control and zero-width characters.
#[must_use]
pub fn fold(text: &str) -> String {
    let folded: String = text
        .chars()
        .filter_map(|c| match c {
            '\u{3000}' | '\u{a0}' | '\t' => Some(' '),
            '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0),
            '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{feff}' => None,
            c if c.is_control() => None,
            c => Some(c),
        })
        .collect();
    folded.trim().to_owned()
}

/// A name in its one form: half-width, one kind of middle dot, no spaces between
/// Chinese characters (张 三 = 张三), single spaces elsewhere. `None` when empty.
#[must_use]
pub fn normal_name(text: &str) -> Option<String> {
    let mut name = String::with_capacity(text.len());
    let mut gap = false;
    for c in fold(text).chars() {
        if c.is_whitespace() {
            gap = true;
            continue;
        }
        let c = if matches!(c, '•' | '‧' | '・' | '∙' | '●') { '·' } else { c };
        let latin = c.is_ascii_alphanumeric() && name.ends_with(|p: char| p.is_ascii_alphanumeric() || p == '.');
        if gap && latin {
            name.push(' ');
        }
        gap = false;
        name.push(c);
    }
    (!name.is_empty()).then_some(name)
}

/// A name with all but its first character hidden: 张*.
#[must_use]
pub fn masked_name(name: &str) -> String {
    name.chars().next().map_or_else(String::new, |first| format!("{first}*"))
}

/// Any value, as far as it may be shown in a reason: `139***00` of a long one,
/// its first character of a short one.
#[must_use]
pub fn masked(value: &str) -> String {
    let length = value.chars().count();
    let shown = if length >= 9 { 3 } else { 1 };
    let head: String = value.chars().take(shown).collect();
    let tail: String = if length >= 9 { value.chars().skip(length - 2).collect() } else { String::new() };
    if head.is_empty() { head } else { format!("{head}***{tail}") }
}

/// Splits a cell that holds several values: by `/ ; 、 ，` and line breaks.
pub fn several(text: &str) -> impl Iterator<Item = &str> {
    text.split(['/', ';', '；', '、', ',', '，', '\n', '|', '／']).map(str::trim).filter(|part| !part.is_empty())
}

/// Brings 听障 or 瑶语 to the short words stored (`,hearing,` `,yao,`); others stay,
/// lowercase. The result is a comma list with commas at both ends, or empty.
#[must_use]
pub fn word_list(text: &str, known: &[(&'static str, &[&str])]) -> String {
    let mut words: Vec<String> = several(text)
        .map(|part| {
            let part = fold(part).to_lowercase();
            let short = known.iter().find(|(short, names)| *short == part || names.contains(&part.as_str()));
            short.map_or(part, |(short, _)| (*short).to_owned())
        })
        .collect();
    words.sort_unstable();
    words.dedup();
    if words.is_empty() { String::new() } else { format!(",{},", words.join(",")) }
}

/// Languages as stored, and how rosters call them.
pub const LANGUAGES: &[(&str, &[&str])] = &[
    ("zh", &["汉语", "普通话", "汉"]),
    ("yao", &["瑶语", "瑶"]),
    ("miao", &["苗语", "苗"]),
    ("dong", &["侗语", "侗"]),
    ("zhuang", &["壮语", "壮"]),
    ("tujia", &["土家语", "土家"]),
    ("yi", &["彝语", "彝"]),
    ("tibetan", &["藏语", "藏"]),
    ("uyghur", &["维吾尔语", "维语", "维"]),
    ("mongolian", &["蒙古语", "蒙语", "蒙"]),
    ("kazakh", &["哈萨克语", "哈语"]),
    ("korean", &["朝鲜语", "朝语"]),
    ("cantonese", &["粤语", "白话"]),
    ("hakka", &["客家话"]),
];

/// Needs as stored, and how rosters call them.
pub const NEEDS: &[(&str, &[&str])] = &[
    ("hearing", &["听力", "听障", "听力残疾", "听力障碍", "失聪"]),
    ("sight", &["视力", "视障", "视力残疾", "视力障碍", "失明"]),
    ("mobility", &["行动", "行动不便", "肢体", "肢体残疾", "卧床"]),
    ("speech", &["言语", "言语残疾", "失语"]),
    ("mental", &["智力", "精神", "智力残疾", "精神残疾"]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::Date;
    use proptest::prelude::*;

    #[test]
    fn names_and_dates_are_normal() {
        assert_eq!(normal_name(" 张　三 ").unwrap(), "张三");
        assert_eq!(normal_name("阿依•买买提").unwrap(), "阿依·买买提");
        assert_eq!(normal_name("John   Smith").unwrap(), "John Smith");
        assert_eq!(normal_name("  "), None);
        assert_eq!(masked_name("张三"), "张*");
        for text in ["1950-03-07", "1950/3/7", "1950年3月7日", "19500307", "1950.03.07", "1950-03-07 00:00:00"] {
            assert_eq!(parse_born(text), Some(19_500_307), "{text}");
        }
        assert_eq!(parse_born("1950-02-30"), None);
        assert_eq!(born_of_age("60岁", Date::constant(2026, 6, 1)), Some(19_660_101));
        assert_eq!(word_list("听障、瑶", NEEDS), ",hearing,瑶,");
        assert_eq!(word_list("瑶语；汉语", LANGUAGES), ",yao,zh,");
    }

    proptest! {
        #[test]
        fn nothing_typed_panics_and_parsing_is_stable(text in "\\PC{0,24}") {
            if let Some(p) = Phone::parse(&text) { prop_assert_eq!(Phone::parse(p.as_str()), Some(p)); }
            if let Some(e) = Email::parse(&text) { prop_assert_eq!(Email::parse(e.as_str()), Some(e)); }
            if let Some(n) = normal_name(&text) { prop_assert_eq!(normal_name(&n), Some(n)); }
            let _ = (masked(&text), IdNumber::parse(&text), parse_born(&text), word_list(&text, NEEDS));
        }
    }
}
