//! Sheets on paper, printed by the built program: text, fonts, codes, characters, looks.

#![cfg(feature = "sheets")]

use std::path::Path;
use std::process::Command;

use gong::sheet::{Document, Notice, Press, PressError, PressSettings, Printed, Wants, blocks};
use image::GrayImage;

use crate::support::Gong;

mod fitting;
mod samples;

use samples::{alert, cover, door_knock, publication, report, samples};

const JPG: Wants = Wants { jpg: true };

fn settings() -> PressSettings {
    // Fixed fonts, so that a page is the same on every machine.
    let fonts = ["arphic-gbsn00lp", "arphic", "wqy"].map(|f| Path::new("/usr/share/fonts/truetype").join(f)).to_vec();
    PressSettings {
        fonts,
        own_fonts_only: true,
        program: Some(env!("CARGO_BIN_EXE_gong").into()),
        ..PressSettings::default()
    }
}

async fn print(press: &Press, document: &Document) -> Printed {
    press.print(document, JPG).await.unwrap_or_else(|e| panic!("{e}"))
}

/// What `pdftotext` or `pdffonts` says about a document.
fn poppler(tool: &str, pdf: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let (file, out) = (dir.path().join("a.pdf"), dir.path().join("a.txt"));
    std::fs::write(&file, pdf).unwrap();
    let mut command = Command::new(tool);
    command.arg(&file);
    if tool == "pdftotext" {
        command.arg(&out);
    }
    let done = command.output().unwrap_or_else(|e| panic!("{tool}: {e}. Install it: apt-get install poppler-utils"));
    assert!(done.status.success(), "{tool}: {}", String::from_utf8_lossy(&done.stderr));
    if tool == "pdftotext" { std::fs::read_to_string(out).unwrap() } else { String::from_utf8(done.stdout).unwrap() }
}

/// Without the white space that layout brings.
fn joined(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).collect()
}

fn picture(jpg: &[u8]) -> GrayImage {
    image::load_from_memory_with_format(jpg, image::ImageFormat::Jpeg).unwrap().to_luma8()
}

/// Where the environment says: the folder to keep samples in, or that references are made anew.
#[allow(clippy::disallowed_methods)] // tests have no config file
fn asked(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// `GONG_SHEETS_OUT` names a folder where the samples are kept, to be looked at;
/// `GONG_SHEETS_UPDATE=1` makes the reference pictures anew.
#[tokio::test]
async fn first_pages_look_as_they_did() {
    const WIDTH: u32 = 310;
    let press = Press::new(settings());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sheets");
    for (name, document) in samples() {
        let printed = print(&press, &document).await;
        assert_eq!(printed.missing, Vec::<char>::new(), "{name}");
        let jpg = printed.jpg.unwrap();
        assert!(jpg.len() < 500_000, "{name}: {} bytes", jpg.len());
        if let Some(out) = asked("GONG_SHEETS_OUT") {
            std::fs::write(Path::new(&out).join(format!("{name}.pdf")), &printed.pdf).unwrap();
            std::fs::write(Path::new(&out).join(format!("{name}.jpg")), &jpg).unwrap();
        }
        let page = picture(&jpg);
        let height = WIDTH * page.height() / page.width();
        let small = image::imageops::resize(&page, WIDTH, height, image::imageops::FilterType::Triangle);
        let file = folder.join(format!("{name}.png"));
        if asked("GONG_SHEETS_UPDATE").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            small.save(&file).unwrap();
            continue;
        }
        let kept = image::open(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display())).to_luma8();
        assert_eq!(kept.dimensions(), small.dimensions(), "{name}");
        let apart = kept.pixels().zip(small.pixels()).filter(|(a, b)| a.0[0].abs_diff(b.0[0]) > 64).count();
        // A moved line changes some thousand of the 135,000 points.
        assert!(apart < 300, "{name}: {apart} points differ; look at it, then GONG_SHEETS_UPDATE=1");
    }
}

