//! Regions by code, name, alias or path (`河口镇/城关社区`).

use std::collections::{BTreeSet, HashMap, HashSet};

use super::ResolveError;
use super::names::{Found, unknown_name};
use crate::domain::audience::{AudienceError, Name, Problem, Referent};
use crate::store::Store;

/// How many candidates an error lists.
const CANDIDATES: usize = 10;

/// The regions each word may mean: number and code.
type Matches = HashMap<String, Vec<(i64, Option<String>)>>;

impl Store {
    pub(super) async fn find_regions(&self, names: &[Name]) -> Result<HashMap<String, Found>, ResolveError> {
        let matches = self.match_regions(names).await?;
        let all: BTreeSet<i64> = matches.values().flatten().map(|(no, _)| *no).collect();
        let paths = names.iter().any(|n| n.text.contains('/') && !matches.contains_key(&n.text));
        let pairs = if paths { self.region_pairs(&all).await? } else { HashSet::new() };
        let mut chosen: HashMap<String, (i64, Option<String>)> = HashMap::new();
        for name in names {
            let fitting = fitting(&name.text, &matches, &pairs);
            match &fitting[..] {
                [only] => chosen.insert(name.text.clone(), only.clone()),
                [] => return Err(self.unknown_region(name).await?.into()),
                _ => return Err(self.ambiguous_region(name, &fitting).await?.into()),
            };
        }
        let codeless: BTreeSet<i64> = chosen.values().filter(|(_, code)| code.is_none()).map(|(no, _)| *no).collect();
        let paths = self.region_paths(&codeless).await?;
        let found = chosen.into_iter().map(|(text, (no, code))| {
            let canonical = code.or_else(|| paths.get(&no).cloned()).unwrap_or_else(|| text.clone());
            (text, Found { no, canonical })
        });
        Ok(found.collect())
    }

    async fn match_regions(&self, names: &[Name]) -> Result<Matches, ResolveError> {
        let words: BTreeSet<&str> = names
            .iter()
            .flat_map(|n| std::iter::once(n.text.as_str()).chain(n.text.split('/').map(str::trim)))
            .collect();
        let w = self.words();
        let sql = format!(
            "SELECT w.value, r.no, r.code FROM {w} JOIN regions r ON r.code = w.value
             UNION SELECT w.value, r.no, r.code FROM {w} JOIN regions r ON r.name = w.value
             UNION SELECT w.value, r.no, r.code FROM {w} JOIN region_aliases a ON a.alias = w.value
                   JOIN regions r ON r.no = a.region_no
             ORDER BY 2"
        );
        let rows: Vec<(String, i64, Option<String>)> = read!(self, |db| sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(serde_json::json!(words).to_string())
            .fetch_all(db)
            .await)?;
        let mut matches = Matches::new();
        for (word, no, code) in rows {
            matches.entry(word).or_default().push((no, code));
        }
        Ok(matches)
    }

    /// Those pairs of `regions` of which one contains the other.
    async fn region_pairs(&self, regions: &BTreeSet<i64>) -> Result<HashSet<(i64, i64)>, ResolveError> {
        let numbers = self.numbers();
        let sql = format!(
            "SELECT ancestor, descendant FROM region_closure
             WHERE descendant IN ({numbers}) AND ancestor IN ({numbers}) AND ancestor <> descendant"
        );
        let pairs: Vec<(i64, i64)> = read!(self, |db| sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(serde_json::json!(regions).to_string())
            .fetch_all(db)
            .await)?;
        Ok(pairs.into_iter().collect())
    }

    /// The names from the root down to each of `regions`, with `/` between.
    async fn region_paths(&self, regions: &BTreeSet<i64>) -> Result<HashMap<i64, String>, ResolveError> {
        if regions.is_empty() {
            return Ok(HashMap::new());
        }
        let sql = format!(
            "SELECT c.descendant, r.name FROM region_closure c JOIN regions r ON r.no = c.ancestor
             WHERE c.descendant IN ({})
             ORDER BY c.descendant, (SELECT COUNT(*) FROM region_closure up WHERE up.descendant = c.ancestor)",
            self.numbers()
        );
        let steps: Vec<(i64, String)> = read!(self, |db| sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(serde_json::json!(regions).to_string())
            .fetch_all(db)
            .await)?;
        let mut paths: HashMap<i64, String> = HashMap::new();
        for (no, name) in steps {
            let path = paths.entry(no).or_default();
            if !path.is_empty() {
                path.push('/');
            }
            path.push_str(&name);
        }
        Ok(paths)
    }

    async fn ambiguous_region(
        &self,
        name: &Name,
        candidates: &[(i64, Option<String>)],
    ) -> Result<AudienceError, ResolveError> {
        let shown = &candidates[..candidates.len().min(CANDIDATES)];
        let paths = self.region_paths(&shown.iter().map(|(no, _)| *no).collect()).await?;
        let mut candidates: Vec<String> = shown
            .iter()
            .map(|(no, code)| {
                let path = paths.get(no).map_or("", String::as_str);
                code.as_ref().map_or_else(|| path.to_owned(), |code| format!("{code}  {path}"))
            })
            .collect();
        if shown.len() == CANDIDATES {
            candidates.push("…".to_owned());
        }
        Ok(name.error(Problem::Ambiguous { name: name.text.clone(), candidates }))
    }

    async fn unknown_region(&self, name: &Name) -> Result<AudienceError, ResolveError> {
        let known: Vec<String> =
            read!(self, |db| sqlx::query_scalar("SELECT name FROM regions UNION SELECT alias FROM region_aliases")
                .fetch_all(db)
                .await)?;
        // Of a path, the first part that is no region at all is the likely slip.
        let slip = name.text.split('/').map(str::trim).find(|part| !known.iter().any(|k| k == part));
        let error = unknown_name(Referent::Region, &name.renamed(slip.unwrap_or(&name.text)), &known);
        Ok(error)
    }

    fn numbers(&self) -> &'static str {
        self.pool
            .pick("SELECT value FROM json_each($1)", "SELECT v::bigint FROM json_array_elements_text($1::json) AS n(v)")
    }
}

/// The regions `text` may mean, as a whole or as a path from above.
fn fitting(text: &str, matches: &Matches, pairs: &HashSet<(i64, i64)>) -> Vec<(i64, Option<String>)> {
    let of = |word: &str| matches.get(word).map_or(&[][..], Vec::as_slice);
    if !of(text).is_empty() || !text.contains('/') {
        return of(text).to_vec();
    }
    let mut parts = text.split('/').map(str::trim);
    let mut above = of(parts.next().unwrap_or_default()).to_vec();
    for part in parts {
        let within = |no: i64| above.iter().any(|(up, _)| pairs.contains(&(*up, no)));
        above = of(part).iter().filter(|(no, _)| within(*no)).cloned().collect();
    }
    above
}
