//! A row of a roster becomes a recipient, or a reason why not.

use serde_json::{Map, Value};

use super::{AttributeReader, Draft, RecipientOptions};
use crate::channel::AddressKind;
use crate::domain::recipient::{
    Email, IdNumber, LANGUAGES, NEEDS, Phone, RecipientKind, Status, Via, born_of_age, fold, normal_ext, normal_name,
    parse_born, parse_flag, purpose, several, word_list,
};
use crate::domain::region::RegionIndex;
use crate::import::run::{label, lacks, wrong};
use crate::import::table::{Field, Row};
use crate::import::who::{Places, ext_id, phone_form};
use crate::say;
use crate::store::recipients::{Contact, RecipientRecord};
use crate::vault::Vault;

/// Reads rows; holds what reading needs.
pub(in crate::import) struct Reader<'a> {
    fields: &'static [Field],
    vault: Vault,
    pub places: Places,
    attributes: Option<&'a AttributeReader<'a>>,
    region_no: Option<i64>,
    source: &'a str,
    purpose: &'a str,
    today: jiff::civil::Date,
}

impl<'a> Reader<'a> {
    pub(in crate::import) fn new(
        fields: &'static [Field],
        vault: Vault,
        index: RegionIndex,
        options: &'a RecipientOptions<'a>,
    ) -> Self {
        Self {
            fields,
            vault,
            places: Places::new(index),
            attributes: options.attributes,
            region_no: options.region_no,
            source: &options.source,
            purpose: &options.purpose,
            today: options.today,
        }
    }

    /// Reads a row; landlines are left out and counted.
    pub(in crate::import) fn read(&mut self, row: &Row, landlines: &mut u64) -> Result<Draft, String> {
        let (mut ext, id) = ext_id(self.fields, row)?;
        let name = normal_name(row.get("name"));
        let mut household = normal_ext(row.get("household"));
        let kind =
            self.word(row, "kind", RecipientKind::parse, &say!("个人、户或单位", "person, household or organisation"))?;
        let alone = name.is_none() && ext.is_none() && household.is_some();
        let kind = kind.unwrap_or(if alone { RecipientKind::Household } else { RecipientKind::Person });
        if kind == RecipientKind::Household {
            // An ID number on a household's line is its head's.
            ext = household.take().or(ext);
        }
        if name.is_none() && (kind != RecipientKind::Household || ext.is_none()) {
            return Err(lacks(label(self.fields, "name")));
        }
        let region_no =
            self.place(row, "region")?.or(self.region_no).ok_or_else(|| lacks(label(self.fields, "region")))?;
        let hukou_no = self.place(row, "hukou")?;
        let contacts = self.contacts(row, kind, landlines)?;
        let born = self.born(row, id.as_ref())?;
        let facts = Facts { kind, region_no, name: name.as_deref(), household: household.as_deref(), born };
        let record = RecipientRecord {
            identity: self.identity(ext.as_deref(), &facts, &contacts),
            kind,
            status: self.word(row, "status", Status::parse, &say!("正常、迁出或死亡", "active, moved or dead"))?,
            away: self.word(row, "away", parse_flag, &say!("是或否", "yes or no"))?,
            household: household.as_deref().map(|h| self.vault.hash(purpose::EXT, h)),
            region_no,
            hukou_no,
            born,
            name,
            languages: word_list(row.get("languages"), LANGUAGES),
            needs: word_list(row.get("needs"), NEEDS),
            attrs: self.attrs(row)?,
            source: or_else(row.get("source"), self.source),
            purpose: or_else(row.get("purpose"), self.purpose),
            contacts,
            areas: several(row.get("areas")).map(fold).collect(),
            groups: Vec::new(),
        };
        Ok(Draft { record, groups: several(row.get("groups")).map(fold).collect() })
    }

