//! What a loopback gateway took and refused: the fate of a request, and the counts.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

use super::behaviour::{Behaviour, By};
use super::draw::{self, Draw, Key, Purpose};
use crate::clock::Millis;

/// Entries that the log keeps; older ones are forgotten, their counts are not.
const LOG_LENGTH: usize = 200_000;
/// Entries that one look at the log shows.
const LOG_PAGE: usize = 10_000;
/// Seconds that `per_second` looks back.
const SECONDS: i64 = 120;

/// A submitted message, of either protocol.
pub struct Message<'a> {
    pub client_id: Option<&'a str>,
    pub to: &'a [&'a str],
    pub text: &'a str,
    /// Billable parts of `text`.
    pub parts: u32,
}

impl Message<'_> {
    /// The id that counts (a UUID as it is, another id by its hash, none by the
    /// message) and what outcomes are drawn for.
    pub fn marks(&self, by: By) -> Marks {
        let given = self.client_id.map(|id| Uuid::try_parse(id).map_or_else(|_| draw::key(&[id]), |id| id.as_u128()));
        let message = match (given, by) {
            (Some(_), By::Id) => 0,
            _ => self.key_of(self.to),
        };
        let client = given.unwrap_or(message);
        Marks { client, key: if by == By::To { message } else { client } }
    }

    /// The key of this text to `to`.
    pub fn key_of(&self, to: &[&str]) -> Key {
        match to {
            [one] => draw::key(&[one, self.text]),
            many => draw::key(&[&many.join(" "), self.text]),
        }
    }
}

/// See [`Message::marks`].
#[derive(Clone, Copy)]
pub struct Marks {
    pub client: u128,
    pub key: Key,
}

/// How an accepted request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Answered,
    Lost,
    Half,
}

/// What becomes of a request.
pub enum Verdict {
    Throttled,
    /// With the count of requests for this message.
    Temporary(u32),
    Permanent(u32),
    Accepted(Accepted),
}

/// A request that was taken.
pub struct Accepted {
    pub client: u128,
    /// Accepted requests with this client id, this one included.
    pub n: u32,
    /// Requests for this message, this one included.
    pub turn: u32,
    pub fate: Fate,
    pub queued: bool,
    /// A repeat that sends nothing.
    pub repeated: bool,
}

/// The counts, as `GET /stats` shows them. Times are epoch milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// Well-formed, authenticated submissions, whatever became of them.
    pub requests: u64,
    /// Requests that were taken.
    pub accepted: u64,
    /// Numbers in them.
    pub messages: u64,
    /// Client ids that were accepted more than once.
    pub duplicates: u64,
    /// Repeats that `dedupe` answered without a second message.
    pub repeats: u64,
    pub throttled: u64,
    pub temporary: u64,
    pub permanent: u64,
    /// Taken without a whole answer (`lost_answer` and `half_answer`).
    pub lost_answers: u64,
    /// Requests that were malformed or not authenticated.
    pub refused: u64,
    pub receipts_sent: u64,
    /// Given up after `receipt_retry_for`, or for a callback outside this machine.
    pub receipts_failed: u64,
    pub receipts_waiting: u64,
    /// When the first and the last message were taken.
    pub first_at: Option<Millis>,
    pub last_at: Option<Millis>,
    /// Messages taken in each of up to 120 seconds, the last one being that of `last_at`.
    pub per_second: Vec<u32>,
}

#[derive(Serialize)]
struct Entry {
    seq: u64,
    #[serde(serialize_with = "as_text")]
    client_id: Uuid,
    n: u32,
    at_ms: Millis,
    to_last4: String,
    parts: u32,
}

#[derive(Default)]
struct Turn {
    requests: u32,
    early: u32,
}

/// Everything a gateway remembers.
#[derive(Default)]
pub struct Ledger {
    turns: HashMap<Key, Turn>,
    clients: HashMap<u128, u32>,
    log: VecDeque<Entry>,
    seconds: VecDeque<(i64, u32)>,
    next: u64,
    stats: Stats,
    opened: Option<Instant>,
    bucket: Option<(f64, Instant)>,
    journal: Option<String>,
}

