//! When receipts stay out: what a gateway took, what came back, and what follows for the
//! silence that the store keeps of each channel.

use crate::clock::Millis;
use crate::store::silence::Silence;

/// A silence into which nothing was sent for so long says nothing any more: a gateway's
/// receipts come within hours, or never.
const FADES: Millis = 24 * 3_600_000;

/// What one process and the store know of a channel at one look.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// Messages that this process handed over so far.
    pub taken: u64,
    /// Receipts that this process kept so far.
    pub kept: u64,
    /// The newest receipt that the store finds at a glance; 0 where it finds none.
    pub newest: Millis,
    pub silence: Option<Silence>,
}

/// What is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Change {
    /// The silence that the store keeps is over.
    pub over: bool,
    /// Messages taken since the last look, without a receipt since then.
    pub note: Option<Silence>,
}

/// Listens to one channel.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ear {
    looked: Option<Seen>,
    /// As the store keeps it after the last look.
    pub silence: Option<Silence>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    at: Millis,
    taken: u64,
    kept: u64,
}

impl Ear {
    /// Looks at a channel. Any receipt ends its silence, for it says that receipts come
    /// through; what was taken between two looks counts from the first of them.
    pub fn listen(&mut self, channel: i32, now: Millis, known: Known) -> Change {
        let before = self.looked.replace(Seen { at: now, taken: known.taken, kept: known.kept });
        let heard_here = before.is_some_and(|b| known.kept > b.kept);
        let newest = if heard_here { now } else { known.newest };
        let ends = |s: &Silence| newest >= s.since || now - s.last > FADES;
        let over = known.silence.as_ref().is_some_and(ends);
        let sent = before.map_or(0, |b| known.taken.saturating_sub(b.taken));
        let note = before.filter(|b| sent > 0 && newest < b.at).map(|b| {
            let sent = i64::try_from(sent).unwrap_or(i64::MAX);
            Silence { channel, since: b.at, sent, last: now }
        });
        let kept = known.silence.filter(|_| !over);
        self.silence = match (kept, note) {
            (Some(kept), Some(new)) => Some(Silence { sent: kept.sent.saturating_add(new.sent), last: now, ..kept }),
            (kept, new) => kept.or(new),
        };
        Change { over, note }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A channel, and the store that keeps its silence.
    #[derive(Default)]
    struct World {
        ear: Ear,
        silence: Option<Silence>,
    }

    impl World {
        fn look(&mut self, now: Millis, (taken, kept, newest): (u64, u64, Millis)) -> Change {
            let change = self.ear.listen(1, now, Known { taken, kept, newest, silence: self.silence });
            self.silence = self.ear.silence;
            change
        }

        fn silence(&self) -> Option<(Millis, i64)> {
            self.silence.map(|s| (s.since, s.sent))
        }
    }

    #[test]
    fn it_begins_with_the_first_message_and_ends_with_any_receipt() {
        let mut world = World::default();
        world.look(1_000, (0, 0, 0));
        assert_eq!(world.look(2_000, (0, 0, 0)), Change::default(), "nothing was sent");
        world.look(3_000, (40, 0, 0));
        assert_eq!(world.silence(), Some((2_000, 40)), "never a receipt, from the first message on");
        world.look(9_000, (90, 0, 0));
        assert_eq!(world.silence(), Some((2_000, 90)));
        assert_eq!(world.look(10_000, (90, 0, 9_500)), Change { over: true, note: None });
        assert_eq!(world.silence(), None);
        world.look(11_000, (91, 0, 9_500));
        assert_eq!(world.silence(), Some((10_000, 1)), "it begins anew");
        // The store's glance at the newest may miss it; who kept it knows.
        assert!(world.look(12_000, (91, 1, 9_500)).over);
    }

    #[test]
    fn receipts_that_come_with_the_messages_leave_nothing_to_write() {
        let mut world = World::default();
        world.look(1_000, (0, 0, 500));
        for (now, taken, newest) in [(2_000, 100, 1_500), (3_000, 200, 2_900), (4_000, 300, 3_000)] {
            assert_eq!(world.look(now, (taken, 0, newest)), Change::default(), "{now}");
        }
        assert!(world.look(5_000, (400, 0, 3_000)).note.is_some());
    }

    #[test]
    fn a_process_that_comes_later_finds_the_silence_as_it_is() {
        let mut first = World::default();
        first.look(1_000, (0, 0, 0));
        first.look(2_000, (30, 0, 0));
        let mut second = World { silence: first.silence, ..World::default() };
        assert_eq!(second.look(7_000, (0, 0, 0)), Change::default());
        assert_eq!(second.silence(), Some((1_000, 30)));
        second.look(9_000, (5, 0, 0));
        assert_eq!(second.silence(), Some((1_000, 35)));
    }

    #[test]
    fn a_day_after_the_last_message_it_says_nothing_any_more() {
        let mut world = World::default();
        world.look(1_000, (0, 0, 0));
        world.look(2_000, (50, 0, 0));
        assert_eq!(world.silence(), Some((1_000, 50)));
        assert!(!world.look(2_000 + FADES, (50, 0, 0)).over);
        assert!(world.look(2_001 + FADES, (50, 0, 0)).over);
        assert_eq!(world.silence(), None);
    }
}
