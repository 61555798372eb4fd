//! The worker of one channel: leases batches, keeps a window of marked deliveries
//! flowing to the gateway, and records what comes back in groups.
//!
//! The window — everything `sending` in the store — never exceeds one second's
//! sends or what the channel declares (twice the in-flight limit where it does not),
//! whichever is less: it is what a crash can leave in doubt. The next rows are marked
//! while earlier ones are still under way, so that a slow gateway does not drain the
//! line.

mod hold;
mod loads;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::OptionFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use self::hold::Hold;
use self::loads::Load;
use super::breaker::Breaker;
use super::control::Control;
use super::job::Jobs;
use super::outcome::{Tried, decide, taken_by};
use super::pacer::Pacer;
use super::retry::RetrySettings;
use super::under_way::hand_over;
use super::window::{Line, Sent, Window};
use crate::channel::{Channel, Class, Outcome};
use crate::clock::Millis;
use crate::cluster::presence::Board;
use crate::domain::item::Lane;
use crate::store::turn::{BatchTurn, Record};
use crate::store::{Result, Store};
use crate::telemetry::Answers;

/// Results are written at the latest after this long.
const FLUSH: Duration = Duration::from_millis(100);
/// How often an idle worker looks for a ready batch nobody told it of.
const IDLE: Duration = Duration::from_millis(250);
/// Loads at the same time; each leases several batches and makes them ready.
const LOADS: usize = 2;
/// How long a turn waits after the store refused one.
const STORE_PAUSE: Duration = Duration::from_millis(500);

/// What a worker works with.
#[derive(Clone)]
pub struct Tools {
    pub store: Arc<Store>,
    pub queue: crate::queue::Queue,
    pub jobs: Arc<Jobs>,
    pub retry: RetrySettings,
    pub control: watch::Receiver<Control>,
    /// Told when batches may have become ready.
    pub wake: Arc<Notify>,
    pub stop: CancellationToken,
    /// Who holds the leases.
    pub owner: String,
    pub quiet: crate::domain::quiet::QuietHours,
    pub counts: Arc<crate::telemetry::Counts>,
    pub board: Arc<Board>,
}

/// The channel a worker serves.
#[derive(Clone)]
pub struct Way {
    pub no: i32,
    pub name: String,
    pub channel: Arc<dyn Channel>,
    pub signature: String,
}

type Turned = (Vec<BatchTurn>, Result<Vec<Vec<i64>>>);

/// The worker itself; [`Worker::run`] is its life.
pub struct Worker {
    tools: Tools,
    way: Way,
    pacer: Pacer,
    line: Line,
    /// Requests whose answer has not come back.
    in_flight: usize,
    answers: (UnboundedSender<Vec<Sent>>, UnboundedReceiver<Vec<Sent>>),
    turn: Option<JoinHandle<Turned>>,
    loads: FuturesUnordered<JoinHandle<Load>>,
    /// Something is new to the line that no operator's decision was laid against yet.
    unobeyed: bool,
    /// Nothing was ready up to a lane when last asked; ask again then, or when woken.
    look_at: (Instant, Lane),
    /// The routine lane alone is asked for again then.
    floor_at: Instant,
    turn_not_before: Instant,
    breaker: Breaker,
    hold: Hold,
    counts: Answers,
}

impl Worker {
    #[must_use]
    pub fn new(tools: Tools, way: Way) -> Self {
        let now = Instant::now();
        let limits = way.channel.limits();
        let window = Window::of(limits.rate, limits);
        Self {
            pacer: Pacer::new(limits.rate, now),
            line: Line::new(window),
            in_flight: 0,
            answers: mpsc::unbounded_channel(),
            turn: None,
            loads: FuturesUnordered::new(),
            unobeyed: true,
            look_at: (now, Lane::Call),
            floor_at: now,
            turn_not_before: now,
            breaker: Breaker::new(now),
            hold: Hold::new(now),
            counts: tools.counts.answers(&way.name),
            tools,
            way,
        }
    }

    /// Works until told to stop, then drains: what is under way is heard out, what
    /// was marked and not sent goes back, leases are returned. No row is left in doubt.
    pub async fn run(mut self) {
        while !(self.tools.stop.is_cancelled() && self.is_drained()) {
            self.obey();
            self.renew();
            self.start_load();
            self.start_turn();
            let due = self.send_due();
            self.wait(due).await;
        }
        for lease in self.line.leases() {
            let store = &self.tools.store;
            if let Err(error) = store.soon(store.release_batch(lease)).await {
                tracing::warn!(channel = self.way.name, batch = lease.no, %error, "cannot return a lease; it will run out");
            }
        }
        self.tools.queue.leave(self.way.no).await;
    }

