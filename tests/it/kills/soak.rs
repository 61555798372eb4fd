//! Random kills of everything there is, drawn from a printed seed; the books after every
//! round. A short time among the tests, as long as one likes with tests/soak.sh.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{Rng as _, SeedableRng as _};
use rustix::process::Signal;

use super::servers::Postgres;
use super::{Fleet, SMALL, has_ended, rough};
use crate::fleet::{PAST_A_LEASE, pid, signal, told_to_end};
use crate::rabbit::rig::{Broker, own_broker};
use crate::rig::{SOON, until};
use crate::support::{Running, seed};

/// Kills in a round, and rounds on one database.
const KILLS: usize = 6;
const ROUNDS: u32 = 8;
/// Messages a second while kills happen: none of a round's comes after its dispatch.
const RATE: f64 = 15.0;
/// How soon a process that has ended is started anew, as systemd would.
const RESTART: Duration = Duration::from_millis(500);

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Worker,
    Planner,
    Database,
    Broker,
    /// A worker that stands still until others have what it had leased.
    Frozen,
}

/// Each of these once, and more of the usual ones, in any order.
fn plan(draw: &mut StdRng, each: &[Kind], usual: &[Kind]) -> Vec<Kind> {
    let mut plan = each.to_vec();
    plan.resize_with(KILLS, || *usual.choose(draw).expect("usual ones"));
    plan.shuffle(draw);
    plan
}

/// A process that is started again whenever it ends.
struct Kept {
    args: &'static [&'static str],
    log: &'static str,
    running: Running,
    began: Instant,
}

impl Kept {
    fn start(fleet: &Fleet, args: &'static [&'static str], log: &'static str) -> Self {
        Self { args, log, running: fleet.start(args, log), began: Instant::now() }
    }

    fn revive(&mut self, fleet: &Fleet) {
        if has_ended(&mut self.running).is_some() && self.began.elapsed() > RESTART {
            (self.running, self.began) = (fleet.start(self.args, self.log), Instant::now());
        }
    }

    fn kill(&mut self) {
        self.running.0.kill().unwrap();
        assert_eq!(self.running.0.wait().unwrap().signal(), Some(9));
    }
}

/// Everything that can be killed.
struct Field<'a> {
    fleet: &'a Fleet,
    database: &'a Postgres,
    broker: Option<&'a Broker>,
    processes: Vec<Kept>,
    /// The worker that stands still, and since when.
    frozen: Option<(usize, Instant)>,
    /// Windows that the kills so far can have left in doubt.
    windows: usize,
}

impl<'a> Field<'a> {
    fn new(fleet: &'a Fleet, database: &'a Postgres, broker: Option<&'a Broker>) -> Self {
        let worker: &[&str] = &["work", "--channels", "sms,rehearsal"];
        let processes = vec![
            Kept::start(fleet, &["serve", "--no-workers"], "planner.log"),
            Kept::start(fleet, worker, "one.log"),
            Kept::start(fleet, worker, "other.log"),
        ];
        Self { fleet, database, broker, processes, frozen: None, windows: 0 }
    }

    fn revive(&mut self) {
        self.processes.iter_mut().for_each(|process| process.revive(self.fleet));
    }

    /// Does this, and starts again meanwhile what has ended.
    async fn reviving<T>(&mut self, what: impl Future<Output = T>) -> T {
        tokio::pin!(what);
        loop {
            tokio::select! {
                done = &mut what => return done,
                () = tokio::time::sleep(Duration::from_millis(20)) => self.revive(),
            }
        }
    }

    /// A process that runs: who was killed a moment ago is waited for.
    async fn running(&mut self, i: usize) -> &mut Kept {
        until("it runs", SOON, async || {
            self.revive();
            has_ended(&mut self.processes[i].running).is_none()
        })
        .await;
        &mut self.processes[i]
    }

    /// Servers are started again at once.
    async fn strike(&mut self, kind: Kind, worker: usize) {
        match kind {
            Kind::Worker => {
                let worker = self.frozen.map_or(worker, |(frozen, _)| 3 - frozen);
                self.running(worker).await.kill();
                self.windows += 1;
            }
            Kind::Planner => self.running(0).await.kill(),
            Kind::Broker => {
                let broker = self.broker.expect("a broker");
                broker.run(&["kill"]);
                broker.run(&["start"]);
            }
            Kind::Database => {
                self.database.run("kill");
                self.database.run("start");
                // Away for longer than a lease holds, it costs both workers theirs.
                self.windows += 2;
            }
            Kind::Frozen => self.freeze(worker).await,
        }
    }

