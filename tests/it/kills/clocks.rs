//! Two schedulers, one of which stood still past its term; and a clock that jumps.

use std::path::PathBuf;
use std::time::Instant;

use rustix::process::Signal;

use super::{Fleet, SMALL, has_ended, rough, tell};
use crate::fleet::{pid, signal, told_to_end};
use crate::rig::{SOON, until};
use crate::support::postgres_server;

/// What an engine says whose clock is not the database's.
const BESIDE: &str = "this machine's clock is not the database's";

/// The library of Debian's package `faketime`, where it is installed.
fn faketime() -> Option<String> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten();
    let found = folders.map(|f| f.path().join("faketime/libfaketime.so.1")).find(|path| path.exists())?;
    Some(found.to_str()?.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_schedulers_the_one_that_stood_still_is_fenced() {
    let Some(server) = postgres_server() else { return };
    let fleet = Fleet::on(&server, "", SMALL, (rough(10), 2_000)).await;
    let first = fleet.plan("first");
    until("it leads", SOON, async || fleet.leader("scheduler").await == Some(pid(&first))).await;
    let second = fleet.plan_elsewhere("second");
    let (one, other) = (fleet.work("one"), fleet.work("other"));
    fleet.rate(150.0).await;
    let dispatch = fleet.alert().await;
    fleet.goes_on(100).await;
    signal(&first, Signal::STOP);
    let at = Instant::now();
    for role in ["planner", "scheduler"] {
        until(role, SOON, async || fleet.leader(role).await == Some(pid(&second))).await;
    }
    tell("SIGSTOP of the leader, another leads", at.elapsed());
    let more = fleet.alert().await;
    fleet.goes_on(100).await;
    signal(&first, Signal::CONT);
    until("it sees that it was replaced", SOON, async || fleet.log_of("first").contains("no longer leads")).await;
    for role in ["planner", "scheduler"] {
        assert_eq!(fleet.leader(role).await, Some(pid(&second)));
    }
    fleet.assert_conserved().await;
    fleet.rate(3_000.0).await;
    for dispatch in [dispatch, more] {
        fleet.balanced(dispatch, 0).await;
    }
    for process in [one, other, first, second] {
        told_to_end(process).await;
    }
    fleet.end().await;
}

/// The clock of the processes, as far beside the true one as its file says.
struct Wrong(PathBuf);

impl Wrong {
    fn by(&self, offset: &str) {
        let fresh = self.0.with_extension("new");
        std::fs::write(&fresh, offset).unwrap();
        std::fs::rename(fresh, &self.0).unwrap();
    }
}

/// Believed, three days ahead would expire everything, and three days behind would keep
/// everything waiting.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_expires_nothing() {
    let Some(server) = postgres_server() else { return };
    let Some(faketime) = faketime() else {
        crate::support::skipped("a clock that jumps: none can be made wrong here (apt-get install faketime)");
        return;
    };
    let fleet = Fleet::on(&server, "", SMALL, (rough(11), 2_500)).await;
    let wrong = Wrong(fleet.site.dir.path().join("clock"));
    wrong.by("+0");
    let file = wrong.0.to_str().unwrap();
    let env = [
        ("LD_PRELOAD", faketime.as_str()),
        ("FAKETIME_TIMESTAMP_FILE", file),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("FAKETIME_DONT_RESET", "1"),
    ];
    let start = |args: &[&str], log: &str| fleet.start_with(args, log, &env);
    let mut all = vec![
        start(&["serve", "--no-workers"], "planner.log"),
        start(&["work", "--channels", "sms"], "one.log"),
        start(&["work", "--channels", "sms"], "other.log"),
    ];
    fleet.rate(150.0).await;
    let dispatch = fleet.alert().await;
    fleet.goes_on(100).await;
    for jump in ["+3d", "-3d"] {
        wrong.by(jump);
        tell(&format!("the clock stands {jump} beside"), fleet.goes_on(300).await);
        assert!(all.iter_mut().all(|process| has_ended(process).is_none()));
        assert_eq!(fleet.count("SELECT COUNT(*) FROM deliveries WHERE state IN (8, 10, 13)").await, 0, "{jump}");
        fleet.assert_conserved().await;
        wrong.by("+0");
    }
    until("it is said", SOON, async || fleet.log_of("planner").contains(BESIDE)).await;
    fleet.rate(3_000.0).await;
    fleet.balanced(dispatch, 0).await;
    for process in all {
        told_to_end(process).await;
    }
    fleet.end().await;
}
