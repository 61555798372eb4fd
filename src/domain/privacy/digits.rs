//! Digits as people write them: full-width, spaced, hyphenated.

/// A digit, or the `X` that may end an ID number, and where it stands in the text.
#[derive(Debug, Clone, Copy)]
pub struct Digit {
    /// `0`-`9` or `X`.
    pub value: char,
    /// Byte offset in the text.
    pub at: usize,
    /// Bytes it takes there.
    pub len: usize,
}

/// Digits with nothing but separators between them, and the groups the separators make.
#[derive(Debug, Default)]
pub struct Run {
    digits: Vec<Digit>,
    /// Where each group starts, and whether a hyphen stands before it.
    starts: Vec<(usize, bool)>,
}

impl Run {
    /// How many groups there are.
    pub fn groups(&self) -> usize {
        self.starts.len()
    }

    /// The digits of groups `from..to`.
    pub fn digits(&self, from: usize, to: usize) -> &[Digit] {
        let end = self.starts.get(to).map_or(self.digits.len(), |(at, _)| *at);
        &self.digits[self.starts[from].0..end]
    }

    /// The same as plain characters.
    pub fn value(&self, from: usize, to: usize) -> String {
        self.digits(from, to).iter().map(|digit| digit.value).collect()
    }

    /// Whether a hyphen stands before group `group`.
    pub fn hyphen_before(&self, group: usize) -> bool {
        self.starts[group].1
    }
}

/// The plain digits of a phone number, however it is written.
pub fn only(text: &str) -> String {
    text.chars().filter_map(digit).collect()
}

/// All runs of `text`, in order. `X` makes a group of its own, so that `13900000000x2`
/// is still a phone number.
pub fn runs(text: &str) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut run = Run::default();
    let (mut gap, mut hyphen) = (true, false);
    for (at, c) in text.char_indices() {
        let is_x = matches!(c, 'x' | 'X' | 'ｘ' | 'Ｘ');
        if let Some(value) = digit(c).or_else(|| (is_x && !run.digits.is_empty()).then_some('X')) {
            if gap || is_x {
                run.starts.push((run.digits.len(), hyphen));
            }
            run.digits.push(Digit { value, at, len: c.len_utf8() });
            (gap, hyphen) = (is_x, false);
        } else if is_space(c) || is_hyphen(c) {
            gap = true;
            hyphen |= is_hyphen(c);
        } else if !is_invisible(c) {
            if !run.digits.is_empty() {
                runs.push(std::mem::take(&mut run));
            }
            (gap, hyphen) = (true, false);
        }
    }
    if !run.digits.is_empty() {
        runs.push(run);
    }
    runs
}

fn digit(c: char) -> Option<char> {
    match c {
        '0'..='9' => Some(c),
        '０'..='９' => char::from_digit(u32::from(c) - u32::from('０'), 10),
        _ => None,
    }
}

fn is_space(c: char) -> bool {
    c != '\n' && c != '\r' && c.is_whitespace()
}

fn is_hyphen(c: char) -> bool {
    matches!(c, '-' | '－' | '_' | '\u{2010}'..='\u{2015}' | '\u{2212}')
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' | '\u{ad}')
}
