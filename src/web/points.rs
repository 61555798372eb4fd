//! The page behind the QR code of a sheet, and the form on it that confirms that the
//! sheet hangs. Public: a token opens one sheet and nothing else.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{DefaultBodyLimit, Form, Path, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::get;
use serde::Deserialize;
use subtle::ConstantTimeEq as _;

use super::Shared;
use super::page::{Note, Page};
use crate::channel::Target;
use crate::clock::Millis;
use crate::dispatch::paper::read_token;
use crate::domain::delivery::{Event, next};
use crate::domain::recipient::normal_name;
use crate::domain::serial::Serial;
use crate::store::dispatches::Dispatch;
use crate::store::postings::{Action, Keep, Posting};
use crate::store::sheets::SheetRow;
use crate::store::{Result, Store};
use crate::vault::hex;

/// Largest form, in bytes.
const MAX_FORM: usize = 4 * 1024;
/// Longest name, in characters.
const MAX_NAME: usize = 30;
/// How long a form may lie open, in milliseconds.
const FORM_LIVES: Millis = 12 * 3_600_000;
/// Confirmations are counted over this time: so many of one sheet, so many in all.
const WINDOW: Duration = Duration::from_mins(10);
const OF_ONE: usize = 6;
const OF_ALL: usize = 2_000;
/// Who entered a receipt that came by the QR code.
const BY_CODE: &str = "qr";

/// Nothing is fetched or run; the page carries its own style.
const HEADERS: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (header::CONTENT_LANGUAGE, "zh-CN"),
];

/// The routes of this file.
pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/p/{token}", get(show).post(confirm)).layer(DefaultBodyLimit::max(MAX_FORM))
}

/// What the form holds.
#[derive(Deserialize)]
struct Confirmation {
    #[serde(default)]
    name: String,
    #[serde(default)]
    seal: String,
}

/// A sheet that a token opened.
pub(super) struct Opened {
    pub token: String,
    pub serial: Serial,
    pub dispatch: Dispatch,
    pub row: SheetRow,
    /// The channels of sheets.
    pub channels: Vec<i32>,
}

impl Opened {
    /// Whether somebody may confirm now that it hangs.
    pub(super) fn is_awaited(&self) -> bool {
        next(self.row.state(), Event::Post).is_some()
    }
}

async fn show(State(shared): State<Shared>, Path(token): Path<String>) -> Response {
    match open(&shared, token).await {
        Ok(Some(opened)) => page(&shared, &opened, StatusCode::OK, Note::None).await,
        Ok(None) => unknown(),
        Err(error) => broken(&error),
    }
}

async fn confirm(
    State(shared): State<Shared>,
    Path(token): Path<String>,
    headers: HeaderMap,
    Form(form): Form<Confirmation>,
) -> Response {
    let opened = match open(&shared, token).await {
        Ok(Some(opened)) => opened,
        Ok(None) => return unknown(),
        Err(error) => return broken(&error),
    };
    let store = &shared.desk.store;
    let elsewhere = headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site");
    if elsewhere || !seal_holds(store, &opened.token, &form.seal) {
        return page(&shared, &opened, StatusCode::FORBIDDEN, Note::FormTooOld).await;
    }
    let name = normal_name(&form.name).filter(|name| name.chars().count() <= MAX_NAME);
    let Some(name) = name else {
        return page(&shared, &opened, StatusCode::BAD_REQUEST, Note::NameMissing).await;
    };
    if !shared.pages.limiter.admits(opened.serial, Instant::now()) {
        return page(&shared, &opened, StatusCode::TOO_MANY_REQUESTS, Note::TooMany).await;
    }
    if opened.is_awaited() {
        let ordinal = opened.serial.ordinal;
        let posting = Posting { ordinal, action: Action::Posted, at: None, by: Some(name), take_down_at: None };
        let kept = store.record_postings(&opened.dispatch, &opened.channels, &[posting], (BY_CODE, Keep::Commit)).await;
        if let Err(error) = kept {
            return broken(&error);
        }
        tracing::info!(sheet = %opened.serial, "confirmed posted by its QR code");
    }
    Redirect::to(&format!("/p/{}", opened.token)).into_response()
}

