//! Small random worlds, and the slow choice of whom a snapshot reaches how.

use std::collections::{BTreeMap, BTreeSet};

use rand::Rng as _;
use rand::rngs::StdRng;

use super::super::*;

pub(super) const MAIL: i32 = 2;
pub(super) const VISIT: i32 = 3;

/// Who has variables of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lists {
    None,
    Some,
    All,
}

#[derive(Debug)]
struct Recipient {
    no: i64,
    household: Option<i64>,
    counted: bool,
    status: i32,
    away: bool,
    region: i64,
    groups: BTreeSet<i64>,
    /// (kind, priority) → (address, via)
    addresses: BTreeMap<(i32, i32), (i64, i32)>,
    vars: bool,
}

#[derive(Debug)]
struct Address {
    id: i64,
    kind: i32,
    gone: bool,
    opted_out: Option<&'static str>,
}

#[derive(Debug)]
pub(super) struct World {
    base: i64,
    pub lists: Lists,
    recipients: Vec<Recipient>,
    addresses: Vec<Address>,
}

/// A member: recipient, household, region, away, groups, whether it has variables.
type Member = (i64, i64, Option<i64>, i64, bool, BTreeSet<i64>, bool);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Made {
    pub channel: i32,
    pub target: i64,
    pub variant: i64,
    pub state: i32,
    pub reason: i32,
    pub next_at: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Link {
    pub member: i64,
    pub channel: i32,
    pub target: i64,
    pub variant: i64,
    pub via: i32,
}

/// What a snapshot comes to, without the numbers that depend on its chunks.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Planned {
    pub members: Vec<Member>,
    pub deliveries: BTreeSet<Made>,
    pub links: BTreeSet<Link>,
}

impl World {
    pub(super) fn random(rng: &mut StdRng, lists: Lists, seed: i64) -> Self {
        let base = (seed + 1) * 1_000;
        let addresses: Vec<Address> = (1..=24)
            .map(|i| Address {
                id: base + i,
                kind: rng.random_range(1..=2),
                gone: rng.random_bool(0.15),
                opted_out: rng.random_bool(0.2).then(|| ["*", "policy", "notice"][rng.random_range(0..3)]),
            })
            .collect();
        let homes = 8;
        let mut recipients = Vec::new();
        for i in 1..=rng.random_range(10..45) {
            let home = i <= homes;
            let household = (!home && rng.random_bool(0.8)).then(|| base + rng.random_range(1..=homes));
            recipients.push(Recipient {
                no: base + i,
                household,
                // A household counts where nobody of it is known.
                counted: !home || rng.random_bool(0.2),
                status: if rng.random_bool(0.1) { rng.random_range(2..=3) } else { 1 },
                away: rng.random_bool(0.2),
                region: rng.random_range(1..=4),
                groups: (1..=3).filter(|_| rng.random_bool(0.3)).collect(),
                addresses: some_addresses(rng, &addresses),
                vars: lists == Lists::All || (lists == Lists::Some && rng.random_bool(0.5)),
            });
        }
        Self { base, lists, recipients, addresses }
    }

    pub(super) fn list_no(&self) -> Option<i64> {
        (self.lists != Lists::None).then_some(self.base)
    }

    /// An audience within a scope: regions 1 to 3 of this world, though not 2.
    pub(super) fn predicate(&self) -> String {
        format!(
            "(r.no > {} AND r.no < {}) AND (r.region_no <> 2) AND (r.region_no IN (1, 2, 3))",
            self.base,
            self.base + 1_000
        )
    }

    fn members(&self) -> Vec<&Recipient> {
        self.recipients.iter().filter(|r| r.counted && r.status == 1 && matches!(r.region, 1 | 3)).collect()
    }

    fn usable(&self, owner: &Recipient, kind: i32) -> Option<(i64, i32)> {
        let works = |id: i64| self.addresses.iter().any(|a| a.id == id && !a.gone);
        owner.addresses.iter().filter(|((k, _), _)| *k == kind).map(|(_, found)| *found).find(|(id, _)| works(*id))
    }

