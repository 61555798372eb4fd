//! The ids by which a gateway will speak of what it took, kept for its receipts.
//!
//! On a server they are written beside the turn that they belong to, which costs nearly as
//! much as all the rest of it, and committed just before it. A crash between the two does
//! no harm: that the gateway named a message is evidence that it took it. Nor does it to
//! enter an id again when a turn is repeated: to look for it first would cost a third more.

use std::borrow::Cow;

use serde_json::json;

use super::BatchTurn;
use crate::store::lent::Lent;
use crate::store::receipts::storable;
use crate::store::{Result, Tx};

const SQLITE: &str = "INSERT INTO handles (channel, gateway_id, dispatch_no, ordinal, attempt, part, parts) \
     SELECT $1, value->>0, value->>1, value->>2, value->>3, value->>4, value->>5 FROM json_each($2) WHERE true ON CONFLICT DO NOTHING";
/// Arrays: the server reads a row's JSON anew for each of its columns. Taken apart as
/// columns, and not in FROM, they are not laid down in between.
const POSTGRES: &str = "INSERT INTO handles (channel, gateway_id, dispatch_no, ordinal, attempt, part, parts) \
     SELECT $1, unnest($2::text[]), unnest($3::bigint[]), unnest($4::bigint[]), unnest($5::int[]), unnest($6::int[]), unnest($7::int[])";

/// The disk is waited for by the commit of the turn, which comes later in the same log.
const BESIDE: &str = "BEGIN; SET LOCAL synchronous_commit = off; SET LOCAL lock_timeout = '12s'";

/// What the gateway called the messages of a turn, column by column.
#[derive(Default)]
pub(super) struct Handles<'a> {
    pub ids: Vec<Cow<'a, str>>,
    dispatches: Vec<i64>,
    ordinals: Vec<i64>,
    attempts: Vec<i32>,
    parts: Vec<i32>,
    of: Vec<i32>,
}

impl<'a> Handles<'a> {
    pub fn of(turns: &'a [BatchTurn]) -> Self {
        let mut all = Self::default();
        for (turn, record) in turns.iter().flat_map(|t| t.records.iter().map(move |r| (t, r))) {
            let of = i32::try_from(record.handles.len()).unwrap_or(i32::MAX);
            for (part, id) in (1..).zip(&record.handles) {
                all.ids.push(storable(id));
                all.dispatches.push(turn.lease.dispatch_no);
                all.ordinals.push(record.ordinal);
                all.attempts.push(record.attempt);
                all.parts.push(part);
                all.of.push(of);
            }
        }
        all
    }

    fn json(&self) -> String {
        let row = |i: usize| {
            (&self.ids[i], self.dispatches[i], self.ordinals[i], self.attempts[i], self.parts[i], self.of[i])
        };
        json!((0..self.ids.len()).map(row).collect::<Vec<_>>()).to_string()
    }

    /// Writes them on a connection that was free, if one was; they are there once that is
    /// committed.
    pub async fn keep_beside(&self, channel: i32, free: Option<Lent>) -> Result<Option<Lent>> {
        let Some(free) = free else { return Ok(None) };
        let mut open = free.in_transaction(BESIDE).await?;
        self.keep(channel, &mut open).await?;
        Ok(Some(open))
    }

    async fn keep(&self, channel: i32, server: &mut Lent) -> sqlx::Result<()> {
        let query = sqlx::query(POSTGRES).bind(channel).bind(&self.ids).bind(&self.dispatches).bind(&self.ordinals);
        query.bind(&self.attempts).bind(&self.parts).bind(&self.of).execute(&mut **server).await?;
        Ok(())
    }
}

impl Tx {
    pub(super) async fn keep_handles(&mut self, channel: i32, handles: &Handles<'_>) -> Result<()> {
        if handles.ids.is_empty() {
            return Ok(());
        }
        if let Self::Postgres(server) = self {
            return Ok(handles.keep(channel, server).await?);
        }
        exec!(self, sqlx::query(SQLITE).bind(channel).bind(handles.json()))?;
        Ok(())
    }
}
