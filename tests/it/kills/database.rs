//! What a database suffers in the middle of a dispatch: killed, restarted, slow, full.

use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use super::servers::{Postgres, SmallDisk};
use super::{Fleet, SLOW, SMALL, rough};
use crate::fleet::told_to_end;
use crate::rabbit::rig::broker;
use crate::rig::{SOON, until};
use crate::slow_disk::SlowDisk;

async fn set(fleet: &Fleet, sql: String) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&fleet.pool).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_killed_restarted_and_slow() {
    let Some(server) = Postgres::start() else { return };
    let fleet = Fleet::on(&server.url, "", SMALL, (rough(4), 2_500)).await.with_probe().await;
    let (planner, one, other) = (fleet.plan("planner"), fleet.work("one"), fleet.work("other"));
    fleet.rate(SLOW).await;
    let dispatch = fleet.load().await;
    fleet.goes_on(100).await;
    for (verb, what) in [("kill", "kill -9 of the database"), ("stop", "the database restarted"), ("kill", "once more")]
    {
        server.run(verb);
        tokio::time::sleep(Duration::from_millis(500)).await;
        server.run("start");
        fleet.recovered(what).await;
        fleet.all_work(2).await;
        fleet.goes_on(50).await;
        fleet.assert_conserved().await;
    }
    fleet.rate(3_000.0).await;
    fleet.balanced(dispatch, 2).await;
    slow_for_a_while(&fleet, &server).await;
    for process in [one, other, planner] {
        told_to_end(process).await;
    }
    fleet.end().await;
}

/// How much longer the disk takes with all that must be on it.
const LONGER: Duration = Duration::from_millis(100);

/// The disk is slow for most of a dispatch, and then quick again.
async fn slow_for_a_while(fleet: &Fleet, server: &Postgres) {
    let quick = a_commit_takes(fleet).await;
    let Some(disk) = tokio::task::block_in_place(|| SlowDisk::under(&server.pids(), LONGER)) else { return };
    let slow = a_commit_takes(fleet).await;
    assert!(slow >= quick + LONGER / 2, "{slow:?} and {quick:?}");
    let dispatch = fleet.load().await;
    println!("100 ms a commit: 1000 messages in {:.1} s", fleet.goes_on(1_000).await.as_secs_f64());
    fleet.rate(SLOW).await;
    // Who comes while another waits for the disk need not wait as long.
    let slow = a_commit_takes(fleet).await;
    assert!(slow >= quick + LONGER / 4, "{slow:?} and {quick:?}");
    println!("the disk was waited for {} times", disk.held());
    drop(disk);
    fleet.recovered("the database's disk was slow").await;
    until("commits are quick again", SOON, async || a_commit_takes(fleet).await < LONGER / 2).await;
    fleet.goes_on(50).await;
    fleet.rate(3_000.0).await;
    fleet.balanced(dispatch, 2).await;
}

/// How long one of this test's own takes, which changes nothing: the middle of seven.
async fn a_commit_takes(fleet: &Fleet) -> Duration {
    let mut all = Vec::new();
    for _ in 0..7 {
        let at = Instant::now();
        set(fleet, "SELECT pg_logical_emit_message(true, 'test', 'a commit')".into()).await;
        all.push(at.elapsed());
    }
    all.sort_unstable();
    all[all.len() / 2]
}

