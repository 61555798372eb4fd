//! Confirmations: by link, by reply, by hand. Each raises the delivery it answers and
//! stands in the audit log.

use sqlx::AssertSqlSafe;

use super::villages::village_of;
use crate::clock::Millis;
use crate::domain::calls::How;
use crate::domain::delivery::{State, Word};
use crate::domain::recipient::{Phone, purpose};
use crate::store::receipts::Claim;
use crate::store::{Result, Store, Tx};

/// A confirmation to be recorded.
#[derive(Debug, Clone, Copy)]
pub struct Confirming<'a> {
    /// The dispatch that was heard of.
    pub about_no: i64,
    /// The village.
    pub region_no: i64,
    pub how: How,
    /// The question that was answered (call, ordinal); `None` for a village that is
    /// confirmed by hand.
    pub question: Option<(i64, i64)>,
    /// Who enters it; empty for the officer's own doing.
    pub operator: &'a str,
    pub at: Millis,
}

/// A question that went to a number and is not answered yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct OpenCall {
    pub about_no: i64,
    pub call_no: i64,
    pub ordinal: i64,
    pub region_no: i64,
}

/// What a question asks about.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Question {
    pub about_no: i64,
    pub region_no: i64,
    /// Town and village.
    pub place: String,
    /// When the village was first confirmed, and how.
    pub confirmed_at: Option<Millis>,
    pub how: Option<String>,
}

impl Store {
    /// Records that a village confirmed; `false` where the same was recorded before. A
    /// call with nobody left to answer has no further step.
    ///
    /// # Errors
    /// When the database fails; then nothing of it happened.
    pub async fn confirm(&self, confirming: &Confirming<'_>) -> Result<bool> {
        let c = confirming;
        let (call_no, ordinal) = c.question.unzip();
        let mut tx = self.begin().await?;
        let sql = "INSERT INTO confirmations (dispatch_no, region_no, how, call_no, ordinal, operator, at) \
                   SELECT $1, $2, $3, CAST($4 AS BIGINT), CAST($5 AS BIGINT), $6, $7 WHERE NOT EXISTS (\
                   SELECT 1 FROM confirmations WHERE dispatch_no = $1 AND region_no = $2 AND how = $3 \
                   AND call_no IS NOT DISTINCT FROM CAST($4 AS BIGINT) AND ordinal IS NOT DISTINCT FROM CAST($5 AS BIGINT)) \
                   ON CONFLICT DO NOTHING";
        let new = exec!(
            &mut tx,
            sqlx::query(sql)
                .bind(c.about_no)
                .bind(c.region_no)
                .bind(c.how.name())
                .bind(call_no)
                .bind(ordinal)
                .bind(c.operator)
                .bind(c.at)
        )?;
        if new == 0 {
            return Ok(false);
        }
        tx.raise_question(c).await?;
        let who = if c.operator.is_empty() { c.how.name() } else { c.operator };
        let detail = serde_json::json!({ "dispatch": c.about_no, "region": c.region_no, "how": c.how.name() });
        tx.append_audit(self.now(), who, ("confirm", &c.about_no.to_string()), &detail).await?;
        tx.close_answered_calls(c.about_no).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// The questions that went to a number about villages nobody has confirmed, of
    /// dispatches that still stand.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn open_calls_of(&self, phone: &Phone) -> Result<Vec<OpenCall>> {
        let uncertain = State::Uncertain.code();
        let sql = format!(
            "SELECT p.parent_no AS about_no, d.dispatch_no AS call_no, d.ordinal, d.variant AS region_no \
             FROM dispatches p JOIN deliveries d ON d.dispatch_no = p.no \
             WHERE p.mode = 'call' AND p.parent_no IS NOT NULL AND p.state <> 'cancelled' AND p.expires_at > $2 \
             AND d.target = (SELECT a.id FROM addresses a WHERE a.kind = 1 AND a.hash = $1) \
             AND (d.handed_at IS NOT NULL OR d.state = {uncertain}) AND NOT EXISTS (\
             SELECT 1 FROM confirmations c WHERE c.dispatch_no = p.parent_no AND c.region_no = d.variant) \
             ORDER BY d.dispatch_no, d.ordinal"
        );
        let hash = self.vault.hash(purpose::PHONE, phone.as_str());
        let now = self.now();
        Ok(read!(self, |db| sqlx::query_as(AssertSqlSafe(sql)).bind(hash).bind(now).fetch_all(db).await)?)
    }