    /// The external id's hash; without one, that of what else tells people apart.
    fn identity(&self, ext: Option<&str>, facts: &Facts<'_>, contacts: &[Contact]) -> Vec<u8> {
        if let Some(ext) = ext {
            return self.vault.hash(purpose::EXT, ext);
        }
        let first = |kind| contacts.iter().find(|c| c.kind == kind && c.via == Via::Own).map(|c| c.value.as_str());
        let born = facts.born.map(|b| b.to_string());
        let more = first(AddressKind::Phone)
            .or(facts.household)
            .or_else(|| first(AddressKind::Email))
            .or(born.as_deref())
            .unwrap_or_default();
        let name = facts.name.unwrap_or_default();
        let text = format!("{}\n{}\n{name}\n{more}", facts.region_no, facts.kind as i32);
        self.vault.hash(purpose::IDENTITY, &text)
    }

    fn place(&mut self, row: &Row, key: &'static str) -> Result<Option<i64>, String> {
        let label = label(self.fields, key);
        self.places.find(row.get(key)).map_err(|reason| say!("{label}：{reason}", "{label}: {reason}"))
    }

    /// A word of a closed list; `None` when the cell is empty.
    fn word<T>(
        &self,
        row: &Row,
        key: &'static str,
        parse: impl Fn(&str) -> Option<T>,
        expected: &str,
    ) -> Result<Option<T>, String> {
        match row.get(key) {
            "" => Ok(None),
            text => parse(text).map(Some).ok_or_else(|| wrong(label(self.fields, key), text, expected)),
        }
    }

    fn born(&self, row: &Row, id: Option<&IdNumber>) -> Result<Option<i32>, String> {
        let date = self.word(row, "born", parse_born, &say!("日期，如 1950-03-07", "a date such as 1950-03-07"))?;
        let expected = say!("0 到 130 之间的整数", "a whole number from 0 to 130");
        let age = self.word(row, "age", |text| born_of_age(text, self.today), &expected)?;
        Ok(date.or_else(|| id.and_then(IdNumber::born)).or(age))
    }

    fn contacts(&self, row: &Row, kind: RecipientKind, landlines: &mut u64) -> Result<Vec<Contact>, String> {
        let own = if kind == RecipientKind::Household { Via::Household } else { Via::Own };
        let mut all = Vec::new();
        let columns = [
            ("phone", own),
            ("household_phone", Via::Household),
            ("guardian_phone", Via::Guardian),
            ("agent_phone", Via::Agent),
        ];
        for (key, via) in columns {
            for text in several(row.get(key)) {
                let phone = Phone::parse(text).ok_or_else(|| wrong(label(self.fields, key), text, &phone_form()))?;
                if phone.is_mobile() {
                    all.push(Contact { kind: AddressKind::Phone, value: phone.as_str().to_owned(), via });
                } else {
                    *landlines += 1;
                }
            }
        }
        for text in several(row.get("email")) {
            let expected = say!("邮箱地址，如 name@example.cn", "an e-mail address such as name@example.cn");
            let email = Email::parse(text).ok_or_else(|| wrong(label(self.fields, "email"), text, &expected))?;
            all.push(Contact { kind: AddressKind::Email, value: email.as_str().to_owned(), via: own });
        }
        Ok(all)
    }

    fn attrs(&self, row: &Row) -> Result<Map<String, Value>, String> {
        let mut attrs = Map::new();
        let Some(read) = self.attributes else { return Ok(attrs) };
        for (header, text) in row.extra().filter(|(_, text)| !text.is_empty()) {
            match read(header, text) {
                Some(Ok((name, value))) => drop(attrs.insert(name, value)),
                Some(Err(expected)) => return Err(wrong(header, text, &expected)),
                None => {}
            }
        }
        Ok(attrs)
    }
}

/// What identity is made of when there is no id.
struct Facts<'r> {
    kind: RecipientKind,
    region_no: i64,
    name: Option<&'r str>,
    household: Option<&'r str>,
    born: Option<i32>,
}

fn or_else(text: &str, default: &str) -> String {
    if text.is_empty() { default.to_owned() } else { text.to_owned() }
}
