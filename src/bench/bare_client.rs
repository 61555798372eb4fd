//! The ceiling of sending over HTTP: a plain client, its requests rendered beforehand.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::header::{HeaderValue, USER_AGENT};
use hyper::{Request, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::task::JoinSet;

use super::gateway::{PASSWORD, USERNAME};
use super::site::TEXT;
use crate::store::made_up::phone;

/// Requests as the shipped Kannel declaration makes them, byte for byte as long.
pub(super) fn requests(gateway: SocketAddr, callback: &str, n: i64) -> anyhow::Result<Vec<Uri>> {
    let text = utf8_percent_encode(TEXT, NON_ALPHANUMERIC).to_string();
    (1..=n)
        .map(|no| {
            let id = uuid::Uuid::from_u128(no.unsigned_abs().into());
            let callback = format!("{callback}?id={id}&status=%d&time=%T&token={PASSWORD}");
            let callback = utf8_percent_encode(&callback, NON_ALPHANUMERIC);
            let uri = format!(
                "http://{gateway}/cgi-bin/sendsms?username={USERNAME}&password={PASSWORD}&to={}&text={text}\
                 &charset=UTF-8&coding=2&dlr-mask=31&dlr-url={callback}",
                phone(no)
            );
            Ok(uri.parse()?)
        })
        .collect()
}

/// Sends them all, `in_flight` at once, and reads every answer.
///
/// # Errors
/// When one is not accepted.
pub(super) async fn send(requests: Vec<Uri>, in_flight: usize) -> anyhow::Result<Duration> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Client<HttpConnector, Full<Bytes>> =
        Client::builder(TokioExecutor::new()).pool_max_idle_per_host(in_flight).build(connector);
    let (requests, next) = (Arc::new(requests), Arc::new(AtomicUsize::new(0)));
    let mut senders = JoinSet::new();
    let began = Instant::now();
    for _ in 0..in_flight {
        let (client, requests, next) = (client.clone(), Arc::clone(&requests), Arc::clone(&next));
        senders.spawn(async move {
            while let Some(uri) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
                let mut request = Request::new(Full::default());
                *request.uri_mut() = uri.clone();
                request.headers_mut().insert(USER_AGENT, HeaderValue::from_static("gong"));
                let answer = client.request(request).await?;
                anyhow::ensure!(answer.status().as_u16() == 202, "the gateway answered {}", answer.status());
                answer.into_body().collect().await?;
            }
            Ok(())
        });
    }
    while let Some(done) = senders.join_next().await {
        done??;
    }
    Ok(began.elapsed())
}
