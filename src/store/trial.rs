//! A trial of a text: a dispatch to the operator's own addresses, and to nobody else.

use std::collections::BTreeMap;

use super::dispatches::{Dispatch, NewDispatch};
use super::{Result, Store, Tx};
use crate::channel::AddressKind;
use crate::domain::recipient::purpose;
use crate::vault::Owner;

/// One message of a trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrialTarget {
    pub channel: i32,
    pub kind: AddressKind,
    /// As stored: a phone number in national form, an e-mail address.
    pub address: String,
}

impl Store {
    /// Records a dispatch to the operator's own addresses: deliveries without members,
    /// a batch a channel, nothing else to plan.
    ///
    /// # Errors
    /// When the item's version is not approved, or the database fails.
    pub async fn create_test_dispatch(&self, new: &NewDispatch, targets: &[TrialTarget]) -> Result<Dispatch> {
        let mut tx = self.begin().await?;
        let (no, id) = tx.insert_dispatch(new, self.now()).await?;
        let mut channels: BTreeMap<i32, Vec<&TrialTarget>> = BTreeMap::new();
        for target in targets {
            channels.entry(target.channel).or_default().push(target);
        }
        let mut ordinal = 0_i64;
        for (channel, targets) in channels {
            let n = i64::try_from(targets.len()).unwrap_or(i64::MAX);
            let batch = tx.add_batch(no, channel, new.lane, n).await?;
            for target in targets {
                ordinal += 1;
                let address = tx.keep_address(self, target).await?;
                let sql = "INSERT INTO deliveries (dispatch_no, ordinal, step, channel, target, variant, state, batch) \
                           VALUES ($1, $2, 0, $3, $4, 0, 1, $5) ON CONFLICT DO NOTHING";
                exec!(&mut tx, sqlx::query(sql).bind(no).bind(ordinal).bind(channel).bind(address).bind(batch))?;
            }
        }
        let sql = "UPDATE dispatches SET phase = 'done', deliveries = (SELECT COUNT(*) FROM deliveries WHERE dispatch_no = $1) WHERE no = $1";
        exec!(&mut tx, sqlx::query(sql).bind(no))?;
        tx.commit().await?;
        self.dispatch(&id).await
    }
}

impl Tx {
    /// The id of an address, which is kept if it is new.
    async fn keep_address(&mut self, store: &Store, target: &TrialTarget) -> Result<i64> {
        let purpose = match target.kind {
            AddressKind::Phone => purpose::PHONE,
            AddressKind::Email => purpose::EMAIL,
        };
        let (kind, hash) = (target.kind as i32, store.vault.hash(purpose, &target.address));
        let known: Option<i64> =
            run!(self, |c| sqlx::query_scalar("SELECT id FROM addresses WHERE kind = $1 AND hash = $2")
                .bind(kind)
                .bind(&hash)
                .fetch_optional(c)
                .await)?;
        if let Some(id) = known {
            return Ok(id);
        }
        let id = self.take_numbers("address", 1).await?;
        let sealed = store.vault.seal(Owner::Address(id), target.address.as_bytes());
        let sql = "INSERT INTO addresses (id, kind, hash, sealed) VALUES ($1, $2, $3, $4)";
        exec!(self, sqlx::query(sql).bind(id).bind(kind).bind(&hash).bind(&sealed))?;
        Ok(id)
    }
}
