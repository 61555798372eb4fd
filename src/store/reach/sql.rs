//! The wording shared by the statements about reach: what a delivery says of the
//! members behind it, as the bits of `domain::reach::facts`.

use crate::clock::Millis;
use crate::domain::delivery::State;
use crate::domain::reach::facts;
use crate::domain::reach::{ChannelKind, ChannelKinds};

/// The parts of statements that depend on the declared channels. `d` is a
/// delivery, `dm` its link to a member. Only numbers of ours are written into SQL.
pub(super) struct Wording {
    electronic: String,
    visit: String,
    points: String,
    receipts: String,
    effective_at: Option<Millis>,
}

impl Wording {
    pub(super) fn new(kinds: &ChannelKinds, effective_at: Option<Millis>) -> Self {
        let numbers = |wanted: fn(ChannelKind) -> bool| {
            let found: Vec<String> =
                kinds.iter().filter(|(_, kind)| wanted(**kind)).map(|(no, _)| no.to_string()).collect();
            // An empty list is not SQL; no channel has this number.
            if found.is_empty() { "-1".to_owned() } else { found.join(", ") }
        };
        let others = numbers(|k| !matches!(k, ChannelKind::Electronic { .. }));
        Self {
            electronic: format!("d.channel NOT IN ({others})"),
            visit: format!("d.channel IN ({})", numbers(|k| k == ChannelKind::Visit)),
            points: format!("d.channel IN ({})", numbers(|k| k == ChannelKind::Point)),
            receipts: numbers(|k| matches!(k, ChannelKind::Electronic { receipts: true, .. })),
            effective_at,
        }
    }

    /// The delivery goes to a phone or mailbox.
    pub(super) fn electronic(&self) -> &str {
        &self.electronic
    }

    /// The delivery is a sheet.
    pub(super) fn points(&self) -> &str {
        &self.points
    }

    /// The delivery is a visit.
    pub(super) fn visit(&self) -> &str {
        &self.visit
    }

    /// A sheet hangs, or hung before it was taken down.
    pub(super) fn posted(&self) -> String {
        let (posted, down) = (State::Posted.code(), State::TakenDown.code());
        format!("{} AND (d.state = {posted} OR (d.state = {down} AND d.reached_at IS NOT NULL))", self.points)
    }

    /// The bits of a member: an aggregate over its `d` and `dm`, never NULL once
    /// there is a row to aggregate.
    pub(super) fn bits(&self) -> String {
        let electronic = |bit, condition: &str| (bit, format!("{} AND {condition}", self.electronic));
        let (handed, reached) = (handed(), reached());
        let early = self.effective_at.map_or("1 = 0".to_owned(), |at| format!("d.reached_at < {at}"));
        let told = State::Told.code();
        let is = |states: &[State]| format!("d.state IN ({})", codes(states));
        let waiting = is(&[State::Planned, State::Queued, State::Retry, State::Deferred]);
        let no_word = is(&[State::Sending, State::Sent, State::Unknown, State::Uncertain]);
        [
            electronic(facts::ELECTRONIC, "1 = 1"),
            electronic(facts::OPEN, &format!("d.state <> {}", State::Suppressed.code())),
            electronic(facts::HANDED, &handed),
            electronic(facts::DIRECT, &format!("{reached} AND dm.via <> 2")),
            electronic(facts::HOUSEHOLD, &format!("{reached} AND dm.via = 2")),
            (facts::TOLD, format!("{} AND (d.state = {told} OR d.reached_at IS NOT NULL)", self.visit)),
            electronic(facts::SEEN, &seen()),
            electronic(facts::EARLY, &early),
            electronic(facts::NO_WORD, &format!("({no_word} OR ({waiting} AND d.handed_at IS NOT NULL))")),
            electronic(facts::PENDING, &waiting),
            electronic(facts::FAILED, &is(&[State::Failed, State::Undelivered])),
            electronic(facts::ACCEPT_ONLY, &format!("d.channel NOT IN ({}) AND {handed}", self.receipts)),
        ]
        .iter()
        .map(|(bit, condition)| format!("MAX(CASE WHEN {condition} THEN {bit} ELSE 0 END)"))
        .collect::<Vec<_>>()
        .join(" + ")
    }
}

/// The gateway had it. A state after a crash proves nothing, so `unknown` and
/// `uncertain` count only with the time of handing over; a receipt always does.
pub(super) fn handed() -> String {
    let states = codes(&[State::Sent, State::Delivered, State::Read, State::Confirmed, State::Undelivered]);
    format!("(d.handed_at IS NOT NULL OR d.reached_at IS NOT NULL OR d.seen_at IS NOT NULL OR d.state IN ({states}))")
}

/// A receipt of delivery or stronger came.
pub(super) fn reached() -> String {
    let states = codes(&[State::Delivered, State::Read, State::Confirmed]);
    format!("(d.reached_at IS NOT NULL OR d.seen_at IS NOT NULL OR d.state IN ({states}))")
}

/// It was read or confirmed.
pub(super) fn seen() -> String {
    format!("(d.seen_at IS NOT NULL OR d.state IN ({}))", codes(&[State::Read, State::Confirmed]))
}

fn codes(states: &[State]) -> String {
    states.iter().map(|s| s.code().to_string()).collect::<Vec<_>>().join(", ")
}
