//! The predicate of an expression, and its canonical form, in one walk.
//!
//! Every predicate is an operand (in parentheses or a call), names recipients
//! `r`, and is TRUE or FALSE, never NULL: so `NOT` takes in whoever lacks the
//! fact asked about.

use std::collections::BTreeSet;

use super::names::{Found, FoundNames};
use crate::channel::Class;
use crate::domain::audience::{
    AGE, AttributeType, Attributes, AudienceError, CodeSet, Compare, Contact, Expr, Home, Leaf, Name, Op, Problem,
    Referent, RegionName, nearest,
};
use crate::domain::delivery::State;
use crate::store::marks::under_way;

type Compiled<T> = Result<(T, String), AudienceError>;

/// Handed over as far as is known: a lift or a correction must follow it, as it must
/// what is under way.
const HANDED_OVER: [State; 7] =
    [State::Sent, State::Delivered, State::Read, State::Confirmed, State::Unknown, State::Uncertain, State::Told];
const REACHED: [State; 4] = [State::Delivered, State::Read, State::Confirmed, State::Told];

/// No one is older, and no year would be left to be born in.
const MAX_AGE: i32 = 200;

pub(super) struct Compiler<'a> {
    found: &'a FoundNames,
    attrs: &'a Attributes,
    today: i32,
    postgres: bool,
    negated: bool,
    pub lists: BTreeSet<i64>,
    pub rounds: BTreeSet<i64>,
}

impl<'a> Compiler<'a> {
    pub fn new(found: &'a FoundNames, attrs: &'a Attributes, today: i32, postgres: bool) -> Self {
        Self { found, attrs, today, postgres, negated: false, lists: BTreeSet::new(), rounds: BTreeSet::new() }
    }

    pub fn compile(&mut self, expr: &Expr) -> Compiled<Expr> {
        match expr {
            Expr::All => Ok((Expr::All, "TRUE".to_owned())),
            Expr::Or(parts) => self.joined(parts, " OR ").map(|(e, sql)| (Expr::or(e), sql)),
            Expr::And(parts) => self.joined(parts, " AND ").map(|(e, sql)| (Expr::and(e), sql)),
            Expr::Not(inner) => {
                self.negated = !self.negated;
                let (inner, sql) = self.compile(inner)?;
                self.negated = !self.negated;
                Ok((Expr::Not(Box::new(inner)), format!("(NOT {sql})")))
            }
            Expr::Leaf(leaf) => self.leaf(leaf).map(|(leaf, sql)| (Expr::Leaf(leaf), sql)),
        }
    }

    fn joined(&mut self, parts: &[Expr], joint: &str) -> Compiled<Vec<Expr>> {
        let mut exprs = Vec::new();
        let mut sql = Vec::new();
        for part in parts {
            let (expr, predicate) = self.compile(part)?;
            exprs.push(expr);
            sql.push(predicate);
        }
        Ok((exprs, format!("({})", sql.join(joint))))
    }

    fn leaf(&mut self, leaf: &Leaf) -> Compiled<Leaf> {
        match leaf {
            Leaf::Region(home, regions) => self.regions(*home, regions),
            Leaf::Named(referent, names) => self.named(*referent, names),
            Leaf::Has(contacts) => Ok((leaf.clone(), has(contacts))),
            Leaf::Kind(kinds) => {
                let codes: Vec<i64> = kinds.iter().map(|k| *k as i64).collect();
                Ok((leaf.clone(), format!("(r.kind IN ({}))", numbers(codes))))
            }
            Leaf::Code(set, codes) => Ok((leaf.clone(), self.codes(*set, codes)?)),
            Leaf::Away(away) => Ok((leaf.clone(), format!("(r.away {} 0)", if *away { "<>" } else { "=" }))),
            Leaf::Compare(name, compare) if name.text == AGE => {
                let (compare, sql) = self.age(compare)?;
                Ok((Leaf::Compare(name.clone(), compare), sql))
            }
            Leaf::Compare(name, compare) => self.attribute(name, compare),
        }
    }

