//! Puts the county into a store, by plain SQL.

use super::{AREA_REGIONS, ELDERS, REGIONS, World, above};
use crate::store::Store;
use crate::store::testing::NOON;

fn null<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "NULL".to_owned(), |v| v.to_string())
}

fn set(codes: &[&str]) -> String {
    if codes.is_empty() { String::new() } else { format!(",{},", codes.join(",")) }
}

impl World {
    pub(in super::super) async fn insert(&self, store: &Store) {
        let mut tx = store.begin().await.unwrap();
        for statement in places().into_iter().chain(names()).chain(self.people()) {
            exec!(&mut tx, sqlx::query(sqlx::AssertSqlSafe(statement))).unwrap();
        }
        tx.commit().await.unwrap();
    }

    fn people(&self) -> Vec<String> {
        let mut sql = Vec::new();
        let mut add = |table: &str, values: String| sql.push(format!("INSERT INTO {table} VALUES ({values})"));
        for r in &self.recipients {
            let into =
                "recipients (no, kind, counted, status, away, household_no, region_no, hukou_no, born, languages,
                        needs, attrs, updated_at)";
            let (household, hukou, born) = (null(r.household), null(r.hukou), null(r.born));
            let (languages, needs) = (set(&r.languages), set(&r.needs));
            let (counted, away, attrs) =
                (i32::from(r.counted), i32::from(r.away), r.attrs.to_string().replace('\'', "''"));
            let (no, kind, status, region) = (r.no, r.kind, r.status, r.region);
            add(
                into,
                format!(
                    "{no}, {kind}, {counted}, {status}, {away}, {household}, {region}, {hukou}, {born}, '{languages}', '{needs}', '{attrs}', 0"
                ),
            );
        }
        for (i, (of, kind, gone)) in self.addresses.iter().enumerate() {
            add("addresses", format!("{i}, {kind}, 'h{i}', 's', {}", i32::from(*gone)));
            add(
                "recipient_addresses (recipient_no, kind, priority, address_id, via)",
                format!("{of}, {kind}, {i}, {i}, 1"),
            );
        }
        for (area, of) in &self.area_recipients {
            add("area_recipients", format!("{area}, {of}"));
        }
        for (group, of) in &self.group_members {
            add("group_members (group_no, recipient_no)", format!("{group}, {of}"));
        }
        for (list, of) in &self.list_rows {
            add("list_rows", format!("{list}, {of}, {of}, 'v'"));
        }
        for (dispatch, ordinal, of) in &self.members {
            add(
                "members (dispatch_no, ordinal, recipient_no, region_no, away, groups)",
                format!("{dispatch}, {ordinal}, {of}, 1, 0, ''"),
            );
        }
        for (dispatch, ordinal, member, state) in &self.deliveries {
            let into = "deliveries (dispatch_no, ordinal, step, channel, target, variant, state, batch)";
            add(into, format!("{dispatch}, {ordinal}, 0, 1, {ordinal}, 0, {state}, 0"));
            add("delivery_members", format!("{dispatch}, {member}, {ordinal}, 1"));
        }
        sql
    }
}

fn places() -> Vec<String> {
    let mut sql = Vec::new();
    for (no, code, name, parent) in REGIONS {
        let code = null((!code.is_empty()).then(|| format!("'{code}'")));
        let parent = null((parent > 0).then_some(parent));
        let into = "regions (no, code, name, parent_no, level)";
        sql.push(format!("INSERT INTO {into} VALUES ({no}, {code}, '{name}', {parent}, 'x')"));
        for ancestor in above(no) {
            sql.push(format!("INSERT INTO region_closure VALUES ({ancestor}, {no})"));
        }
    }
    sql.push("INSERT INTO region_aliases VALUES ('老街', 2)".to_owned());
    sql.push("INSERT INTO areas (no, name) VALUES (1, '洪水区'), (2, '工业区')".to_owned());
    for (area, region) in AREA_REGIONS {
        sql.push(format!("INSERT INTO area_regions VALUES ({area}, {region})"));
    }
    sql
}

fn names() -> Vec<String> {
    let yesterday = NOON - 86_400_000;
    let mut sql = vec![
        "INSERT INTO groups (no, name) VALUES (1, 'fishers'), (2, 'O''Brien 组')".to_owned(),
        "INSERT INTO groups (no, name, sensitive) VALUES (3, 'secret', 1)".to_owned(),
        format!("INSERT INTO groups (no, name, valid_until) VALUES (4, 'old', {yesterday})"),
        format!("INSERT INTO groups (no, name, valid_until, rule) VALUES (5, 'elders', {NOON}, '{ELDERS}')"),
        "INSERT INTO groups (no, name, rule) VALUES (6, 'a', 'age > 3 and group:b'), (7, 'b', 'group:a')".to_owned(),
        "INSERT INTO groups (no, name, rule) VALUES (8, 'broken', 'group:fishers or or')".to_owned(),
        "INSERT INTO lists VALUES (1, '补贴', '[]', 0), (2, '体检', '[]', 0), (3, '汛期', '[]', 0)".to_owned(),
        "INSERT INTO units VALUES ('u', '应急局', '0873-0000000', 0)".to_owned(),
        "INSERT INTO items VALUES ('i', 1, 'alert', 1, 'u', 'approved', 0, 'o')".to_owned(),
    ];
    for (no, next) in (100..120).zip(1..) {
        let rule = if next == 20 { "all".to_owned() } else { format!("group:double{next} or not group:double{next}") };
        sql.push(format!("INSERT INTO groups (no, name, rule) VALUES ({no}, 'double{}', '{rule}')", next - 1));
    }
    for no in [1, 2] {
        let into = "dispatches (no, id, item_id, item_version, audience, canonical, mode, lane, plan, state, phase,
                    created_at, created_by, expires_at)";
        let rest = "'i', 1, 'all', 'all', 'live', 0, '{}', 'active', 'done', 0, 'o', 0";
        sql.push(format!("INSERT INTO {into} VALUES ({no}, '0190aaaa-{no}', {rest})"));
    }
    sql
}