/// The broker has messages of batches whose state the database is asked for in vain, and
/// that it has confirmed without the store knowing.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_beside_a_broker_is_killed_and_restarted() {
    let (Some(server), Some(broker)) = (Postgres::start(), broker().await) else { return };
    let fleet = Fleet::on(&server.url, &broker.settings(), SMALL, (rough(14), 1_500)).await.with_probe().await;
    let (planner, one, other) = (fleet.plan("planner"), fleet.work("one"), fleet.work("other"));
    fleet.rate(SLOW).await;
    let mut loads = vec![fleet.load().await];
    fleet.goes_on(100).await;
    for round in 1..=2 {
        // What was made a moment ago is being planned and published.
        loads.push(fleet.load().await);
        server.run("kill");
        server.run("start");
        fleet.recovered(&format!("kill -9 of the database beside a broker, {round}")).await;
        fleet.all_work(2).await;
        fleet.goes_on(50).await;
        fleet.assert_conserved().await;
    }
    fleet.rate(3_000.0).await;
    for dispatch in loads {
        fleet.balanced(dispatch, 2 * 2).await;
    }
    for process in [one, other, planner] {
        told_to_end(process).await;
    }
    fleet.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_whose_disk_is_full_goes_on_when_there_is_room() {
    let Some(server) = Postgres::start() else { return };
    let Some(disk) = SmallDisk::of_mb(400) else { return };
    let place = disk.path().join("tables");
    std::fs::create_dir(&place).unwrap();
    let owner = std::process::Command::new("chown").arg("postgres:").arg(&place).status().unwrap();
    assert!(owner.success());
    let admin = crate::support::pool(&server.url).await;
    for sql in [
        format!("CREATE TABLESPACE small LOCATION '{}'", place.display()),
        "ALTER SYSTEM SET default_tablespace = 'small'".to_owned(),
        "SELECT pg_reload_conf()".to_owned(),
    ] {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&admin).await.unwrap();
    }
    admin.close().await;
    let fleet = Fleet::on(&server.url, "", SMALL, (rough(5), 3_000)).await.with_probe().await;
    let (planner, one, other) = (fleet.plan("planner"), fleet.work("one"), fleet.work("other"));
    fleet.rate(200.0).await;
    let dispatch = fleet.load().await;
    fleet.goes_on(100).await;
    disk.fill();
    let refused = || {
        let logs = fleet.log_of("one") + &fleet.log_of("other");
        logs.matches("cannot record results").count()
    };
    until("the database refuses", SOON, async || refused() >= 4).await;
    // Some turns fit into pages that have room; the others are kept and tried again.
    until("it refuses on", SOON, async || refused() >= 8).await;
    fleet.assert_conserved().await;
    disk.make_room();
    fleet.rate(SLOW).await;
    fleet.recovered("the database's disk was full").await;
    fleet.goes_on(50).await;
    fleet.assert_conserved().await;
    fleet.rate(3_000.0).await;
    fleet.balanced(dispatch, 2).await;
    for process in [one, other, planner] {
        told_to_end(process).await;
    }
    fleet.end().await;
    drop(server);
}

/// Its write-ahead log lies on a disk of its own: without room there PostgreSQL panics,
/// and does not come up.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_whose_log_has_no_room_stops_and_nothing_is_lost() {
    let Some(disk) = SmallDisk::of_mb(250) else { return };
    let Some(server) = Postgres::start() else { return };
    server.log_on(&disk);
    let fleet = Fleet::on(&server.url, "", SMALL, (rough(18), 1_500)).await.with_probe().await;
    let (planner, one, other) = (fleet.plan("planner"), fleet.work("one"), fleet.work("other"));
    fleet.rate(200.0).await;
    let dispatch = fleet.load().await;
    fleet.goes_on(100).await;
    disk.fill();
    // Others write, too, until even what it writes when it comes up finds no room.
    until("it stops", SOON, async || {
        if let Ok(mut c) = PgConnection::connect(&server.url).await {
            let much = "SELECT COUNT(pg_logical_emit_message(false, 'test', '')) FROM generate_series(1, 100000)";
            // It fails when there is no room.
            let _ = c.execute(much).await;
        }
        !server.is_up()
    })
    .await;
    assert!(server.words().contains("PANIC:  could not write to file \"pg_wal/"), "{}", server.words());
    until("it is missed", SOON, async || fleet.log_of("one").contains("cannot record results")).await;
    disk.make_room();
    server.run("start");
    fleet.rate(SLOW).await;
    fleet.recovered("the disk of the database's log was full").await;
    fleet.goes_on(50).await;
    fleet.assert_conserved().await;
    fleet.rate(3_000.0).await;
    // It may have come up once, and away for longer than a lease holds.
    fleet.balanced(dispatch, 2 * 2).await;
    for process in [one, other, planner] {
        told_to_end(process).await;
    }
    fleet.end().await;
}
