//! What subscribers of `gong.events` are told: seen by looking, so that nobody on the
//! way of a message writes anything for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::App;
use super::engine::Common;
use crate::clock::Millis;
use crate::cluster::leading::Leading;
use crate::domain::delivery::State;
use crate::domain::event::{self, Counts};
use crate::domain::plan::VISIT;
use crate::queue::Queue;
use crate::queue::events::{Events, Lookout};
use crate::store::{Result, Store};

/// The role of the one engine that tells.
const TELLER: &str = "events";
/// Counting reads every delivery of an open dispatch: it has this share of the time at
/// most, so that a million of them are counted every ten seconds or so.
const COUNT_SHARE: u32 = 50;
/// How often deliveries are counted where that takes no time.
const COUNT_EVERY: Duration = Duration::from_secs(1);
/// A dispatch older than this of which nothing was told is history, in milliseconds.
const HISTORY: Millis = 7 * 86_400_000;

struct Teller {
    store: Arc<Store>,
    /// Channels by number.
    names: HashMap<i32, String>,
    leading: Leading,
    count_at: Mutex<Instant>,
}

impl App {
    /// Tells subscribers what happens, where there is a broker.
    pub(super) async fn tell(&self, common: &Common, queue: &Queue) -> Result<()> {
        let Queue::Rabbit(rabbit) = queue else { return Ok(()) };
        if !self.config.events.enabled {
            return Ok(());
        }
        let mut names: HashMap<i32, String> = common.ways.iter().map(|way| (way.no, way.name.clone())).collect();
        names.insert(self.store.channel_no(VISIT).await?, VISIT.to_owned());
        let seat = self.seat(common, TELLER);
        let leading = seat.as_ref().map_or_else(Leading::always, |(_, leading)| leading.clone());
        let count_at = Mutex::new(Instant::now());
        let lookout = Teller { store: Arc::clone(&self.store), names, leading, count_at };
        let events = Events { rabbit: Arc::clone(rabbit), lookout, stop: common.stop.clone() };
        match seat {
            None => common.supervise(events.run()),
            Some((seat, _)) => common.supervise(seat.lead(events.run())),
        }
        Ok(())
    }
}

impl Lookout for Teller {
    fn leads(&self) -> bool {
        self.leading.holds()
    }

    async fn look(&self) -> Result<()> {
        let (began, now) = (Instant::now(), self.store.now());
        let counts = self.may_count(began);
        let (mut told, mut events) = (Vec::new(), Vec::new());
        for mut watched in self.store.watched_dispatches(now - HISTORY).await? {
            let (mark, stands) = (&mut watched.mark, &watched.now);
            let mut happened = event::of_dispatch(mark, stands, now);
            // The last counts are told before the end is.
            if stands.started && (counts || stands.finished_at.is_some()) {
                happened.extend(event::of_deliveries(mark, stands, self.count(stands.no).await?, now));
            }
            happened.extend(event::of_end(mark, stands));
            if !happened.is_empty() {
                events.extend(happened);
                told.push(watched);
            }
        }
        if counts {
            let next = Instant::now() + (began.elapsed() * COUNT_SHARE).max(COUNT_EVERY);
            *self.count_at.lock().unwrap_or_else(PoisonError::into_inner) = next;
        }
        if !told.is_empty() && !self.store.lay_down_events(&told, &events).await? {
            tracing::debug!("another engine was quicker to tell");
        }
        Ok(())
    }
}

impl Teller {
    fn may_count(&self, now: Instant) -> bool {
        *self.count_at.lock().unwrap_or_else(PoisonError::into_inner) <= now
    }

    async fn count(&self, dispatch_no: i64) -> Result<Counts> {
        let mut counts = Counts::new();
        for row in self.store.delivery_counts(dispatch_no).await? {
            let Some(state) = State::from_code(row.state) else { continue };
            let channel = self.names.get(&row.channel).cloned().unwrap_or_else(|| row.channel.to_string());
            *counts.entry(state).or_default().entry(channel).or_default() += row.n;
        }
        Ok(counts)
    }
}
