//! What a worker holds of the store, and until when: its leases and its share of the
//! rate. Beyond either it sends nothing, however long the process stood still.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::Instant;

use super::Worker;
use crate::dispatch::control::{Control, Share};
use crate::domain::share::Report;
use crate::store::Result;
use crate::store::batches::{LEASE, Lease};

/// How long a lease lasts.
const KEPT: Duration = Duration::from_millis(LEASE.unsigned_abs());
/// How often leases are renewed: three times in the time of one.
const RENEW: Duration = Duration::from_millis(LEASE.unsigned_abs() / 3);
/// How often they are renewed when they are in doubt.
const AGAIN: Duration = Duration::from_millis(500);
/// How often a worker beside others looks for batches.
const LOOK: Duration = Duration::from_millis(100);
/// What is used is measured over at least this long.
const MEASURED: Duration = Duration::from_millis(150);
/// A worker that no permit kept waiting could do with this much more than it used.
const MARGIN: f64 = 1.25;

/// When a renewal was asked for, and which leases are lost.
type Renewed = (Instant, Result<Vec<Lease>>);

/// What is held, by this process's monotonic clock.
pub(super) struct Hold {
    /// Until then nobody can have taken the batches in the line over.
    leases_until: Instant,
    renew_at: Instant,
    renewed: (UnboundedSender<Renewed>, UnboundedReceiver<Renewed>),
    /// When the first of the leases was asked for that no renewal knows of yet.
    unrenewed: Option<Instant>,
    /// A renewal asked for earlier says nothing of what holds now.
    doubted_at: Instant,
    /// Until then the share of the rate holds; `None` where all of it is ours.
    share_until: Option<Instant>,
    /// A permit was waited for since the last report.
    pub(super) starved: bool,
    /// Parts answered so far.
    pub(super) heard: u64,
    measured: (Instant, u64),
    said_lane: Option<i32>,
}

impl Hold {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            leases_until: now + KEPT,
            renew_at: now + RENEW,
            renewed: mpsc::unbounded_channel(),
            share_until: None,
            unrenewed: None,
            doubted_at: now,
            starved: false,
            heard: 0,
            measured: (now, 0),
            said_lane: None,
        }
    }

    /// How often to look for batches: other engines make them ready without a word.
    pub(super) fn looks_every(&self) -> Duration {
        if self.share_until.is_some() { LOOK } else { super::IDLE }
    }

    /// Whether messages may leave now.
    pub(super) fn may_send(&self, now: Instant) -> bool {
        now < self.leases_until && self.share_until.is_none_or(|until| now < until)
    }

    /// Batches come into the line whose leases were asked for at `asked`.
    pub(super) fn leased(&mut self, asked: Instant) {
        self.leases_until = self.leases_until.min(asked + KEPT);
        self.unrenewed = Some(self.unrenewed.map_or(asked, |before| before.min(asked)));
    }

    /// A renewal that was asked for then has come through.
    fn kept(&mut self, asked: Instant) {
        if asked >= self.doubted_at {
            self.leases_until = self.unrenewed.map_or(asked, |lease| lease.min(asked)) + KEPT;
        }
    }

    /// A grant was read. After a gap without one the leases may be gone, too: others
    /// take them from engines whose grants have run out.
    fn granted(&mut self, share: Option<Share>, now: Instant) {
        let until = share.map_or(now, |s| s.until);
        if self.share_until.is_some_and(|before| before <= now) && until > now {
            (self.leases_until, self.renew_at, self.doubted_at) = (now, now, now);
        }
        self.share_until = Some(until);
    }
}

impl Worker {
    /// Takes over the rate: the whole channel's, or what was granted of it; and says
    /// what it could do with.
    pub(super) fn take_rate(&mut self, control: &Control, now: Instant) {
        if !control.is_shared() {
            let rate = control.rate(self.way.no).unwrap_or(self.way.channel.limits().rate);
            self.pacer.declare(rate, now);
            self.way.channel.pace(rate);
            return;
        }
        let share = control.share(self.way.no);
        self.hold.granted(share, now);
        if let Some(share) = share {
            if let Some(at) = self.line.forget_permit() {
                self.pacer.put_back(at);
            }
            self.pacer.allow(share.rate, now);
            self.way.channel.pace(share.rate);
        }
        self.report(share.map_or(0, |s| s.seq), now);
    }

