//! Addresses, each stored once, and who is reached by them.

use std::collections::{HashMap, HashSet};

use super::Contact;
use crate::channel::AddressKind;
use crate::domain::recipient::purpose;
use crate::store::bulk::{Cell, Col, Rows};
use crate::store::{Result, Tx};
use crate::vault::{Owner, Vault};

/// The addresses one recipient shall have.
pub(super) struct Wish {
    pub no: i64,
    pub contacts: Vec<Contact>,
    /// Takes the place of what is known by the same kind and via; else is added.
    pub replace: bool,
}

/// The hash purpose of an address kind.
fn purpose_of(kind: AddressKind) -> &'static str {
    match kind {
        AddressKind::Phone => purpose::PHONE,
        AddressKind::Email => purpose::EMAIL,
    }
}

/// The ids of addresses in their order; new ones are sealed and stored.
pub(crate) async fn put_addresses(
    tx: &mut Tx,
    vault: &Vault,
    wanted: &[(AddressKind, &str)],
) -> Result<HashMap<(AddressKind, String), i64>> {
    if wanted.is_empty() {
        return Ok(HashMap::new());
    }
    tx.queue_up("address").await?;
    let mut hashes: HashMap<(i32, Vec<u8>), (AddressKind, &str)> = HashMap::with_capacity(wanted.len());
    let mut rows = Rows::default();
    let mut order = Vec::with_capacity(wanted.len());
    let mut seen = HashSet::with_capacity(wanted.len());
    for (kind, value) in wanted.iter().copied().filter(|w| seen.insert(*w)) {
        let hash = vault.hash(purpose_of(kind), value);
        rows.push(&[Cell::from(kind as i32), Cell::Bytes(&hash)]);
        hashes.insert((kind as i32, hash.clone()), (kind, value));
        order.push((kind, value, hash));
    }
    let source = tx.source(&[Col::Int("kind"), Col::Bytes("hash")]);
    let sql = format!(
        "SELECT a.kind, a.hash, a.id FROM {source} CROSS JOIN addresses a WHERE a.kind = src.kind AND a.hash = src.hash"
    );
    let mut ids = HashMap::with_capacity(order.len());
    for (kind, hash, id) in bulk_read!(tx, (i32, Vec<u8>, i64), sql, rows)? {
        if let Some((kind, value)) = hashes.get(&(kind, hash)) {
            ids.insert((*kind, (*value).to_owned()), id);
        }
    }
    let new: Vec<_> =
        order.into_iter().filter(|(kind, value, _)| !ids.contains_key(&(*kind, (*value).to_owned()))).collect();
    let first = tx.take_numbers("address", i64::try_from(new.len()).unwrap_or(i64::MAX)).await?;
    let mut rows = Rows::default();
    for (id, (kind, value, hash)) in (first..).zip(new) {
        let sealed = vault.seal(Owner::Address(id), value.as_bytes());
        rows.push(&[Cell::Int(id), Cell::from(kind as i32), Cell::Bytes(&hash), Cell::Bytes(&sealed)]);
        ids.insert((kind, value.to_owned()), id);
    }
    let source = tx.source(&[Col::Int("id"), Col::Int("kind"), Col::Bytes("hash"), Col::Bytes("sealed")]);
    tx.bulk(
        format!("INSERT INTO addresses (id, kind, hash, sealed) SELECT id, kind, hash, sealed FROM {source}"),
        rows,
    )
    .await?;
    Ok(ids)
}

/// One row of `recipient_addresses` that no merge lent.
#[derive(Clone, sqlx::FromRow)]
struct Link {
    recipient_no: i64,
    kind: i32,
    priority: i32,
    address_id: i64,
    via: i32,
}

/// The first priority of a via: its own number comes before the household's, that
/// before the guardian's. Rows lent by merges stand from 1,000 on.
fn first_priority(via: i32) -> i32 {
    via * 100
}

/// Brings links to what is wished and returns the recipients it touched. `known`
/// are those that may have links already.
pub(super) async fn put_links(
    tx: &mut Tx,
    vault: &Vault,
    wishes: &[Wish],
    known: &HashSet<i64>,
) -> Result<HashSet<i64>> {
    let wanted: Vec<(AddressKind, &str)> =
        wishes.iter().flat_map(|w| &w.contacts).map(|c| (c.kind, c.value.as_str())).collect();
    let ids = put_addresses(tx, vault, &wanted).await?;
    let mut standing = standing_links(tx, wishes, known).await?;
    let (mut gone, mut come) = (Vec::new(), Vec::new());
    for wish in wishes {
        let links = standing.entry(wish.no).or_default();
        plan_links(wish, &ids, links, (&mut gone, &mut come));
    }
    let touched = gone.iter().chain(&come).map(|link: &Link| link.recipient_no).collect();
    write_links(tx, &gone, &come).await?;
    Ok(touched)
}