    fn find(&self, what: Referent, name: &Name) -> Result<&'a Found, AudienceError> {
        self.found
            .get(&(what, name.text.clone()))
            .ok_or_else(|| name.error(Problem::UnknownName { what, name: name.text.clone(), nearest: Vec::new() }))
    }

    fn regions(&self, home: Home, regions: &[RegionName]) -> Compiled<Leaf> {
        let (mut subtrees, mut alone, mut canonical) = (Vec::new(), Vec::new(), Vec::new());
        for region in regions {
            let found = self.find(Referent::Region, &region.name)?;
            if region.alone { &mut alone } else { &mut subtrees }.push(found.no);
            canonical.push(RegionName { name: region.name.renamed(&found.canonical), alone: region.alone });
        }
        let column = match home {
            Home::Residence => "r.region_no",
            Home::Hukou => "r.hukou_no",
        };
        let mut either = Vec::new();
        if !subtrees.is_empty() {
            let subtrees = numbers(subtrees);
            either.push(below(column, &subtrees));
        }
        if !alone.is_empty() {
            either.push(format!("{column} IN ({})", numbers(alone)));
        }
        let either = either.join(" OR ");
        let sql = match home {
            Home::Residence => format!("({either})"),
            Home::Hukou => format!("(r.hukou_no IS NOT NULL AND ({either}))"),
        };
        Ok((Leaf::Region(home, canonical), sql))
    }

    fn named(&mut self, referent: Referent, names: &[Name]) -> Compiled<Leaf> {
        let (mut nos, mut canonical) = (Vec::new(), Vec::new());
        for name in names {
            let found = self.find(referent, name)?;
            nos.push(found.no);
            canonical.push(name.renamed(&found.canonical));
        }
        if referent == Referent::List && !self.negated {
            self.lists.extend(&nos);
        }
        if referent == Referent::Unreached && !self.negated {
            self.rounds.extend(&nos);
        }
        let nos = numbers(nos);
        let sql = match referent {
            Referent::Region => format!("({})", below("r.region_no", &nos)),
            Referent::Area => format!(
                "(r.region_no IN (SELECT c.descendant FROM area_regions a JOIN region_closure c
                 ON c.ancestor = a.region_no WHERE a.area_no IN ({nos})) OR {})",
                held(&format!("SELECT recipient_no FROM area_recipients WHERE area_no IN ({nos})"))
            ),
            Referent::Group => held(&format!("SELECT recipient_no FROM group_members WHERE group_no IN ({nos})")),
            Referent::List => held(&format!("SELECT recipient_no FROM list_rows WHERE list_no IN ({nos})")),
            Referent::Told => {
                // Whatever became of it since, nobody knows what came of an unheard attempt.
                // These are few, and collected once.
                let unheard = format!(
                    "(d.dispatch_no, d.ordinal) IN (SELECT t.dispatch_no, t.ordinal FROM tries t
                     WHERE t.dispatch_no IN ({nos}) AND t.class = {}) OR {}",
                    Class::Unknown as i32,
                    under_way!("d")
                );
                let some = some_delivery(&HANDED_OVER, &format!(" OR {unheard}"));
                let posted = posted_alone(&nos, &unheard);
                held(&format!(
                    "SELECT m.recipient_no FROM members m WHERE m.dispatch_no IN ({nos}) AND ({some} OR {posted})"
                ))
            }
            Referent::Unreached => {
                let some = some_delivery(&REACHED, "");
                held(&format!("SELECT m.recipient_no FROM members m WHERE m.dispatch_no IN ({nos}) AND NOT {some}"))
            }
        };
        Ok((Leaf::Named(referent, canonical), sql))
    }

    fn codes(&self, set: CodeSet, codes: &[Name]) -> Result<String, AudienceError> {
        let column = match set {
            CodeSet::Language => "r.languages",
            CodeSet::Need => "r.needs",
        };
        let within = if self.postgres { "strpos" } else { "instr" };
        let each: Result<Vec<String>, AudienceError> = codes
            .iter()
            .map(|code| Ok(format!("{within}({column}, {}) > 0", quoted(code, &format!(",{},", code.text))?)))
            .collect();
        Ok(format!("({})", each?.join(" OR ")))
    }

    /// An age is a range of birthdays: `age >= n` is `born <= today - n years`.
    fn age(&self, compare: &Compare) -> Compiled<Compare> {
        let years = |value: &Name| {
            let years = value.text.parse().ok().filter(|n| (0..=MAX_AGE).contains(n));
            years.ok_or_else(|| bad_value(AGE, AttributeType::Number, value))
        };
        let born_by = |n: i32| self.today - n * 10_000;
        let exactly = |n: i32| format!("r.born <= {} AND r.born > {}", born_by(n), born_by(n + 1));
        let (canonical, sql) = match compare {
            Compare::With(op, value) => {
                let n = years(value)?;
                let sql = match op {
                    Op::Ge => format!("r.born <= {}", born_by(n)),
                    Op::Gt => format!("r.born <= {}", born_by(n + 1)),
                    Op::Lt => format!("r.born > {}", born_by(n)),
                    Op::Le => format!("r.born > {}", born_by(n + 1)),
                    Op::Eq => exactly(n),
                    Op::Ne => format!("NOT ({})", exactly(n)),
                };
                (Compare::With(*op, value.renamed(n.to_string())), sql)
            }
            Compare::In(values) => {
                let each: Vec<i32> = values.iter().map(years).collect::<Result<_, _>>()?;
                let names = values.iter().zip(&each).map(|(value, n)| value.renamed(n.to_string())).collect();
                let ranges: Vec<String> = each.into_iter().map(exactly).collect();
                (Compare::In(names), ranges.join(" OR "))
            }
        };
        Ok((canonical, format!("(r.born IS NOT NULL AND ({sql}))")))
    }

    fn attribute(&self, name: &Name, compare: &Compare) -> Compiled<Leaf> {
        let Some((key, attribute)) = self.attrs.find(&name.text) else {
            let nearest = nearest(&name.text, self.attrs.names());
            return Err(name.error(Problem::UnknownAttribute { name: name.text.clone(), nearest }));
        };
        let (kind, one) = (attribute.kind, |value: &Name| literal(key, attribute.kind, value));
        let (canonical, test) = match compare {
            Compare::With(op, value) => {
                let ordered = matches!(kind, AttributeType::Number | AttributeType::Date);
                if !ordered && !matches!(op, Op::Eq | Op::Ne) {
                    return Err(name.error(Problem::NoOrder { attribute: name.text.clone() }));
                }
                let (value, sql) = one(value)?;
                (Compare::With(*op, value), format!("{} {sql}", op.sign()))
            }
            Compare::In(values) => {
                let (names, sql): (Vec<_>, Vec<_>) =
                    values.iter().map(one).collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
                (Compare::In(names), format!("IN ({})", sql.join(", ")))
            }
        };
        let name = name.renamed(key);
        let (is_typed, stored) = self.stored(kind, &name)?;
        // A value of another type, from before the attribute was declared anew, is none.
        let sql = format!("(CASE WHEN {is_typed} THEN {stored} {test} ELSE FALSE END)");
        Ok((Leaf::Compare(name, canonical), sql))
    }

    /// Whether attribute `key` is stored with its type, and its value in SQL.
    fn stored(&self, kind: AttributeType, key: &Name) -> Compiled<String> {
        if self.postgres {
            let key = quoted(key, &key.text)?;
            let typed = match kind {
                AttributeType::Text | AttributeType::Date => "string",
                AttributeType::Number => "number",
                AttributeType::Bool => "boolean",
            };
            let cast = if kind == AttributeType::Number { "::numeric" } else { " COLLATE \"C\"" };
            let is_typed = format!("jsonb_typeof(r.attrs::jsonb -> {key}) = '{typed}'");
            return Ok((is_typed, format!("(r.attrs::jsonb ->> {key}){cast}")));
        }
        let path = quoted(key, &format!("$.\"{}\"", key.text))?;
        let (typed, value) = match kind {
            AttributeType::Text | AttributeType::Date => ("'text'", "json_extract"),
            AttributeType::Number => ("'integer', 'real'", "json_extract"),
            // What JSON calls them: json_extract would make them 1 and 0.
            AttributeType::Bool => ("'true', 'false'", "json_type"),
        };
        let is_typed = format!("json_type(r.attrs, {path}) IN ({typed})");
        Ok((is_typed, format!("{value}(r.attrs, {path})")))
    }
}

