//! The sheet of one point: what the item says, where it hangs, its serial number, the
//! QR code that leads to the item, and which sheets it takes the place of.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use uuid::Uuid;

use super::job::Site;
use crate::domain::ids::DeliveryRef;
use crate::domain::item::Content;
use crate::domain::serial::{self, Serial};
use crate::sheet::{Document, Notice};
use crate::store::dispatches::Dispatch;
use crate::store::sheets::{Related, SheetRow};
use crate::vault::Vault;

/// What every sheet of this site shares.
#[derive(Debug, Clone)]
pub struct Paper {
    /// The address under which people reach this site, without a slash at the end.
    pub public_url: String,
    pub zone: TimeZone,
}

/// Makes the sheets of one dispatch.
pub struct SheetMaker {
    notice: Notice,
    dispatch_no: i64,
    public_url: String,
    title: String,
    day: String,
}

/// A sheet, and where its files go below the print queue, without extension.
pub struct Sheet {
    pub document: Document,
    pub path: String,
    pub title: String,
}

impl SheetMaker {
    #[must_use]
    pub fn new(content: &Content, unit: &Site, dispatch: &Dispatch, paper: &Paper) -> Self {
        let at = Timestamp::from_millisecond(dispatch.created_at).unwrap_or_default().to_zoned(paper.zone.clone());
        let notice = Notice { mark: dispatch.mode.mark().to_owned(), ..notice(content, unit, dispatch, &paper.zone) };
        Self {
            notice,
            dispatch_no: dispatch.no,
            public_url: paper.public_url.clone(),
            title: content.title.clone(),
            day: at.strftime("%Y%m%d").to_string(),
        }
    }

    /// The sheet of a point; `before` is what it takes the place of there.
    #[must_use]
    pub fn make(&self, vault: &Vault, row: &SheetRow, before: &[Related]) -> Sheet {
        let serial = row.serial(self.dispatch_no);
        let mut notice = self.notice.clone();
        notice.place = row.place();
        notice.serial = serial.to_string();
        notice.qr = Some(format!("{}/p/{}", self.public_url, token(vault, serial)));
        if !before.is_empty() {
            let takes = earlier(before);
            notice.relation = Some(format!("本件替换{takes}。旧件请撤下。"));
        }
        let stem = serial::file_stem(row.town(), row.village(), &self.title, &self.day, &serial.to_string());
        Sheet {
            document: Document::Notice(Box::new(notice)),
            path: format!("{}/{stem}", self.folder()),
            title: self.title.clone(),
        }
    }

    #[must_use]
    pub const fn dispatch_no(&self) -> i64 {
        self.dispatch_no
    }

    /// The folder of the dispatch below the print queue.
    #[must_use]
    pub fn folder(&self) -> String {
        serial::folder(self.dispatch_no, &self.title)
    }

    /// The files of a town's sheets bound together, without extension.
    #[must_use]
    pub fn bound(&self, town: &str) -> String {
        let no = self.dispatch_no.to_string();
        format!("{}/{}", self.folder(), serial::file_stem(town, "全部张贴件", &self.title, &self.day, &no))
    }

    /// What the sheets share: title, unit, date.
    #[must_use]
    pub const fn notice(&self) -> &Notice {
        &self.notice
    }
}

/// 《暴雨预警》（序号 3-12）、《暴雨预警更新》（序号 5-2）.
fn earlier(sheets: &[Related]) -> String {
    let titles = sheets.chunk_by(|a, b| a.title == b.title).map(|same| {
        let serials: Vec<String> = same.iter().map(|one| one.serial.to_string()).collect();
        let title = same.first().map_or("", |one| one.title.as_str());
        format!("《{title}》（序号 {}）", serials.join("、"))
    });
    titles.collect::<Vec<_>>().join("、")
}

/// What names a sheet in its QR code: the id of an attempt that no gateway ever sees,
/// so that it is read without a table and cannot be guessed.
#[must_use]
pub fn token(vault: &Vault, serial: Serial) -> String {
    let of = DeliveryRef {
        dispatch_no: u32::try_from(serial.dispatch_no).unwrap_or(u32::MAX),
        ordinal: u32::try_from(serial.ordinal).unwrap_or(u32::MAX),
        attempt: 0,
    };
    URL_SAFE_NO_PAD.encode(vault.client_id(of).as_bytes())
}

/// The sheet a token names, if this site made it.
#[must_use]
pub fn read_token(vault: &Vault, token: &str) -> Option<Serial> {
    let bytes: [u8; 16] = URL_SAFE_NO_PAD.decode(token).ok()?.try_into().ok()?;
    let of = vault.read_client_id(Uuid::from_bytes(bytes)).filter(|of| of.attempt == 0)?;
    Some(Serial { dispatch_no: of.dispatch_no.into(), ordinal: of.ordinal.into() })
}

/// The sheet of an item, before a point is named.
fn notice(content: &Content, unit: &Site, dispatch: &Dispatch, zone: &TimeZone) -> Notice {
    let day = |at: i64, form: &str| {
        Timestamp::from_millisecond(at).unwrap_or_default().to_zoned(zone.clone()).strftime(form).to_string()
    };
    let mut facts = Vec::new();
    if let Some(area) = &content.area_text {
        facts.push(("影响范围".to_owned(), area.clone()));
    }
    facts.push(("有效期至".to_owned(), day(dispatch.expires_at, "%Y年%-m月%-d日%H时%M分")));
    facts.push(("咨询电话".to_owned(), content.phone.clone()));
    Notice {
        issuer: content.issuer.clone().unwrap_or_else(|| unit.name.clone()),
        document_no: content.document_no.clone().unwrap_or_default(),
        title: content.title.clone(),
        level: content
            .level
            .map(|l| crate::sheet::Level { word: l.zh(content.kind).to_owned(), colour: l.name().to_owned() }),
        relation: content.relations.first().map(|(r, _)| r.label().to_owned()),
        body: crate::sheet::blocks(&content.body),
        actions: content.actions.clone(),
        facts,
        unit: unit.name.clone(),
        date: day(dispatch.created_at, "%Y年%-m月%-d日"),
        ..Notice::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_its_sheet_and_is_not_guessed() {
        let vault = Vault::from_key(&[7; 32]);
        let serial = Serial { dispatch_no: 12, ordinal: 305 };
        let made = token(&vault, serial);
        assert_eq!((made.len(), read_token(&vault, &made)), (22, Some(serial)));
        assert_eq!(read_token(&Vault::from_key(&[8; 32]), &made), None);
        // The id that a gateway sees opens no page.
        let attempt = DeliveryRef { dispatch_no: 12, ordinal: 305, attempt: 1 };
        assert_eq!(read_token(&vault, &URL_SAFE_NO_PAD.encode(vault.client_id(attempt).as_bytes())), None);
        assert_eq!(read_token(&vault, "no token"), None);
    }
}
