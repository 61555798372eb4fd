//! Sheets by one printing process: each handed over and fetched by itself, beside the
//! same sheets bound together a hundred at a time.

use std::time::{Duration, Instant};

use serde_json::{Map, json};

use super::{Measured, Run, Settings, peak};
use crate::sheet::{Document, Level, Notice, Press, PressSettings, Wants, blocks};

/// Sheets between two looks at the child's memory.
const LOOK: i64 = 50;
/// Sheets bound together for the ceiling.
const BOUND: i64 = 100;

pub(super) async fn run(settings: &Settings, n: i64) -> anyhow::Result<Measured> {
    let (mut runs, mut details) = (Vec::new(), Map::new());
    for _ in 0..settings.runs {
        let press = Press::new(PressSettings::default());
        let began = Instant::now();
        let first = press.print(&notice(0), Wants { jpg: false }).await?;
        let first_ms = began.elapsed().as_millis();
        let (own, child_peak) = alone(&press, n).await?;
        let bare = bound(&press, n).await?;
        let picture = press.print(&notice(0), Wants { jpg: true }).await?;
        runs.push(Run::new(n, own, bare, peak::read()));
        if details.is_empty() {
            details.insert("first_ms".into(), json!(u64::try_from(first_ms)?));
            details.insert("child_peak_bytes".into(), json!(child_peak));
            details.insert("pdf_bytes".into(), json!(first.pdf.len()));
            details.insert("jpg_bytes".into(), json!(picture.jpg.map(|j| j.len())));
        }
    }
    let ceiling = "the same sheets bound together, a hundred at a time";
    Ok(Measured { name: "sheets", ceiling, runs, details })
}

/// One after the other; how long it took, and the most memory a child held.
async fn alone(press: &Press, n: i64) -> anyhow::Result<(Duration, u64)> {
    let (began, mut most) = (Instant::now(), 0);
    for i in 0..n {
        press.print(&notice(i), Wants { jpg: false }).await?;
        if i % LOOK == LOOK - 1 || i == n - 1 {
            most = press.children().iter().map(|id| peak::of(&id.to_string())).fold(most, u64::max);
        }
    }
    Ok((began.elapsed(), most))
}

async fn bound(press: &Press, n: i64) -> anyhow::Result<Duration> {
    let began = Instant::now();
    for from in (0..n).step_by(usize::try_from(BOUND)?) {
        let set: Vec<Document> = (from..n.min(from + BOUND)).map(notice).collect();
        press.bind(&set, Wants { jpg: false }).await?;
    }
    Ok(began.elapsed())
}

/// An alert as it hangs in one of many villages.
fn notice(i: i64) -> Document {
    let unit = "某县防汛抗旱指挥部".to_owned();
    Document::Notice(Box::new(Notice {
        issuer: unit.clone(),
        title: "关于沿江低洼地带群众立即转移避险的暴雨红色预警".to_owned(),
        level: Some(Level { word: "暴雨红色预警".to_owned(), colour: "red".to_owned() }),
        body: blocks(&format!(
            "预计未来6小时，第{i}号村及周边累计降雨量将达{}毫米以上，河道水位将超过警戒水位。\
             沿岸低洼地带、地质灾害隐患点群众须在今日18时前**全部转移**。",
            100 + i % 100
        )),
        actions: vec![
            "立即转移到就近安置点，服从村组干部指挥。".to_owned(),
            "关闭电源和燃气，带好证件和药品。".to_owned(),
        ],
        facts: vec![
            ("影响范围".to_owned(), format!("第{i}号村各村民小组")),
            ("咨询电话".to_owned(), "0870-0000000".to_owned()),
        ],
        unit,
        date: "2026年7月1日".to_owned(),
        place: format!("某镇 · 第{i}号村 · 公告栏"),
        serial: format!("MX-2026-{i:06}"),
        qr: Some(format!("https://gong.example.cn/s/MX-2026-{i:06}")),
        ..Notice::default()
    }))
}