/// A value of an attribute in its canonical words and in SQL.
fn literal(attribute: &str, kind: AttributeType, value: &Name) -> Compiled<Name> {
    let json = kind.value(&value.text).ok_or_else(|| bad_value(attribute, kind, value))?;
    let text = json.as_str().map_or_else(|| json.to_string(), str::to_owned);
    Ok(match kind {
        AttributeType::Number => (value.renamed(&text), text),
        AttributeType::Bool => {
            let word = if json == serde_json::Value::Bool(true) { "yes" } else { "no" };
            (value.renamed(word), format!("'{text}'"))
        }
        AttributeType::Text | AttributeType::Date => (value.renamed(&text), quoted(value, &text)?),
    })
}

fn bad_value(attribute: &str, kind: AttributeType, value: &Name) -> AudienceError {
    value.error(Problem::BadValue { attribute: attribute.to_owned(), kind, value: value.text.clone() })
}

/// `text` as an SQL literal; `name` is where it was typed.
fn quoted(name: &Name, text: &str) -> Result<String, AudienceError> {
    if let Some(c) = text.chars().find(|c| c.is_control()) {
        return Err(name.error(Problem::Hidden { code: u32::from(c) }));
    }
    Ok(format!("'{}'", text.replace('\'', "''")))
}

fn numbers(all: Vec<i64>) -> String {
    let distinct: BTreeSet<i64> = all.into_iter().collect();
    distinct.iter().map(i64::to_string).collect::<Vec<_>>().join(", ")
}

