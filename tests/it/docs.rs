//! What the documents say about the program and the deployment is there: commands,
//! metrics, headings of alerts.

mod watched;

use std::collections::BTreeSet;
use std::time::Duration;

use gong::dispatch::alarm::Trouble;
use gong::domain::item::Lane;
use gong::store::crew::{Crew, LedRole, ROLES};
use gong::store::gauges::{OpenRow, PoolUse};
use gong::telemetry::Counts;
use gong::telemetry::gauges::LaneNow;
use regex::Regex;

use self::watched::samples;
use crate::source::files;
use crate::support::Gong;

/// The commands of a text: lines of code blocks and inline code that begin with `gong `,
/// perhaps after variables or another user's name.
fn commands(text: &str) -> Vec<String> {
    let before = r#"(?:docker compose run --rm (?:-T )?(?:-v "[^"]+" )?|docker run --rm -v \S+ )?(?:sudo )?(?:-u \w+ )?(?:runuser -u \w+ -- )?(?:[A-Z_]+=\S+ )*(?:gong-run )?"#;
    let inline = Regex::new(&format!(r"`{before}(gong [^`\n]+)`")).unwrap();
    let line = Regex::new(&format!(r"^\s*(?:\$ )?{before}(gong .+)$")).unwrap();
    let mut found: Vec<String> = Vec::new();
    let mut in_block = false;
    for text in text.lines() {
        if text.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if in_block {
            found.extend(line.captures(text).map(|c| c[1].to_owned()));
        } else {
            found.extend(inline.captures_iter(text).map(|c| c[1].to_owned()));
        }
    }
    found
}

