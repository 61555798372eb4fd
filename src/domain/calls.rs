//! Calls of duty officers (叫应): who is asked next, who confirmed and how, and what an
//! officer's reply says.

use serde::Serialize;

use super::delivery::State;
use super::recipient::fold;
use crate::clock::Millis;
use crate::say;

/// How a confirmation came. The names are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// The officer opened the link and pressed the button.
    Link,
    /// The officer answered the message.
    Reply,
    /// An operator heard it by telephone and entered it.
    Telephone,
    /// An operator heard it by radio, in person or otherwise, and entered it.
    Other,
}

impl How {
    /// Every way.
    pub const ALL: [Self; 4] = [Self::Link, Self::Reply, Self::Telephone, Self::Other];

    /// The stored name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Reply => "reply",
            Self::Telephone => "telephone",
            Self::Other => "other",
        }
    }

    /// Reads a stored name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|h| h.name() == name)
    }

    /// What people call it.
    #[must_use]
    pub fn label(self) -> String {
        match self {
            Self::Link => say!("点链接", "link"),
            Self::Reply => say!("回短信", "reply"),
            Self::Telephone => say!("电话", "telephone"),
            Self::Other => say!("其他方式", "other"),
        }
    }
}

/// Someone who can be called for a village, named as far as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Officer {
    #[serde(skip)]
    pub phone_id: i64,
    /// Masked.
    pub name: String,
    pub role: String,
    /// Masked.
    pub phone: String,
    /// The town or farm whose officer it is, where not the village's own.
    pub of: Option<String>,
    /// A mobile number that no gateway has called dead; others are for the telephone.
    pub by_sms: bool,
}

/// One question to one officer about one village.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Asked {
    pub call_no: i64,
    pub ordinal: i64,
    /// From 0.
    pub step: i32,
    #[serde(skip)]
    pub phone_id: i64,
    pub state: State,
    /// When the gateway took it.
    pub at: Option<Millis>,
}

/// A village is confirmed by whichever of its officers came first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Confirmed {
    pub how: How,
    pub at: Millis,
    /// Of the question that was answered.
    pub call_no: Option<i64>,
    pub ordinal: Option<i64>,
}

/// A village of the audience, and what is known of its call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Village {
    pub region_no: i64,
    pub name: String,
    /// Empty where there is none above it.
    pub town: String,
    /// In the order of calling: its own, then those of the town.
    pub officers: Vec<Officer>,
    /// In the order of asking, over all calls of the dispatch.
    pub asked: Vec<Asked>,
    pub confirmed: Option<Confirmed>,
}

/// Whom to ask now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    pub region_no: i64,
    pub phone_id: i64,
}

impl Village {
    /// The officers this call has not asked yet, in order.
    fn left(&self, call_no: i64) -> impl Iterator<Item = &Officer> {
        let asked = move |o: &Officer| self.asked.iter().any(|a| a.call_no == call_no && a.phone_id == o.phone_id);
        self.officers.iter().filter(move |o| o.by_sms && !asked(o))
    }

    /// Who is asked next by this call; nobody once the village is confirmed.
    #[must_use]
    pub fn next(&self, call_no: i64) -> Option<&Officer> {
        self.left(call_no).next().filter(|_| self.confirmed.is_none())
    }

    /// The officer a question went to, while the register still has the number.
    #[must_use]
    pub fn officer(&self, asked: &Asked) -> Option<&Officer> {
        self.officers.iter().find(|o| o.phone_id == asked.phone_id)
    }

    /// When the first question about it was handed over.
    #[must_use]
    pub fn first_asked(&self) -> Option<Millis> {
        self.asked.iter().filter_map(|a| a.at).min()
    }

    /// Milliseconds from the first question to the confirmation; none where it came
    /// unasked.
    #[must_use]
    pub fn took(&self) -> Option<Millis> {
        Some((self.confirmed.as_ref()?.at - self.first_asked()?).max(0))
    }

    /// `河口镇城郊村`.
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{}{}", self.town, self.name)
    }
}

/// Whom a call asks now, and whether anybody is left to ask after them.
#[must_use]
pub fn round(villages: &[Village], call_no: i64) -> (Vec<Ask>, bool) {
    let open = villages.iter().filter(|v| v.confirmed.is_none());
    let mut further = false;
    let asks = open
        .filter_map(|v| {
            let mut left = v.left(call_no);
            let first = left.next()?;
            // The same number can stand in several posts.
            further |= left.any(|o| o.phone_id != first.phone_id);
            Some(Ask { region_no: v.region_no, phone_id: first.phone_id })
        })
        .collect();
    (asks, further)
}

