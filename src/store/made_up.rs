//! Made-up people for benches: written straight into the tables, so that a million
//! of them stand there within a minute. Nothing of it is anybody's: phone numbers
//! are taken in order from 139 0000 0000 on, names are numbers.

use super::bulk::{Cell, Col, Rows};
use super::{Result, Store};
use crate::channel::AddressKind;
use crate::domain::recipient::{RecipientKind, Via, purpose};
use crate::domain::region::{Level, RegionRow};
use crate::store::groups::GroupRecord;
use crate::store::regions::RegionRecord;
use crate::vault::Owner;

/// The first made-up phone number.
pub const FIRST_PHONE: i64 = 13_900_000_000;
/// Persons of one household.
const HOUSEHOLD: i64 = 4;
/// Households a transaction.
const CHUNK: i64 = 2_000;
/// Persons in a thousand with a phone of their own.
const OWN_PHONE: u64 = 700;
/// Persons in a thousand who share the phone of whoever came before.
const SHARED_PHONE: u64 = 20;
/// Households in a thousand that can be called.
const HOUSEHOLD_PHONE: u64 = 900;
/// Groups, and how many persons in a thousand are in each.
const GROUPS: [(&str, u64); 4] = [("低保户", 60), ("独居老人", 30), ("种粮大户", 100), ("残疾人", 45)];
const TOWNS: i64 = 20;

/// How many and which people to make up.
#[derive(Debug, Clone, Copy)]
pub struct MadeUp {
    /// Persons; households come on top and are not counted.
    pub persons: i64,
    pub villages: i64,
    /// The same seed makes the same people.
    pub seed: u64,
}

/// The phone number of an address, by its number.
#[must_use]
pub fn phone(no: i64) -> String {
    (FIRST_PHONE + no).to_string()
}

/// The code of a made-up village; no province has 99.
#[must_use]
pub fn village_code(village: i64) -> String {
    format!("990101{:03}{:03}", 100 + village % TOWNS, 200 + village / TOWNS)
}

/// A number from 0 to 999 that hangs on the seed, the person and the question alone.
fn draw(seed: u64, no: i64, question: u64) -> u64 {
    // splitmix64
    let mut z =
        seed ^ no.unsigned_abs().wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ question.wrapping_mul(0xd1b5_4a32_d192_ed03);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) % 1_000
}

/// The rows of one transaction.
#[derive(Default)]
struct Chunk {
    recipients: Rows,
    addresses: Rows,
    links: Rows,
    members: Rows,
}

/// Where the numbers of the next rows stand.
struct Maker<'a> {
    store: &'a Store,
    spec: MadeUp,
    kind: AddressKind,
    groups: Vec<i64>,
    first_village: i64,
    /// The number taken last.
    recipient: i64,
    address: i64,
    persons: i64,
}

impl Store {
    /// Makes up a county with its villages; returns the number of the first village.
    /// The others follow.
    pub async fn make_up_regions(&self, villages: i64) -> Result<i64> {
        let n = usize::try_from(1 + TOWNS + villages).unwrap_or(0);
        let first = self.reserve_regions(n).await?;
        let row = |no: i64, code: String, name: String, parent_no: Option<i64>, level| RegionRecord {
            row: RegionRow { no, code: Some(code), name, parent_no, level },
            new: true,
            areas: Vec::new(),
            aliases: Vec::new(),
        };
        let mut rows = vec![row(first, "990101000000".into(), "假设县".into(), None, Level::County)];
        for t in 0..TOWNS {
            rows.push(row(
                first + 1 + t,
                format!("990101{:03}000", 100 + t),
                format!("第{t}镇"),
                Some(first),
                Level::Town,
            ));
        }
        let first_village = first + 1 + TOWNS;
        for v in 0..villages {
            let town = first + 1 + v % TOWNS;
            rows.push(row(first_village + v, village_code(v), format!("第{v}村"), Some(town), Level::Village));
        }
        self.put_regions(&rows, "").await?;
        Ok(first_village)
    }

