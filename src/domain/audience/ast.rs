//! What an audience expression says, once it parsed.

use std::fmt;
use std::sync::Arc;

use super::error::{AudienceError, Problem};

/// A text that was parsed: as typed, or the rule of a group.
#[derive(Debug, PartialEq, Eq)]
pub struct Origin {
    pub text: String,
    /// The group whose rule it is.
    pub group: Option<String>,
}

/// Where in its text something stands. Two places are always equal, so that
/// expressions compare by meaning.
#[derive(Clone, Default)]
pub struct Place {
    pub(super) origin: Option<Arc<Origin>>,
    /// 1-based, in characters; 0 for what no one typed.
    pub column: usize,
    /// In characters.
    pub width: usize,
}

impl PartialEq for Place {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Place {}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}", self.column)
    }
}

/// A name or value as typed, without its quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    pub text: String,
    pub place: Place,
}

impl Name {
    /// A name that no one typed.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), place: Place::default() }
    }

    /// The same place under another text.
    #[must_use]
    pub fn renamed(&self, text: impl Into<String>) -> Self {
        Self { text: text.into(), place: self.place.clone() }
    }

    /// `problem`, pointing at this name.
    #[must_use]
    pub fn error(&self, problem: Problem) -> AudienceError {
        AudienceError { problem, place: self.place.clone() }
    }
}

/// An expression. `Or` and `And` hold two or more parts and never one of
/// themselves; [`Expr::or`] and [`Expr::and`] see to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expr {
    All,
    Or(Vec<Expr>),
    And(Vec<Expr>),
    Not(Box<Expr>),
    Leaf(Leaf),
}

/// One condition. A list in it means any of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leaf {
    Region(Home, Vec<RegionName>),
    Named(Referent, Vec<Name>),
    Has(Vec<Contact>),
    Kind(Vec<RecipientKind>),
    Code(CodeSet, Vec<Name>),
    Away(bool),
    Compare(Name, Compare),
}

/// Which of a recipient's two places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Home {
    /// 常住地
    Residence,
    /// 户籍地
    Hukou,
}

/// A region and all below it, or (`!`) that node alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegionName {
    pub name: Name,
    pub alone: bool,
}

/// Something kept in the store under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Referent {
    Region,
    Area,
    Group,
    List,
    /// Of a dispatch, those some delivery was handed over for.
    Told,
    /// Of a dispatch, those no delivery is known to have reached.
    Unreached,
}

/// A way to reach someone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contact {
    Phone,
    Email,
}

/// What a recipient is; the numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecipientKind {
    Person = 1,
    Household = 2,
    Organisation = 3,
}

/// A set of codes each recipient carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeSet {
    Language,
    Need,
}

/// How an attribute is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compare {
    With(Op, Name),
    In(Vec<Name>),
}

/// A comparison with one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

impl Expr {
    /// Any of `parts`, of which there is at least one.
    #[must_use]
    pub fn or(parts: Vec<Self>) -> Self {
        let flat = parts.into_iter().flat_map(|part| match part {
            Self::Or(inner) => inner,
            other => vec![other],
        });
        Self::joined(flat.collect(), Self::Or)
    }

    /// All of `parts`, of which there is at least one.
    #[must_use]
    pub fn and(parts: Vec<Self>) -> Self {
        let flat = parts.into_iter().flat_map(|part| match part {
            Self::And(inner) => inner,
            other => vec![other],
        });
        Self::joined(flat.collect(), Self::And)
    }

    fn joined(mut parts: Vec<Self>, join: fn(Vec<Self>) -> Self) -> Self {
        match parts.pop() {
            Some(only) if parts.is_empty() => only,
            Some(last) => {
                parts.push(last);
                join(parts)
            }
            None => join(parts),
        }
    }

    /// Every condition, from left to right.
    #[must_use]
    pub fn leaves(&self) -> Vec<&Leaf> {
        let mut found = Vec::new();
        let mut open = vec![self];
        while let Some(expr) = open.pop() {
            match expr {
                Self::All => {}
                Self::Or(parts) | Self::And(parts) => open.extend(parts.iter().rev()),
                Self::Not(inner) => open.push(inner),
                Self::Leaf(leaf) => found.push(leaf),
            }
        }
        found
    }
}

impl Leaf {
    /// The names in it that the store must know, each with what it names.
    #[must_use]
    pub fn references(&self) -> Vec<(Referent, &Name)> {
        match self {
            Self::Region(_, regions) => regions.iter().map(|r| (Referent::Region, &r.name)).collect(),
            Self::Named(referent, names) => names.iter().map(|n| (*referent, n)).collect(),
            _ => Vec::new(),
        }
    }
}