    async fn freeze(&mut self, worker: usize) {
        let fleet = self.fleet;
        until("it has a lease", SOON, async || fleet.held_by(pid(&self.running(worker).await.running)).await > 0).await;
        signal(&self.processes[worker].running, Signal::STOP);
        self.frozen = Some((worker, Instant::now()));
        self.windows += 1;
    }

    /// It goes on and finds that it has nothing any more.
    async fn thaw(&mut self) {
        let (Some((worker, since)), fleet) = (self.frozen, self.fleet) else { return };
        let frozen = pid(&self.processes[worker].running);
        let over = async || since.elapsed() > PAST_A_LEASE && fleet.held_by(frozen).await == 0;
        self.reviving(until("others have what it had", SOON, over)).await;
        signal(&self.processes[worker].running, Signal::CONT);
        self.frozen = None;
    }

    /// Kills while a dispatch to everybody is under way, and its books.
    async fn round(&mut self, draw: &mut StdRng, plan: &[Kind]) {
        let fleet = self.fleet;
        fleet.rate(RATE).await;
        let load = fleet.load().await;
        self.reviving(fleet.goes_on(20)).await;
        for kind in plan {
            let pause = Duration::from_millis(draw.random_range(100..1_600));
            self.reviving(tokio::time::sleep(pause)).await;
            self.strike(*kind, draw.random_range(1..=2)).await;
            fleet.assert_conserved().await;
        }
        let beside = if self.frozen.is_some() { ", one worker stands still" } else { "" };
        let what = format!("{} random kills, the last of the {:?}{beside}", plan.len(), plan[plan.len() - 1]);
        self.reviving(fleet.recovered(&what.to_lowercase())).await;
        self.thaw().await;
        fleet.rate(3_000.0).await;
        self.reviving(fleet.balanced(load, self.windows)).await;
    }

    /// Tells all to end, once they are there.
    async fn end(mut self) {
        let fleet = self.fleet;
        self.reviving(until("all are there", SOON, async || fleet.working().await == 2)).await;
        for process in self.processes.into_iter().rev() {
            told_to_end(process.running).await;
        }
    }
}

/// How long to go on; once round where nobody says.
#[allow(clippy::disallowed_methods)] // tests have no config file
fn wanted() -> Duration {
    Duration::from_secs(std::env::var("GONG_SOAK_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn random_kills_lose_nothing() {
    let (Some(database), broker) = (Postgres::start(), own_broker().await) else { return };
    let seed = seed(20_261_122);
    println!("seed {seed}; play it again with GONG_TEST_SEED={seed}, or tests/soak.sh SECONDS {seed}");
    let (began, mut draw, mut rounds) = (Instant::now(), StdRng::seed_from_u64(seed), 0);
    let mut killed: BTreeMap<Kind, usize> = BTreeMap::new();
    let queue = broker.as_ref().map_or(String::new(), Broker::settings);
    while rounds == 0 || began.elapsed() < wanted() {
        // Each with its books alone, with the broker and without.
        for (more, broker) in [(queue.as_str(), broker.as_ref()), ("", None)] {
            let fleet = Fleet::on(&database.url, more, SMALL, (rough(seed + rounds), 1_000)).await.with_probe().await;
            let mut field = Field::new(&fleet, &database, broker);
            for _ in 0..ROUNDS {
                let at = Instant::now();
                let mut each = vec![Kind::Worker, Kind::Planner, Kind::Database];
                each.extend(broker.map(|_| Kind::Broker));
                let usual = [&[Kind::Worker; 3], each.as_slice()].concat();
                // Once is enough: it takes half a minute.
                each.extend((rounds == 0).then_some(Kind::Frozen));
                let plan = plan(&mut draw, &each, &usual);
                field.round(&mut draw, &plan).await;
                rounds += 1;
                for kind in &plan {
                    *killed.entry(*kind).or_default() += 1;
                }
                println!("round {rounds}: {:.1} s, killed {plan:?}", at.elapsed().as_secs_f64());
                if began.elapsed() >= wanted() {
                    break;
                }
            }
            field.end().await;
            fleet.end().await;
        }
    }
    assert_eq!(killed.len(), 4 + usize::from(broker.is_some()), "each kind at least once: {killed:?}");
    println!("soak: seed {seed}, {rounds} rounds, {killed:?}, {:.0} s, nothing lost", began.elapsed().as_secs_f64());
}
