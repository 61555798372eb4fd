//! What goes wrong around the program, and what it says and does then: each through
//! the program itself, with its exit code and its words.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use gong::loopback::Behaviour;
use rustix::process::{Pid, Resource, Rlimit};
use sqlx::{ConnectOptions as _, Connection as _};

use crate::ledger::Ledger;
use crate::rig::{self, approved, town, write};
use crate::site::gateway;
use crate::slow_disk::SlowDisk;
use crate::support::{Gong, Run, Running, tell, wait_until};

const NOTICE: &str = "---\n类型: 通知\n标题: 停水通知\n电话: 0873-5550000\n---\n明日停水。\n";
const ALERT: &str = "---\n类型: 预警\n级别: 红色\n标题: 暴雨红色预警\n电话: 0873-5550000\n影响范围: 河口镇\n措施: 立即转移\n---\n请转移。\n";
const LONG: Duration = Duration::from_secs(30);

fn nowhere() -> SocketAddr {
    "127.0.0.1:9".parse().unwrap()
}

/// Asserts how it ended, and that it said each of these.
fn says(run: &Run, code: i32, words: &[&str]) {
    assert_eq!(run.code, Some(code), "{run:?}");
    let all = format!("{}{}", run.stdout, run.stderr);
    for word in words {
        assert!(all.contains(word), "`{word}` is missing in: {all}");
    }
}

fn import(gong: &Gong, file: &str) -> Run {
    gong.run(["import", "recipients", file, "--as", "张三"])
}

#[test]
fn three_bad_rows_of_a_thousand_are_handed_back() {
    let gong = town(1, nowhere());
    let mut text = String::from("编号,姓名,手机,常住地\n");
    for i in 0..1_000 {
        match i {
            100 => writeln!(text, "q100,居民,13600000100,天上村").unwrap(),
            500 => writeln!(text, "q500,居民,13600000500,城郊村,多,两列").unwrap(),
            900 => writeln!(text, "q900,居民,136000009,城郊村").unwrap(),
            _ => writeln!(text, "q{i},居民,1360000{i:04},城郊村").unwrap(),
        }
    }
    write(&gong, "rows.csv", &text);
    let run = import(&gong, "rows.csv");
    says(&run, 4, &["读取 1,000 行", "新增 997", "拒绝 3", "rows.rejected.csv", "gong import recipients"]);
    let rejects = fs::read_to_string(gong.dir().join("rows.rejected.csv")).unwrap();
    let lines: Vec<&str> = rejects.lines().collect();
    assert_eq!(lines.len(), 4, "{rejects}");
    for (line, words) in lines[1..].iter().zip([["天上村", "102"], ["列", "502"], ["手机", "902"]]) {
        assert!(words.iter().all(|word| line.contains(word)), "{words:?} in {line}");
    }
    // Mended, and fed again as it is, its two columns more and all.
    let mended = rejects.replace("天上村,", "城郊村,").replace(",多,两列", "").replace("136000009,", "13600000900,");
    write(&gong, "rows.rejected.csv", &mended);
    says(&import(&gong, "rows.rejected.csv"), 0, &["新增 3", "拒绝 0"]);
    let plan = ["plan", &approved(&gong, NOTICE), "--to", "全部", "--as", "李四", "--json"];
    assert_eq!(gong.run(plan).ok().json()["members"], 1_002);
}

