//! What an SMTP answer means (RFC 5321 §4.2, RFC 3463), as one pure table, and the
//! server's word for the ledger with whatever may be an address taken out.

use std::sync::LazyLock;

use regex::Regex;

use crate::channel::Class;

/// Longest word kept of a server's answer, in characters.
const MAX_WORD: usize = 120;

static MAILBOX: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"[^\s<>()\[\],;:]*@[^\s<>()\[\],;:]*").ok());
/// Seven digits or more, also with spaces or hyphens between: a number of somebody.
static DIGITS: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"[0-9](?:[ -]?[0-9]){6,}").ok());
static ENHANCED: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(?:^|[\s#(])([245]\.[0-9]{1,3}\.[0-9]{1,3})(?:[\s:)]|$)").ok());
static NO_SUCH: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"(?i)(user|recipient|mailbox|account|address|alias)\b.{0,40}\b(unknown|not found|not exist|no longer|invalid|rejected)|(unknown|no such|invalid|nonexistent|bad) (user|recipient|mailbox|account|address|local)|doesn'?t exist|不存在").ok()
});
static NO_RELAY: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"(?i)relay(ing)? (access )?(is )?(denied|prohibited|not (permitted|allowed))|authentication (is )?required|must authenticate|not authenticated").ok()
});

/// Why no connection is had: its class and the word for the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub class: Class,
    pub code: String,
}

/// Which command an answer is to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The greeting, EHLO or STARTTLS.
    Greeting,
    Auth,
    Mail,
    Rcpt,
    Data,
    /// The end of the mail.
    Content,
}

fn says(pattern: &LazyLock<Option<Regex>>, text: &str) -> bool {
    pattern.as_ref().is_some_and(|p| p.is_match(text))
}

/// The enhanced status code in an answer, such as `5.1.1` (RFC 3463).
pub(super) fn enhanced(text: &str) -> Option<&str> {
    let found = ENHANCED.as_ref()?.captures(text)?;
    found.get(1).map(|code| code.as_str())
}

/// The class of a refusal.
pub(super) fn of(stage: Stage, code: u16, text: &str) -> Class {
    let enhanced = enhanced(text).unwrap_or_default();
    match (stage, code) {
        // RFC 5321 §3.8: the service shuts down, or there are too many of us.
        (_, 421) => Class::Throttled,
        (Stage::Greeting | Stage::Auth, 400..=499) => Class::Unreachable,
        (Stage::Greeting | Stage::Auth, _) => Class::Misconfigured,
        (_, 400..=499) => temporary(enhanced),
        // RFC 4954 §6.
        (_, 530 | 534 | 535 | 538) => Class::Misconfigured,
        _ if matches!(enhanced, "5.7.8" | "5.7.9") || says(&NO_RELAY, text) => Class::Misconfigured,
        // Our own sender is refused: so it would be for everybody.
        (Stage::Mail, _) => Class::Misconfigured,
        _ if is_gone(enhanced) => Class::AddressGone,
        (Stage::Rcpt | Stage::Content, 550 | 551 | 553) if says(&NO_SUCH, text) => Class::AddressGone,
        (Stage::Rcpt, 550) if enhanced.is_empty() => Class::AddressGone,
        _ => Class::Permanent,
    }
}

/// Policy and load (4.7, 4.3.2, 4.4.5, 4.5.3) ask for patience; the rest may be about this mail.
fn temporary(enhanced: &str) -> Class {
    let throttled = enhanced.starts_with("4.7.") || matches!(enhanced, "4.2.1" | "4.3.2" | "4.4.5" | "4.5.3");
    if throttled { Class::Throttled } else { Class::Temporary }
}

/// No such mailbox, moved without a trace, a null MX (RFC 7505), or switched off.
pub(super) fn is_gone(enhanced: &str) -> bool {
    matches!(enhanced, "5.1.1" | "5.1.6" | "5.1.10" | "5.2.1")
}

/// The answer as the ledger keeps it: `to` and everything like an address is masked.
pub(super) fn word(code: u16, text: &str, to: &str) -> String {
    mask(&format!("{code} {text}"), to)
}

