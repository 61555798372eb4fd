//! The importer over a CSV of people.

use std::fmt::Write as _;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::civil::Date;
use serde_json::Map;

use super::site::Site;
use super::{Measured, Run, Settings, peak, rehearsal};
use crate::import::recipients::{self, RecipientOptions};
use crate::import::table::Options;
use crate::import::{self, Mode};
use crate::store::made_up::{phone, village_code};

/// Rows a transaction, as the importer does it.
const CHUNK: i64 = 2_000;
const VILLAGES: i64 = 500;
const TODAY: Date = Date::constant(2026, 6, 1);

pub(super) async fn run(settings: &Settings, n: i64) -> anyhow::Result<Measured> {
    let site = Site::open(settings, rehearsal(), None).await?;
    let store = &site.app.store;
    store.make_up_regions(VILLAGES).await?;
    let file = site.folder.path().join("people.csv");
    write_csv(&file, n)?;
    let mut runs = Vec::new();
    for counted in settings.rounds() {
        store.settle().await?;
        peak::reset();
        let began = Instant::now();
        let mut table = recipients::open(&file, &Options::default())?;
        let options = RecipientOptions { create_groups: true, ..RecipientOptions::new(TODAY) };
        let done = recipients::import(store, &mut table, &import::Run::default(), &options, &mut |_| {}).await?;
        let took = began.elapsed();
        let held = peak::read();
        anyhow::ensure!(i64::try_from(done.added)? == n && done.rejected == 0, "imported {done:?}");
        let bare = bare(&site, &file, n).await?;
        store.empty_people().await?;
        if counted {
            runs.push(Run::new(n, took, bare, held));
        }
    }
    site.close().await?;
    let ceiling = "reading the file with the csv crate, and INSERT of the same rows, sealed and hashed beforehand, 2,000 persons a transaction";
    let details = Map::from_iter([("mode".to_owned(), format!("{:?}", Mode::Append).into())]);
    Ok(Measured { name: "import", ceiling, runs, details })
}

/// People of made-up households; every third person shares the household's phone.
fn write_csv(path: &PathBuf, n: i64) -> anyhow::Result<()> {
    let mut out = BufWriter::new(std::fs::File::create(path)?);
    writeln!(out, "编号,姓名,手机,户号,户主电话,常住地,出生日期,人群")?;
    let mut line = String::new();
    for no in 0..n {
        line.clear();
        let household = no / 4;
        let own = if no % 3 == 0 { String::new() } else { phone(no) };
        let group = if no % 20 == 0 { "低保户" } else { "" };
        let village = village_code(household % VILLAGES);
        let (year, month, day) = (1940 + no % 70, 1 + no % 12, 1 + no % 28);
        writeln!(
            line,
            "E{no},第{no}号,{own},H{household},{},{village},{year}-{month:02}-{day:02},{group}",
            phone(household * 4 + 3)
        )?;
        out.write_all(line.as_bytes())?;
    }
    Ok(out.flush()?)
}

async fn bare(site: &Site, file: &Path, n: i64) -> anyhow::Result<Duration> {
    let store = &site.app.store;
    let began = Instant::now();
    let mut reader = csv::Reader::from_path(file)?;
    let (mut record, mut cells) = (csv::StringRecord::new(), 0_usize);
    while reader.read_record(&mut record)? {
        cells += record.len();
    }
    let mut took = began.elapsed();
    anyhow::ensure!(cells > 0, "the file is empty");
    store.open_bare_import().await?;
    let chunks = (n + CHUNK - 1) / CHUNK;
    for at in 0..chunks {
        let chunk = store.bare_import_chunk(at, chunks).await?;
        let began = Instant::now();
        store.bare_import(chunk).await?;
        took += began.elapsed();
    }
    Ok(took)
}
