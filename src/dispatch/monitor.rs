//! Looks over the sending every few seconds: sets the gauges, and rings when something
//! stands still. It reads; it never steers.

pub mod heads;
pub mod silence;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::alarm::tell::{Alarm, Teller};
use super::alarm::{AlarmLimits, Bell, Ring, Trouble};
use super::control::{Control, Watched};
use super::disk::{Disk, last_lane};
use super::worker::Way;
use crate::channel::Evidence;
use crate::clock::Millis;
use crate::domain::item::Lane;
use crate::domain::quiet::QuietHours;
use crate::store::gauges::Gauges;
use crate::store::{Result, Store};
use crate::telemetry::gauges::LaneNow;
use crate::telemetry::{Answered, Counts};
use heads::Heads;
use silence::{Ear, Known};

/// How often it looks.
const EVERY: Duration = Duration::from_secs(5);
/// How often it asks how large the database is: that takes longer than all the rest.
const SIZED: Duration = Duration::from_mins(1);
/// Before each try to tell an alarm that nobody heard.
const TRIES: [Duration; 3] = [Duration::ZERO, Duration::from_secs(20), Duration::from_mins(1)];
/// So many messages must have been taken before missing receipts mean anything.
const ENOUGH: i64 = 20;

/// What the monitor looks at, and whom it tells.
pub struct Monitor {
    pub store: Arc<Store>,
    pub ways: Arc<Vec<Way>>,
    pub disk: Disk,
    /// The disk that is shown, and what of gong's lies on it: `database`, or `site` where
    /// the database is a server of its own.
    pub shown: (&'static str, Disk),
    pub quiet: QuietHours,
    pub counts: Arc<Counts>,
    pub limits: AlarmLimits,
    pub teller: Teller,
    /// This engine, as the leases name it.
    pub me: String,
    /// The site, as alarms name it.
    pub site: String,
    pub stop: CancellationToken,
}

/// What was seen before.
pub struct Seen {
    heads: Heads,
    bell: Bell,
    channels: HashMap<i32, Heard>,
    ears: HashMap<i32, Ear>,
    sized: Option<Instant>,
    store_answered: Instant,
}

/// How one channel was answered.
#[derive(Debug, Clone, Copy)]
struct Heard {
    answered: Answered,
    /// Nothing was taken since, and something was refused.
    refused_since: Option<Instant>,
}

impl Seen {
    fn new(now: Instant) -> Self {
        Self {
            heads: Heads::default(),
            bell: Bell::default(),
            channels: HashMap::new(),
            ears: HashMap::new(),
            sized: None,
            store_answered: now,
        }
    }
}

impl Heard {
    const fn new(answered: Answered) -> Self {
        Self { answered, refused_since: None }
    }

