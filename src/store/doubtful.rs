//! What nobody knows for sure: deliveries that may have gone out twice.

use super::{Result, Store};
use crate::channel::Class;

/// A delivery that got no answer at least once.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Doubtful {
    pub dispatch_no: i64,
    pub ordinal: i64,
    /// 1 where it is known to have been handed over all the same.
    pub handed_over: i32,
}

impl Store {
    /// Every delivery of which an attempt ended without an answer: what a gateway has
    /// twice must be among these.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn doubtful_deliveries(&self) -> Result<Vec<Doubtful>> {
        let sql = "SELECT d.dispatch_no, d.ordinal, CASE WHEN d.handed_at IS NULL THEN 0 ELSE 1 END AS handed_over \
                   FROM (SELECT DISTINCT dispatch_no, ordinal FROM tries WHERE class = $1) t \
                   JOIN deliveries d ON d.dispatch_no = t.dispatch_no AND d.ordinal = t.ordinal";
        Ok(read!(self, |db| sqlx::query_as(sql).bind(Class::Unknown as i32).fetch_all(db).await)?)
    }

    /// How many deliveries of a channel are known to have been handed over.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn handed_over(&self, channel: i32) -> Result<i64> {
        let sql = "SELECT COUNT(*) FROM deliveries WHERE channel = $1 AND handed_at IS NOT NULL";
        Ok(read!(self, |db| sqlx::query_scalar(sql).bind(channel).fetch_one(db).await)?)
    }
}