    /// Makes up people in a database that has none.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn make_up_people(&self, spec: MadeUp) -> Result<()> {
        self.make_up_people_with(spec, AddressKind::Phone).await
    }

    /// The same, with addresses of another kind.
    pub async fn make_up_people_with(&self, spec: MadeUp, kind: AddressKind) -> Result<()> {
        let first_village = self.make_up_regions(spec.villages).await?;
        let mut groups = Vec::new();
        for (name, _) in GROUPS {
            groups.push(self.put_group(&GroupRecord { name: name.to_owned(), ..GroupRecord::default() }).await?);
        }
        let mut maker = Maker { store: self, spec, kind, groups, first_village, recipient: 0, address: 0, persons: 0 };
        while maker.persons < spec.persons {
            let chunk = maker.chunk();
            self.put_made_up(chunk, kind, (maker.recipient, maker.address)).await?;
        }
        Ok(())
    }

    async fn put_made_up(&self, chunk: Chunk, kind: AddressKind, (recipient, address): (i64, i64)) -> Result<()> {
        let mut tx = self.begin().await?;
        let cols = [
            Col::Int("no"),
            Col::Int("kind"),
            Col::Int("counted"),
            Col::Int("household_no"),
            Col::Int("region_no"),
            Col::Int("away"),
            Col::Bytes("name_sealed"),
            Col::Bytes("ext_hash"),
        ];
        let list = "no, kind, counted, household_no, region_no, away, name_sealed, ext_hash";
        let sql = format!(
            "INSERT INTO recipients ({list}, updated_at) SELECT {list}, {} FROM {}",
            self.now(),
            tx.source(&cols)
        );
        tx.bulk(sql, chunk.recipients).await?;
        let source = tx.source(&[Col::Int("id"), Col::Bytes("hash"), Col::Bytes("sealed")]);
        let kind = kind as i32;
        let sql =
            format!("INSERT INTO addresses (id, kind, hash, sealed) SELECT id, {kind}, hash, sealed FROM {source}");
        tx.bulk(sql, chunk.addresses).await?;
        let source =
            tx.source(&[Col::Int("recipient_no"), Col::Int("priority"), Col::Int("address_id"), Col::Int("via")]);
        let sql = format!(
            "INSERT INTO recipient_addresses (recipient_no, kind, priority, address_id, via) SELECT recipient_no, {kind}, priority, address_id, via FROM {source}"
        );
        tx.bulk(sql, chunk.links).await?;
        let source = tx.source(&[Col::Int("group_no"), Col::Int("recipient_no")]);
        let sql =
            format!("INSERT INTO group_members (group_no, recipient_no) SELECT group_no, recipient_no FROM {source}");
        tx.bulk(sql, chunk.members).await?;
        for (counter, value) in [("recipient", recipient), ("address", address)] {
            let sql = "UPDATE counters SET value = $2 WHERE name = $1";
            exec!(&mut tx, sqlx::query(sql).bind(counter).bind(value))?;
        }
        tx.commit().await
    }

    /// Calls every delivery of a dispatch handed over, as if its channel had taken it.
    pub async fn make_up_sent(&self, dispatch_no: i64) -> Result<()> {
        let mut tx = self.begin().await?;
        let sql = "UPDATE deliveries SET state = 3, parts = 1, reason = 0, next_at = NULL, handed_at = $2, reached_at = NULL, seen_at = NULL \
                   WHERE dispatch_no = $1";
        exec!(&mut tx, sqlx::query(sql).bind(dispatch_no).bind(self.now()))?;
        tx.commit().await
    }
}

