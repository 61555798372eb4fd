//! What a worker knows of a dispatch: its texts and how its doubts are settled.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::worker::Way;
use crate::channel::{Channel, Outgoing, Target};
use crate::clock::Millis;
use crate::domain::delivery::Reason;
use crate::domain::ids::DeliveryRef;
use crate::domain::item::{Content, Lane};
use crate::render::compose::{Composer, Sender};
use crate::render::messages::{Medium, Messages};
use crate::store::batches::{Lease, Waiting};
use crate::store::dispatches::{Dispatch, Mode};
use crate::store::{Result, Store, StoreError};
use crate::vault::Owner;

/// The site, as texts name it.
#[derive(Debug, Clone)]
pub struct Site {
    pub name: String,
    pub phone: String,
}

/// One dispatch on one channel.
pub struct Job {
    pub dispatch: Dispatch,
    /// A doubtful delivery may go again under the same client id.
    pub repeatable: bool,
    /// Its recipients may ask to get no more of its kind.
    may_opt_out: bool,
    /// The channel's name, and what its deliveries go to.
    channel: (String, Target),
    composer: Mutex<Composer>,
}

/// A delivery ready to hand over.
#[derive(Debug)]
pub struct Ready {
    pub ordinal: i64,
    pub attempt: i32,
    pub failures: i32,
    pub target: i64,
    pub out: Outgoing,
}

/// A delivery that cannot be handed over at all.
#[derive(Debug)]
pub struct Unsendable {
    pub ordinal: i64,
    pub attempt: i32,
    pub reason: Reason,
    pub code: String,
}

/// Makes jobs and keeps them while their dispatch goes on.
pub struct Jobs {
    store: Arc<Store>,
    messages: Messages,
    site: Site,
    kept: Mutex<HashMap<(i64, i32), Arc<Job>>>,
}

impl Jobs {
    #[must_use]
    pub fn new(store: Arc<Store>, messages: Messages, site: Site) -> Self {
        Self { store, messages, site, kept: Mutex::default() }
    }

    /// The job of `dispatch_no` on a channel.
    pub async fn job(&self, dispatch_no: i64, way: &Way) -> Result<Arc<Job>> {
        let (no, channel) = (way.no, &*way.channel);
        let found = self.kept.lock().map_or(None, |kept| kept.get(&(dispatch_no, no)).cloned());
        if let Some(job) = found {
            return Ok(job);
        }
        let dispatch = self.store.dispatch(&dispatch_no.to_string()).await?;
        let content = self.store.item_version(&dispatch.item_id, dispatch.item_version).await?;
        let item = self.store.item(&dispatch.item_id).await?;
        let unit = Site { name: item.unit, phone: item.unit_phone };
        let composer = compose(
            &self.messages,
            (channel.medium(), &content),
            if unit.name.is_empty() { &self.site } else { &unit },
            &way.signature,
            dispatch.mode,
        )
        .map_err(|e| StoreError::Refused(e.to_string()))?;
        let repeatable = channel.limits().idempotent || is_repeated(&content, dispatch.lane);
        let job = Arc::new(Job {
            dispatch,
            repeatable,
            may_opt_out: content.honours_opt_out(),
            channel: (way.name.clone(), channel.target()),
            composer: Mutex::new(composer),
        });
        if let Ok(mut kept) = self.kept.lock() {
            // A handful of dispatches are under way at once; forget the old ones.
            if kept.len() > 64 {
                kept.clear();
            }
            kept.insert((dispatch_no, no), Arc::clone(&job));
        }
        Ok(job)
    }
}

/// The texts of an item on a channel.
pub fn compose(
    messages: &Messages,
    (medium, content): (Medium, &Content),
    unit: &Site,
    signature: &str,
    mode: Mode,
) -> std::result::Result<Composer, crate::render::RenderError> {
    Composer::new(
        messages,
        medium,
        content,
        &Sender { name: &unit.name, phone: &unit.phone, signature, mark: mode.mark() },
    )
}

/// Where a gateway cannot tell a repeat, the item decides: what is urgent is said
/// twice rather than not at all, a routine notice waits for a receipt.
#[must_use]
pub fn is_repeated(content: &Content, lane: i32) -> bool {
    lane != Lane::Routine as i32 && !content.honours_opt_out()
}

impl Job {
    /// Opens and renders the queued rows of a batch.
    #[must_use]
    pub fn prepare(&self, store: &Store, lease: Lease, rows: Vec<Waiting>) -> (Vec<Ready>, Vec<Unsendable>) {
        let mut ready = Vec::with_capacity(rows.len());
        let mut not = Vec::new();
        for row in rows {
            let (ordinal, attempt) = (row.ordinal, row.attempt);
            match self.prepare_one(store, lease, &row) {
                Ok(out) => {
                    ready.push(Ready { ordinal, attempt, failures: row.failures, target: row.target, out });
                }
                Err((reason, code)) => not.push(Unsendable { ordinal, attempt, reason, code }),
            }
        }
        (ready, not)
    }

    fn prepare_one(
        &self,
        store: &Store,
        lease: Lease,
        row: &Waiting,
    ) -> std::result::Result<Outgoing, (Reason, String)> {
        let unreadable = |_| (Reason::Permanent, "sealed data does not open".to_owned());
        let to = match (&self.channel, &row.address_sealed) {
            ((_, Target::Address(_)), Some(sealed)) if row.gone == Some(0) => {
                store.vault.open_text(Owner::Address(row.target), sealed).map_err(unreadable)?
            }
            ((_, Target::Address(_)), _) => return Err((Reason::AddressGone, "address gone".to_owned())),
            ((name, _), _) => name.clone(),
        };
        let vars = match (&row.vars_sealed, row.recipient_no, self.dispatch.list_no) {
            (Some(sealed), Some(recipient), Some(list)) => {
                let json = store.vault.open_sealed(Owner::ListRow(list, recipient), sealed).map_err(unreadable)?;
                serde_json::from_slice(&json).unwrap_or(Value::Null)
            }
            _ => Value::Null,
        };
        let text = match self.composer.lock() {
            Ok(mut composer) => {
                composer.text(vars).map_err(|_| (Reason::Permanent, "the text lacks a variable".to_owned()))?
            }
            Err(_) => return Err((Reason::Permanent, "the text cannot be made".to_owned())),
        };
        let of = DeliveryRef {
            dispatch_no: u32::try_from(lease.dispatch_no).unwrap_or(u32::MAX),
            ordinal: u32::try_from(row.ordinal).unwrap_or(u32::MAX),
            attempt: u16::try_from(row.attempt).unwrap_or(u16::MAX),
        };
        Ok(Outgoing {
            client_id: store.vault.client_id(of),
            to: to.into(),
            title: text.title,
            text: text.text,
            html: text.html,
            parts: text.parts,
            may_opt_out: self.may_opt_out,
        })
    }
}

/// What the worker must know of time for a delivery on this channel.
#[must_use]
pub fn receipt_wait(channel: &dyn Channel) -> Millis {
    Millis::try_from(channel.limits().receipt_wait.as_millis()).unwrap_or(Millis::MAX / 4)
}
