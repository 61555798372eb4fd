//! What a fleet is given to send while it suffers, and how it is seen to have recovered.

use std::time::Instant;

use gong::app::prepare::Wish;
use gong::domain::item::Lane;

use super::Fleet;
use crate::rig::{self, SOON, delivery_of, until};
use crate::site::{ALERT, wish};
use crate::support::tell;

impl Fleet {
    /// Sends an alert to everybody: in doubt it is repeated, so all of it arrives.
    pub async fn alert(&self) -> i64 {
        let item = self.site.approve(&self.app, ALERT).await;
        self.site.send(&self.app, &item, &wish("all", "sms")).await.no
    }

    /// The same in the lane behind, so that what is sent next need not wait for its end.
    pub async fn load(&self) -> i64 {
        let item = self.site.approve(&self.app, ALERT).await;
        let behind = Some((Lane::Prompt.number(), "a load".to_owned()));
        self.site.send(&self.app, &item, &Wish { lane: behind, ..wish("all", "sms") }).await.no
    }

    /// Sends an alert to one person, as soon as the store takes it; who that is must have
    /// been settled before by [`Self::with_probe`].
    async fn probe(&self) -> i64 {
        let mut made = None;
        until("the store takes a dispatch", SOON, async || {
            let item = self.probe.as_deref().expect("a probe");
            let Ok(prepared) = self.app.prepare(item, &wish("list:试发", "sms"), "李四").await else {
                return false;
            };
            made = self.app.store.create_dispatch(&prepared.new).await.ok();
            made.is_some()
        })
        .await;
        made.unwrap().no
    }

    /// With an alert to one person at hand.
    pub async fn with_probe(mut self) -> Self {
        rig::import_list(&self.app, self.site.dir.path(), "试发", "外部编号,备注\np0,试\n").await;
        self.probe = Some(self.site.approve(&self.app, ALERT).await);
        self
    }

    /// A fault is over: waits until a dispatch made after it has gone out, planned, claimed
    /// and sent after it; nothing that was on hand before can stand for that. Keeps how long
    /// that took.
    pub async fn recovered(&self, what: &str) {
        let (at, mut since) = (Instant::now(), 0);
        rig::log_since(self.gateway.addr, &mut since).await;
        let probe = self.probe().await;
        until(what, SOON, async || {
            let fresh = rig::log_since(self.gateway.addr, &mut since).await;
            fresh.iter().any(|entry| delivery_of(&self.app, entry).0 == probe)
        })
        .await;
        tell(what, at.elapsed());
    }

    /// So many workers are back, and say so.
    pub async fn all_work(&self, workers: usize) {
        until("all workers are there", SOON, async || self.working().await == workers).await;
    }
}