#[test]
fn encodings_are_told_apart_and_what_cannot_be_read_is_not_guessed() {
    let gong = town(1, nowhere());
    let text = "编号,姓名,手机,常住地\ng1,岳飞,13600000001,城郊村\n";
    let (gbk, ..) = encoding_rs::GB18030.encode(text);
    fs::write(gong.dir().join("gbk.csv"), gbk).unwrap();
    says(&import(&gong, "gbk.csv"), 0, &["新增 1"]);
    let mut broken = text.replace("g1,岳", "g2,").replace("0001", "0002").into_bytes();
    let at = broken.iter().rposition(|b| *b == b'g').unwrap() + 3;
    broken.splice(at..at, [0xff, 0xfe, 0xff]);
    fs::write(gong.dir().join("broken.csv"), broken).unwrap();
    let run = import(&gong, "broken.csv");
    assert_ne!(run.code, Some(0), "{run:?}");
    let rejects = fs::read_to_string(gong.dir().join("broken.rejected.csv")).unwrap_or_default();
    assert!((run.stderr.clone() + &run.stdout + &rejects).contains("CSV UTF-8"), "{run:?} {rejects}");
    fs::write(gong.dir().join("scan.pdf"), b"%PDF-1.7\n\x00\x01\x02\x03").unwrap();
    says(&import(&gong, "scan.pdf"), 1, &["scan.pdf", "不是文本表格"]);
    says(&import(&gong, "nobody.csv"), 1, &["打不开 nobody.csv"]);
}

#[test]
fn what_cannot_be_sent_is_explained() {
    let gong = town(3, nowhere());
    let no = approved(&gong, NOTICE);
    let plan = |args: &[&str]| gong.run([&["plan", &no, "--as", "李四"], args].concat());
    says(&plan(&["--to", "区域:天上村"]), 3, &["天上村", "^"]);
    says(&plan(&["--to", "区域:河口镇 且 且 年龄>=60"]), 3, &["^"]);
    says(&plan(&["--to", "全部", "--plan", "smss"]), 3, &["没有名为“smss”的渠道", "sms"]);
    says(&plan(&["--to", "全部", "--plan", "sms > 半天 > visit"]), 3, &["半天"]);
    says(&plan(&[]), 3, &["没有指定发布对象", "--to"]);
    says(&gong.run(["plan", "77", "--to", "全部", "--as", "李四"]), 3, &["77"]);
    says(&gong.run(["send", &no, "--to", "全部", "--as", "张三", "--yes"]), 3, &["张三"]);
    // A text with a variable that its list lacks.
    let own = approved(
        &gong,
        &NOTICE.replace("电话:", "变量: 金额, 时间\n短信: 补贴{{vars.金额}}元，{{vars.时间}}领取\n电话:"),
    );
    write(&gong, "list.csv", "编号,金额\np0,5.00\np1,6.00\n");
    gong.run(["import", "lists", "list.csv", "--list", "补贴", "--as", "张三"]).ok();
    let lacks = gong.run(["send", &own, "--to", "名单:补贴", "--as", "李四", "--yes"]);
    says(&lacks, 3, &["时间"]);
    assert!(gong.run(["status", "--json"]).ok().json().as_array().unwrap().is_empty());
}