    fn is_drained(&self) -> bool {
        self.turn.is_none() && self.loads.is_empty() && self.in_flight == 0 && self.line.is_settled()
    }

    /// Takes over what operators decided: rates, pauses, cancels.
    fn obey(&mut self) {
        let stopped = self.tools.stop.is_cancelled();
        // The watcher speaks up several times a second, so that expiries are seen, too.
        if !(self.unobeyed || stopped || self.tools.control.has_changed().unwrap_or(false)) {
            return;
        }
        self.unobeyed = false;
        let control = self.tools.control.borrow_and_update().clone();
        let now = Instant::now();
        self.take_rate(&control, now);
        let limits = self.way.channel.limits();
        self.line.set_window(if self.breaker.is_probing() {
            Window::ONE
        } else {
            Window::of(self.pacer.rate(), limits)
        });
        let clock = self.tools.store.now();
        let stopped = stopped || control.channel_paused(self.way.no);
        self.line.stop_where(|lease| {
            stopped
                || !control.may_send(lease.dispatch_no, clock)
                || lease.lane == Lane::Routine.number() && self.tools.quiet.until(clock).is_some()
        });
        if !self.breaker.lets_through(now) {
            self.line.give_back();
        }
        self.tools.queue.consume((self.way.no, &self.way.name), self.may_start());
    }

    fn may_start(&self) -> bool {
        let paused = self.tools.control.borrow().channel_paused(self.way.no);
        let now = Instant::now();
        !self.tools.stop.is_cancelled() && !paused && self.breaker.lets_through(now) && self.hold.may_send(now)
    }

    fn start_turn(&mut self) {
        if self.turn.is_some() || Instant::now() < self.turn_not_before {
            return;
        }
        let Some(turns) = self.line.next_turn(self.may_start(), FLUSH) else { return };
        let (store, no) = (Arc::clone(&self.tools.store), self.way.no);
        let span = tracing::debug_span!("turn", channel = self.way.name, batches = turns.len());
        self.turn = Some(tokio::spawn(
            async move {
                let done = store.soon(store.turn(no, &turns)).await;
                (turns, done)
            }
            .instrument(span),
        ));
    }

    /// Sends what may go now; says when the next permit holds.
    fn send_due(&mut self) -> Option<Instant> {
        let (limits, now) = (self.way.channel.limits(), Instant::now());
        while self.in_flight < limits.in_flight {
            if !self.hold.may_send(now) {
                return None;
            }
            let at = self.line.next_send_at(|parts| self.pacer.reserve(parts, now))?;
            if at > now {
                self.hold.starved = true;
                return Some(at);
            }
            let request = self.line.take_request(limits.batch, |parts| {
                self.pacer.reserve(parts, now);
            });
            self.in_flight += 1;
            let (channel, clock) = (Arc::clone(&self.way.channel), self.tools.store.clock.clone());
            hand_over(channel, &self.way.name, clock, request, self.answers.0.clone());
        }
        None
    }

    async fn wait(&mut self, due: Option<Instant>) {
        let now = Instant::now();
        let mut until = now + IDLE;
        // Results that are due while a turn runs wait for its end: to wake for them would
        // be to wake at once, again and again, and keep a core from whoever runs the turn.
        let flush = self.line.flush_at(FLUSH).filter(|_| self.turn.is_none()).map(|at| at.max(self.turn_not_before));
        for at in [due, flush, Some(self.look_at.0).filter(|at| *at > now)].into_iter().flatten() {
            until = until.min(at);
        }
        let turn: OptionFuture<_> = self.turn.as_mut().into();
        tokio::select! {
            Some(sent) = self.answers.1.recv() => {
                // Whoever else is back by now: every round through the loop costs.
                tokio::task::yield_now().await;
                let now = Instant::now();
                self.came_back(sent, now);
                while let Ok(sent) = self.answers.1.try_recv() {
                    self.came_back(sent, now);
                }
            }
            Some(done) = turn => {
                self.turn = None;
                match done {
                    Ok(done) => self.turned(done),
                    // What of it is on disk only a takeover can tell.
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                }
            }
            Some(loaded) = self.loads.next(), if !self.loads.is_empty() => {
                let broken = |e: tokio::task::JoinError| (Lane::Call..=Lane::Routine, Instant::now(), Err(crate::store::StoreError::Damaged(e.to_string())));
                self.loaded(loaded.unwrap_or_else(broken));
            }
            Ok(()) = self.tools.control.changed() => self.unobeyed = true,
            () = self.tools.wake.notified() => self.look_at.0 = Instant::now(),
            () = tokio::time::sleep_until(until) => {}
            () = self.tools.stop.cancelled(), if !self.tools.stop.is_cancelled() => {}
        }
    }

