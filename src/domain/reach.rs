//! Whom a dispatch reached: the report, and how members and deliveries are counted
//! into it. People are counted once each, whatever number of deliveries they had.

pub mod facts;
pub mod regions;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::delivery::State;
use facts::{ACCEPT_ONLY, DIRECT, EARLY, ELECTRONIC, Facts, HANDED, HOUSEHOLD, SEEN, TOLD, Unreached};

/// How a channel reaches people, and what its word is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelKind {
    /// To a phone or mailbox. `price_milli` is thousandths of a yuan a part.
    Electronic { receipts: bool, price_milli: i64 },
    /// A post of an account, for whoever reads it: it reaches nobody in particular.
    Account,
    /// A board, screen or loudspeaker; targets are points.
    Point,
    /// At the door or by telephone; targets are households or recipients.
    Visit,
}

/// The kinds of the channels by number. A number that is missing (its declaration
/// was taken away) counts as electronic, accept-only and free.
pub type ChannelKinds = BTreeMap<i32, ChannelKind>;

/// What stands behind "reached" in a channel's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    Receipts,
    /// Nothing (无回执).
    AcceptOnly,
    /// It stands in an account for whoever reads it (公开发布).
    Published,
    /// Somebody confirmed that it hangs.
    Posted,
    /// Somebody confirmed that they were told.
    Told,
}

/// The unreached by reason; see [`Unreached`] for the order that decides.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reasons {
    pub no_address: i64,
    pub opted_out: i64,
    pub away: i64,
    pub failed: i64,
    pub no_word: i64,
    pub pending: i64,
    pub cancelled: i64,
}

/// Unique people: audience ⊇ addressable ⊇ handed over ⊇ reached ⊇ seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct People {
    pub audience: i64,
    /// With an electronic delivery, suppressed or not.
    pub addressable: i64,
    pub handed_over: i64,
    /// A receipt of delivery or stronger = `reached_direct + reached_via_household`.
    pub reached: i64,
    pub reached_direct: i64,
    /// By the household's shared address and no other.
    pub reached_via_household: i64,
    pub told_in_person: i64,
    /// Reached or told in person.
    pub informed: i64,
    pub seen: i64,
    /// `audience − informed`.
    pub unreached: i64,
    pub unreached_by_reason: Reasons,
    /// Handed over on channels without receipts (无回执), and not known to know.
    pub accept_only: i64,
    /// 0 where the report's `effective_at` is null.
    pub reached_before_effect: i64,
}

impl People {
    /// Counts `n` members of which the same is known.
    pub fn add(&mut self, facts: Facts, n: i64) {
        let if_any = |bits| if facts.has(bits) { n } else { 0 };
        let informed = if_any(facts::INFORMED);
        self.audience += n;
        self.addressable += if_any(ELECTRONIC);
        self.handed_over += if_any(HANDED);
        self.reached += if_any(DIRECT | HOUSEHOLD);
        self.reached_direct += if_any(DIRECT);
        self.reached_via_household += if_any(DIRECT | HOUSEHOLD) - if_any(DIRECT);
        self.told_in_person += if_any(TOLD);
        self.informed += informed;
        self.seen += if_any(SEEN);
        self.unreached += n - informed;
        self.reached_before_effect += if_any(EARLY);
        if let Some(reason) = facts.unreached() {
            self.accept_only += if_any(ACCEPT_ONLY);
            *self.unreached_by_reason.of_mut(reason) += n;
        }
    }

    /// Adds the people of another place; nobody may stand in both.
    pub fn merge(&mut self, other: &Self) {
        self.audience += other.audience;
        self.addressable += other.addressable;
        self.handed_over += other.handed_over;
        self.reached += other.reached;
        self.reached_direct += other.reached_direct;
        self.reached_via_household += other.reached_via_household;
        self.told_in_person += other.told_in_person;
        self.informed += other.informed;
        self.seen += other.seen;
        self.unreached += other.unreached;
        self.accept_only += other.accept_only;
        self.reached_before_effect += other.reached_before_effect;
        for (reason, n) in other.unreached_by_reason.list() {
            *self.unreached_by_reason.of_mut(reason) += n;
        }
    }
}

impl Reasons {
    /// Every reason with its count, in the order people read them.
    #[must_use]
    pub const fn list(&self) -> [(Unreached, i64); 7] {
        [
            (Unreached::NoAddress, self.no_address),
            (Unreached::OptedOut, self.opted_out),
            (Unreached::Away, self.away),
            (Unreached::Failed, self.failed),
            (Unreached::NoWord, self.no_word),
            (Unreached::Pending, self.pending),
            (Unreached::Cancelled, self.cancelled),
        ]
    }

