//! The disclosure item: one thing to make known, its kind, level and relations, and
//! the rules that follow from them.

use serde::{Deserialize, Serialize};

use crate::clock::Millis;
use crate::lang::{self, Lang};

mod content;
mod error;
mod field;
mod lines;
mod parse;
mod raw;
mod times;
mod validate;

pub use content::Content;
pub use error::ItemError;
pub use lines::{Lines, Place};
pub use parse::{Format, parse, parse_placed};
pub use times::{Edge, point};
pub use validate::{Problem, validate};

const HOUR: Millis = 3_600_000;
const DAY: Millis = 24 * HOUR;

/// What an item is. The names are stored and appear in the API; they never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemKind {
    Alert,
    IncidentUpdate,
    Response,
    TransferOrder,
    ReliefNeed,
    Policy,
    Interpretation,
    Publication,
    Consultation,
    Notice,
    VillageAffairs,
}

impl ItemKind {
    /// Every kind, the urgent ones first.
    pub const ALL: [Self; 11] = [
        Self::Alert,
        Self::IncidentUpdate,
        Self::Response,
        Self::TransferOrder,
        Self::ReliefNeed,
        Self::Policy,
        Self::Interpretation,
        Self::Publication,
        Self::Consultation,
        Self::Notice,
        Self::VillageAffairs,
    ];

    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.words().0
    }

    /// The Chinese name, whatever the language of this process: texts are Chinese.
    #[must_use]
    pub const fn zh(self) -> &'static str {
        self.words().1
    }

    /// The name people see, in the language of this process.
    #[must_use]
    pub fn label(self) -> &'static str {
        let (_, zh, en, _) = self.words();
        by_lang(zh, en)
    }

    /// Reads a stable name, a Chinese label or one of its aliases.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        let word = word.trim();
        Self::ALL.into_iter().find(|kind| {
            let (name, zh, _, aliases) = kind.words();
            name.eq_ignore_ascii_case(&word.replace([' ', '-'], "_")) || zh == word || aliases.contains(&word)
        })
    }

    const fn words(self) -> (&'static str, &'static str, &'static str, &'static [&'static str]) {
        match self {
            Self::Alert => ("alert", "预警", "alert", &["预警信息", "预警信号"]),
            Self::IncidentUpdate => ("incident_update", "灾情动态", "incident update", &["灾情", "灾情信息"]),
            Self::Response => ("response", "应急响应", "emergency response", &["响应"]),
            Self::TransferOrder => ("transfer_order", "转移避险", "transfer order", &["转移", "转移令", "避险转移"]),
            Self::ReliefNeed => ("relief_need", "救助需求", "relief need", &["救助"]),
            Self::Policy => ("policy", "政策", "policy", &["政策文件", "惠民政策"]),
            Self::Interpretation => ("interpretation", "解读", "interpretation", &["政策解读"]),
            Self::Publication => ("publication", "公示", "publication", &["公示公告"]),
            Self::Consultation => ("consultation", "征求意见", "consultation", &["意见征集"]),
            Self::Notice => ("notice", "通知", "notice", &["通知公告"]),
            Self::VillageAffairs => ("village_affairs", "村务公开", "village affairs", &["村务"]),
        }
    }
}

/// Whether a recipient's opt-out stops items of this kind. Official emergency word
/// overrides it; see also [`Content::honours_opt_out`], which knows about lifts.
#[must_use]
pub const fn honours_opt_out(kind: ItemKind) -> bool {
    !matches!(kind, ItemKind::Alert | ItemKind::IncidentUpdate | ItemKind::Response | ItemKind::TransferOrder)
}

/// How long an item stands where it does not say: milliseconds from its effective time.
#[must_use]
pub const fn default_validity(kind: ItemKind) -> Millis {
    match kind {
        ItemKind::TransferOrder => 12 * HOUR,
        ItemKind::Alert | ItemKind::IncidentUpdate => DAY,
        ItemKind::Response => 2 * DAY,
        ItemKind::ReliefNeed | ItemKind::Notice => 7 * DAY,
        ItemKind::Policy
        | ItemKind::Interpretation
        | ItemKind::Publication
        | ItemKind::Consultation
        | ItemKind::VillageAffairs => 30 * DAY,
    }
}

/// A level, from the gravest. Of an alert it is the colour (突发事件应对法 art. 63:
/// 一级 red to 四级 blue); of a response it is the number, and no colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Red,
    Orange,
    Yellow,
    Blue,
}

