//! Faults, with real processes: planner and workers on a PostgreSQL, with a RabbitMQ
//! and without, and a gateway that errs by a seed. After each the books are read by
//! statements of their own. How long it took to recover is printed, and kept in the file
//! that `GONG_TEST_RECOVERY` names.

#![allow(clippy::print_stdout)] // what was measured

mod broker;
mod clocks;
mod cluster;
mod database;
mod links;
#[cfg(feature = "failpoints")]
mod points;
mod pressure;
mod releases;
mod servers;
mod soak;

use std::time::{Duration, Instant};

use gong::domain::delivery::State;
use gong::loopback::{Behaviour, Span};
use tokio::net::TcpStream;

use crate::fleet::{Fleet, HELD, TAKEN_OVER};
use crate::ledger::Copies;
use crate::rig::{self, SOON, until};
use crate::site::{finished, in_state};
use crate::support::Running;

/// A batch is a minute's sends: small ones, so that there are many.
const SMALL: &str = "rate = 2, in_flight = 16, idempotent = false";
/// Messages a second while faults happen: a load lasts for minutes, however busy the machine.
const SLOW: f64 = 25.0;
/// What a worker may leave in doubt: twice what is in flight.
const WINDOW: usize = 32;

/// A gateway of everyday: refuses for now, loses answers, doubles and disorders receipts.
fn rough(seed: u64) -> Behaviour {
    Behaviour {
        seed,
        latency: "2-12".parse().unwrap(),
        temporary: 0.01,
        throttle: 0.005,
        lost_answer: 0.005,
        receipt_delay: Span { min: 5, max: 300 },
        receipt_before_answer: 0.05,
        doubled: 0.05,
        disordered: 0.05,
        ..Behaviour::default()
    }
}

impl Fleet {
    async fn rate(&self, rate: f64) {
        self.app.store.set_rate("sms", Some(rate), "李四").await.unwrap();
    }

    /// Waits until `more` messages have gone out from now on; says how long that took.
    async fn goes_on(&self, more: u64) -> Duration {
        let (at, before) = (Instant::now(), self.gateway.stats().messages);
        until("messages go out", SOON, async || self.gateway.stats().messages >= before + more).await;
        at.elapsed()
    }

    /// The dispatch to everybody ends, everything of it has arrived, and the books balance:
    /// nobody was left out, and no more is in doubt than these windows and the answers that
    /// the gateway lost.
    async fn balanced(&self, dispatch: i64, windows: usize) -> Copies {
        let done = finished(&self.app, dispatch, 2 * SOON).await;
        let arrived = in_state(&self.app, dispatch, State::Delivered).await;
        assert_eq!(arrived, done.deliveries, "{:?}", self.app.store.delivery_counts(dispatch).await);
        let open = "SELECT COUNT(*) FROM dispatches WHERE finished_at IS NULL";
        until("nothing is under way", 2 * SOON, async || self.count(open).await + self.count(HELD).await == 0).await;
        self.ledger.assert_whole(dispatch, self.people).await;
        self.ledger.assert_settled().await;
        let log = rig::log(self.gateway.addr).await;
        let copies = self.ledger.assert_flagged(&self.app.store.vault, &log).await;
        assert_eq!(copies.missing, 0);
        let taken_over = self.count(TAKEN_OVER).await;
        assert!(usize::try_from(taken_over).unwrap() <= windows * WINDOW, "{taken_over} of {windows} windows");
        println!("dispatch {dispatch}: {arrived} arrived; in all {copies:?}, {taken_over} from takeovers");
        copies
    }
}

/// Settings by which alarms are kept in a file, a line each: the alarm and its state.
fn told_to(file: &tempfile::NamedTempFile) -> String {
    let path = file.path().display();
    format!(
        "\n[alarm]\ncommand = [\"sh\", \"-c\", \"echo $GONG_ALARM_KEY $GONG_ALARM_STATE >> {path}\"]\nprompt = \"2s\"\n"
    )
}

/// What the planner's metrics say of this one; `None` where it does not serve yet.
async fn metric(fleet: &Fleet, name: &str) -> Option<f64> {
    TcpStream::connect(fleet.site.address()).await.ok()?;
    rig::sample(&rig::get(fleet.site.address(), "/metrics").await, name)
}

/// Waits until they say this.
async fn shows(fleet: &Fleet, name: &str, value: f64) {
    until(&format!("{name} is {value}"), SOON, async || metric(fleet, name).await == Some(value)).await;
}

/// Whether a process has ended by itself or by a signal.
fn has_ended(process: &mut Running) -> Option<std::process::ExitStatus> {
    process.0.try_wait().unwrap()
}