    const fn of_mut(&mut self, reason: Unreached) -> &mut i64 {
        match reason {
            Unreached::NoAddress => &mut self.no_address,
            Unreached::OptedOut => &mut self.opted_out,
            Unreached::Away => &mut self.away,
            Unreached::Failed => &mut self.failed,
            Unreached::NoWord => &mut self.no_word,
            Unreached::Pending => &mut self.pending,
            Unreached::Cancelled => &mut self.cancelled,
        }
    }
}

/// One region, with all below it. Households stand where the household lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionRow {
    pub region_no: i64,
    pub parent_no: Option<i64>,
    /// 12 digits, where the region has a code.
    pub code: Option<String>,
    pub name: String,
    pub level: String,
    #[serde(flatten)]
    pub people: People,
    /// Households of the audience.
    pub households: i64,
    /// Households served by posted points, in the audience or not: an estimate.
    pub covered_households: i64,
}

/// One group as frozen in the snapshot. Sensitive groups have no row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRow {
    pub group_no: i64,
    pub name: String,
    #[serde(flatten)]
    pub people: People,
}

/// The sheets of one town, in deliveries: planned ⊇ printed ⊇ posted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TownSheets {
    pub region_no: i64,
    pub name: String,
    pub planned: i64,
    /// In the print queue, or further.
    pub printed: i64,
    /// Somebody confirmed that it hangs, or hung.
    pub posted: i64,
    pub taken_down: i64,
}

/// One channel, in deliveries (not people):
/// `deliveries = pending + waiting + arrived + failed + undelivered + unknown + suppressed + cancelled`,
/// where the arrived are those whose state says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelRow {
    pub channel: String,
    pub evidence: Proof,
    pub deliveries: i64,
    /// Accounts: published. Points: printed. Visits: listed.
    pub handed_over: i64,
    /// Points: posted. Visits: told.
    pub reached: i64,
    pub seen: i64,
    /// Visits: absent, moved or refused.
    pub failed: i64,
    pub undelivered: i64,
    pub unknown: i64,
    pub suppressed: i64,
    /// Still to go out.
    pub pending: i64,
    /// Gone out, no word yet.
    pub waiting: i64,
    pub cancelled: i64,
    /// Parts of what was handed over, each delivery once.
    pub parts: i64,
    /// `parts × price`, thousandths of a yuan: an estimate, the gateway's bill decides.
    pub cost_milli: i64,
}

/// What deliveries of one channel have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub state: State,
    pub handed: bool,
    pub reached: bool,
    pub seen: bool,
}

impl ChannelRow {
    /// An empty row for the channel called `name`.
    #[must_use]
    pub const fn new(name: String, kind: Option<ChannelKind>) -> Self {
        let evidence = match kind {
            Some(ChannelKind::Electronic { receipts: true, .. }) => Proof::Receipts,
            Some(ChannelKind::Electronic { receipts: false, .. }) | None => Proof::AcceptOnly,
            Some(ChannelKind::Account) => Proof::Published,
            Some(ChannelKind::Point) => Proof::Posted,
            Some(ChannelKind::Visit) => Proof::Told,
        };
        Self {
            channel: name,
            evidence,
            deliveries: 0,
            handed_over: 0,
            reached: 0,
            seen: 0,
            failed: 0,
            undelivered: 0,
            unknown: 0,
            suppressed: 0,
            pending: 0,
            waiting: 0,
            cancelled: 0,
            parts: 0,
            cost_milli: 0,
        }
    }

    /// Counts `n` deliveries with `parts` parts together.
    pub fn add(&mut self, kind: Option<ChannelKind>, standing: Standing, n: i64, parts: i64) {
        use State as S;
        let state = standing.state;
        let out = match kind {
            Some(ChannelKind::Point) => matches!(state, S::Printed | S::Posted | S::TakenDown),
            Some(ChannelKind::Visit) => state.code() >= S::Listed.code(),
            _ => standing.handed,
        };
        let reached = match kind {
            Some(ChannelKind::Point) => state == S::Posted || (state == S::TakenDown && standing.reached),
            Some(ChannelKind::Visit) => state == S::Told || standing.reached,
            _ => standing.reached,
        };
        self.deliveries += n;
        self.handed_over += if out { n } else { 0 };
        self.reached += if reached { n } else { 0 };
        self.seen += if standing.seen { n } else { 0 };
        match state {
            S::Planned | S::Queued | S::Sending | S::Retry | S::Uncertain | S::Deferred => self.pending += n,
            S::Sent | S::Printed | S::Listed => self.waiting += n,
            S::Failed | S::Absent | S::Moved | S::Refused => self.failed += n,
            S::Undelivered => self.undelivered += n,
            S::Unknown => self.unknown += n,
            S::Suppressed => self.suppressed += n,
            S::Cancelled => self.cancelled += n,
            S::Delivered | S::Read | S::Confirmed | S::Posted | S::TakenDown | S::Told => {}
        }
        if out {
            self.parts += parts;
            if let Some(ChannelKind::Electronic { price_milli, .. }) = kind {
                self.cost_milli += parts * price_milli;
            }
        }
    }
}

