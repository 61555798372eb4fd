//! Imports into real stores on both engines. All people and numbers are made up.

mod people;
mod places;
mod rosters;

use std::path::{Path, PathBuf};

use jiff::civil::Date;
use tempfile::TempDir;

use super::table::Options;
use super::{Progress, Run, Summary, recipients, regions};
use crate::store::Store;
use crate::store::testing::{TestStore, stores};

const TODAY: Date = Date::constant(2026, 6, 1);

const REGIONS: &str = "code,name,parent,level
990101100201,新村,990101100000,village
990101100000,东镇,990101000000,town
990101000000,青山县,,county
,一组,990101100201,custom
990101100202,老村,990101100000,village
990101101000,西镇,,town
";

/// A store with the regions above, and a folder for files.
struct Site {
    t: TestStore,
    dir: TempDir,
}

impl Site {
    async fn all() -> Vec<Self> {
        let mut sites = Vec::new();
        for t in stores().await {
            let site = Self { t, dir: tempfile::tempdir().unwrap() };
            let summary = site.regions(REGIONS, &Run::default()).await;
            assert_eq!((summary.added, summary.rejected), (6, 0), "{}", site.t.engine);
            sites.push(site);
        }
        sites
    }

    fn store(&self) -> &Store {
        &self.t.store
    }

    fn file(&self, text: &str) -> PathBuf {
        let path = self.dir.path().join(format!("{}.csv", uuid::Uuid::now_v7()));
        std::fs::write(&path, text).unwrap();
        path
    }

    async fn regions(&self, text: &str, run: &Run) -> Summary {
        let mut table = regions::open(&self.file(text), &Options::default()).unwrap();
        regions::import(self.store(), &mut table, run, "2026", &mut |_| {}).await.unwrap()
    }

    async fn people(&self, text: &str) -> Summary {
        self.people_with(text, &Run::default(), &recipients::RecipientOptions::new(TODAY)).await
    }

    async fn people_with(&self, text: &str, run: &Run, options: &recipients::RecipientOptions<'_>) -> Summary {
        let mut table = recipients::open(&self.file(text), &Options::default()).unwrap();
        let mut last = None;
        let mut report = |p: Progress| last = Some(p.rows);
        let summary = recipients::import(self.store(), &mut table, run, options, &mut report).await.unwrap();
        assert_eq!(last, Some(summary.read));
        summary
    }

    /// One number from the database.
    async fn count(&self, sql: &str) -> i64 {
        self.store().probe_count(sql.to_owned()).await
    }

    /// Everything that imports write, sealed bytes included.
    async fn dump(&self) -> Vec<String> {
        let mut all = Vec::new();
        let tables = [
            ("counters", "name, value"),
            ("regions", "no, code, name, parent_no, level, edition"),
            ("region_closure", "ancestor, descendant"),
            ("region_aliases", "alias, region_no"),
            ("areas", "no, name"),
            ("area_regions", "area_no, region_no"),
            ("area_recipients", "area_no, recipient_no"),
            (
                "recipients",
                "no, kind, counted, status, away, household_no, region_no, hukou_no, born, languages, needs, attrs, \
                 #name_sealed, #name_hash, #ext_hash, merged_into, source, purpose, updated_at",
            ),
            ("addresses", "id, kind, #hash, #sealed"),
            ("recipient_addresses", "recipient_no, kind, priority, address_id, via, merge_no"),
            ("groups", "no, name, rule, sensitive, list_date, valid_until"),
            ("group_members", "group_no, recipient_no, merge_no"),
            ("lists", "no, name, columns"),
            ("list_rows", "list_no, recipient_no, row_no, #vars_sealed"),
            ("points", "no, code, name, kind, region_no, #keeper_sealed, phone_id"),
            ("point_households", "point_no, recipient_no"),
            ("point_regions", "point_no, region_no"),
            ("duty_officers", "id, region_no, role, place, #name_sealed, phone_id"),
        ];
        for (table, columns) in tables {
            let cells: Vec<String> = columns.split(", ").map(|c| self.cell(c)).collect();
            let sql = format!("SELECT '{table} ' || {} AS line FROM {table} ORDER BY line", cells.join(" || '|' || "));
            all.extend(self.store().probe_lines(sql).await);
        }
        all
    }

    fn cell(&self, column: &str) -> String {
        match column.strip_prefix('#') {
            Some(bytes) => self
                .store()
                .pool
                .pick(format!("COALESCE(hex({bytes}), '-')"), format!("COALESCE(encode({bytes}, 'hex'), '-')")),
            None => format!("COALESCE(CAST({column} AS TEXT), '-')"),
        }
    }
}

/// The rejected rows of an import, as text.
fn rejected(summary: &Summary) -> String {
    summary.rejects_file.as_deref().map_or_else(String::new, |path: &Path| std::fs::read_to_string(path).unwrap())
}
