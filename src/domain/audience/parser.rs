//! From text to [`Expr`], by recursive descent.

use std::str::FromStr;
use std::sync::Arc;

use super::AGE;
use super::ast::{
    CodeSet, Compare, Contact, Expr, Home, Leaf, Name, Origin, Place, RecipientKind, Referent, RegionName,
};
use super::attributes::parse_bool;
use super::error::{AudienceError, Expected, Problem, nearest};
use super::lexer::{self, Sign, Token};

/// The most characters of an expression.
pub const MAX_CHARS: usize = 20_000;
/// The most conditions of an expression, its groups' rules included.
pub const MAX_CONDITIONS: usize = 200;
/// The most names and values in all its lists together.
pub const MAX_NAMES: usize = 1_000;
/// The most parentheses and `not`s around a condition.
pub const MAX_DEPTH: usize = 50;

type Result<T> = std::result::Result<T, AudienceError>;

const OR: [&str; 3] = ["or", "或", "或者"];
const AND: [&str; 3] = ["and", "且", "并且"];
const NOT: [&str; 2] = ["not", "非"];
const IN: [&str; 2] = ["in", "属于"];
const ALL: [&str; 2] = ["all", "全部"];
const AGES: [&str; 2] = [AGE, "年龄"];

/// What stands before a colon.
#[derive(Clone, Copy)]
enum Condition {
    Home(Home),
    Named(Referent),
    Has,
    Kind,
    Code(CodeSet),
    Away,
}

const CONDITIONS: [(&str, Condition); 26] = [
    ("region", Condition::Home(Home::Residence)),
    ("区域", Condition::Home(Home::Residence)),
    ("hukou", Condition::Home(Home::Hukou)),
    ("户籍", Condition::Home(Home::Hukou)),
    ("area", Condition::Named(Referent::Area)),
    ("片区", Condition::Named(Referent::Area)),
    ("group", Condition::Named(Referent::Group)),
    ("组", Condition::Named(Referent::Group)),
    ("人群", Condition::Named(Referent::Group)),
    ("list", Condition::Named(Referent::List)),
    ("名单", Condition::Named(Referent::List)),
    ("told", Condition::Named(Referent::Told)),
    ("已告知", Condition::Named(Referent::Told)),
    ("unreached", Condition::Named(Referent::Unreached)),
    ("未到达", Condition::Named(Referent::Unreached)),
    ("has", Condition::Has),
    ("有", Condition::Has),
    ("kind", Condition::Kind),
    ("对象类型", Condition::Kind),
    ("lang", Condition::Code(CodeSet::Language)),
    ("语言", Condition::Code(CodeSet::Language)),
    ("need", Condition::Code(CodeSet::Need)),
    ("需要", Condition::Code(CodeSet::Need)),
    ("需求", Condition::Code(CodeSet::Need)),
    ("away", Condition::Away),
    ("外出", Condition::Away),
];

/// Words that are no name unless quoted.
pub(super) fn is_reserved(word: &str) -> bool {
    let folded = word.to_lowercase();
    [&OR[..], &AND, &NOT, &IN, &ALL].iter().any(|words| words.contains(&folded.as_str()))
}

/// Whether `word` names the built-in age.
pub(super) fn is_age(word: &str) -> bool {
    AGES.contains(&word.to_lowercase().as_str())
}

/// The expression that `text` writes.
///
/// # Errors
/// Points at the first column that cannot be understood.
pub fn parse(text: &str) -> Result<Expr> {
    parse_from(Origin { text: text.to_owned(), group: None })
}

/// The expression that is the rule of `group`; its errors name the group.
///
/// # Errors
/// Points at the first column that cannot be understood.
pub fn parse_rule(text: &str, group: &str) -> Result<Expr> {
    parse_from(Origin { text: text.to_owned(), group: Some(group.to_owned()) })
}

impl FromStr for Expr {
    type Err = AudienceError;

    fn from_str(text: &str) -> Result<Self> {
        parse(text)
    }
}