#[test]
fn a_key_is_the_one_that_made_the_database_and_nobody_elses() {
    let gong = town(1, nowhere());
    let key = gong.dir().join("data/gong.key");
    let good = fs::read_to_string(&key).unwrap();
    let status = || gong.run(["status"]);
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    says(&status(), 1, &["644", "chmod 600"]);
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    fs::write(&key, "0123456789abcdef".repeat(4)).unwrap();
    says(&status(), 1, &["密钥与数据库不匹配"]);
    fs::write(&key, "not a key").unwrap();
    says(&status(), 1, &["64 个十六进制字符"]);
    fs::remove_file(&key).unwrap();
    says(&status(), 1, &["找不到密钥文件"]);
    fs::write(&key, good).unwrap();
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    says(&status(), 0, &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_a_newer_program_is_left_alone() {
    let gong = Gong::new();
    gong.run(["init", "--name", "某县", "--phone", "0873-5550000"]).ok();
    let file = gong.dir().join("data/gong.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&file);
    let mut db = options.connect().await.unwrap();
    let newer = "INSERT INTO _sqlx_migrations SELECT 999, 'newer', installed_on, success, checksum, execution_time FROM _sqlx_migrations LIMIT 1";
    sqlx::query(newer).execute(&mut db).await.unwrap();
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut db).await.unwrap();
    db.close().await.unwrap();
    let before = fs::read(&file).unwrap();
    says(&gong.run(["status"]), 1, &["数据库版本 999 比本程序认识的", "什么都没有改动"]);
    assert!(fs::read(&file).unwrap() == before);
}

#[test]
fn a_slip_in_a_gateway_declaration_is_pointed_at() {
    let gong = town(1, nowhere());
    fs::create_dir_all(gong.dir().join("channels")).unwrap();
    let shipped = include_str!("../../channels/kannel.toml");
    let line = 1 + shipped.lines().position(|l| l == "status = 202").unwrap();
    write(&gong, "channels/kannel.toml", &shipped.replacen("status = 202", "statsu = 202", 1));
    let run = gong.run(["status"]);
    says(&run, 1, &["kannel.toml", "statsu", &format!("{line}")]);
    let place = regex::Regex::new(&format!("kannel.toml:{line}:1\\b|第 {line} 行第 1 列")).unwrap();
    assert!(place.is_match(&run.stderr), "{}", run.stderr);
    let toml = gong.dir().join("gong.toml");
    fs::remove_dir_all(gong.dir().join("channels")).unwrap();
    let text = fs::read_to_string(&toml).unwrap().replace("gateway = \"kannel\"", "gatway = \"kannel\"");
    fs::write(&toml, text).unwrap();
    says(&gong.run(["status"]), 1, &["gong.toml", "gatway"]);
}

#[test]
fn another_encoding_is_no_concern_unless_a_setting_is_in_it() {
    let gong = Gong::new();
    gong.run(["init", "--name", "某局", "--phone", "0873-5550000"]).ok();
    let gbk = std::ffi::OsStr::from_bytes(b"\xd6\xd0");
    let with = |name: &str| Run::of(gong.command(["status"]).env(name, gbk));
    says(&with("TITLE"), 0, &[]);
    says(&with("GONG_SITE__NAME"), 1, &["GONG_SITE__NAME", "UTF-8"]);
    // Nor is a file that an editor wrote in it left unexplained.
    let file = gong.dir().join("gong.toml");
    fs::write(&file, [&fs::read(&file).unwrap()[..], b"# \xd6\xd0\n"].concat()).unwrap();
    says(&gong.run(["status"]), 1, &["gong.toml", "另存为 UTF-8"]);
}

#[test]
fn one_database_has_one_engine() {
    let gong = town(1, nowhere());
    let _first = gong.spawn(["serve", "--listen", "127.0.0.1:0"], "first.log");
    let log = || fs::read_to_string(gong.dir().join("first.log")).unwrap_or_default();
    assert!(wait_until(LONG, || log().contains("监听")), "{}", log());
    says(&gong.run(["serve", "--listen", "127.0.0.1:0"]), 3, &["已有一个 gong serve"]);
    // Other commands work beside it.
    approved(&gong, NOTICE);
}

#[test]
fn chinese_comes_first_whatever_the_locale() {
    let gong = Gong::new();
    for run in [gong.run(["--help"]), gong.run::<&str>([])] {
        assert!(format!("{}{}", run.stdout, run.stderr).contains("用法"), "{run:?}");
    }
    says(&gong.run(["status"]), 1, &["错误: 找不到配置文件", "gong init"]);
    says(&gong.run(["--lang", "en", "status"]), 1, &["error: there is no configuration", "gong init"]);
    assert!(gong.run(["--lang", "en", "--help"]).ok().stdout.contains("Usage"));
}

/// The engine, with writes beyond a limit failing rather than ending it.
fn engine(gong: &Gong) -> Running {
    let log = fs::File::create(gong.dir().join("serve.log")).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" serve --listen 127.0.0.1:0", env!("CARGO_BIN_EXE_gong")]);
    command.current_dir(gong.dir()).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    Running(command.spawn().unwrap())
}