/// Any text of a server's, masked.
pub(super) fn mask(text: &str, to: &str) -> String {
    let mut clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    for pattern in [&MAILBOX, &DIGITS] {
        clean = pattern.as_ref().map_or_else(String::new, |p| p.replace_all(&clean, "***").into_owned());
    }
    // Some servers name the local part alone.
    let local = to.split('@').next().unwrap_or_default().to_ascii_lowercase();
    if local.len() > 1 {
        clean = without(&clean, &local);
    }
    clean.trim().chars().take(MAX_WORD).collect()
}

/// `text` with every word that is `local` (in lower case) masked. No pattern: it runs
/// for every mail.
fn without(text: &str, local: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let within = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let (mut out, mut from) = (String::with_capacity(text.len()), 0);
    for (at, _) in lower.match_indices(local) {
        let end = at + local.len();
        if within(lower.as_bytes().get(at.wrapping_sub(1))) || within(lower.as_bytes().get(end)) {
            continue;
        }
        out.push_str(&text[from..at]);
        out.push_str("***");
        from = end;
    }
    out.push_str(&text[from..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_real_servers_have_their_class() {
        use Class::{AddressGone, Misconfigured, Permanent, Temporary, Throttled, Unreachable};
        for (stage, code, text, class) in [
            (Stage::Mail, 421, "4.7.0 Too many connections", Throttled),
            (Stage::Content, 421, "4.3.0 shutting down", Throttled),
            (Stage::Rcpt, 450, "4.2.0 <a@b.example>: Recipient address rejected: Greylisted", Temporary),
            (Stage::Rcpt, 450, "4.7.1 <a@b.example>: too much mail from 192.0.2.1", Throttled),
            (Stage::Content, 451, "4.3.0 queue file write error", Temporary),
            (Stage::Mail, 452, "4.3.1 Insufficient system storage", Temporary),
            (Stage::Rcpt, 452, "4.5.3 Too many recipients", Throttled),
            (Stage::Mail, 454, "4.7.0 temporary authentication failure", Throttled),
            (Stage::Auth, 454, "4.7.0 Temporary authentication failure", Unreachable),
            (Stage::Greeting, 450, "busy", Unreachable),
            (Stage::Greeting, 554, "no SMTP service here", Misconfigured),
            (Stage::Auth, 535, "5.7.8 authentication failed", Misconfigured),
            (Stage::Mail, 530, "5.7.0 Must issue a STARTTLS command first", Misconfigured),
            (Stage::Rcpt, 554, "5.7.1 <a@b.example>: Relay access denied", Misconfigured),
            (Stage::Mail, 553, "5.7.1 sender not owned by user", Misconfigured),
            (Stage::Rcpt, 550, "5.1.1 <a@b.example>: User unknown", AddressGone),
            (Stage::Rcpt, 550, "No such user here", AddressGone),
            (Stage::Rcpt, 550, "mailbox unavailable", AddressGone),
            (Stage::Rcpt, 550, "5.7.1 message blocked by policy", Permanent),
            (Stage::Content, 550, "5.1.1 user unknown", AddressGone),
            (Stage::Content, 550, "Mail content denied", Permanent),
            (Stage::Rcpt, 552, "5.2.2 mailbox full", Permanent),
            (Stage::Content, 552, "5.3.4 message too big", Permanent),
            (Stage::Content, 554, "5.7.1 spam", Permanent),
            (Stage::Data, 503, "5.5.1 no valid recipients", Permanent),
        ] {
            assert_eq!(of(stage, code, text), class, "{stage:?} {code} {text}");
        }
    }

    #[test]
    fn the_ledger_holds_no_address() {
        let said = "5.1.1 <Wang.San@x.example>: user WANG.SAN (tel 139 0000 0001) unknown in virtual table";
        let kept = word(550, said, "wang.san@x.example");
        assert_eq!(kept, "550 5.1.1 <***>: user *** (tel ***) unknown in virtual table");
        assert_eq!(word(250, "2.0.0 Ok: queued as 4XyZ1", "ok@x.example"), "250 2.0.0 ***: queued as 4XyZ1");
    }
}
