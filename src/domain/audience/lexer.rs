//! Splits an expression into words and signs; full-width signs count as theirs.

use super::ast::Op;
use super::error::Problem;

/// A word or sign and where it stands, in characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub sign: Sign,
    pub column: usize,
    pub width: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sign {
    Word(String),
    Quoted(String),
    Open,
    Close,
    Colon,
    Comma,
    Bang,
    Op(Op),
    End,
}

/// A problem, its column and its width.
pub(super) type Fault = (Problem, usize, usize);

/// Characters that would make an expression other than it looks: controls,
/// zero-width characters, marks of writing direction, line separators.
pub(super) fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// Whether `c` may stand in a name without quotes.
pub(super) fn is_word(c: char) -> bool {
    !c.is_whitespace() && !is_hidden(c) && !is_quote(c) && sign(c, None).is_none()
}

fn is_quote(c: char) -> bool {
    matches!(c, '"' | '＂' | '“' | '”')
}

/// The sign `c` begins, and how many characters it takes.
fn sign(c: char, next: Option<char>) -> Option<(Sign, usize)> {
    let equals = matches!(next, Some('=' | '＝'));
    let one = |sign| Some((sign, 1));
    match c {
        '(' | '（' => one(Sign::Open),
        ')' | '）' => one(Sign::Close),
        ':' | '：' => one(Sign::Colon),
        ',' | '，' | '、' => one(Sign::Comma),
        '=' | '＝' => one(Sign::Op(Op::Eq)),
        '≠' => one(Sign::Op(Op::Ne)),
        '≤' | '≦' => one(Sign::Op(Op::Le)),
        '≥' | '≧' => one(Sign::Op(Op::Ge)),
        '!' | '！' if equals => Some((Sign::Op(Op::Ne), 2)),
        '<' | '＜' if equals => Some((Sign::Op(Op::Le), 2)),
        '>' | '＞' if equals => Some((Sign::Op(Op::Ge), 2)),
        '!' | '！' => one(Sign::Bang),
        '<' | '＜' => one(Sign::Op(Op::Lt)),
        '>' | '＞' => one(Sign::Op(Op::Gt)),
        _ => None,
    }
}

/// The tokens of `text`, the last of which is [`Sign::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, Fault> {
    let chars: Vec<char> = text.chars().collect();
    if let Some(at) = chars.iter().position(|c| is_hidden(*c)) {
        return Err((Problem::Hidden { code: u32::from(chars[at]) }, at + 1, 1));
    }
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        let (sign, width) = if c.is_whitespace() {
            at += 1;
            continue;
        } else if is_quote(c) {
            quoted(&chars[at..]).ok_or((Problem::UnclosedQuote, at + 1, 1))?
        } else if let Some(found) = sign(c, chars.get(at + 1).copied()) {
            found
        } else {
            let word: String = chars[at..].iter().take_while(|c| is_word(**c)).collect();
            let width = word.chars().count();
            (Sign::Word(word), width)
        };
        tokens.push(Token { sign, column: at + 1, width });
        at += width;
    }
    tokens.push(Token { sign: Sign::End, column: chars.len() + 1, width: 1 });
    Ok(tokens)
}

/// A quoted name at the start of `chars`; a doubled straight quote in it is one.
fn quoted(chars: &[char]) -> Option<(Sign, usize)> {
    let close = match chars.first()? {
        '“' | '”' => '”',
        other => *other,
    };
    let mut text = String::new();
    let mut at = 1;
    loop {
        let c = *chars.get(at)?;
        if c != close {
            text.push(c);
            at += 1;
        } else if close == '"' && chars.get(at + 1) == Some(&close) {
            text.push(c);
            at += 2;
        } else {
            return Some((Sign::Quoted(text), at + 1));
        }
    }
}
