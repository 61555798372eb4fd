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
    for name in [Name::Snapshot, Name::Dispatch, Name::Import, Name::Receipts] {
        let report = run(name, &settings(dir.path())).await.unwrap();
        assert!((200..=400).contains(&report.n), "{report:?}");
        assert!(report.ratio > 0.0 && report.ceiling_per_second > 0.0 && report.peak_rss_bytes > 0, "{report:?}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn the_median_counts() {
    let of = |values: &[f64]| median(values.iter().copied());
    assert!((of(&[3.0, 1.0, 9.0]) - 3.0).abs() < f64::EPSILON);
    assert!((of(&[9.0, 1.0, 3.0, 5.0]) - 4.0).abs() < f64::EPSILON);
    assert!(of(&[]).abs() < f64::EPSILON);
}

/// A ratio of medians would pair one run's work with another's ceiling: 1.0 here.
#[test]
fn each_run_is_compared_with_its_own_ceiling() {
    let dir = tempfile::tempdir().unwrap();
    let run = |own, bare| Run::new(100, Duration::from_secs(own), Duration::from_secs(bare), 1);
    let runs = vec![run(4, 1), run(8, 6), run(6, 8)];
    let report = report(Measured { name: "x", ceiling: "y", runs, details: Map::new() }, &settings(dir.path()));
    assert!((report.ratio - 0.75).abs() < 1e-9 && (report.times_bare - 4.0 / 3.0).abs() < 1e-9, "{report:?}");
    assert!((report.ratio_min - 0.25).abs() < 1e-9 && (report.ratio_max - 8.0 / 6.0).abs() < 1e-9, "{report:?}");
    assert!((report.per_second / report.ceiling_per_second - 1.0).abs() < 1e-9, "{report:?}");
}
