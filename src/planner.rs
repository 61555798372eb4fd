//! audience → snapshot → deliveries → batches, and the later steps for those not reached.
//!
//! One chunk at a time, the most urgent dispatch first; a chunk's width follows the
//! time the last one took, so that no write transaction keeps others waiting.
//!
//! It does not wait for the workers: what is planned costs rows and no messages, the
//! books need the whole audience early (how many, at what cost, whom it cannot reach),
//! and a batch is only a number in the queue. What is bounded is what workers hold.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::channel::{Channel, Target};
use crate::cluster::leading::Leading;
use crate::domain::audience::Attributes;
use crate::domain::calls::round;
use crate::domain::item::Lane;
use crate::domain::plan::VISIT;
use crate::domain::quiet::QuietHours;
use crate::store::audience::Audience;
use crate::store::dispatches::{Dispatch, Mode};
use crate::store::snapshot::{Chunking, StepChannel};
use crate::store::{Result, Store, StoreError};
use crate::telemetry::Counts;

/// The longest a write transaction should take.
const BUDGET: Duration = Duration::from_millis(60);
const TICK: Duration = Duration::from_millis(100);
/// Members a chunk, at least and at most.
const WIDTHS: (usize, usize) = (500, 16_000);
/// How long a dispatch that cannot be planned waits before it is tried again.
const PUT_OFF: Duration = Duration::from_secs(5);
/// Recipients read ahead, in one look at the audience.
const PAGE: i64 = 100_000;

/// The channel that stands in for every other in a dry run.
pub const REHEARSAL: &str = "rehearsal";

/// A channel as the planner needs it.
#[derive(Clone)]
pub struct PlannedChannel {
    pub no: i32,
    pub name: String,
    pub kind: Target,
    /// Parts a second.
    pub rate: f64,
}

impl PlannedChannel {
    #[must_use]
    pub fn of(no: i32, name: &str, channel: &dyn Channel) -> Self {
        Self { no, name: name.to_owned(), kind: channel.target(), rate: channel.limits().rate }
    }

    /// Deliveries a batch: a minute's worth, 1 to 1,000.
    #[must_use]
    pub fn batch_size(&self) -> i64 {
        #[allow(clippy::cast_possible_truncation)] // clamped first
        let minute = (self.rate * 60.0).clamp(1.0, 1_000.0) as i64;
        minute
    }
}

/// Plans dispatches until told to stop.
#[derive(Clone)]
pub struct Planner {
    pub store: Arc<Store>,
    pub channels: Vec<PlannedChannel>,
    pub attributes: Attributes,
    pub quiet: QuietHours,
    /// Told when batches became ready, or a dispatch was created.
    pub wake: Arc<Notify>,
    pub stop: CancellationToken,
    /// One planner plans at a time.
    pub leading: Leading,
    pub counts: Arc<Counts>,
}

/// How far the planner has read and how wide its chunks are.
#[derive(Debug)]
pub struct Pace {
    width: usize,
    page: Page,
    /// Dispatches that could not be planned, and when to try again; the others go on.
    put_off: HashMap<i64, Instant>,
}

/// Recipients of one dispatch, read and not yet written.
#[derive(Debug, Default)]
struct Page {
    dispatch_no: i64,
    /// Where the dispatch's cursor stands when these are next: where it does not,
    /// another planner has been at work.
    cursor_no: i64,
    recipients: Vec<i64>,
    at: usize,
    /// Nobody comes after these.
    last: bool,
}

impl Page {
    fn continues(&self, d: &Dispatch) -> bool {
        self.dispatch_no == d.no && self.cursor_no == d.cursor_no && self.at < self.recipients.len()
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self { width: 4_000, page: Page::default(), put_off: HashMap::new() }
    }
}

impl Planner {
    /// Runs until told to stop.
    pub async fn run(self) {
        let mut pace = Pace::default();
        while !self.stop.is_cancelled() {
            if !self.leading.holds() {
                // Who plans meanwhile reads on from where this one stands.
                pace = Pace::default();
                self.rest().await;
                continue;
            }
            match self.store.at_last(self.step(&mut pace)).await {
                Ok(true) => self.wake.notify_waiters(),
                Ok(false) => self.rest().await,
                Err(error) => {
                    tracing::warn!(%error, "the planner could not go on; trying again");
                    pace.page = Page::default();
                    self.rest().await;
                }
            }
        }
    }

