//! What other systems are told of a dispatch: how it stood when they were last told,
//! against how it stands. Ids, states, counts and times, and nothing about anybody.
//!
//! Deliveries are told of as counts a state and channel, not one by one: a million
//! messages change state three million times, and a subscriber who missed one change
//! would be wrong for ever. A count is right again with the next event.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::delivery::State;
use super::item::Lane;
use crate::clock::Millis;

/// Deliveries in each state, by the channel's name.
pub type Counts = BTreeMap<State, BTreeMap<String, i64>>;

/// How a dispatch stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub no: i64,
    pub id: String,
    pub item_no: i64,
    pub item_id: String,
    pub item_version: i32,
    pub mode: String,
    pub lane: i32,
    /// active, paused, cancelled, finished
    pub state: String,
    /// Its recipients are known, and messages may go out.
    pub started: bool,
    pub members: i64,
    pub deliveries: i64,
    pub created_at: Millis,
    pub finished_at: Option<Millis>,
}

/// How it stood when it was last told of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mark {
    /// Empty before the first word.
    pub state: String,
    pub started: bool,
    pub finished: bool,
    pub counts: Counts,
}

/// Something that happened, without its number and id.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The routing key: `dispatch.started`, `delivery.delivered` …
    pub topic: String,
    fields: Map<String, Value>,
}

impl Event {
    /// The body of the message.
    #[must_use]
    pub fn body(&self, no: i64, id: &str) -> String {
        let mut body = Map::new();
        body.insert("event".to_owned(), self.topic.as_str().into());
        body.insert("no".to_owned(), no.into());
        body.insert("id".to_owned(), id.into());
        body.extend(self.fields.clone());
        Value::Object(body).to_string()
    }
}

/// States that a delivery passes through on its way to the gateway; nobody outside
/// waits for them.
const fn is_passing(state: State) -> bool {
    matches!(state, State::Planned | State::Queued | State::Sending)
}

/// What happened to the dispatch itself, its end excepted; the mark moves on.
pub fn of_dispatch(mark: &mut Mark, now: &Standing, at: Millis) -> Vec<Event> {
    let mut told = Vec::new();
    let mut tell = |word: &str, at: Millis| told.push(event(format!("dispatch.{word}"), now, at));
    if mark.state.is_empty() {
        tell("created", now.created_at);
        "active".clone_into(&mut mark.state);
    }
    if now.started && !mark.started {
        tell("started", at);
        mark.started = true;
    }
    if now.state != mark.state {
        match now.state.as_str() {
            "paused" => tell("paused", at),
            "active" => tell("resumed", at),
            "cancelled" => tell("cancelled", at),
            // Told by `of_end`, when the last counts are.
            _ => return told,
        }
        now.state.clone_into(&mut mark.state);
    }
    told
}

/// What happened to its deliveries: an event for each state whose count is another.
pub fn of_deliveries(mark: &mut Mark, now: &Standing, counts: Counts, at: Millis) -> Vec<Event> {
    let sum = |counts: &Counts, state| counts.get(&state).map_or(0, |by| by.values().sum::<i64>());
    let changed = State::ALL.into_iter().filter(|s| !is_passing(*s) && mark.counts.get(s) != counts.get(s));
    let told = changed
        .map(|state| {
            let (before, count) = (sum(&mark.counts, state), sum(&counts, state));
            let mut event = event(format!("delivery.{}", state.name()), now, at);
            event.fields.insert("state".to_owned(), state.name().into());
            event.fields.insert("count".to_owned(), count.into());
            event.fields.insert("change".to_owned(), (count - before).into());
            event.fields.insert("channels".to_owned(), json!(counts.get(&state).cloned().unwrap_or_default()));
            event
        })
        .collect();
    mark.counts = counts;
    mark.counts.retain(|state, _| !is_passing(*state));
    told
}

/// Its end, with where every delivery stands; `None` while it goes on. The counts of
/// the mark must be the last ones.
pub fn of_end(mark: &mut Mark, now: &Standing) -> Option<Event> {
    let at = now.finished_at.filter(|_| !mark.finished)?;
    mark.finished = true;
    now.state.clone_into(&mut mark.state);
    let mut event = event("dispatch.finished".to_owned(), now, at);
    let states: Map<String, Value> =
        mark.counts.iter().map(|(state, by)| (state.name().to_owned(), by.values().sum::<i64>().into())).collect();
    event.fields.insert("states".to_owned(), states.into());
    Some(event)
}

