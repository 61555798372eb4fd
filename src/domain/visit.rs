//! What a visit at the door came to (入户通知结果), in the words people write it.

use serde::{Deserialize, Serialize};

use super::delivery::State;
use super::recipient::fold;
use crate::say;

/// What was found at the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VisitResult {
    /// Somebody of the household was told in person.
    Told,
    /// Nobody was there.
    Absent,
    /// The household lives there no more.
    Moved,
    /// They would not listen, or not sign.
    Refused,
}

impl VisitResult {
    pub const ALL: [Self; 4] = [Self::Told, Self::Absent, Self::Moved, Self::Refused];

    /// The name programs read, and that is stored.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Told => "told",
            Self::Absent => "absent",
            Self::Moved => "moved",
            Self::Refused => "refused",
        }
    }

    /// The word people read, and write on the list.
    #[must_use]
    pub fn label(self) -> String {
        match self {
            Self::Told => say!("已告知", "told"),
            Self::Absent => say!("不在家", "absent"),
            Self::Moved => say!("已搬走", "moved"),
            Self::Refused => say!("拒绝", "refused"),
        }
    }

    /// The result a word or a tick on the list means.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        const WORDS: [(VisitResult, &[&str]); 4] = [
            (
                VisitResult::Told,
                &[
                    "told",
                    "告知",
                    "已告知",
                    "通知",
                    "已通知",
                    "通知到",
                    "已通知到",
                    "已当面告知",
                    "√",
                    "✓",
                    "是",
                    "yes",
                ],
            ),
            (VisitResult::Absent, &["absent", "不在", "不在家", "家中无人", "无人", "没人", "外出", "未遇"]),
            (VisitResult::Moved, &["moved", "搬走", "已搬走", "搬迁", "已搬迁", "迁出", "已迁出"]),
            (VisitResult::Refused, &["refused", "拒绝", "拒收", "拒签", "拒绝签字", "不配合"]),
        ];
        let word = fold(word).to_lowercase();
        let word = word.trim();
        WORDS.iter().find(|(_, words)| words.contains(&word)).map(|(result, _)| *result)
    }

    /// The state it claims.
    #[must_use]
    pub const fn state(self) -> State {
        match self {
            Self::Told => State::Told,
            Self::Absent => State::Absent,
            Self::Moved => State::Moved,
            Self::Refused => State::Refused,
        }
    }

    /// The state after this result; `None` where it says nothing new. Whoever was told
    /// stays told. A later visit may find those who were out, and set right what a
    /// neighbour said.
    #[must_use]
    pub(super) fn after(self, state: State) -> Option<State> {
        let found = self.state();
        let news = match state {
            State::Listed => true,
            State::Absent | State::Moved | State::Refused => found != state && found != State::Absent,
            _ => false,
        };
        news.then_some(found)
    }

    /// The result that a delivery's state tells of.
    #[must_use]
    pub fn of(state: State) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.state() == state)
    }
}

/// How a row of a door-knock list is named on paper: `V3-12`, the twelfth of dispatch 3.
/// Spreadsheets take it neither for a date nor for a number.
#[must_use]
pub fn row_label(dispatch_no: i64, row: i64) -> String {
    format!("V{dispatch_no}-{row}")
}

/// Reads a row's name, or its number alone: (dispatch, where it is said, and row).
#[must_use]
pub fn read_row(text: &str) -> Option<(Option<i64>, i64)> {
    let text = fold(text);
    let bare = text.trim().trim_start_matches(['V', 'v']);
    let number = |text: &str| text.parse::<i64>().ok().filter(|n| *n > 0);
    match bare.split_once('-') {
        Some((dispatch, row)) => Some((Some(number(dispatch)?), number(row)?)),
        None => Some((None, number(bare)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::delivery::{Event, next};

    #[test]
    fn results_are_read_as_people_write_them() {
        for result in VisitResult::ALL {
            assert_eq!(VisitResult::from_word(result.name()), Some(result));
            assert_eq!(VisitResult::from_word(&result.label()), Some(result));
            assert_eq!(VisitResult::of(result.state()), Some(result));
        }
        assert_eq!(VisitResult::from_word(" 外出 "), Some(VisitResult::Absent));
        assert_eq!(VisitResult::from_word("Told"), Some(VisitResult::Told));
        assert_eq!(VisitResult::from_word("下次"), None);
    }

    #[test]
    fn rows_are_named_on_paper() {
        assert_eq!(read_row(&row_label(3, 12)), Some((Some(3), 12)));
        assert_eq!(read_row(" ｖ3-１2 "), Some((Some(3), 12)));
        assert_eq!(read_row("12"), Some((None, 12)));
        for wrong in ["", "V", "0", "V3-", "V3-0", "-1", "十二"] {
            assert_eq!(read_row(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_later_visit_finds_who_was_out_and_nobody_is_untold() {
        let visit = |state, result| next(state, Event::Visited(result));
        for result in VisitResult::ALL {
            assert_eq!(visit(State::Listed, result), Some(result.state()));
            assert_eq!(visit(State::Told, result), None);
            assert_eq!(visit(State::Queued, result), None);
        }
        for state in [State::Absent, State::Moved, State::Refused] {
            assert_eq!(visit(state, VisitResult::Told), Some(State::Told));
            assert_eq!(visit(state, VisitResult::Absent), None);
        }
        assert_eq!(visit(State::Absent, VisitResult::Moved), Some(State::Moved));
        assert_eq!(visit(State::Moved, VisitResult::Refused), Some(State::Refused));
        assert_eq!(visit(State::Moved, VisitResult::Moved), None);
    }
}