    /// What a question asks about; `None` where there is no such question (any more).
    ///
    /// # Errors
    /// When the database fails.
    pub async fn question(&self, call_no: i64, ordinal: i64) -> Result<Option<Question>> {
        let first = "FROM confirmations c WHERE c.dispatch_no = p.parent_no AND c.region_no = d.variant ORDER BY c.at, c.how LIMIT 1";
        let sql = format!(
            "SELECT p.parent_no AS about_no, d.variant AS region_no, \
             CASE WHEN t.level = 'town' THEN t.name || r.name ELSE r.name END AS place, \
             (SELECT c.at {first}) AS confirmed_at, (SELECT c.how {first}) AS how \
             FROM deliveries d JOIN dispatches p ON p.no = d.dispatch_no JOIN regions r ON r.no = d.variant \
             LEFT JOIN regions t ON t.no = r.parent_no \
             WHERE d.dispatch_no = $1 AND d.ordinal = $2 AND p.mode = 'call' AND p.parent_no IS NOT NULL"
        );
        Ok(read!(self, |db| sqlx::query_as(AssertSqlSafe(sql)).bind(call_no).bind(ordinal).fetch_optional(db).await)?)
    }

    /// The village that a region lies in, as calls count villages.
    ///
    /// # Errors
    /// When there is no such region, or the database fails.
    pub async fn village_of(&self, region_no: i64) -> Result<i64> {
        let sql = format!("SELECT CAST({} AS BIGINT) FROM regions g WHERE g.no = $1", village_of("g.no"));
        Ok(read!(self, |db| sqlx::query_scalar(AssertSqlSafe(sql)).bind(region_no).fetch_one(db).await)?)
    }
}

impl Tx {
    /// Raises the delivery that was answered; by hand, the last one about the village.
    async fn raise_question(&mut self, c: &Confirming<'_>) -> Result<()> {
        let (call_no, ordinal) = c.question.unzip();
        let sql = "SELECT d.dispatch_no, d.ordinal, d.attempt FROM dispatches p JOIN deliveries d ON d.dispatch_no = p.no \
                   WHERE p.parent_no = $1 AND p.mode = 'call' AND d.variant = $2 \
                   AND d.dispatch_no = COALESCE(CAST($3 AS BIGINT), d.dispatch_no) AND d.ordinal = COALESCE(CAST($4 AS BIGINT), d.ordinal) \
                   ORDER BY d.dispatch_no DESC, d.ordinal DESC LIMIT 1";
        let found: Option<(i64, i64, i32)> = run!(self, |t| sqlx::query_as(sql)
            .bind(c.about_no)
            .bind(c.region_no)
            .bind(call_no)
            .bind(ordinal)
            .fetch_optional(t)
            .await)?;
        let Some((dispatch_no, ordinal, attempt)) = found else { return Ok(()) };
        let claim = Claim { dispatch_no, ordinal, attempt, part: None, word: Word::Confirmed, at: c.at };
        // The channel says which parts are meant; a confirmation is of the whole.
        self.apply_claims(0, &[claim]).await
    }

    /// Villages without an officer are asked by no step, so a call ends when all it asked
    /// are confirmed.
    async fn close_answered_calls(&mut self, about_no: i64) -> Result<()> {
        let sql = "UPDATE dispatches SET phase = 'done', step_due_at = NULL \
                   WHERE parent_no = $1 AND mode = 'call' AND phase = 'waiting' AND NOT EXISTS (\
                   SELECT 1 FROM deliveries d WHERE d.dispatch_no = dispatches.no AND NOT EXISTS (\
                   SELECT 1 FROM confirmations c WHERE c.dispatch_no = $1 AND c.region_no = d.variant))";
        exec!(self, sqlx::query(sql).bind(about_no))?;
        Ok(())
    }
}