/// Whether `column` is one of `regions` or below it.
fn below(column: &str, regions: &str) -> String {
    format!("{column} IN (SELECT descendant FROM region_closure WHERE ancestor IN ({regions}))")
}

/// Those a query of recipient numbers returns, and the persons of the households
/// among them. One `IN` over a union, so that either engine can start from it.
fn held(query: &str) -> String {
    format!(
        "(r.no IN (WITH held(no) AS ({query}) SELECT no FROM held
         UNION ALL SELECT p.no FROM recipients p JOIN held ON p.household_no = held.no))"
    )
}

/// Whether member `m` has a delivery `d` in one of `states`, or one of which `or` holds.
fn some_delivery(states: &[State], or: &str) -> String {
    let states = numbers(states.iter().map(|s| i64::from(s.code())).collect());
    format!(
        "EXISTS (SELECT 1 FROM delivery_members dm JOIN deliveries d
         ON d.dispatch_no = dm.dispatch_no AND d.ordinal = dm.delivery
         WHERE dm.dispatch_no = m.dispatch_no AND dm.member = m.ordinal AND (d.state IN ({states}){or}))"
    )
}

/// Members of a dispatch that told nobody in particular and was posted: whoever read
/// the post may be any of them. From the links to their deliveries, never the other way
/// round: that has no index, and would take the square of a large dispatch.
fn posted_alone(dispatches: &str, unheard: &str) -> String {
    let states = numbers(HANDED_OVER.iter().map(|s| i64::from(s.code())).collect());
    let handed = format!("(d.state IN ({states}) OR {unheard})");
    format!(
        "m.dispatch_no IN (SELECT d.dispatch_no FROM deliveries d WHERE d.dispatch_no IN ({dispatches}) AND d.target = 0 AND {handed})
         AND m.dispatch_no NOT IN (SELECT dm.dispatch_no FROM delivery_members dm CROSS JOIN deliveries d
         WHERE dm.dispatch_no IN ({dispatches}) AND d.dispatch_no = dm.dispatch_no AND d.ordinal = dm.delivery AND {handed})"
    )
}

/// An address, of one's own or of the household, that no gateway said is gone.
fn has(contacts: &[Contact]) -> String {
    let kinds = numbers(
        contacts
            .iter()
            .map(|contact| match contact {
                Contact::Phone => 1,
                Contact::Email => 2,
            })
            .collect(),
    );
    format!(
        "EXISTS (SELECT 1 FROM recipient_addresses ra JOIN addresses a ON a.id = ra.address_id
         WHERE ra.recipient_no IN (r.no, r.household_no) AND ra.kind IN ({kinds}) AND a.gone = 0)"
    )
}
