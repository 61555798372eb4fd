//! Tests of resolving: every predicate against a count by hand, on both engines.

mod world;

use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::*;
use crate::domain::audience::{MAX_CONDITIONS, Problem, Referent};
use crate::store::testing::stores;
use world::{TODAY, World, attributes};

async fn resolve(store: &Store, text: &str) -> Result<Audience, ResolveError> {
    store.resolve_audience(&parse(text)?, &attributes(), TODAY).await
}

async fn canonical(store: &Store, text: &str) -> String {
    resolve(store, text).await.unwrap_or_else(|e| panic!("{text}: {e}")).canonical
}

async fn problem(store: &Store, text: &str) -> Problem {
    match resolve(store, text).await {
        Err(ResolveError::Audience(error)) => error.problem,
        other => panic!("{text}: {other:?}"),
    }
}

async fn selected(store: &Store, audience: &Audience) -> Vec<i64> {
    let sql = format!("SELECT r.no FROM recipients r WHERE {} ORDER BY r.no", audience.predicate);
    read!(store, |db| sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(db).await).unwrap()
}

#[tokio::test]
async fn predicates_select_whom_the_expression_means() {
    for test in stores().await {
        let store = &test.store;
        let mut rng = StdRng::seed_from_u64(7);
        let world = World::random(&mut rng);
        world.insert(store).await;
        let leaves = world::leaves().into_iter().map(str::to_owned);
        let made = (0..250).map(|_| world::expression(&mut rng, 4));
        for text in leaves.chain(made.collect::<Vec<_>>()) {
            let expr = parse(&text).unwrap();
            let audience = resolve(store, &text).await.unwrap_or_else(|e| panic!("{}: {text}: {e}", test.engine));
            let meant = world.select(&expr);
            assert_eq!(selected(store, &audience).await, meant, "{}: {text}", test.engine);
            let again = resolve(store, &audience.canonical).await.unwrap();
            assert_eq!(again.canonical, audience.canonical, "{text}");
            assert_eq!(selected(store, &again).await, meant, "{}: {}", test.engine, audience.canonical);
        }
    }
}

#[tokio::test]
async fn counting_tells_people_households_and_who_is_out_of_scope() {
    for test in stores().await {
        let store = &test.store;
        let mut rng = StdRng::seed_from_u64(8);
        let world = World::random(&mut rng);
        world.insert(store).await;
        for _ in 0..40 {
            let (text, scope) = (world::expression(&mut rng, 3), world::expression(&mut rng, 3));
            let audience = resolve(store, &text).await.unwrap();
            let within = resolve(store, &scope).await.unwrap();
            let meant = world.count(&parse(&text).unwrap(), &parse(&scope).unwrap());
            let counted = store.count_audience(&audience, Some(&within)).await.unwrap();
            assert_eq!(counted, meant, "{}: {text} within {scope}", test.engine);
            let alone = store.count_audience(&audience, None).await.unwrap();
            assert_eq!(alone, AudienceCount { outside_scope: 0, ..meant });
        }
    }
}

#[tokio::test]
async fn names_become_codes_and_numbers() {
    for test in stores().await {
        let store = &test.store;
        World::random(&mut StdRng::seed_from_u64(9)).insert(store).await;
        let cases = [
            ("区域:老街", "region:532532101000"),
            ("region:河口县/城关社区! or region:南溪镇", "Ambiguous"),
            ("region:河口镇/城关社区!", "region:532532101001!"),
            ("region:532532101000/农场", "region:河口县/河口镇/农场"),
            ("told:0190AAAA-1", "told:1"),
            ("作物 = \"it's\" and MU >= 2.50", "crop = it's and mu >= 2.5"),
            ("since < 20240101 and insured = 是", "since < 2024-01-01 and insured = yes"),
            ("group:elders and away:no", "(age >= 60 or group:fishers) and away:no"),
            ("group:(elders, fishers)", "group:fishers or age >= 60 or group:fishers"),
        ];
        for (text, expected) in cases {
            if expected == "Ambiguous" {
                assert!(matches!(problem(store, text).await, Problem::Ambiguous { .. }), "{text}");
            } else {
                assert_eq!(canonical(store, text).await, expected, "{}", test.engine);
            }
        }
        let lists = resolve(store, "list:(体检, 补贴) and not list:汛期").await.unwrap().lists;
        assert_eq!(lists, [1, 2]);
        assert_eq!(resolve(store, "not not list:汛期").await.unwrap().lists, [3]);
    }
}

