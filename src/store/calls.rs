//! Calls of duty officers (叫应): made, planned step by step, confirmed. A call is a
//! dispatch of its own without members; its deliveries' variant is the village.

mod confirmed;
mod villages;

pub use confirmed::{Confirming, OpenCall, Question};

use super::bulk::{Cell, Col, Rows};
use super::dispatches::{Dispatch, Mode, NewDispatch, Progress};
use super::snapshot::{Chunk, Chunking};
use super::{Result, Store, StoreError, Tx};
use crate::domain::calls::Ask;
use crate::domain::item::Lane;
use crate::domain::plan::Plan;
use crate::say;
use crate::store::batches::Lease;

impl Store {
    /// Records a call to the duty officers of the villages that `about` goes to.
    ///
    /// # Errors
    /// When `about` is no live or drill dispatch or is over, or the database fails.
    pub async fn create_call(&self, about: &Dispatch, plan: Plan, operator: &str) -> Result<Dispatch> {
        let no = about.no;
        if !matches!(about.mode, Mode::Live | Mode::Drill) {
            return Err(StoreError::Refused(say!(
                "发布任务 {no} 不是正式发布或演练，没有可叫应的村",
                "dispatch {no} is neither live nor a drill; it has no villages to call"
            )));
        }
        if about.state == "cancelled" || about.expires_at <= self.now() {
            return Err(StoreError::Refused(say!(
                "发布任务 {no} 已取消或已过有效期，不再叫应",
                "dispatch {no} is cancelled or has expired; nobody is called about it any more"
            )));
        }
        let new = NewDispatch {
            item_id: about.item_id.clone(),
            item_version: about.item_version,
            audience: format!("call:{no}"),
            canonical: format!("call:{no}"),
            mode: Mode::Call,
            lane: Lane::Call.number(),
            lane_reason: String::new(),
            plan,
            list_no: None,
            parent_no: Some(no),
            expected: "{}".to_owned(),
            created_by: operator.to_owned(),
            expires_at: about.expires_at,
            effective_at: about.effective_at,
        };
        let mut tx = self.begin().await?;
        let (_, id) = tx.insert_dispatch(&new, self.now()).await?;
        tx.commit().await?;
        self.dispatch(&id).await
    }

    /// The dispatch a call is about; a dispatch that is no call is its own.
    ///
    /// # Errors
    /// When the call has lost its dispatch, or the database fails.
    pub async fn called_about(&self, dispatch: &Dispatch) -> Result<Dispatch> {
        if dispatch.mode != Mode::Call {
            return Ok(dispatch.clone());
        }
        let sql = "SELECT parent_no FROM dispatches WHERE no = $1";
        let parent: Option<i64> = read!(self, |db| sqlx::query_scalar(sql).bind(dispatch.no).fetch_one(db).await)?;
        let parent = parent.ok_or_else(|| StoreError::Damaged(format!("call {} is about nothing", dispatch.no)))?;
        self.dispatch(&parent.to_string()).await
    }

    /// The calls about a dispatch, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn calls_about(&self, about_no: i64) -> Result<Vec<Dispatch>> {
        let sql = "SELECT no FROM dispatches WHERE parent_no = $1 AND mode = 'call' ORDER BY no";
        let numbers: Vec<i64> = read!(self, |db| sqlx::query_scalar(sql).bind(about_no).fetch_all(db).await)?;
        let mut calls = Vec::with_capacity(numbers.len());
        for no in numbers {
            calls.push(self.dispatch(&no.to_string()).await?);
        }
        Ok(calls)
    }

    /// Whether anybody is registered to be called.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn has_officers(&self) -> Result<bool> {
        let sql = "SELECT COUNT(*) FROM (SELECT 1 FROM duty_officers LIMIT 1) AS any_row";
        let found: i64 = read!(self, |db| sqlx::query_scalar(sql).fetch_one(db).await)?;
        Ok(found > 0)
    }

    /// Writes one step of a call: a delivery for each question whose village nobody has
    /// confirmed meanwhile.
    ///
    /// # Errors
    /// When the database fails; then nothing of it happened.
    pub async fn call_step(&self, job: &Chunking<'_>, step: i32, asks: &[Ask]) -> Result<Chunk> {
        let call = job.dispatch;
        let mut tx = self.begin().await?;
        let mut deliveries = 0;
        if let Some(channel) = job.channels.first().filter(|_| !asks.is_empty()) {
            tx.choose_officers(call.no, asks).await?;
            deliveries = tx.add_deliveries(job, *channel, step, call.deliveries).await?;
        }
        let to = Progress {
            no: call.no,
            was: call,
            from: if call.phase == "snapshot" { "snapshot" } else { "plan" },
            phase: if job.next_step_at.is_some() { "waiting" } else { "done" },
            step,
            cursor_no: 0,
            members: 0,
            deliveries,
            step_due_at: job.next_step_at,
        };
        tx.close_chunk(&to, Chunk { members: 0, deliveries, done: true }).await
    }

    /// The villages that the deliveries of a leased batch of a call ask about:
    /// (ordinal, town and village).
    ///
    /// # Errors
    /// When the database fails.
    pub async fn call_places(&self, lease: Lease) -> Result<Vec<(i64, String)>> {
        let sql = "SELECT d.ordinal, CASE WHEN p.level = 'town' THEN p.name || r.name ELSE r.name END FROM deliveries d \
                   JOIN regions r ON r.no = d.variant LEFT JOIN regions p ON p.no = r.parent_no \
                   WHERE d.batch = $1 AND d.batch > 0 AND d.state = 1";
        Ok(read!(self, |db| sqlx::query_as(sql).bind(lease.no).fetch_all(db).await)?)
    }
}

impl Tx {
    /// Fills `chosen` with officers' phones; what stands in `member` links nobody.
    async fn choose_officers(&mut self, call_no: i64, asks: &[Ask]) -> Result<()> {
        self.clear_chosen().await?;
        let mut rows = Rows::default();
        for (place, ask) in (1_i64..).zip(asks) {
            rows.push(&[Cell::Int(place), ask.phone_id.into(), ask.region_no.into()]);
        }
        let source = self.source(&[Col::Int("place"), Col::Int("phone_id"), Col::Int("region_no")]);
        let sql = format!(
            "INSERT INTO chosen (member, target, via, variant) SELECT place, phone_id, 1, region_no FROM {source} \
             WHERE NOT EXISTS (SELECT 1 FROM confirmations c JOIN dispatches p ON p.parent_no = c.dispatch_no \
             WHERE p.no = {call_no} AND c.region_no = src.region_no)"
        );
        self.bulk(sql, rows).await?;
        Ok(())
    }
}
