//! Finds what the names in an expression stand for, one query a kind.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::ResolveError;
use crate::domain::audience::{AudienceError, Expr, Leaf, Name, Problem, Referent, nearest};
use crate::store::Store;

/// The fewest characters that may stand for a dispatch's id.
const MIN_PREFIX: usize = 4;

/// What a name stands for.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub no: i64,
    /// Its name in the canonical form.
    pub canonical: String,
}

pub(super) type FoundNames = HashMap<(Referent, String), Found>;

impl Store {
    /// Everything `expr` names; groups by rule are gone from it by now.
    pub(super) async fn find_names(&self, expr: &Expr) -> Result<FoundNames, ResolveError> {
        let mut wanted: BTreeMap<Referent, Vec<Name>> = BTreeMap::new();
        for (what, name) in expr.leaves().into_iter().flat_map(Leaf::references) {
            wanted.entry(what).or_default().push(name.clone());
        }
        let mut found = FoundNames::new();
        for (what, names) in &wanted {
            let numbers = match what {
                Referent::Region => self.find_regions(names).await?,
                Referent::Area => self.find_named("areas", *what, names).await?,
                Referent::Group => self.find_named("groups", *what, names).await?,
                Referent::List => self.find_named("lists", *what, names).await?,
                Referent::Told | Referent::Unreached => self.find_dispatches(names).await?,
            };
            found.extend(numbers.into_iter().map(|(text, f)| ((*what, text), f)));
        }
        Ok(found)
    }

    /// A table of the texts in the JSON array `$1`: `w`, with the column `value`.
    pub(super) fn words(&self) -> &'static str {
        self.pool.pick("json_each($1) w", "json_array_elements_text($1::json) AS w(value)")
    }

    async fn find_named(
        &self,
        table: &'static str,
        what: Referent,
        names: &[Name],
    ) -> Result<HashMap<String, Found>, ResolveError> {
        let sql = format!("SELECT w.value, t.no FROM {} JOIN {table} t ON t.name = w.value", self.words());
        let rows: Vec<(String, i64)> =
            read!(self, |db| sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(distinct(names)).fetch_all(db).await)?;
        let found: HashMap<_, _> =
            rows.into_iter().map(|(text, no)| (text.clone(), Found { no, canonical: text })).collect();
        if let Some(unknown) = names.iter().find(|n| !found.contains_key(&n.text)) {
            let sql = format!("SELECT name FROM {table}");
            let known: Vec<String> =
                read!(self, |db| sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(db).await)?;
            return Err(unknown_name(what, unknown, &known).into());
        }
        Ok(found)
    }

    /// By number, by id, or by the beginning of an id where no other begins so.
    async fn find_dispatches(&self, names: &[Name]) -> Result<HashMap<String, Found>, ResolveError> {
        let numbers: Vec<i64> = names.iter().filter_map(|n| n.text.parse().ok()).collect();
        let prefixes: BTreeSet<String> = names.iter().filter_map(id_prefix).collect();
        let sql = format!(
            "SELECT CAST(d.no AS TEXT), d.no, d.id FROM dispatches d WHERE d.no IN (SELECT {} )
             UNION ALL
             SELECT w.value, d.no, d.id FROM {} JOIN dispatches d ON d.id >= w.value AND d.id < (w.value || 'g')",
            self.pool.pick("value FROM json_each($2)", "v::bigint FROM json_array_elements_text($2::json) AS n(v)"),
            self.words()
        );
        let rows: Vec<(String, i64, String)> = read!(self, |db| sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(serde_json::json!(prefixes).to_string())
            .bind(serde_json::json!(numbers).to_string())
            .fetch_all(db)
            .await)?;
        let mut found = HashMap::new();
        for name in names {
            let number = rows.iter().find(|(_, no, _)| name.text.parse() == Ok(*no));
            let by_id: Vec<_> = match (number, id_prefix(name)) {
                (Some(row), _) => vec![row],
                (None, Some(prefix)) => rows.iter().filter(|(word, _, _)| *word == prefix).collect(),
                (None, None) => Vec::new(),
            };
            let no = match by_id[..] {
                [(_, no, _)] => *no,
                [] => return Err(unknown_name(Referent::Told, name, &[]).into()),
                _ => {
                    let candidates = by_id.iter().map(|(_, no, id)| format!("{no}  {id}")).collect();
                    return Err(name.error(Problem::Ambiguous { name: name.text.clone(), candidates }).into());
                }
            };
            found.insert(name.text.clone(), Found { no, canonical: no.to_string() });
        }
        Ok(found)
    }
}

/// `name` in lower case where it may be an id or the beginning of one.
fn id_prefix(name: &Name) -> Option<String> {
    let text = name.text.to_ascii_lowercase();
    let hex = text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    (hex && text.len() >= MIN_PREFIX).then_some(text)
}

/// `name` is not among `known`.
pub(super) fn unknown_name(what: Referent, name: &Name, known: &[String]) -> AudienceError {
    let nearest = nearest(&name.text, known.iter().map(String::as_str));
    name.error(Problem::UnknownName { what, name: name.text.clone(), nearest })
}

/// The texts of `names`, each once, as a JSON array.
pub(super) fn distinct(names: &[Name]) -> String {
    let texts: BTreeSet<&str> = names.iter().map(|n| n.text.as_str()).collect();
    serde_json::json!(texts).to_string()
}

/// The day of `at` (epoch milliseconds) on China's clocks.
pub(super) fn date_of(at: i64) -> String {
    let beijing = jiff::tz::Offset::constant(8);
    jiff::Timestamp::from_millisecond(at).map(|t| beijing.to_datetime(t).date().to_string()).unwrap_or_default()
}
