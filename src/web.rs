//! The HTTP side: callbacks of gateways, health, metrics, the pages behind QR codes.
//! Thin handlers.

mod html;
pub mod page;
pub mod points;

pub mod calls;

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};

use crate::channel::{Callback, CallbackError};
use crate::receipts::{IntakeError, ReceiptDesk};
use crate::telemetry::Counts;

/// Largest callback body, in bytes.
const MAX_CALLBACK: usize = 4 * 1024 * 1024;
/// Seconds after which a callback that could not be kept may come again.
const AGAIN: &str = "1";

/// What the handlers share.
#[derive(Clone)]
pub struct Shared {
    pub desk: ReceiptDesk,
    pub counts: Arc<Counts>,
    pub page: calls::CallPage,
    pub pages: Arc<page::Pages>,
}

/// Every route.
pub fn router(shared: Shared) -> Router {
    Router::new()
        .route("/callbacks/{channel}", any(callback))
        .route("/callbacks/{channel}/reply", any(reply))
        .route("/callbacks/{channel}/{gateway}", any(callback_of))
        .route("/c/{token}", get(calls::show).post(calls::confirm))
        .layer(DefaultBodyLimit::max(MAX_CALLBACK))
        .merge(points::routes())
        .with_state(shared.clone())
        .merge(health(shared))
}

/// The routes of an engine without callbacks or pages: its health and its counts.
pub fn health(shared: Shared) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(shared)
}

/// What a gateway sent: query, method, headers and body.
type Sent = (Query<Vec<(String, String)>>, Method, HeaderMap, Bytes);

async fn callback(State(shared): State<Shared>, Path(channel): Path<String>, sent: Sent) -> Response {
    take(&shared, (&channel, None), &sent).await
}

/// A callback of one of the gateways of a channel.
async fn callback_of(
    State(shared): State<Shared>,
    Path((channel, gateway)): Path<(String, String)>,
    sent: Sent,
) -> Response {
    take(&shared, (&channel, Some(&gateway)), &sent).await
}

async fn take(shared: &Shared, (channel, gateway): (&str, Option<&str>), sent: &Sent) -> Response {
    let headers = named(&sent.2);
    match shared.desk.take_of(channel, gateway, &as_callback(shared, sent, &headers)).await {
        Ok(intake) => answer(intake.reply_status, intake.reply_type, intake.reply_body),
        Err(error) => refusal(&error),
    }
}

/// What people answered to a channel's messages.
async fn reply(State(shared): State<Shared>, Path(channel): Path<String>, sent: Sent) -> Response {
    let headers = named(&sent.2);
    match shared.desk.hear(&channel, &as_callback(&shared, &sent, &headers)).await {
        Ok(heard) => answer(heard.reply_status, heard.reply_type, heard.reply_body),
        Err(error) => refusal(&error),
    }
}

fn as_callback<'a>(
    shared: &Shared,
    (Query(query), method, _, body): &'a Sent,
    headers: &'a [(String, String)],
) -> Callback<'a> {
    Callback { method: method.as_str(), query, headers, body, now: shared.desk.store.now() }
}

fn named(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect()
}

fn answer(status: u16, kind: String, body: String) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    (status, [(header::CONTENT_TYPE, kind)], body).into_response()
}

fn refusal(error: &IntakeError) -> Response {
    match error {
        IntakeError::NoChannel => StatusCode::NOT_FOUND.into_response(),
        IntakeError::Callback(CallbackError::Unauthenticated) => StatusCode::UNAUTHORIZED.into_response(),
        IntakeError::Callback(CallbackError::NotTaken) => StatusCode::NOT_FOUND.into_response(),
        IntakeError::Callback(CallbackError::Malformed(_)) => StatusCode::BAD_REQUEST.into_response(),
        // Not on disk: the gateway must try again.
        IntakeError::Busy => again(),
        IntakeError::Store(error) => {
            tracing::error!(%error, "a callback could not be kept; the gateway will repeat it");
            again()
        }
    }
}

/// Not now, and when to come again (RFC 9110, 10.2.3).
fn again() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, AGAIN)]).into_response()
}

async fn ready(State(shared): State<Shared>) -> Response {
    match shared.desk.store.db_now().await {
        Ok(_) => "ready\n".into_response(),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

async fn metrics(State(shared): State<Shared>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], shared.counts.text()).into_response()
}
