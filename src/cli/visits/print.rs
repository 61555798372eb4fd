//! The door-knock list as files: a workbook a town, or a PDF or CSV a village.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::list::{Format, Listing, Village, heads};
use crate::cli::book::Book;
use crate::cli::{output, reach_view};
use crate::dispatch::job::{Site, compose};
use crate::render::Medium;
use crate::render::compose::headline;
use crate::render::markdown::plain;
use crate::say;
use crate::sheet::{Document, DoorKnock, Wants};

/// Widths of the columns of `list::heads`, in characters.
const WIDTHS: [f64; 11] = [9.0, 12.0, 20.0, 6.0, 15.0, 18.0, 16.0, 10.0, 18.0, 10.0, 16.0];
/// Households of one PDF: some twenty pages, which two people divide between them, and
/// which the press holds in its memory at once.
const VOLUME: usize = 200;
/// Where `list::heads` has the address, the phones, and what is said in words.
const ADDRESS: usize = 2;
const PHONES: usize = 4;
const WORDS: [usize; 2] = [5, 6];
/// Longest part of a file's name, in characters.
const NAME: usize = 40;

/// What was written.
#[derive(Default)]
pub(super) struct Printed {
    pub files: Vec<PathBuf>,
    /// Characters that no font at hand can draw.
    pub missing: BTreeSet<char>,
}

/// What every page of a list has in common.
struct Common {
    title: String,
    say: String,
    unit: String,
    date: String,
    foot: String,
    /// Ends of the files' names: list, item, day.
    name: [String; 3],
}

pub(super) async fn print(listing: &Listing<'_>, format: Format, out: &Path) -> anyhow::Result<Printed> {
    let common = common(listing).await?;
    match format {
        Format::Xlsx => books(listing, &common, out).await,
        Format::Pdf => pages(listing, &common, out).await,
        Format::Csv | Format::Table => tables(listing, &common, out).await,
    }
}

/// Tells of what is missing on the pages.
pub(super) fn report_missing(printed: &Printed) {
    if !printed.missing.is_empty() {
        let glyphs: String = printed.missing.iter().collect();
        output::note(say!(
            "没有字体能印出这些字：{glyphs}。请在配置中加上有这些字的字体，或用手写补上",
            "no font draws these characters: {glyphs}. Add a font that has them, or write them in by hand"
        ));
    }
}

async fn common(listing: &Listing<'_>) -> anyhow::Result<Common> {
    let (app, dispatch) = (listing.app, listing.dispatch);
    let content = app.store.item_version(&dispatch.item_id, dispatch.item_version).await?;
    let item = app.store.item(&dispatch.item_id).await?;
    let unit = if item.unit.is_empty() { app.site() } else { Site { name: item.unit, phone: item.unit_phone } };
    let mut composer = compose(&app.messages, (Medium::Sms, &content), &unit, "", dispatch.mode)?;
    let tell = if composer.is_personal() {
        let (title, phone) = (headline(&content, dispatch.mode.mark()), &unit.phone);
        let body: String = plain(&content.body).chars().take(120).collect();
        say!("{title}。{body} 咨询电话{phone}", "{title}. {body} Phone: {phone}")
    } else {
        composer.text(serde_json::Value::Null)?.text.to_string()
    };
    let day = jiff::Timestamp::from_millisecond(app.store.now())?.to_zoned(app.config.zone()?);
    let no = dispatch.no;
    Ok(Common {
        title: say!("入户通知清单", "Door-knock list"),
        say: say!("告知内容：{tell}", "To say: {tell}"),
        unit: unit.name,
        date: day.strftime("%Y-%m-%d").to_string(),
        foot: say!(
            "“结果”写：已告知、不在家、已搬走、拒绝。填好后交回，或录入：gong visits {no} import 文件",
            "Result: told, absent, moved or refused. Hand it back, or enter it: gong visits {no} import FILE"
        ),
        name: [
            say!("入户通知清单", "door-knock"),
            headline(&content, dispatch.mode.mark()),
            day.strftime("%Y%m%d").to_string(),
        ],
    })
}

impl Common {
    fn file(&self, out: &Path, place: &[&str], end: &str) -> PathBuf {
        let parts = place.iter().copied().chain(self.name.iter().map(String::as_str));
        let name: Vec<String> = parts.map(file_part).filter(|p| !p.is_empty()).collect();
        out.join(format!("{}{end}", name.join("-")))
    }

    fn place(&self, village: &Village) -> String {
        let (town, name, unit, date) = (&village.town, &village.name, &self.unit, &self.date);
        say!("{town} {name}    {unit}    {date}", "{town} {name}    {unit}    {date}")
    }
}

/// What a file's name may hold on every system, not too long.
fn file_part(text: &str) -> String {
    let allowed = |c: &char| !c.is_control() && !c.is_whitespace() && !r#"/\:*?"<>|"#.contains(*c);
    text.chars().filter(allowed).take(NAME).collect::<String>().trim_matches('.').to_owned()
}