    fn target(&self, m: &Recipient, channel: i32) -> Option<(i64, i32)> {
        if channel == VISIT {
            return Some((m.household.unwrap_or(m.no), 1));
        }
        let home = self.recipients.iter().find(|r| Some(r.no) == m.household);
        self.usable(m, channel).or_else(|| self.usable(home?, channel).map(|(id, _)| (id, 2)))
    }

    pub(super) fn plan(&self, opt_out_kind: Option<&str>, defer_until: Option<i64>) -> Planned {
        let mut made = Planned { members: Vec::new(), deliveries: BTreeSet::new(), links: BTreeSet::new() };
        for (ordinal, m) in (1..).zip(self.members()) {
            made.members.push((ordinal, m.no, m.household, m.region, m.away, m.groups.clone(), m.vars));
            for channel in [SMS, MAIL, VISIT] {
                let Some((target, via)) = self.target(m, channel) else { continue };
                let variant = if m.vars && channel != VISIT { ordinal } else { 0 };
                made.links.insert(Link { member: ordinal, channel, target, variant, via });
                let refused =
                    |a: &Address| a.id == target && a.opted_out.is_some_and(|k| k == "*" || Some(k) == opt_out_kind);
                let (state, reason, next_at) = if channel == VISIT {
                    (State::Listed, Reason::None, None)
                } else if opt_out_kind.is_some() && self.addresses.iter().any(refused) {
                    (State::Suppressed, Reason::OptedOut, None)
                } else if defer_until.is_some() {
                    (State::Deferred, Reason::QuietHours, defer_until)
                } else {
                    (State::Queued, Reason::None, None)
                };
                let (state, reason) = (state.code(), reason.code());
                made.deliveries.insert(Made { channel, target, variant, state, reason, next_at });
            }
        }
        made
    }

    /// Members no phone and no e-mail reaches, by region and number.
    pub(super) fn unaddressed(&self) -> Vec<i64> {
        let mut none: Vec<(i64, i64)> = self
            .members()
            .into_iter()
            .filter(|m| self.target(m, SMS).is_none() && self.target(m, MAIL).is_none())
            .map(|m| (m.region, m.no))
            .collect();
        none.sort_unstable();
        none.into_iter().map(|(_, no)| no).collect()
    }

    /// The homes of the members that are not `told`, by number.
    pub(super) fn homes_without(&self, told: &BTreeSet<i64>) -> Vec<i64> {
        let left = (1..).zip(self.members()).filter(|(ordinal, _)| !told.contains(ordinal));
        left.map(|(_, m)| m.household.unwrap_or(m.no)).collect::<BTreeSet<_>>().into_iter().collect()
    }

    pub(super) async fn write(&self, store: &Store) {
        let regions: Vec<_> = (1..=4).map(|r| format!("{r}, 'r{r}', 'village'")).collect();
        let known = store.probe_count("SELECT COUNT(*) FROM regions".into()).await;
        insert(store, "regions (no, name, level)", if known == 0 { &regions } else { &[] }).await;
        let rows: Vec<_> = self
            .recipients
            .iter()
            .map(|r| {
                let kind = if r.no <= self.base + 8 { 2 } else { 1 };
                let home = r.household.map_or("NULL".into(), |h| h.to_string());
                format!(
                    "{}, {kind}, {}, {}, {}, {home}, {}, 0",
                    r.no,
                    i32::from(r.counted),
                    r.status,
                    i32::from(r.away),
                    r.region
                )
            })
            .collect();
        insert(store, "recipients (no, kind, counted, status, away, household_no, region_no, updated_at)", &rows).await;
        let hash = |a: &Address| blob(store, &a.id.to_be_bytes());
        let rows: Vec<_> = self
            .addresses
            .iter()
            .map(|a| format!("{}, {}, {}, {}, {}", a.id, a.kind, hash(a), hash(a), i32::from(a.gone)))
            .collect();
        insert(store, "addresses (id, kind, hash, sealed, gone)", &rows).await;
        let out = |a: &Address| Some(format!("{}, {}, '{}', 0", a.kind, hash(a), a.opted_out?));
        insert(
            store,
            "opt_outs (kind, hash, item_kind, at)",
            &self.addresses.iter().filter_map(out).collect::<Vec<_>>(),
        )
        .await;
        self.write_links(store).await;
    }

