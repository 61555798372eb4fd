//! Receipts as one parameter: JSON for the embedded engine, arrays for a server.

use crate::clock::Millis;
use crate::store::bulk::Rows;
use crate::store::{Pool, Result, Tx};

/// What is kept of a receipt.
pub struct KeptReceipt {
    pub no: i64,
    pub gateway_id: String,
    /// A delivery's state, or -1 for a word that says nothing of it.
    pub state: i32,
    pub code: String,
    pub event_at: Option<Millis>,
    /// Dispatch, ordinal and attempt, where they are known.
    pub to: Option<(i64, i64, i32)>,
    pub raw_sealed: Option<Vec<u8>>,
}

/// Rows that are ready to be bound.
pub enum ReceiptRows {
    Json(String),
    Arrays(Vec<KeptReceipt>),
}

/// Arrays: number, gateway's id, state, code, time, dispatch, ordinal, attempt, raw.
pub(in crate::store) const KEEP: &str = "INSERT INTO receipts (no, channel, received_at, gateway_id, state, code, event_at, \
     dispatch_no, ordinal, attempt, raw_sealed) SELECT unnest($3::bigint[]), $1, $2, unnest($4::text[]), unnest($5::int[]), unnest($6::text[]), \
     unnest($7::bigint[]), unnest($8::bigint[]), unnest($9::bigint[]), unnest($10::int[]), unnest($11::bytea[])";

impl ReceiptRows {
    pub(in crate::store) fn new(pool: &Pool, rows: Vec<KeptReceipt>) -> Self {
        if let Pool::Postgres(..) = pool {
            return Self::Arrays(rows);
        }
        let cells = rows.iter().map(|r| {
            [
                r.no.into(),
                r.gateway_id.as_str().into(),
                r.state.into(),
                r.code.as_str().into(),
                r.event_at.into(),
                r.to.map(|t| t.0).into(),
                r.to.map(|t| t.1).into(),
                r.to.map(|t| t.2).into(),
                r.raw_sealed.as_deref().into(),
            ]
        });
        Self::Json(cells.collect::<Rows>().into_json())
    }
}

impl Tx {
    /// Writes receipts that came over a channel.
    pub(in crate::store) async fn keep_receipts(&mut self, channel: i32, at: Millis, rows: &ReceiptRows) -> Result<()> {
        match (self, rows) {
            (Self::Postgres(t), ReceiptRows::Arrays(rows)) => {
                let of =
                    |at: fn(&(i64, i64, i32)) -> i64| rows.iter().map(|r| r.to.as_ref().map(at)).collect::<Vec<_>>();
                sqlx::query(KEEP)
                    .bind(channel)
                    .bind(at)
                    .bind(rows.iter().map(|r| r.no).collect::<Vec<_>>())
                    .bind(rows.iter().map(|r| r.gateway_id.as_str()).collect::<Vec<_>>())
                    .bind(rows.iter().map(|r| r.state).collect::<Vec<_>>())
                    .bind(rows.iter().map(|r| r.code.as_str()).collect::<Vec<_>>())
                    .bind(rows.iter().map(|r| r.event_at).collect::<Vec<_>>())
                    .bind(of(|t| t.0))
                    .bind(of(|t| t.1))
                    .bind(rows.iter().map(|r| r.to.map(|t| t.2)).collect::<Vec<_>>())
                    .bind(rows.iter().map(|r| r.raw_sealed.as_deref()).collect::<Vec<_>>())
                    .execute(&mut **t)
                    .await?;
            }
            (tx, ReceiptRows::Json(rows)) => {
                let sql = "INSERT INTO receipts (no, channel, received_at, gateway_id, state, code, event_at, dispatch_no, ordinal, attempt, raw_sealed) \
                     SELECT value->>0, $1, $2, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7, unhex(value->>8) FROM json_each($3)";
                exec!(tx, sqlx::query(sql).bind(channel).bind(at).bind(rows))?;
            }
            (Self::Sqlite(_), ReceiptRows::Arrays(_)) => {}
        }
        Ok(())
    }
}