/// No write of the process goes beyond this many bytes into a file.
fn limit_files(engine: &Running, bytes: Option<u64>) {
    let pid = Pid::from_raw(i32::try_from(engine.0.id()).unwrap());
    rustix::process::prlimit(pid, Resource::Fsize, Rlimit { current: bytes, maximum: None }).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_loses_nothing_and_is_got_over() {
    let gateway = gateway(Behaviour::default()).await;
    let (gong, engine) = tokio::task::block_in_place(|| {
        let gong = town(750, gateway.addr);
        let no = approved(&gong, ALERT);
        gong.run(["send", &no, "--to", "全部", "--as", "李四", "--yes"]).ok();
        let engine = engine(&gong);
        (gong, engine)
    });
    let messages = || gateway.stats().messages;
    tokio::task::block_in_place(|| {
        let log = || fs::read_to_string(gong.dir().join("serve.log")).unwrap();
        assert!(wait_until(LONG, || messages() >= 200), "{}", log());
        limit_files(&engine, Some(200_000));
        // The engine tries again twice a second, and says so each time.
        let failed_by = |times| {
            assert!(wait_until(LONG, || log().matches("cannot record results").count() >= times), "{}", log());
        };
        // Nothing goes out that could not be recorded; what is under way is heard out.
        failed_by(2);
        let then = messages();
        failed_by(6);
        assert_eq!(messages(), then);
        assert!(then < 1_500, "{then} messages before the disk was full");
        limit_files(&engine, None);
        let room = std::time::Instant::now();
        assert!(wait_until(LONG, || messages() > then), "{}", log());
        tell("the disk of an embedded store was full", room.elapsed());
        let report = || gong.run(["status", "1", "--json"]).ok().json();
        assert!(wait_until(LONG, || report()["finished"] == true), "{} {}", report(), log());
        assert_eq!(report()["states"], serde_json::json!({ "sent": 1_500 }));
    });
    let stats = gateway.stats();
    assert_eq!((stats.messages, stats.duplicates), (1_500, 0), "{stats:?}");
    let ledger = Ledger::open(&gong.dir().join("data/gong.db")).await;
    ledger.assert_sound().await;
    ledger.assert_conserved().await;
    ledger.close().await;
    drop(engine);
    gateway.stop().await;
}

/// An embedded store on a disk that is worn out: all goes, each once, if more slowly; and
/// whoever asks meanwhile is answered.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_disk_holds_up_and_loses_nothing() {
    let gateway = gateway(Behaviour::default()).await;
    tokio::task::block_in_place(|| {
        let gong = town(750, gateway.addr);
        let no = approved(&gong, ALERT);
        let engine = engine(&gong);
        let Some(disk) = SlowDisk::under(&[engine.0.id()], Duration::from_millis(100)) else { return };
        gong.run(["send", &no, "--to", "全部", "--as", "李四", "--yes"]).ok();
        let report = || gong.run(["status", "1", "--json"]).ok().json();
        assert!(wait_until(LONG, || report()["finished"] == true), "{}", report());
        assert!(disk.held() >= 10, "waited for {} times", disk.held());
        drop(disk);
        assert_eq!(report()["states"], serde_json::json!({ "sent": 1_500 }));
        let quick = std::time::Instant::now();
        gong.run(["send", &no, "--to", "区域:河口镇", "--as", "李四", "--yes"]).ok();
        let report = || gong.run(["status", "2", "--json"]).ok().json();
        assert!(wait_until(LONG, || report()["finished"] == true), "{}", report());
        tell("the disk of an embedded store was slow", quick.elapsed());
        drop(engine);
        let stats = gateway.stats();
        assert_eq!((stats.messages, stats.duplicates), (2_250, 0), "{stats:?}");
    });
    gateway.stop().await;
}

#[test]
fn rig_towns_are_what_they_say() {
    let gong = town(4, nowhere());
    let no = approved(&gong, NOTICE);
    let plan = |to: &str| gong.run(["plan", &no, "--to", to, "--as", "李四", "--json"]).ok().json();
    assert_eq!((&plan("全部")["members"], &plan("区域:河口镇")["members"]), (&8.into(), &4.into()));
    assert!(rig::REGIONS.lines().count() == 6);
}
