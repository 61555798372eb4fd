//! How a text becomes SMS parts, which is what gateways bill and carry.
//!
//! The GSM 7-bit default alphabet and its extension table are those of
//! 3GPP TS 23.038 (GSM 03.38); the room a concatenation header takes is that of
//! 3GPP TS 23.040. A text with one character outside the alphabet goes as UCS-2.

/// How the characters of an SMS are coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// 7 bits a character; those of the extension table take two.
    Gsm7,
    /// UTF-16 code units.
    Ucs2,
}

impl Encoding {
    /// Units that fit in a message that stands alone.
    #[must_use]
    pub const fn single(self) -> usize {
        match self {
            Self::Gsm7 => 160,
            Self::Ucs2 => 70,
        }
    }

    /// Units that fit in a part of a longer message, its header taken off.
    #[must_use]
    pub const fn concatenated(self) -> usize {
        match self {
            Self::Gsm7 => 153,
            Self::Ucs2 => 67,
        }
    }

    fn cost(self, c: char) -> usize {
        match self {
            Self::Gsm7 => septets(c).unwrap_or(0),
            Self::Ucs2 => c.len_utf16(),
        }
    }
}

/// What a text comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segments {
    pub encoding: Encoding,
    /// Septets or UTF-16 code units, by `encoding`.
    pub units: usize,
    /// Billable parts; 0 for the empty text.
    pub parts: u32,
}

/// Characters of the default alphabet, the escape code left out.
const BASIC: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?\
¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà";

/// Characters sent as an escape and one more.
const EXTENDED: &str = "\u{c}^{}\\[~]|€";

fn septets(c: char) -> Option<usize> {
    if c.is_ascii_alphanumeric() || BASIC.contains(c) {
        Some(1)
    } else if EXTENDED.contains(c) {
        Some(2)
    } else {
        None
    }
}

/// Counts the parts of `text` without cutting it.
#[must_use]
pub fn segments(text: &str) -> Segments {
    let (encoding, units) = measure(text);
    let mut parts = 0;
    each_part(text, encoding, units, |_| parts += 1);
    Segments { encoding, units, parts }
}

/// The parts of `text` as a gateway would cut them: never inside a surrogate pair,
/// never between an escape and its character.
#[must_use]
pub fn split(text: &str) -> Vec<String> {
    let (encoding, units) = measure(text);
    let mut parts = Vec::new();
    each_part(text, encoding, units, |part| parts.push(part.to_owned()));
    parts
}

/// `text` with its signature `【…】` in front, where Chinese gateways want it.
/// A signature that is there already, in front or at the end, is not doubled;
/// `signature` may be given with or without its brackets, and an empty one adds nothing.
#[must_use]
pub fn with_signature(signature: &str, text: &str) -> String {
    let name = signature.trim().trim_start_matches('【').trim_end_matches('】').trim();
    if name.is_empty() {
        return text.to_owned();
    }
    let sign = format!("【{name}】");
    let text = text.trim_start();
    if text.starts_with(&sign) {
        return text.to_owned();
    }
    let text = text.strip_suffix(&sign).unwrap_or(text);
    format!("{sign}{text}")
}

fn measure(text: &str) -> (Encoding, usize) {
    let mut gsm = 0;
    for c in text.chars() {
        match septets(c) {
            Some(n) => gsm += n,
            None => return (Encoding::Ucs2, text.encode_utf16().count()),
        }
    }
    (Encoding::Gsm7, gsm)
}

