//! A small made-up county, kept twice: in the store, and here to count by hand.

mod insert;

use rand::Rng as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::AudienceCount;
use crate::domain::audience::{Attributes, CodeSet, Compare, Contact, Expr, Home, Leaf, Name, Op, Referent, parse};

pub(super) const TODAY: i32 = 20_260_601;
const ELDERS: &str = "age >= 60 or group:fishers";

/// Number, code, name, parent.
const REGIONS: [(i64, &str, &str, i64); 7] = [
    (1, "532532000000", "河口县", 0),
    (2, "532532101000", "河口镇", 1),
    (3, "532532102000", "南溪镇", 1),
    (4, "532532101001", "城关社区", 2),
    (5, "", "农场", 2),
    (6, "532532102001", "城关社区", 3),
    (7, "", "小组", 4),
];

/// Every way in which the tests write a region.
const WRITTEN: [(&str, i64); 16] = [
    ("河口县", 1),
    ("河口镇", 2),
    ("老街", 2),
    ("南溪镇", 3),
    ("河口镇/城关社区", 4),
    ("河口县/南溪镇/城关社区", 6),
    ("农场", 5),
    ("小组", 7),
    ("河口县/河口镇/农场", 5),
    ("河口县/河口镇/城关社区/小组", 7),
    ("532532000000", 1),
    ("532532101000", 2),
    ("532532102000", 3),
    ("532532101001", 4),
    ("532532102001", 6),
    ("河口县/老街", 2),
];

const NAMES: [(&str, i64); 7] =
    [("洪水区", 1), ("工业区", 2), ("fishers", 1), ("O'Brien 组", 2), ("补贴", 1), ("体检", 2), ("汛期", 3)];

pub(super) fn attributes() -> Attributes {
    toml::from_str(
        "crop = { type = 'text', aliases = ['作物'] }\nmu = { type = 'number' }\n\
         since = { type = 'date' }\ninsured = { type = 'bool' }",
    )
    .unwrap()
}

/// One of every kind of condition.
pub(super) fn leaves() -> Vec<&'static str> {
    vec![
        "region:河口镇",
        "region:532532102000",
        "region:老街",
        "region:(南溪镇, 河口镇/城关社区)",
        "region:河口镇!",
        "region:河口县/南溪镇/城关社区!",
        "region:农场",
        "region:(河口县/老街!, 小组)",
        "hukou:河口镇",
        "hukou:(南溪镇!, 小组)",
        "area:洪水区",
        "area:(洪水区, 工业区)",
        "group:fishers",
        "group:(fishers, \"O'Brien 组\")",
        "group:elders",
        "group:(elders, \"O'Brien 组\")",
        "list:补贴",
        "list:(补贴, 体检)",
        "told:1",
        "told:2",
        "told:(1, 2)",
        "unreached:1",
        "unreached:(1, 2)",
        "has:phone",
        "has:email",
        "has:(phone, email)",
        "kind:person",
        "kind:(household, organisation)",
        "lang:yao",
        "lang:(yao, miao)",
        "need:hearing",
        "need:(sight, hearing)",
        "away:yes",
        "away:no",
        "age >= 60",
        "age > 60",
        "age < 18",
        "age <= 18",
        "age = 36",
        "age != 36",
        "age in (18, 36, 60)",
        "crop = 橡胶",
        "crop != 橡胶",
        "crop in (香蕉, \"it's\")",
        "mu = 2",
        "mu != 2.5",
        "mu < 2.5",
        "mu <= 2.5",
        "mu > 2",
        "mu >= -1",
        "mu in (2, 2.5)",
        "since >= 2024-01-01",
        "since = 20240101",
        "insured = yes",
        "insured != yes",
        "insured in (no)",
        "all",
    ]
}

/// A random expression no more than `depth` deep.
pub(super) fn expression(rng: &mut StdRng, depth: u32) -> String {
    let leaves = leaves();
    let leaf = leaves[rng.random_range(0..leaves.len())].to_owned();
    if depth == 0 {
        return leaf;
    }
    match rng.random_range(0..5) {
        0 => leaf,
        1 => format!("not ({})", expression(rng, depth - 1)),
        2 => format!("({}) and not ({})", expression(rng, depth - 1), expression(rng, depth - 1)),
        3 => format!("({}) and ({})", expression(rng, depth - 1), expression(rng, depth - 1)),
        _ => format!("({}) or {} or {leaf}", expression(rng, depth - 1), expression(rng, depth - 1)),
    }
}

struct Recipient {
    no: i64,
    kind: i64,
    counted: bool,
    status: i64,
    away: bool,
    household: Option<i64>,
    region: i64,
    hukou: Option<i64>,
    born: Option<i32>,
    languages: Vec<&'static str>,
    needs: Vec<&'static str>,
    attrs: Value,
}