/// The report. Times are seconds from the dispatch's creation until that share of
/// the *audience* was reached by an electronic channel; null while it has not been.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReachReport {
    /// When the counting was done.
    pub as_of: Timestamp,
    #[serde(flatten)]
    pub people: People,
    /// The union of the households served by posted points: an estimate, never
    /// added to people.
    pub covered_households: i64,
    /// Sheets for notice boards, a row a town; empty where none were planned.
    #[serde(default)]
    pub sheets: Vec<TownSheets>,
    /// Depth first; every region above a member has a row.
    pub by_region: Vec<RegionRow>,
    pub by_channel: Vec<ChannelRow>,
    pub time_to_50_s: Option<i64>,
    pub time_to_90_s: Option<i64>,
    pub time_to_99_s: Option<i64>,
    /// Unique households of the audience.
    pub households: i64,
    pub by_group: Vec<GroupRow>,
    pub parts: i64,
    pub cost_milli: i64,
    pub dispatch_no: i64,
    /// `live`; anything else is no real reach and must not be added to it.
    pub mode: String,
    pub effective_at: Option<Timestamp>,
}

/// The second in which `percent` of the audience had been reached, from the number
/// of members first reached in each second; `None` while fewer were.
#[must_use]
pub fn time_to(first_reached: &BTreeMap<i64, i64>, audience: i64, percent: i64) -> Option<i64> {
    let needed = (audience * percent + 99) / 100;
    let mut so_far = 0;
    first_reached.iter().filter(|_| needed > 0).find_map(|(second, n)| {
        so_far += n;
        (so_far >= needed).then_some(*second)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_of_the_audience_not_of_the_reached() {
        let hist = BTreeMap::from([(2, 3), (5, 1), (60, 1)]);
        assert_eq!(time_to(&hist, 6, 50), Some(2));
        assert_eq!(time_to(&hist, 7, 50), Some(5));
        assert_eq!(time_to(&hist, 10, 50), Some(60));
        assert_eq!(time_to(&hist, 11, 50), None);
        assert_eq!(time_to(&hist, 5, 99), Some(60));
        assert_eq!(time_to(&hist, 0, 50), None);
    }

    #[test]
    fn a_direct_word_outweighs_the_households() {
        let mut people = People::default();
        people.add(Facts { bits: ELECTRONIC | facts::OPEN | HANDED | DIRECT | HOUSEHOLD | TOLD, away: false }, 2);
        people.add(Facts { bits: ELECTRONIC | facts::OPEN | HANDED | HOUSEHOLD, away: false }, 1);
        assert_eq!((people.reached, people.reached_direct, people.reached_via_household), (3, 2, 1));
        assert_eq!((people.informed, people.unreached), (3, 0));
    }

    #[test]
    fn a_sheet_taken_down_counts_as_posted_only_if_it_hung() {
        let mut row = ChannelRow::new("board".into(), Some(ChannelKind::Point));
        let down = |reached| Standing { state: State::TakenDown, handed: true, reached, seen: false };
        row.add(Some(ChannelKind::Point), down(true), 2, 0);
        row.add(Some(ChannelKind::Point), down(false), 3, 0);
        assert_eq!((row.deliveries, row.handed_over, row.reached), (5, 5, 2));
    }

    #[test]
    fn only_what_was_handed_over_costs() {
        let kind = Some(ChannelKind::Electronic { receipts: true, price_milli: 45 });
        let mut row = ChannelRow::new("sms".into(), kind);
        let standing = |state, handed| Standing { state, handed, reached: false, seen: false };
        row.add(kind, standing(State::Sent, true), 10, 20);
        row.add(kind, standing(State::Suppressed, false), 5, 10);
        assert_eq!((row.parts, row.cost_milli, row.waiting, row.suppressed), (20, 900, 10, 5));
    }
}
