//! The canonical printed form: English keywords, no needless parentheses or quotes.

use std::fmt::{self, Display, Formatter, Write as _};

use super::ast::{CodeSet, Compare, Contact, Expr, Home, Leaf, Name, Op, RecipientKind, Referent, RegionName};
use super::{lexer, parser};

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Or(parts) => joined(f, parts, " or ", |p| matches!(p, Self::Or(_))),
            Self::And(parts) => joined(f, parts, " and ", |p| matches!(p, Self::Or(_) | Self::And(_))),
            Self::Not(inner) => {
                f.write_str("not ")?;
                operand(f, inner, matches!(**inner, Self::Or(_) | Self::And(_)))
            }
            Self::Leaf(leaf) => leaf.fmt(f),
        }
    }
}

fn joined(f: &mut Formatter<'_>, parts: &[Expr], joint: &str, enclosed: fn(&Expr) -> bool) -> fmt::Result {
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            f.write_str(joint)?;
        }
        operand(f, part, enclosed(part))?;
    }
    Ok(())
}

fn operand(f: &mut Formatter<'_>, expr: &Expr, enclosed: bool) -> fmt::Result {
    if enclosed { write!(f, "({expr})") } else { expr.fmt(f) }
}

impl Display for Leaf {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Region(Home::Residence, regions) => any_of(f, "region", regions),
            Self::Region(Home::Hukou, regions) => any_of(f, "hukou", regions),
            Self::Named(referent, names) => any_of(f, referent.keyword(), names),
            Self::Has(contacts) => any_of(f, "has", contacts),
            Self::Kind(kinds) => any_of(f, "kind", kinds),
            Self::Code(CodeSet::Language, names) => any_of(f, "lang", names),
            Self::Code(CodeSet::Need, names) => any_of(f, "need", names),
            Self::Away(away) => f.write_str(if *away { "away:yes" } else { "away:no" }),
            Self::Compare(name, Compare::With(op, value)) => write!(f, "{name} {op} {value}"),
            Self::Compare(name, Compare::In(values)) => {
                write!(f, "{name} in ")?;
                list(f, values)
            }
        }
    }
}

fn any_of<T: Display>(f: &mut Formatter<'_>, keyword: &str, values: &[T]) -> fmt::Result {
    write!(f, "{keyword}:")?;
    match values {
        [only] => only.fmt(f),
        several => list(f, several),
    }
}

fn list<T: Display>(f: &mut Formatter<'_>, values: &[T]) -> fmt::Result {
    f.write_char('(')?;
    for (i, value) in values.iter().enumerate() {
        if i > 0 {
            f.write_str(", ")?;
        }
        value.fmt(f)?;
    }
    f.write_char(')')
}

impl Display for Name {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let plain = !self.text.is_empty() && self.text.chars().all(lexer::is_word) && !parser::is_reserved(&self.text);
        if plain { f.write_str(&self.text) } else { write!(f, "\"{}\"", self.text.replace('"', "\"\"")) }
    }
}

impl Display for RegionName {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.name, if self.alone { "!" } else { "" })
    }
}

impl Referent {
    /// Its keyword in the canonical form.
    #[must_use]
    pub const fn keyword(self) -> &'static str {
        match self {
            Self::Region => "region",
            Self::Area => "area",
            Self::Group => "group",
            Self::List => "list",
            Self::Told => "told",
            Self::Unreached => "unreached",
        }
    }
}

impl Display for Contact {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Phone => "phone",
            Self::Email => "email",
        })
    }
}

impl Display for RecipientKind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Person => "person",
            Self::Household => "household",
            Self::Organisation => "organisation",
        })
    }
}

impl Op {
    /// The sign, which SQL shares.
    #[must_use]
    pub const fn sign(self) -> &'static str {
        match self {
            Self::Eq => "=",
            Self::Ne => "!=",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
        }
    }
}

impl Display for Op {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.sign())
    }
}
