//! The serial number of a sheet, and the names of its files.

use std::fmt;

/// Letters kept of each part of a file name: in UTF-8 all of it stays below the 255 bytes
/// that file systems take.
const PART: usize = 14;
/// Letters kept of the title.
const TITLE: usize = 36;

/// The serial number (序号) of a sheet: dispatch and delivery, `12-305`. Unique at the
/// site, and the same however often the sheet is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Serial {
    pub dispatch_no: i64,
    pub ordinal: i64,
}

impl Serial {
    /// Reads `12-305`, also with the dashes and digits of a Chinese keyboard.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = super::recipient::fold(text);
        let (dispatch, ordinal) = text.split_once(['-', '—', '–', '－'])?;
        let number = |text: &str| {
            let text = text.trim();
            text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<i64>().ok()).flatten().filter(|n| *n > 0)
        };
        Some(Self { dispatch_no: number(dispatch)?, ordinal: number(ordinal)? })
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.dispatch_no, self.ordinal)
    }
}

/// The folder of a dispatch's sheets: `12-暴雨红色预警`.
#[must_use]
pub fn folder(dispatch_no: i64, title: &str) -> String {
    format!("{dispatch_no}-{}", safe(title, TITLE))
}

/// The name of a sheet's files without extension, 镇-村-标题-日期-序号; parts that are
/// empty are left out.
#[must_use]
pub fn file_stem(town: &str, village: &str, title: &str, day: &str, serial: &str) -> String {
    [safe(town, PART), safe(village, PART), safe(title, TITLE), safe(day, PART), safe(serial, TITLE)]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("-")
}

/// A name that every file system takes and no shell or spreadsheet trips over.
fn safe(text: &str, longest: usize) -> String {
    let kept =
        |c: char| if c.is_alphanumeric() || "-—（）()《》〔〕【】、，。·".contains(c) { c } else { '_' };
    let name: String = super::recipient::fold(text).chars().map(kept).take(longest).collect();
    name.trim_matches(['_', '-', '.']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials_are_read_as_people_type_them() {
        let serial = Serial { dispatch_no: 12, ordinal: 305 };
        for text in ["12-305", " 12 - 305 ", "１２－３０５", "12—305"] {
            assert_eq!(Serial::parse(text), Some(serial), "{text}");
        }
        assert_eq!(Serial::parse(&serial.to_string()), Some(serial));
        for text in ["", "12", "12-", "-305", "0-1", "12-305-1", "a-b", "城郊村-公告栏"] {
            assert_eq!(Serial::parse(text), None, "{text}");
        }
    }

    #[test]
    fn file_names_hold_nothing_a_file_system_minds() {
        let stem = file_stem("河口镇", "", "../关于“汛期”\n转移:的 通知", "20260601", "3-12");
        assert_eq!(stem, "河口镇-关于_汛期_转移_的_通知-20260601-3-12");
        let long = "长".repeat(300);
        assert!(file_stem(&long, &long, &long, &long, "3-12").len() <= 250);
        assert_eq!(folder(3, "a/b"), "3-a_b");
        assert!(folder(3, &long).len() <= 240);
    }
}