    async fn rest(&self) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep(TICK) => {}
        }
    }

    /// Plans one chunk of the most urgent dispatch that has something to plan.
    pub async fn step(&self, pace: &mut Pace) -> Result<bool> {
        let now = self.store.now();
        let mut open = self.store.soon(self.store.dispatches(true)).await?;
        open.retain(|d| {
            let due = d.phase == "waiting" && d.step_due_at.is_some_and(|at| at <= now);
            let put_off = pace.put_off.get(&d.no).is_some_and(|at| *at > Instant::now());
            let open = d.state == "active" && d.expires_at > now && !put_off;
            open && (due || d.phase == "snapshot" || d.phase == "plan")
        });
        let Some(next) = open.into_iter().min_by_key(|d| (d.lane, d.no)) else { return Ok(false) };
        let span = tracing::info_span!("plan", dispatch = next.no, phase = next.phase);
        if let Err(error) = self.plan(&next, pace).instrument(span).await {
            tracing::warn!(dispatch = next.no, %error, "cannot be planned now; the others go on");
            pace.page = Page::default();
            let failed_before = pace.put_off.insert(next.no, Instant::now() + PUT_OFF).is_some();
            // Somebody who went away while the audience was read is worth no alarm.
            if failed_before && matches!(error, StoreError::Refused(_) | StoreError::Damaged(_)) {
                self.counts.unready.note((next.no, None), tokio::time::Instant::now());
            }
        }
        Ok(true)
    }

    async fn plan(&self, next: &Dispatch, pace: &mut Pace) -> Result<()> {
        if next.phase == "waiting" {
            return self.store.begin_step(next, next.step + 1).await;
        }
        if next.mode == Mode::Call {
            return self.plan_call(next, pace).await;
        }
        if next.phase == "snapshot" && !pace.page.continues(next) {
            pace.page = self.read_page(next).await?;
        }
        let began = Instant::now();
        self.chunk(next, pace).await?;
        crate::failpoint::at!("between_chunks");
        let took = began.elapsed();
        if took > BUDGET {
            pace.width = (pace.width / 2).max(WIDTHS.0);
        } else if took < BUDGET / 2 {
            pace.width = (pace.width * 2).min(WIDTHS.1);
        }
        Ok(())
    }

    /// Asks the next officer of each village that nobody has confirmed, once it is known
    /// which villages the dispatch goes to.
    async fn plan_call(&self, call: &Dispatch, pace: &mut Pace) -> Result<()> {
        let about = self.store.called_about(call).await?;
        if about.phase.ends_with("snapshot") && about.state == "active" {
            pace.put_off.insert(call.no, Instant::now() + TICK);
            return Ok(());
        }
        let villages = self.store.called_villages(about.no).await?;
        let (asks, further) = round(&villages, call.no);
        let at = usize::try_from(if call.phase == "snapshot" { 0 } else { call.step }).unwrap_or(0);
        let Some(step) = call.plan.steps.get(at) else {
            return Err(StoreError::Damaged(format!("call {} has no step {at}", call.no)));
        };
        let channels = step.channels.iter().map(|name| self.channel(name, call.mode)).collect::<Result<Vec<_>>>()?;
        let next = further && at + 1 < call.plan.steps.len();
        let job = Chunking {
            dispatch: call,
            channels: &channels,
            opt_out_kind: None,
            defer_until: None,
            next_step_at: next.then(|| self.store.now() + step.wait),
        };
        let asked = self.store.call_step(&job, i32::try_from(at).unwrap_or(0), &asks).await?.deliveries;
        tracing::info!(call = call.no, about = about.no, step = at, asked, "asked duty officers");
        Ok(())
    }

    async fn read_page(&self, d: &Dispatch) -> Result<Page> {
        let content = self.store.item_version(&d.item_id, d.item_version).await?;
        let audience = self.audience(d, content.scope.as_deref()).await?;
        let recipients = self.store.audience_page(&audience, d.cursor_no, PAGE).await?;
        let last = i64::try_from(recipients.len()).unwrap_or(0) < PAGE;
        Ok(Page { dispatch_no: d.no, cursor_no: d.cursor_no, recipients, at: 0, last })
    }

    async fn chunk(&self, d: &Dispatch, pace: &mut Pace) -> Result<()> {
        let content = self.store.item_version(&d.item_id, d.item_version).await?;
        let at = usize::try_from(if d.phase == "snapshot" { 0 } else { d.step }).unwrap_or(0);
        let Some(step) = d.plan.steps.get(at) else {
            return Err(StoreError::Damaged(format!("dispatch {} has no step {at}", d.no)));
        };
        let channels = step.channels.iter().map(|name| self.channel(name, d.mode)).collect::<Result<Vec<_>>>()?;
        let job = Chunking {
            dispatch: d,
            channels: &channels,
            opt_out_kind: content.honours_opt_out().then(|| content.kind.name()),
            defer_until: if d.lane == Lane::Routine as i32 { self.quiet.until(self.store.now()) } else { None },
            next_step_at: (at + 1 < d.plan.steps.len()).then(|| self.store.now() + step.wait),
        };
        let chunk = if d.phase == "snapshot" {
            let read = &mut pace.page;
            let to = read.recipients.len().min(read.at + pace.width);
            let last = read.last && to == read.recipients.len();
            let chunk = self.store.snapshot_chunk(&job, &read.recipients[read.at..to], last).await?;
            read.at = to;
            read.cursor_no = read.recipients[..to].last().copied().unwrap_or(d.cursor_no);
            chunk
        } else {
            self.store.step_chunk(&job, d.step, i64::try_from(pace.width).unwrap_or(i64::MAX)).await?
        };
        if chunk.done {
            tracing::info!(dispatch = d.no, step = at, "planned");
        }
        Ok(())
    }

    /// The predicate of the dispatch: its audience, within the item's widest scope
    /// whatever changed since it was sent.
    async fn audience(&self, d: &Dispatch, scope: Option<&str>) -> Result<String> {
        let audience = resolve(&self.store, &d.canonical, &self.attributes, &self.quiet).await?;
        Ok(match scope {
            None => audience.predicate,
            Some(scope) => {
                let scope = resolve(&self.store, scope, &self.attributes, &self.quiet).await?;
                format!("({}) AND ({})", audience.predicate, scope.predicate)
            }
        })
    }

    fn channel(&self, name: &str, mode: Mode) -> Result<StepChannel> {
        if name == VISIT {
            let visit = self.find(VISIT)?;
            return Ok(StepChannel { no: visit.no, stands_for: visit.no, kind: Target::Visit, batch_size: 1 });
        }
        let declared = self.find(name)?;
        // Nothing leaves in a dry run: the rehearsal takes it all.
        let real = if mode == Mode::Dry { self.find(REHEARSAL)? } else { declared };
        Ok(StepChannel { no: real.no, stands_for: declared.no, kind: declared.kind, batch_size: real.batch_size() })
    }

    fn find(&self, name: &str) -> Result<&PlannedChannel> {
        self.channels.iter().find(|c| c.name == name).ok_or_else(|| {
            StoreError::Refused(crate::say!("没有名为“{name}”的渠道", "there is no channel named `{name}`"))
        })
    }
}

/// Resolves an expression as of today in the site's time zone.
pub async fn resolve(store: &Store, text: &str, attributes: &Attributes, site: &QuietHours) -> Result<Audience> {
    let refused = |e: String| StoreError::Refused(e);
    let expr = crate::domain::audience::parse(text).map_err(|e| refused(e.to_string()))?;
    store.resolve_audience(&expr, attributes, today(store, site)).await.map_err(|e| refused(e.to_string()))
}

/// Today as yyyymmdd.
#[must_use]
pub fn today(store: &Store, site: &QuietHours) -> i32 {
    let Ok(now) = jiff::Timestamp::from_millisecond(store.now()) else { return 0 };
    let date = now.to_zoned(site.zone.clone()).date();
    i32::from(date.year()) * 10_000 + i32::from(date.month()) * 100 + i32::from(date.day())
}

/// Which addresses a step's channels use, as stored.
#[must_use]
pub fn address_kinds(channels: &[StepChannel]) -> Vec<i32> {
    let kind = |c: &StepChannel| if let Target::Address(kind) = c.kind { Some(kind as i32) } else { None };
    let mut kinds: Vec<i32> = channels.iter().filter_map(kind).collect();
    kinds.dedup();
    kinds
}
