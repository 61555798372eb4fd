//! `kill -9` at each failpoint, and a commit whose answer is lost.

use std::os::unix::process::ExitStatusExt as _;
use std::time::Instant;

use super::{Fleet, SMALL, has_ended, rough};
use crate::fleet::{pid, told_to_end};
use crate::rabbit::rig::broker;
use crate::rig::{SOON, until};
use crate::support::{Running, postgres_server, tell};

const WORK: [&str; 3] = ["work", "--channels", "sms,rehearsal"];
/// Where a worker dies, and which time it comes there.
const PLACES: [&str; 5] = [
    "before_claim=5*off->return",
    "after_mark=3*off->return",
    "after_send=40*off->return",
    "before_commit=3*off->return",
    "before_ack=1*off->return",
];

/// A process that is to die at a failpoint.
struct Victim {
    place: &'static str,
    process: Running,
    died: Option<Instant>,
    settled: bool,
}

impl Victim {
    fn of(fleet: &Fleet, place: &'static str, args: &[&str]) -> Self {
        let log = format!("{}.log", place.split('=').next().unwrap());
        let process = fleet.start_with(args, &log, &[("FAILPOINTS", place)]);
        Self { place, process, died: None, settled: false }
    }

    fn look(&mut self) -> bool {
        if self.died.is_none()
            && let Some(status) = has_ended(&mut self.process)
        {
            assert_eq!(status.signal(), Some(9), "{}: {status}", self.place);
            self.died = Some(Instant::now());
        }
        self.died.is_some()
    }

    /// Its batches are with others or done.
    async fn settle(&mut self, fleet: &Fleet) -> bool {
        let Some(died) = self.died.filter(|_| !self.settled) else { return self.settled };
        if fleet.held_by(pid(&self.process)).await == 0 {
            tell(&format!("kill -9 at {}", self.place), died.elapsed());
            fleet.assert_conserved().await;
            self.settled = true;
        }
        self.settled
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_place_nothing_is_lost() {
    let Some(server) = postgres_server() else { return };
    let fleet = Fleet::on(&server, "", SMALL, (rough(1), 4_800)).await;
    killed_at_every_place(fleet, &["between_chunks=return"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_place_beside_a_broker_nothing_is_lost() {
    let (Some(server), Some(broker)) = (postgres_server(), broker().await) else { return };
    let fleet = Fleet::on(&server, &broker.settings(), SMALL, (rough(2), 4_800)).await;
    killed_at_every_place(fleet, &["between_chunks=return", "after_publish=return"]).await;
}

async fn killed_at_every_place(fleet: Fleet, planners: &[&'static str]) {
    let mut victims: Vec<Victim> = PLACES.iter().map(|place| Victim::of(&fleet, place, &WORK)).collect();
    let steady = fleet.work("steady");
    until("the workers are there", SOON, async || fleet.working().await == PLACES.len() + 1).await;
    fleet.rate(600.0).await;
    let first = fleet.alert().await;
    for place in planners {
        let mut planner = Victim::of(&fleet, place, &["serve", "--no-workers"]);
        until(place, SOON, async || planner.look()).await;
        fleet.assert_conserved().await;
        victims.push(planner);
    }
    let (planner, at) = (fleet.plan("planner"), Instant::now());
    until("it leads", SOON, async || fleet.leader("planner").await == Some(pid(&planner))).await;
    tell(&format!("kill -9 of the planner at {}, another leads", planners.join(" and ")), at.elapsed());
    let mut dispatches = vec![first];
    until("all die and are taken over", 2 * SOON, async || {
        let mut left = 0;
        for victim in &mut victims {
            left += usize::from(!(victim.look() && victim.settle(&fleet).await));
        }
        let last = *dispatches.last().unwrap();
        if left > 0 && fleet.app.store.dispatch(&last.to_string()).await.unwrap().finished_at.is_some() {
            dispatches.push(fleet.alert().await);
        }
        left == 0
    })
    .await;
    for dispatch in dispatches {
        fleet.balanced(dispatch, PLACES.len()).await;
    }
    told_to_end(steady).await;
    told_to_end(planner).await;
    fleet.end().await;
}

/// The database has it on disk, and the worker does not know.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_neither_lost_nor_done_twice() {
    let Some(server) = postgres_server() else { return };
    let fleet = Fleet::on(&server, "", SMALL, (rough(3), 1_000)).await;
    let planner = fleet.plan("planner");
    let places =
        "commit_answer=1*return(error)->2*off->2*return(error)->5*off->1*return(error)->20*off->1*return(error)";
    let worker = fleet.start_with(&WORK, "worker.log", &[("FAILPOINTS", places)]);
    fleet.rate(400.0).await;
    let dispatch = fleet.alert().await;
    let at = Instant::now();
    fleet.balanced(dispatch, 0).await;
    assert!(fleet.log_of("worker").matches("cannot record results").count() >= 5, "{}", fleet.log_of("worker"));
    tell("five commits without an answer, until everything has arrived", at.elapsed());
    told_to_end(worker).await;
    told_to_end(planner).await;
    fleet.end().await;
}