impl Level {
    /// From the gravest.
    pub const ALL: [Self; 4] = [Self::Red, Self::Orange, Self::Yellow, Self::Blue];

    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.words().0
    }

    /// The Chinese word for an item of `kind`: 红色 of an alert, 一级 of a response.
    #[must_use]
    pub fn zh(self, kind: ItemKind) -> &'static str {
        let (_, colour, ranks) = self.words();
        if kind == ItemKind::Response { ranks[0] } else { colour }
    }

    /// Reads `red`, 红, 红色, 红色预警, 一级, Ⅰ级, I级, 一级响应 or 1. A response has no
    /// colour, so the Chinese colour words are refused for it.
    #[must_use]
    pub fn from_word(word: &str, kind: ItemKind) -> Option<Self> {
        let word = word.trim().to_ascii_lowercase();
        let word = ["预警信号", "预警", "应急响应", "响应"]
            .iter()
            .fold(word.as_str(), |word, tail| word.strip_suffix(tail).unwrap_or(word));
        Self::ALL.into_iter().find(|level| {
            let (name, colour, ranks) = level.words();
            let coloured = word == colour || colour.strip_suffix('色') == Some(word);
            let rank = word.strip_suffix('级').unwrap_or(word);
            name == word
                || (coloured && kind != ItemKind::Response)
                || ranks.iter().any(|r| r.strip_suffix('级').unwrap_or(r).eq_ignore_ascii_case(rank))
        })
    }

    const fn words(self) -> (&'static str, &'static str, [&'static str; 4]) {
        match self {
            Self::Red => ("red", "红色", ["一级", "Ⅰ级", "I级", "1"]),
            Self::Orange => ("orange", "橙色", ["二级", "Ⅱ级", "II级", "2"]),
            Self::Yellow => ("yellow", "黄色", ["三级", "Ⅲ级", "III级", "3"]),
            Self::Blue => ("blue", "蓝色", ["四级", "Ⅳ级", "IV级", "4"]),
        }
    }
}

/// How an item stands to an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    Updates,
    Corrects,
    Lifts,
    Withdraws,
    Interprets,
}

impl Relation {
    /// Every relation.
    pub const ALL: [Self; 5] = [Self::Updates, Self::Corrects, Self::Lifts, Self::Withdraws, Self::Interprets];

    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.words().0
    }

    /// The Chinese word that stands before a title.
    #[must_use]
    pub const fn zh(self) -> &'static str {
        self.words().1
    }

    /// The name people see, in the language of this process.
    #[must_use]
    pub fn label(self) -> &'static str {
        let (en, zh) = self.words();
        by_lang(zh, en)
    }

    /// Reads a stable name or the Chinese word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        by_word(Self::ALL, Self::words, word)
    }

    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Updates => ("updates", "更新"),
            Self::Corrects => ("corrects", "更正"),
            Self::Lifts => ("lifts", "解除"),
            Self::Withdraws => ("withdraws", "撤回"),
            Self::Interprets => ("interprets", "解读"),
        }
    }
}

/// How urgent the sending is. The numbers are stored; lower goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(i32)]
pub enum Lane {
    /// Calls to duty officers (叫应): before everything, or they would wait behind the
    /// very alert they are about. No item goes in it.
    Call = -1,
    Immediate = 0,
    Prompt = 1,
    Routine = 2,
}

impl Lane {
    /// Those an item can go in, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Immediate, Self::Prompt, Self::Routine];
    /// Those the engine serves, the most urgent first.
    pub const SERVED: [Self; 4] = [Self::Call, Self::Immediate, Self::Prompt, Self::Routine];

    /// The stored number.
    #[must_use]
    pub const fn number(self) -> i32 {
        self as i32
    }

    /// The lane a stored number means.
    #[must_use]
    pub fn from_number(number: i32) -> Option<Self> {
        Self::SERVED.into_iter().find(|lane| lane.number() == number)
    }

    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.words().0
    }

    /// The name people see, in the language of this process.
    #[must_use]
    pub fn label(self) -> &'static str {
        let (en, zh) = self.words();
        by_lang(zh, en)
    }

    /// Reads a stable name or the Chinese word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        by_word(Self::ALL, Self::words, word)
    }

    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Call => ("call", "叫应"),
            Self::Immediate => ("immediate", "特急"),
            Self::Prompt => ("prompt", "加急"),
            Self::Routine => ("routine", "常规"),
        }
    }
}

