//! From an audience expression to the recipients it means.

mod compile;
mod groups;
mod names;
mod regions;
#[cfg(test)]
mod tests;

use super::{Store, StoreError};
use crate::domain::audience::{Attributes, AudienceError, Expr, parse};
use compile::Compiler;

/// An expression whose names are known, ready to stand in a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audience {
    /// The expression as understood: region codes, dispatch numbers, the
    /// conditions of rule groups in place of their names. It parses.
    pub canonical: String,
    /// A boolean SQL expression over `recipients` under the alias `r`, in the
    /// words of this store's engine, without parameters and never NULL.
    pub predicate: String,
    /// The lists it takes people from, ascending; those after `not` are not among them.
    pub lists: Vec<i64>,
    /// The dispatches it takes those from whom they did not reach; it is a further round
    /// of them. Those after `not` are not among them.
    pub rounds: Vec<i64>,
}

/// How many an audience holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudienceCount {
    /// Active recipients that count as members: persons, organisations, and
    /// households whose persons are not known.
    pub people: i64,
    /// Different households among them; who belongs to none adds none.
    pub households: i64,
    /// Of the people, those outside the scope asked about.
    pub outside_scope: i64,
}

/// Why an audience could not be resolved.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    #[error(transparent)]
    Audience(#[from] AudienceError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for ResolveError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl Store {
    /// Finds everything `expr` names and compiles it. `today` is `yyyymmdd`, the
    /// day ages are counted on. The rule of a group stands for its name and is
    /// asked of each recipient; in a static group a household stands for its persons.
    ///
    /// # Errors
    /// Points at the name that is unknown, ambiguous or expired, or at the value
    /// that does not fit its attribute.
    pub async fn resolve_audience(
        &self,
        expr: &Expr,
        attrs: &Attributes,
        today: i32,
    ) -> Result<Audience, ResolveError> {
        let expr = self.inline_rules(expr).await?;
        let found = self.find_names(&expr).await?;
        let mut compiler = Compiler::new(&found, attrs, today, self.pool.pick(false, true));
        let (canonical, predicate) = compiler.compile(&expr)?;
        let canonical = canonical.to_string();
        // Rules put in place of names may have outgrown the limits.
        parse(&canonical)?;
        let (lists, rounds) = (compiler.lists.into_iter().collect(), compiler.rounds.into_iter().collect());
        Ok(Audience { canonical, predicate, lists, rounds })
    }

    /// Counts the active members of `audience`, and how many of them `scope`
    /// does not allow.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn count_audience(
        &self,
        audience: &Audience,
        scope: Option<&Audience>,
    ) -> Result<AudienceCount, ResolveError> {
        let inside = scope.map_or("TRUE", |s| s.predicate.as_str());
        let sql = format!(
            "SELECT COUNT(*), COUNT(DISTINCT CASE WHEN r.kind = 2 THEN r.no ELSE r.household_no END),
                    CAST(COALESCE(SUM(CASE WHEN {inside} THEN 0 ELSE 1 END), 0) AS BIGINT)
             FROM recipients r WHERE r.counted = 1 AND r.status = 1 AND {}",
            audience.predicate
        );
        let (people, households, outside_scope) =
            read!(self, |db| sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_one(db).await)?;
        Ok(AudienceCount { people, households, outside_scope })
    }
}
