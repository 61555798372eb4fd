//! What subscribers are told: how dispatches stood when they were last told of, and the
//! events that the broker has not confirmed yet.
//!
//! Nobody on the way of a message writes here. Whoever tells looks at the dispatches,
//! compares, and writes events and marks in one transaction.

use super::bulk::{Col, Rows};
use super::{Result, Store, StoreError};
use crate::clock::Millis;
use crate::domain::event::{Event, Mark, Standing};

/// A dispatch of which something may be told.
#[derive(Debug, Clone)]
pub struct Watched {
    pub now: Standing,
    pub mark: Mark,
    version: i64,
}

/// An event on its way.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Pending {
    pub no: i64,
    /// Of the message; it stays when the message is published again.
    pub id: String,
    pub topic: String,
    pub body: String,
}

#[derive(sqlx::FromRow)]
struct Row {
    no: i64,
    id: String,
    item_no: i64,
    item_id: String,
    item_version: i32,
    mode: String,
    lane: i32,
    state: String,
    phase: String,
    members: i64,
    deliveries: i64,
    created_at: Millis,
    finished_at: Option<Millis>,
    mark: Option<String>,
    version: i64,
}

impl TryFrom<Row> for Watched {
    type Error = StoreError;

    fn try_from(r: Row) -> Result<Self> {
        let mark = match r.mark {
            None => Ok(Mark::default()),
            Some(text) => serde_json::from_str(&text),
        };
        let mark = mark.map_err(|e| StoreError::Damaged(format!("event_marks.mark: {e}")))?;
        let now = Standing {
            no: r.no,
            id: r.id,
            item_no: r.item_no,
            item_id: r.item_id,
            item_version: r.item_version,
            mode: r.mode,
            lane: r.lane,
            state: r.state,
            started: r.phase != "snapshot",
            members: r.members,
            deliveries: r.deliveries,
            created_at: r.created_at,
            finished_at: r.finished_at,
        };
        Ok(Self { now, mark, version: r.version })
    }
}

impl Store {
    /// Dispatches of which something may be told: those whose end was not told yet, and
    /// those created since `since` of which nothing was told.
    pub async fn watched_dispatches(&self, since: Millis) -> Result<Vec<Watched>> {
        // Numbers are taken in the transaction that creates: none below the newest comes late.
        let sql = "SELECT d.no, d.id, i.no AS item_no, d.item_id, d.item_version, d.mode, d.lane, d.state, d.phase, d.members, d.deliveries, \
                   d.created_at, d.finished_at, m.mark, COALESCE(m.version, 0) AS version \
                   FROM dispatches d JOIN items i ON i.id = d.item_id LEFT JOIN event_marks m ON m.dispatch_no = d.no \
                   WHERE d.no IN (SELECT dispatch_no FROM event_marks WHERE done = 0 UNION ALL \
                     SELECT no FROM dispatches WHERE no > (SELECT value FROM counters WHERE name = 'event_dispatch') AND created_at >= $1) \
                   ORDER BY d.no";
        let rows: Vec<Row> = read!(self, |db| sqlx::query_as(sql).bind(since).fetch_all(db).await)?;
        rows.into_iter().map(Watched::try_from).collect()
    }

    /// Lays down what is to be told of these, and how they stand now. `false` when
    /// another teller was quicker with one of them: then nothing happened.
    pub async fn lay_down_events(&self, told: &[Watched], events: &[Event]) -> Result<bool> {
        let mut marks = Rows::default();
        for Watched { now, mark, version } in told {
            let text = serde_json::to_string(mark).map_err(|e| StoreError::Damaged(e.to_string()))?;
            let done = i64::from(mark.finished);
            marks.push(&[now.no.into(), (version + 1).into(), text.as_str().into(), done.into()]);
        }
        let mut tx = self.begin().await?;
        let source = tx.source(&[Col::Int("no"), Col::Int("version"), Col::Text("mark"), Col::Int("done")]);
        let sql = format!(
            "INSERT INTO event_marks (dispatch_no, version, mark, done) SELECT no, version, mark, CAST(done AS INTEGER) FROM {source} WHERE true \
             ON CONFLICT (dispatch_no) DO UPDATE SET version = excluded.version, mark = excluded.mark, done = excluded.done \
             WHERE event_marks.version = excluded.version - 1"
        );
        if tx.bulk(sql, marks).await? < told.len() as u64 {
            return Ok(false);
        }
        let first = tx.take_numbers("event", i64::try_from(events.len()).unwrap_or(i64::MAX)).await?;
        let mut rows = Rows::default();
        for (event, no) in events.iter().zip(first..) {
            let id = uuid::Uuid::now_v7().to_string();
            let body = event.body(no, &id);
            rows.push(&[no.into(), id.as_str().into(), event.topic.as_str().into(), body.as_str().into()]);
        }
        let source = tx.source(&[Col::Int("no"), Col::Text("id"), Col::Text("topic"), Col::Text("body")]);
        let sql = format!("INSERT INTO events (no, id, topic, body) SELECT no, id, topic, body FROM {source}");
        tx.bulk(sql, rows).await?;
        let newest = told.iter().map(|w| w.now.no).max().unwrap_or(0);
        let sql = "UPDATE counters SET value = $1 WHERE name = 'event_dispatch' AND value < $1";
        exec!(&mut tx, sqlx::query(sql).bind(newest))?;
        tx.commit().await?;
        Ok(true)
    }

    /// The oldest events that the broker has not confirmed.
    pub async fn pending_events(&self, most: i64) -> Result<Vec<Pending>> {
        let sql = "SELECT no, id, topic, body FROM events ORDER BY no LIMIT $1";
        Ok(read!(self, |db| sqlx::query_as(sql).bind(most).fetch_all(db).await)?)
    }

    /// The broker has everything up to this event.
    pub async fn forget_events(&self, last: i64) -> Result<()> {
        let mut tx = self.begin().await?;
        exec!(&mut tx, sqlx::query("DELETE FROM events WHERE no <= $1").bind(last))?;
        tx.commit().await
    }
}
