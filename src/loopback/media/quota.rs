//! How many posts a vendor takes in a time: WeCom and DingTalk 20 a minute, Feishu 100 a
//! minute and 5 a second. Who exceeds it at DingTalk is not heard for ten minutes.

use std::collections::{HashMap, VecDeque};

use super::vendor::Vendor;
use crate::clock::Millis;

const MINUTE: Millis = 60_000;
const BLOCKED: Millis = 600_000;

/// The posts of the last minute, and until when a vendor hears nothing.
#[derive(Debug, Default)]
pub struct Quotas {
    posts: HashMap<Vendor, VecDeque<Millis>>,
    blocked: HashMap<Vendor, Millis>,
}

impl Quotas {
    /// Whether another post may come now; if so, it is counted.
    pub fn admit(&mut self, vendor: Vendor, now: Millis) -> bool {
        let (a_minute, a_second) = match vendor {
            Vendor::WeCom | Vendor::DingTalk => (20, 20),
            Vendor::Feishu => (100, 5),
            Vendor::Webhook => return true,
        };
        if self.blocked.get(&vendor).is_some_and(|until| now < *until) {
            return false;
        }
        let posts = self.posts.entry(vendor).or_default();
        while posts.front().is_some_and(|at| *at <= now - MINUTE) {
            posts.pop_front();
        }
        let lately = posts.iter().filter(|at| **at > now - 1_000).count();
        if posts.len() >= a_minute || lately >= a_second {
            if vendor == Vendor::DingTalk {
                self.blocked.insert(vendor, now + BLOCKED);
            }
            return false;
        }
        posts.push_back(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(quotas: &mut Quotas, vendor: Vendor, times: impl Iterator<Item = Millis>) -> usize {
        times.filter(|at| quotas.admit(vendor, *at)).count()
    }

    #[test]
    fn every_vendor_has_its_pace() {
        let mut quotas = Quotas::default();
        assert_eq!(admitted(&mut quotas, Vendor::WeCom, (0..30).map(|n| n * 1_000)), 20);
        assert_eq!(admitted(&mut quotas, Vendor::WeCom, std::iter::once(60_000)), 1);
        assert_eq!(admitted(&mut quotas, Vendor::Feishu, 0..30), 5);
        assert_eq!(admitted(&mut quotas, Vendor::Feishu, (0..200).map(|n| 2_000 + n * 250)), 95);
        assert_eq!(admitted(&mut quotas, Vendor::Webhook, 0..300), 300);
    }

    #[test]
    fn dingtalk_is_deaf_for_ten_minutes() {
        let mut quotas = Quotas::default();
        assert_eq!(admitted(&mut quotas, Vendor::DingTalk, 0..21), 20);
        assert_eq!(admitted(&mut quotas, Vendor::DingTalk, [120_000, 600_019, 600_020].into_iter()), 1);
    }
}