/// What somebody who answers a message means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Meaning {
    /// 收到, 1.
    Confirm,
    /// 退订, T, TD.
    OptOut,
    /// For people to read.
    Other,
}

impl Meaning {
    /// The stored name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Confirm => "confirm",
            Self::OptOut => "opt_out",
            Self::Other => "other",
        }
    }

    /// Reads a reply. Whatever asks or denies is for people to read.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let text = fold(text).to_uppercase();
        let word = text.trim_matches(|c: char| c.is_whitespace() || "。.,，!！、~～\"“”'[]【】()".contains(c));
        if matches!(word, "T" | "TD" | "N" | "退订" | "QX" | "取消订阅") {
            return Self::OptOut;
        }
        let doubt = ["?", "吗", "没", "不", "未"].iter().any(|d| word.contains(d));
        let said = ["收到", "已收到", "确认", "已确认", "知道了", "已知晓", "明白"].iter().any(|w| word.starts_with(w));
        if matches!(word, "1" | "OK" | "YES" | "Y" | "好" | "好的") || said && !doubt {
            return Self::Confirm;
        }
        Self::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn officer(phone_id: i64) -> Officer {
        Officer {
            phone_id,
            name: "张*".into(),
            role: "村支书".into(),
            phone: "139****0001".into(),
            of: None,
            by_sms: true,
        }
    }

    fn asked(call_no: i64, phone_id: i64, at: Option<Millis>) -> Asked {
        Asked { call_no, ordinal: phone_id, step: 0, phone_id, state: State::Sent, at }
    }

    fn village(region_no: i64, phones: &[i64]) -> Village {
        Village {
            region_no,
            name: "城郊村".into(),
            town: "河口镇".into(),
            officers: phones.iter().map(|p| officer(*p)).collect(),
            asked: Vec::new(),
            confirmed: None,
        }
    }

    #[test]
    fn each_village_asks_its_next_officer_until_it_is_confirmed() {
        let mut all = [village(1, &[10, 11]), village(2, &[20]), village(3, &[]), village(4, &[10, 10])];
        all[1].officers[0].by_sms = false;
        let (asks, further) = round(&all, 7);
        assert_eq!(asks, [Ask { region_no: 1, phone_id: 10 }, Ask { region_no: 4, phone_id: 10 }]);
        assert!(further);
        all[0].asked.push(asked(7, 10, Some(1_000)));
        all[3].asked.push(asked(7, 10, None));
        let (asks, further) = round(&all, 7);
        assert_eq!(asks, [Ask { region_no: 1, phone_id: 11 }]);
        assert!(!further, "the second post of village 4 has the same number");
        assert_eq!(round(&all, 8).0.len(), 2, "another call begins anew");
        all[0].confirmed = Some(Confirmed { how: How::Link, at: 61_000, call_no: Some(7), ordinal: Some(1) });
        assert_eq!(round(&all, 7), (Vec::new(), false));
        assert_eq!((all[0].took(), all[0].next(7)), (Some(60_000), None));
    }

    #[test]
    fn replies_are_read_as_people_write_them() {
        for text in ["1", " １。", "收到", "收到！", "已收到，马上通知各组", "ok", "好的", "【收到】"]
        {
            assert_eq!(Meaning::of(text), Meaning::Confirm, "{text}");
        }
        for text in ["T", "td", "ＴＤ", "退订", "退订。"] {
            assert_eq!(Meaning::of(text), Meaning::OptOut, "{text}");
        }
        for text in ["", "11", "没收到", "收到了吗？", "收到不了", "我家进水了，快来人", "不退订"]
        {
            assert_eq!(Meaning::of(text), Meaning::Other, "{text}");
        }
    }

    #[test]
    fn names_are_what_json_says() {
        for how in How::ALL {
            assert_eq!(serde_json::to_value(how).unwrap(), how.name());
            assert_eq!(How::from_name(how.name()), Some(how));
        }
        for meaning in [Meaning::Confirm, Meaning::OptOut, Meaning::Other] {
            assert_eq!(serde_json::to_value(meaning).unwrap(), meaning.name());
        }
    }
}
