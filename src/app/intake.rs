//! Letters of other systems to `gong.intake`: who may write, and what becomes an item.
//! An item enters as a draft, as `gong item add` would enter it; nothing here approves
//! or sends.

use std::sync::Arc;

use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::App;
use super::engine::Common;
use super::review::{self, Trouble};
use crate::config::IntakeConfig;
use crate::domain::item::{Content, Format, ItemError, parse_placed};
use crate::domain::privacy;
use crate::queue::Queue;
use crate::queue::intake::{Clerk, Intake, Letter, Verdict};
use crate::say;
use crate::store::intake::{Earlier, Letter as Entry};
use crate::store::operators::{Operator, Role};
use crate::store::{Result, Store, StoreError};

/// Longest key, in bytes.
const MAX_KEY: usize = 200;

/// Reads letters and enters their items.
#[derive(Clone)]
pub struct IntakeDesk {
    store: Arc<Store>,
    zone: TimeZone,
    phone: String,
    settings: IntakeConfig,
}

/// Why a letter was not entered.
struct Refusal {
    /// A stable word for programs.
    why: &'static str,
    message: String,
    problems: Vec<Value>,
    /// It cannot be read, or nobody knows who sent it.
    rejected: bool,
}

type Checked<T> = std::result::Result<T, Refusal>;

impl App {
    /// The desk that reads letters of other systems.
    pub fn intake_desk(&self) -> anyhow::Result<IntakeDesk> {
        Ok(IntakeDesk {
            store: Arc::clone(&self.store),
            zone: self.config.zone()?,
            phone: self.config.site.phone.clone(),
            settings: self.config.intake.clone(),
        })
    }

    /// Takes letters in, where there is a broker and somebody may write.
    pub(super) fn take_letters(&self, common: &Common, queue: &Queue) -> anyhow::Result<()> {
        let Queue::Rabbit(rabbit) = queue else { return Ok(()) };
        if !self.config.intake.sources.is_empty() {
            let (rabbit, stop) = (Arc::clone(rabbit), common.stop.clone());
            let longest = self.config.intake.max_kb * 1_024;
            common.supervise(Intake { rabbit, clerk: self.intake_desk()?, longest, stop }.run());
        }
        Ok(())
    }
}

impl Clerk for IntakeDesk {
    async fn enter(&self, letter: &Letter) -> Result<Verdict> {
        let (source, operator, entry) = match self.admit(letter) {
            Ok((source, operator, key, body)) => (source, operator, Entry { source, key, body }),
            Err(refusal) => return Ok(refusal.verdict()),
        };
        loop {
            match self.store.earlier_letter(entry).await? {
                Some(Earlier::Same(answer)) => return Ok(Verdict::Entered(answer)),
                Some(Earlier::Other) => return Ok(reused(entry.key).verdict()),
                None => {}
            }
            let (content, operator) = match self.read(entry.body, operator).await? {
                Ok(read) => read,
                Err(refusal) => return Ok(refusal.verdict()),
            };
            let found = privacy::scan(entry.body, &review::own_phones(&content, &self.phone));
            let lane = content.lane().name();
            let answer = |id: &str, no: i64| {
                let place = |f: &privacy::Finding| json!({ "kind": f.kind, "line": f.line, "column": f.column });
                let privacy: Vec<Value> = found.iter().map(place).collect();
                json!({ "ok": true, "item": id, "no": no, "version": 1, "state": "draft", "lane": lane, "privacy": privacy })
                    .to_string()
            };
            if let Some(answer) = self.store.enter_letter(entry, &content, &operator, answer).await? {
                tracing::info!(source, "an item was handed in");
                return Ok(Verdict::Entered(answer));
            }
            // Another consumer had the same letter: what it said is said again.
        }
    }
}