/// Recipients and the pairs that tie them to everything else.
pub(super) struct World {
    recipients: Vec<Recipient>,
    area_recipients: Vec<(i64, i64)>,
    group_members: Vec<(i64, i64)>,
    list_rows: Vec<(i64, i64)>,
    /// Recipient, kind, gone.
    addresses: Vec<(i64, i64, bool)>,
    /// Dispatch, ordinal, recipient.
    members: Vec<(i64, i64, i64)>,
    /// Dispatch, ordinal, member, state.
    deliveries: Vec<(i64, i64, i64, i64)>,
}

const AREA_REGIONS: [(i64, i64); 2] = [(1, 4), (2, 5)];
const STATES: [i64; 12] = [0, 1, 3, 4, 5, 6, 7, 8, 10, 11, 31, 32];

fn pick<T: Copy>(rng: &mut StdRng, all: &[T]) -> T {
    all[rng.random_range(0..all.len())]
}

fn some<T: Copy>(rng: &mut StdRng, all: &[T]) -> Vec<T> {
    all.iter().copied().filter(|_| rng.random_bool(0.3)).collect()
}

fn pairs(rng: &mut StdRng, firsts: i64) -> Vec<(i64, i64)> {
    (1..=firsts).flat_map(|a| (1..=80).map(move |b| (a, b))).filter(|_| rng.random_bool(0.1)).collect()
}

fn recipient(rng: &mut StdRng, no: i64) -> Recipient {
    let kind = match no {
        ..=15 => 2,
        16..=70 => 1,
        _ => 3,
    };
    let mut attrs = serde_json::Map::new();
    let values = [
        ("crop", vec![json!("橡胶"), json!("香蕉"), json!("it's"), json!(7)]),
        ("mu", vec![json!(2), json!(2.5), json!(-3), json!("two"), Value::Null]),
        ("since", vec![json!("2023-12-31"), json!("2024-01-01"), json!("2025-05-05")]),
        ("insured", vec![json!(true), json!(false), json!("yes")]),
    ];
    for (key, values) in values {
        if rng.random_bool(0.7) {
            attrs.insert(key.to_owned(), values[rng.random_range(0..values.len())].clone());
        }
    }
    let years = [1940, 1966, 1990, 2008, 2020];
    Recipient {
        no,
        kind,
        counted: rng.random_bool(0.8),
        status: pick(rng, &[1, 1, 1, 2, 3]),
        away: rng.random_bool(0.3),
        household: (kind == 1 && rng.random_bool(0.8)).then(|| rng.random_range(1..=15)),
        region: rng.random_range(1..=7),
        hukou: rng.random_bool(0.6).then(|| rng.random_range(1..=7)),
        born: rng.random_bool(0.8).then(|| pick(rng, &years) * 10_000 + pick(rng, &[101, 601, 602, 1231])),
        languages: some(rng, &["yao", "miao", "zh"]),
        needs: some(rng, &["hearing", "sight"]),
        attrs: Value::Object(attrs),
    }
}

impl World {
    pub(super) fn random(rng: &mut StdRng) -> Self {
        let recipients = (1..=80).map(|no| recipient(rng, no)).collect();
        let member_of = pairs(rng, 2);
        let members: Vec<_> = (1..).zip(&member_of).map(|(ordinal, (d, r))| (*d, ordinal, *r)).collect();
        let mut deliveries = Vec::new();
        let mut ordinals = 1..;
        for (dispatch, member, _) in &members {
            for _ in 0..rng.random_range(0..3) {
                deliveries.push((*dispatch, ordinals.next().unwrap(), *member, pick(rng, &STATES)));
            }
        }
        let addresses = pairs(rng, 2).into_iter().chain(pairs(rng, 2)).map(|(kind, r)| (r, kind, rng.random_bool(0.3)));
        Self {
            recipients,
            addresses: addresses.collect(),
            area_recipients: pairs(rng, 2),
            group_members: pairs(rng, 2),
            list_rows: pairs(rng, 3),
            members,
            deliveries,
        }
    }

    /// Numbers of the recipients `expr` means, counted by hand.
    pub(super) fn select(&self, expr: &Expr) -> Vec<i64> {
        self.recipients.iter().filter(|r| self.is(expr, r)).map(|r| r.no).collect()
    }

    pub(super) fn count(&self, expr: &Expr, scope: &Expr) -> AudienceCount {
        let all: Vec<&Recipient> =
            self.recipients.iter().filter(|r| r.counted && r.status == 1 && self.is(expr, r)).collect();
        let households: std::collections::HashSet<i64> =
            all.iter().filter_map(|r| if r.kind == 2 { Some(r.no) } else { r.household }).collect();
        let outside = all.iter().filter(|r| !self.is(scope, r)).count();
        let size = |n: usize| i64::try_from(n).unwrap();
        AudienceCount { people: size(all.len()), households: size(households.len()), outside_scope: size(outside) }
    }

    fn is(&self, expr: &Expr, r: &Recipient) -> bool {
        match expr {
            Expr::All => true,
            Expr::Or(parts) => parts.iter().any(|p| self.is(p, r)),
            Expr::And(parts) => parts.iter().all(|p| self.is(p, r)),
            Expr::Not(inner) => !self.is(inner, r),
            Expr::Leaf(leaf) => self.leaf(leaf, r),
        }
    }

