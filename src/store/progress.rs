//! How far a dispatch has come, and whether anything is left of it.

use super::schedule::RANGE;
use super::{Pool, Result, Store};
use crate::domain::delivery::State;

/// Deliveries of one dispatch, channel by channel and state by state.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct StateCount {
    pub channel: i32,
    pub state: i32,
    pub n: i64,
}

impl Store {
    /// How many deliveries stand in each state, by channel.
    pub async fn delivery_counts(&self, dispatch_no: i64) -> Result<Vec<StateCount>> {
        let sql = "SELECT channel, state, COUNT(*) AS n FROM deliveries WHERE dispatch_no = $1 GROUP BY channel, state ORDER BY channel, state";
        let mut counts = read!(self, |db| sqlx::query_as(sql).bind(dispatch_no).fetch_all(db).await)?;
        for (channel, n) in self.under_way(dispatch_no).await? {
            set_apart(&mut counts, channel, n);
        }
        Ok(counts)
    }

    /// How many deliveries are under way on each channel: they stand `queued` in the store.
    async fn under_way(&self, dispatch_no: i64) -> Result<Vec<(i32, i64)>> {
        let sql = "SELECT b.channel, COUNT(*) FROM batches b JOIN deliveries d ON d.dispatch_no = b.dispatch_no AND d.batch = b.no \
                   AND d.batch > 0 AND d.ordinal <= b.marked_to AND d.state = 1 \
                   WHERE b.dispatch_no = $1 AND b.state = 1 AND b.marked_to > 0 GROUP BY b.channel";
        match &self.pool {
            Pool::Sqlite { read, .. } => Ok(sqlx::query_as(sql).bind(dispatch_no).fetch_all(read).await?),
            Pool::Postgres(..) => {
                let mut tx = self.begin_hot().await?;
                Ok(run!(&mut tx, |c| sqlx::query_as(sql).bind(dispatch_no).fetch_all(c).await)?)
            }
        }
    }

    /// Closes a dispatch whose work is done: nothing left to plan, every delivery
    /// final. `waits` are the channels whose `sent` still waits for a receipt; `open` is
    /// a delivery that was not final when last asked, or 0: it is looked at first.
    pub async fn finish_dispatch(&self, no: i64, waits: &[i32], open: &mut i64) -> Result<bool> {
        if let Some(left) = self.open_delivery(no, waits, *open).await? {
            *open = left;
            return Ok(false);
        }
        self.soon(self.close_dispatch(no)).await
    }

    async fn close_dispatch(&self, no: i64) -> Result<bool> {
        let mut tx = self.begin().await?;
        let sql = "UPDATE dispatches SET finished_at = $2, state = CASE WHEN state = 'cancelled' THEN state ELSE 'finished' END \
                   WHERE no = $1 AND finished_at IS NULL AND (phase = 'done' OR state = 'cancelled')";
        let changed = exec!(&mut tx, sqlx::query(sql).bind(no).bind(self.now()))?;
        tx.commit().await?;
        Ok(changed > 0)
    }

    /// The first delivery from `from` on, and then from the beginning, that is not
    /// final; a range at a time, so that no statement is long.
    async fn open_delivery(&self, no: i64, waits: &[i32], from: i64) -> Result<Option<i64>> {
        let open: Vec<String> =
            State::ALL.iter().filter(|s| !s.is_final(false)).map(|s| s.code().to_string()).collect();
        let waits: Vec<String> = waits.iter().map(ToString::to_string).collect();
        let waiting = if waits.is_empty() {
            String::new()
        } else {
            format!(" OR (state = {} AND channel IN ({}))", State::Sent.code(), waits.join(","))
        };
        let sql = format!(
            "SELECT ordinal FROM deliveries WHERE dispatch_no = $1 AND ordinal >= $2 AND ordinal < $3 AND (state IN ({}){waiting}) ORDER BY ordinal LIMIT 1",
            open.join(",")
        );
        for (mut at, end) in [(from, self.soon(self.last_ordinal(no)).await? + 1), (0, from)] {
            while at < end {
                let to = end.min(at + RANGE);
                let sql = sqlx::AssertSqlSafe(sql.clone());
                let look = async {
                    Ok(read!(self, |db| sqlx::query_scalar(sql).bind(no).bind(at).bind(to).fetch_optional(db).await)?)
                };
                let found: Option<i64> = self.soon(look).await?;
                if found.is_some() {
                    return Ok(found);
                }
                at = to;
            }
        }
        Ok(None)
    }
}

/// Counts as `sending` what was counted as `queued` and is under way; what was recorded
/// between the two counts stays where it was counted.
fn set_apart(counts: &mut Vec<StateCount>, channel: i32, under_way: i64) {
    let (queued, sending) = (State::Queued.code(), State::Sending.code());
    let Some(at) = counts.iter().position(|c| (c.channel, c.state) == (channel, queued)) else { return };
    let n = under_way.min(counts[at].n);
    counts[at].n -= n;
    if n > 0 {
        counts.insert(at + 1, StateCount { channel, state: sending, n });
    }
    counts.retain(|c| c.n > 0);
}
