//! The members that were not reached, page by page: for door-knock lists and CSV.

use std::collections::BTreeSet;

use sqlx::AssertSqlSafe;

use super::sql::Wording;
use super::{ChannelKinds, Result, Store, StoreError, head, region_tree};
use crate::domain::reach::facts::{Facts, INFORMED, Unreached};
use crate::domain::reach::regions::Tree;
use crate::vault::Owner;

/// One member that nobody is known to have informed.
#[derive(Clone, PartialEq, Eq)]
pub struct UnreachedRow {
    pub ordinal: i64,
    pub recipient_no: i64,
    /// Opened; absent where the recipient has no name or was purged.
    pub name: Option<String>,
    /// From the top: `河口县/莲花镇/东村`.
    pub region: String,
    pub household_no: Option<i64>,
    pub away: bool,
    pub reason: Unreached,
    /// The channel of the last try: the one handed over last, else the one planned last.
    pub channel: Option<String>,
    /// The address of that try, masked unless it was asked for as it is.
    pub address: Option<String>,
}

impl std::fmt::Debug for UnreachedRow {
    /// Never the name, never the address.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UnreachedRow")
            .field("ordinal", &self.ordinal)
            .field("recipient_no", &self.recipient_no)
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

#[derive(sqlx::FromRow)]
struct Found {
    ordinal: i64,
    recipient_no: i64,
    household_no: Option<i64>,
    region_no: i64,
    away: i32,
    bits: i32,
    name_sealed: Option<Vec<u8>>,
    channel: Option<String>,
    address_id: Option<i64>,
    address_sealed: Option<Vec<u8>>,
}

impl Store {
    /// The next `limit` unreached members after `after_ordinal` (0 to begin), by
    /// ordinal. An empty page is the end.
    ///
    /// # Errors
    /// When there is no such dispatch, what is sealed does not open, or the
    /// database fails.
    pub async fn unreached(
        &self,
        dispatch_no: i64,
        kinds: &ChannelKinds,
        after_ordinal: i64,
        limit: i64,
    ) -> Result<Vec<UnreachedRow>> {
        let mut rows = self.unreached_revealed(dispatch_no, kinds, after_ordinal, limit).await?;
        for row in &mut rows {
            row.address = row.address.as_deref().map(mask);
        }
        Ok(rows)
    }

    /// [`Store::unreached`] with the addresses as they are. Whoever calls this has
    /// checked the right to it and writes it into the audit log.
    ///
    /// # Errors
    /// As there.
    pub async fn unreached_revealed(
        &self,
        dispatch_no: i64,
        kinds: &ChannelKinds,
        after_ordinal: i64,
        limit: i64,
    ) -> Result<Vec<UnreachedRow>> {
        let mut tx = self.snapshot().await?;
        let effective_at = head(&mut tx, dispatch_no).await?.effective_at;
        let sql = page(&Wording::new(kinds, effective_at));
        let found: Vec<Found> = run!(&mut tx, |c| sqlx::query_as(AssertSqlSafe(sql))
            .bind(dispatch_no)
            .bind(after_ordinal)
            .bind(limit)
            .fetch_all(c)
            .await)?;
        let regions: BTreeSet<i64> = found.iter().map(|f| f.region_no).collect();
        let tree = region_tree(&mut tx, &regions.into_iter().collect::<Vec<_>>()).await?;
        found.into_iter().map(|f| self.open_row(f, &tree)).collect()
    }

