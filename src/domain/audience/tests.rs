//! Tests of the language: what parses, how it prints, where errors point.

use proptest::prelude::*;

use super::*;

fn canonical(text: &str) -> String {
    parse(text).unwrap_or_else(|e| panic!("{text}: {e}")).to_string()
}

#[test]
fn both_languages_print_the_same_canonical_form() {
    let cases = [
        ("region:532532101000 and group:fishers", "region:532532101000 and group:fishers"),
        ("(区域:河口镇 或 区域:南溪镇) 且 非 组:党员干部", "(region:河口镇 or region:南溪镇) and not group:党员干部"),
        ("group:elderly and age >= 80 and not has:phone", "group:elderly and age >= 80 and not has:phone"),
        ("区域：“河口 镇”！", "region:\"河口 镇\"!"),
        ("REGION:河口镇/城关社区! AND NOT 有:(手机，邮箱)", "region:河口镇/城关社区! and not has:(phone, email)"),
        ("年龄≥８", "age >= ８"),
        ("((全部))", "all"),
        ("(a = 1 and (b = 2 and c=3))", "a = 1 and b = 2 and c = 3"),
        ("a=1 or (b=2 or c=3) and not (d=4)", "a = 1 or (b = 2 or c = 3) and not d = 4"),
        ("mu in (1、2)", "mu in (1, 2)"),
        ("组:(\"a \"\"b\"\"\", and2)", "group:(\"a \"\"b\"\"\", and2)"),
        ("人群:\"或\" or crop = \"\"", "group:\"或\" or crop = \"\""),
        (
            "kind:户 and away:是 and lang:Yao and 需要:hearing",
            "kind:household and away:yes and lang:yao and need:hearing",
        ),
        ("已告知:7 and 未到达:0190abcd", "told:7 and unreached:0190abcd"),
    ];
    for (typed, printed) in cases {
        assert_eq!(canonical(typed), printed);
        assert_eq!(canonical(printed), printed);
    }
}

#[test]
fn errors_point_at_the_column() {
    let cases = [
        ("", 1),
        ("region:河口镇 group:x", 12),
        ("区域:河口镇，区域:南溪镇", 7),
        ("regoin:x", 1),
        ("a = 1 and", 10),
        ("(a = 1", 7),
        ("group:\"x", 7),
        ("has:fax", 5),
        ("a 1", 3),
        ("a in 1", 6),
        ("group:()", 8),
        ("group:\"\"", 7),
        ("a = 1\tand b = 2", 6),
        ("a = \u{202e}1", 5),
    ];
    for (text, column) in cases {
        let error = parse(text).unwrap_err();
        assert_eq!(error.place.column, column, "{text}: {error}");
    }
    assert!(matches!(
        parse("regoin:x").unwrap_err().problem,
        Problem::UnknownCondition { nearest, .. } if nearest == ["region"]
    ));
}

#[test]
fn the_caret_stands_under_the_word_in_a_terminal() {
    let shown = parse("区域:河口镇 group:x").unwrap_err().to_string();
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[1], "  区域:河口镇 group:x");
    // Chinese characters are two columns wide: 2 + 4 + 1 + 6 + 1.
    assert_eq!(lines[2], format!("{}^^^^^", " ".repeat(14)));
    let long = format!("{} ?", vec!["a = 1"; 100].join(" and "));
    let shown = parse(&long).unwrap_err().to_string();
    assert!(shown.lines().nth(1).unwrap().chars().count() < 60, "{shown}");
    assert!(shown.lines().nth(1).unwrap().contains('…'));
}

#[test]
fn the_limits_hold() {
    let joined = |n: usize| vec!["a = 1"; n].join(" or ");
    assert!(parse(&joined(MAX_CONDITIONS)).is_ok());
    assert_eq!(parse(&joined(MAX_CONDITIONS + 1)).unwrap_err().problem, Problem::TooManyConditions);
    let nested = |n: usize| format!("{}a = 1{}", "(".repeat(n), ")".repeat(n));
    assert!(parse(&nested(MAX_DEPTH)).is_ok());
    assert_eq!(parse(&nested(MAX_DEPTH + 1)).unwrap_err().problem, Problem::TooDeep);
    assert_eq!(parse(&"not ".repeat(4_000)).unwrap_err().problem, Problem::TooDeep);
    assert_eq!(parse(&"x".repeat(MAX_CHARS + 1)).unwrap_err().problem, Problem::TooLong);
    let names = format!("group:({})", vec!["x"; MAX_NAMES + 1].join(","));
    assert_eq!(parse(&names).unwrap_err().problem, Problem::TooManyNames);
}

