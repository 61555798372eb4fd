//! Whose robot it is, and how that vendor words an answer. The codes are those of the
//! vendors' documents; see the declarations in `channels/`.

use serde_json::json;

/// Whose interface a request speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Vendor {
    /// `POST /cgi-bin/webhook/send?key=KEY`
    WeCom,
    /// `POST /robot/send?access_token=KEY&timestamp=MS&sign=…`
    DingTalk,
    /// `POST /open-apis/bot/v2/hook/KEY`
    Feishu,
    /// `POST /webhook`, as Standard Webhooks has it; `/webhook/gone` was taken away.
    Webhook,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    Taken,
    /// No robot has this key or token.
    NoRobot,
    /// The signature or its time is wrong.
    Unsigned,
    Malformed,
    TooLong,
    TooFast,
    Busy,
    Refused,
    /// The receiver was taken away (410).
    Gone,
}

impl Vendor {
    /// By the path of a request.
    #[must_use]
    pub fn of(path: &str) -> Option<Self> {
        match path {
            "/cgi-bin/webhook/send" => Some(Self::WeCom),
            "/robot/send" => Some(Self::DingTalk),
            "/webhook" | "/webhook/gone" => Some(Self::Webhook),
            _ if path.starts_with("/open-apis/bot/v2/hook/") => Some(Self::Feishu),
            _ => None,
        }
    }

    /// The name of its declaration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WeCom => "wecom",
            Self::DingTalk => "dingtalk",
            Self::Feishu => "feishu",
            Self::Webhook => "webhook",
        }
    }

    /// Status and body of an answer.
    #[must_use]
    pub fn says(self, word: Word) -> (u16, String) {
        match self {
            Self::WeCom => errcode(match word {
                Word::Taken => (0, "ok"),
                Word::NoRobot | Word::Unsigned | Word::Gone => (93_000, "invalid webhook url, hint: [loopback]"),
                Word::Malformed => (40_058, "invalid Request Parameter"),
                Word::TooLong => (45_002, "content size out of limit"),
                Word::TooFast => (45_009, "api freq out of limit"),
                Word::Busy => (-1, "system busy"),
                Word::Refused => (40_008, "invalid message type"),
            }),
            Self::DingTalk => errcode(match word {
                Word::Taken => (0, "ok"),
                Word::NoRobot | Word::Gone => (300_005, "token is not exist"),
                Word::Unsigned => (310_000, "sign not match"),
                Word::Malformed => (40_035, "invalid json"),
                Word::TooLong => (460_101, "message too long"),
                Word::TooFast => (130_101, "send too fast, exceed 20 times per minute"),
                Word::Busy => (-1, "system busy"),
                Word::Refused => (430_102, "the text is not allowed"),
            }),
            Self::Feishu => {
                let (status, code, msg) = match word {
                    Word::Taken => (200, 0, "success"),
                    Word::NoRobot | Word::Gone => (200, 19_001, "param invalid: incoming webhook access token invalid"),
                    Word::Unsigned => {
                        (200, 19_021, "sign match fail or timestamp is not within one hour from current time")
                    }
                    Word::Malformed | Word::TooLong => (400, 9_499, "Bad Request"),
                    Word::TooFast => (400, 11_232, "frequency limited psm"),
                    Word::Busy => (503, 1, "busy"),
                    Word::Refused => (200, 19_002, "params error"),
                };
                (status, json!({ "code": code, "msg": msg, "data": {} }).to_string())
            }
            Self::Webhook => {
                let (status, text) = match word {
                    Word::Taken => (200, "taken"),
                    Word::NoRobot | Word::Unsigned => (401, "the signature or its time is wrong"),
                    Word::Malformed => (400, "no JSON"),
                    Word::TooLong => (413, "too long"),
                    Word::TooFast => (429, "too fast"),
                    Word::Busy => (503, "busy"),
                    Word::Refused => (422, "refused"),
                    Word::Gone => (410, "gone"),
                };
                (status, json!({ "message": text }).to_string())
            }
        }
    }
}

/// WeCom and DingTalk answer 200 whatever happened.
fn errcode((code, text): (i32, &str)) -> (u16, String) {
    (200, json!({ "errcode": code, "errmsg": text }).to_string())
}
