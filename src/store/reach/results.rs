//! What came of a dispatch for each member, page by page, and the rows of the list it
//! was sent by: an officer's table goes out again with a status a row.

use std::collections::HashMap;

use futures_util::TryStreamExt as _;

use super::super::bulk::{Col, Rows};
use super::sql::Wording;
use super::{ChannelKinds, Result, Store, head, state};
use crate::channel::AddressKind;
use crate::clock::Millis;
use crate::domain::delivery::{Reason, State};
use crate::domain::reach::facts::Facts;
use crate::vault::Owner;

/// One row to be: sixteen bytes each, so that the order of a whole list fits in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Standing {
    /// Its row in the list's file, or the member's ordinal where there is no list.
    pub row_no: i64,
    pub recipient_no: i64,
}

/// What came of a dispatch for one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub facts: Facts,
    /// The delivery that says most: the first that arrived, else the last one tried.
    pub channel: Option<String>,
    pub state: Option<State>,
    pub reason: Option<Reason>,
    pub handed_at: Option<Millis>,
    pub reached_at: Option<Millis>,
    /// Where a visit to the member's household stands.
    pub visit: Option<State>,
}

/// Who a recipient is, opened. It has no `Debug`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct NameCard {
    pub name: String,
    /// Of the kind asked for: its own, else the household's; empty without.
    pub address: String,
    pub region_no: i64,
}

/// Number, region, sealed name, address and its number.
type Card = (i64, i64, Option<Vec<u8>>, Option<i64>, Option<Vec<u8>>);

#[derive(sqlx::FromRow)]
struct Found {
    recipient_no: i64,
    away: i32,
    bits: i32,
    visit: Option<i32>,
    channel: Option<String>,
    state: Option<i32>,
    reason: Option<i32>,
    handed_at: Option<i64>,
    reached_at: Option<i64>,
}

impl Store {
    /// The rows of a list in the order of its file.
    pub async fn list_order(&self, list_no: i64) -> Result<Vec<Standing>> {
        let sql = "SELECT row_no, recipient_no FROM list_rows WHERE list_no = $1";
        let mut all = self.standings(sql, list_no).await?;
        all.sort_unstable();
        Ok(all)
    }

    /// The members of a dispatch in their order; `row_no` is the ordinal.
    pub async fn member_order(&self, dispatch_no: i64) -> Result<Vec<Standing>> {
        self.standings("SELECT ordinal, recipient_no FROM members WHERE dispatch_no = $1 ORDER BY ordinal", dispatch_no)
            .await
    }

    async fn standings(&self, sql: &'static str, no: i64) -> Result<Vec<Standing>> {
        let mut all = Vec::new();
        read!(self, |db| {
            let mut rows = sqlx::query_as::<_, (i64, i64)>(sql).bind(no).fetch(db);
            while let Some((row_no, recipient_no)) = rows.try_next().await? {
                all.push(Standing { row_no, recipient_no });
            }
            Ok(all)
        })
    }

    /// What came of a dispatch for the members with these ordinals, by recipient.
    ///
    /// # Errors
    /// When there is no such dispatch, a state is unknown, or the database fails.
    pub async fn outcomes(
        &self,
        dispatch_no: i64,
        kinds: &ChannelKinds,
        ordinals: &[i64],
    ) -> Result<HashMap<i64, Outcome>> {
        let mut tx = self.snapshot().await?;
        let effective_at = head(&mut tx, dispatch_no).await?.effective_at;
        let source = tx.source(&[Col::Int("ordinal")]);
        let sql = outcomes_sql(&Wording::new(kinds, effective_at), dispatch_no, &source);
        let found = bulk_read!(&mut tx, Found, sql, Rows::column(ordinals.iter().copied()))?;
        found.into_iter().map(|f| Ok((f.recipient_no, f.outcome()?))).collect()
    }

