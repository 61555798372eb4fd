//! What the rules and the dashboard ask of the metrics can be answered: the labels that they
//! name are shown, and a series whose rise they take is there before it rises.

use std::collections::{BTreeMap, BTreeSet};

use regex::{Captures, Regex};
use serde_json::Value;

use super::text;
use crate::rig::{SOON, get, until};
use crate::site::Site;
use crate::source::files;
use crate::support::{free_port, postgres_server};

/// Labels that Prometheus itself puts on what it reads.
const OF_PROMETHEUS: [&str; 2] = ["instance", "job"];
/// Labels whose values are names of a site.
const OF_SITE: [&str; 1] = ["channel"];
/// Labels that tell a server's values only where there is one.
const OF_SERVER: [&str; 2] = ["pool", "under"];
const CHANNELS: [&str; 2] = ["sms", "talk"];

type Labels = BTreeMap<String, String>;

/// A sample of `/metrics`.
pub struct Sample {
    pub name: String,
    labels: Labels,
    value: String,
}

pub fn samples(text: &str) -> Vec<Sample> {
    let line = Regex::new(r"(?m)^(gong_\w+)(?:\{(.*)\})? (\S+)$").unwrap();
    let label = Regex::new(r#"(\w+)="([^"]*)""#).unwrap();
    let read = |l: &str| -> Labels { label.captures_iter(l).map(|c| (c[1].to_owned(), c[2].to_owned())).collect() };
    let sample = |c: Captures<'_>| Sample {
        name: c[1].to_owned(),
        labels: c.get(2).map(|l| read(l.as_str())).unwrap_or_default(),
        value: c[3].to_owned(),
    };
    line.captures_iter(text).map(sample).collect()
}

/// The values of each label of each metric.
#[derive(Default)]
struct Shown(BTreeMap<String, BTreeMap<String, BTreeSet<String>>>);

impl Shown {
    fn add(&mut self, text: &str) {
        for sample in samples(text) {
            let labels = self.0.entry(sample.name).or_default();
            for (label, value) in sample.labels {
                labels.entry(label).or_default().insert(value);
            }
        }
    }

    fn labels(&self, metric: &str) -> BTreeSet<&str> {
        self.0.get(metric).into_iter().flat_map(BTreeMap::keys).map(String::as_str).collect()
    }

    fn has(&self, metric: &str, label: &str, value: &str) -> bool {
        self.0.get(metric).and_then(|m| m.get(label)).is_some_and(|values| values.contains(value))
    }
}

/// A metric in a query, with what it asks of each label.
struct Selector {
    metric: String,
    /// Label and its alternatives; `$channel` is any.
    matchers: Vec<(String, Vec<String>)>,
    /// The query takes its rise.
    rises: bool,
}

fn selectors(query: &str) -> Vec<Selector> {
    let selector = Regex::new(r"(?:\b(rate|irate|increase)\()?\b(gong_\w+)(?:\{([^}]*)\})?").unwrap();
    let matcher = Regex::new(r#"(\w+)\s*(?:=~|=|!~|!=)\s*"([^"]*)""#).unwrap();
    let read = |c: Captures<'_>| Selector {
        metric: c[2].to_owned(),
        matchers: matcher
            .captures_iter(c.get(3).map_or("", |m| m.as_str()))
            .map(|m| (m[1].to_owned(), m[2].split('|').map(str::to_owned).collect()))
            .collect(),
        rises: c.get(1).is_some(),
    };
    selector.captures_iter(query).map(read).collect()
}

/// A rule or a panel: where it stands, what it asks, and what it says of the answer.
struct Asked {
    place: String,
    queries: Vec<String>,
    says: String,
}

fn read(name: &str) -> String {
    files("deploy/monitoring").into_iter().find(|f| f.path.ends_with(name)).unwrap().text
}

fn rules() -> Vec<Asked> {
    let rules = read("alerts.yml");
    let parts = rules.split("- alert: ").skip(1);
    let asked = |part: &str| {
        let (asks, says) = part.split_once("annotations:").expect("a rule has annotations");
        let (place, query) = asks.split_once('\n').unwrap();
        // A comment is no query.
        let query = query.lines().filter(|l| !l.trim_start().starts_with('#')).collect::<Vec<_>>().join("\n");
        Asked { place: place.to_owned(), queries: vec![query], says: says.to_owned() }
    };
    parts.map(asked).collect()
}