async fn books(listing: &Listing<'_>, common: &Common, out: &Path) -> anyhow::Result<Printed> {
    let mut printed = Printed::default();
    let mut villages = listing.villages.iter().peekable();
    while let Some(first) = villages.peek() {
        let town = first.town.clone();
        let mut book = Book::new();
        while let Some(village) = villages.next_if(|v| v.town == town) {
            let mut page = book.sheet(&village.name)?;
            page.landscape();
            page.widths(&WIDTHS)?;
            page.line(&common.title, WIDTHS.len(), (true, 26.0))?;
            page.line(&common.place(village), WIDTHS.len(), (false, 18.0))?;
            page.line(&common.say, WIDTHS.len(), (false, 48.0))?;
            page.line(&common.foot, WIDTHS.len(), (false, 18.0))?;
            page.heads(&heads())?;
            for row in listing.rows(village).await? {
                page.framed(&row)?;
            }
        }
        let file = common.file(out, &[&town], ".xlsx");
        tokio::task::block_in_place(|| book.save(&file))?;
        printed.files.push(file);
    }
    Ok(printed)
}

async fn tables(listing: &Listing<'_>, common: &Common, out: &Path) -> anyhow::Result<Printed> {
    let mut printed = Printed::default();
    for village in &listing.villages {
        let file = common.file(out, &[&village.town, &village.name], ".csv");
        let mut sheet = output::sheet(&file)?;
        sheet.write_all(reach_view::csv_line(&heads()).as_bytes())?;
        for row in listing.rows(village).await? {
            sheet.write_all(reach_view::csv_line(&row).as_bytes())?;
        }
        sheet.flush()?;
        printed.files.push(file);
    }
    Ok(printed)
}

async fn pages(listing: &Listing<'_>, common: &Common, out: &Path) -> anyhow::Result<Printed> {
    let mut printed = Printed::default();
    for village in &listing.villages {
        let (heads, rows) = on_paper(listing.rows(village).await?);
        let all = rows.len().div_ceil(VOLUME);
        for (no, rows) in (1..).zip(rows.chunks(VOLUME)) {
            let (mut place, mut end) = (format!("{} {}", village.town, village.name), ".pdf".to_owned());
            if all > 1 {
                place.push_str(&say!("（第 {no} 册，共 {all} 册）", " (volume {no} of {all})"));
                end = format!("-{no}.pdf");
            }
            let document = Document::DoorKnock(DoorKnock {
                title: common.title.clone(),
                place,
                unit: common.unit.clone(),
                date: common.date.clone(),
                say: common.say.clone(),
                heads: heads.clone(),
                rows: rows.to_vec(),
                foot: common.foot.clone(),
            });
            let made = listing.app.press.print(&document, Wants::default()).await?;
            let file = common.file(out, &[&village.town, &village.name], &end);
            output::private(&file, &made.pdf)?;
            printed.missing.extend(made.missing);
            printed.files.push(file);
        }
    }
    Ok(printed)
}

/// Heads and rows as they fit a page: a phone a line, numbers beside their words, and
/// no column of addresses where nobody has one.
fn on_paper(mut rows: Vec<Vec<String>>) -> (Vec<String>, Vec<Vec<String>>) {
    let mut heads = heads();
    for row in &mut rows {
        row[PHONES] = row[PHONES].replace('、', "\n");
        for at in WORDS {
            row[at] = row[at].replace(' ', "\u{a0}");
        }
    }
    if rows.iter().all(|row| row[ADDRESS].is_empty()) {
        heads.remove(ADDRESS);
        for row in &mut rows {
            row.remove(ADDRESS);
        }
    }
    (heads, rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_hold_no_path() {
        assert_eq!(file_part("关于 a/b 的通知：..\\c"), "关于ab的通知：..c");
        assert_eq!(file_part("..").as_str(), "");
        assert_eq!(file_part(&"长".repeat(99)).chars().count(), NAME);
    }

    #[test]
    fn rows_fit_a_page() {
        let row = |address: &str| {
            let cells = [
                "V1-1",
                "甲",
                address,
                "3",
                "13900000001、13900000002",
                "没有回音，1 人外出",
                "老人 1 人",
                "",
                "",
                "",
                "",
            ];
            cells.map(str::to_owned).to_vec()
        };
        let (heads, rows) = on_paper(vec![row(""), row("")]);
        assert_eq!((heads.len(), rows[0].len()), (10, 10));
        assert_eq!(rows[0][3], "13900000001\n13900000002");
        assert_eq!(rows[0][5], "老人\u{a0}1\u{a0}人");
        let (heads, rows) = on_paper(vec![row(""), row("3组")]);
        assert_eq!((heads.len(), rows[1][ADDRESS].as_str()), (11, "3组"));
    }
}
