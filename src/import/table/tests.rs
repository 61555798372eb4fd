//! Tables as offices send them; the people and numbers in them are made up.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use rust_xlsxwriter::{ExcelDateTime, Format, Workbook};
use tempfile::TempDir;

use super::*;

const FIELDS: &[Field] = &[
    Field { key: "name", names: &["姓名", "name"], required: true, help_zh: "姓名", help_en: "full name" },
    Field {
        key: "phone",
        names: &["手机号", "手机号码", "phone"],
        required: true,
        help_zh: "11 位",
        help_en: "11 digits",
    },
    Field {
        key: "region",
        names: &["区划代码", "region code"],
        required: false,
        help_zh: "12 位",
        help_en: "12 digits",
    },
    Field { key: "note", names: &["备注", "note"], required: false, help_zh: "", help_en: "" },
];

struct Desk {
    dir: TempDir,
}

impl Desk {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn open(&self, name: &str, bytes: impl AsRef<[u8]>) -> Result<Table, TableError> {
        Table::open(&self.file(name, bytes), FIELDS, &Options::default())
    }

    fn table(&self, bytes: impl AsRef<[u8]>) -> Table {
        self.open("people.csv", bytes).unwrap()
    }
}

fn read(table: &mut Table) -> Vec<Result<Row, RowError>> {
    table.rows().unwrap().collect()
}

fn names_and_phones(table: &mut Table) -> Vec<(u64, String, String)> {
    let rows = read(table).into_iter().map(Result::unwrap);
    rows.map(|r| (r.line, r.get("name").to_owned(), r.get("phone").to_owned())).collect()
}

fn wang() -> Vec<(u64, String, String)> {
    vec![(2, "王小明".into(), "13900000001".into())]
}

fn utf16(text: &str, big: bool) -> Vec<u8> {
    let units = std::iter::once(0xfeff).chain(text.encode_utf16());
    units.flat_map(|u| if big { u.to_be_bytes() } else { u.to_le_bytes() }).collect()
}

#[test]
fn every_encoding_and_separator_gives_the_same_rows() {
    let desk = Desk::new();
    for separator in [",", "\t", ";"] {
        for end in ["\n", "\r\n", "\r"] {
            let text = format!("姓名{separator}手机号{end}王小明{separator}13900000001{end}");
            let gb = encoding_rs::GB18030.encode(&text).0.into_owned();
            let files = [
                text.clone().into_bytes(),
                format!("\u{feff}{text}").into_bytes(),
                gb,
                utf16(&text, false),
                utf16(&text, true),
            ];
            for (index, bytes) in files.into_iter().enumerate() {
                assert_eq!(names_and_phones(&mut desk.table(bytes)), wang(), "file {index}, {separator:?}, {end:?}");
            }
        }
    }
}

#[test]
fn bytes_outside_the_encoding_refuse_their_row_alone() {
    let desk = Desk::new();
    let mut bytes = "姓名,手机号,他列\n王小明,13900000001,x\n李".as_bytes().to_vec();
    bytes.extend(b"\xff,13900000002,x\n");
    bytes.extend("赵六,13900000003,".as_bytes());
    bytes.extend(b"\xff\n");
    let rows = read(&mut desk.table(bytes));
    let error = rows[1].as_ref().unwrap_err();
    assert_eq!((error.line, error.column.as_deref()), (3, Some("姓名")));
    assert_eq!(error.kind, RowErrorKind::Unreadable { encoding: "UTF-8".into() });
    assert!(rows[0].is_ok() && rows[2].is_ok(), "a column that nobody reads may be damaged");
}

#[test]
fn ragged_rows_say_what_was_found() {
    let desk = Desk::new();
    let mut table =
        desk.table("姓名,手机号\n王小明\n李四,13900000002,多,余\n赵六,13900000003,,\n\n,\n孙七,13900000004\n");
    let rows = read(&mut table);
    let kinds: Vec<_> = rows.iter().filter_map(|r| r.as_ref().err()).map(|e| (e.line, e.kind.clone())).collect();
    let ragged = |found| RowErrorKind::Ragged { found, expected: 2 };
    assert_eq!(kinds, [(2, ragged(1)), (3, ragged(4))]);
    let message = rows[1].as_ref().unwrap_err().to_string();
    assert!(message.contains("people.csv 第 3 行") && message.contains("有 4 列，表头有 2 列"), "{message}");
    assert!(!format!("{message}{:?}", rows[1]).contains("李四"), "no personal data in errors");
    assert_eq!(rows.iter().flatten().map(|r| r.line).collect::<Vec<_>>(), [4, 7]);
}

#[test]
fn quoted_line_breaks_count_as_one_row() {
    let desk = Desk::new();
    let mut table =
        desk.table("姓名,手机号,备注\r\n王小明,13900000001,\"一\n二,\"\"三\"\"\"\r\n\r\n李四,13900000002,\r\n");
    let rows: Vec<Row> = read(&mut table).into_iter().map(Result::unwrap).collect();
    assert_eq!(rows[0].get("note"), "一\n二,\"三\"");
    assert_eq!((rows[0].line, rows[1].line), (2, 4));
    assert_eq!(rows[1].get("note"), "");
}

