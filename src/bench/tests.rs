//! Each bench, small: it ends, and its numbers are of the right kind.

use super::*;

fn settings(dir: &std::path::Path) -> Settings {
    Settings {
        n: Some(300),
        runs: 1,
        store: None,
        dir: dir.to_owned(),
        seed: 1,
        broker: None,
        latency_ms: None,
        in_flight: None,
        numbers: 1,
        rate: 4_000.0,
        receipts: false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn benches_measure_and_leave_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    for name in [Name::Snapshot, Name::Dispatch, Name::Import, Name::Receipts, Name::Callbacks] {
        let report = run(name, &settings(dir.path())).await.unwrap();
        assert!((200..=400).contains(&report.n), "{report:?}");
        assert!(report.ratio > 0.0 && report.ceiling_per_second > 0.0 && report.peak_rss_bytes > 0, "{report:?}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn the_median_counts() {
    assert!((median([3.0, 1.0, 9.0].into_iter()) - 3.0).abs() < f64::EPSILON);
}
