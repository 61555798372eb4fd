//! The settings of a mail channel, read once and refused by name.

use std::path::PathBuf;

use lettre::Address;
use lettre::message::Mailbox;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::extension::ClientId;
use uuid::Uuid;

use super::tls::Tls;
use crate::channel::registry::{Parts, RegistryError, Secret};

/// Longest value that goes into a header.
const MAX_HEADER: usize = 500;

/// What `[vars]` and `[secrets]` of a mail declaration say.
pub(super) struct Settings {
    pub host: String,
    pub port: u16,
    pub tls: Tls,
    pub credentials: Option<Credentials>,
    pub hello: ClientId,
    pub from: Mailbox,
    pub reply_to: Option<Mailbox>,
    /// `mailto:` or `https:`; `{id}` stands for the id of the mail.
    pub unsubscribe: Option<String>,
    /// The mailbox that bounces come to, split at its `@`; the id goes between.
    verp: Option<(String, String)>,
    /// Where a success is to be reported, too (RFC 3461).
    pub notify_success: bool,
    /// Mails over one connection.
    pub per_connection: usize,
    /// The Maildir with the bounces.
    pub bounces: Option<PathBuf>,
    pub token: Option<Secret>,
}

impl Settings {
    pub(super) fn read(parts: &Parts<'_>) -> Result<Self, RegistryError> {
        let var = |name: &str| parts.vars.get(name).map(String::as_str).unwrap_or_default().trim();
        let wrong =
            |name: &str| RegistryError::Setting { channel: parts.name.to_owned(), field: format!("vars.{name}") };
        let bad = |name: &str| var(name).chars().any(char::is_control) || var(name).len() > MAX_HEADER;
        if let Some(name) = parts.vars.keys().find(|name| bad(name)) {
            return Err(wrong(name));
        }
        let lacking = |field: &str| RegistryError::Lacking { channel: parts.name.to_owned(), field: field.to_owned() };
        let mailbox = |name: &str| mailbox(var(name)).ok_or_else(|| wrong(name));
        let optional = |name: &str| (!var(name).is_empty()).then(|| var(name));
        let from = mailbox("from")?;
        let domain = from.email.domain().to_owned();
        let credentials = match (optional("username"), parts.secrets.get("password")) {
            (None, _) => None,
            (Some(_), None) => return Err(lacking("secrets.password")),
            (Some(user), Some(password)) => Some(Credentials::new(user.to_owned(), password.expose().to_owned())),
        };
        let unsubscribe = optional("unsubscribe").map(str::to_owned);
        let sound = |at: &String| at.is_ascii() && !at.contains(['<', '>', ',', ' ']);
        if unsubscribe
            .as_ref()
            .is_some_and(|at| !(sound(at) && ["mailto:", "https://"].iter().any(|s| at.starts_with(s))))
        {
            return Err(wrong("unsubscribe"));
        }
        let ca = optional("ca").map(|path| parts.site.base_dir.join(path));
        Ok(Self {
            host: var("host").to_owned(),
            port: var("port").parse().map_err(|_| wrong("port"))?,
            tls: Tls::new(var("tls"), var("host"), ca.as_deref()).map_err(|_| wrong("tls"))?,
            credentials,
            hello: ClientId::Domain(hello(optional("helo").unwrap_or(&domain)).ok_or_else(|| wrong("helo"))?),
            reply_to: optional("reply_to").map(|_| mailbox("reply_to")).transpose()?,
            unsubscribe,
            verp: optional("verp").map(|v| verp(v, &domain).ok_or_else(|| wrong("verp"))).transpose()?,
            notify_success: match var("notify") {
                "failure" => false,
                "success" => true,
                _ => return Err(wrong("notify")),
            },
            per_connection: var("mails_per_connection")
                .parse()
                .ok()
                .filter(|n| *n > 0)
                .ok_or_else(|| wrong("mails_per_connection"))?,
            bounces: optional("bounces").map(|path| parts.site.base_dir.join(path)),
            token: parts.secrets.get("token").cloned(),
            from,
        })
    }

    /// `host:port`, for people.
    pub(super) fn at(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The envelope sender of the mail with this id.
    pub(super) fn sender(&self, id: Uuid) -> String {
        match &self.verp {
            Some((local, domain)) => format!("{local}+{id}@{domain}"),
            None => self.from.email.to_string(),
        }
    }
}

/// `Name <local@domain>` or `local@domain`.
fn mailbox(text: &str) -> Option<Mailbox> {
    let (name, address) = match text.strip_suffix('>').and_then(|t| t.rsplit_once('<')) {
        Some((name, address)) => (name.trim().trim_matches('"'), address),
        None => ("", text),
    };
    let address: Address = address.trim().parse().ok().filter(|_| address.is_ascii())?;
    Some(Mailbox::new((!name.is_empty()).then(|| name.to_owned()), address))
}

/// The id of 37 characters must fit in a local part (RFC 5321 §4.5.3.1.1: 64 octets).
fn verp(text: &str, domain: &str) -> Option<(String, String)> {
    let (local, domain) = text.rsplit_once('@').unwrap_or((text, domain));
    let whole: Option<Address> = format!("{local}@{domain}").parse().ok();
    whole.filter(|_| local.len() <= 27 && text.is_ascii()).map(|_| (local.to_owned(), domain.to_owned()))
}

fn hello(text: &str) -> Option<String> {
    let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'[' | b']' | b':');
    (!text.is_empty() && text.bytes().all(letter)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mailboxes_have_names_in_chinese() {
        let from = mailbox("河口县应急管理局 <alert@hekou.example>").unwrap();
        assert_eq!(
            (from.name.as_deref(), from.email.to_string().as_str()),
            (Some("河口县应急管理局"), "alert@hekou.example")
        );
        assert!(mailbox("alert@hekou.example").unwrap().name.is_none());
        assert!(mailbox("nobody").is_none() && mailbox("a@b\r\nBcc: c@d.example").is_none());
    }

    #[test]
    fn bounces_come_home() {
        assert_eq!(verp("bounces", "a.example"), Some(("bounces".into(), "a.example".into())));
        assert_eq!(verp("b@c.example", "a.example"), Some(("b".into(), "c.example".into())));
        assert_eq!(verp(&"x".repeat(28), "a.example"), None);
        assert_eq!(verp("a b", "a.example"), None);
    }
}
