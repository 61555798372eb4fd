//! What a worker knows of a dispatch: its texts and how its doubts are settled.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::paper::{Paper, SheetMaker};
use super::retry::RetrySettings;
use super::worker::Way;
use crate::channel::{Channel, Limits, Outgoing, Target};
use crate::clock::Millis;
use crate::domain::delivery::Reason;
use crate::domain::ids::{CallRef, DeliveryRef};
use crate::domain::item::{Content, Lane};
use crate::render::compose::{Composer, Sender};
use crate::render::following::Following;
use crate::render::messages::{Medium, Messages};
use crate::store::batches::{Lease, Settling};
use crate::store::dispatches::{Dispatch, Mode};
use crate::store::sheets::Boards;
use crate::store::waiting::Waiting;
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
    says: Says,
}

/// What makes a delivery's text.
enum Says {
    Message(Box<Mutex<Composer>>),
    Sheet(Box<SheetMaker>),
}

/// A delivery ready to hand over.
#[derive(Debug)]
pub struct Ready {
    pub row: Row,
    pub out: Outgoing,
}

/// What of a delivery is needed once its message is handed over.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub ordinal: i64,
    pub attempt: i32,
    pub failures: i32,
    pub target: i64,
    /// Billable parts of its message.
    pub parts: u32,
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
    templates: Following,
    site: Site,
    /// Where people reach this site, without a slash at the end.
    public_url: Option<String>,
    paper: Paper,
    kept: Mutex<HashMap<(i64, i32), Arc<Job>>>,
}

impl Jobs {
    #[must_use]
    pub fn new(store: Arc<Store>, templates: Following, site: Site) -> Self {
        let paper = Paper { public_url: String::new(), zone: jiff::tz::TimeZone::UTC };
        Self { store, templates, site, public_url: None, paper, kept: Mutex::default() }
    }

    /// With links that people can open under this address.
    #[must_use]
    pub fn linking_to(mut self, public_url: Option<String>) -> Self {
        self.public_url = public_url;
        self
    }

