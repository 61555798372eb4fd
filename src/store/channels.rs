//! Channels by number, and what operators set on them at run time.

use super::{Result, Store};

/// A channel's number and its run-time settings.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct ChannelRow {
    pub no: i32,
    pub name: String,
    /// Parts a second; `None` = as declared.
    pub rate: Option<f64>,
    pub paused: i32,
}

impl Store {
    /// The number of a channel, given at its first use and never again to another.
    pub async fn channel_no(&self, name: &str) -> Result<i32> {
        let sql = "SELECT no FROM channels WHERE name = $1";
        if let Some(no) = read!(self, |db| sqlx::query_scalar(sql).bind(name).fetch_optional(db).await)? {
            return Ok(no);
        }
        let mut tx = self.begin().await?;
        let no = i32::try_from(tx.take_numbers("channel", 1).await?).unwrap_or(i32::MAX);
        let insert = "INSERT INTO channels (no, name) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
        exec!(&mut tx, sqlx::query(insert).bind(no).bind(name))?;
        tx.commit().await?;
        Ok(read!(self, |db| sqlx::query_scalar(sql).bind(name).fetch_one(db).await)?)
    }

    /// Every channel ever used.
    pub async fn channels(&self) -> Result<Vec<ChannelRow>> {
        let sql = "SELECT no, name, rate, paused FROM channels ORDER BY no";
        Ok(read!(self, |db| sqlx::query_as(sql).fetch_all(db).await)?)
    }

    /// Sets the rate (parts a second; `None` = as declared), from now on.
    pub async fn set_rate(&self, name: &str, rate: Option<f64>, operator: &str) -> Result<()> {
        let no = self.channel_no(name).await?;
        let mut tx = self.begin().await?;
        exec!(&mut tx, sqlx::query("UPDATE channels SET rate = $2 WHERE no = $1").bind(no).bind(rate))?;
        tx.append_audit(self.now(), operator, ("rate", name), &serde_json::json!({ "rate": rate })).await?;
        tx.commit().await
    }

    /// Stops or reopens a channel for every dispatch.
    pub async fn pause_channel(&self, name: &str, paused: bool, operator: &str) -> Result<()> {
        let no = self.channel_no(name).await?;
        let mut tx = self.begin().await?;
        exec!(&mut tx, sqlx::query("UPDATE channels SET paused = $2 WHERE no = $1").bind(no).bind(i32::from(paused)))?;
        tx.append_audit(
            self.now(),
            operator,
            (if paused { "pause channel" } else { "resume channel" }, name),
            &serde_json::json!({}),
        )
        .await?;
        tx.commit().await
    }
}