#[test]
fn the_nearest_names_come_first() {
    let known = ["河口镇", "河口瑶族自治县", "南溪镇", "莲花滩乡"];
    assert_eq!(nearest("河口", known)[0], "河口镇");
    assert_eq!(nearest("fishres", ["fishers", "farmers"]), ["fishers"]);
    assert!(nearest("zzz", known).is_empty());
}

fn name() -> impl Strategy<Value = Name> {
    prop_oneof![
        "[a-z0-9_/.-]{1,8}",
        "[河口镇城关社区或且非]{1,4}",
        "[ a（：“”\"',!=]{0,5}x",
        Just("and".to_owned()),
        Just("IN".to_owned()),
        Just("全部".to_owned()),
    ]
    .prop_map(Name::new)
}

fn names() -> impl Strategy<Value = Vec<Name>> {
    prop::collection::vec(name(), 1..4)
}

fn leaf() -> impl Strategy<Value = Leaf> {
    let home = prop_oneof![Just(Home::Residence), Just(Home::Hukou)];
    let region = (name(), any::<bool>()).prop_map(|(name, alone)| RegionName { name, alone });
    let referent = prop::sample::select(vec![
        Referent::Area,
        Referent::Group,
        Referent::List,
        Referent::Told,
        Referent::Unreached,
    ]);
    let op = prop::sample::select(vec![Op::Eq, Op::Ne, Op::Lt, Op::Le, Op::Gt, Op::Ge]);
    let contacts = prop::sample::subsequence(vec![Contact::Phone, Contact::Email], 1..=2);
    let kinds = prop::sample::subsequence(
        vec![RecipientKind::Person, RecipientKind::Household, RecipientKind::Organisation],
        1..=3,
    );
    let codes = prop::collection::vec("[a-z]{1,5}".prop_map(Name::new), 1..3);
    prop_oneof![
        (home, prop::collection::vec(region, 1..3)).prop_map(|(h, r)| Leaf::Region(h, r)),
        (referent, names()).prop_map(|(r, n)| Leaf::Named(r, n)),
        contacts.prop_map(Leaf::Has),
        kinds.prop_map(Leaf::Kind),
        (prop_oneof![Just(CodeSet::Language), Just(CodeSet::Need)], codes).prop_map(|(s, c)| Leaf::Code(s, c)),
        any::<bool>().prop_map(Leaf::Away),
        (name(), op, name()).prop_map(|(a, op, v)| Leaf::Compare(a, Compare::With(op, v))),
        (name(), names()).prop_map(|(a, v)| Leaf::Compare(a, Compare::In(v))),
    ]
}

fn expr() -> impl Strategy<Value = Expr> {
    let start = prop_oneof![1 => Just(Expr::All), 9 => leaf().prop_map(Expr::Leaf)];
    start.prop_recursive(5, 40, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(Expr::or),
            prop::collection::vec(inner.clone(), 1..4).prop_map(Expr::and),
            inner.prop_map(|e| Expr::Not(Box::new(e))),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_printed_parses_to_the_same(expr in expr()) {
        let printed = expr.to_string();
        prop_assert_eq!(&parse(&printed).map_err(|e| TestCaseError::fail(format!("{printed}: {e}")))?, &expr);
        prop_assert_eq!(canonical(&format!("({printed})")), printed);
    }

    #[test]
    fn parsing_never_panics(text in "\\PC{0,60}", signs in "[a且或非(): ,\"“”=!<>河口0-9\u{0}-\u{20}]{0,40}") {
        for text in [text, signs] {
            if let Err(error) = parse(&text) {
                prop_assert!(!error.to_string().is_empty());
                prop_assert!(error.place.column <= text.chars().count() + 1);
            }
        }
    }
}