    fn open_row(&self, found: Found, tree: &Tree) -> Result<UnreachedRow> {
        let open = |owner, sealed: &Option<Vec<u8>>| {
            sealed.as_ref().map(|sealed| self.vault.open_text(owner, sealed)).transpose()
        };
        let reason = Facts { bits: found.bits, away: found.away != 0 }
            .unreached()
            .ok_or_else(|| StoreError::Damaged(format!("members.ordinal = {}", found.ordinal)))?;
        let address = open(Owner::Address(found.address_id.unwrap_or_default()), &found.address_sealed)?;
        Ok(UnreachedRow {
            ordinal: found.ordinal,
            recipient_no: found.recipient_no,
            name: open(Owner::Recipient(found.recipient_no), &found.name_sealed)?,
            region: tree.path(found.region_no),
            household_no: found.household_no,
            away: found.away != 0,
            reason,
            channel: found.channel,
            address,
        })
    }
}

/// One page. The bits are a scalar subquery, so that both engines walk the members
/// by ordinal and stop at the limit instead of joining everything for each page.
fn page(wording: &Wording) -> String {
    let (bits, electronic) = (wording.bits(), wording.electronic());
    format!(
        "SELECT m.ordinal, m.recipient_no, m.household_no, m.region_no, m.away, m.bits, r.name_sealed,
                c.name AS channel, a.id AS address_id, a.sealed AS address_sealed
         FROM (SELECT * FROM (
                   SELECT m.ordinal, m.recipient_no, m.household_no, m.region_no, m.away, COALESCE((
                       SELECT {bits} FROM delivery_members dm
                       JOIN deliveries d ON d.dispatch_no = dm.dispatch_no AND d.ordinal = dm.delivery
                       WHERE dm.dispatch_no = m.dispatch_no AND dm.member = m.ordinal), 0) AS bits
                   FROM members m WHERE m.dispatch_no = $1 AND m.ordinal > $2
               ) every WHERE (every.bits & {INFORMED}) = 0 ORDER BY every.ordinal LIMIT $3) m
         LEFT JOIN recipients r ON r.no = m.recipient_no
         LEFT JOIN deliveries d ON d.dispatch_no = $1 AND d.ordinal = (
             SELECT l.ordinal FROM delivery_members lm
             JOIN deliveries l ON l.dispatch_no = lm.dispatch_no AND l.ordinal = lm.delivery
             WHERE lm.dispatch_no = $1 AND lm.member = m.ordinal
             ORDER BY COALESCE(l.handed_at, 0) DESC, l.step DESC, l.ordinal DESC LIMIT 1)
         LEFT JOIN channels c ON c.no = d.channel
         LEFT JOIN addresses a ON a.id = d.target AND {electronic}
         ORDER BY m.ordinal"
    )
}

/// Keeps enough to recognise an address and too little to use it: the first three
/// and last four characters of a number, the first one and the host of a mailbox.
fn mask(address: &str) -> String {
    if let Some((name, host)) = address.split_once('@') {
        let first: String = name.chars().take(1).collect();
        return format!("{first}***@{host}");
    }
    let chars: Vec<char> = address.chars().collect();
    if chars.len() < 8 {
        return "*".repeat(chars.len());
    }
    let (head, tail) = (&chars[..3], &chars[chars.len() - 4..]);
    head.iter().chain(&['*'; 4]).chain(tail).collect()
}

#[cfg(test)]
mod tests {
    use super::super::oracle::{LINKS, MEMBERS, insert, new_dispatch};
    use super::*;
    use crate::domain::reach::ChannelKind;
    use crate::store::testing::{NOON, stores};

    #[test]
    fn masks_keep_little() {
        assert_eq!(mask("13900001234"), "139****1234"); // made up
        assert_eq!(mask("zhangsan@example.com"), "z***@example.com");
        assert_eq!(mask("1234567"), "*******");
    }