#[test]
fn a_quote_that_never_closes_does_not_pass_for_the_end() {
    let desk = Desk::new();
    let mut long = "姓名,手机号,备注\n".to_owned();
    long.extend(["王小明,13900000001,\n"; 50]);
    let short = long.clone() + "钱,13900000009,\"半句\n李四,13900000002,\n";
    let stray = long.clone() + "钱,13900000009,6\" 管\n钱,13900000009,\"半句\n李四,13900000002,";
    long.push_str("钱,13900000009,\"半句\n");
    long.extend(std::iter::repeat_n("李四,13900000002,\n", 100_000));
    for (text, line) in [(short, 52), (stray, 53), (long, 52)] {
        let rows = read(&mut desk.table(text));
        let error = rows.last().unwrap().as_ref().unwrap_err();
        assert_eq!((error.line, &error.kind), (line, &RowErrorKind::UnclosedQuote));
        assert!(error.is_fatal());
    }
}

#[test]
fn headers_are_found_under_titles_and_aliases() {
    let desk = Desk::new();
    let mut table = desk.table("幸福村人员名单,,,\n\nＮａｍｅ,*手机号码（11位）,Region_Code,年龄\n王小明,１３９００００００01,330102001001,30\n");
    let mapping = table.mapping();
    assert_eq!(mapping.line, 3);
    let keys: Vec<_> = mapping.mapped.iter().map(|m| (m.key, m.column)).collect();
    assert_eq!(keys, [("name", 0), ("phone", 1), ("region", 2)]);
    assert_eq!(mapping.absent, ["note"]);
    assert_eq!(mapping.unknown[0].header, "年龄");
    assert_eq!(names_and_phones(&mut table), [(4, "王小明".into(), "13900000001".into())]);
}

#[test]
fn missing_columns_are_named_with_likely_ones() {
    let desk = Desk::new();
    let error = desk.open("p.csv", "姓名,联络\n王小明,13900000001\n").err().unwrap();
    let TableError::Missing(missing) = &error else { panic!("{error}") };
    assert_eq!(missing.missing.len(), 1);
    assert_eq!(missing.found, ["姓名", "联络"]);
    let message = error.to_string();
    assert!(message.contains("phone=联络") && message.contains("内容像手机号"), "{message}");
    let message = desk.open("p.csv", "姓名,手机号玛\n王小明,\n").err().unwrap().to_string();
    assert!(message.contains("与“手机号码”相近"), "{message}");
}

#[test]
fn columns_can_be_named_and_doubts_are_refused() {
    let desk = Desk::new();
    let path = desk.file("p.csv", "姓名,手机号（本人）,手机号（家属）\n王小明,13900000001,13900000002\n");
    let open = |columns: &[(&str, &str)], extra| {
        let columns = columns.iter().map(|(k, h)| ((*k).to_owned(), (*h).to_owned())).collect();
        Table::open(&path, FIELDS, &Options { columns, extra, sheet: None })
    };
    assert!(matches!(open(&[], false), Err(TableError::Ambiguous { line: 1, .. })));
    assert!(matches!(open(&[("phone", "电话")], false), Err(TableError::UnknownHeader { .. })));
    assert!(matches!(open(&[("tel", "姓名")], false), Err(TableError::UnknownField { .. })));
    let mut table = open(&[("phone", "手机号(家属)")], true).unwrap();
    let row = read(&mut table).remove(0).unwrap();
    assert_eq!(row.get("phone"), "13900000002");
    assert_eq!(row.extra().collect::<Vec<_>>(), [("手机号（本人）", "13900000001")]);
}

