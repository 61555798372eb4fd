//! The tables that a county brings to gong: CSV and xlsx, written to be imported.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use rust_xlsxwriter::Workbook;

use super::county::{County, REGIONS, Shipped, WITHOUT_POINT};
use super::dice::Dice;
use super::names;
use super::people::{self, Made};
use super::phones::{Block, phone};

/// Where the tables stand, from the demo's folder.
pub const FOLDER: &str = "tables";
pub const PEOPLE: &str = "tables/对象.csv";
pub const SECOND: &str = "tables/民政名册.xlsx";
pub const RELIEF: &str = "tables/临时救助.xlsx";
pub const POINTS: &str = "tables/公告栏.csv";
pub const OFFICERS: &str = "tables/责任人.csv";
pub const OPT_OUTS: &str = "tables/退订.csv";
pub const DIVISIONS: &str = "tables/区划.csv";

/// Writes every table below `dir`.
///
/// # Errors
/// When one cannot be written.
pub fn write(dir: &Path, county: &County, people: usize, seed: u64) -> anyhow::Result<Made> {
    std::fs::create_dir_all(dir.join(FOLDER))?;
    let regions = Shipped::get(REGIONS).ok_or_else(|| anyhow::anyhow!("{REGIONS} is not embedded"))?;
    std::fs::write(dir.join(DIVISIONS), &*regions.data)?;
    let made = people::write(county, people, seed, create(&dir.join(PEOPLE))?)?;
    points(&dir.join(POINTS), county, seed)?;
    officers(&dir.join(OFFICERS), county, seed)?;
    opt_outs(&dir.join(OPT_OUTS), &made)?;
    second_roster(&dir.join(SECOND), &made)?;
    relief(&dir.join(RELIEF), &made)?;
    Ok(made)
}

/// A file that begins with a byte-order mark, without which Excel misreads Chinese.
fn create(path: &Path) -> anyhow::Result<BufWriter<File>> {
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all("\u{feff}".as_bytes())?;
    Ok(file)
}

fn table(path: &Path, heads: &[&str], rows: impl Iterator<Item = Vec<String>>) -> anyhow::Result<()> {
    let mut out = csv::Writer::from_writer(create(path)?);
    out.write_record(heads)?;
    for row in rows {
        out.write_record(row)?;
    }
    Ok(out.flush()?)
}

/// A name for someone of a village.
fn somebody(county: &County, at: usize, dice: &mut Dice) -> String {
    let folk = county.villages[at].folk(dice);
    let surname = names::surname(folk, dice);
    let woman = dice.chance(350);
    names::full(surname, woman, dice)
}

/// One or two boards a village, each with a keeper; one village has none.
fn points(path: &Path, county: &County, seed: u64) -> anyhow::Result<()> {
    let mut dice = Dice::new(seed, "points");
    let mut rows = Vec::new();
    for (at, village) in county.villages.iter().enumerate().filter(|(_, v)| v.name != WITHOUT_POINT) {
        let names = ["村务公开栏", "文化广场公告栏"];
        let many = if dice.chance(350) { 2 } else { 1 };
        for name in &names[..many] {
            let no = rows.len();
            let (code, keeper) = (format!("GS{:04}", no + 1), somebody(county, at, &mut dice));
            let number = phone(Block::Keepers, no);
            let key = village.key.clone();
            rows.push(vec![code, (*name).to_owned(), "公告栏".to_owned(), key.clone(), keeper, number, key]);
        }
    }
    table(path, &["编号", "名称", "类型", "区域", "管护人", "电话", "服务区域"], rows.into_iter())
}

/// Two duty officers a village: who is called first, and who next.
fn officers(path: &Path, county: &County, seed: u64) -> anyhow::Result<()> {
    let mut dice = Dice::new(seed, "officers");
    let mut rows = Vec::new();
    for (at, village) in county.villages.iter().enumerate() {
        for order in 1..=2_usize {
            let number = phone(Block::Officers, rows.len());
            let name = somebody(county, at, &mut dice);
            rows.push(vec![village.key.clone(), "防汛责任人".to_owned(), order.to_string(), name, number]);
        }
    }
    table(path, &["区域", "职务", "顺序", "姓名", "手机"], rows.into_iter())
}

fn opt_outs(path: &Path, made: &Made) -> anyhow::Result<()> {
    let rows = made.opted_out.iter().map(|(phone, kind)| vec![phone.clone(), (*kind).to_owned()]);
    table(path, &["手机", "事项类型"], rows)
}

/// The civil affairs office's own roster: people known already, under numbers of its own.
fn second_roster(path: &Path, made: &Made) -> anyhow::Result<()> {
    let rows = made.twice.iter().enumerate().map(|(no, one)| {
        // As typists do it: a space in a name of two characters.
        let mut name = one.name.clone();
        if name.chars().count() == 2 {
            name = name.chars().map(String::from).collect::<Vec<_>>().join("　");
        }
        vec![format!("MZ{no:05}"), name, one.phone.clone(), one.key.clone(), "民政对象".to_owned()]
    });
    workbook(path, &["编号", "姓名", "联系电话", "所在村", "人群"], rows)
}

fn relief(path: &Path, made: &Made) -> anyhow::Result<()> {
    let days = ["周三上午", "周三下午", "周四上午"];
    let rows = made.relief.iter().enumerate().map(|(no, one)| {
        let day = days[no % days.len()].to_owned();
        vec![one.id.clone(), one.name.clone(), one.amount.to_string(), day, one.place.clone()]
    });
    workbook(path, &["编号", "姓名", "金额", "领取日期", "领取地点"], rows)
}

/// One worksheet, its head frozen, everything as text.
fn workbook(path: &Path, heads: &[&str], rows: impl Iterator<Item = Vec<String>>) -> anyhow::Result<()> {
    let mut book = Workbook::new();
    let sheet = book.add_worksheet();
    sheet.set_freeze_panes(1, 0)?;
    for (column, head) in (0_u16..).zip(heads) {
        sheet.write(0, column, *head)?;
        sheet.set_column_width(column, 18)?;
    }
    for (line, row) in (1_u32..).zip(rows) {
        for (column, cell) in (0_u16..).zip(row) {
            sheet.write(line, column, cell)?;
        }
    }
    Ok(book.save(path)?)
}
