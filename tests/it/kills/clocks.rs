//! Two schedulers, one of which stood still past its term; and a clock that jumps.

use std::fs::DirEntry;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use gong::loopback::Behaviour;

use rustix::process::Signal;

use super::servers::Postgres;
use super::{Fleet, SLOW, SMALL, has_ended, rough};
use crate::fleet::{TAKEN_OVER, pid, prompt, signal, told_to_end};
use crate::rig::{SOON, until};
use crate::site::{ALERT, wish};
use crate::support::{open_folder, postgres_server, skipped, tell};

/// What an engine says whose clock is not the database's.
const BESIDE: &str = "this machine's clock is not the database's";

/// How old what nobody uses any more is at least: no test runs that long.
const AGE: Duration = Duration::from_hours(1);

/// The library of Debian's package `faketime`, where it is installed.
fn faketime() -> Option<String> {
    let folders = std::fs::read_dir("/usr/lib").unwrap().flatten();
    let found = folders.map(|f| f.path().join("faketime/libfaketime.so.1")).find(|path| path.exists());
    if found.is_none() {
        skipped("a clock that jumps: none can be made wrong here (apt-get install faketime)");
    }
    sweep();
    Some(found?.to_str().unwrap().to_owned())
}

/// Who is killed with that library leaves files of its number behind, and somebody else's
/// process that gets this number later does not start. Whatever is in use is younger.
fn sweep() {
    let is_old = |file: &DirEntry| Some(file.metadata().ok()?.modified().ok()?.elapsed().ok()? > AGE);
    for file in std::fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
        if file.file_name().to_string_lossy().contains("faketime_") && is_old(&file) == Some(true) {
            let _ = std::fs::remove_file(file.path());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_schedulers_the_one_that_stood_still_is_fenced() {
    let Some(server) = postgres_server() else { return };
    let fleet = Fleet::on(&server, "", SMALL, (rough(10), 2_000)).await.with_probe().await;
    let first = fleet.plan("first");
    until("it leads", SOON, async || fleet.leader("scheduler").await == Some(pid(&first))).await;
    let second = fleet.plan_elsewhere("second");
    let (one, other) = (fleet.work("one"), fleet.work("other"));
    fleet.rate(150.0).await;
    let dispatch = fleet.load().await;
    fleet.goes_on(100).await;
    signal(&first, Signal::STOP);
    let at = Instant::now();
    for role in ["planner", "scheduler"] {
        until(role, SOON, async || fleet.leader(role).await == Some(pid(&second))).await;
    }
    let took = at.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    tell("SIGSTOP of the leader, another leads", took);
    let more = fleet.load().await;
    fleet.goes_on(100).await;
    signal(&first, Signal::CONT);
    until("it sees that it was replaced", SOON, async || fleet.log_of("first").contains("no longer leads")).await;
    for role in ["planner", "scheduler"] {
        assert_eq!(fleet.leader(role).await, Some(pid(&second)));
    }
    fleet.recovered("the leader stood still past its term, and goes on").await;
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
    /// What makes a process go by this clock.
    fn env<'a>(&'a self, faketime: &'a str) -> [(&'static str, &'a str); 5] {
        [
            ("LD_PRELOAD", faketime),
            ("FAKETIME_TIMESTAMP_FILE", self.0.to_str().unwrap()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("FAKETIME_DONT_RESET", "1"),
        ]
    }

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
    let Some(faketime) = faketime() else { return };
    let fleet = Fleet::on(&server, "", SMALL, (rough(11), 2_500)).await.with_probe().await;
    let wrong = Wrong(fleet.site.dir.path().join("clock"));
    wrong.by("+0");
    let env = wrong.env(&faketime);
    let start = |args: &[&str], log: &str| fleet.start_with(args, log, &env);
    let mut all = vec![
        start(&["serve", "--no-workers"], "planner.log"),
        start(&["work", "--channels", "sms"], "one.log"),
        start(&["work", "--channels", "sms"], "other.log"),
    ];
    fleet.rate(150.0).await;
    let dispatch = fleet.load().await;
    fleet.goes_on(100).await;
    for jump in ["+3d", "-3d"] {
        wrong.by(jump);
        tell(&format!("the clock stands {jump} beside"), fleet.goes_on(300).await);
        assert!(all.iter_mut().all(|process| has_ended(process).is_none()));
        assert_eq!(fleet.count("SELECT COUNT(*) FROM deliveries WHERE state IN (8, 10, 13)").await, 0, "{jump}");
        fleet.assert_conserved().await;
        wrong.by("+0");
        fleet.recovered(&format!("the engines' clock stood {jump} beside")).await;
    }
    until("it is said", SOON, async || fleet.log_of("planner").contains(BESIDE)).await;
    fleet.rate(3_000.0).await;
    fleet.balanced(dispatch, 0).await;
    for process in all {
        told_to_end(process).await;
    }
    fleet.end().await;
}

/// Leases, grants and terms of office go by the clock of the database, and so does what has
/// expired: a jump of it ends none of them, but for a moment.
#[tokio::test(flavor = "multi_thread")]
async fn the_clock_of_the_database_jumps_and_nothing_is_taken_over_nor_expires() {
    let Some(faketime) = faketime() else { return };
    let dir = open_folder();
    let wrong = Wrong(dir.path().join("clock"));
    wrong.by("+0");
    let env = wrong.env(&faketime).map(|(name, value)| (name, value.to_owned()));
    let Some(server) = Postgres::start_with(env.into()) else { return };
    // A retry that is due by a clock that goes back waits for that time, as it should. What
    // is in doubt is repeated also while the clock is, so some of it must be.
    let behaviour = Behaviour { temporary: 0.0, throttle: 0.0, lost_answer: 0.3, ..rough(17) };
    let fleet = Fleet::on(&server.url, "", SMALL, (behaviour, 2_000)).await.with_probe().await;
    let (planner, one, other) = (fleet.plan("planner"), fleet.work("one"), fleet.work("other"));
    // It is more than a minute until a jump is forgiven: so slow that something is left then.
    fleet.rate(SLOW).await;
    let load = fleet.load().await;
    let item = fleet.site.approve(&fleet.app, &ALERT.replace("+++\n请", "expires_in = \"1h\"\n+++\n请")).await;
    let short = fleet.site.send(&fleet.app, &item, &wish("all", "sms")).await.no;
    fleet.goes_on(100).await;
    for (jump, what, jumps) in [("+2h", "two hours ahead", 1), ("+0", "back again", 2)] {
        wrong.by(jump);
        tell(&format!("the database's clock jumped {what}"), fleet.goes_on(50).await);
        until("it is seen", SOON, async || fleet.log_of("planner").matches("the clock jumped").count() >= jumps).await;
        assert_eq!(fleet.count("SELECT COUNT(*) FROM deliveries WHERE state IN (8, 10, 13)").await, 0, "{what}");
        assert_eq!(fleet.count(TAKEN_OVER).await, 0, "{what}");
        fleet.assert_conserved().await;
        // What is uncertain is settled within a second, or would be in two hours.
        let waits = "SELECT COUNT(*) FROM deliveries WHERE next_at IS NOT NULL";
        fleet.gateway.behave(prompt()).unwrap();
        until("nothing waits for its time", SOON, async || fleet.count(waits).await == 0).await;
    }
    fleet.rate(3_000.0).await;
    fleet.recovered("the database's clock stood two hours ahead").await;
    for dispatch in [load, short] {
        fleet.balanced(dispatch, 0).await;
    }
    for process in [one, other, planner] {
        told_to_end(process).await;
    }
    fleet.end().await;
}
