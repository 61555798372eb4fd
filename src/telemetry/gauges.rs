//! The gauges: what stands at a moment, set every few seconds by the monitor. Names and
//! labels are a contract with `deploy/monitoring/`, which a test compares.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::store::crew::Crew;
use crate::store::gauges::{OpenRow, PoolUse};

/// Seconds and shares are not whole.
type Real = Gauge<f64, AtomicU64>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfLane {
    channel: String,
    lane: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfChannel {
    channel: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Stopped {
    channel: String,
    why: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Open {
    lane: &'static str,
    state: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPool {
    pool: &'static str,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRole {
    role: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Under {
    under: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Engine {
    engine: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    kind: &'static str,
}

/// How one lane of one channel stands.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LaneNow {
    /// Batches that are ready and not leased.
    pub ready: i64,
    pub leased: i64,
    /// Deliveries in the batches that have not gone through.
    pub messages: i64,
    /// Seconds since the oldest dispatch that waits here was started.
    pub oldest: f64,
    /// Seconds in which nothing of the oldest batch moved though it could have.
    pub stalled: f64,
    /// Seconds in which the channel sends all of it at its rate.
    pub backlog: f64,
}

/// The gauges of this process.
#[derive(Debug, Default)]
pub struct Gauges {
    ready: Family<OfLane, Gauge>,
    leased: Family<OfLane, Gauge>,
    messages: Family<OfLane, Gauge>,
    oldest: Family<OfLane, Real>,
    stalled: Family<OfLane, Real>,
    backlog: Family<OfLane, Real>,
    rate: Family<OfChannel, Real>,
    paused: Family<OfChannel, Gauge>,
    stopped: Family<Stopped, Gauge>,
    receipt_age: Family<OfChannel, Real>,
    unheard: Family<OfChannel, Real>,
    disk_free: Family<Under, Gauge>,
    store_size: Family<Engine, Gauge>,
    open: Family<Open, Gauge>,
    planning: Gauge,
    pools: Family<OfPool, Gauge>,
    alarms: Family<OfKind, Gauge>,
    engines: Family<OfRole, Gauge>,
    leads: Family<OfRole, Gauge>,
    terms: Family<OfRole, Gauge>,
    leaderless: Family<OfRole, Real>,
    granted: Family<OfChannel, Real>,
    /// Leases that ran out and wait for a takeover.
    pub expired_leases: Gauge,
    /// 1 while the store answers the monitor.
    pub store_up: Gauge,
    /// Epoch seconds of the monitor's last look that read everything.
    pub looked_at: Real,
}

impl Gauges {
    /// Registers every gauge under its name.
    pub fn register(registry: &mut Registry) -> Self {
        let g = Self::default();
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version that runs", build);
        registry.register("lane_ready_batches", "Batches that wait for a worker", g.ready.clone());
        registry.register("lane_leased_batches", "Batches that a worker has", g.leased.clone());
        registry.register("lane_messages", "Messages in batches that have not gone through", g.messages.clone());
        let times = [
            ("lane_oldest", "Time since the oldest dispatch that waits here was started", &g.oldest),
            ("lane_stalled", "Time in which the oldest batch could have moved and did not", &g.stalled),
            ("lane_backlog", "Time to send what waits at the channel's rate", &g.backlog),
        ];
        for (name, help, gauge) in times {
            registry.register_with_unit(name, help, Unit::Seconds, gauge.clone());
        }
        registry.register("channel_rate", "Parts a second a channel may send", g.rate.clone());
        registry.register("channel_paused", "1 while an operator stops a channel", g.paused.clone());
        registry.register("channel_stopped", "1 while a gateway takes nothing, by reason", g.stopped.clone());
        let times = [
            ("receipt_age", "Time since the newest receipt of a channel", &g.receipt_age),
            ("receipts_unheard", "Time since messages were taken and no receipt came after", &g.unheard),
        ];
        for (name, help, gauge) in times {
            registry.register_with_unit(name, help, Unit::Seconds, gauge.clone());
        }
        registry.register("dispatches", "Dispatches that have not finished", g.open.clone());
        registry.register("dispatches_planning", "Dispatches that are being planned", g.planning.clone());
        registry.register("pool_connections", "Connections to the database", g.pools.clone());
        registry.register("alarms", "Alarms that ring, by kind", g.alarms.clone());
        registry.register("leases_expired", "Leases that ran out and wait for a takeover", g.expired_leases.clone());
        g.register_crew(registry);
        let help = "Free space where the database, or gong's own data, lies";
        registry.register_with_unit("disk_free", help, Unit::Bytes, g.disk_free.clone());
        registry.register_with_unit("store_size", "The database", Unit::Bytes, g.store_size.clone());
        registry.register("store_up", "1 while the database answers", g.store_up.clone());
        registry.register_with_unit(
            "monitor_look",
            "When these were last read, in epoch seconds",
            Unit::Seconds,
            g.looked_at.clone(),
        );
        g
    }

    fn register_crew(&self, registry: &mut Registry) {
        registry.register("engines", "Engines on this store that are there, by role", self.engines.clone());
        registry.register("leads", "1 while this process acts in a role that one engine has", self.leads.clone());
        registry.register("leader_term", "How often a role changed hands", self.terms.clone());
        let help = "Time for which nobody has had a role";
        registry.register_with_unit("leaderless", help, Unit::Seconds, self.leaderless.clone());
        registry.register("channel_granted", "Parts a second granted to all engines together", self.granted.clone());
    }

    /// Shows the engines on a server store; `me` is the one of this process.
    pub fn crew(&self, crew: &Crew, me: &str) {
        for (role, n) in &crew.engines {
            self.engines.get_or_create(&OfRole { role: (*role).to_owned() }).set(*n);
        }
        for role in &crew.roles {
            let of = OfRole { role: role.role.clone() };
            self.leads.get_or_create(&of).set(i64::from(role.vacant_ms == 0 && role.owner == me));
            self.terms.get_or_create(&of).set(role.term);
            #[allow(clippy::cast_precision_loss)] // far below 2^52
            self.leaderless.get_or_create(&of).set(role.vacant_ms as f64 / 1000.0);
        }
    }

    /// Shows what all engines together may send on a channel, in parts a second.
    pub fn granted(&self, channel: &str, rate: f64) {
        self.granted.get_or_create(&OfChannel { channel: channel.to_owned() }).set(rate);
    }

    /// Shows a lane.
    pub fn lane(&self, channel: &str, lane: &'static str, now: &LaneNow) {
        let of = OfLane { channel: channel.to_owned(), lane };
        self.ready.get_or_create(&of).set(now.ready);
        self.leased.get_or_create(&of).set(now.leased);
        self.messages.get_or_create(&of).set(now.messages);
        self.oldest.get_or_create(&of).set(now.oldest);
        self.stalled.get_or_create(&of).set(now.stalled);
        self.backlog.get_or_create(&of).set(now.backlog);
    }

    /// Shows what a channel may send: parts a second, and whether an operator stops it.
    pub fn channel(&self, channel: &str, rate: f64, paused: bool) {
        let of = OfChannel { channel: channel.to_owned() };
        self.rate.get_or_create(&of).set(rate);
        self.paused.get_or_create(&of).set(i64::from(paused));
    }

    /// Shows how old the newest receipt of a channel is, in seconds.
    pub fn receipt_age(&self, channel: &str, seconds: f64) {
        self.receipt_age.get_or_create(&OfChannel { channel: channel.to_owned() }).set(seconds);
    }

    /// Shows for how long messages of a channel have been taken without a receipt, in
    /// seconds; 0 while receipts come, or nothing is sent.
    pub fn unheard(&self, channel: &str, seconds: f64) {
        self.unheard.get_or_create(&OfChannel { channel: channel.to_owned() }).set(seconds);
    }

    /// Shows the bytes free where `under` lies; nothing where nobody can say.
    pub fn disk_free(&self, under: &'static str, bytes: Option<u64>) {
        let of = Under { under };
        match bytes {
            Some(bytes) => {
                self.disk_free.get_or_create(&of).set(i64::try_from(bytes).unwrap_or(i64::MAX));
            }
            None => {
                self.disk_free.remove(&of);
            }
        }
    }

    /// Shows the bytes of the database; nothing where nobody can say.
    pub fn store_size(&self, engine: &'static str, bytes: Option<i64>) {
        let of = Engine { engine };
        match bytes {
            Some(bytes) => {
                self.store_size.get_or_create(&of).set(bytes);
            }
            None => {
                self.store_size.remove(&of);
            }
        }
    }

    /// Says that a channel stops because its gateway takes nothing: `misconfigured` or
    /// `unreachable`; `None` when it goes on.
    pub fn stopped(&self, channel: &str, why: Option<&'static str>) {
        for reason in ["misconfigured", "unreachable"] {
            let of = Stopped { channel: channel.to_owned(), why: reason };
            self.stopped.get_or_create(&of).set(i64::from(why == Some(reason)));
        }
    }

    /// Says that a channel stands paused because its receiver wants nothing more, whichever
    /// process heard it.
    pub fn withdrawn(&self, channel: &str, is: bool) {
        let of = Stopped { channel: channel.to_owned(), why: "withdrawn" };
        self.stopped.get_or_create(&of).set(i64::from(is));
    }

    /// Whether a channel stops for this reason.
    #[must_use]
    pub fn is_stopped(&self, channel: &str, why: &'static str) -> bool {
        self.stopped.get_or_create(&Stopped { channel: channel.to_owned(), why }).get() > 0
    }

    /// Shows the dispatches that have not finished; lanes are named by `name`.
    pub fn open(&self, rows: &[OpenRow], name: impl Fn(i32) -> &'static str) {
        self.open.clear();
        for row in rows {
            self.open.get_or_create(&Open { lane: name(row.lane), state: row.state.clone() }).set(row.n);
        }
        self.planning.set(rows.iter().filter(|r| r.state == "active").map(|r| r.planning).sum());
    }

    /// Shows the connections.
    pub fn pools(&self, pools: &[PoolUse]) {
        for pool in pools {
            let set = |state, n: u32| {
                self.pools.get_or_create(&OfPool { pool: pool.name, state }).set(i64::from(n));
            };
            set("used", pool.open.saturating_sub(pool.idle));
            set("idle", pool.idle);
            set("most", pool.most);
        }
    }

    /// Shows how many alarms of a kind ring.
    pub fn alarms(&self, kind: &'static str, n: usize) {
        self.alarms.get_or_create(&OfKind { kind }).set(i64::try_from(n).unwrap_or(i64::MAX));
    }
}