async fn standing_links(tx: &mut Tx, wishes: &[Wish], known: &HashSet<i64>) -> Result<HashMap<i64, Vec<Link>>> {
    let rows = Rows::column(wishes.iter().map(|w| w.no).filter(|no| known.contains(no)).collect::<HashSet<i64>>());
    let mut standing: HashMap<i64, Vec<Link>> = HashMap::new();
    if rows.is_empty() {
        return Ok(standing);
    }
    let source = tx.source(&[Col::Int("no")]);
    let sql = format!(
        "SELECT ra.recipient_no, ra.kind, ra.priority, ra.address_id, ra.via FROM {source} \
         CROSS JOIN recipient_addresses ra WHERE ra.recipient_no = src.no AND ra.merge_no = 0 \
         ORDER BY ra.recipient_no, ra.kind, ra.priority"
    );
    for link in bulk_read!(tx, Link, sql, rows)? {
        standing.entry(link.recipient_no).or_default().push(link);
    }
    Ok(standing)
}

/// Compares a wish with what stands, a kind and via at a time. `standing` is kept up
/// to date, since two persons of a household can speak for it in one chunk.
fn plan_links(
    wish: &Wish,
    ids: &HashMap<(AddressKind, String), i64>,
    standing: &mut Vec<Link>,
    (gone, come): (&mut Vec<Link>, &mut Vec<Link>),
) {
    let mut groups: Vec<((i32, i32), Vec<i64>)> = Vec::new();
    let mut taken: HashSet<i64> = HashSet::new();
    let mut contacts: Vec<&Contact> = wish.contacts.iter().collect();
    contacts.sort_by_key(|c| c.via);
    for contact in contacts {
        let Some(id) = ids.get(&(contact.kind, contact.value.clone())) else { continue };
        let key = (contact.kind as i32, contact.via as i32);
        let at = groups.iter().position(|(k, _)| *k == key).unwrap_or_else(|| {
            groups.push((key, Vec::new()));
            groups.len() - 1
        });
        // One's own number given again as the household's is one address, one's own.
        if taken.insert(*id) {
            groups[at].1.push(*id);
        }
    }
    for ((kind, via), wanted) in groups {
        let here = |l: &Link| l.kind == kind && l.via == via;
        let have: Vec<i64> = standing.iter().filter(|l| here(l)).map(|l| l.address_id).collect();
        if have == wanted {
            continue;
        }
        let mut next = first_priority(via);
        if wish.replace {
            gone.extend(standing.iter().filter(|l| here(l)).cloned());
            standing.retain(|l| !here(l));
        } else {
            next = standing.iter().filter(|l| here(l)).map(|l| l.priority + 1).max().unwrap_or(next);
        }
        let missing = wanted.into_iter().filter(|id| wish.replace || !standing.iter().any(|l| l.address_id == *id));
        let new: Vec<Link> = missing
            .zip(next..)
            .map(|(address_id, priority)| Link { recipient_no: wish.no, kind, priority, address_id, via })
            .collect();
        standing.extend(new.iter().cloned());
        come.extend(new);
    }
}

async fn write_links(tx: &mut Tx, gone: &[Link], come: &[Link]) -> Result<()> {
    let mut rows = Rows::default();
    for link in gone {
        rows.push(&[link.recipient_no.into(), link.kind.into(), link.priority.into()]);
    }
    let source = tx.source(&[Col::Int("recipient_no"), Col::Int("kind"), Col::Int("priority")]);
    tx.bulk(
        format!(
            "DELETE FROM recipient_addresses WHERE (recipient_no, kind, priority) IN \
             (SELECT recipient_no, kind, priority FROM {source})"
        ),
        rows,
    )
    .await?;
    let mut rows = Rows::default();
    for link in come {
        rows.push(&[
            link.recipient_no.into(),
            link.kind.into(),
            link.priority.into(),
            link.address_id.into(),
            link.via.into(),
        ]);
    }
    let columns =
        [Col::Int("recipient_no"), Col::Int("kind"), Col::Int("priority"), Col::Int("address_id"), Col::Int("via")];
    let source = tx.source(&columns);
    tx.bulk(
        format!(
            "INSERT INTO recipient_addresses (recipient_no, kind, priority, address_id, via) \
             SELECT recipient_no, kind, priority, address_id, via FROM {source}"
        ),
        rows,
    )
    .await?;
    Ok(())
}
