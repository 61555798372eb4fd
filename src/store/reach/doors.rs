//! The doors to knock at: households of a dispatch's visiting step, why a visit is
//! needed, and what to know before. Numbers of all doors come into memory (some sixty
//! bytes each); names, addresses and phones are opened a village at a time.

use std::collections::HashMap;

use futures_util::TryStreamExt as _;
use sqlx::AssertSqlSafe;

use super::super::bulk::{Col, Rows};
use super::super::visits::DoorList;
use super::sql::Wording;
use super::{ChannelKinds, Result, Store, Tx, ranges, state};
use crate::clock::Millis;
use crate::domain::delivery::{Reason, State};
use crate::domain::reach::facts::{Facts, Unreached};
use crate::vault::Owner;

/// Attributes that hold where somebody lives, the first that is there.
const ADDRESS: [&str; 4] = ["住址", "家庭住址", "地址", "address"];
/// Phones of a household worth the paper.
const PHONES: usize = 3;

/// Which doors are asked for.
#[derive(Debug, Clone, Copy)]
pub struct DoorFilter {
    /// This region and all below it; everywhere when not given.
    pub region_no: Option<i64>,
    /// Those that are done with, too.
    pub all: bool,
    /// Born on this day (yyyymmdd) or before is elderly.
    pub elderly: i32,
}

/// One door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Door {
    /// Of its delivery.
    pub ordinal: i64,
    /// The household, or who lives alone.
    pub home: i64,
    pub state: State,
    pub region_no: i64,
    /// Members behind it, and how many of them know by now.
    pub people: i64,
    pub informed: i64,
    /// Why those who do not know do not: the first reason among them.
    pub why: Option<Unreached>,
    /// What ended the last failed try.
    pub failure: Option<Reason>,
    /// The member whose name stands for a household without one.
    pub first: i64,
    pub away: i64,
    pub elderly: i64,
    /// Bits by the place in `domain::recipient::NEEDS`.
    pub needs: u32,
}

impl Door {
    /// Goes first: somebody here is old, or needs help.
    #[must_use]
    pub const fn is_urgent(&self) -> bool {
        self.elderly > 0 || self.needs != 0
    }
}

/// What is sealed of a door, opened. It has no `Debug`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct OpenDoor {
    pub name: String,
    pub address: Option<String>,
    pub phones: Vec<String>,
    /// The last visit: when, and who knocked.
    pub visit: Option<Knock>,
}

/// A visit: when, and who knocked.
type Knock = (Millis, Option<String>);

#[derive(sqlx::FromRow)]
struct Found {
    ordinal: i64,
    home: i64,
    state: i32,
    region_no: i64,
    recipient_no: i64,
    away: i32,
    bits: i32,
    reason: Option<i32>,
    born: Option<i32>,
    needs: String,
}

impl Store {
    /// The doors of a list, in no order: every member of a door is looked at once.
    ///
    /// # Errors
    /// When the database fails or holds a state nobody knows.
    pub async fn doors(&self, list: &DoorList, kinds: &ChannelKinds, filter: DoorFilter) -> Result<Vec<Door>> {
        let mut tx = self.snapshot().await?;
        let sql = doors_sql(&Wording::new(kinds, None), list, filter);
        let mut places: HashMap<i64, usize> = HashMap::new();
        let mut doors: Vec<Door> = Vec::new();
        for (after, upto) in ranges(&mut tx, "members", list.dispatch_no).await? {
            run!(&mut tx, |c| {
                let query = sqlx::query_as::<_, Found>(AssertSqlSafe(sql.clone()))
                    .bind(list.dispatch_no)
                    .bind(after)
                    .bind(upto);
                let mut rows = query.fetch(c);
                while let Some(found) = rows.try_next().await? {
                    let place = *places.entry(found.ordinal).or_insert(doors.len());
                    if place == doors.len() {
                        doors.push(found.door()?);
                    }
                    found.add_to(&mut doors[place], filter.elderly);
                }
            });
        }
        Ok(doors)
    }

    /// Opens what is sealed of these doors, in their order.
    ///
    /// # Errors
    /// When the database fails or something does not open with this key.
    pub async fn open_doors(&self, dispatch_no: i64, doors: &[Door]) -> Result<Vec<OpenDoor>> {
        let mut tx = self.snapshot().await?;
        let people = doors.iter().flat_map(|d| [d.home, d.first]);
        let source = tx.source(&[Col::Int("no")]);
        let sql = format!(
            "SELECT DISTINCT r.no, r.name_sealed, r.attrs FROM {source} CROSS JOIN recipients r WHERE r.no = src.no"
        );
        let found = bulk_read!(&mut tx, (i64, Option<Vec<u8>>, String), sql, Rows::column(people))?;
        let mut known = HashMap::with_capacity(found.len());
        for (no, sealed, attrs) in found {
            let name = sealed.map(|sealed| self.vault.open_text(Owner::Recipient(no), &sealed)).transpose()?;
            known.insert(no, (name, address(&attrs)));
        }
        let mut phones: HashMap<i64, Vec<String>> = HashMap::new();
        let homes = Rows::column(doors.iter().map(|d| d.home));
        for (home, id, sealed) in bulk_read!(&mut tx, (i64, i64, Vec<u8>), phones_sql(&source), homes)? {
            let phone = self.vault.open_text(Owner::Address(id), &sealed)?;
            let of = phones.entry(home).or_default();
            if of.len() < PHONES && !of.contains(&phone) {
                of.push(phone);
            }
        }
        let mut visits = self.last_visits(&mut tx, dispatch_no, doors).await?;
        let open = |door: &Door| {
            let of = |no: i64| known.get(&no).cloned().unwrap_or_default();
            let (home, first) = (of(door.home), of(door.first));
            OpenDoor {
                name: home.0.or(first.0).unwrap_or_default(),
                address: home.1.or(first.1),
                phones: phones.remove(&door.home).unwrap_or_default(),
                visit: visits.remove(&door.ordinal),
            }
        };
        Ok(doors.iter().map(open).collect())
    }

