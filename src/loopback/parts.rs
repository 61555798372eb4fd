//! Parts of a message as a gateway bills them, counted independently of the sender.

/// Parts in UCS-2: 70 units in one, 67 in each of several (3GPP TS 23.040).
pub fn ucs2(text: &str) -> u32 {
    count(text.encode_utf16().count(), 70, 67)
}

/// Parts in GSM 7 bit: 160 septets in one, 153 in each of several; the extension
/// table takes two septets (3GPP TS 23.038).
pub fn gsm7(text: &str) -> u32 {
    let septets = text.chars().map(|c| if "^{}\\[~]|€".contains(c) { 2 } else { 1 }).sum();
    count(septets, 160, 153)
}

/// Parts in whichever of the two the text fits.
pub fn shortest(text: &str) -> u32 {
    if text.is_ascii() && !text.contains('`') { gsm7(text) } else { ucs2(text) }
}

fn count(units: usize, one: usize, each: usize) -> u32 {
    if units <= one { 1 } else { u32::try_from(units.div_ceil(each)).unwrap_or(u32::MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_those_of_the_standard() {
        assert_eq!([70, 71, 134, 135].map(|n| ucs2(&"汛".repeat(n))), [1, 2, 2, 3]);
        assert_eq!([160, 161, 306, 307].map(|n| gsm7(&"a".repeat(n))), [1, 2, 2, 3]);
        assert_eq!(shortest(&"[".repeat(80)), 1);
        assert_eq!(shortest(&"[".repeat(81)), 2);
        assert_eq!(shortest(&"`".repeat(71)), 2);
    }
}
