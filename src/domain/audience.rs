//! Audience expressions: whom an item is for, in a language people can read.
//!
//! `(区域:河口镇 或 区域:南溪镇) 且 非 组:党员干部` means the same as
//! `(region:河口镇 or region:南溪镇) and not group:党员干部`; the second form is the
//! canonical one that [`Expr`] prints. [`parse`] turns text into an [`Expr`], the
//! store turns an [`Expr`] into a predicate over recipients.

mod ast;
mod attributes;
mod error;
mod lexer;
mod parser;
mod print;
#[cfg(test)]
mod tests;

pub use ast::{CodeSet, Compare, Contact, Expr, Home, Leaf, Name, Op, Place, RecipientKind, Referent, RegionName};
pub use attributes::{Attribute, AttributeType, Attributes, AttributesError, parse_bool};
pub use error::{AudienceError, Expected, Problem, nearest};
pub use parser::{MAX_CHARS, MAX_CONDITIONS, MAX_DEPTH, MAX_NAMES, parse, parse_rule};

/// The built-in attribute: full years between birth and the day asked about.
pub const AGE: &str = "age";
