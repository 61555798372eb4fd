//! Random kills of everything there is, drawn from a printed seed; the books after every
//! round. A short time among the tests, as long as one likes with tests/soak.sh.

use std::time::{Duration, Instant};

use super::servers::Postgres;
use super::{Fleet, SMALL, has_ended, rough};
use crate::fleet::told_to_end;
use crate::rabbit::rig::{Broker, own_broker};
use crate::rig::SOON;
use crate::support::{Running, seed};

/// Kills in a round, and rounds on one database.
const KILLS: u32 = 6;
const ROUNDS: u32 = 8;
/// How soon a process that has ended is started anew, as systemd would.
const RESTART: Duration = Duration::from_millis(500);

/// A small generator, so that a printed seed plays the same kills again.
struct Draw(u64);

impl Draw {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
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
        self.running.0.wait().unwrap();
    }
}

/// Everything that can be killed.
struct Field<'a> {
    fleet: &'a Fleet,
    database: &'a Postgres,
    broker: Option<&'a Broker>,
    processes: Vec<Kept>,
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
        Self { fleet, database, broker, processes, windows: 0 }
    }

    fn revive(&mut self) {
        self.processes.iter_mut().for_each(|process| process.revive(self.fleet));
    }

    /// Kills one, by the draw, and says which; servers are started again at once.
    fn kill(&mut self, draw: u64) -> &'static str {
        match (draw, self.broker) {
            (0..5, _) => {
                self.processes[1 + usize::from(draw % 2 == 1)].kill();
                self.windows += 1;
                "worker"
            }
            (5..7, _) => {
                self.processes[0].kill();
                "planner"
            }
            (9, Some(broker)) => {
                broker.run(&["kill"]);
                broker.run(&["start"]);
                "broker"
            }
            _ => {
                self.database.run("kill");
                self.database.run("start");
                // Away for longer than a lease holds, it costs both workers theirs.
                self.windows += 2;
                "database"
            }
        }
    }

    /// One dispatch to everybody, and kills in its time.
    async fn round(&mut self, draw: &mut Draw) -> Vec<&'static str> {
        let (fleet, mut killed) = (self.fleet, Vec::new());
        fleet.rate(200.0).await;
        let dispatch = fleet.alert().await;
        let mut next = Instant::now() + Duration::from_millis(500);
        let end = Instant::now() + 2 * SOON;
        // The database may just have been killed: who cannot be asked has not said that it is over.
        while fleet.app.store.dispatch(&dispatch.to_string()).await.map_or(true, |d| d.finished_at.is_none()) {
            assert!(Instant::now() < end, "{killed:?} {:?}", fleet.app.store.delivery_counts(dispatch).await);
            self.revive();
            if killed.len() < KILLS as usize && Instant::now() >= next {
                killed.push(self.kill(draw.below(10)));
                fleet.assert_conserved().await;
                next = Instant::now() + Duration::from_millis(200 + draw.below(2_500));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        fleet.balanced(dispatch, self.windows).await;
        killed
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
    let (began, mut draw, mut rounds, mut kills) = (Instant::now(), Draw(seed), 0, 0);
    let queue = broker.as_ref().map_or(String::new(), |b| format!("[queue]\nprefetch = 2\nurl = [\"{}\"]", b.url()));
    while rounds == 0 || began.elapsed() < wanted() {
        // Each with its books alone, with the broker and without.
        for (more, broker) in [(queue.as_str(), broker.as_ref()), ("", None)] {
            let fleet = Fleet::on(&database.url, more, SMALL, (rough(seed + rounds), 1_500)).await;
            let mut field = Field::new(&fleet, &database, broker);
            for _ in 0..ROUNDS {
                let at = Instant::now();
                let killed = field.round(&mut draw).await;
                rounds += 1;
                kills += killed.len();
                println!("round {rounds}: {:.1} s, killed {}", at.elapsed().as_secs_f64(), killed.join(", "));
                if began.elapsed() >= wanted() {
                    break;
                }
            }
            field.revive();
            let Field { processes, .. } = field;
            for process in processes.into_iter().rev() {
                told_to_end(process.running).await;
            }
            fleet.end().await;
        }
    }
    println!("soak: seed {seed}, {rounds} rounds, {kills} kills, {:.0} s, nothing lost", began.elapsed().as_secs_f64());
}