    /// The same, with what sheets say of the site.
    #[must_use]
    pub fn on(self, paper: Paper) -> Self {
        Self { paper, ..self }
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
        let unit = if unit.name.is_empty() { &self.site } else { &unit };
        let says = match channel.target() {
            Target::Point => Says::Sheet(Box::new(SheetMaker::new(content.clone(), unit, &dispatch, &self.paper))),
            _ => Says::Message(Box::new(Mutex::new(self.composer((&dispatch, &content), unit, way).await?))),
        };
        let repeatable = channel.limits().idempotent || is_repeated(&content, dispatch.lane);
        let job = Arc::new(Job {
            dispatch,
            repeatable,
            may_opt_out: content.honours_opt_out(),
            channel: (way.name.clone(), channel.target()),
            says,
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

    /// What makes the messages of a dispatch on a way.
    async fn composer(&self, (dispatch, content): (&Dispatch, &Content), unit: &Site, way: &Way) -> Result<Composer> {
        let made = if dispatch.mode == Mode::Call {
            let mark = self.store.called_about(dispatch).await?.mode.mark();
            let sender = Sender { name: &unit.name, phone: &unit.phone, signature: &way.signature, mark };
            Composer::call(&self.templates.current(), content, &sender)
        } else {
            compose(&self.templates.current(), (way.channel.medium(), content), unit, &way.signature, dispatch.mode)
        };
        made.and_then(|made| fitting(made, way.channel.limits())).map_err(|e| StoreError::Refused(e.to_string()))
    }

    /// Gives the rows of a call their variables: the village, the link to confirm by
    /// (empty where the site has no public address), and whether a reply is heard.
    pub async fn fill_call(&self, lease: Lease, way: &Way, rows: &mut [Waiting]) -> Result<()> {
        let places: HashMap<i64, String> = self.store.call_places(lease).await?.into_iter().collect();
        let call_no = u32::try_from(lease.dispatch_no).unwrap_or(u32::MAX);
        for row in rows {
            let of = CallRef { call_no, ordinal: u32::try_from(row.ordinal).unwrap_or(u32::MAX) };
            let link = self.public_url.as_ref().map(|url| format!("{url}/c/{}", self.store.vault.call_token(of)));
            row.own = Some(json!({
                "village": places.get(&row.ordinal).map_or("", String::as_str),
                "link": link.unwrap_or_default(),
                "replies": way.channel.hears_replies(),
            }));
        }
        Ok(())
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

/// The same texts, made to fit the channel where it says how.
pub fn fitting(made: Composer, limits: &Limits) -> std::result::Result<Composer, crate::render::RenderError> {
    made.within(limits.max_bytes, limits.read_on.as_deref())
}

/// Where a gateway cannot tell a repeat, the item decides: what is urgent is said
/// twice rather than not at all, a routine notice waits for a receipt.
#[must_use]
pub fn is_repeated(content: &Content, lane: i32) -> bool {
    lane != Lane::Routine as i32 && !content.honours_opt_out()
}

#[cfg(test)]
impl Job {
    /// One for tests that never ask what it says.
    pub(super) fn of(dispatch: Dispatch) -> Self {
        let messages = Messages::load(None, &jiff::tz::TimeZone::UTC).unwrap();
        let sender = Sender { name: "某局", phone: "12345", signature: "", mark: "" };
        let content = Content::new(crate::domain::item::ItemKind::Notice);
        let made = Composer::new(&messages, Medium::Sms, &content, &sender).unwrap();
        let channel = ("sms".to_owned(), Target::Address(crate::channel::AddressKind::Phone));
        Self {
            dispatch,
            repeatable: true,
            may_opt_out: false,
            channel,
            says: Says::Message(Box::new(Mutex::new(made))),
        }
    }
}

impl Job {
    /// Whether its deliveries are sheets.
    #[must_use]
    pub const fn is_sheets(&self) -> bool {
        matches!(self.says, Says::Sheet(_))
    }

    /// Opens and renders the queued rows of a batch.
    #[must_use]
    pub fn prepare(
        &self,
        store: &Store,
        lease: Lease,
        rows: Vec<Waiting>,
        boards: &Boards,
    ) -> (Vec<Ready>, Vec<Unsendable>) {
        let mut ready = Vec::with_capacity(rows.len());
        let mut not = Vec::new();
        for row in rows {
            let (ordinal, attempt) = (row.ordinal, row.attempt);
            let made = match &self.says {
                Says::Message(composer) => self.prepare_one(store, lease, &row, composer),
                Says::Sheet(maker) => prepare_sheet(store, lease, &row, (maker, boards)),
            };
            match made {
                Ok(out) => {
                    let (failures, target, parts) = (row.failures, row.target, out.parts);
                    ready.push(Ready { row: Row { ordinal, attempt, failures, target, parts }, out });
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
        composer: &Mutex<Composer>,
    ) -> std::result::Result<Outgoing, (Reason, String)> {
        let unreadable = |_| (Reason::Permanent, "sealed data does not open".to_owned());
        let to = match (&self.channel, &row.address_sealed) {
            // The rehearsal stands in for accounts and points too, and needs nobody's address.
            ((name, _), _) if self.dispatch.mode == Mode::Dry => name.clone(),
            ((_, Target::Address(_)), Some(sealed)) if row.gone == Some(0) => {
                store.vault.open_text(Owner::Address(row.target), sealed).map_err(unreadable)?
            }
            ((_, Target::Address(_)), _) => return Err((Reason::AddressGone, "address gone".to_owned())),
            ((name, _), _) => name.clone(),
        };
        let vars = match (&row.vars_sealed, row.recipient_no, self.dispatch.list_no) {
            _ if row.own.is_some() => row.own.clone().unwrap_or_default(),
            (Some(sealed), Some(recipient), Some(list)) => {
                let json = store.vault.open_sealed(Owner::ListRow(list, recipient), sealed).map_err(unreadable)?;
                serde_json::from_slice(&json).unwrap_or(Value::Null)
            }
            _ => Value::Null,
        };
        let (text, facts) = match composer.lock() {
            Ok(mut composer) => {
                let text =
                    composer.text(vars).map_err(|_| (Reason::Permanent, "the text lacks a variable".to_owned()))?;
                (text, composer.facts())
            }
            Err(_) => return Err((Reason::Permanent, "the text cannot be made".to_owned())),
        };
        Ok(Outgoing {
            client_id: store.vault.client_id(reference(lease, row)),
            to: to.into(),
            title: text.title,
            text: text.text,
            html: text.html,
            facts,
            parts: text.parts,
            may_opt_out: self.may_opt_out,
        })
    }
}

fn reference(lease: Lease, row: &Waiting) -> DeliveryRef {
    DeliveryRef {
        dispatch_no: u32::try_from(lease.dispatch_no).unwrap_or(u32::MAX),
        ordinal: u32::try_from(row.ordinal).unwrap_or(u32::MAX),
        attempt: u16::try_from(row.attempt).unwrap_or(u16::MAX),
    }
}

/// The sheet of one point, ready to print.
fn prepare_sheet(
    store: &Store,
    lease: Lease,
    row: &Waiting,
    (maker, boards): (&SheetMaker, &Boards),
) -> std::result::Result<Outgoing, (Reason, String)> {
    let gone = || (Reason::Permanent, "the point is gone".to_owned());
    let at = boards.rows.get(&row.ordinal).ok_or_else(gone)?;
    let before = boards.before.get(&at.point_no).map_or(&[][..], Vec::as_slice);
    let sheet = maker.make(&store.vault, at, before);
    let text = serde_json::to_string(&sheet.document).map_err(|e| (Reason::Permanent, e.to_string()))?;
    Ok(Outgoing {
        client_id: store.vault.client_id(reference(lease, row)),
        to: sheet.path.into(),
        title: sheet.title.into(),
        text: text.into(),
        html: None,
        facts: None,
        parts: 1,
        may_opt_out: false,
    })
}

/// What becomes of rows of a batch of which nobody knows whether they were sent. `way`
/// is the batch's channel, where this engine knows it.
pub async fn settling(store: &Store, retry: &RetrySettings, (lease, way): (Lease, Option<&Way>)) -> Result<Settling> {
    let now = store.now();
    let dispatch = store.dispatch(&lease.dispatch_no.to_string()).await?;
    let content = store.item_version(&dispatch.item_id, dispatch.item_version).await?;
    let repeat = is_repeated(&content, dispatch.lane) || way.is_some_and(|w| w.channel.limits().idempotent);
    let wait: Millis = way.map_or(0, |w| receipt_wait(&*w.channel));
    Ok(Settling { repeat, at: now + if repeat { retry.settle_ms } else { wait }, leased_before: Millis::MAX })
}

/// What the worker must know of time for a delivery on this channel.
#[must_use]
pub fn receipt_wait(channel: &dyn Channel) -> Millis {
    Millis::try_from(channel.limits().receipt_wait.as_millis()).unwrap_or(Millis::MAX / 4)
}
