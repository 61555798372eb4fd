//! Reads who a row speaks of: regions by any of their names, people by what is known.

use std::collections::HashMap;

use super::run::{label, lacks, wrong};
use super::table::{Field, Row};
use crate::domain::recipient::{IdNumber, Phone, normal_ext, normal_name, purpose};
use crate::domain::region::RegionIndex;
use crate::say;
use crate::store::recipients::{Found, Who};
use crate::vault::Vault;

/// The columns of a table of members: what tells who is meant.
pub const FIELDS: &[Field] = &[
    Field {
        key: "ext_id",
        names: &["外部编号", "编号", "人员编号", "ext_id", "external id", "id"],
        required: false,
        help_zh: "本系统以外的编号，用来认出同一个对象；只存加密摘要",
        help_en: "the source's own id, by which a recipient is known again; only a keyed hash is kept",
    },
    Field {
        key: "id_number",
        names: &["身份证号", "身份证号码", "公民身份号码", "身份证", "证件号码", "id number", "id card"],
        required: false,
        help_zh: "18 位（或旧 15 位）公民身份号码；只存加密摘要，出生日期由它得出",
        help_en: "citizen's ID number of 18 (or 15) places; only a keyed hash is kept, the birth date is taken from it",
    },
    Field {
        key: "name",
        names: &["姓名", "名称", "户主姓名", "单位名称", "name"],
        required: false,
        help_zh: "姓名或名称",
        help_en: "name",
    },
    Field {
        key: "phone",
        names: &["手机", "手机号", "手机号码", "电话", "联系电话", "联系方式", "本人电话", "phone", "mobile", "tel"],
        required: false,
        help_zh: "本人手机，多个用 / 隔开",
        help_en: "own mobile number, several separated by /",
    },
    Field {
        key: "household",
        names: &["户号", "户编号", "家庭编号", "农户编号", "household", "household id"],
        required: false,
        help_zh: "所属户的编号；未知的户会建立",
        help_en: "number of the household; made when unknown",
    },
    Field {
        key: "region",
        names: &[
            "常住地",
            "区域",
            "所在村",
            "村",
            "村（社区）",
            "居住地",
            "现住地",
            "所属区域",
            "区划代码",
            "region",
            "residence",
        ],
        required: false,
        help_zh: "常住地：12 位代码、名称或路径（县/镇/村）",
        help_en: "residence: 12-digit code, name or path (county/town/village)",
    },
];

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