/// The words of a command, up to a comment, a pipe or a redirection.
fn words(command: &str) -> Vec<String> {
    let word = Regex::new(r#"'([^']*)'|"([^"]*)"|(\S+)"#).unwrap();
    let mut words = Vec::new();
    for found in word.captures_iter(command) {
        let text = found.get(1).or(found.get(2)).or(found.get(3)).unwrap().as_str();
        if found.get(3).is_some() && (text.starts_with(['#', '|', '>', '<', '&', ';']) || text == "2>&1") {
            break;
        }
        words.push(text.trim_end_matches(';').to_owned());
    }
    words
}

#[test]
fn every_command_in_the_documents_is_one() {
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for file in
        files("docs").into_iter().filter(|f| std::path::Path::new(&f.path).extension().is_some_and(|e| e == "md"))
    {
        for command in commands(&file.text) {
            if !seen.insert(command.clone()) {
                continue;
            }
            let mut words = words(&command);
            words.push("--help".to_owned());
            let run = Gong::new().run(&words[1..]);
            if run.code != Some(0) {
                wrong.push(format!("{}: {command}\n{}", file.path, run.stderr));
            }
        }
    }
    assert!(seen.len() > 30, "only {} commands found", seen.len());
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn commands_are_found_where_they_stand() {
    let text = "Run `gong check` or `GONG_AS=a gong backup`; not `gongs`.\n```sh\n# gong no\nsudo -u gong gong status 3 # why\nGONG_AS=a gong-run gong plan 1\ndocker compose run --rm gong reach 1\n```\ngong no\n";
    assert_eq!(commands(text), ["gong check", "gong backup", "gong status 3 # why", "gong plan 1", "gong reach 1"]);
    assert_eq!(
        words("gong plan 1 --plan 'sms > 2s' --json | jq ."),
        ["gong", "plan", "1", "--plan", "sms > 2s", "--json"]
    );
}

/// Every metric a process can show, with every value of its labels that is known without
/// a store.
fn text() -> String {
    let counts = Counts::of(["sms"]);
    let gauges = &counts.gauges;
    for lane in Lane::SERVED {
        gauges.lane("sms", lane.name(), &LaneNow::default());
    }
    gauges.channel("sms", 1.0, false);
    gauges.receipt_age("sms", 1.0);
    gauges.unheard("sms", 1.0);
    gauges.disk_free("site", Some(1));
    gauges.store_size("postgres", Some(1));
    gauges.stopped("sms", None);
    gauges.withdrawn("sms", false);
    gauges.open(&[OpenRow { lane: 0, state: "active".to_owned(), n: 1, planning: 0 }], |_| "immediate");
    gauges.pools(&[PoolUse { name: "read", open: 1, idle: 1, most: 4 }]);
    for kind in Trouble::KINDS {
        gauges.alarms(kind, 0);
    }
    let led = |role: &str| LedRole { role: role.to_owned(), owner: String::new(), term: 1, vacant_ms: 0 };
    let (roles, engines) = (["planner", "scheduler", "events"].map(led).into(), ROLES.map(|role| (role, 1)).into());
    gauges.crew(&Crew { roles, engines, ..Crew::default() }, "");
    gauges.granted("sms", 1.0);
    counts.text()
}

/// Their names.
fn shown() -> BTreeSet<String> {
    samples(&text()).into_iter().map(|sample| sample.name).collect()
}

#[test]
fn metrics_that_are_watched_exist_and_are_all_explained() {
    let shown = shown();
    assert!(shown.contains("gong_lane_stalled_seconds") && shown.contains("gong_answers_total"), "{shown:?}");
    let name = Regex::new(r"\bgong_[a-z_]+\b").unwrap();
    let mut wrong = Vec::new();
    for file in files("deploy/monitoring") {
        for found in name.find_iter(&file.text).filter(|f| !shown.contains(f.as_str())) {
            wrong.push(format!("{}: {}", file.path, found.as_str()));
        }
    }
    assert!(wrong.is_empty(), "no process shows these:\n{}", wrong.join("\n"));
    let handbook = handbook();
    let silent: Vec<_> = shown.iter().filter(|name| !handbook.contains(*name)).collect();
    assert!(silent.is_empty(), "the handbook does not explain {silent:?}");
}

/// A figure at which nobody looks is none.
#[test]
fn every_metric_is_on_the_dashboard_or_in_a_rule() {
    let watched: String = files("deploy/monitoring")
        .into_iter()
        .filter(|f| f.path.ends_with("gong.json") || f.path.ends_with("alerts.yml"))
        .map(|f| f.text)
        .collect();
    let unseen: Vec<_> = shown().into_iter().filter(|name| !watched.contains(name)).collect();
    assert!(unseen.is_empty(), "{unseen:?}");
}

#[test]
fn every_alert_is_proved_to_fire_and_to_be_silent() {
    let read = |name: &str| files("deploy/monitoring").into_iter().find(|f| f.path.ends_with(name)).unwrap().text;
    let (rules, proofs) = (read("alerts.yml"), read("alerts_test.yml"));
    let alert = Regex::new(r"(?m)^ +- alert: (\w+)$").unwrap();
    let proof = Regex::new(r"alertname: (\w+)\n +exp_alerts:( \[\])?").unwrap();
    let proved: BTreeSet<(String, bool)> =
        proof.captures_iter(&proofs).map(|c| (c[1].to_owned(), c.get(2).is_none())).collect();
    let alerts: BTreeSet<String> = alert.captures_iter(&rules).map(|c| c[1].to_owned()).collect();
    let missing: Vec<_> = alerts
        .iter()
        .flat_map(|a| [true, false].map(|fires| (a.clone(), fires)))
        .filter(|p| !proved.contains(p))
        .collect();
    assert!(missing.is_empty() && alerts.len() > 20, "no proof (alert, fires) for {missing:?} of {}", alerts.len());
    for (texts, language) in [("summary: ", "Chinese"), ("summary_en: ", "English")] {
        assert_eq!(rules.matches(&format!(" {texts}")).count(), alerts.len(), "an alert says nothing in {language}");
    }
}

fn handbook() -> String {
    files("docs").into_iter().find(|f| f.path.ends_with("HANDBOOK.md")).expect("docs/HANDBOOK.md").text
}

#[test]
fn every_alert_has_its_page_in_the_handbook() {
    let rules = files("deploy/monitoring").into_iter().find(|f| f.path.ends_with("alerts.yml")).unwrap().text;
    let headings: BTreeSet<String> = handbook()
        .lines()
        .filter_map(|l| l.strip_prefix('#'))
        .map(|l| format!("#{}", l.trim_start_matches('#').trim().to_lowercase().replace(' ', "-")))
        .collect();
    let wanted = Regex::new("runbook: \"(#[a-z-]+)\"").unwrap();
    let alerts = rules.matches("- alert: ").count();
    let linked: Vec<_> = wanted.captures_iter(&rules).map(|c| c[1].to_owned()).collect();
    assert_eq!(linked.len(), alerts, "an alert names no heading");
    let missing: Vec<_> = linked.iter().filter(|l| !headings.contains(*l)).collect();
    assert!(missing.is_empty() && alerts > 10, "{missing:?} of {alerts}");
}

#[test]
fn the_defaults_that_the_handbook_names_are_the_defaults() {
    let limits = gong::dispatch::alarm::AlarmSettings::default().limits().unwrap();
    let (handbook, rules) = (handbook(), files("deploy/monitoring"));
    let rules: String = rules.into_iter().filter(|f| f.path.ends_with("alerts.yml")).map(|f| f.text).collect();
    for (time, lane) in [(limits.immediate, "60 s"), (limits.prompt, "10 min"), (limits.routine, "2 h")] {
        assert!(handbook.contains(lane) && rules.contains(&format!("> {}", time.as_secs())), "{lane} {time:?}");
    }
    assert_eq!(limits.repeat, Duration::from_mins(30));
}