    async fn last_visits(&self, tx: &mut Tx, dispatch_no: i64, doors: &[Door]) -> Result<HashMap<i64, Knock>> {
        let source = tx.source(&[Col::Int("ordinal")]);
        let sql = format!(
            "SELECT v.ordinal, v.at, v.by_sealed FROM {source} CROSS JOIN visits v \
             WHERE v.dispatch_no = {dispatch_no} AND v.ordinal = src.ordinal ORDER BY v.at"
        );
        let found = bulk_read!(tx, (i64, Millis, Option<Vec<u8>>), sql, Rows::column(doors.iter().map(|d| d.ordinal)))?;
        let open = |(ordinal, at, by): (i64, Millis, Option<Vec<u8>>)| {
            let by = by.map(|by| self.vault.open_text(Owner::Visit(dispatch_no, ordinal), &by)).transpose()?;
            Ok((ordinal, (at, by)))
        };
        found.into_iter().map(open).collect()
    }
}

impl Found {
    fn door(&self) -> Result<Door> {
        Ok(Door {
            ordinal: self.ordinal,
            home: self.home,
            state: state(self.state)?,
            region_no: self.region_no,
            people: 0,
            informed: 0,
            why: None,
            failure: None,
            first: self.recipient_no,
            away: 0,
            elderly: 0,
            needs: 0,
        })
    }

    fn add_to(&self, door: &mut Door, elderly: i32) {
        door.people += 1;
        door.away += i64::from(self.away != 0);
        door.elderly += i64::from(self.born.is_some_and(|born| born <= elderly));
        for (bit, (word, _)) in crate::domain::recipient::NEEDS.iter().enumerate() {
            if self.needs.split(',').any(|need| need == *word) {
                door.needs |= 1 << bit;
            }
        }
        match (Facts { bits: self.bits, away: self.away != 0 }.unreached()) {
            None => door.informed += 1,
            Some(why) => {
                door.why = Some(door.why.map_or(why, |other| other.min(why)));
                door.failure = door.failure.or(self.reason.and_then(Reason::from_code));
            }
        }
    }
}

fn address(attrs: &str) -> Option<String> {
    let attrs: serde_json::Value = serde_json::from_str(attrs).ok()?;
    ADDRESS.iter().find_map(|key| attrs.get(key)?.as_str()).map(str::to_owned)
}

/// A member is looked at with all its deliveries; its last visit is its door.
fn doors_sql(wording: &Wording, list: &DoorList, filter: DoorFilter) -> String {
    let (bits, electronic, channel) = (wording.bits(), wording.electronic(), list.channel);
    let (failed, undelivered) = (State::Failed.code(), State::Undelivered.code());
    let still_open = format!(" AND v.state IN ({}, {})", State::Listed.code(), State::Absent.code());
    let within =
        |region| format!(" AND h.region_no IN (SELECT descendant FROM region_closure WHERE ancestor = {region})");
    let only =
        (if filter.all { String::new() } else { still_open }) + &filter.region_no.map(within).unwrap_or_default();
    format!(
        "SELECT v.ordinal, v.target AS home, v.state, h.region_no, one.recipient_no, one.away, one.bits, one.reason, r.born, r.needs
         FROM (SELECT m.ordinal, m.recipient_no, m.away, {bits} AS bits,
                      MAX(CASE WHEN d.channel = {channel} THEN d.ordinal END) AS visit,
                      MAX(CASE WHEN {electronic} AND d.state IN ({failed}, {undelivered}) THEN d.reason END) AS reason
               FROM members m
               JOIN delivery_members dm ON dm.dispatch_no = m.dispatch_no AND dm.member = m.ordinal
                                       AND dm.member > $2 AND dm.member <= $3
               JOIN deliveries d ON d.dispatch_no = dm.dispatch_no AND d.ordinal = dm.delivery
               WHERE m.dispatch_no = $1 AND m.ordinal > $2 AND m.ordinal <= $3
               GROUP BY m.dispatch_no, m.ordinal) one
         JOIN deliveries v ON v.dispatch_no = $1 AND v.ordinal = one.visit
         JOIN recipients h ON h.no = v.target
         JOIN recipients r ON r.no = one.recipient_no WHERE TRUE{only}"
    )
}

/// The household's own phones before those of its people; none that is known to be gone.
fn phones_sql(source: &str) -> String {
    let usable = "JOIN addresses a ON a.id = ra.address_id WHERE ra.kind = 1 AND a.gone = 0";
    format!(
        "SELECT home, id, sealed FROM (
             SELECT src.no AS home, 0 AS far, ra.recipient_no, ra.priority, a.id, a.sealed FROM {source}
             JOIN recipient_addresses ra ON ra.recipient_no = src.no {usable}
             UNION ALL
             SELECT src.no, 1, ra.recipient_no, ra.priority, a.id, a.sealed FROM {source}
             JOIN recipients p ON p.household_no = src.no AND p.status = 1
             JOIN recipient_addresses ra ON ra.recipient_no = p.no {usable}
         ) every_phone ORDER BY home, far, recipient_no, priority"
    )
}

#[cfg(test)]
mod tests;
