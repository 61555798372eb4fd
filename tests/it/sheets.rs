//! Sheets on paper, printed by the built program: text, fonts, codes, characters, looks.

#![cfg(feature = "sheets")]

use std::path::Path;
use std::process::Command;

use gong::sheet::{
    Cover, Document, DoorKnock, Level, Notice, Press, PressError, PressSettings, Printed, Report, Wants, blocks,
};
use image::GrayImage;

use crate::support::Gong;

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

fn alert() -> Notice {
    Notice {
        issuer: "河口瑶族自治县防汛抗旱指挥部".into(),
        title: "关于红河、南溪河沿岸村组立即转移避险的暴雨洪水红色预警".into(),
        level: Some(Level { word: "暴雨红色预警".into(), colour: "red".into() }),
        body: blocks(
            "预计未来**6小时**，我县河口镇、南溪镇累计降雨量将达150毫米以上，红河、南溪河水位将超过警戒水位。\
             沿岸低洼地带、地质灾害隐患点群众须在今日18时前全部转移。",
        ),
        actions: vec![
            "立即转移到就近安置点，服从村组干部指挥，不要返回取物。".into(),
            "关闭电源和燃气，带好身份证件和常用药品。".into(),
            "远离河道、陡坡和危房，不涉水行走、不驾车过桥。".into(),
        ],
        facts: vec![
            ("影响范围".into(), "河口镇、南溪镇沿河各村民小组".into()),
            ("有效期".into(), "2026年7月1日9时至2026年7月2日9时".into()),
            ("咨询电话".into(), "0873-0000000".into()),
        ],
        unit: "河口瑶族自治县防汛抗旱指挥部".into(),
        date: "2026年7月1日".into(),
        place: "河口镇 · 城郊村 · 村委会公告栏".into(),
        serial: "HK-2026-000123".into(),
        qr: Some("https://gong.example.cn/s/HK-2026-000123".into()),
        ..Notice::default()
    }
}

fn publication() -> Notice {
    let mut body = "根据《农村最低生活保障工作规程》，经个人申请、入户调查、民主评议、乡镇审核，现将拟纳入农村最低生活保障的对象名单予以公示，接受群众监督。\n\n\
                    | 序号 | 户主 | 村民小组 | 人口 | 月保障金（元） | 备注 |\n|---|---|---|---|---|---|\n"
        .to_owned();
    let names = ["李喆", "王祎", "张珺", "赵堃", "盘文忠", "邓玉兰", "罗有福", "熊贵"];
    for i in 1..=60 {
        let (name, group, note) = (names[i % 8], i % 5 + 1, if i % 7 == 0 { "户主残疾，子女在校" } else { "" });
        let cells = [
            &i.to_string(),
            name,
            &format!("第{group}村民小组"),
            &(i % 6 + 1).to_string(),
            &(320 + i * 5).to_string(),
            note,
        ];
        body.extend(["| ", &cells.join(" | "), " |\n"]);
    }
    Notice {
        issuer: "南溪镇人民政府".into(),
        document_no: "南政公示〔2026〕5号".into(),
        title: "关于2026年第三季度南溪镇农村最低生活保障拟纳入对象名单的公示".into(),
        body: blocks(&body),
        facts: vec![
            ("公示期".into(), "7天（自2026年7月1日起）".into()),
            ("异议电话".into(), "0873-0000001".into()),
            ("咨询电话".into(), "0873-0000000".into()),
        ],
        unit: "南溪镇人民政府".into(),
        date: "2026年7月1日".into(),
        place: "南溪镇 · 芹菜塘村 · 村务公开栏".into(),
        serial: "NX-2026-000045".into(),
        qr: Some("https://gong.example.cn/s/NX-2026-000045".into()),
        ..Notice::default()
    }
}

fn policy() -> Notice {
    Notice {
        issuer: "河口瑶族自治县农业农村和科学技术局".into(),
        document_no: "河农发〔2026〕12号".into(),
        title: "关于做好2026年橡胶种植保险保费补贴申报工作的通知".into(),
        body: blocks(
            "各乡镇人民政府、各农场：\n\n为稳定胶农收入，根据省、州有关规定，现将2026年橡胶种植保险保费补贴申报有关事项通知如下。\n\n\
             # 一、补贴对象\n\n在我县境内种植橡胶**3亩以上**的农户、合作社和农场职工家庭。\n\n\
             # 二、补贴标准\n\n## （一）保费\n\n每亩保费60元，其中财政补贴48元，农户自付12元。\n\n## （二）保额\n\n每亩保险金额1000元，按*生长期*计算赔付。\n\n\
             # 三、申报办法\n\n1. 农户向村民委员会提出申请，提交以下材料：\n   - 身份证复印件；\n   - 土地承包合同或权属证明；\n   - 银行卡（社保卡）复印件。\n2. 村民委员会核实面积，公示7天。\n3. 乡镇审核后报县农业农村和科学技术局。\n\n\
             | 时间 | 事项 | 责任单位 |\n|---|---|---|\n| 7月1日至31日 | 农户申报 | 村民委员会 |\n| 8月1日至10日 | 公示 | 村民委员会 |\n| 8月20日前 | 审核上报 | 乡镇人民政府 |\n\n\
             申报表可在[县政府网站](https://www.example.gov.cn/tb)下载。",
        ),
        facts: vec![("咨询电话".into(), "0873-0000002".into())],
        unit: "河口瑶族自治县农业农村和科学技术局".into(),
        date: "2026年6月28日".into(),
        place: "坝洒农场 · 公告栏".into(),
        serial: "BS-2026-000007".into(),
        qr: Some("https://gong.example.cn/s/BS-2026-000007".into()),
        ..Notice::default()
    }
}