#[tokio::test]
async fn what_cannot_be_resolved_is_said() {
    for test in stores().await {
        let store = &test.store;
        World::random(&mut StdRng::seed_from_u64(10)).insert(store).await;
        let Problem::Ambiguous { candidates, .. } = problem(store, "region:城关社区").await else { panic!() };
        assert_eq!(candidates, ["532532101001  河口县/河口镇/城关社区", "532532102001  河口县/南溪镇/城关社区"]);
        let Problem::Ambiguous { candidates, .. } = problem(store, "told:0190aaaa").await else { panic!() };
        assert_eq!(candidates.len(), 2);
        let unknown = |what, name: &str, nearest: &[&str]| Problem::UnknownName {
            what,
            name: name.into(),
            nearest: nearest.iter().map(|n| (*n).to_owned()).collect(),
        };
        assert_eq!(problem(store, "region:河口县/南西镇").await, unknown(Referent::Region, "南西镇", &["南溪镇"]));
        assert_eq!(problem(store, "group:fishrs").await, unknown(Referent::Group, "fishrs", &["fishers"]));
        // A sensitive group is not suggested.
        assert_eq!(problem(store, "group:secre").await, unknown(Referent::Group, "secre", &[]));
        assert_eq!(problem(store, "list:补").await, unknown(Referent::List, "补", &["补贴"]));
        assert_eq!(problem(store, "area:x").await, unknown(Referent::Area, "x", &[]));
        assert_eq!(problem(store, "told:99").await, unknown(Referent::Told, "99", &[]));
        assert_eq!(
            problem(store, "group:old").await,
            Problem::Expired { group: "old".into(), until: "2026-05-31".into() }
        );
        let chain = ["a", "b", "a"].map(str::to_owned).to_vec();
        assert_eq!(problem(store, "group:a").await, Problem::Cycle { chain });
        assert!(
            matches!(problem(store, "crp = x").await, Problem::UnknownAttribute { nearest, .. } if nearest == ["crop"])
        );
        assert!(matches!(problem(store, "mu > many").await, Problem::BadValue { .. }));
        assert!(matches!(problem(store, "age > 201").await, Problem::BadValue { .. }));
        assert!(matches!(problem(store, "crop > a").await, Problem::NoOrder { .. }));
        assert_eq!(problem(store, "group:double0").await, Problem::TooManyConditions);
        let broken = resolve(store, "all and group:broken").await.unwrap_err().to_string();
        assert!(broken.contains("broken") && broken.contains("group:fishers or or"), "{broken}");
        let error = resolve(store, "kind:person and region:城关社区").await.unwrap_err().to_string();
        // Indented by two, and 23 characters before the name.
        assert!(error.ends_with(&format!("\n{}^^^^^^^^", " ".repeat(2 + 23))), "{error}");
    }
}

#[tokio::test]
async fn literals_stay_literals_and_the_largest_expressions_run() {
    for test in stores().await {
        let store = &test.store;
        let world = World::random(&mut StdRng::seed_from_u64(11));
        world.insert(store).await;
        let audience =
            resolve(store, "crop = \"x' OR '1'='1\" or lang:\"'); DROP TABLE recipients; --\"").await.unwrap();
        assert_eq!(selected(store, &audience).await, Vec::<i64>::new());
        let leaves = world::leaves();
        let wide: Vec<&str> =
            leaves.iter().copied().cycle().filter(|l| !l.contains("elders")).take(MAX_CONDITIONS).collect();
        // Three levels a round: a parenthesis, a not and a parenthesis.
        let deep = format!("{}mu > 1{}", "(all and not (crop = x or ".repeat(16), "))".repeat(16));
        for text in [wide.join(" and "), wide.join(" or "), deep] {
            let audience = resolve(store, &text).await.unwrap();
            assert_eq!(selected(store, &audience).await, world.select(&parse(&text).unwrap()), "{}", test.engine);
        }
    }
}

#[tokio::test]
async fn a_region_or_a_group_is_found_by_index() {
    for test in stores().await.into_iter().filter(|t| t.engine == "sqlite") {
        let store = &test.store;
        World::random(&mut StdRng::seed_from_u64(12)).insert(store).await;
        for text in ["region:河口镇 and has:phone", "group:fishers and age >= 60", "told:1 and not list:补贴"] {
            let audience = resolve(store, text).await.unwrap();
            let sql = format!("EXPLAIN QUERY PLAN SELECT r.no FROM recipients r WHERE {}", audience.predicate);
            let plan: Vec<(i64, i64, i64, String)> =
                read!(store, |db| sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(db).await).unwrap();
            assert!(plan.iter().any(|(_, _, _, step)| step.starts_with("SEARCH r USING")), "{text}: {plan:?}");
            assert!(!plan.iter().any(|(_, _, _, step)| step.starts_with("SCAN p")), "{text}: {plan:?}");
        }
    }
}