fn panels() -> Vec<Asked> {
    let board: Value = serde_json::from_str(&read("gong.json")).expect("the dashboard is JSON");
    let mut waiting: Vec<&Value> = board["panels"].as_array().unwrap().iter().collect();
    let mut all = Vec::new();
    while let Some(panel) = waiting.pop() {
        waiting.extend(panel["panels"].as_array().into_iter().flatten());
        if panel["type"] == "row" {
            continue;
        }
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        let field = |name: &str| -> Vec<String> {
            targets.iter().map(|t| t[name].as_str().unwrap_or_default().to_owned()).collect()
        };
        let says = field("legendFormat").join(" ");
        all.push(Asked { place: panel["title"].to_string(), queries: field("expr"), says });
    }
    all
}

#[test]
fn every_panel_of_the_dashboard_asks_for_something() {
    let panels = panels();
    let mute = panels.iter().filter(|p| p.queries.is_empty() || p.queries.iter().any(|q| selectors(q).is_empty()));
    // Prometheus itself knows who answers.
    let mute: Vec<_> = mute.filter(|p| p.queries != ["sum(up{job=~\"gong|gong-work\"})"]).map(|p| &p.place).collect();
    assert!(mute.is_empty() && panels.len() > 20, "{mute:?} of {}", panels.len());
}

/// Engines that have just started, on every store there is: of each the very first metrics,
/// and those after it looked at its store.
async fn fresh() -> Vec<[String; 2]> {
    let mut all = Vec::new();
    let site = async || {
        let at = format!("127.0.0.1:{}", free_port()).parse().unwrap();
        // One that hears receipts and one that expects none.
        Site::new().await.with_kannel(at, "rate = 5").with(
            "[channels.talk]\ngateway = \"wecom\"\nvars = { url = \"http://127.0.0.1:1\" }\nsecrets = { key = \"file:data/key\" }",
        )
    };
    let mut sites = vec![site().await];
    sites.extend(site().await.on_postgres().await);
    for mut site in sites {
        let app = site.open().await;
        let serving = site.serve(&app).await;
        let first = get(site.address(), "/metrics").await;
        let mut later = String::new();
        until("it looked at the store", SOON, async || {
            later = get(site.address(), "/metrics").await;
            later.contains("gong_pool_connections{")
        })
        .await;
        serving.stop().await;
        all.push([first, later]);
    }
    all
}

/// All that something of a label may be, each with the rest.
fn combined(choices: &[(String, Vec<String>)]) -> Vec<Labels> {
    choices.iter().fold(vec![Labels::new()], |all, (label, values)| {
        let with = |labels: &Labels, value: &String| {
            let mut labels = labels.clone();
            labels.insert(label.clone(), value.clone());
            labels
        };
        all.iter().flat_map(|labels| values.iter().map(move |value| with(labels, value))).collect()
    })
}

