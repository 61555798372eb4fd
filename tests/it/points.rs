//! Notice boards from end to end, as a stranger uses them: a sheet a point is printed,
//! hung, confirmed by QR code, command and table, counted, and lifted where it hangs.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gong::dispatch::paper::token;
use gong::domain::serial::Serial;
use gong::vault::Vault;
use serde_json::{Value, json};

use crate::rig::{approved, write};
use crate::support::{Gong, free_port, wait_until};

const SOON: Duration = Duration::from_mins(2);
// All people and numbers here are made up.
const REGIONS: &str = "code,name,parent,level\n532532000000,河口瑶族自治县,,county\n532532101000,河口镇,532532000000,town\n\
    532532102000,南溪镇,532532000000,town\n532532101200,城郊村,532532101000,village\n532532101201,北山村,532532101000,village\n\
    532532102200,南溪村,532532102000,village\n";
const PEOPLE: &str = "编号,姓名,户号,常住地\np1,居民一,h1,城郊村\np2,居民二,h1,城郊村\np3,居民三,h2,城郊村\np4,居民四,h3,南溪村\n\
    p5,居民五,h4,北山村\n";
// The screen at the town hall serves one household, the boards their villages.
const POINTS: &str = "名称,类型,区域,编号,管护人,电话,服务户\n村委会公告栏,公告栏,城郊村,B1,王芳,13900000001,\n\
    村委会公告栏,公告栏,南溪村,B2,李娜,13900000002,\n镇政府大屏,电子屏,河口镇,B3,,,h1\n";
const ALERT: &str = "---\n类型: 预警\n级别: 红色\n标题: 暴雨红色预警\n电话: 0873-3420000\n影响范围: 沿河各村\n措施: 立即转移；带好药品\n---\n\
    请**沿河**各村 <b>立即</b> 转移。\n\n- 老人先走\n";

