//! The plan of a dispatch: which channels at once, how long to wait, and what next
//! for those not reached.
//!
//! Written as people say it: `sms > 30m > visit` is SMS to everyone, half an hour's
//! wait, then the door-knock list for those not reached. Channels of one step are
//! joined by `,`.

use serde::{Deserialize, Serialize};

use crate::clock::Millis;
use crate::say;

/// The channel name of the door-knock list (入户通知清单); no gateway stands behind it.
pub const VISIT: &str = "visit";

/// Steps in order; the first goes to the whole audience.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    pub steps: Vec<Step>,
}

/// Channels used at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    pub channels: Vec<String>,
    /// How long to wait after this step began before the next one, in milliseconds.
    #[serde(default)]
    pub wait: Millis,
}

/// Why a plan is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("{}", say!("步骤是空的。写法：sms > 30m > visit", "the plan is empty. Write it like: sms > 30m > visit"))]
    Empty,
    #[error("{}", say!(
        "步骤第 {at} 段“{found}”应为{expected}。写法：sms > 30m > visit",
        "part {at} of the plan, `{found}`, should be {expected}. Write it like: sms > 30m > visit"
    ))]
    Part { at: usize, found: String, expected: String },
    #[error("{}", say!(
        "没有名为“{name}”的渠道；现有：{known}",
        "there is no channel named `{name}`; there are: {known}"
    ))]
    NoChannel { name: String, known: String },
}

impl Plan {
    /// Reads `channel[,channel] > wait > channel …`.
    pub fn parse(text: &str) -> Result<Self, PlanError> {
        let parts: Vec<&str> = text.split(['>', '→', '》']).map(str::trim).collect();
        if parts.iter().all(|p| p.is_empty()) {
            return Err(PlanError::Empty);
        }
        let mut steps: Vec<Step> = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            if index % 2 == 0 {
                steps.push(Step { channels: channels(part, index + 1)?, wait: 0 });
            } else if let Some(step) = steps.last_mut() {
                step.wait = parse_duration(part).ok_or_else(|| PlanError::Part {
                    at: index + 1,
                    found: (*part).to_owned(),
                    expected: say!("等待时间，如 30m、2h", "a waiting time such as 30m or 2h"),
                })?;
            }
        }
        if parts.len().is_multiple_of(2) {
            return Err(PlanError::Part { at: parts.len() + 1, found: String::new(), expected: say!("渠道", "a channel") });
        }
        Ok(Self { steps })
    }

    /// Every channel named, in order of use.
    pub fn channels(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().flat_map(|s| s.channels.iter().map(String::as_str))
    }

    /// Checks that each channel is known; the door-knock list always is.
    pub fn check(&self, known: &[&str]) -> Result<(), PlanError> {
        match self.channels().find(|name| *name != VISIT && !known.contains(name)) {
            None => Ok(()),
            Some(name) => {
                let known: Vec<&str> = known.iter().copied().chain([VISIT]).collect();
                Err(PlanError::NoChannel { name: name.to_owned(), known: known.join(", ") })
            }
        }
    }
}

impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, step) in self.steps.iter().enumerate() {
            if i > 0 {
                write!(f, " > {} > ", duration(self.steps[i - 1].wait))?;
            }
            f.write_str(&step.channels.join(","))?;
        }
        Ok(())
    }
}

fn channels(part: &str, at: usize) -> Result<Vec<String>, PlanError> {
    let names: Vec<String> = part.split([',', '，', '、']).map(|n| n.trim().to_owned()).collect();
    let good = |n: &String| !n.is_empty() && n.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_');
    if names.iter().all(good) {
        return Ok(names);
    }
    Err(PlanError::Part { at, found: part.to_owned(), expected: say!("渠道名", "a channel name") })
}

/// Reads `90s`, `30m`, `2h`, `3d`, `250ms` into milliseconds.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Millis> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let number: i64 = text[..split].parse().ok()?;
    let unit = match text[split..].trim() {
        "ms" => 1,
        "s" | "秒" => 1_000,
        "m" | "min" | "分" | "分钟" => 60_000,
        "h" | "小时" => 3_600_000,
        "d" | "天" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(unit)
}

/// Prints milliseconds the way [`parse_duration`] reads them.
#[must_use]
pub fn duration(ms: Millis) -> String {
    for (unit, name) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")] {
        if ms != 0 && ms % unit == 0 {
            return format!("{}{name}", ms / unit);
        }
    }
    format!("{ms}ms")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_reads_as_it_is_said() {
        let plan = Plan::parse("sms，email > 30m > voice → 2h > visit").unwrap();
        assert_eq!(plan.steps.len(), 3);
        assert_eq!(plan.steps[0].channels, ["sms", "email"]);
        assert_eq!(plan.steps[1].wait, 7_200_000);
        assert_eq!(plan.to_string(), "sms,email > 30m > voice > 2h > visit");
        assert_eq!(Plan::parse(&plan.to_string()).unwrap(), plan);
    }

    #[test]
    fn a_bad_plan_says_which_part() {
        assert_eq!(Plan::parse("  "), Err(PlanError::Empty));
        assert!(matches!(Plan::parse("sms > soon > visit"), Err(PlanError::Part { at: 2, .. })));
        assert!(matches!(Plan::parse("sms > 30m"), Err(PlanError::Part { at: 3, .. })));
        assert!(matches!(Plan::parse("sms >> visit"), Err(PlanError::Part { at: 2, .. })));
        let plan = Plan::parse("sms > 1m > visit").unwrap();
        assert!(plan.check(&["sms"]).is_ok());
        assert!(matches!(plan.check(&["email"]), Err(PlanError::NoChannel { .. })));
    }
}