    /// The variables of rows of a list (JSON objects), by recipient.
    ///
    /// # Errors
    /// When the database fails or a row does not open with this key.
    pub async fn list_vars(
        &self,
        list_no: i64,
        recipients: &[i64],
    ) -> Result<HashMap<i64, serde_json::Map<String, serde_json::Value>>> {
        let mut tx = self.snapshot().await?;
        let source = tx.source(&[Col::Int("no")]);
        let sql = format!(
            "SELECT l.recipient_no, l.vars_sealed FROM {source} CROSS JOIN list_rows l WHERE l.list_no = {list_no} AND l.recipient_no = src.no"
        );
        let found = bulk_read!(&mut tx, (i64, Vec<u8>), sql, Rows::column(recipients.iter().copied()))?;
        let open = |(no, sealed): (i64, Vec<u8>)| {
            let json = self.vault.open_sealed(Owner::ListRow(list_no, no), &sealed)?;
            Ok((no, serde_json::from_slice(&json).unwrap_or_default()))
        };
        found.into_iter().map(open).collect()
    }

    /// Names, first addresses of a kind and regions of recipients, opened, by recipient.
    ///
    /// # Errors
    /// When the database fails or something does not open with this key.
    pub async fn name_cards(&self, recipients: &[i64], kind: AddressKind) -> Result<HashMap<i64, NameCard>> {
        let mut tx = self.snapshot().await?;
        let source = tx.source(&[Col::Int("no")]);
        let first = |owner: &str| {
            format!(
                "(SELECT ra.address_id FROM recipient_addresses ra WHERE ra.recipient_no = {owner} AND ra.kind = {} \
                 ORDER BY ra.priority LIMIT 1)",
                kind as i32
            )
        };
        let sql = format!(
            "SELECT r.no, r.region_no, r.name_sealed, a.id, a.sealed FROM {source} CROSS JOIN recipients r \
             LEFT JOIN addresses a ON a.id = COALESCE({}, {}) WHERE r.no = src.no",
            first("r.no"),
            first("r.household_no")
        );
        let found = bulk_read!(&mut tx, Card, sql, Rows::column(recipients.iter().copied()))?;
        let open = |(no, region_no, name, id, sealed): Card| {
            let name = name.map(|n| self.vault.open_text(Owner::Recipient(no), &n)).transpose()?.unwrap_or_default();
            let address = match (id, sealed) {
                (Some(id), Some(sealed)) => self.vault.open_text(Owner::Address(id), &sealed)?,
                _ => String::new(),
            };
            Ok((no, NameCard { name, address, region_no }))
        };
        found.into_iter().map(open).collect()
    }
}

impl Found {
    fn outcome(&self) -> Result<Outcome> {
        Ok(Outcome {
            facts: Facts { bits: self.bits, away: self.away != 0 },
            channel: self.channel.clone(),
            state: self.state.map(state).transpose()?,
            reason: self.reason.and_then(Reason::from_code),
            handed_at: self.handed_at,
            reached_at: self.reached_at,
            visit: self.visit.map(state).transpose()?,
        })
    }
}

/// The bits and the telling delivery of each member, by look-ups from the member on.
fn outcomes_sql(wording: &Wording, no: i64, source: &str) -> String {
    let of = "FROM delivery_members dm JOIN deliveries d ON d.dispatch_no = dm.dispatch_no AND d.ordinal = dm.delivery \
              WHERE dm.dispatch_no = m.dispatch_no AND dm.member = m.ordinal";
    let (bits, visit, electronic) = (wording.bits(), wording.visit(), wording.electronic());
    format!(
        "SELECT m.recipient_no, m.away, COALESCE((SELECT {bits} {of}), 0) AS bits,
                (SELECT d.state {of} AND {visit} ORDER BY d.ordinal DESC LIMIT 1) AS visit,
                c.name AS channel, t.state, t.reason, t.handed_at, t.reached_at
         FROM {source} CROSS JOIN members m
         LEFT JOIN deliveries t ON t.dispatch_no = m.dispatch_no AND t.ordinal = (SELECT d.ordinal {of}
             ORDER BY CASE WHEN d.reached_at IS NULL THEN 1 ELSE 0 END, d.reached_at,
                      CASE WHEN {electronic} THEN 0 ELSE 1 END, COALESCE(d.handed_at, 0) DESC, d.step DESC, d.ordinal DESC LIMIT 1)
         LEFT JOIN channels c ON c.no = t.channel
         WHERE m.dispatch_no = {no} AND m.ordinal = src.ordinal"
    )
}