/// A site with three points, five people, and a channel of sheets.
fn site(port: u16) -> Gong {
    let gong = Gong::new();
    let people = ["--operator", "张三:author", "--operator", "李四:reviewer,dispatcher", "--operator", "王五:admin"];
    gong.run([&["init", "--name", "河口县应急管理局", "--phone", "0873-3420000"], &people[..]].concat()).ok();
    let path = gong.dir().join("gong.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let text = text
        .replace("# listen = \"127.0.0.1:8088\"", &format!("listen = \"127.0.0.1:{port}\""))
        .replace("# from = \"22:00\"", "from = \"00:00\"")
        .replace("# to = \"07:00\"", "to = \"00:00\"");
    std::fs::write(path, text + "\n[channels.board]\ngateway = \"board\"\n").unwrap();
    for (kind, table) in [("regions", REGIONS), ("recipients", PEOPLE), ("points", POINTS)] {
        write(&gong, "table.csv", table);
        gong.run(["import", kind, "table.csv", "--as", "张三"]).ok();
    }
    gong
}

fn send(gong: &Gong, item: &str, more: &[&str]) -> Value {
    let args = ["send", item, "--plan", "board", "--as", "李四", "--yes", "--json"];
    gong.run([&args, more].concat()).ok().json()
}

fn finished(gong: &Gong, no: &str) -> Value {
    let report = || gong.run(["status", no, "--json"]).ok().json();
    assert!(wait_until(SOON, || report()["finished"] == true), "{}", report());
    report()
}

/// The sheets of a dispatch, each by its place: `城郊村/村委会公告栏`.
fn sheet(gong: &Gong, no: &str, village: &str, point: &str) -> Value {
    let all = gong.run(["points", no, "--json"]).ok().json();
    let found = all["sheets"].as_array().unwrap().iter().find(|s| s["village"] == village && s["point"] == point);
    found.unwrap_or_else(|| panic!("no sheet at {village}/{point}: {all}")).clone()
}

fn path_of(gong: &Gong, sheet: &Value) -> String {
    let vault = Vault::open(&gong.dir().join("data/gong.key")).unwrap();
    format!("/p/{}", token(&vault, Serial::parse(sheet["serial"].as_str().unwrap()).unwrap()))
}

/// An HTTP answer: head and body.
fn ask(port: u16, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

fn get(port: u16, path: &str) -> (String, String) {
    ask(port, &format!("GET {path} HTTP/1.1\r\nHost: gong\r\nConnection: close\r\n\r\n"))
}

fn post(port: u16, path: &str, form: &str, more: &str) -> (String, String) {
    let n = form.len();
    ask(
        port,
        &format!(
            "POST {path} HTTP/1.1\r\nHost: gong\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             {more}Content-Length: {n}\r\n\r\n{form}"
        ),
    )
}

fn seal_in(body: &str) -> String {
    let at = body.split("name=\"seal\" value=\"").nth(1).expect("a form");
    at.split('"').next().unwrap().to_owned()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    all.sort();
    all
}

/// A PDF and its picture, whole.
fn assert_printed(stem: &Path) {
    let read = |extension: &str| {
        let path = format!("{}.{extension}", stem.display());
        std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
    };
    let (pdf, jpg) = (read("pdf"), read("jpg"));
    assert!(pdf.starts_with(b"%PDF-") && pdf.len() > 1_000, "{}", pdf.len());
    assert!(jpg.starts_with(&[0xff, 0xd8]) && jpg.len() < 500_000, "{}", jpg.len());
}

#[cfg(feature = "sheets")]
#[test]
fn a_sheet_is_printed_hung_confirmed_and_lifted_where_it_hangs() {
    let port = free_port();
    let gong = site(port);
    let item = approved(&gong, ALERT);
    let plan = gong.run(["plan", &item, "--to", "全部", "--plan", "board", "--json"]).ok().json();
    assert_eq!(plan["channels"][0]["deliveries"], 3);
    assert_eq!(plan["villages_without_point"], json!(["北山村"]));
    let first = send(&gong, &item, &["--to", "全部"])["no"].to_string();
    let _engine = gong.spawn(["serve"], "serve.log");
    assert_eq!(finished(&gong, &first)["states"], json!({ "printed": 3 }));

    let serial = |village, point| sheet(&gong, &first, village, point)["serial"].as_str().unwrap().to_owned();
    let (near, far, hall) =
        (serial("城郊村", "村委会公告栏"), serial("南溪村", "村委会公告栏"), serial("", "镇政府大屏"));
    let queue = gong.dir().join("print").join(format!("{first}-暴雨红色预警"));
    assert_eq!(files(&queue).len(), 6, "{:?}", files(&queue));
    let day =
        files(&queue)[0].file_name().unwrap().to_str().unwrap().split('-').find(|p| p.len() == 8).unwrap().to_owned();
    assert_printed(&queue.join(format!("河口镇-城郊村-暴雨红色预警-{day}-{near}")));
    assert_printed(&queue.join(format!("河口镇-暴雨红色预警-{day}-{hall}")));

    by_code(&gong, port, &first, &near);
    by_command(&gong, &first, &far);
    by_table(&gong, &first, (&hall, &far));

    let reach = gong.run(["reach", &first, "--json"]).ok().json();
    assert_eq!((&reach["covered_households"], &reach["by_channel"][0]["reached"]), (&3.into(), &3.into()));
    let towns: Vec<_> =
        reach["sheets"].as_array().unwrap().iter().map(|t| (&t["name"], &t["planned"], &t["posted"])).collect();
    assert_eq!(towns, [(&json!("河口镇"), &json!(2), &json!(2)), (&json!("南溪镇"), &json!(1), &json!(1))]);
    let text = gong.run(["reach", &first]).ok().stdout;
    assert!(text.contains("应张贴") && text.contains("100.0%"), "{text}");

    lifted(&gong, port, (&item, &first), &near);
    let log = std::fs::read_to_string(gong.dir().join("serve.log")).unwrap();
    for name in ["王芳", "王小", "李娜", "赵", "13900000001"] {
        assert!(!log.contains(name), "{name} stands in the log:\n{log}");
    }
    assert!(gong.run(["audit", "verify", "--json"]).ok().json()["whole"] == true);
}

/// Whoever scans the code reads the item and confirms; nobody else can.
fn by_code(gong: &Gong, port: u16, first: &str, serial: &str) {
    let here = sheet(gong, first, "城郊村", "村委会公告栏");
    let path = path_of(gong, &here);
    let (head, body) = get(port, &path);
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("content-security-policy"), "{head}");
    for word in [
        "暴雨红色预警",
        "红色预警",
        "带好药品",
        "0873-3420000",
        "河口镇 · 城郊村 · 村委会公告栏",
        "lang=\"zh-CN\"",
        serial,
    ] {
        assert!(body.contains(word), "{word} is not on the page:\n{body}");
    }
    assert!(!body.contains("<script") && !body.contains("<b>"), "{body}");
    assert!(get(port, "/p/AAAAAAAAAAAAAAAAAAAAAA").0.starts_with("HTTP/1.1 404"));
    assert!(get(port, "/p/x").0.starts_with("HTTP/1.1 404"));

    let seal = seal_in(&body);
    // 王芳, percent-encoded.
    let form = format!("name=%E7%8E%8B%E8%8A%B3&seal={seal}");
    assert!(post(port, &path, "name=x&seal=1.00", "").0.starts_with("HTTP/1.1 403"));
    assert!(post(port, &path, &form, "Sec-Fetch-Site: cross-site\r\n").0.starts_with("HTTP/1.1 403"));
    assert!(post(port, &path, &format!("name=+&seal={seal}"), "").0.starts_with("HTTP/1.1 400"));
    assert_eq!(sheet(gong, first, "城郊村", "村委会公告栏")["state"], "printed");
    let (head, _) = post(port, &path, &form, "");
    assert!(head.starts_with("HTTP/1.1 303") && head.contains(&format!("location: {path}")), "{head}");
    let (_, body) = get(port, &path);
    assert!(body.contains("已确认张贴") && body.contains("王*") && !body.contains("王芳"), "{body}");
    assert!(!body.contains("<form"), "there is nothing left to confirm");
    let now = sheet(gong, first, "城郊村", "村委会公告栏");
    assert_eq!((&now["state"], &now["posted_by"]), (&json!("posted"), &json!("王*")));
}

fn by_command(gong: &Gong, first: &str, serial: &str) {
    let run = |args: &[&str]| gong.run([&["posted", first, "--as", "张三", "--json"], args].concat());
    let twice = run(&["--point", "村委会公告栏", "--by", "王小"]);
    assert_eq!(twice.code, Some(3), "{twice:?}");
    assert!(twice.stderr.contains("2 个点位"), "{}", twice.stderr);
    assert_eq!(run(&["--point", "99-1", "--by", "王小"]).code, Some(3));
    assert_eq!(run(&["--point", serial, "--by", "王小", "--at", "2099-01-01"]).code, Some(1));
    let said = run(&["--point", "南溪村/村委会公告栏", "--by", "王小", "--at", "2020-01-01", "--until", "2020-01-08"])
        .ok()
        .json();
    assert_eq!((&said["serial"], &said["new"]), (&json!(serial), &json!(true)));
    assert_eq!(run(&["--point", "B2", "--by", "王小"]).ok().json()["new"], false);
    let now = sheet(gong, first, "南溪村", "村委会公告栏");
    assert_eq!((&now["state"], &now["overdue"], &now["posted_by"]), (&json!("posted"), &json!(true), &json!("王*")));
    let text = gong.run(["points", first]).ok().stdout;
    assert!(text.contains("应撤下") && text.contains("2020-01-08") && !text.contains("王小"), "{text}");
}

/// A table in the encoding of an office, with one row at fault.
fn by_table(gong: &Gong, first: &str, (hall, far): (&str, &str)) {
    let text = format!(
        "序号,点位,张贴人,张贴日期,撤下日期\n{hall},,赵六,2026年6月1日,\n{far},,王小,2020-01-01,2020/1/8\n,没有的点位,赵六,,\n"
    );
    let (bytes, ..) = encoding_rs::GB18030.encode(&text);
    std::fs::write(gong.dir().join("回执.csv"), &bytes).unwrap();
    let args = ["posted", first, "--from", "回执.csv", "--as", "张三", "--json"];
    let taken = gong.run(args);
    assert_eq!(taken.code, Some(4), "{taken:?}");
    let taken = taken.json();
    assert_eq!((&taken["added"], &taken["unchanged"], &taken["rejected"]), (&json!(1), &json!(1), &json!(1)));
    let rejects = std::fs::read_to_string(gong.dir().join(taken["rejects_file"].as_str().unwrap())).unwrap();
    assert!(rejects.contains("没有的点位") && rejects.contains("没有张贴件"), "{rejects}");
    let again = gong.run(args).json();
    assert_eq!((&again["added"], &again["unchanged"]), (&json!(0), &json!(2)));
    gong.run(["points", first, "--csv", "张贴情况.csv"]).ok();
    let csv = std::fs::read_to_string(gong.dir().join("张贴情况.csv")).unwrap();
    assert!(csv.contains("赵*") && !csv.contains("赵六") && csv.lines().count() == 4, "{csv}");
}

/// The lift goes to the boards where the alert hangs, says what to take down, and the
/// page of the alert says that it is over.
fn lifted(gong: &Gong, port: u16, (item, first): (&str, &str), near: &str) {
    let lift = format!(
        "+++\nkind = \"notice\"\ntitle = \"暴雨预警解除\"\nphone = \"0873-3420000\"\nlifts = \"{item}\"\n+++\n预警已解除。\n"
    );
    let lift = approved(gong, &lift);
    // Nobody was told by a message: the boards are all there is.
    let second = send(gong, &lift, &[]);
    assert_eq!(second["members"], 0, "{second}");
    let second = second["no"].to_string();
    assert_eq!(finished(gong, &second)["states"], json!({ "printed": 3 }));
    let here = sheet(gong, &second, "城郊村", "村委会公告栏");
    assert_eq!(here["take_down"], json!([near]));
    let old = sheet(gong, first, "城郊村", "村委会公告栏");
    assert_eq!((&old["replaced_by"], &old["overdue"]), (&here["serial"], &json!(true)));
    let (_, page) = get(port, &path_of(gong, &old));
    assert!(page.contains("已解除") && page.contains(&path_of(gong, &here)), "{page}");

    let out = gong.run(["sheets", &second, "--town", "河口镇", "--out", "again", "--jpg", "--json"]).ok().json();
    assert_eq!((&out["sheets"], &out["towns"], &out["missing"]), (&json!(2), &json!(1), &json!([])));
    let folder = gong.dir().join("again").join(format!("{second}-暴雨预警解除"));
    let names: Vec<String> =
        files(&folder).iter().map(|f| f.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(names.len(), 5, "{names:?}");
    assert!(names.iter().any(|n| n.starts_with("河口镇-全部张贴件-")), "{names:?}");
    let wrong = gong.run(["sheets", &second, "--town", "没有的镇"]);
    assert_eq!(wrong.code, Some(3), "{wrong:?}");
    assert!(wrong.stderr.contains("南溪镇"), "{}", wrong.stderr);

    gong.run(["posted", first, "--point", near, "--by", "王芳", "--taken-down", "--as", "张三"]).ok();
    let old = sheet(gong, first, "城郊村", "村委会公告栏");
    assert_eq!((&old["state"], &old["overdue"]), (&json!("taken_down"), &json!(false)));
    assert_eq!(sheet(gong, &second, "城郊村", "村委会公告栏")["take_down"], json!([]));
    // What hung covers still: people read it.
    assert_eq!(gong.run(["reach", first, "--json"]).ok().json()["covered_households"], 3);
}

#[test]
fn a_layout_that_is_wrong_stops_the_channel_and_loses_nothing() {
    let gong = site(free_port());
    std::fs::create_dir_all(gong.dir().join("templates/sheet")).unwrap();
    write(&gong, "templates/sheet/notice.typ", "#let broken = (\n");
    let item = approved(&gong, ALERT);
    let no = send(&gong, &item, &["--to", "全部"])["no"].to_string();
    let _engine = gong.spawn(["serve"], "serve.log");
    let report = || gong.run(["status", &no, "--json"]).ok().json();
    assert!(wait_until(SOON, || report()["states"].get("retry").is_some()), "{}", report());
    let log = || std::fs::read_to_string(gong.dir().join("serve.log")).unwrap();
    assert!(wait_until(SOON, || log().contains("the channel stops")), "{}", log());
    assert_eq!(report()["states"].get("failed"), None);
    assert!(!gong.dir().join("print").exists() || files(&gong.dir().join("print")).is_empty());
    // A sheet written by hand can be confirmed all the same.
    let said = gong.run(["posted", &no, "--point", "B1", "--by", "王芳", "--as", "张三", "--json"]).ok().json();
    assert_eq!(said["new"], true);
    assert_eq!(report()["states"]["posted"], 1);
}
