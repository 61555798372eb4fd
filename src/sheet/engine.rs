//! The typesetter: Typst with a world of ours. Layouts come from the site's folder or
//! from the program, content as one JSON file; there is no network and no other file.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;

use rust_embed::RustEmbed;
use serde_json::{Value, json};
use typst::diag::{FileError, FileResult, SourceDiagnostic};
use typst::foundations::{Bytes, Datetime, Duration};
use typst::syntax::{FileId, RootedPath, Source, VirtualPath, VirtualRoot};
use typst::text::{Font, FontBook};
use typst::utils::LazyHash;
use typst::{Library, LibraryExt as _, World, WorldExt as _};
use typst_layout::{Page, PagedDocument};
use typst_pdf::PdfOptions;

use super::fonts::Fonts;
use super::{Document, PressError, PressSettings, Printed, Wants, pages, titles};
use crate::lang::{self, Lang};

/// Compilations for which the typesetter remembers what it has done.
const REMEMBERED: usize = 3;

#[derive(RustEmbed)]
#[folder = "templates/sheet/"]
struct Shipped;

/// Fonts and layouts, ready to print. Takes some tens of megabytes: it lives in the
/// child process alone.
pub struct Engine {
    std: LazyHash<Library>,
    fonts: Fonts,
    fonts_json: Bytes,
    folder: Option<PathBuf>,
    layouts: Mutex<HashMap<String, Bytes>>,
    sources: Mutex<HashMap<FileId, Source>>,
}

impl Engine {
    /// Finds the fonts.
    #[must_use]
    pub fn new(settings: &PressSettings) -> Self {
        let fonts = Fonts::find(&settings.fonts, settings.own_fonts_only);
        let fonts_json = Bytes::from_string(fonts.chains().to_string());
        let folder = settings.templates.as_ref().map(|t| t.join("sheet"));
        let std = LazyHash::new(Library::default());
        Self { std, fonts, fonts_json, folder, layouts: Mutex::default(), sources: Mutex::default() }
    }

    /// Prints `documents` one behind the other.
    pub fn print(&self, documents: &[Document], wants: Wants) -> Result<Printed, PressError> {
        if !self.fonts.has_chinese() {
            return Err(PressError::NoFont);
        }
        let mut set: Vec<PagedDocument> = Vec::with_capacity(documents.len());
        for document in documents {
            set.push(self.lay_out(document)?);
            comemo::evict(REMEMBERED);
        }
        let missing = pages::missing(set.iter().flat_map(PagedDocument::pages));
        let jpg = match set.first().and_then(|d| d.pages().first()).filter(|_| wants.jpg) {
            Some(page) => Some(pages::jpeg(page).map_err(PressError::Process)?),
            None => None,
        };
        let (bound, alone) = bind(set)?;
        // Tags of several documents would be taken for each other's.
        let options = PdfOptions { tagged: alone, ..PdfOptions::default() };
        let pdf = typst_pdf::pdf(&bound, &options).map_err(|e| PressError::Process(first(&e)))?;
        Ok(Printed { pdf, jpg, pages: bound.pages().len(), missing })
    }

    fn lay_out(&self, document: &Document) -> Result<PagedDocument, PressError> {
        let layout = layout_of(document);
        let wrong = |why: String| PressError::Layout { layout: format!("{layout}.typ"), why };
        let data = data(document)?;
        let main = file_id(&format!("{layout}.typ")).map_err(wrong)?;
        let job = Job { engine: self, main, data: Bytes::from_string(data.to_string()) };
        typst::compile::<PagedDocument>(&job).output.map_err(|errors| wrong(job.explain(&errors)))
    }

    /// A file of the layouts: the site's own first.
    fn file(&self, name: &str) -> FileResult<Bytes> {
        let mut known = self.layouts.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(bytes) = known.get(name) {
            return Ok(bytes.clone());
        }
        let own = self.folder.as_ref().and_then(|folder| std::fs::read(folder.join(name)).ok());
        let bytes = match own.or_else(|| Shipped::get(name).map(|f| f.data.into_owned())) {
            Some(bytes) => Bytes::new(bytes),
            None => return Err(FileError::NotFound(name.into())),
        };
        known.insert(name.to_owned(), bytes.clone());
        Ok(bytes)
    }
}

