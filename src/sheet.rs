//! Paper: what a sheet, a door-knock list or a report says (data only), and the press
//! that turns it into pages. Layouts are Typst files under `templates/sheet/`; content
//! goes in as data, never as markup.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::say;

mod markdown;

pub use markdown::blocks;

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
    /// The level's word (红色预警) and colour (`red orange yellow blue`); an alert only.
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
#[derive(Debug, thiserror::Error)]
pub enum PressError {
    #[error("{}", say!(
        "这个 gong 编译时没有包含排版（cargo 特性 sheets）。请换用完整版本",
        "this gong was built without sheets (the cargo feature `sheets`); use the full build"
    ))]
    NotBuilt,
    #[error("{}", say!("版式 {layout} 有误：{why}", "the layout {layout} is wrong: {why}"))]
    Layout { layout: String, why: String },
    #[error("{}", broke(.0))]
    Process(String),
}

/// What a press works with.
#[derive(Debug, Clone, Default)]
pub struct PressSettings {
    /// The site's own layouts; they win over the shipped ones.
    pub templates: Option<PathBuf>,
    /// The site's own fonts, files or folders; searched before the system's.
    pub fonts: Vec<PathBuf>,
}

/// Prints documents, in child processes so that this one stays small. Cheap to clone.
#[derive(Clone, Default)]
pub struct Press {
    settings: Arc<PressSettings>,
}

impl Press {
    #[must_use]
    pub fn new(settings: PressSettings) -> Self {
        Self { settings: Arc::new(settings) }
    }

    /// Prints one document.
    pub async fn print(&self, document: &Document, wants: Wants) -> Result<Printed, PressError> {
        self.bind(std::slice::from_ref(document), wants).await
    }

    /// Prints several documents as one, each from a new page; a picture is of the first.
    pub async fn bind(&self, _documents: &[Document], _wants: Wants) -> Result<Printed, PressError> {
        tracing::trace!(settings = ?self.settings, "no press");
        Err(PressError::NotBuilt)
    }
}

fn broke(why: &str) -> String {
    say!("排版进程出错：{why}", "the printing process broke: {why}")
}