    async fn write_links(&self, store: &Store) {
        let each = |of: &dyn Fn(&Recipient) -> Vec<String>| self.recipients.iter().flat_map(of).collect::<Vec<_>>();
        let rows = each(&|r| {
            r.addresses
                .iter()
                .map(|((kind, place), (id, via))| format!("{}, {kind}, {place}, {id}, {via}", r.no))
                .collect()
        });
        insert(store, "recipient_addresses (recipient_no, kind, priority, address_id, via)", &rows).await;
        let rows = each(&|r| r.groups.iter().map(|g| format!("{g}, {}", r.no)).collect());
        insert(store, "group_members (group_no, recipient_no)", &rows).await;
        let rows = each(&|r| {
            r.vars.then(|| format!("{}, {}, 1, {}", self.base, r.no, blob(store, b"sealed"))).into_iter().collect()
        });
        insert(store, "list_rows (list_no, recipient_no, row_no, vars_sealed)", &rows).await;
    }
}

fn some_addresses(rng: &mut StdRng, all: &[Address]) -> BTreeMap<(i32, i32), (i64, i32)> {
    let mut mine = BTreeMap::new();
    for _ in 0..rng.random_range(0..4) {
        let a = &all[rng.random_range(0..all.len())];
        mine.insert((a.kind, rng.random_range(0..5)), (a.id, [1, 3, 4][rng.random_range(0..3)]));
    }
    mine
}

type MemberRow = (i64, i64, Option<i64>, i64, i32, String, Option<Vec<u8>>);
type MadeRow = (i32, i64, i64, i32, i32, Option<i64>);
type LinkRow = (i64, i32, i64, i64, i32);

impl Planned {
    /// What the tables hold of the first step.
    pub(super) async fn read(store: &Store, d: &Dispatch) -> Self {
        let sql = "SELECT ordinal, recipient_no, household_no, region_no, away, groups, vars_sealed FROM members \
                   WHERE dispatch_no = $1 ORDER BY ordinal";
        let members: Vec<MemberRow> = read!(store, |db| sqlx::query_as(sql).bind(d.no).fetch_all(db).await).unwrap();
        let sql = "SELECT channel, target, variant, state, reason, next_at FROM deliveries WHERE dispatch_no = $1 AND step = 0";
        let made: Vec<MadeRow> = read!(store, |db| sqlx::query_as(sql).bind(d.no).fetch_all(db).await).unwrap();
        let sql = "SELECT l.member, d.channel, d.target, d.variant, l.via FROM delivery_members l \
                   JOIN deliveries d ON d.dispatch_no = l.dispatch_no AND d.ordinal = l.delivery WHERE l.dispatch_no = $1 AND d.step = 0";
        let links: Vec<LinkRow> = read!(store, |db| sqlx::query_as(sql).bind(d.no).fetch_all(db).await).unwrap();
        let count = made.len();
        let groups = |text: &str| text.split(',').filter(|g| !g.is_empty()).map(|g| g.parse().unwrap()).collect();
        let deliveries: BTreeSet<Made> = made
            .into_iter()
            .map(|(channel, target, variant, state, reason, next_at)| Made {
                channel,
                target,
                variant,
                state,
                reason,
                next_at,
            })
            .collect();
        assert_eq!(deliveries.len(), count);
        Self {
            members: members
                .into_iter()
                .map(|(o, no, home, region, away, g, vars)| {
                    (o, no, home, region, away == 1, groups(&g), vars.is_some())
                })
                .collect(),
            deliveries,
            links: links
                .into_iter()
                .map(|(member, channel, target, variant, via)| Link { member, channel, target, variant, via })
                .collect(),
        }
    }
}
