//! The page that a duty officer's link opens. Looking at it confirms nothing, for
//! programs that preview links look too; only the button does.

use std::path::Path as File;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use handlebars::Context;
use jiff::tz::TimeZone;
use serde_json::json;

use super::Shared;
use crate::domain::calls::How;
use crate::domain::ids::CallRef;
use crate::render::compose::headline;
use crate::render::{Compiled, Engine, Escape, RenderError};
use crate::store::calls::{Confirming, Question};
use crate::store::dispatches::Dispatch;
use crate::store::{Result, Store};

const PAGE: &str = include_str!("../../templates/web/call.hbs");
/// What a page may read.
const KNOWN: [&str; 14] = [
    "found",
    "title",
    "level",
    "place",
    "area",
    "body",
    "actions",
    "unit",
    "phone",
    "sent_at",
    "confirmed_at",
    "how",
    "over",
    "drill",
];

/// The template of the page; the site's own wins over the shipped one. Cheap to clone.
#[derive(Debug, Clone)]
pub struct CallPage(Arc<Compiled>);

impl CallPage {
    /// Compiles it; times are written in `zone`.
    ///
    /// # Errors
    /// When the site's own template is not sound or cannot be read.
    pub fn load(site_templates: &File, zone: &TimeZone) -> std::result::Result<Self, RenderError> {
        let own = site_templates.join("web").join("call.hbs");
        let source = match std::fs::read_to_string(&own) {
            Ok(source) => source,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => PAGE.to_owned(),
            Err(e) => return Err(RenderError::Io(own, e)),
        };
        let known = |path: &str| KNOWN.contains(&path);
        Ok(Self(Arc::new(Engine::texts(Escape::Html, zone).compile("web/call", &source, &known)?)))
    }
}

/// One question, with the dispatch it is about.
struct Asked {
    of: CallRef,
    question: Question,
    about: Dispatch,
}

/// `GET /c/{token}`: shows what is asked.
pub async fn show(State(shared): State<Shared>, Path(token): Path<String>) -> Response {
    let page = async {
        Ok(match find(&shared.desk.store, &token).await? {
            Some(asked) => (StatusCode::OK, words(&shared, &asked).await?),
            None => (StatusCode::NOT_FOUND, json!({ "found": false })),
        })
    };
    match page.await {
        Ok((status, words)) => render(&shared.page, status, words),
        Err(error) => broken(&error),
    }
}

/// `POST /c/{token}`: confirms, and shows that it did.
pub async fn confirm(State(shared): State<Shared>, Path(token): Path<String>) -> Response {
    let store = &shared.desk.store;
    let done = async {
        let Some(asked) = find(store, &token).await? else { return Ok(false) };
        if !is_over(&asked.about) {
            let (call_no, ordinal) = (i64::from(asked.of.call_no), i64::from(asked.of.ordinal));
            let confirming = Confirming {
                about_no: asked.about.no,
                region_no: asked.question.region_no,
                how: How::Link,
                question: Some((call_no, ordinal)),
                operator: "",
                at: store.now(),
            };
            store.confirm(&confirming).await?;
        }
        Ok(true)
    };
    match done.await {
        // To be looked at anew, so that a reload confirms nothing again.
        Ok(true) => Redirect::to(&format!("/c/{token}")).into_response(),
        Ok(false) => render(&shared.page, StatusCode::NOT_FOUND, json!({ "found": false })),
        Err(error) => broken(&error),
    }
}

async fn find(store: &Store, token: &str) -> Result<Option<Asked>> {
    let Some(of) = store.vault.read_call_token(token) else { return Ok(None) };
    let Some(question) = store.question(of.call_no.into(), of.ordinal.into()).await? else { return Ok(None) };
    let about = store.dispatch(&question.about_no.to_string()).await?;
    Ok(Some(Asked { of, question, about }))
}

/// Called off or lifted: there is nothing to confirm any more.
fn is_over(about: &Dispatch) -> bool {
    about.state == "cancelled"
}

async fn words(shared: &Shared, asked: &Asked) -> Result<serde_json::Value> {
    let store = &shared.desk.store;
    let content = store.item_version(&asked.about.item_id, asked.about.item_version).await?;
    let item = store.item(&asked.about.item_id).await?;
    let mark = asked.about.mode.mark();
    let how = asked.question.how.as_deref().and_then(How::from_name).map(How::label);
    Ok(json!({
        "found": true,
        "title": headline(&content, mark),
        "level": content.level.map(|l| l.zh(content.kind)),
        "place": asked.question.place,
        "area": content.area_text,
        "body": crate::render::markdown::plain(&content.body),
        "actions": content.actions,
        "unit": content.issuer.unwrap_or(item.unit),
        "phone": if content.phone.is_empty() { item.unit_phone } else { content.phone },
        "sent_at": asked.about.created_at,
        "confirmed_at": asked.question.confirmed_at,
        "how": how,
        "over": is_over(&asked.about),
        "drill": !mark.is_empty(),
    }))
}

fn render(page: &CallPage, status: StatusCode, words: serde_json::Value) -> Response {
    let made = Context::wraps(words).map_err(|e| e.to_string());
    match made.and_then(|data| page.0.render(&data).map_err(|e| e.to_string())) {
        Ok(html) => (status, SAFE, Html(html)).into_response(),
        Err(error) => {
            tracing::error!(%error, "the page of a call cannot be made");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Nobody keeps it, frames it, learns its address from a link, or lists it.
const SAFE: [(HeaderName, &str); 5] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (HeaderName::from_static("x-robots-tag"), "noindex, nofollow"),
];

fn broken(error: &crate::store::StoreError) -> Response {
    tracing::error!(%error, "the page of a call failed");
    StatusCode::SERVICE_UNAVAILABLE.into_response()
}
