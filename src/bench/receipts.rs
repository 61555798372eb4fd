//! Receipts by client id, a hundred a callback, each callback on disk before it is
//! answered.

use std::time::{Duration, Instant};

use serde_json::Map;

use super::dispatch::persons_for;
use super::site::{CHANNEL, Site};
use super::{Measured, Run, Settings, peak, rehearsal};
use crate::channel::{Receipt, ReceiptKey};
use crate::domain::delivery::{State, Word};
use crate::domain::ids::DeliveryRef;
use crate::store::Store;
use crate::store::bare::BareCallback;
use crate::store::receipts::rows::KeptReceipt;
use crate::vault::Owner;

/// Receipts a callback.
const CALLBACK: usize = 100;

pub(super) async fn run(settings: &Settings, n: i64) -> anyhow::Result<Measured> {
    let site = Site::open(settings, rehearsal(), None).await?;
    site.people(persons_for(n)).await?;
    let store = &site.app.store;
    let channel = store.channel_no(CHANNEL).await?;
    let mut runs = Vec::new();
    for _ in 0..settings.runs {
        let dispatch = site.planned().await?;
        let n = dispatch.deliveries;
        store.make_up_sent(dispatch.no).await?;
        let receipts = receipts(store, dispatch.no, n);
        store.settle().await?;
        peak::reset();
        let began = Instant::now();
        for callback in receipts.chunks(CALLBACK) {
            store.record_receipts(channel, callback).await?;
        }
        let took = began.elapsed();
        let held = peak::read();
        let counts = store.delivery_counts(dispatch.no).await?;
        let delivered = counts.iter().find(|c| c.state == State::Delivered.code()).map_or(0, |c| c.n);
        anyhow::ensure!(delivered == n, "{delivered} of {n} became delivered: {counts:?}");
        store.make_up_sent(dispatch.no).await?;
        let bare = bare(store, (channel, dispatch.no), &receipts).await?;
        store.empty_ledger().await?;
        runs.push(Run::new(n, took, bare, held));
    }
    site.close().await?;
    let ceiling = "the INSERT and the UPDATE they come down to, a hundred a transaction, sealed and matched beforehand";
    Ok(Measured { name: "receipts", ceiling, runs, details: Map::new() })
}

fn receipts(store: &Store, dispatch_no: i64, n: i64) -> Vec<Receipt> {
    let dispatch_no = u32::try_from(dispatch_no).unwrap_or(u32::MAX);
    (1..=n)
        .map(|ordinal| {
            let of = DeliveryRef { dispatch_no, ordinal: u32::try_from(ordinal).unwrap_or(u32::MAX), attempt: 1 };
            let id = store.vault.client_id(of);
            Receipt {
                key: ReceiptKey::Client(id),
                word: Some(Word::Delivered),
                gone: false,
                code: "1".to_owned(),
                event_at: None,
                raw: format!("id={id}&status=1&time=1780279200"),
            }
        })
        .collect()
}

async fn bare(store: &Store, (channel, dispatch_no): (i32, i64), receipts: &[Receipt]) -> anyhow::Result<Duration> {
    let (delivered, first) = (State::Delivered.code(), 1_000_000_000_i64);
    let made: Vec<BareCallback> = (first..)
        .step_by(CALLBACK)
        .zip(receipts.chunks(CALLBACK))
        .map(|(no, callback)| {
            let kept = (no..).zip(callback).map(|(no, r)| KeptReceipt {
                no,
                gateway_id: String::new(),
                state: delivered,
                code: r.code.clone(),
                event_at: None,
                to: Some((dispatch_no, no - first + 1, 1)),
                raw_sealed: Some(store.vault.seal(Owner::Receipt(0), r.raw.as_bytes())),
            });
            store.bare_callback(dispatch_no, delivered, kept.collect())
        })
        .collect();
    store.settle().await?;
    let (began, at) = (Instant::now(), store.now());
    for callback in &made {
        store.bare_receipts(channel, at, callback).await?;
    }
    Ok(began.elapsed())
}