/// The lane an item goes in unless an operator overrides it with a reason.
#[must_use]
pub const fn lane(kind: ItemKind, level: Option<Level>) -> Lane {
    match (kind, level) {
        (ItemKind::TransferOrder, _) | (ItemKind::Alert, Some(Level::Red | Level::Orange)) => Lane::Immediate,
        (ItemKind::Alert | ItemKind::IncidentUpdate | ItemKind::Response | ItemKind::ReliefNeed, _) => Lane::Prompt,
        _ => Lane::Routine,
    }
}

/// The one whose stable name, in any case, or Chinese word it is.
fn by_word<T: Copy, const N: usize>(
    all: [T; N],
    words: fn(T) -> (&'static str, &'static str),
    word: &str,
) -> Option<T> {
    let word = word.trim();
    all.into_iter().find(|one| words(*one).0.eq_ignore_ascii_case(word) || words(*one).1 == word)
}

fn by_lang(zh: &'static str, en: &'static str) -> &'static str {
    match lang::current() {
        Lang::Zh => zh,
        Lang::En => en,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_unambiguous_and_match_serde() {
        let mut seen = std::collections::HashSet::new();
        for kind in ItemKind::ALL {
            let (name, zh, _, aliases) = kind.words();
            assert_eq!(serde_json::to_value(kind).unwrap(), name);
            for word in [name, zh].iter().chain(aliases) {
                assert!(seen.insert(*word), "{word} names two kinds");
                assert_eq!(ItemKind::from_word(word), Some(kind));
            }
        }
        for relation in Relation::ALL {
            assert_eq!(serde_json::to_value(relation).unwrap(), relation.name());
            assert_eq!(Relation::from_word(relation.words().1), Some(relation));
            assert_eq!(Relation::from_word(&format!(" {} ", relation.name().to_uppercase())), Some(relation));
        }
        for lane in Lane::ALL {
            assert_eq!(serde_json::to_value(lane).unwrap(), lane.name());
            assert_eq!(Lane::from_number(lane.number()), Some(lane));
            assert_eq!(Lane::from_word(lane.words().1), Some(lane));
            assert_eq!(Lane::from_word(&format!(" {} ", lane.name().to_uppercase())), Some(lane));
        }
        assert_eq!(Lane::from_number(3), None);
        assert_eq!(ItemKind::from_word("Village-Affairs"), Some(ItemKind::VillageAffairs));
    }

    #[test]
    fn levels_are_read_as_people_write_them() {
        for word in ["red", "RED", "红", "红色", "红色预警", "红色预警信号", "一级", "Ⅰ级", "I级", "i级", "1"]
        {
            assert_eq!(Level::from_word(word, ItemKind::Alert), Some(Level::Red), "{word}");
        }
        assert_eq!(Level::from_word("Ⅳ级应急响应", ItemKind::Response), Some(Level::Blue));
        assert_eq!(Level::from_word("红色", ItemKind::Response), None);
        assert_eq!(Level::from_word("紫色", ItemKind::Alert), None);
        assert_eq!(Level::from_word("色", ItemKind::Alert), None);
        assert_eq!(Level::Orange.zh(ItemKind::Alert), "橙色");
        assert_eq!(Level::Orange.zh(ItemKind::Response), "二级");
        assert!(Level::Red < Level::Blue);
    }

    #[test]
    fn lanes_follow_kind_and_level() {
        assert_eq!(lane(ItemKind::Alert, Some(Level::Orange)), Lane::Immediate);
        assert_eq!(lane(ItemKind::Alert, Some(Level::Yellow)), Lane::Prompt);
        assert_eq!(lane(ItemKind::Alert, None), Lane::Prompt);
        assert_eq!(lane(ItemKind::TransferOrder, None), Lane::Immediate);
        assert_eq!(lane(ItemKind::Response, Some(Level::Red)), Lane::Prompt);
        assert_eq!(lane(ItemKind::ReliefNeed, None), Lane::Prompt);
        assert_eq!(lane(ItemKind::Policy, Some(Level::Red)), Lane::Routine);
    }

    #[test]
    fn emergency_word_overrides_an_opt_out() {
        let overriding: Vec<_> = ItemKind::ALL.into_iter().filter(|kind| !honours_opt_out(*kind)).collect();
        assert_eq!(
            overriding,
            [ItemKind::Alert, ItemKind::IncidentUpdate, ItemKind::Response, ItemKind::TransferOrder]
        );
    }
}