async fn open(shared: &Shared, token: String) -> Result<Option<Opened>> {
    let store = &shared.desk.store;
    let Some(serial) = read_token(&store.vault, &token) else { return Ok(None) };
    let boards = shared.desk.ways.iter().filter(|w| w.channel.target() == Target::Point);
    let channels: Vec<i32> = boards.map(|w| w.no).collect();
    let Some(row) = store.sheet(serial, &channels).await? else { return Ok(None) };
    let dispatch = store.dispatch(&serial.dispatch_no.to_string()).await?;
    Ok(Some(Opened { token, serial, dispatch, row, channels }))
}

async fn page(shared: &Shared, opened: &Opened, status: StatusCode, note: Note) -> Response {
    let store = &shared.desk.store;
    let seal = opened.is_awaited().then(|| seal(store, &opened.token, store.now()));
    let page = match Page::load(store, &shared.pages, opened).await {
        Ok(page) => page,
        Err(error) => return broken(&error),
    };
    match shared.pages.render(&page, seal.as_deref(), note) {
        Ok(html) => (status, HEADERS, Html(html)).into_response(),
        Err(error) => {
            tracing::error!(%error, "the page of a sheet cannot be made; mend templates/web/notice.hbs");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn unknown() -> Response {
    let text = "<!doctype html><html lang=\"zh-CN\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
                <title>没有这一页</title><h1>没有这一页</h1><p>请核对二维码，或按张贴件上的咨询电话查询。</p>";
    (StatusCode::NOT_FOUND, HEADERS, Html(text)).into_response()
}

fn broken(error: &crate::store::StoreError) -> Response {
    tracing::error!(%error, "the page of a sheet cannot be read");
    StatusCode::SERVICE_UNAVAILABLE.into_response()
}

/// What a form carries to show that it came from our page, and when.
fn seal(store: &Store, token: &str, at: Millis) -> String {
    let mac = store.vault.hash("posting form", &format!("{token}\n{at}"));
    format!("{at}.{}", hex(&mac))
}

fn seal_holds(store: &Store, token: &str, given: &str) -> bool {
    let Some(at) = given.split_once('.').and_then(|(at, _)| at.parse::<Millis>().ok()) else { return false };
    let age = store.now().saturating_sub(at);
    let meant = seal(store, token, at);
    (0..=FORM_LIVES).contains(&age) && bool::from(meant.as_bytes().ct_eq(given.as_bytes()))
}

/// Counts confirmations, so that nobody floods a sheet or the site.
#[derive(Default)]
pub(super) struct Limiter(Mutex<VecDeque<(Instant, Serial)>>);

impl Limiter {
    fn admits(&self, serial: Serial, now: Instant) -> bool {
        let Ok(mut recent) = self.0.lock() else { return false };
        while recent.front().is_some_and(|(at, _)| now.duration_since(*at) > WINDOW) {
            recent.pop_front();
        }
        let of_one = recent.iter().filter(|(_, s)| *s == serial).count();
        if of_one >= OF_ONE || recent.len() >= OF_ALL {
            return false;
        }
        recent.push_back((now, serial));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sheet_is_confirmed_a_few_times_and_then_later_again() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        let serial = |ordinal| Serial { dispatch_no: 1, ordinal };
        for _ in 0..OF_ONE {
            assert!(limiter.admits(serial(1), now));
        }
        assert!(!limiter.admits(serial(1), now));
        assert!(limiter.admits(serial(2), now));
        assert!(limiter.admits(serial(1), now + WINDOW + Duration::from_secs(1)));
    }

    #[tokio::test]
    async fn a_form_holds_for_its_sheet_and_its_time() {
        let all = crate::store::testing::stores().await;
        let store = &all[0].store;
        let made = seal(store, "token", store.now());
        assert!(seal_holds(store, "token", &made));
        assert!(!seal_holds(store, "other", &made));
        assert!(!seal_holds(store, "token", &seal(store, "token", store.now() - FORM_LIVES - 1)));
        assert!(!seal_holds(store, "token", &seal(store, "token", store.now() + 1)));
        assert!(!seal_holds(store, "token", ""));
    }
}
