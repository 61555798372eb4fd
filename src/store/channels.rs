//! Channels by number, and what operators set on them at run time.

use super::{Result, Store};

/// A channel's number and its run-time settings.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct ChannelRow {
    pub no: i32,
    pub name: String,
    /// Parts a second; `None` = as declared.
    pub rate: Option<f64>,
    /// 0 no, 1 by an operator, 2 because its receiver wants nothing more.
    pub paused: i32,
}

const BY_RECEIVER: i32 = 2;

impl ChannelRow {
    /// Whether its receiver said that it wants nothing more, and nobody has resumed it.
    #[must_use]
    pub const fn is_withdrawn(&self) -> bool {
        self.paused == BY_RECEIVER
    }
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

    /// Stops a channel for every dispatch because its receiver said, by `code`, that it
    /// wants nothing more. `false` where it stands already; of many who hear it one
    /// writes the audit.
    pub async fn withdraw_channel(&self, name: &str, code: &str) -> Result<bool> {
        let mut tx = self.begin().await?;
        let sql = "UPDATE channels SET paused = $2 WHERE name = $1 AND paused = 0";
        let mine = exec!(&mut tx, sqlx::query(sql).bind(name).bind(BY_RECEIVER))? > 0;
        if mine {
            let why = serde_json::json!({ "why": "withdrawn", "code": code });
            tx.append_audit(self.now(), "gong", ("pause channel", name), &why).await?;
        }
        tx.commit().await?;
        Ok(mine)
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