impl Maker<'_> {
    fn chunk(&mut self) -> Chunk {
        let mut chunk = Chunk::default();
        for _ in 0..CHUNK {
            if self.persons >= self.spec.persons {
                break;
            }
            self.household(&mut chunk);
        }
        chunk
    }

    fn household(&mut self, chunk: &mut Chunk) {
        self.recipient += 1;
        let household = self.recipient;
        let seed = self.spec.seed;
        let region = self.first_village + (household / 7) % self.spec.villages;
        self.recipient_row(chunk, RecipientKind::Household, region, None);
        let shared = (draw(seed, household, 1) < HOUSEHOLD_PHONE).then(|| self.new_address(chunk));
        if let Some(id) = shared {
            link(chunk, household, id, Via::Household);
        }
        for _ in 0..HOUSEHOLD.min(self.spec.persons - self.persons) {
            self.persons += 1;
            self.recipient += 1;
            let no = self.recipient;
            self.recipient_row(chunk, RecipientKind::Person, region, Some(household));
            let point = draw(seed, no, 2);
            if point < SHARED_PHONE && self.address > 0 {
                link(chunk, no, self.address, Via::Own);
            } else if point < OWN_PHONE + SHARED_PHONE {
                let id = self.new_address(chunk);
                link(chunk, no, id, Via::Own);
            }
            for (question, (group, (_, share))) in (3..).zip(self.groups.iter().zip(GROUPS)) {
                if draw(seed, no, question) < share {
                    chunk.members.push(&[Cell::Int(*group), Cell::Int(no)]);
                }
            }
        }
    }

    fn recipient_row(&self, chunk: &mut Chunk, kind: RecipientKind, region: i64, household: Option<i64>) {
        let (no, vault) = (self.recipient, &self.store.vault);
        let name = vault.seal(Owner::Recipient(no), format!("第{no}号").as_bytes());
        let hash = vault.hash(purpose::EXT, &no.to_string());
        chunk.recipients.push(&[
            no.into(),
            (kind as i32).into(),
            i32::from(kind != RecipientKind::Household).into(),
            household.into(),
            region.into(),
            i32::from(draw(self.spec.seed, no, 9) < 150).into(),
            Cell::Bytes(&name),
            Cell::Bytes(&hash),
        ]);
    }

    fn new_address(&mut self, chunk: &mut Chunk) -> i64 {
        self.address += 1;
        let (id, vault, number) = (self.address, &self.store.vault, phone(self.address));
        let (purpose, text) = match self.kind {
            AddressKind::Phone => (purpose::PHONE, number),
            // RFC 2606: nobody's, and never resolved.
            AddressKind::Email => (purpose::EMAIL, format!("p{number}@gong.example")),
        };
        let hash = vault.hash(purpose, &text);
        let sealed = vault.seal(Owner::Address(id), text.as_bytes());
        chunk.addresses.push(&[id.into(), Cell::Bytes(&hash), Cell::Bytes(&sealed)]);
        id
    }
}

fn link(chunk: &mut Chunk, recipient: i64, address: i64, via: Via) {
    let via = via as i32;
    chunk.links.push(&[recipient.into(), (via * 100).into(), address.into(), via.into()]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::stores;

    #[tokio::test]
    async fn people_are_made_up_with_gaps_and_shared_phones() {
        for t in stores().await {
            t.store.make_up_people(MadeUp { persons: 2_001, villages: 30, seed: 1 }).await.unwrap();
            let count = async |sql: &str| t.store.probe_count(sql.to_owned()).await;
            assert_eq!(count("SELECT COUNT(*) FROM recipients WHERE counted = 1").await, 2_001);
            let phones = count("SELECT COUNT(*) FROM addresses").await;
            let links = count("SELECT COUNT(*) FROM recipient_addresses").await;
            assert!(links > phones && phones > 1_500, "{links} {phones}");
            let bare = "SELECT COUNT(*) FROM recipients r WHERE NOT EXISTS \
                        (SELECT 1 FROM recipient_addresses a WHERE a.recipient_no = r.no)";
            assert!(count(bare).await > 300);
            assert!(count("SELECT COUNT(*) FROM group_members").await > 300);
        }
    }
}