fn each_part(text: &str, encoding: Encoding, units: usize, mut take: impl FnMut(&str)) {
    if text.is_empty() {
        return;
    }
    if units <= encoding.single() {
        take(text);
        return;
    }
    let (mut start, mut used) = (0, 0);
    for (at, c) in text.char_indices() {
        let cost = encoding.cost(c);
        if used + cost > encoding.concatenated() {
            take(&text[start..at]);
            (start, used) = (at, 0);
        }
        used += cost;
    }
    take(&text[start..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(text: &str) -> (Encoding, usize, u32) {
        let s = segments(text);
        (s.encoding, s.units, s.parts)
    }

    #[test]
    fn counts_at_the_borders() {
        assert_eq!(of(""), (Encoding::Gsm7, 0, 0));
        assert_eq!(of(&"a".repeat(160)), (Encoding::Gsm7, 160, 1));
        assert_eq!(of(&"a".repeat(161)), (Encoding::Gsm7, 161, 2));
        assert_eq!(of(&"a".repeat(306)), (Encoding::Gsm7, 306, 2));
        assert_eq!(of(&"a".repeat(307)), (Encoding::Gsm7, 307, 3));
        assert_eq!(of(&"锣".repeat(70)), (Encoding::Ucs2, 70, 1));
        assert_eq!(of(&"锣".repeat(71)), (Encoding::Ucs2, 71, 2));
        assert_eq!(of(&"锣".repeat(134)), (Encoding::Ucs2, 134, 2));
        assert_eq!(of(&"锣".repeat(135)), (Encoding::Ucs2, 135, 3));
    }

    #[test]
    fn the_alphabet_has_127_characters_and_the_table_ten() {
        assert_eq!(BASIC.chars().count(), 127);
        assert_eq!(EXTENDED.chars().count(), 10);
        assert_eq!(of("€"), (Encoding::Gsm7, 2, 1));
        assert_eq!(of("ç"), (Encoding::Ucs2, 1, 1));
        assert_eq!(of("`"), (Encoding::Ucs2, 1, 1));
    }

    #[test]
    fn an_escape_pair_stays_whole() {
        // 152 + 2 does not fit in 153: the pair moves on, and a third part is needed.
        let text = format!("{}€{}", "a".repeat(152), "b".repeat(152));
        assert_eq!(of(&text), (Encoding::Gsm7, 306, 3));
        assert_eq!(split(&text)[1], format!("€{}", "b".repeat(151)));
    }

    #[test]
    fn a_surrogate_pair_stays_whole() {
        let text = format!("{}𠮷{}", "锣".repeat(66), "鼓".repeat(10));
        assert_eq!(split(&text), ["锣".repeat(66), format!("𠮷{}", "鼓".repeat(10))]);
    }

    #[test]
    fn the_signature_stands_in_front_once() {
        assert_eq!(with_signature("河口县应急局", "请转移"), "【河口县应急局】请转移");
        assert_eq!(with_signature("【河口县应急局】", " 【河口县应急局】请转移"), "【河口县应急局】请转移");
        assert_eq!(with_signature("河口县应急局", "请转移【河口县应急局】"), "【河口县应急局】请转移");
        assert_eq!(with_signature("河口县应急局", "【演练】请转移"), "【河口县应急局】【演练】请转移");
        assert_eq!(with_signature("【】", "请转移"), "请转移");
    }

    fn texts() -> impl Strategy<Value = String> {
        prop_oneof!["[ -~€éΩ\\^{}|\\[\\]]{0,500}", "[锣鼓县a𠮷😀【】]{0,300}", "\\PC{0,200}"]
    }

    proptest! {
        #[test]
        fn parts_make_the_text_again(text in texts()) {
            prop_assert_eq!(split(&text).concat(), text);
        }

        #[test]
        fn each_part_fits_and_they_are_as_many_as_counted(text in texts()) {
            let total = segments(&text);
            let parts = split(&text);
            prop_assert_eq!(total.parts as usize, parts.len());
            let room = if parts.len() == 1 { total.encoding.single() } else { total.encoding.concatenated() };
            let mut units = 0;
            for part in &parts {
                let n: usize = part.chars().map(|c| total.encoding.cost(c)).sum();
                prop_assert!(n > 0 && n <= room);
                units += n;
            }
            prop_assert_eq!(units, total.units);
        }

        #[test]
        fn signing_twice_is_signing_once(sign in "[县局a]{0,6}", text in "[县局a【】 ]{0,20}") {
            let once = with_signature(&sign, &text);
            prop_assert_eq!(with_signature(&sign, &once), once);
        }
    }
}
