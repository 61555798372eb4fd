//! Paper: what a sheet, a door-knock list or a report says (data only), and the press
//! that turns it into pages. Layouts are Typst files under `templates/sheet/`; content
//! goes in as data, never as markup.

use serde::{Deserialize, Serialize};

use crate::say;

#[cfg(feature = "sheets")]
mod engine;
#[cfg(feature = "sheets")]
pub mod fonts;
mod markdown;
mod notice;
#[cfg(feature = "sheets")]
mod pages;
mod press;
#[cfg(feature = "sheets")]
pub mod serve;
#[cfg(feature = "sheets")]
mod titles;
mod wire;
mod xlsx;

pub use markdown::blocks;
pub use notice::{Signing, dated, notice};
pub use press::{Press, PressSettings};
pub use xlsx::{TableError, table_from_xlsx, to_markdown};

/// What one document says; the name of its layout is the tag.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "layout", rename_all = "snake_case")]
pub enum Document {
    /// A sheet for a notice board (张贴件).
    Notice(Box<Notice>),
    /// What a town prints, village by village: the cover of its sheets.
    Cover(Cover),
    /// The door-knock list of one village (入户通知清单).
    DoorKnock(DoorKnock),
    /// A report in running text with tables, such as the situation report (情况报告).
    Report(Report),
}

/// A sheet in the manner of GB/T 9704: A4, issuer in red, rule, title, body.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notice {
    /// Above the rule, in red.
    pub issuer: String,
    /// 文号; empty for none.
    pub document_no: String,
    pub title: String,
    /// 【演练】 or nothing.
    pub mark: String,
    /// The level's word (红色预警) and colour (`red orange yellow blue`, anything else is white).
    pub level: Option<Level>,
    /// 更正 / 解除 … of an earlier sheet, in words; "take the sheet with serial … down".
    pub relation: Option<String>,
    pub body: Vec<Block>,
    /// 应采取的措施, one each.
    pub actions: Vec<String>,
    /// Lines of name and value under the body: 影响范围, 有效期, 公示期, 咨询电话, 异议电话.
    pub facts: Vec<(String, String)>,
    /// The unit that signs, and the date as it is written there.
    pub unit: String,
    pub date: String,
    /// 镇 · 村 · 点位.
    pub place: String,
    /// Serial number of the sheet (序号), unique at the site.
    pub serial: String,
    /// What the QR code holds; none without.
    pub qr: Option<String>,
    /// Under the QR code; the layout's own words where it is empty.
    pub qr_caption: String,
    /// Larger letters and plain wording, for eyes that see badly.
    pub large: bool,
}

/// The level of an alert, as people see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Level {
    pub word: String,
    pub colour: String,
}

/// A piece of a text, from the Markdown subset that items are written in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Block {
    /// 1 to 3.
    Heading {
        level: u8,
        text: Vec<Run>,
    },
    Paragraph {
        text: Vec<Run>,
    },
    List {
        ordered: bool,
        items: Vec<Vec<Block>>,
    },
    /// The first row is the head, repeated on every page.
    Table {
        rows: Vec<Vec<Vec<Run>>>,
    },
}

/// Letters of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Run {
    pub text: String,
    pub strong: bool,
    pub emphasis: bool,
}

/// The cover of a town's sheets.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cover {
    pub title: String,
    pub town: String,
    pub unit: String,
    pub date: String,
    /// Heads, then a row a sheet: serial, village, point, keeper's telephone (masked), pages.
    pub heads: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

/// A door-knock list: landscape A4, a head that repeats, room for a signature.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DoorKnock {
    pub title: String,
    pub place: String,
    pub unit: String,
    pub date: String,
    /// What to tell them, in a sentence or two.
    pub say: String,
    pub heads: Vec<String>,
    pub rows: Vec<Vec<String>>,
    /// The line at the foot: how to fill it in and whom to give it to.
    pub foot: String,
}

/// A report.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    pub issuer: String,
    pub title: String,
    pub body: Vec<Block>,
    pub unit: String,
    pub date: String,
}

/// What is wanted of a document beside the PDF.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wants {
    /// The first page as JPEG under 500 KB, for chat groups.
    pub jpg: bool,
}

/// A document on pages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Printed {
    pub pdf: Vec<u8>,
    pub jpg: Option<Vec<u8>>,
    pub pages: usize,
    /// Characters that no font at hand can draw; they are missing on the page.
    pub missing: Vec<char>,
}

/// Why something was not printed.
#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PressError {
    #[error("{}", say!(
        "这个 gong 编译时没有包含排版（cargo 特性 sheets）。请换用完整版本",
        "this gong was built without sheets (the cargo feature `sheets`); use the full build"
    ))]
    NotBuilt,
    #[error("{}", say!("版式 {layout} 有误：{why}", "the layout {layout} is wrong: {why}"))]
    Layout { layout: String, why: String },
    #[error("{}", say!(
        "这台机器上没有中文字体，打印不出来。请执行：apt-get install fonts-wqy-microhei fonts-arphic-uming；或把字体文件（.ttf .otf .ttc）放进站点的 fonts/ 文件夹",
        "there is no Chinese font on this machine. Run: apt-get install fonts-wqy-microhei fonts-arphic-uming; or put font files (.ttf .otf .ttc) into the site's folder fonts/"
    ))]
    NoFont,
    #[error("{}", say!(
        "二维码放不下这个内容（{bytes} 字节，最多 2953）。请缩短网址",
        "a QR code cannot hold this ({bytes} bytes of at most 2953); use a shorter address"
    ))]
    Qr { bytes: usize },
    #[error("{}", broke(.0))]
    Process(String),
}

fn broke(why: &str) -> String {
    say!("排版进程出错：{why}", "the printing process broke: {why}")
}
