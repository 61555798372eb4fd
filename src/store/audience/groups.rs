//! Groups by rule: the rule takes the place of the name.

use std::collections::HashMap;

use super::ResolveError;
use super::names::{date_of, distinct};
use crate::domain::audience::{
    AudienceError, Expr, Leaf, MAX_CONDITIONS, MAX_DEPTH, MAX_NAMES, Name, Place, Problem, Referent, nearest,
    parse_rule,
};
use crate::store::Store;

/// The rules by group name; `None` for a static group.
type Rules = HashMap<String, Option<Expr>>;

impl Store {
    /// `expr` with every group by rule replaced by its rule, and so on down.
    pub(super) async fn inline_rules(&self, expr: &Expr) -> Result<Expr, ResolveError> {
        let mut rules = Rules::new();
        let mut wanted = groups_in(expr);
        while !wanted.is_empty() {
            let read = self.read_rules(&wanted).await?;
            let inner: Vec<Name> = read.values().flatten().flat_map(groups_in).collect();
            rules.extend(read);
            wanted = inner.into_iter().filter(|name| !rules.contains_key(&name.text)).collect();
            if rules.len() + wanted.len() > MAX_NAMES {
                return Err(AudienceError { problem: Problem::TooManyNames, place: Place::default() }.into());
            }
        }
        let mut inliner = Inliner { rules: &rules, open: Vec::new(), conditions: 0 };
        Ok(inliner.inline(expr)?)
    }

    async fn read_rules(&self, wanted: &[Name]) -> Result<Rules, ResolveError> {
        let sql =
            format!("SELECT w.value, g.rule, g.valid_until FROM {} JOIN groups g ON g.name = w.value", self.words());
        let rows: Vec<(String, Option<String>, Option<i64>)> =
            read!(self, |db| sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(distinct(wanted)).fetch_all(db).await)?;
        let rows: HashMap<String, _> = rows.into_iter().map(|(name, rule, until)| (name, (rule, until))).collect();
        let mut rules = Rules::new();
        for name in wanted {
            let Some((rule, until)) = rows.get(&name.text) else {
                return Err(self.unknown_group(name).await?.into());
            };
            if let Some(until) = until.filter(|until| *until < self.now()) {
                return Err(name.error(Problem::Expired { group: name.text.clone(), until: date_of(until) }).into());
            }
            if !rules.contains_key(&name.text) {
                let rule = rule.as_deref().map(|rule| parse_rule(rule, &name.text)).transpose()?;
                rules.insert(name.text.clone(), rule);
            }
        }
        Ok(rules)
    }

    async fn unknown_group(&self, name: &Name) -> Result<AudienceError, ResolveError> {
        // A sensitive group is not offered to who does not know it.
        let known: Vec<String> =
            read!(self, |db| sqlx::query_scalar("SELECT name FROM groups WHERE sensitive = 0").fetch_all(db).await)?;
        let nearest = nearest(&name.text, known.iter().map(String::as_str));
        Ok(name.error(Problem::UnknownName { what: Referent::Group, name: name.text.clone(), nearest }))
    }
}

fn groups_in(expr: &Expr) -> Vec<Name> {
    let references = expr.leaves().into_iter().flat_map(Leaf::references);
    references.filter(|(what, _)| *what == Referent::Group).map(|(_, name)| name.clone()).collect()
}

struct Inliner<'a> {
    rules: &'a Rules,
    /// The groups whose rules are being put in place, outermost first.
    open: Vec<Name>,
    conditions: usize,
}

impl Inliner<'_> {
    fn inline(&mut self, expr: &Expr) -> Result<Expr, AudienceError> {
        match expr {
            Expr::Or(parts) => Ok(Expr::or(self.inline_all(parts)?)),
            Expr::And(parts) => Ok(Expr::and(self.inline_all(parts)?)),
            Expr::Not(inner) => Ok(Expr::Not(Box::new(self.inline(inner)?))),
            Expr::Leaf(Leaf::Named(Referent::Group, names)) => self.inline_groups(names),
            Expr::All | Expr::Leaf(_) => {
                self.count()?;
                Ok(expr.clone())
            }
        }
    }

    fn inline_all(&mut self, parts: &[Expr]) -> Result<Vec<Expr>, AudienceError> {
        parts.iter().map(|part| self.inline(part)).collect()
    }

    fn inline_groups(&mut self, names: &[Name]) -> Result<Expr, AudienceError> {
        let (mut fixed, mut ruled) = (Vec::new(), Vec::new());
        for name in names {
            match self.rules.get(&name.text).and_then(Option::as_ref) {
                None => fixed.push(name.clone()),
                Some(rule) => ruled.push(self.enter(name, rule)?),
            }
        }
        if !fixed.is_empty() {
            self.count()?;
            ruled.insert(0, Expr::Leaf(Leaf::Named(Referent::Group, fixed)));
        }
        Ok(Expr::or(ruled))
    }

    fn enter(&mut self, name: &Name, rule: &Expr) -> Result<Expr, AudienceError> {
        if let Some(from) = self.open.iter().position(|open| open.text == name.text) {
            let chain = self.open[from..].iter().chain([name]).map(|n| n.text.clone()).collect();
            return Err(name.error(Problem::Cycle { chain }));
        }
        if self.open.len() == MAX_DEPTH {
            return Err(self.outgrown(Problem::TooDeep));
        }
        self.open.push(name.clone());
        let inlined = self.inline(rule)?;
        self.open.pop();
        Ok(inlined)
    }

    /// Rules that use each other twice over would double at every step.
    fn count(&mut self) -> Result<(), AudienceError> {
        self.conditions += 1;
        if self.conditions > MAX_CONDITIONS {
            return Err(self.outgrown(Problem::TooManyConditions));
        }
        Ok(())
    }

    fn outgrown(&self, problem: Problem) -> AudienceError {
        AudienceError { problem, place: self.open.first().map(|name| name.place.clone()).unwrap_or_default() }
    }
}