    fn turned(&mut self, (turns, done): Turned) {
        match done {
            Ok(marked) => {
                crate::failpoint::at!("after_mark", marked.iter().any(|rows| !rows.is_empty()));
                self.tools.counts.turns.inc_by(u64::from(turns.iter().any(|t| !t.records.is_empty())));
                self.line.turned(&turns, &marked);
                // What was marked while the breaker opened goes back before it is sent.
                self.unobeyed |= !self.breaker.lets_through(Instant::now());
                self.tools.queue.turned(self.way.no, &turns);
            }
            Err(error) => {
                tracing::warn!(channel = self.way.name, %error, "cannot record results; keeping them and trying again");
                self.turn_not_before = Instant::now() + STORE_PAUSE;
                self.line.turn_failed(turns);
                // Nothing goes out while its result could not be kept.
                self.line.give_back();
            }
        }
    }

    fn came_back(&mut self, sent: Vec<Sent>, now: Instant) {
        self.in_flight -= 1;
        for one in sent {
            let throttled = matches!(one.outcome, Outcome::Failed { class: Class::Throttled, .. });
            self.pacer.answered(throttled, now);
            self.hold.heard += u64::from(one.row.parts);
            self.hear(&one.outcome, now);
            self.counts.count(&one.outcome);
            self.record(one);
        }
    }

    /// Stops the channel where its gateway takes nothing at all, and says so once.
    fn hear(&mut self, outcome: &Outcome, now: Instant) {
        let (failure, code) = match outcome {
            Outcome::Accepted { .. } => (None, ""),
            Outcome::Failed { class, code, .. } => (Some(*class), code.as_str()),
        };
        let probing = self.breaker.is_probing();
        let pause = self.breaker.hear(failure, now);
        self.unobeyed |= pause.is_some() || probing != self.breaker.is_probing();
        let (channel, gauges) = (&self.way.name, &self.tools.counts.gauges);
        let Some(pause) = pause else {
            if probing && !self.breaker.is_probing() {
                gauges.stopped(channel, None);
            }
            return;
        };
        if failure == Some(Class::Withdrawn) {
            return self.withdraw(code.to_owned());
        }
        let (refused, seconds) = (failure == Some(Class::Misconfigured), pause.as_secs());
        gauges.stopped(channel, Some(if refused { "misconfigured" } else { "unreachable" }));
        if refused {
            tracing::error!(
                channel,
                code,
                seconds,
                "the gateway refuses our credentials or declaration; the channel stops. Run: gong check"
            );
        } else {
            tracing::warn!(channel, code, seconds, "the gateway cannot be reached; its messages wait, none is lost");
        }
    }

    /// Pauses the channel for every engine, beside the work. Where that fails the next
    /// message, half a minute on, brings the word again.
    fn withdraw(&self, code: String) {
        let (store, channel) = (Arc::clone(&self.tools.store), self.way.name.clone());
        tokio::spawn(async move {
            match store.withdraw_channel(&channel, &code).await {
                Ok(true) => tracing::error!(
                    channel,
                    code,
                    "the receiver wants nothing more; the channel is paused until `gong resume channel:{channel}`"
                ),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(channel, %error, "cannot pause a channel whose receiver wants nothing more");
                }
            }
        });
    }

    fn record(&mut self, Sent { batch, row, outcome, at }: Sent) {
        let Some(repeatable) = self.line.repeatable(batch) else { return };
        let wait: Millis = super::job::receipt_wait(&*self.way.channel);
        let tried = Tried { attempt: row.attempt, failures: row.failures, repeatable, receipt_wait: wait };
        let (class, change) = decide(&outcome, tried, &self.tools.retry, at);
        let (handles, code) = match outcome {
            Outcome::Accepted { gateway_ids, code } => (gateway_ids, code),
            Outcome::Failed { code, .. } => (Vec::new(), code),
        };
        let record = Record {
            ordinal: row.ordinal,
            attempt: row.attempt,
            class,
            code,
            at,
            parts: i32::try_from(row.parts).unwrap_or(i32::MAX),
            change: taken_by(self.way.channel.target(), change),
            handles,
            gone: (class == Class::AddressGone as i32).then_some(row.target),
        };
        self.line.record(batch, record);
    }
}
