//! Who does not want to hear, by address and item kind.

use super::bulk::{Cell, Col, Rows};
use super::{Result, Store};
use crate::channel::AddressKind;
use crate::domain::recipient::purpose;

/// The item kind that stands for every kind that may be refused.
pub const EVERY_KIND: &str = "*";

/// One refusal: an address in its one form, and the kind of item (or [`EVERY_KIND`]).
#[derive(Clone, PartialEq, Eq)]
pub struct OptOut {
    pub kind: AddressKind,
    pub value: String,
    pub item_kind: String,
}

impl Store {
    /// Records refusals; returns how many are new.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn add_opt_outs(&self, all: &[OptOut]) -> Result<u64> {
        let mut tx = self.begin().await?;
        let now = self.now();
        let source = tx.source(&COLUMNS);
        let sql = format!(
            "INSERT INTO opt_outs (kind, hash, item_kind, at) SELECT kind, hash, item_kind, {now} FROM {source} \
             WHERE TRUE ON CONFLICT DO NOTHING"
        );
        let added = tx.bulk(sql, self.opt_out_rows(all)).await?;
        tx.commit().await?;
        Ok(added)
    }

    /// Takes refusals back; returns how many there were.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn remove_opt_outs(&self, all: &[OptOut]) -> Result<u64> {
        let mut tx = self.begin().await?;
        let source = tx.source(&COLUMNS);
        let sql = format!(
            "DELETE FROM opt_outs WHERE (kind, hash, item_kind) IN (SELECT kind, hash, item_kind FROM {source})"
        );
        let removed = tx.bulk(sql, self.opt_out_rows(all)).await?;
        tx.commit().await?;
        Ok(removed)
    }

    fn opt_out_rows(&self, all: &[OptOut]) -> Rows {
        let mut rows = Rows::default();
        for out in all {
            let purpose = match out.kind {
                AddressKind::Phone => purpose::PHONE,
                AddressKind::Email => purpose::EMAIL,
            };
            let hash = self.vault.hash(purpose, &out.value);
            rows.push(&[Cell::from(out.kind as i32), Cell::Bytes(&hash), out.item_kind.as_str().into()]);
        }
        rows
    }
}

const COLUMNS: [Col; 3] = [Col::Int("kind"), Col::Bytes("hash"), Col::Text("item_kind")];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::stores;

    #[tokio::test]
    async fn opt_outs_come_and_go() {
        for t in stores().await {
            let out = |value: &str, item_kind: &str| OptOut {
                kind: AddressKind::Phone,
                value: value.into(),
                item_kind: item_kind.into(),
            };
            let both = [out("13900000000", EVERY_KIND), out("13900000001", "policy")];
            assert_eq!(t.store.add_opt_outs(&both).await.unwrap(), 2, "{}", t.engine);
            assert_eq!(t.store.add_opt_outs(&both).await.unwrap(), 0, "{}", t.engine);
            assert_eq!(t.store.remove_opt_outs(&[out("13900000001", "alert")]).await.unwrap(), 0);
            assert_eq!(t.store.remove_opt_outs(&both).await.unwrap(), 2, "{}", t.engine);
        }
    }
}
