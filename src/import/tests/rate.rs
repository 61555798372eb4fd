//! How fast a roster comes in: `cargo test --release --lib import::tests::rate -- --ignored --nocapture`.

use std::fmt::Write as _;
use std::time::Instant;

use super::*;

const ROWS: usize = 200_000;

/// Made-up people, three to a household, in the villages above.
fn roster(rows: usize, prefix: u32) -> String {
    let mut text = String::from("外部编号,姓名,手机,户号,户主电话,常住地,年龄,外出\n");
    for i in 0..rows {
        let village = if i < rows / 2 { "990101100201" } else { "东镇/老村" };
        let (household, age) = (i / 3, i % 90);
        let phone = if i % 4 == 0 { String::new() } else { format!("{prefix}{i:08}") };
        let _ = writeln!(text, "A{i},人{i},{phone},H{household},138{household:08},{village},{age},否");
    }
    text
}

#[tokio::test]
#[ignore = "measures; run it in release"]
async fn rows_a_second() {
    for site in Site::all().await {
        for (pass, prefix) in [("new", 139), ("again", 139), ("changed", 137)] {
            let text = roster(ROWS, prefix);
            let start = Instant::now();
            let summary = site.people(&text).await;
            let rate = f64::from(u32::try_from(ROWS).unwrap()) / start.elapsed().as_secs_f64();
            println!("{}, {pass}: {rate:.0} rows/s", site.t.engine);
            let expected = match pass {
                "new" => (200_000, 0, 0),
                "again" => (0, 0, 200_000),
                _ => (0, 150_000, 50_000),
            };
            assert_eq!((summary.added, summary.updated, summary.unchanged), expected);
        }
    }
}