    /// Two people; the first was reached, the second tried by mail, then by text.
    async fn two_people(store: &Store) -> Result<()> {
        let mut tx = store.begin().await?;
        new_dispatch(&mut tx, 1, NOON, None).await;
        insert(&mut tx, "channels (no, name)", &["1, 'sms'".into(), "2, 'mail'".into()]).await;
        insert(&mut tx, "regions (no, name, level)", &["1, '河口县', 'county'".into()]).await;
        insert(&mut tx, "regions (no, name, level, parent_no)", &["2, '东村', 'village', 1".into()]).await;
        let closure = ["1, 1".into(), "1, 2".into(), "2, 2".into()];
        insert(&mut tx, "region_closure (ancestor, descendant)", &closure).await;
        let members = ["1, 5, 11, NULL, 2, 0, ''".into(), "1, 9, 12, 30, 2, 1, ''".into()];
        insert(&mut tx, MEMBERS, &members).await;
        let columns = "deliveries (dispatch_no, ordinal, step, channel, target, variant, state, batch, handed_at)";
        let deliveries = [
            "1, 1, 0, 1, 21, 0, 4, 0, 5".into(),
            "1, 2, 0, 2, 22, 0, 3, 0, 6".into(),
            "1, 3, 1, 1, 23, 0, 3, 0, 7".into(),
        ];
        insert(&mut tx, columns, &deliveries).await;
        let links = ["1, 5, 1, 1".into(), "1, 9, 2, 1".into(), "1, 9, 3, 2".into()];
        insert(&mut tx, LINKS, &links).await;
        let name = store.vault.seal(Owner::Recipient(12), "张三".as_bytes());
        let sql = "INSERT INTO recipients (no, kind, counted, region_no, updated_at, name_sealed) VALUES (12, 1, 1, 2, 0, $1)";
        exec!(&mut tx, sqlx::query(sql).bind(name))?;
        let phone = store.vault.seal(Owner::Address(23), b"13900001234");
        let sql = "INSERT INTO addresses (id, kind, hash, sealed) VALUES (23, 1, $1, $2)";
        exec!(&mut tx, sqlx::query(sql).bind(store.vault.hash("phone", "13900001234")).bind(phone))?;
        tx.commit().await
    }

    #[tokio::test]
    async fn a_row_says_who_where_and_what_was_tried_last() {
        for t in stores().await {
            two_people(&t.store).await.unwrap();
            let receipts = |receipts| ChannelKind::Electronic { receipts, price_milli: 0 };
            let kinds = ChannelKinds::from([(1, receipts(true)), (2, receipts(false))]);
            let rows = t.store.unreached(1, &kinds, 0, 10).await.unwrap();
            let expected = UnreachedRow {
                ordinal: 9,
                recipient_no: 12,
                name: Some("张三".into()),
                region: "河口县/东村".into(),
                household_no: Some(30),
                away: true,
                reason: Unreached::NoWord,
                channel: Some("sms".into()),
                address: Some("139****1234".into()),
            };
            assert!(rows == [expected], "{} {rows:?}", t.engine);
            assert!(!format!("{rows:?}").contains("张三"));
            let open = t.store.unreached_revealed(1, &kinds, 0, 10).await.unwrap();
            assert_eq!(open[0].address.as_deref(), Some("13900001234"), "{}", t.engine);
            assert!(!format!("{open:?}").contains("1234"));
            assert_eq!(t.store.unreached(1, &kinds, 9, 10).await.unwrap(), []);
            assert!(matches!(t.store.unreached(2, &kinds, 0, 10).await, Err(StoreError::Refused(_))));
        }
    }

    #[tokio::test]
    async fn after_a_purge_the_kept_report_stands() {
        for t in stores().await {
            two_people(&t.store).await.unwrap();
            let kinds = ChannelKinds::new();
            let before = t.store.reach(1, &kinds, NOON).await.unwrap();
            let mut tx = t.store.begin().await.unwrap();
            let sql = "UPDATE dispatches SET reach = $1, purged_at = $2 WHERE no = 1";
            let kept = serde_json::to_string(&before).unwrap();
            exec!(&mut tx, sqlx::query(sql).bind(kept).bind(NOON)).unwrap();
            exec!(&mut tx, sqlx::query("DELETE FROM members")).unwrap();
            tx.commit().await.unwrap();
            assert_eq!(t.store.reach(1, &kinds, NOON + 1).await.unwrap(), before, "{}", t.engine);
            assert_eq!(before.people.audience, 2);
        }
    }
}