    fn leaf(&self, leaf: &Leaf, r: &Recipient) -> bool {
        match leaf {
            Leaf::Region(home, regions) => {
                let at = if *home == Home::Residence { Some(r.region) } else { r.hukou };
                let in_one = |at| {
                    regions.iter().any(|region| {
                        let no = number(&WRITTEN, &region.name);
                        if region.alone { at == no } else { above(at).contains(&no) }
                    })
                };
                at.is_some_and(in_one)
            }
            Leaf::Named(what, names) => names.iter().any(|name| self.named(*what, name, r)),
            Leaf::Has(contacts) => self.addresses.iter().any(|(of, kind, gone)| {
                let wanted = contacts.iter().any(|c| *kind == if *c == Contact::Phone { 1 } else { 2 });
                self_or_household(r, *of) && wanted && !gone
            }),
            Leaf::Kind(kinds) => kinds.iter().any(|k| *k as i64 == r.kind),
            Leaf::Code(set, codes) => {
                let has = if *set == CodeSet::Language { &r.languages } else { &r.needs };
                codes.iter().any(|c| has.contains(&c.text.as_str()))
            }
            Leaf::Away(away) => r.away == *away,
            Leaf::Compare(name, compare) if name.text == "age" => {
                r.born.is_some_and(|born| holds(compare, &f64::from((TODAY - born).div_euclid(10_000)), number_of))
            }
            Leaf::Compare(name, compare) => {
                let value = r.attrs.get(&name.text).unwrap_or(&Value::Null);
                match (name.text.as_str(), value) {
                    ("mu", Value::Number(n)) => holds(compare, &n.as_f64().unwrap(), number_of),
                    ("crop", Value::String(s)) => holds(compare, s, |n| n.text.clone()),
                    ("since", Value::String(s)) => holds(compare, &s.replace('-', ""), |n| n.text.replace('-', "")),
                    ("insured", Value::Bool(b)) => holds(compare, b, |n| n.text == "yes"),
                    _ => false,
                }
            }
        }
    }

    fn named(&self, what: Referent, name: &Name, r: &Recipient) -> bool {
        let of = |no: i64, pairs: &[(i64, i64)]| pairs.iter().any(|(a, b)| *a == no && self_or_household(r, *b));
        match what {
            Referent::Region => unreachable!(),
            Referent::Area => {
                let no = number(&NAMES, name);
                AREA_REGIONS.iter().any(|(a, region)| *a == no && above(r.region).contains(region))
                    || of(no, &self.area_recipients)
            }
            Referent::Group if name.text == "elders" => self.is(&parse(ELDERS).unwrap(), r),
            Referent::Group => of(number(&NAMES, name), &self.group_members),
            Referent::List => of(number(&NAMES, name), &self.list_rows),
            Referent::Told => {
                self.members_with(name, r, |states| states.iter().any(|s| [3, 4, 5, 6, 8, 11, 31].contains(s)))
            }
            Referent::Unreached => {
                self.members_with(name, r, |states| !states.iter().any(|s| [4, 5, 6, 31].contains(s)))
            }
        }
    }

    fn members_with(&self, dispatch: &Name, r: &Recipient, fits: fn(&[i64]) -> bool) -> bool {
        let no: i64 = dispatch.text.parse().unwrap();
        self.members.iter().filter(|(d, _, of)| *d == no && self_or_household(r, *of)).any(|(_, member, _)| {
            let of = self.deliveries.iter().filter(|(d, _, m, _)| *d == no && m == member);
            fits(&of.map(|(_, _, _, state)| *state).collect::<Vec<_>>())
        })
    }
}

fn self_or_household(r: &Recipient, no: i64) -> bool {
    r.no == no || r.household == Some(no)
}

fn number(names: &[(&str, i64)], name: &Name) -> i64 {
    names.iter().find(|(known, _)| *known == name.text).unwrap_or_else(|| panic!("{}", name.text)).1
}

fn number_of(name: &Name) -> f64 {
    name.text.parse().unwrap()
}

fn holds<T: PartialOrd>(compare: &Compare, has: &T, value: impl Fn(&Name) -> T) -> bool {
    match compare {
        Compare::In(values) => values.iter().any(|v| *has == value(v)),
        Compare::With(op, v) => match op {
            Op::Eq => *has == value(v),
            Op::Ne => *has != value(v),
            Op::Lt => *has < value(v),
            Op::Le => *has <= value(v),
            Op::Gt => *has > value(v),
            Op::Ge => *has >= value(v),
        },
    }
}

/// A region and all above it.
fn above(region: i64) -> Vec<i64> {
    let parent = |no: i64| REGIONS.iter().find(|(known, ..)| *known == no).map(|(_, _, _, parent)| *parent);
    std::iter::successors(Some(region), |no| parent(*no).filter(|p| *p > 0)).collect()
}