#[test]
fn files_that_are_no_tables_say_what_to_do() {
    let desk = Desk::new();
    assert!(matches!(desk.open("a.csv", ""), Err(TableError::Empty(_))));
    assert!(matches!(desk.open("a.csv", " \n\n"), Err(TableError::Empty(_))));
    assert!(matches!(desk.open("a.csv", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"), Err(TableError::Binary(_))));
    assert!(matches!(desk.open("a.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"), Err(TableError::OldExcel(_))));
    assert!(matches!(desk.open("a.xls", "<html><table>"), Err(TableError::WebPage(_))));
    assert!(matches!(desk.open("a.xlsx", "姓名,手机号\n"), Err(TableError::NotWorkbook { .. })));
    assert!(matches!(desk.open("a.xlsx", b"PK\x03\x04 cut off"), Err(TableError::NotWorkbook { .. })));
    assert!(matches!(
        Table::open(&desk.dir.path().join("none"), FIELDS, &Options::default()),
        Err(TableError::Open { .. })
    ));
}

fn workbook(desk: &Desk) -> PathBuf {
    let mut book = Workbook::new();
    let sheet = book.add_worksheet();
    sheet.set_name("名单").unwrap();
    for (column, header) in ["姓名", "手机号", "区划代码", "备注"].into_iter().enumerate() {
        sheet.write_string(0, u16::try_from(column).unwrap(), header).unwrap();
    }
    sheet.write_string(1, 0, "王小明").unwrap();
    sheet.write_number(1, 1, 13_900_000_001_f64).unwrap();
    sheet.write_number(1, 2, 330_102_001_001_f64).unwrap();
    let day = Format::new().set_num_format("yyyy-mm-dd");
    sheet.write_datetime_with_format(1, 3, ExcelDateTime::from_ymd(2024, 2, 29).unwrap(), &day).unwrap();
    sheet.write_string(3, 0, "李四").unwrap();
    sheet.write_number(3, 1, 330_102_199_003_070_010_f64).unwrap();
    sheet.write_string(4, 0, "赵六").unwrap();
    sheet.write_string(4, 1, "13900000003").unwrap();
    sheet.write_string(4, 9, "已核").unwrap();
    let path = desk.dir.path().join("people.xlsx");
    book.save(&path).unwrap();
    path
}

#[test]
fn workbooks_read_as_they_look() {
    let desk = Desk::new();
    let path = workbook(&desk);
    let mut table = Table::open(&path, FIELDS, &Options::default()).unwrap();
    assert_eq!(table.mapping().source, "名单");
    let rows = read(&mut table);
    let first = rows[0].as_ref().unwrap();
    assert_eq!(["phone", "region", "note"].map(|k| first.get(k)), ["13900000001", "330102001001", "2024-02-29"]);
    let error = rows[1].as_ref().unwrap_err();
    assert_eq!((error.line, error.column.as_deref(), &error.kind), (4, Some("手机号"), &RowErrorKind::LostDigits));
    let last = rows[2].as_ref().unwrap();
    assert_eq!((last.line, last.get("name"), last.get("note")), (5, "赵六", ""));
    assert_eq!(rows.len(), 3);
    assert_eq!(table.bytes_read(), table.size_hint_bytes());
    let sheet = Options { sheet: Some("没有".into()), ..Options::default() };
    let error = Table::open(&path, FIELDS, &sheet).err().unwrap();
    assert!(error.to_string().contains("名单"), "{error}");
}

fn rejected(table: &mut Table) -> Option<(PathBuf, u64)> {
    let mut rejects = Rejects::new(table, None);
    for row in table.rows().unwrap() {
        match row {
            Ok(row) if row.get("phone").len() != 11 => rejects.add(&row, "号码应为 11 位").unwrap(),
            Ok(_) => {}
            Err(error) => rejects.add(&error, &error.to_string()).unwrap(),
        }
    }
    rejects.finish().unwrap()
}

#[test]
fn rejects_are_mended_and_fed_again() {
    let desk = Desk::new();
    let mut table = desk.table(
        "姓名,手机号,备注\n王小明,13900000001,\n李四,1390, \"x\"\n赵六\n周八,13900000005,,多\n孙七,139,\"=1+1\n二\"\n",
    );
    let (path, count) = rejected(&mut table).unwrap();
    assert_eq!((path.file_name().unwrap().to_str().unwrap(), count), ("people.rejected.csv", 4));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("\u{feff}姓名,手机号,备注,原因,行号\r\n李四,1390,"), "{text}");

    let (again, count) = rejected(&mut Table::open(&path, FIELDS, &Options::default()).unwrap()).unwrap();
    assert_eq!(count, 4, "unmended rows are refused again");
    assert_eq!(again.file_name().unwrap(), "people.rejected.rejected.csv");
    let cells = |text: &str| -> Vec<String> {
        text.lines()
            .map(|l| l.split(',').take(4).collect::<Vec<_>>().join(","))
            .filter(|l| l.starts_with("周八"))
            .collect()
    };
    assert_eq!(cells(&fs::read_to_string(&again).unwrap()), ["周八,13900000005,,多"], "old reasons do not pile up");

    let mended = [
        ("1390,", "13900000002,"),
        ("赵六,,", "赵六,13900000003,"),
        (",,多,", ",多,"),
        ("孙七,139,", "孙七,13900000004,"),
    ];
    fs::write(&path, mended.iter().fold(text, |text, (bad, good)| text.replace(bad, good))).unwrap();
    let mut table = Table::open(&path, FIELDS, &Options { extra: true, ..Options::default() }).unwrap();
    let rows: Vec<Row> = read(&mut table).into_iter().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 4);
    assert_eq!(rows[0].original(), ["李四", "13900000002", " \"x\""]);
    assert_eq!(rows[2].get("note"), "多");
    assert_eq!(rows[3].get("note"), "=1+1\n二");
    assert_eq!(rows[0].extra().count(), 0, "reason and row are no columns of the table");
    assert_eq!(rejected(&mut table), None);
}

#[test]
fn rejects_never_overwrite() {
    let desk = Desk::new();
    desk.file("people.rejected.csv", "being mended");
    let (path, _) = rejected(&mut desk.table("姓名,手机号\n李四,1\n")).unwrap();
    assert_eq!(path.file_name().unwrap(), "people.rejected-2.csv");
    assert_eq!(fs::read_to_string(desk.dir.path().join("people.rejected.csv")).unwrap(), "being mended");
}

#[test]
fn tables_can_move_to_a_blocking_thread() {
    fn movable<T: Send>() {}
    movable::<Table>();
    movable::<Rejects>();
}