    fn report(&mut self, seq: i64, now: Instant) {
        let (since, before) = self.hold.measured;
        let lasted = now.duration_since(since);
        let parts = self.hold.heard;
        #[allow(clippy::cast_precision_loss)] // parts of a moment
        let used = (parts - before) as f64 / lasted.as_secs_f64().max(MEASURED.as_secs_f64());
        let lane = self.line.waiting_lane();
        // Of what has just come nobody knows yet how fast it will go.
        let wants_more = lane.is_some() && (self.hold.starved || lane != self.hold.said_lane);
        let want = match wants_more {
            // What the gateway does not take, others may try.
            true if self.pacer.is_throttled() => Some(self.pacer.rate() * MARGIN),
            true => None,
            false => Some(used * MARGIN),
        };
        self.tools.board.say(Report { channel: self.way.no, seq, lane, want, used });
        if lasted >= MEASURED {
            self.hold.measured = (now, parts);
            self.hold.starved = false;
            self.hold.said_lane = lane;
        }
    }

    /// Renews the leases of the batches in the line, and of no others; what is lost
    /// leaves the line unsent.
    pub(super) fn renew(&mut self) {
        while let Ok((asked, renewed)) = self.hold.renewed.1.try_recv() {
            match renewed {
                Ok(lost) => {
                    self.hold.kept(asked);
                    if !lost.is_empty() {
                        let batches = lost.len();
                        tracing::warn!(
                            channel = self.way.name,
                            batches,
                            "leases were lost; their batches are left alone"
                        );
                        self.line.stop_where(|lease| lost.contains(&lease));
                    }
                }
                Err(error) => tracing::warn!(%error, "cannot renew the leases"),
            }
        }
        let now = Instant::now();
        if now < self.hold.renew_at {
            return;
        }
        let held = self.line.leases();
        self.hold.unrenewed = None;
        let doubtful = now >= self.hold.leases_until;
        self.hold.renew_at = now + if doubtful { AGAIN } else { RENEW };
        let (store, owner) = (Arc::clone(&self.tools.store), self.tools.owner.clone());
        let answer = self.hold.renewed.0.clone();
        tokio::spawn(async move {
            let lost = if held.is_empty() { Ok(Vec::new()) } else { store.soon(store.heartbeat(&owner, &held)).await };
            // The worker may be gone by now.
            let _ = answer.send((now, lost));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(until: Instant) -> Share {
        Share { rate: 10.0, seq: 1, until }
    }

    #[test]
    fn nothing_leaves_after_the_leases_can_have_run_out() {
        let start = Instant::now();
        let at = |s: u64| start + Duration::from_secs(s);
        let mut hold = Hold::new(start);
        assert!(hold.may_send(at(29)) && !hold.may_send(at(30)));
        hold.kept(at(10));
        assert!(hold.may_send(at(39)) && !hold.may_send(at(40)));
        // A batch whose load began before the renewal and ended after it.
        hold.leased(at(8));
        assert!(!hold.may_send(at(38)));
        hold.kept(at(12));
        assert!(!hold.may_send(at(38)), "that renewal knew nothing of it");
        hold.unrenewed = None;
        hold.kept(at(20));
        assert!(hold.may_send(at(49)));
    }

    #[test]
    fn after_a_gap_in_the_grants_the_leases_are_asked_for_first() {
        let start = Instant::now();
        let at = |s: u64| start + Duration::from_secs(s);
        let mut hold = Hold::new(start);
        hold.granted(None, start);
        assert!(!hold.may_send(start), "nothing was granted yet");
        hold.granted(Some(share(at(12))), at(1));
        hold.kept(at(1));
        assert!(hold.may_send(at(2)) && !hold.may_send(at(12)));
        // It stood still; a renewal from before says nothing.
        hold.granted(Some(share(at(27))), at(15));
        hold.kept(at(11));
        assert!(!hold.may_send(at(15)) && hold.renew_at == at(15));
        hold.kept(at(15));
        assert!(hold.may_send(at(16)));
        // Without a gap nothing is asked.
        hold.granted(Some(share(at(28))), at(20));
        assert!(hold.may_send(at(20)));
    }
}
