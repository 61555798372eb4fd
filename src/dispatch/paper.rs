//! The sheet of one point: what the item says, where it hangs, its serial number, the
//! QR code that leads to the item, and which sheets it takes the place of.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use uuid::Uuid;

use super::job::Site;
use crate::clock::Millis;
use crate::domain::ids::DeliveryRef;
use crate::domain::item::Content;
use crate::domain::serial::{self, Serial};
use crate::sheet::{self, Document, Notice, Signing};
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
    content: Content,
    unit: Site,
    paper: Paper,
    mark: &'static str,
    dispatch_no: i64,
    /// The day the sheets bear: when the dispatch was made.
    at: Millis,
    notice: Notice,
}

/// A sheet, and where its files go below the print queue, without extension.
pub struct Sheet {
    pub document: Document,
    pub path: String,
    pub title: String,
}

impl SheetMaker {
    #[must_use]
    pub fn new(content: Content, unit: &Site, dispatch: &Dispatch, paper: &Paper) -> Self {
        let mut maker = Self {
            content,
            unit: unit.clone(),
            paper: paper.clone(),
            mark: dispatch.mode.mark(),
            dispatch_no: dispatch.no,
            at: dispatch.created_at,
            notice: Notice::default(),
        };
        maker.notice = maker.say(None);
        maker
    }

    /// The sheet without a point; `earlier` is what it takes the place of there.
    fn say(&self, earlier: Option<&str>) -> Notice {
        let by = Signing {
            unit: &self.unit.name,
            phone: &self.unit.phone,
            at: self.at,
            zone: &self.paper.zone,
            mark: self.mark,
            earlier,
            large: false,
        };
        let mut notice = sheet::notice(&self.content, &by);
        if let (Some(earlier), None) = (earlier, &notice.relation) {
            notice.relation = Some(format!("本件替换{earlier}。旧件请撤下。"));
        }
        notice
    }

    /// The sheet of a point; `before` is what it takes the place of there.
    #[must_use]
    pub fn make(&self, vault: &Vault, row: &SheetRow, before: &[Related]) -> Sheet {
        let serial = row.serial(self.dispatch_no);
        let mut notice = if before.is_empty() { self.notice.clone() } else { self.say(Some(&earlier(before))) };
        notice.place = row.place();
        notice.serial = serial.to_string();
        notice.qr = Some(format!("{}/p/{}", self.paper.public_url, token(vault, serial)));
        let stem = serial::file_stem(row.town(), row.village(), &self.content.title, &self.day(), &serial.to_string());
        Sheet {
            document: Document::Notice(Box::new(notice)),
            path: format!("{}/{stem}", self.folder()),
            title: self.content.title.clone(),
        }
    }

    #[must_use]
    pub const fn dispatch_no(&self) -> i64 {
        self.dispatch_no
    }

    /// The day in file names: `20260601`.
    fn day(&self) -> String {
        let at = Timestamp::from_millisecond(self.at).unwrap_or_default();
        at.to_zoned(self.paper.zone.clone()).strftime("%Y%m%d").to_string()
    }

    /// The folder of the dispatch below the print queue.
    #[must_use]
    pub fn folder(&self) -> String {
        serial::folder(self.dispatch_no, &self.content.title)
    }

    /// The files of a town's sheets bound together, without extension.
    #[must_use]
    pub fn bound(&self, town: &str) -> String {
        let no = self.dispatch_no.to_string();
        format!("{}/{}", self.folder(), serial::file_stem(town, "全部张贴件", &self.content.title, &self.day(), &no))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sheet_names_what_it_takes_the_place_of() {
        let related =
            |dispatch_no, title: &str| Related { serial: Serial { dispatch_no, ordinal: 2 }, title: title.to_owned() };
        let text = earlier(&[related(3, "预警"), related(4, "预警"), related(6, "预警更新")]);
        assert_eq!(text, "《预警》（序号 3-2、4-2）、《预警更新》（序号 6-2）");
    }

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
