//! Imports refusals: who does not want to hear, by address and kind of item.

use std::path::Path;

use super::run::{Importer, Tally, drive, label, lacks, wrong};
use super::table::{Field, Options, Row, Table, TableError};
use super::who::{phone, phone_form};
use super::{ImportError, Progress, Run, Summary};
use crate::channel::AddressKind;
use crate::domain::item::{ItemKind, honours_opt_out};
use crate::domain::recipient::Email;
use crate::say;
use crate::store::Store;
use crate::store::optouts::{EVERY_KIND, OptOut};

/// The columns of a table of refusals.
pub const FIELDS: &[Field] = &[
    Field {
        key: "phone",
        names: &["手机", "手机号", "手机号码", "电话", "联系电话", "phone", "mobile"],
        required: false,
        help_zh: "不再接收的手机号",
        help_en: "mobile number that refuses",
    },
    Field {
        key: "email",
        names: &["邮箱", "电子邮箱", "邮件", "email", "e-mail"],
        required: false,
        help_zh: "不再接收的邮箱",
        help_en: "mailbox that refuses",
    },
    Field {
        key: "kind",
        names: &["事项类型", "事项类别", "类型", "类别", "kind", "item kind"],
        required: false,
        help_zh: "退订的事项类型；留空为全部可退订的类型",
        help_en: "kind of item that is refused; every kind that may be when empty",
    },
];

/// Opens a table of refusals.
///
/// # Errors
/// When it cannot be read or lacks a column.
pub fn open(path: &Path, options: &Options) -> Result<Table, TableError> {
    Table::open(path, FIELDS, options)
}

/// Imports refusals, or with `remove` takes them back.
///
/// # Errors
/// When the file or the database fails; rows at fault are only rejected.
pub async fn import(
    store: &Store,
    table: &mut Table,
    run: &Run,
    remove: bool,
    report: &mut dyn FnMut(Progress),
) -> Result<Summary, ImportError> {
    let mut importer = OptOuts { store, dry_run: run.dry_run, remove };
    let summary = drive(table, &mut importer, run.rejects.as_deref(), report).await?;
    tracing::info!(read = summary.read, added = summary.added, removed = summary.removed, "imported opt-outs");
    Ok(summary)
}

struct OptOuts<'a> {
    store: &'a Store,
    dry_run: bool,
    remove: bool,
}

impl Importer for OptOuts<'_> {
    /// One for each address of the row.
    type Record = Vec<OptOut>;

    fn record(&mut self, row: &Row, _: &mut Summary) -> Result<Vec<OptOut>, String> {
        let item_kind = match row.get("kind") {
            "" | EVERY_KIND => EVERY_KIND.to_owned(),
            word => item_kind(word)?.name().to_owned(),
        };
        let out = |kind, value: &str| OptOut { kind, value: value.to_owned(), item_kind: item_kind.clone() };
        let mut outs = Vec::new();
        if let Some(phone) = phone(FIELDS, "phone", row)? {
            if !phone.is_mobile() {
                return Err(wrong(label(FIELDS, "phone"), row.get("phone"), &phone_form()));
            }
            outs.push(out(AddressKind::Phone, phone.as_str()));
        }
        if !row.get("email").is_empty() {
            let expected = say!("邮箱地址，如 name@example.cn", "an e-mail address such as name@example.cn");
            let email = Email::parse(row.get("email"))
                .ok_or_else(|| wrong(label(FIELDS, "email"), row.get("email"), &expected))?;
            outs.push(out(AddressKind::Email, email.as_str()));
        }
        if outs.is_empty() {
            return Err(lacks(&say!("手机或邮箱", "phone or e-mail")));
        }
        Ok(outs)
    }

    async fn write(&mut self, chunk: Vec<(Row, Vec<OptOut>)>, tally: &mut Tally) -> Result<(), ImportError> {
        let all: Vec<OptOut> = chunk.into_iter().flat_map(|(_, outs)| outs).collect();
        let said = all.len() as u64;
        let changed = match (self.dry_run, self.remove) {
            (true, _) => said,
            (false, true) => self.store.remove_opt_outs(&all).await?,
            (false, false) => self.store.add_opt_outs(&all).await?,
        };
        let count = if self.remove { &mut tally.summary.removed } else { &mut tally.summary.added };
        *count += changed;
        tally.summary.unchanged += said - changed.min(said);
        Ok(())
    }
}

/// A kind of item that may be refused.
fn item_kind(word: &str) -> Result<ItemKind, String> {
    let kind = ItemKind::from_word(word).ok_or_else(|| {
        let known: Vec<&str> = ItemKind::ALL.iter().filter(|k| honours_opt_out(**k)).map(|k| k.label()).collect();
        wrong(label(FIELDS, "kind"), word, &known.join("、"))
    })?;
    if honours_opt_out(kind) {
        return Ok(kind);
    }
    let said = kind.label();
    Err(say!("“{said}”关系人身安全，不能退订", "`{said}` concerns safety and cannot be refused"))
}