    /// Hears the counts of now.
    fn hear(&mut self, now: Instant, answered: Answered) {
        if answered.accepted > self.answered.accepted {
            self.refused_since = None;
        } else if answered.refused > self.answered.refused {
            self.refused_since.get_or_insert(now);
        }
        self.answered = answered;
    }
}

impl Monitor {
    /// Looks until told to stop.
    pub async fn run(self) {
        let mut seen = Seen::new(Instant::now());
        while !self.stop.is_cancelled() {
            self.look(&mut seen).await;
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }

    async fn look(&self, seen: &mut Seen) {
        let troubles = match self.store.soon(self.read(seen)).await {
            Ok((gauges, control)) => {
                let now = Instant::now();
                seen.store_answered = now;
                self.show(&gauges);
                self.judge(seen, (&gauges, &control), now)
            }
            Err(error) => {
                tracing::warn!(%error, "cannot read the store for the metrics; trying again");
                let since = seen.store_answered.elapsed();
                (since >= self.limits.immediate).then_some(Trouble::Store { since }).into_iter().collect()
            }
        };
        let up = seen.store_answered.elapsed() < EVERY;
        self.counts.gauges.store_up.set(i64::from(up));
        self.counts.gauges.pools(&self.store.pool_use());
        let rings = seen.bell.hear(troubles, self.limits.repeat, Instant::now());
        for kind in Trouble::KINDS {
            self.counts.gauges.alarms(kind, seen.bell.count(kind));
        }
        for ring in rings {
            self.ring(ring);
        }
    }

    async fn read(&self, seen: &mut Seen) -> Result<(Gauges, Control)> {
        // What one engine was granted of a rate is no matter of the whole.
        let of = Watched {
            store: Arc::clone(&self.store),
            disk: self.disk.clone(),
            counts: Arc::clone(&self.counts),
            shared_by: None,
        };
        let gauges = self.store.gauges().await?;
        self.listen(seen, &gauges).await?;
        if seen.sized.is_none_or(|at| at.elapsed() >= SIZED) {
            seen.sized = Some(Instant::now());
            // Whoever may not ask for it does without.
            let engine = if self.store.file.is_some() { "sqlite" } else { "postgres" };
            self.counts.gauges.store_size(engine, self.store.database_size().await.ok());
        }
        Ok((gauges, Control::read(&of).await?))
    }

    /// Listens to what comes back, and writes down which channels hear nothing.
    async fn listen(&self, seen: &mut Seen, of: &Gauges) -> Result<()> {
        let (mut over, mut noted) = (Vec::new(), Vec::new());
        for way in self.ways.iter().filter(|w| w.channel.limits().evidence == Evidence::Receipts) {
            let known = Known {
                taken: self.counts.answered(&way.name).accepted,
                kept: self.counts.receipts_kept(&way.name),
                newest: newest(of, way),
                silence: of.silences.iter().find(|s| s.channel == way.no).copied(),
            };
            let change = seen.ears.entry(way.no).or_default().listen(way.no, self.store.now(), known);
            over.extend(change.over.then_some(way.no));
            noted.extend(change.note);
        }
        if !over.is_empty() {
            self.store.end_silences(&over).await?;
        }
        if !noted.is_empty() {
            self.store.note_silences(&noted).await?;
        }
        Ok(())
    }

    /// Sets what needs no memory.
    fn show(&self, of: &Gauges) {
        let gauges = &self.counts.gauges;
        gauges.open(&of.open, |lane| Lane::from_number(lane).map_or("unknown", Lane::name));
        gauges.expired_leases.set(of.expired_leases);
        self.counts.unmatched.set(of.unmatched);
        let (under, disk) = &self.shown;
        gauges.disk_free(under, disk.free());
        if let Some(crew) = &of.crew {
            gauges.crew(crew, &self.me);
            for way in self.ways.iter() {
                gauges.granted(&way.name, crew.granted.get(&way.no).copied().unwrap_or(0.0));
            }
        }
        gauges.looked_at.set(seconds(self.store.now()));
    }

    /// Sets the gauges of lanes and channels, and finds what lasts too long.
    fn judge(&self, seen: &mut Seen, (of, control): (&Gauges, &Control), now: Instant) -> Vec<Trouble> {
        let quiet = self.quiet.until(self.store.now()).is_some();
        let held = |channel: i32, lane: i32| {
            control.channel_paused(channel)
                || lane > last_lane(control.low_disk)
                || quiet && lane == Lane::Routine.number()
        };
        let rate = |no: i32| {
            let way = self.ways.iter().find(|w| w.no == no);
            control.rate(no).unwrap_or_else(|| way.map_or(1.0, |w| w.channel.limits().rate))
        };
        let lanes = seen.heads.see((&of.lanes, &of.left), (now, self.store.now()), held, rate);
        let mut troubles: Vec<Trouble> = control.low_disk.then(|| self.low_disk()).into_iter().collect();
        // Work of ours that has no batch now waits for another try: it is as urgent as
        // the most urgent dispatch.
        let active = of.open.iter().filter(|o| o.state == "active" && o.n > 0);
        let urgent = active.filter_map(|o| Lane::from_number(o.lane)).min();
        for way in self.ways.iter() {
            self.counts.gauges.channel(&way.name, rate(way.no), control.channel_paused(way.no));
            let answered = self.counts.answered(&way.name);
            let heard = seen.channels.entry(way.no).or_insert(Heard::new(answered));
            heard.hear(now, answered);
            let withdrawn = control.channel_withdrawn(way.no);
            self.counts.gauges.withdrawn(&way.name, withdrawn);
            let refused = if withdrawn {
                Some(Trouble::Withdrawn { channel: way.name.clone() })
            } else {
                self.refused(way, heard, urgent, now)
            };
            // One cause, one alarm: that of the gateway says why its lanes stand still.
            let explained = refused.is_some() || heard.refused_since.is_some();
            troubles.extend(refused);
            for lane in Lane::SERVED {
                let stands = lanes.get(&(way.no, lane.number())).cloned().unwrap_or_default();
                self.counts.gauges.lane(&way.name, lane.name(), &stands);
                troubles.extend(self.stalled(way, lane, &stands).filter(|_| !explained));
            }
            troubles.extend(self.unheard(way, seen.ears.get(&way.no), newest(of, way)));
        }
        let unready = self.counts.unready.all(now).into_iter();
        troubles.extend(unready.map(|(dispatch, channel)| Trouble::Unready { dispatch, channel }));
        troubles
    }

    fn low_disk(&self) -> Trouble {
        Trouble::Disk { free: self.disk.free().unwrap_or(0) }
    }

    fn stalled(&self, way: &Way, lane: Lane, stands: &LaneNow) -> Option<Trouble> {
        let stalled = Duration::from_secs_f64(stands.stalled);
        let (channel, messages) = (way.name.clone(), stands.messages);
        (stalled >= self.limits.of(lane)).then_some(Trouble::Lane { channel, lane, stalled, messages })
    }

    fn refused(&self, way: &Way, heard: &Heard, urgent: Option<Lane>, now: Instant) -> Option<Trouble> {
        let channel = way.name.clone();
        if self.counts.gauges.is_stopped(&way.name, "misconfigured") {
            return Some(Trouble::Credentials { channel });
        }
        let since = now.duration_since(heard.refused_since?);
        (since >= self.limits.of(urgent?)).then_some(Trouble::Gateway { channel, since })
    }

    fn unheard(&self, way: &Way, ear: Option<&Ear>, newest: Millis) -> Option<Trouble> {
        let ear = ear?;
        let now = self.store.now();
        if newest > 0 {
            self.counts.gauges.receipt_age(&way.name, seconds(now - newest));
        }
        let silence = ear.silence.filter(|s| s.sent >= ENOUGH);
        let lasts = silence.map_or(0, |s| (now - s.since).max(0));
        self.counts.gauges.unheard(&way.name, seconds(lasts));
        let since = Duration::from_millis(u64::try_from(lasts).unwrap_or(0));
        let sent = u64::try_from(silence?.sent).unwrap_or(0);
        (since >= self.limits.receipts).then(|| Trouble::Receipts { channel: way.name.clone(), since, sent })
    }

    /// Logs it, and tells it in a task of its own: the gauges do not wait for that.
    fn ring(&self, ring: Ring) {
        let alarm = Alarm::of(&ring, &self.site);
        if let Ring::Over(..) = ring {
            tracing::info!(alarm = alarm.key, "an alarm is over");
        } else {
            tracing::error!(alarm = alarm.key, state = alarm.state, "an alarm rings");
        }
        if self.teller.is_empty() {
            return;
        }
        let (store, teller, counts) = (Arc::clone(&self.store), self.teller.clone(), Arc::clone(&self.counts));
        // A little less than the interval: two clocks never agree to the millisecond.
        let repeat = self.limits.repeat_ms() - Millis::try_from(EVERY.as_millis()).unwrap_or(0);
        tokio::spawn(async move {
            let mine = match ring {
                Ring::Over(..) => store.soon(store.clear_alarm(&alarm.key)).await,
                _ => store.soon(store.claim_alarm(&alarm.key, repeat)).await,
            };
            // A store that does not answer must not keep its own alarm back.
            if !mine.unwrap_or(true) {
                return;
            }
            for pause in TRIES {
                tokio::time::sleep(pause).await;
                if told(&teller, &alarm, &counts).await {
                    return;
                }
            }
            // Another process may have a way that works.
            let _ = store.soon(store.clear_alarm(&alarm.key)).await;
        });
    }
}

/// Tells an alarm; says whether anybody heard it.
async fn told(teller: &Teller, alarm: &Alarm, counts: &Counts) -> bool {
    let told = teller.tell(alarm).await;
    for (how, result) in &told {
        counts.alarm_told(if result.is_ok() { how } else { "failed" });
        if let Err(error) = result {
            tracing::error!(how, error, "an alarm could not be told");
        }
    }
    told.iter().any(|(_, result)| result.is_ok())
}

/// The newest receipt of a channel that is found at a glance; 0 where none is.
fn newest(of: &Gauges, way: &Way) -> Millis {
    of.newest_receipts.iter().find(|(no, _)| *no == way.no).map_or(0, |(_, at)| *at)
}

#[allow(clippy::cast_precision_loss)] // far below 2^52
fn seconds(ms: Millis) -> f64 {
    ms as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_that_takes_nothing_is_noticed_and_one_that_takes_something_is_not() {
        let start = Instant::now();
        let at = |s: u64| start + Duration::from_secs(s);
        let counts = |accepted, refused| Answered { accepted, refused };
        let mut heard = Heard::new(counts(5, 1));
        heard.hear(at(5), counts(5, 1));
        assert_eq!(heard.refused_since, None, "nothing was tried");
        heard.hear(at(10), counts(5, 4));
        heard.hear(at(15), counts(5, 9));
        assert_eq!(heard.refused_since, Some(at(10)));
        heard.hear(at(20), counts(6, 12));
        assert_eq!(heard.refused_since, None);
    }
}
