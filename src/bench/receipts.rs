//! Receipts by client id, one a callback and many callbacks at once, through the desk
//! that gateways call: read, authenticated, and on disk before each is answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Map;
use tokio::task::JoinSet;

use super::dispatch::persons_for;
use super::gateway::PASSWORD;
use super::site::{BACK, Site};
use super::{Measured, Run, Settings, peak, rehearsal};
use crate::channel::Callback;
use crate::domain::delivery::State;
use crate::domain::ids::DeliveryRef;
use crate::receipts::ReceiptDesk;
use crate::store::Store;
use crate::store::bare::BareCallback;
use crate::store::receipts::rows::KeptReceipt;
use crate::vault::Owner;

/// The parameters of a callback, decoded.
type Query = Vec<(String, String)>;

pub(super) async fn run(settings: &Settings, n: i64) -> anyhow::Result<Measured> {
    let site = Site::open_heard(settings, rehearsal(), ("http://127.0.0.1:1", 1)).await?;
    site.people(persons_for(n)).await?;
    let store = &site.app.store;
    let channel = store.channel_no(BACK).await?;
    let desk = site.app.desk().await?;
    let (mut runs, mut details) = (Vec::new(), Map::new());
    for counted in settings.rounds() {
        let dispatch = site.planned().await?;
        let n = dispatch.deliveries;
        store.make_up_sent(dispatch.no).await?;
        let callbacks: Vec<Query> = ids(store, dispatch.no, n).map(|id| query(&id)).collect();
        store.settle().await?;
        let groups = desk.counts.receipt_groups.get();
        peak::reset();
        let took = call(&desk, callbacks.clone(), settings.at_once()).await?;
        let held = peak::read();
        let groups = i64::try_from(desk.counts.receipt_groups.get() - groups).unwrap_or(i64::MAX);
        let counts = store.delivery_counts(dispatch.no).await?;
        let delivered = counts.iter().find(|c| c.state == State::Delivered.code()).map_or(0, |c| c.n);
        anyhow::ensure!(delivered == n, "{delivered} of {n} became delivered: {counts:?}");
        store.make_up_sent(dispatch.no).await?;
        let group = usize::try_from(n / groups.max(1)).unwrap_or(1).max(1);
        let bare = bare(store, (channel, dispatch.no, group), &callbacks).await?;
        store.empty_ledger().await?;
        details.insert("group".into(), group.into());
        if counted {
            runs.push(Run::new(n, took, bare, held));
        }
    }
    site.close().await?;
    details.insert("callbacks_at_once".into(), settings.at_once().into());
    let ceiling =
        "the INSERT and the UPDATE they come down to, in groups of the same size, sealed and matched beforehand";
    Ok(Measured { name: "receipts", ceiling, runs, details })
}

/// The ids that the deliveries of a dispatch were sent under.
pub(super) fn ids(store: &Store, dispatch_no: i64, n: i64) -> impl Iterator<Item = String> {
    let dispatch_no = u32::try_from(dispatch_no).unwrap_or(u32::MAX);
    (1..=n).map(move |ordinal| {
        let of = DeliveryRef { dispatch_no, ordinal: u32::try_from(ordinal).unwrap_or(u32::MAX), attempt: 1 };
        store.vault.client_id(of).to_string()
    })
}

/// What Kannel puts into its callback about a message.
pub(super) fn query(id: &str) -> Query {
    [("id", id), ("status", "1"), ("time", "1780279200"), ("token", PASSWORD)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

/// As they stand in a URL: nothing of them needs to be escaped.
pub(super) fn joined(query: &Query) -> String {
    query.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// Hands them all in, so many at once, and waits for every answer.
async fn call(desk: &ReceiptDesk, callbacks: Vec<Query>, at_once: usize) -> anyhow::Result<Duration> {
    let (callbacks, next) = (Arc::new(callbacks), Arc::new(AtomicUsize::new(0)));
    let mut callers = JoinSet::new();
    let began = Instant::now();
    for _ in 0..at_once {
        let (desk, callbacks, next) = (desk.clone(), Arc::clone(&callbacks), Arc::clone(&next));
        callers.spawn(async move {
            while let Some(query) = callbacks.get(next.fetch_add(1, Ordering::Relaxed)) {
                let callback = Callback { method: "GET", query, headers: &[], body: &[], now: desk.store.now() };
                desk.take(BACK, &callback).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = callers.join_next().await {
        done??;
    }
    Ok(began.elapsed())
}

async fn bare(
    store: &Store,
    (channel, dispatch_no, group): (i32, i64, usize),
    callbacks: &[Query],
) -> anyhow::Result<Duration> {
    let (delivered, first) = (State::Delivered.code(), 1_000_000_000_i64);
    let made: Vec<BareCallback> = (first..)
        .step_by(group)
        .zip(callbacks.chunks(group))
        .map(|(no, callbacks)| {
            let kept = (no..).zip(callbacks).map(|(no, query)| KeptReceipt {
                no,
                gateway_id: String::new(),
                state: delivered,
                code: "1".to_owned(),
                event_at: Some(1_780_279_200_000),
                to: Some((dispatch_no, no - first + 1, 1)),
                raw_sealed: Some(store.vault.seal(Owner::Receipt(0), joined(query).as_bytes())),
            });
            store.bare_callback(dispatch_no, delivered, kept.collect())
        })
        .collect();
    store.settle().await?;
    let (began, at) = (Instant::now(), store.now());
    for group in &made {
        store.bare_receipts(channel, at, group).await?;
    }
    Ok(began.elapsed())
}
