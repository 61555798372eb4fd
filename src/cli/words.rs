//! Words and small answers that several commands share.

use std::io::{BufRead as _, IsTerminal as _};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::output;
use crate::clock::Millis;
use crate::domain::item::{Content, ItemKind, Problem, validate};
use crate::say;
use crate::store::StoreError;
use crate::store::operators::Role;

/// A point in time as people read it, in the site's zone.
#[must_use]
pub fn when(at: Millis, zone: &TimeZone) -> String {
    Timestamp::from_millisecond(at)
        .map_or_else(|_| "-".to_owned(), |t| t.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M").to_string())
}

/// An error that ends the program with the exit code of a refusal.
#[must_use]
pub fn refused(why: String) -> anyhow::Error {
    StoreError::Refused(why).into()
}

/// The state of an item as people read it.
#[must_use]
pub fn item_state(state: &str) -> String {
    match state {
        "draft" => say!("待审核", "draft"),
        "approved" => say!("已审核", "approved"),
        "cancelled" => say!("已撤销", "cancelled"),
        other => other.to_owned(),
    }
}

/// The name of a role as people read it.
#[must_use]
pub fn role(role: &str) -> String {
    match role {
        "author" => say!("拟稿", "author"),
        "reviewer" => say!("审核", "reviewer"),
        "dispatcher" => say!("发布", "dispatcher"),
        "auditor" => say!("审计", "auditor"),
        "admin" => say!("管理员", "admin"),
        other => other.to_owned(),
    }
}

/// The roles of a comma list, English or Chinese.
pub fn roles(list: &str) -> anyhow::Result<Vec<Role>> {
    let mut found = Vec::new();
    for word in list.split([',', '，', '、']).map(str::trim).filter(|w| !w.is_empty()) {
        let known = Role::ALL.map(Role::name).join(", ");
        let role = Role::from_name(word).ok_or_else(|| {
            anyhow::anyhow!(say!(
                "没有“{word}”这种角色。可用：{known}",
                "there is no role `{word}`; there are: {known}"
            ))
        })?;
        if !found.contains(&role) {
            found.push(role);
        }
    }
    Ok(found)
}

/// A name that fits on one line and is not blank, trimmed.
pub fn name(what: &str, text: &str) -> anyhow::Result<String> {
    let text = text.trim();
    anyhow::ensure!(!text.is_empty(), say!("{what}不能为空", "{what} must not be empty"));
    anyhow::ensure!(
        !text.chars().any(char::is_control),
        say!("{what}里不能有换行或控制字符", "{what} must not hold line ends or control characters")
    );
    Ok(text.to_owned())
}

/// A phone number people can call back, trimmed.
pub fn phone(text: &str) -> anyhow::Result<String> {
    let phone = name(&say!("电话", "the phone"), text)?;
    let mut content = Content::new(ItemKind::Notice);
    content.phone.clone_from(&phone);
    if let Some(problem) = validate(&content).into_iter().find(|p| *p == Problem::PhoneNotANumber) {
        anyhow::bail!("{problem}");
    }
    Ok(phone)
}

/// What was given, or, on a terminal, what the person answers.
pub fn given_or_asked(given: Option<String>, question: &str, flag: &str) -> anyhow::Result<String> {
    if let Some(given) = given {
        return Ok(given);
    }
    anyhow::ensure!(
        std::io::stdin().is_terminal() && std::io::stderr().is_terminal(),
        say!("缺少 {flag}（{question}）", "{flag} is missing ({question})")
    );
    output::note(say!("{question}：", "{question}:"));
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_read_in_either_language() {
        assert_eq!(roles("author，审核, author").unwrap(), [Role::Author, Role::Reviewer]);
        assert!(roles("boss").unwrap_err().to_string().contains("boss"));
    }

    #[test]
    fn names_and_phones_are_one_line() {
        assert_eq!(name("x", " 某县应急局 ").unwrap(), "某县应急局");
        assert!(name("x", "某县\n应急局").is_err());
        assert!(name("x", " ").is_err());
        assert_eq!(phone("0873-3420000").unwrap(), "0873-3420000");
        assert!(phone("办公室").is_err());
    }
}