impl IntakeDesk {
    /// Who sent it: (source, operator, key, body).
    fn admit<'a>(&'a self, letter: &'a Letter) -> Checked<(&'a str, &'a str, &'a str, &'a str)> {
        let Some((source, of)) = self.settings.source(letter.source.as_deref(), letter.user.as_deref()) else {
            return Err(Refusal::rejected(
                "unknown_source",
                say!(
                    "不认识这个来源。消息须带 user_id（消息队列用户），并由管理员在 [intake.sources] 里登记",
                    "this source is not known. A message carries user_id (the broker's user), and an administrator enters it under [intake.sources]"
                ),
            ));
        };
        let key = letter.key.as_deref().unwrap_or_default();
        if key.is_empty() || key.len() > MAX_KEY || key.chars().any(char::is_control) {
            return Err(Refusal::rejected(
                "no_key",
                say!(
                    "没有幂等键，或超过 {MAX_KEY} 字节：请写在 message_id 或消息头 idempotency-key 里，每个事项用一个不同的键",
                    "there is no idempotency key, or it is longer than {MAX_KEY} bytes: put it into message_id or the header idempotency-key, another for each item"
                ),
            ));
        }
        let max = self.settings.max_kb;
        if letter.body.len() > max * 1_024 {
            return Err(Refusal::rejected(
                "too_large",
                say!("消息超过 {max} KiB", "the message is larger than {max} KiB"),
            ));
        }
        let body = std::str::from_utf8(&letter.body)
            .map_err(|_| Refusal::rejected("not_utf8", say!("消息不是 UTF-8 文本", "the message is not UTF-8 text")))?;
        Ok((source, &of.operator, key, body))
    }

    /// The item of a letter, and the operator who answers for it.
    async fn read(&self, body: &str, operator: &str) -> Result<Checked<(Content, Operator)>> {
        let operator = match self.store.acting(Some(operator)).await {
            Ok(operator) => operator,
            Err(StoreError::Refused(message)) => return Ok(Err(Refusal::rejected("not_allowed", message))),
            Err(other) => return Err(other),
        };
        if let Err(error) = operator.need(Role::Author) {
            return Ok(Err(Refusal::rejected("not_allowed", error.to_string())));
        }
        let (content, lines) = match parse_placed(body, Format::Json, &self.zone) {
            Ok(read) => read,
            Err(error) => return Ok(Err(unread(&error))),
        };
        let mut problems = review::problems(&self.store, &content).await?;
        if problems.is_empty() {
            return Ok(Ok((content, operator)));
        }
        review::place(&mut problems, &lines);
        Ok(Err(Refusal::of_item(problems.iter().map(Trouble::as_problem).collect())))
    }
}

/// Not JSON is rejected; an item with a mistake is for its sender to mend.
fn unread(error: &ItemError) -> Refusal {
    if let ItemError::Syntax { .. } = error {
        return Refusal { problems: vec![problem(error)], ..Refusal::rejected("not_json", error.to_string()) };
    }
    Refusal::of_item(vec![problem(error)])
}

fn problem(error: &ItemError) -> Value {
    let (field, line) = error.place();
    json!({ "field": field, "line": line, "message": error.to_string() })
}

impl Trouble {
    fn as_problem(&self) -> Value {
        json!({ "field": self.field, "line": self.line, "message": self.text })
    }
}

fn reused(key: &str) -> Refusal {
    let message = say!(
        "幂等键“{key}”已经用于另一个内容不同的事项，没有录入。新的事项请用新的键；改已录入的事项请用 gong item edit",
        "the idempotency key `{key}` was used for another item with another body; nothing was entered. Take a new key for a new item; to change the one that was entered use gong item edit"
    );
    Refusal { why: "key_reused", message, problems: Vec::new(), rejected: false }
}

impl Refusal {
    fn rejected(why: &'static str, message: String) -> Self {
        Self { why, message, problems: Vec::new(), rejected: true }
    }

    fn of_item(problems: Vec<Value>) -> Self {
        let message = problems.first().and_then(|p| p["message"].as_str()).unwrap_or_default().to_owned();
        Self { why: "bad_item", message, problems, rejected: false }
    }

    fn verdict(self) -> Verdict {
        let place = |name: &str| self.problems.first().map_or(Value::Null, |p| p[name].clone());
        let error = json!({
            "code": self.why, "field": place("field"), "line": place("line"), "message": self.message, "problems": self.problems,
        });
        let (answer, why) = (json!({ "ok": false, "error": error }).to_string(), self.why);
        if self.rejected { Verdict::Rejected { answer, why } } else { Verdict::Refused { answer, why } }
    }
}
