//! Places: division codes, levels, and kinds of points.
//!
//! Codes are those of 统计用区划代码 (12 digits: 2 province, 2 city, 2 county,
//! 3 town, 3 village; GB/T 2260 and GB/T 10114). A place may have none.

mod index;

pub use index::{RegionError, RegionIndex, RegionRow};

use super::recipient::fold;

/// The level of a region; the word stands in `regions.level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    Province,
    City,
    County,
    Town,
    Village,
    /// A farm, a hamlet, a 村民小组: whatever the tables do not list.
    Custom,
}

impl Level {
    const NAMES: &[(Self, &[&str])] = &[
        (Self::Province, &["province", "省", "省级", "1"]),
        (Self::City, &["city", "市", "市级", "地级", "2"]),
        (Self::County, &["county", "县", "区", "县级", "3"]),
        (Self::Town, &["town", "township", "乡", "镇", "街道", "乡镇", "乡级", "4"]),
        (Self::Village, &["village", "村", "社区", "村级", "5"]),
        (Self::Custom, &["custom", "组", "村民小组", "自然村", "农场", "其他", "6"]),
    ];

    /// Reads the stored word or the Chinese one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = fold(text).to_lowercase();
        Self::NAMES.iter().find(|(_, words)| words.contains(&text.as_str())).map(|(level, _)| *level)
    }

    /// The stored word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Province => "province",
            Self::City => "city",
            Self::County => "county",
            Self::Town => "town",
            Self::Village => "village",
            Self::Custom => "custom",
        }
    }

    /// The level below, where the division tables have one.
    #[must_use]
    pub fn below(self) -> Self {
        match self {
            Self::Province => Self::City,
            Self::City => Self::County,
            Self::County => Self::Town,
            Self::Town => Self::Village,
            Self::Village | Self::Custom => Self::Custom,
        }
    }
}

/// What a town-level division is (GB/T 10114: the first digit of its three).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TownKind {
    /// 街道, 001–099.
    Subdistrict,
    /// 镇, 100–199.
    Town,
    /// 乡, 200–399.
    Township,
    /// 农场, 开发区 and the like that are run as one, 400–999.
    Likened,
}

/// A division code of 12 digits; shorter ones are filled with zeros.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegionCode(String);

/// Where the digits of each level end.
const ENDS: [(Level, usize); 5] =
    [(Level::Province, 2), (Level::City, 4), (Level::County, 6), (Level::Town, 9), (Level::Village, 12)];

impl RegionCode {
    /// Reads 2, 4, 6, 9 or 12 digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut code = fold(text);
        let known = matches!(code.len(), 2 | 4 | 6 | 9 | 12);
        if !known || !code.bytes().all(|b| b.is_ascii_digit()) || code.starts_with('0') {
            return None;
        }
        code.extend(std::iter::repeat_n('0', 12 - code.len()));
        Some(Self(code))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The level: that of the last part which is not all zeros.
    #[must_use]
    pub fn level(&self) -> Level {
        let used = self.0.trim_end_matches('0').len();
        ENDS.iter().find(|(_, end)| used <= *end).map_or(Level::Village, |(level, _)| *level)
    }

    /// The code of the level above; `None` for a province. Where a level is left
    /// out (东莞 has no counties) its digits are zeros, and the parent is the next
    /// one up that differs.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let level = self.level();
        ENDS.iter().rev().filter(|(above, _)| *above < level).find_map(|(_, end)| {
            let code = format!("{:0<12}", &self.0[..*end]);
            (code != self.0).then_some(Self(code))
        })
    }

    /// What kind of town this, or the town this village belongs to, is.
    #[must_use]
    pub fn town_kind(&self) -> Option<TownKind> {
        if self.level() < Level::Town {
            return None;
        }
        Some(match self.0.as_bytes()[6] {
            b'0' => TownKind::Subdistrict,
            b'1' => TownKind::Town,
            b'2' | b'3' => TownKind::Township,
            _ => TownKind::Likened,
        })
    }
}

/// What a point is; the word stands in `points.kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PointKind {
    /// 公告栏, 公示栏.
    Board,
    /// 电子屏.
    Screen,
    /// 大喇叭, 应急广播.
    Loudspeaker,
    /// 便民服务点, 公开查阅点.
    Desk,
}

impl PointKind {
    const NAMES: &[(Self, &[&str])] = &[
        (Self::Board, &["board", "公告栏", "公示栏", "公开栏", "宣传栏"]),
        (Self::Screen, &["screen", "电子屏", "显示屏", "led屏", "大屏"]),
        (Self::Loudspeaker, &["loudspeaker", "大喇叭", "喇叭", "广播", "应急广播"]),
        (
            Self::Desk,
            &["desk", "便民服务点", "便民服务站", "便民服务中心", "服务点", "查阅点", "公开查阅点", "政务服务中心"],
        ),
    ];

    /// Reads 公告栏, 电子屏, 大喇叭, 便民服务点 and their like.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = fold(text).to_lowercase();
        Self::NAMES.iter().find(|(_, words)| words.contains(&text.as_str())).map(|(kind, _)| *kind)
    }

    /// The stored word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Board => "board",
            Self::Screen => "screen",
            Self::Loudspeaker => "loudspeaker",
            Self::Desk => "desk",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_know_their_level_and_parent() {
        let code = |text| RegionCode::parse(text).unwrap();
        for (text, level, parent) in [
            ("43", Level::Province, None),
            ("4311", Level::City, Some("430000000000")),
            ("431129", Level::County, Some("431100000000")),
            ("431129100", Level::Town, Some("431129000000")),
            ("431129100201", Level::Village, Some("431129100000")),
            ("441900003000", Level::Town, Some("441900000000")),
        ] {
            assert_eq!(code(text).level(), level, "{text}");
            assert_eq!(code(text).parent().as_ref().map(RegionCode::as_str), parent, "{text}");
        }
        assert_eq!(code("431129100201").town_kind(), Some(TownKind::Town));
        assert_eq!(code("431129001001").town_kind(), Some(TownKind::Subdistrict));
        assert_eq!(code("431129").town_kind(), None);
        for bad in ["4311291", "43112910020a", "", "031129", "43112910020100"] {
            assert!(RegionCode::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn words_are_read_in_both_languages() {
        for level in [Level::Province, Level::City, Level::County, Level::Town, Level::Village, Level::Custom] {
            assert_eq!(Level::parse(level.as_str()), Some(level));
        }
        for kind in [PointKind::Board, PointKind::Screen, PointKind::Loudspeaker, PointKind::Desk] {
            assert_eq!(PointKind::parse(kind.as_str()), Some(kind));
        }
        assert_eq!(PointKind::parse("大喇叭"), Some(PointKind::Loudspeaker));
        assert_eq!(Level::parse("街道"), Some(Level::Town));
    }
}
