//! Phone numbers and e-mail addresses in the one form they are stored, hashed and sent in.

use super::fold;

/// A mainland phone number in national form: 11 digits of a mobile
/// (`1[3-9]` and nine more), or a landline with its area code, digits alone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Phone(String);

impl std::fmt::Debug for Phone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.masked())
    }
}

impl Phone {
    /// Reads a mobile number, the only kind that takes a text message.
    #[must_use]
    pub fn mobile(text: &str) -> Option<Self> {
        let number = digits(text)?;
        let mobile = number.len() == 11 && number.starts_with('1') && (b'3'..=b'9').contains(&number.as_bytes()[1]);
        mobile.then_some(Self(number))
    }

    /// Reads a landline with its area code: 0xx-xxxxxxxx or 0xxx-xxxxxxx(x).
    #[must_use]
    pub fn landline(text: &str) -> Option<Self> {
        let number = digits(text)?;
        let bytes = number.as_bytes();
        if bytes.first() != Some(&b'0') || bytes.get(1).is_none_or(|b| *b == b'0') {
            return None;
        }
        let area = if matches!(bytes[1], b'1' | b'2') { 3 } else { 4 };
        let local = bytes.get(area..)?;
        (matches!(local.len(), 7 | 8) && local[0] > b'1').then_some(Self(number))
    }

    /// Reads either kind.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::mobile(text).or_else(|| Self::landline(text))
    }

    #[must_use]
    pub fn is_mobile(&self) -> bool {
        self.0.starts_with('1')
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// 139****0000.
    #[must_use]
    pub fn masked(&self) -> String {
        format!("{}****{}", &self.0[..3], &self.0[self.0.len() - 4..])
    }
}

/// The digits of a number without separators and the country code of China.
fn digits(text: &str) -> Option<String> {
    let mut out = String::with_capacity(11);
    for c in fold(text).chars() {
        match c {
            '0'..='9' => out.push(c),
            '+' if out.is_empty() => out.push(c),
            ' ' | '-' | '(' | ')' | '.' | '‐' | '–' | '—' | '−' => {}
            _ => return None,
        }
    }
    let abroad = ["+86", "0086"].iter().find_map(|code| out.strip_prefix(code));
    // 86 alone is a country code only before a mobile number: no landline begins with 8.
    let plain = abroad.or_else(|| out.strip_prefix("86").filter(|rest| rest.len() == 11));
    let number = match (abroad, plain) {
        // +86 746 xxxxxxx stands without the trunk zero.
        (Some(rest), _) if !rest.starts_with(['0', '1']) || rest.len() == 10 => format!("0{rest}"),
        (_, Some(rest)) => rest.to_owned(),
        _ => out,
    };
    number.bytes().all(|b| b.is_ascii_digit()).then_some(number)
}

/// An e-mail address, lowercase: `local@domain` as SMTP takes it unquoted
/// (RFC 5321 §4.1.2), the domain with a dot.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Email(String);

impl std::fmt::Debug for Email {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.masked())
    }
}

impl Email {
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = fold(text).to_lowercase();
        let (local, domain) = text.rsplit_once('@')?;
        let atom = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
        let label = |l: &str| {
            !l.is_empty()
                && l.len() <= 63
                && !l.starts_with('-')
                && !l.ends_with('-')
                && l.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        };
        let local_ok = !local.is_empty()
            && local.len() <= 64
            && local.chars().all(atom)
            && !local.starts_with('.')
            && !local.ends_with('.')
            && !local.contains("..");
        let domain_ok = domain.len() <= 253 && domain.contains('.') && domain.split('.').all(label);
        (local_ok && domain_ok).then_some(Self(text))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// w***@x.cn.
    #[must_use]
    pub fn masked(&self) -> String {
        let (local, domain) = self.0.split_once('@').unwrap_or((&self.0, ""));
        format!("{}***@{domain}", &local[..1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phones_have_one_form() {
        let typed =
            ["13900000000", "+86 139 0000 0000", "0086-139-0000-0000", "86 13900000000", "１３９００００００００"];
        for text in typed {
            assert_eq!(Phone::mobile(text).unwrap().as_str(), "13900000000", "{text}");
        }
        for bad in ["1390000000", "139000000000", "12900000000", "abc", "", "0746-2000000", "8613900000"] {
            assert!(Phone::mobile(bad).is_none(), "{bad}");
        }
        for (text, number) in [
            ("0746-2000000", "07462000000"),
            ("(010) 6000 0000", "01060000000"),
            ("+86 746 2000000", "07462000000"),
            ("+86 10 6000 0000", "01060000000"),
        ] {
            assert_eq!(Phone::landline(text).unwrap().as_str(), number);
        }
        assert!(Phone::landline("0746-200").is_none());
        assert_eq!(Phone::mobile("13900000000").unwrap().masked(), "139****0000");
        assert_eq!(format!("{:?}", Phone::mobile("13900000000").unwrap()), "139****0000");
    }

    #[test]
    fn emails_have_one_form() {
        assert_eq!(Email::parse(" Wang.San＠X.cn ").unwrap().as_str(), "wang.san@x.cn");
        assert_eq!(Email::parse("wang@x.cn").unwrap().masked(), "w***@x.cn");
        for bad in ["wang", "@x.cn", "a@b", "a b@x.cn", "a@x..cn", "a@-x.cn", ".a@x.cn", "a@x.cn\r\nBcc: b"] {
            assert!(Email::parse(bad).is_none(), "{bad}");
        }
    }
}
