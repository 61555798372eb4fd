//! Where a title may be broken: between words, never inside one or inside a name
//! (GB/T 9704-2012, 7.3.1: 词意完整).

use icu_segmenter::WordSegmenter;
use icu_segmenter::options::WordBreakInvariantOptions;

/// Longest piece that is kept whole, in characters: a longer one would not fit a line.
const LONGEST: usize = 12;
/// Words that belong to the one before: the kinds of places, bodies and rivers after
/// their names, and particles that begin no line.
const ENDS: [&str; 44] = [
    "省", "市", "州", "县", "区", "旗", "镇", "乡", "村", "社区", "街道", "农场", "组", "屯", "寨", "河", "江", "湖",
    "水库", "沿岸", "局", "厅", "委", "办", "站", "所", "院", "部", "会", "年", "月", "日", "号", "期", "季度", "级",
    "户", "人", "的", "等", "了", "地", "上", "内",
];
/// What follows the name of a people and the name of a place: 河口·瑶族·自治县.
const AUTONOMOUS: [&str; 5] = ["自治县", "自治州", "自治区", "自治旗", "民族乡"];
const CLOSING: &str = "，。、；：！？）】》〉」』〕”’％%…—·,.;:!?)]}";
const OPENING: &str = "（【《〈「『〔“‘([{";

/// The title in pieces that stay on a line; put together they are the title.
pub(super) fn pieces(title: &str) -> Vec<String> {
    let segmenter = WordSegmenter::new_dictionary(WordBreakInvariantOptions::default());
    let ends: Vec<usize> = segmenter.segment_str(title).collect();
    let mut pieces: Vec<String> = Vec::new();
    for word in ends.windows(2).map(|w| &title[w[0]..w[1]]) {
        match pieces.last_mut() {
            Some(last) if joins(last, word) => last.push_str(word),
            _ => pieces.push(word.to_owned()),
        }
        autonomous(&mut pieces);
    }
    let long = |piece: &String| piece.chars().count() > LONGEST;
    pieces.into_iter().flat_map(|p| if long(&p) { p.chars().map(String::from).collect() } else { vec![p] }).collect()
}

/// Joins 河口·瑶族·自治县 where it has just come to its end.
fn autonomous(pieces: &mut Vec<String>) {
    let Some(last) = pieces.last().filter(|p| AUTONOMOUS.iter().any(|end| p.ends_with(end))) else { return };
    let parts = if AUTONOMOUS.contains(&last.as_str()) { 3 } else { 2 };
    if let Some(from) = pieces.len().checked_sub(parts)
        && pieces[from + 1].contains('族')
    {
        let name = pieces.split_off(from).concat();
        pieces.push(name);
    }
}

fn joins(last: &str, word: &str) -> bool {
    let (end, start) = (last.chars().next_back(), word.chars().next());
    let (Some(end), Some(start)) = (end, start) else { return false };
    if start.is_whitespace() || end.is_whitespace() {
        return start.is_whitespace() == end.is_whitespace();
    }
    CLOSING.contains(start) || OPENING.contains(end) || (ENDS.contains(&word) && !CLOSING.contains(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(title: &str) -> String {
        pieces(title).join("|")
    }

    #[test]
    fn words_and_names_stay_whole() {
        for (title, whole) in [
            ("关于红河、南溪河沿岸村组立即转移避险的暴雨洪水红色预警", &["红河、", "预警", "暴雨", "立即"][..]),
            ("河口瑶族自治县农村困难家庭灾后住房修缮补助办法", &["河口瑶族自治县", "补助", "办法", "家庭"]),
            ("关于印发《河口镇2026年防汛预案》的通知", &["通知", "2026年", "河口镇"]),
        ] {
            let cut = cut(title);
            assert_eq!(cut.replace('|', ""), title);
            for word in whole {
                assert!(cut.contains(word), "{cut}");
            }
        }
    }

    #[test]
    fn no_piece_begins_with_a_closing_mark_or_is_too_long() {
        let cut = cut("关于做好（第三批）“两不愁”工作的通知 ABCDEFGHIJKLMNOPQRSTUVWXYZ");
        for piece in cut.split('|').filter(|p| !p.is_empty()) {
            assert!(!piece.starts_with(|c| CLOSING.contains(c)) && piece.chars().count() <= LONGEST, "{cut}");
            assert!(!piece.ends_with(|c| OPENING.contains(c)), "{cut}");
        }
        assert_eq!(pieces(""), Vec::<String>::new());
    }
}