#[tokio::test]
async fn text_is_searchable_and_fonts_are_embedded() {
    let press = Press::new(settings());
    let printed = print(&press, &Document::Notice(Box::new(publication()))).await;
    assert_eq!(printed.pages, 3);
    let text = joined(&poppler("pdftotext", &printed.pdf));
    for wanted in ["拟纳入对象名单的公示", "李喆", "王祎", "张珺", "赵堃", "异议电话", "南溪镇·芹菜塘村·村务公开栏"]
    {
        assert!(text.contains(wanted), "{wanted} is not in {text}");
    }
    assert_eq!(text.matches("月保障金").count(), 3, "the head of the table is on every page");
    assert_eq!(text.matches("张贴日期").count(), 1, "the keeper's lines are on the last page");
    let fonts = poppler("pdffonts", &printed.pdf);
    let rows: Vec<Vec<&str>> = fonts.lines().skip(2).map(|l| l.split_whitespace().rev().collect()).collect();
    assert!(rows.len() >= 2, "{fonts}");
    // From the right: object, generation, unicode map, subset, embedded.
    assert!(rows.iter().all(|r| r[2] == "yes" && r[4] == "yes"), "{fonts}");
}

#[tokio::test]
async fn the_code_is_read_back_from_the_page() {
    let press = Press::new(settings());
    let printed = print(&press, &Document::Notice(Box::new(alert()))).await;
    assert_eq!(printed.pages, 1);
    let mut page = {
        let picture = picture(&printed.jpg.unwrap());
        let (wide, high) = (picture.width() as usize, picture.height() as usize);
        rqrr::PreparedImage::prepare_from_greyscale(wide, high, |x, y| picture.as_raw()[y * wide + x])
    };
    let grids = page.detect_grids();
    assert_eq!(grids.len(), 1);
    let (_, content) = grids[0].decode().unwrap();
    assert_eq!(content, "https://gong.example.cn/s/HK-2026-000123");
}

#[tokio::test]
async fn what_no_font_draws_is_reported_and_nothing_else() {
    let press = Press::new(settings());
    // Of names and places, Latin, marks of forms; then an emoji and a rare ideograph.
    let known = "喆祎珺堃燊昇淼犇甪鋆瑶傣岜洒垭峒麽郗ABCxyz0189·—“”‘’《》【】〔〕①②③ⅠⅡⅢ■□√●℃％";
    let mut sheet = Notice { body: blocks(&format!("{known}😀𪚥")), ..alert() };
    let printed = print(&press, &Document::Notice(Box::new(sheet.clone()))).await;
    assert_eq!(printed.missing, ['😀', '𪚥']);
    let text = joined(&poppler("pdftotext", &printed.pdf));
    for c in known.chars() {
        assert!(text.contains(c), "{c} is neither printed nor reported");
    }
    sheet.body = blocks(known);
    assert_eq!(print(&press, &Document::Notice(Box::new(sheet))).await.missing, Vec::<char>::new());
}

#[tokio::test]
async fn data_is_never_read_as_markup() {
    let press = Press::new(settings());
    let text = "#panic(\"x\") $1+1$ *甲* _乙_ @ref <label> \\u{41} #include \"/data.json\"";
    let sheet = Notice { title: text.into(), facts: vec![("电话".into(), text.into())], ..alert() };
    let printed = print(&press, &Document::Notice(Box::new(sheet))).await;
    let shown = joined(&poppler("pdftotext", &printed.pdf));
    assert_eq!(shown.matches(&joined("$1+1$ *甲* _乙_ @ref <label>")).count(), 2, "{shown}");
}

#[tokio::test]
async fn documents_are_bound_each_with_its_own_page_numbers() {
    let press = Press::new(settings());
    let set = [
        Document::Cover(cover()),
        Document::Notice(Box::new(publication())),
        Document::Notice(Box::new(alert())),
        Document::DoorKnock(door_knock()),
    ];
    let mut pages = 0;
    for document in &set {
        pages += press.print(document, Wants::default()).await.unwrap().pages;
    }
    let bound = press.bind(&set, Wants { jpg: true }).await.unwrap();
    assert_eq!(bound.pages, pages);
    let text = joined(&poppler("pdftotext", &bound.pdf));
    assert!(text.contains("第1页共1页") && text.contains("第3页共3页"), "{text}");
    assert!(text.contains("—3—") && !text.contains("—4—"), "{text}");
    assert!(matches!(press.bind(&[], Wants::default()).await, Err(PressError::Process(_))));
}