fn door_knock() -> DoorKnock {
    let row = |i: usize| {
        let name = format!("盘某{}", ["甲", "乙", "丙", "丁"][i % 4]);
        let reason = ["没有号码", "短信未送达", "无人接听", "老人独居"][i % 4];
        let cells = [&i.to_string(), &name, "大青树小组", "139****0000", reason, "", "", ""];
        cells.map(ToString::to_string).to_vec()
    };
    DoorKnock {
        title: "入户通知清单".into(),
        place: "河口镇 · 城郊村".into(),
        unit: "河口镇人民政府".into(),
        date: "2026年7月1日".into(),
        say: "县防汛抗旱指挥部发布暴雨红色预警，请立即转移到村小学安置点，带好证件和药品。".into(),
        heads: ["序号", "姓名", "小组", "电话", "原因", "结果", "时间", "签名"].map(Into::into).to_vec(),
        rows: (1..=36).map(row).collect(),
        foot: "结果填：已告知、不在家、已搬走、拒绝。填好后交村委会，由村委会拍照或录入。".into(),
    }
}

fn cover() -> Cover {
    let row = |i: usize| {
        [format!("HK-2026-{i:06}"), "城郊村".into(), format!("第{i}小组公告栏"), "139****0000".into(), "1".into()]
            .to_vec()
    };
    Cover {
        title: "暴雨红色预警张贴件清单".into(),
        town: "河口镇".into(),
        unit: "河口瑶族自治县防汛抗旱指挥部".into(),
        date: "2026年7月1日".into(),
        heads: ["序号", "村", "点位", "管理员电话", "页数"].map(Into::into).to_vec(),
        rows: (1..=14).map(row).collect(),
    }
}

fn report() -> Report {
    Report {
        issuer: String::new(),
        title: "关于暴雨红色预警发布情况的报告".into(),
        body: blocks(
            "县人民政府：\n\n截至7月1日12时，预警信息发布情况如下。\n\n# 一、总体情况\n\n应通知19,842人，已到达18,930人。\n\n\
             | 乡镇 | 应通知 | 到达 | 到达率 |\n|---|---|---|---|\n| 河口镇 | 8,012 | 7,700 | 96.1% |\n| 南溪镇 | 6,330 | 6,010 | 94.9% |\n",
        ),
        unit: "县防汛抗旱指挥部办公室".into(),
        date: "2026年7月1日".into(),
    }
}

fn samples() -> Vec<(&'static str, Document)> {
    let large = Notice { large: true, mark: "【演练】".into(), ..alert() };
    let lift = Notice {
        level: Some(Level { word: "解除暴雨红色预警".into(), colour: "none".into() }),
        title: "关于解除暴雨红色预警的通知".into(),
        relation: Some("《暴雨洪水红色预警》（序号 HK-2026-000123）已解除。旧件请撤下。".into()),
        actions: vec![],
        body: blocks("雨势已减弱，河道水位降至警戒水位以下，现解除暴雨红色预警。"),
        ..alert()
    };
    vec![
        ("alert", Document::Notice(Box::new(alert()))),
        ("publication", Document::Notice(Box::new(publication()))),
        ("policy", Document::Notice(Box::new(policy()))),
        ("large", Document::Notice(Box::new(large))),
        ("lift", Document::Notice(Box::new(lift))),
        ("door_knock", Document::DoorKnock(door_knock())),
        ("cover", Document::Cover(cover())),
        ("report", Document::Report(report())),
    ]
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
    let mut page = rqrr::PreparedImage::prepare(picture(&printed.jpg.unwrap()));
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
    assert!(text.contains("第1页共1页") && text.contains("第2页共2页"), "{text}");
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
    let text = "---\n类型: 公示\n标题: 关于补贴名单的公示\n公示期: 7\n异议电话: 0870-0000001\n---\n现予公示。\n\n表格：名单.xlsx\n";
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
    assert!(refused.stderr.contains("坏.md:9"), "{}", refused.stderr);
}
