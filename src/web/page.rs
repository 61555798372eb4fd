//! What the public page of a sheet shows, and its template: the site's
//! `templates/web/notice.hbs`, else the shipped one.

use std::path::Path;

use handlebars::Context;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::json;

use super::html;
use super::points::{Limiter, Opened};
use crate::clock::Millis;
use crate::dispatch::job::Site;
use crate::dispatch::paper::token;
use crate::domain::delivery::State;
use crate::domain::item::{Content, Relation};
use crate::render::{Compiled, Engine, Escape, RenderError};
use crate::sheet::blocks;
use crate::store::postings::Action;
use crate::store::{Result, Store};

const SHIPPED: &str = include_str!("../../templates/web/notice.hbs");

/// What pages are made with.
pub struct Pages {
    template: Compiled,
    zone: TimeZone,
    site: Site,
    pub(super) limiter: Limiter,
}

/// What is said above the form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Note {
    None,
    NameMissing,
    FormTooOld,
    TooMany,
}

impl Note {
    const fn text(self) -> &'static str {
        match self {
            Self::None => "",
            Self::NameMissing => "请填写张贴人姓名（不超过 30 个字）。",
            Self::FormTooOld => "这个页面打开太久了，没有记录。请再确认一次。",
            Self::TooMany => "确认得太频繁，没有记录。请十分钟后再试。",
        }
    }
}

/// What a page says of its sheet and item.
#[derive(Debug, Serialize)]
pub(super) struct Page {
    token: String,
    serial: String,
    place: String,
    mark: &'static str,
    title: String,
    level: Option<Level>,
    issuer: String,
    unit: String,
    document_no: String,
    date: String,
    /// Safe HTML.
    body: String,
    actions: Vec<String>,
    area: String,
    effective: String,
    expires: String,
    expired: bool,
    phone: String,
    objection_phone: String,
    successor: Option<Successor>,
    /// When and by whom (masked) it was confirmed.
    posted: Option<Said>,
    taken_down: bool,
}

#[derive(Debug, Serialize)]
struct Level {
    word: String,
    colour: &'static str,
}

/// The newest item of the chain that came after.
#[derive(Debug, Serialize)]
struct Successor {
    /// 已解除, 已更正 …
    word: &'static str,
    title: String,
    at: String,
    /// Its own page, where it has a sheet at this point.
    path: Option<String>,
}

#[derive(Debug, Serialize)]
struct Said {
    at: String,
    by: String,
}

impl Pages {
    /// Reads the template from the site's templates, else takes the shipped one.
    ///
    /// # Errors
    /// When it is not sound; it says where.
    pub fn load(templates: &Path, zone: TimeZone, site: Site) -> std::result::Result<Self, RenderError> {
        let path = templates.join("web/notice.hbs");
        let source = match std::fs::read_to_string(&path) {
            Ok(source) => source,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => SHIPPED.to_owned(),
            Err(error) => return Err(RenderError::Io(path, error)),
        };
        let template = Engine::texts(Escape::Html, &zone).compile("web/notice", &source, &|_| true)?;
        Ok(Self { template, zone, site, limiter: Limiter::default() })
    }

    /// The page as HTML; with a form where `seal` is given.
    pub(super) fn render(
        &self,
        page: &Page,
        seal: Option<&str>,
        note: Note,
    ) -> std::result::Result<String, RenderError> {
        let data = json!({ "page": page, "seal": seal, "note": note.text() });
        self.template.render(&Context::from(data))
    }

    fn time(&self, at: Millis, form: &str) -> String {
        Timestamp::from_millisecond(at)
            .map_or_else(|_| String::new(), |at| at.to_zoned(self.zone.clone()).strftime(form).to_string())
    }
}

const MINUTE: &str = "%Y年%-m月%-d日 %H:%M";
const DAY: &str = "%Y年%-m月%-d日";

impl Page {
    pub(super) async fn load(store: &Store, pages: &Pages, opened: &Opened) -> Result<Self> {
        let dispatch = &opened.dispatch;
        let content = store.item_version(&dispatch.item_id, dispatch.item_version).await?;
        let item = store.item(&dispatch.item_id).await?;
        let unit = if item.unit.is_empty() { pages.site.name.clone() } else { item.unit };
        let said = store.postings_of(opened.serial).await?;
        let posted = said.iter().rev().find(|r| r.action == Action::Posted.name());
        let minute = |at: Option<Millis>| at.map(|at| pages.time(at, MINUTE)).unwrap_or_default();
        Ok(Self {
            token: opened.token.clone(),
            serial: opened.serial.to_string(),
            place: opened.row.place(),
            mark: dispatch.mode.mark(),
            level: level(&content),
            issuer: content.issuer.clone().unwrap_or_else(|| unit.clone()),
            unit,
            document_no: content.document_no.clone().unwrap_or_default(),
            date: pages.time(dispatch.created_at, DAY),
            body: html::of(&blocks(&content.body)),
            area: content.area_text.clone().unwrap_or_default(),
            effective: minute(content.effective_at),
            expires: minute(Some(dispatch.expires_at)),
            expired: dispatch.expires_at <= store.now(),
            objection_phone: content.objection_phone.clone().unwrap_or_default(),
            successor: successor(store, pages, opened).await?,
            posted: posted.map(|r| Said { at: pages.time(r.at, MINUTE), by: r.by(&store.vault, dispatch.no) }),
            taken_down: opened.row.state() == State::TakenDown,
            title: content.title,
            actions: content.actions,
            phone: content.phone,
        })
    }
}

fn level(content: &Content) -> Option<Level> {
    let level = content.level?;
    Some(Level { word: format!("{}{}", level.zh(content.kind), content.kind.label()), colour: level.name() })
}

async fn successor(store: &Store, pages: &Pages, opened: &Opened) -> Result<Option<Successor>> {
    let Some(next) = store.successor(&opened.dispatch).await? else { return Ok(None) };
    let content = store.item_version(&next.item_id, next.item_version).await?;
    let word = match content.relations.first() {
        Some((Relation::Lifts, _)) => "已解除",
        Some((Relation::Withdraws, _)) => "已撤回",
        Some((Relation::Corrects, _)) => "已更正",
        _ => "已更新",
    };
    let after = store.sheets_after(&opened.dispatch, &opened.channels).await?;
    let newest = after.get(&opened.row.point_no).and_then(|related| related.last());
    Ok(Some(Successor {
        word,
        title: content.title,
        at: pages.time(next.created_at, MINUTE),
        path: newest.map(|related| format!("/p/{}", token(&store.vault, related.serial))),
    }))
}