impl Ledger {
    /// An empty ledger; `journal` says whether lines are kept for a journal.
    pub fn new(journal: bool) -> Self {
        Self { journal: journal.then(String::new), ..Self::default() }
    }

    /// Forgets everything but the journal's unwritten lines.
    pub fn reset(&mut self) {
        *self = Self { journal: self.journal.take(), ..Self::default() };
    }

    /// The journal's lines since the last call: client id, count, epoch milliseconds.
    pub fn take_journal(&mut self) -> String {
        self.journal.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Counts a request that was malformed or not authenticated.
    pub fn refuse(&mut self) {
        self.stats.refused += 1;
    }

    /// Counts a well-formed request that came too fast.
    pub fn throttle(&mut self) {
        self.stats.requests += 1;
        self.stats.throttled += 1;
    }

    /// Decides about a request and counts it.
    pub fn judge(&mut self, behaviour: &Behaviour, message: &Message<'_>, marks: Marks, now: Millis) -> Verdict {
        self.stats.requests += 1;
        let at = Instant::now();
        if self.too_early(behaviour, marks.key, at) || !self.admits(behaviour, message.to.len(), at) {
            self.stats.throttled += 1;
            return Verdict::Throttled;
        }
        let before = self.clients.get(&marks.client).copied().unwrap_or(0);
        if behaviour.dedupe && before > 0 {
            self.stats.repeats += 1;
            let (client, fate) = (marks.client, Fate::Answered);
            return Verdict::Accepted(Accepted { client, n: before, turn: 1, fate, queued: false, repeated: true });
        }
        let turn = self.turns.entry(marks.key).or_default();
        turn.requests += 1;
        let turn = turn.requests;
        let draw = Draw::new(behaviour.seed, marks.key, turn, Purpose::Request);
        let Some(fate) = self.fate(behaviour, draw.point(0)) else {
            return self.refusal(behaviour, draw.point(0), turn);
        };
        let n = before + 1;
        self.clients.insert(marks.client, n);
        self.record(message, marks.client, n, now);
        let queued = draw.point(1) < behaviour.queued;
        Verdict::Accepted(Accepted { client: marks.client, n, turn, fate, queued, repeated: false })
    }

    fn fate(&mut self, behaviour: &Behaviour, point: f64) -> Option<Fate> {
        let refused = behaviour.temporary + behaviour.permanent + behaviour.throttle;
        let lost = refused + behaviour.lost_answer;
        if point < refused {
            return None;
        }
        let fate = match point {
            p if p < lost => Fate::Lost,
            p if p < lost + behaviour.half_answer => Fate::Half,
            _ => Fate::Answered,
        };
        self.stats.lost_answers += u64::from(fate != Fate::Answered);
        Some(fate)
    }

    fn refusal(&mut self, behaviour: &Behaviour, point: f64, turn: u32) -> Verdict {
        if point < behaviour.temporary {
            self.stats.temporary += 1;
            Verdict::Temporary(turn)
        } else if point < behaviour.temporary + behaviour.permanent {
            self.stats.permanent += 1;
            Verdict::Permanent(turn)
        } else {
            self.stats.throttled += 1;
            Verdict::Throttled
        }
    }

    fn too_early(&mut self, behaviour: &Behaviour, key: Key, at: Instant) -> bool {
        let opened = *self.opened.get_or_insert(at);
        if behaviour.throttle_for <= 0.0 || (at - opened).as_secs_f64() >= behaviour.throttle_for {
            return false;
        }
        // A count of its own, so that a later draw does not hang on the time of this one.
        let turn = self.turns.entry(key).or_default();
        turn.early += 1;
        Draw::new(behaviour.seed, key, turn.early, Purpose::Early).point(0) < behaviour.throttle_for_share
    }

    /// A token bucket; a request larger than the bucket is let in when it is
    /// full and leaves a debt, so it can get in at all.
    fn admits(&mut self, behaviour: &Behaviour, messages: usize, at: Instant) -> bool {
        if behaviour.rate <= 0.0 {
            return true;
        }
        let size = if behaviour.burst == 0 { behaviour.rate.max(1.0) } else { f64::from(behaviour.burst) };
        let wanted = f64::from(u32::try_from(messages).unwrap_or(u32::MAX));
        let (tokens, since) = self.bucket.unwrap_or((size, at));
        let tokens = (tokens + behaviour.rate * (at - since).as_secs_f64()).min(size);
        let admitted = tokens >= wanted.min(size);
        self.bucket = Some((if admitted { tokens - wanted } else { tokens }, at));
        admitted
    }

    fn record(&mut self, message: &Message<'_>, client: u128, n: u32, now: Millis) {
        let client_id = Uuid::from_u128(client);
        self.stats.accepted += 1;
        self.stats.duplicates += u64::from(n == 2);
        self.stats.first_at.get_or_insert(now);
        self.stats.last_at = Some(now);
        if let Some(journal) = &mut self.journal {
            // Writing to a String cannot fail.
            let _ = writeln!(journal, "{client_id} {n} {now}");
        }
        for to in message.to {
            self.stats.messages += 1;
            if self.log.len() == LOG_LENGTH {
                self.log.pop_front();
            }
            let to_last4 = last4(to);
            self.log.push_back(Entry { seq: self.next, client_id, n, at_ms: now, to_last4, parts: message.parts });
            self.next += 1;
        }
        let taken = u32::try_from(message.to.len()).unwrap_or(u32::MAX);
        let second = now.div_euclid(1_000);
        match self.seconds.back_mut() {
            Some((last, count)) if *last >= second => *count += taken,
            _ => self.seconds.push_back((second, taken)),
        }
        while self.seconds.front().is_some_and(|(first, _)| *first <= second - SECONDS) {
            self.seconds.pop_front();
        }
    }

    /// The counts; those of receipts are not known here.
    pub fn stats(&self) -> Stats {
        let mut stats = self.stats.clone();
        if let (Some((first, _)), Some((last, _))) = (self.seconds.front(), self.seconds.back()) {
            let mut counts = self.seconds.iter().peekable();
            stats.per_second =
                (*first..=*last).map(|at| counts.next_if(|(second, _)| *second == at).map_or(0, |(_, n)| *n)).collect();
        }
        stats
    }

    /// Up to 10,000 entries from number `since` on, a JSON object a line.
    pub fn log(&self, since: u64) -> String {
        let oldest = self.log.front().map_or(self.next, |entry| entry.seq);
        let skip = usize::try_from(since.saturating_sub(oldest)).unwrap_or(usize::MAX);
        let mut lines = String::new();
        for entry in self.log.iter().skip(skip).take(LOG_PAGE) {
            if let Ok(line) = serde_json::to_string(entry) {
                lines.push_str(&line);
                lines.push('\n');
            }
        }
        lines
    }
}

fn as_text<S: Serializer>(id: &Uuid, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

fn last4(to: &str) -> String {
    let tail = to.char_indices().rev().nth(3).map_or(0, |(at, _)| at);
    to[tail..].to_owned()
}

/// Before the answer: the latency and, for a share, `slow_by` more.
pub fn delay(behaviour: &Behaviour, marks: Marks, turn: u32) -> Duration {
    if behaviour.latency.max == 0 && behaviour.slow <= 0.0 {
        return Duration::ZERO;
    }
    let draw = Draw::new(behaviour.seed, marks.key, turn, Purpose::Request);
    let slow = if draw.point(2) < behaviour.slow { draw.within(3, behaviour.slow_by) } else { Duration::ZERO };
    draw.within(4, behaviour.latency) + slow
}

#[cfg(test)]
mod tests;
