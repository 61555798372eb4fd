//! Two planners at once, one of them fenced: nothing is written twice, nothing is left out.

use super::*;
use crate::store::testing::stores;

const PEOPLE: i64 = 240;
const STEPS: i32 = 3;

/// Plans until there is nothing left to plan, whoever else does the same, and says how
/// many chunks it wrote.
async fn plan(store: Store, no: i64, width: i64) -> usize {
    let mut wrote = 0;
    loop {
        let d = store.dispatch(&no.to_string()).await.unwrap();
        let channels = [sms(10)];
        let next = if d.step + 1 < STEPS { Some(NOON) } else { None };
        let job = Chunking { next_step_at: next, ..job(&d, &channels) };
        let chunk = match d.phase.as_str() {
            "snapshot" => {
                let who = store.audience_page("1 = 1", d.cursor_no, width).await.unwrap();
                let last = i64::try_from(who.len()).unwrap() < width;
                store.snapshot_chunk(&job, &who, last).await
            }
            "plan" => store.step_chunk(&job, d.step, width).await,
            "waiting" => {
                store.begin_step(&d, d.step + 1).await.unwrap();
                continue;
            }
            _ => return wrote,
        };
        // Who came second is told so, by an error or by nothing written.
        wrote += usize::from(chunk.is_ok_and(|c| c.deliveries > 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_planner_writes_nothing_twice() {
    for t in stores().await {
        people(&t.store, PEOPLE).await;
        let item = approved(&t.store).await;
        for round in 0..4 {
            let made = t.store.create_dispatch(&order(&item, 2)).await.unwrap();
            let planners = (0..3).map(|i| tokio::spawn(plan(t.store.clone(), made.no, 7 + i)));
            let mut wrote = Vec::new();
            for planner in planners {
                wrote.push(planner.await.unwrap());
            }
            let d = again(&t.store, &made).await;
            assert_eq!((d.phase.as_str(), d.step), ("done", STEPS - 1), "{} {round} {wrote:?}", t.engine);
            assert_eq!((d.members, d.deliveries), (PEOPLE, PEOPLE * i64::from(STEPS)));
            for (sql, is) in [
                ("SELECT COUNT(*) FROM members WHERE dispatch_no = ", PEOPLE),
                ("SELECT COUNT(DISTINCT recipient_no) FROM members WHERE dispatch_no = ", PEOPLE),
                ("SELECT COUNT(*) FROM deliveries WHERE dispatch_no = ", PEOPLE * i64::from(STEPS)),
                ("SELECT CAST(SUM(size) AS BIGINT) FROM batches WHERE dispatch_no = ", PEOPLE * i64::from(STEPS)),
            ] {
                assert_eq!(t.store.probe_count(format!("{sql}{}", d.no)).await, is, "{} {sql}", t.engine);
            }
        }
    }
}

#[tokio::test]
async fn who_began_earlier_cannot_begin_a_step_again() {
    for t in stores().await {
        people(&t.store, 3).await;
        let item = approved(&t.store).await;
        let made = t.store.create_dispatch(&order(&item, 2)).await.unwrap();
        let channels = [sms(10)];
        let first = Chunking { next_step_at: Some(NOON), ..job(&made, &channels) };
        t.store.snapshot_chunk(&first, &[1, 2, 3], true).await.unwrap();
        let stale = again(&t.store, &made).await;
        t.store.begin_step(&stale, 1).await.unwrap();
        let second = again(&t.store, &made).await;
        let job = Chunking { next_step_at: Some(NOON), ..job(&second, &channels) };
        assert!(t.store.step_chunk(&job, 1, 10).await.unwrap().done);
        t.store.begin_step(&stale, 1).await.unwrap();
        let now = again(&t.store, &made).await;
        assert_eq!((now.phase.as_str(), now.step, now.deliveries), ("waiting", 1, 6), "{}", t.engine);
        // Nor can a chunk be written from where the work no longer stands.
        let before = t.store.step_chunk(&job, 1, 10).await;
        assert!(before.is_err() || before.is_ok_and(|c| c.deliveries == 0), "{}", t.engine);
        assert_eq!(again(&t.store, &made).await.deliveries, 6);
    }
}