fn event(topic: String, of: &Standing, at: Millis) -> Event {
    let lane = Lane::from_number(of.lane).map_or("routine", Lane::name);
    let all = json!({
        "at": time(at),
        "dispatch": { "no": of.no, "id": of.id, "mode": of.mode, "lane": lane, "state": of.state,
            "members": of.members, "deliveries": of.deliveries },
        "item": { "no": of.item_no, "id": of.item_id, "version": of.item_version },
    });
    Event { topic, fields: if let Value::Object(fields) = all { fields } else { Map::new() } }
}

/// RFC 3339, UTC.
fn time(at: Millis) -> String {
    Timestamp::from_millisecond(at).map_or_else(|_| at.to_string(), |t| t.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(state: &str) -> Standing {
        Standing {
            no: 7,
            id: "d".to_owned(),
            item_no: 3,
            item_id: "i".to_owned(),
            item_version: 1,
            mode: "live".to_owned(),
            lane: 2,
            state: state.to_owned(),
            started: true,
            members: 10,
            deliveries: 9,
            created_at: 1_780_279_200_000,
            finished_at: (state == "finished").then_some(1_780_279_260_000),
        }
    }

    fn topics(events: &[Event]) -> Vec<&str> {
        events.iter().map(|e| e.topic.as_str()).collect()
    }

    fn counts(all: &[(State, i64)]) -> Counts {
        all.iter().map(|(state, n)| (*state, BTreeMap::from([("sms".to_owned(), *n)]))).collect()
    }

    #[test]
    fn a_dispatch_that_came_and_went_between_two_looks_is_told_in_order() {
        let mut mark = Mark::default();
        let now = standing("finished");
        assert_eq!(topics(&of_dispatch(&mut mark, &now, 0)), ["dispatch.created", "dispatch.started"]);
        let last = counts(&[(State::Queued, 0), (State::Delivered, 8), (State::Failed, 1)]);
        assert_eq!(topics(&of_deliveries(&mut mark, &now, last, 0)), ["delivery.delivered", "delivery.failed"]);
        let end = of_end(&mut mark, &now).unwrap();
        let body: Value = serde_json::from_str(&end.body(12, "e")).unwrap();
        assert_eq!(body["states"], json!({ "delivered": 8, "failed": 1 }));
        assert_eq!((&body["no"], &body["at"]), (&json!(12), &json!("2026-06-01T02:01:00Z")));
        assert!(of_end(&mut mark, &now).is_none() && of_dispatch(&mut mark, &now, 0).is_empty());
    }

    #[test]
    fn each_change_of_a_dispatch_is_told_once() {
        let mut mark = Mark::default();
        let waits = Standing { started: false, ..standing("active") };
        assert_eq!(topics(&of_dispatch(&mut mark, &waits, 0)), ["dispatch.created"]);
        for (state, told) in [
            ("active", &["dispatch.started"][..]),
            ("active", &[]),
            ("paused", &["dispatch.paused"]),
            ("paused", &[]),
            ("active", &["dispatch.resumed"]),
            ("cancelled", &["dispatch.cancelled"]),
            ("cancelled", &[]),
        ] {
            assert_eq!(topics(&of_dispatch(&mut mark, &standing(state), 0)), told, "{state}");
        }
        let ended = Standing { finished_at: Some(1), ..standing("cancelled") };
        assert!(of_dispatch(&mut mark, &ended, 0).is_empty());
        assert_eq!(of_end(&mut mark, &ended).unwrap().topic, "dispatch.finished");
    }

    #[test]
    fn counts_say_how_many_and_how_many_more() {
        let mut mark = Mark::default();
        let now = standing("active");
        of_deliveries(&mut mark, &now, counts(&[(State::Queued, 4), (State::Sent, 5)]), 0);
        let told = of_deliveries(&mut mark, &now, counts(&[(State::Sent, 2), (State::Delivered, 7)]), 0);
        assert_eq!(topics(&told), ["delivery.sent", "delivery.delivered"]);
        let body: Value = serde_json::from_str(&told[0].body(1, "e")).unwrap();
        assert_eq!((&body["count"], &body["change"], &body["channels"]), (&json!(2), &json!(-3), &json!({ "sms": 2 })));
        let same = mark.clone();
        assert!(of_deliveries(&mut mark, &now, same.counts.clone(), 0).is_empty());
        let kept: Mark = serde_json::from_str(&serde_json::to_string(&mark).unwrap()).unwrap();
        assert_eq!(kept, same);
    }
}