fn parse_from(origin: Origin) -> Result<Expr> {
    let origin = Arc::new(origin);
    let place = |column, width| Place { origin: Some(Arc::clone(&origin)), column, width };
    if origin.text.chars().nth(MAX_CHARS).is_some() {
        return Err(AudienceError { problem: Problem::TooLong, place: place(MAX_CHARS + 1, 1) });
    }
    let tokens = lexer::tokens(&origin.text)
        .map_err(|(problem, column, width)| AudienceError { problem, place: place(column, width) })?;
    let mut parser = Parser { tokens, at: 0, origin, depth: 0, conditions: 0, names: 0 };
    let expr = parser.or()?;
    match parser.sign() {
        Sign::End => Ok(expr),
        _ => Err(parser.unexpected(Expected::Joint)),
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    origin: Arc<Origin>,
    depth: usize,
    conditions: usize,
    names: usize,
}

impl Parser {
    fn or(&mut self) -> Result<Expr> {
        let mut parts = vec![self.and()?];
        while self.eat_word(&OR) {
            parts.push(self.and()?);
        }
        Ok(Expr::or(parts))
    }

    fn and(&mut self) -> Result<Expr> {
        let mut parts = vec![self.not()?];
        while self.eat_word(&AND) {
            parts.push(self.not()?);
        }
        Ok(Expr::and(parts))
    }

    fn not(&mut self) -> Result<Expr> {
        let negated = self.is_word(&NOT);
        if !negated && *self.sign() != Sign::Open {
            return self.leaf();
        }
        if self.depth == MAX_DEPTH {
            return Err(self.error(Problem::TooDeep));
        }
        self.depth += 1;
        self.at += 1;
        let expr = if negated {
            Expr::Not(Box::new(self.not()?))
        } else {
            let inner = self.or()?;
            self.expect(&Sign::Close, Expected::Close)?;
            inner
        };
        self.depth -= 1;
        Ok(expr)
    }

    fn leaf(&mut self) -> Result<Expr> {
        self.conditions += 1;
        if self.conditions > MAX_CONDITIONS {
            return Err(self.error(Problem::TooManyConditions));
        }
        let word = match self.sign() {
            Sign::Word(word) if !is_reserved(word) => word.clone(),
            Sign::Word(_) if self.is_word(&ALL) => {
                self.at += 1;
                return Ok(Expr::All);
            }
            Sign::Quoted(_) => return self.comparison().map(Expr::Leaf),
            _ => return Err(self.unexpected(Expected::Condition)),
        };
        if self.tokens.get(self.at + 1).map(|t| &t.sign) != Some(&Sign::Colon) {
            return self.comparison().map(Expr::Leaf);
        }
        let folded = word.to_lowercase();
        let Some((_, condition)) = CONDITIONS.iter().find(|(name, _)| *name == folded) else {
            let nearest = nearest(&word, CONDITIONS.iter().map(|(name, _)| *name));
            return Err(self.error(Problem::UnknownCondition { found: word, nearest }));
        };
        self.at += 2;
        self.condition(*condition).map(Expr::Leaf)
    }

    fn condition(&mut self, condition: Condition) -> Result<Leaf> {
        Ok(match condition {
            Condition::Home(home) => Leaf::Region(home, self.one_or_list(Self::region)?),
            Condition::Named(referent) => Leaf::Named(referent, self.one_or_list(Self::name)?),
            Condition::Has => Leaf::Has(self.one_or_list(|p| {
                p.choice("phone 电话, email 邮箱", |word| match word {
                    "phone" | "电话" | "手机" => Some(Contact::Phone),
                    "email" | "邮箱" => Some(Contact::Email),
                    _ => None,
                })
            })?),
            Condition::Kind => Leaf::Kind(self.one_or_list(|p| {
                p.choice("person 个人, household 户, organisation 单位", |word| match word {
                    "person" | "个人" => Some(RecipientKind::Person),
                    "household" | "户" => Some(RecipientKind::Household),
                    "organisation" | "organization" | "单位" => Some(RecipientKind::Organisation),
                    _ => None,
                })
            })?),
            Condition::Code(set) => Leaf::Code(set, self.one_or_list(Self::code)?),
            Condition::Away => Leaf::Away(self.choice("yes 是, no 否", parse_bool)?),
        })
    }

    /// `name op value` or `name in (values)`.
    fn comparison(&mut self) -> Result<Leaf> {
        let mut attribute = self.name()?;
        if is_age(&attribute.text) {
            AGE.clone_into(&mut attribute.text);
        }
        if let Sign::Op(op) = *self.sign() {
            self.at += 1;
            return Ok(Leaf::Compare(attribute, Compare::With(op, self.value()?)));
        }
        if !self.eat_word(&IN) {
            return Err(self.unexpected(Expected::ColonOrOperator));
        }
        if *self.sign() != Sign::Open {
            return Err(self.unexpected(Expected::ListOpen));
        }
        Ok(Leaf::Compare(attribute, Compare::In(self.one_or_list(Self::value)?)))
    }

    fn one_or_list<T>(&mut self, mut one: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        if *self.sign() != Sign::Open {
            return Ok(vec![one(self)?]);
        }
        self.at += 1;
        let mut all = vec![one(self)?];
        while *self.sign() == Sign::Comma {
            self.at += 1;
            all.push(one(self)?);
        }
        self.expect(&Sign::Close, Expected::ListNext)?;
        Ok(all)
    }

    fn region(&mut self) -> Result<RegionName> {
        let name = self.name()?;
        let alone = *self.sign() == Sign::Bang;
        self.at += usize::from(alone);
        Ok(RegionName { name, alone })
    }

    fn choice<T>(&mut self, allowed: &'static str, pick: impl Fn(&str) -> Option<T>) -> Result<T> {
        let name = self.name()?;
        pick(&name.text.to_lowercase())
            .ok_or_else(|| name.error(Problem::UnknownWord { found: name.text.clone(), allowed }))
    }

    /// A language or need. They are kept between commas, so none holds one.
    fn code(&mut self) -> Result<Name> {
        let name = self.name()?;
        if name.text.contains(',') {
            return Err(name.error(Problem::Unexpected { expected: Expected::Name, found: name.text.clone() }));
        }
        Ok(name.renamed(name.text.to_lowercase()))
    }

    fn name(&mut self) -> Result<Name> {
        let name = self.value()?;
        if name.text.trim().is_empty() {
            return Err(name.error(Problem::Unexpected { expected: Expected::Name, found: "\"\"".to_owned() }));
        }
        Ok(name)
    }

    fn value(&mut self) -> Result<Name> {
        let text = match self.sign() {
            Sign::Word(word) if !is_reserved(word) => word.clone(),
            Sign::Quoted(text) => text.clone(),
            _ => return Err(self.unexpected(Expected::Name)),
        };
        self.names += 1;
        if self.names > MAX_NAMES {
            return Err(self.error(Problem::TooManyNames));
        }
        let name = Name { text, place: self.place() };
        self.at += 1;
        Ok(name)
    }

    fn sign(&self) -> &Sign {
        self.tokens.get(self.at).map_or(&Sign::End, |t| &t.sign)
    }

    fn is_word(&self, words: &[&str]) -> bool {
        matches!(self.sign(), Sign::Word(word) if words.contains(&word.to_lowercase().as_str()))
    }

    fn eat_word(&mut self, words: &[&str]) -> bool {
        let found = self.is_word(words);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &Sign, expected: Expected) -> Result<()> {
        if self.sign() != sign {
            return Err(self.unexpected(expected));
        }
        self.at += 1;
        Ok(())
    }

    fn place(&self) -> Place {
        let (column, width) = self.tokens.get(self.at).map_or((1, 1), |t| (t.column, t.width));
        Place { origin: Some(Arc::clone(&self.origin)), column, width }
    }

    fn error(&self, problem: Problem) -> AudienceError {
        AudienceError { problem, place: self.place() }
    }

    fn unexpected(&self, expected: Expected) -> AudienceError {
        let place = self.place();
        let found = self.origin.text.chars().skip(place.column - 1).take(place.width).collect();
        AudienceError { problem: Problem::Unexpected { expected, found }, place }
    }
}
