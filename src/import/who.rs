//! Reads who a row speaks of: regions by any of their names, people by what is known.

use std::collections::HashMap;

use super::recipients::fields;
use super::run::{label, lacks, wrong};
use super::table::{Field, Row};
use crate::domain::privacy;
use crate::domain::recipient::{IdNumber, Phone, masked, masked_name, normal_ext, normal_name, purpose};
use crate::domain::region::RegionIndex;
use crate::say;
use crate::store::recipients::{Found, Who};
use crate::vault::Vault;

/// The columns of a table of members: what tells who is meant.
pub const FIELDS: &[Field] =
    &[fields::EXT_ID, fields::ID_NUMBER, fields::NAME, fields::PHONE, fields::HOUSEHOLD, fields::REGION];

/// Texts whose regions are remembered, until the memory is full and starts anew.
const REMEMBERED: usize = 50_000;

/// The regions, and what texts were found to name.
pub(super) struct Places {
    index: RegionIndex,
    known: HashMap<String, Result<i64, String>>,
}

impl Places {
    pub(super) fn new(index: RegionIndex) -> Self {
        Self { index, known: HashMap::new() }
    }

    /// The region that `text` names; `None` when it is empty.
    pub(super) fn find(&mut self, text: &str) -> Result<Option<i64>, String> {
        if text.is_empty() {
            return Ok(None);
        }
        if let Some(known) = self.known.get(text) {
            return known.clone().map(Some);
        }
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        let found = self.index.resolve(text).map_err(|e| e.to_string());
        self.known.insert(text.to_owned(), found.clone());
        found.map(Some)
    }
}

/// The external id of a row, from its own column or the ID number's.
pub(super) fn ext_id(fields: &'static [Field], row: &Row) -> Result<(Option<String>, Option<IdNumber>), String> {
    let text = row.get("id_number");
    let id = match text {
        "" => None,
        text => Some(IdNumber::parse(text).ok_or_else(|| {
            let expected =
                say!("18 位公民身份号码，末位校验正确", "an ID number of 18 places with a valid check place");
            wrong(label(fields, "id_number"), text, &expected)
        })?),
    };
    let ext = normal_ext(row.get("ext_id")).or_else(|| id.as_ref().map(|id| id.as_str().to_owned()));
    Ok((ext, id))
}

/// One phone number of either kind; `None` when the cell is empty.
pub(super) fn phone(fields: &'static [Field], key: &'static str, row: &Row) -> Result<Option<Phone>, String> {
    let text = row.get(key);
    if text.is_empty() {
        return Ok(None);
    }
    Phone::parse(text).map(Some).ok_or_else(|| wrong(label(fields, key), text, &phone_form()))
}

/// A cell as it may be shown to those who need not know it: names and phones by their
/// columns, and whatever else looks like a number of a person.
#[must_use]
pub fn masked_cell(header: &str, text: &str) -> String {
    let is = |field: &Field| field.is_called(header);
    if is(&fields::NAME) || ["姓名", "户主", "联系人", "name"].iter().any(|word| header.to_lowercase().contains(word))
    {
        return masked_name(text);
    }
    if is(&fields::PHONE) {
        return Phone::parse(text).map_or_else(|| masked(text), |phone| phone.masked());
    }
    if is(&fields::ID_NUMBER) { masked(text) } else { privacy::mask(text) }
}

/// What a phone number looks like, in words.
pub(super) fn phone_form() -> String {
    say!("11 位手机号，或带区号的固定电话", "a mobile number of 11 digits, or a landline with its area code")
}

/// Reads whom a row of a group or list means.
pub(super) fn who(row: &Row, vault: &Vault, places: &mut Places) -> Result<Who, String> {
    let (ext, _) = ext_id(FIELDS, row)?;
    let phone = phone(FIELDS, "phone", row)?;
    let name = normal_name(row.get("name"));
    let household = normal_ext(row.get("household"));
    let region_no = places.find(row.get("region"))?;
    if ext.is_none() && phone.is_none() && household.is_none() && (name.is_none() || region_no.is_none()) {
        return Err(lacks(&say!(
            "外部编号、手机、户号，或姓名和区域",
            "external id, phone, household number, or name and region"
        )));
    }
    let hash = |purpose: &str, text: Option<&str>| text.map(|t| vault.hash(purpose, t));
    Ok(Who {
        ext: hash(purpose::EXT, ext.as_deref()),
        household: hash(purpose::EXT, household.as_deref()),
        phone: hash(purpose::PHONE, phone.as_ref().map(Phone::as_str)),
        name: hash(purpose::NAME, name.as_deref()),
        region_no,
    })
}

/// Why nobody was found for a row.
pub(super) fn not_found(found: Found) -> String {
    match found {
        Found::Several(n) => say!(
            "有 {n} 个对象符合，无法确定是谁。请加上外部编号、手机或户号",
            "{n} recipients fit, so it is not clear who is meant. Add an external id, phone or household number"
        ),
        _ => say!(
            "没有找到这个对象。请核对外部编号、手机、姓名和区域，或先导入对象",
            "no such recipient. Check external id, phone, name and region, or import the recipient first"
        ),
    }
}