#[tokio::test]
async fn a_site_restyles_a_layout_and_its_mistake_has_a_place() {
    let site = tempfile::tempdir().unwrap();
    let folder = site.path().join("sheet");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(
        folder.join("report.typ"),
        "#import \"common.typ\": *\n#set text(font: fonts.hei)\n本站：#doc.title\n",
    )
    .unwrap();
    std::fs::write(folder.join("cover.typ"), "\n  #doc.nonsense\n").unwrap();
    std::fs::write(folder.join("door_knock.typ"), "#read(\"/etc/passwd\")\n").unwrap();
    std::fs::write(folder.join("notice.typ"), "#import \"@preview/tablex:0.0.8\": *\n").unwrap();
    let press = Press::new(PressSettings { templates: Some(site.path().to_owned()), ..settings() });
    let printed = print(&press, &Document::Report(report())).await;
    assert!(joined(&poppler("pdftotext", &printed.pdf)).contains("本站：关于暴雨红色预警发布情况的报告"));
    let wrong = async |document| match press.print(&document, Wants::default()).await {
        Err(PressError::Layout { layout, why }) => format!("{layout}|{why}"),
        other => panic!("{other:?}"),
    };
    let place = wrong(Document::Cover(cover())).await;
    assert!(place.starts_with("cover.typ|cover.typ:2:"), "{place}");
    let file = wrong(Document::DoorKnock(door_knock())).await;
    assert!(file.contains("door_knock.typ:1:") && file.contains("not found"), "{file}");
    let package = wrong(Document::Notice(Box::new(alert()))).await;
    assert!(package.contains("notice.typ:1:"), "{package}");
}

#[tokio::test]
async fn a_child_that_died_is_replaced_and_a_missing_font_is_said() {
    let press = Press::new(settings());
    print(&press, &Document::Cover(cover())).await;
    let children = press.children();
    assert_eq!(children.len(), 1);
    let killed = Command::new("kill").args(["-9", &children[0].to_string()]).status().unwrap();
    assert!(killed.success());
    print(&press, &Document::Cover(cover())).await;
    assert_ne!(press.children(), children);

    let bare = Press::new(PressSettings { fonts: vec![], ..settings() });
    let error = bare.print(&Document::Cover(cover()), Wants::default()).await.unwrap_err();
    assert!(matches!(error, PressError::NoFont) && error.to_string().contains("apt-get install"), "{error}");
    let nobody = Press::new(PressSettings { program: Some("/bin/true".into()), ..settings() });
    let error = nobody.print(&Document::Cover(cover()), Wants::default()).await.unwrap_err();
    assert!(matches!(error, PressError::Process(_)), "{error}");
}

#[tokio::test]
async fn a_code_too_long_is_refused() {
    let press = Press::new(settings());
    let sheet = Notice { qr: Some("x".repeat(4_000)), ..alert() };
    let error = press.print(&Document::Notice(Box::new(sheet)), Wants::default()).await.unwrap_err();
    assert!(matches!(error, PressError::Qr { bytes: 4_000 }), "{error}");
}

#[test]
fn an_item_with_a_spreadsheet_is_previewed() {
    let gong = Gong::new();
    gong.run(["init", "--name", "某县应急管理局", "--phone", "0870-0000000"]).ok();
    let mut book = rust_xlsxwriter::Workbook::new();
    let sheet = book.add_worksheet();
    sheet.write_row(0, 0, ["户主", "金额"]).unwrap();
    sheet.write_row(1, 0, ["李喆", "300"]).unwrap();
    book.save(gong.dir().join("名单.xlsx")).unwrap();
    let text = "---\n类型: 公示\n标题: 关于补贴名单的公示\n电话: 0870-0000000\n公示期: 7\n异议电话: 0870-0000001\n---\n现予公示。\n\n表格：名单.xlsx\n";
    std::fs::write(gong.dir().join("公示.md"), text).unwrap();
    gong.run(["item", "add", "公示.md"]).ok();
    let seen = gong.run(["sheet", "preview", "1", "--jpg", "--json"]).ok().json();
    assert_eq!(seen["pages"], 1);
    let pdf = std::fs::read(gong.dir().join(seen["pdf"].as_str().unwrap())).unwrap();
    let printed = joined(&poppler("pdftotext", &pdf));
    for wanted in ["关于补贴名单的公示", "户主", "李喆", "300", "某县应急管理局", "7天（自"] {
        assert!(printed.contains(wanted), "{wanted} is not in {printed}");
    }
    assert!(gong.dir().join(seen["jpg"].as_str().unwrap()).exists());

    std::fs::write(gong.dir().join("坏.md"), text.replace("名单.xlsx", "../名单.xlsx")).unwrap();
    let refused = gong.run(["item", "add", "坏.md"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("坏.md:10"), "{}", refused.stderr);
}