/// One document after the other, and whether there is only one.
fn bind(mut set: Vec<PagedDocument>) -> Result<(PagedDocument, bool), PressError> {
    if set.len() == 1
        && let Some(only) = set.pop()
    {
        return Ok((only, true));
    }
    let pages: Vec<Page> = set.iter().flat_map(|d| d.pages().iter().cloned()).collect();
    let Some(first) = set.first_mut() else {
        return Err(PressError::Process(crate::say!("没有要打印的内容", "there is nothing to print")));
    };
    Ok((PagedDocument::new(pages.into_iter().collect(), first.info_mut().clone()), false))
}

const fn layout_of(document: &Document) -> &'static str {
    match document {
        Document::Notice(_) => "notice",
        Document::Cover(_) => "cover",
        Document::DoorKnock(_) => "door_knock",
        Document::Report(_) => "report",
    }
}

/// What a layout reads: the document, the language, its title in words, the QR code as
/// squares.
fn data(document: &Document) -> Result<Value, PressError> {
    let broken = |e: serde_json::Error| PressError::Process(e.to_string());
    let mut data = serde_json::to_value(document).map_err(broken)?;
    data["lang"] = if lang::current() == Lang::En { "en" } else { "zh" }.into();
    data["title_words"] = titles::pieces(data["title"].as_str().unwrap_or_default()).into();
    if let Document::Notice(notice) = document {
        data["qr_modules"] = notice.qr.as_deref().map(qr).transpose()?.unwrap_or(Value::Null);
    }
    Ok(data)
}

/// The squares of a QR code (ISO/IEC 18004, level M) with the four light ones around
/// that the standard asks for, row by row: 0 dark, 255 light.
fn qr(text: &str) -> Result<Value, PressError> {
    const QUIET: usize = 4;
    let code =
        fast_qr::QRBuilder::new(text).ecl(fast_qr::ECL::M).build().map_err(|_| PressError::Qr { bytes: text.len() })?;
    let size = code.size + 2 * QUIET;
    let mut luma = vec![255_u8; size * size];
    for y in 0..code.size {
        for x in 0..code.size {
            if code[y][x].value() {
                luma[(y + QUIET) * size + x + QUIET] = 0;
            }
        }
    }
    Ok(json!({ "size": size, "luma": luma }))
}

/// What one compilation sees.
struct Job<'a> {
    engine: &'a Engine,
    main: FileId,
    data: Bytes,
}

impl Job<'_> {
    /// The first error with its place: `notice.typ:12:3 …`.
    fn explain(&self, errors: &[SourceDiagnostic]) -> String {
        let Some(error) = errors.first() else { return String::new() };
        let mut text = error.message.to_string();
        if let Some(id) = error.span.id()
            && let (Ok(source), Some(range)) = (self.source(id), self.range(error.span))
            && let Some((line, column)) = source.lines().byte_to_line_column(range.start)
        {
            let name = id.get().vpath().get_without_slash();
            text = format!("{name}:{}:{} {text}", line + 1, column + 1);
        }
        error.hints.iter().fold(text, |text, hint| format!("{text}; {}", hint.v))
    }
}

fn first(errors: &[SourceDiagnostic]) -> String {
    errors.first().map(|e| e.message.to_string()).unwrap_or_default()
}

fn file_id(name: &str) -> Result<FileId, String> {
    let path = VirtualPath::new(name).map_err(|_| format!("{name}?"))?;
    Ok(RootedPath::new(VirtualRoot::Project, path).intern())
}

impl World for Job<'_> {
    fn library(&self) -> &LazyHash<Library> {
        &self.engine.std
    }

    fn book(&self) -> &LazyHash<FontBook> {
        self.engine.fonts.book()
    }

    fn main(&self) -> FileId {
        self.main
    }

    fn source(&self, id: FileId) -> FileResult<Source> {
        let mut sources = self.engine.sources.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(source) = sources.get(&id) {
            return Ok(source.clone());
        }
        let bytes = self.file(id)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| FileError::InvalidUtf8)?;
        let source = Source::new(id, text.to_owned());
        sources.insert(id, source.clone());
        Ok(source)
    }

    fn file(&self, id: FileId) -> FileResult<Bytes> {
        if !matches!(id.get().root(), VirtualRoot::Project) {
            return Err(FileError::AccessDenied);
        }
        match id.get().vpath().get_without_slash() {
            "data.json" => Ok(self.data.clone()),
            "fonts.json" => Ok(self.engine.fonts_json.clone()),
            name => self.engine.file(name),
        }
    }

    fn font(&self, index: usize) -> Option<Font> {
        self.engine.fonts.font(index)
    }

    /// No clock: what is printed is in the data.
    fn today(&self, _offset: Option<Duration>) -> Option<Datetime> {
        None
    }
}
