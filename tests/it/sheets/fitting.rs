//! What fits: characters in the fonts, words in a title's lines, an alert on one page, a
//! long list in the memory of the press.

use gong::sheet::{Cover, Document, DoorKnock, Notice, Press, blocks};

use super::samples::{alert, cover, door_knock};
use super::{JPG, joined, poppler, print, settings};
use crate::support::Gong;

/// Every character of a two-byte encoding's rows, as its standard numbers them.
fn rows(first: u8, last: u8, from: u8) -> String {
    let mut bytes = Vec::new();
    for high in first..=last {
        for low in (from..=0xfe).filter(|low| *low != 0x7f) {
            bytes.extend([high, low]);
        }
    }
    let (text, _, _) = encoding_rs::GBK.decode(&bytes);
    text.chars().filter(|c| ('\u{4e00}'..='\u{9fa5}').contains(c)).collect()
}

/// GB 2312 has 6,763 ideographs, and holds all of the first tier of 通用规范汉字表 but a
/// few; GBK has 20,902 and with them the second tier and the names of its day.
#[tokio::test]
async fn the_small_fonts_draw_every_ideograph_of_gbk() {
    let press = Press::new(settings());
    let (simple, whole) = (rows(0xb0, 0xf7, 0xa1), rows(0x81, 0xfe, 0x40));
    assert_eq!((simple.chars().count(), whole.chars().count()), (6_763, 20_902));
    let letters: Vec<char> = whole.chars().collect();
    for some in letters.chunks(3_000) {
        let some: String = some.iter().collect();
        let sheet = Notice { body: blocks(&some), ..alert() };
        assert_eq!(print(&press, &Document::Notice(Box::new(sheet))).await.missing, Vec::<char>::new());
    }
}

#[test]
fn a_text_is_checked_before_it_is_printed() {
    let gong = Gong::new();
    gong.run(["init", "--name", "某县应急管理局", "--phone", "0870-0000000"]).ok();
    std::fs::write(gong.dir().join("全.csv"), "\u{feff}村,户主\n城郊村,李喆\n").unwrap();
    std::fs::write(gong.dir().join("缺.csv"), "村,户主\n城郊村,王\u{10fffd}\n\u{10fffd}村,李\u{7}喆\n").unwrap();
    let whole = gong.run(["sheet", "check", "全.csv"]).ok();
    assert!(whole.stdout.contains("8 种字符，都能打印"), "{whole:?}");
    let run = gong.run(["sheet", "check", "全.csv", "缺.csv", "--json"]);
    let files = run.json()["files"].clone();
    assert_eq!((run.code, files[0]["missing"].as_array().unwrap().len()), (Some(4), 0), "{run:?}");
    let missing = &files[1]["missing"];
    assert_eq!((missing[0]["code"].as_str(), missing[0]["line"].as_i64()), (Some("U+0007"), Some(3)), "{missing}");
    assert_eq!((missing[1]["code"].as_str(), missing[1]["times"].as_i64()), (Some("U+10FFFD"), Some(2)), "{missing}");
    let shown = gong.run(["sheet", "check", "缺.csv"]);
    assert!(shown.stdout.contains("U+10FFFD  2 次，第 2 行起") && shown.stderr.contains("fonts/"), "{shown:?}");
}

/// A line of the page ends where a word ends.
#[tokio::test]
async fn a_title_is_broken_between_words() {
    let press = Press::new(settings());
    for (title, words) in [
        ("关于做好2026年度河口瑶族自治县农村困难家庭危房改造补助资金申报工作的通知", ["通知", "河口瑶族自治县"]),
        ("河口瑶族自治县人民政府关于南溪河沿岸受灾群众过渡期生活救助对象名单的公示", ["公示", "救助"]),
        ("关于红河、南溪河沿岸村组立即转移避险的暴雨洪水红色预警", ["预警", "暴雨"]),
    ] {
        let sheet = Notice { title: title.into(), ..alert() };
        let text = poppler("pdftotext", &print(&press, &Document::Notice(Box::new(sheet))).await.pdf);
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        assert!(joined(&text).contains(title) && !lines.contains(&title), "{text}");
        for word in words {
            assert!(lines.iter().any(|line| line.contains(word) && title.contains(line)), "{word}: {text}");
        }
    }
}

#[tokio::test]
async fn an_alert_that_runs_over_by_some_lines_hangs_on_one_page() {
    let press = Press::new(settings());
    let mut sheet = alert();
    for line in ["老人、儿童和行动不便的邻居由村组干部带走。", "牲畜不转移，财物不返取。"]
    {
        sheet.actions.push(line.into());
    }
    sheet.body = blocks(
        "| 乡镇 | 安置点 |\n|---|---|\n| 河口镇 | 中心学校 |\n\n预计今夜有暴雨。\n\n请立即转移。\n\n请互相转告。",
    );
    let printed = print(&press, &Document::Notice(Box::new(sheet.clone()))).await;
    assert_eq!(printed.pages, 1);
    sheet.body = blocks(&"请各村立即转移沿河低洼处的群众，逐户清点人数。\n\n".repeat(20));
    let printed = print(&press, &Document::Notice(Box::new(sheet))).await;
    assert_eq!(printed.pages, 2, "what fits on no single page has room");
}

#[tokio::test]
async fn the_list_of_a_town_fills_no_page_with_a_date_alone() {
    let press = Press::new(settings());
    for rows in 20..40 {
        let row = || ["1-1", "城郊村", "村务公开栏", "139****0000", "1"].map(str::to_owned).to_vec();
        let list = Cover { rows: (0..rows).map(|_| row()).collect(), ..cover() };
        let printed = print(&press, &Document::Cover(list)).await;
        let text = poppler("pdftotext", &printed.pdf);
        let pages: Vec<&str> = text.split('\u{c}').filter(|page| !page.trim().is_empty()).collect();
        assert_eq!(pages.len(), printed.pages);
        assert!(pages.iter().all(|page| page.contains("城郊村")), "{rows} rows: {text}");
    }
}

/// What `gong visits` gives the press at a time, one after the other.
#[tokio::test]
async fn long_lists_keep_the_press_small() {
    let press = Press::new(settings());
    for volume in 0..6 {
        let row = |i: usize| {
            let (no, phone) = (format!("V{volume}-{i}"), format!("139{volume:04}{i:04}"));
            let cells = [&no, "盘某甲", "大青树小组", &phone, "没有号码", "", "", ""];
            cells.map(ToString::to_string).to_vec()
        };
        let list = DoorKnock { rows: (1..=200).map(row).collect(), ..door_knock() };
        assert!(press.print(&Document::DoorKnock(list), JPG).await.unwrap().pages > 10);
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", press.children()[0])).unwrap();
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 300_000, "{peak} kB");
}