/// What has to stand in the first metrics for a selector that takes a rise.
fn wanted(selector: &Selector, shown: &Shown) -> Vec<Labels> {
    let named = CHANNELS.map(str::to_owned).to_vec();
    let choice = |label: &str| {
        let asked = selector.matchers.iter().find(|(l, _)| l == label).map(|(_, values)| values.clone());
        let known = || shown.0[&selector.metric][label].iter().cloned().collect();
        if OF_SITE.contains(&label) { named.clone() } else { asked.unwrap_or_else(known) }
    };
    let labels = shown.labels(&selector.metric);
    combined(&labels.into_iter().map(|label| (label.to_owned(), choice(label))).collect::<Vec<_>>())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_rises_stands_at_nothing_in_the_first_metrics_of_an_engine() {
    let mut shown = Shown::default();
    shown.add(&text());
    let asked: Vec<Asked> = rules().into_iter().chain(panels()).collect();
    let mut checked = 0;
    for [first, _] in fresh().await {
        let first = samples(&first);
        for selector in asked.iter().flat_map(|a| &a.queries).flat_map(|q| selectors(q)).filter(|s| s.rises) {
            for labels in wanted(&selector, &shown) {
                let found = first.iter().find(|s| s.name == selector.metric && s.labels == labels);
                let value = found.map(|s| s.value.as_str());
                assert_eq!(value, Some("0"), "{} {labels:?}: its first rise is not seen", selector.metric);
                checked += 1;
            }
        }
    }
    assert!(checked > 50, "only {checked} series");
}

/// Labels that a query groups by, and those that a text names.
fn named(asked: &Asked) -> BTreeSet<String> {
    let grouped = Regex::new(r"\b(?:by|on|without|ignoring) \(([^)]*)\)").unwrap();
    let said = Regex::new(r"\$labels\.(\w+)|\{\{(\w+)\}\}").unwrap();
    let mut all = BTreeSet::new();
    for query in &asked.queries {
        let groups =
            grouped.captures_iter(query).flat_map(|c| c[1].split(',').map(|l| l.trim().to_owned()).collect::<Vec<_>>());
        all.extend(groups);
    }
    all.extend(said.captures_iter(&asked.says).map(|c| c.get(1).or(c.get(2)).unwrap().as_str().to_owned()));
    all
}

/// What an alert or a panel names that no process shows.
fn unknown(asked: &Asked, shown: &Shown, skipped: &[&str]) -> Vec<String> {
    let used: Vec<Selector> = asked.queries.iter().flat_map(|q| selectors(q)).collect();
    let is_known =
        |label: &str| OF_PROMETHEUS.contains(&label) || used.iter().any(|s| shown.labels(&s.metric).contains(label));
    let mut wrong: Vec<String> = named(asked).into_iter().filter(|l| !is_known(l)).collect();
    for Selector { metric, matchers, .. } in &used {
        for (label, values) in matchers.iter().filter(|(l, _)| !OF_PROMETHEUS.contains(&l.as_str())) {
            if !shown.labels(metric).contains(label.as_str()) {
                wrong.push(format!("{metric}{{{label}}}"));
            }
            let skip = OF_SITE.contains(&label.as_str()) || skipped.contains(&label.as_str());
            let unseen = values.iter().filter(|value| !skip && !shown.has(metric, label, value));
            wrong.extend(unseen.map(|value| format!("{metric}{{{label}=\"{value}\"}}")));
        }
    }
    // What a text makes of one value of a label.
    let compared = Regex::new(r#"eq \$labels\.(\w+) "(\w+)""#).unwrap();
    for c in compared.captures_iter(&asked.says) {
        if !used.iter().any(|s| shown.has(&s.metric, &c[1], &c[2])) {
            wrong.push(c[0].to_owned());
        }
    }
    wrong.into_iter().map(|w| format!("{}: {w}", asked.place)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_and_their_values_in_rules_and_panels_are_shown_by_a_process() {
    let mut shown = Shown::default();
    shown.add(&text());
    for texts in fresh().await {
        for text in &texts {
            shown.add(text);
        }
    }
    let skipped = if postgres_server().is_some() { &[][..] } else { &OF_SERVER };
    let asked: Vec<Asked> = rules().into_iter().chain(panels()).collect();
    let wrong: Vec<String> = asked.iter().flat_map(|a| unknown(a, &shown, skipped)).collect();
    assert!(wrong.is_empty(), "no process shows these:\n{}", wrong.join("\n"));
    // The proofs feed what a process shows, too.
    let fed = Regex::new(r"series: '(gong_[^']*)'").unwrap();
    let fed: Vec<String> = fed.captures_iter(&read("alerts_test.yml")).map(|c| c[1].to_owned()).collect();
    let proofs = Asked { place: "alerts_test.yml".to_owned(), queries: fed, says: String::new() };
    let wrong = unknown(&proofs, &shown, skipped);
    assert!(wrong.is_empty() && proofs.queries.len() > 40, "{} series:\n{}", proofs.queries.len(), wrong.join("\n"));
}

#[test]
fn the_jobs_that_rules_name_are_those_that_prometheus_is_told_of() {
    let told = read("monitoring/prometheus.yml");
    let job = Regex::new(r#"\bjob=~?"([^"]+)""#).unwrap();
    let texts = read("alerts.yml") + &read("gong.json").replace("\\\"", "\"");
    let jobs: BTreeSet<String> =
        job.captures_iter(&texts).flat_map(|c| c[1].split('|').map(str::to_owned).collect::<Vec<_>>()).collect();
    let missing: Vec<_> = jobs.iter().filter(|j| !told.contains(&format!("job_name: {j}\n"))).collect();
    assert!(missing.is_empty() && jobs.len() == 2, "{missing:?} of {jobs:?}");
}

#[test]
fn a_query_is_read_with_what_it_asks() {
    let read = selectors("sum by (how) (increase(gong_a_total{how=\"failed\",c=~\"x|y\"}[10m])) / max(gong_b) > 0");
    let [a, b] = &read[..] else { panic!("{}", read.len()) };
    assert_eq!((a.metric.as_str(), a.rises, a.matchers.len()), ("gong_a_total", true, 2));
    assert_eq!(a.matchers[1], ("c".to_owned(), vec!["x".to_owned(), "y".to_owned()]));
    assert_eq!((b.metric.as_str(), b.rises, b.matchers.len()), ("gong_b", false, 0));
    assert_eq!(combined(&a.matchers).len(), 2);
}
