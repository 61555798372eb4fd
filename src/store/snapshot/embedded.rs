//! A step of one chunk on the embedded engine: targets are chosen into a temporary
//! table, which costs it little and tells it their order.

use super::{Chunking, NOT_REACHED, SPAN, Share, Span, States, StepChannel, found_sql, known_delivery, signed, states};
use crate::channel::Target;
use crate::domain::delivery::{Reason, State};
use crate::store::dispatches::Mode;
use crate::store::{Result, Tx, serving};

/// Who goes where, with the delivery that goes there already; and the targets without one.
pub(super) const TABLES: [&str; 4] = [
    "CREATE TEMP TABLE IF NOT EXISTS chosen (member INTEGER PRIMARY KEY, target BIGINT NOT NULL, via INTEGER NOT NULL, \
     variant BIGINT NOT NULL, delivery BIGINT)",
    "CREATE TEMP TABLE IF NOT EXISTS fresh (rn INTEGER PRIMARY KEY, target BIGINT NOT NULL, variant BIGINT NOT NULL, UNIQUE (target, variant))",
    "DELETE FROM chosen",
    "DELETE FROM fresh",
];
impl Tx {
    /// One target a member: the own address first, else the household's.
    pub(super) async fn choose_targets(
        &mut self,
        job: &Chunking<'_>,
        channel: StepChannel,
        step: i32,
        span: Span,
    ) -> Result<()> {
        self.clear_chosen().await?;
        let whom = if step == 0 { "" } else { NOT_REACHED };
        if channel.kind == Target::Point && self.choose_followed(job.dispatch, channel.no, span.after == 0).await? {
            return Ok(());
        }
        if let Target::Address(kind) = channel.kind {
            let sql = address_sql(kind as i32, whom);
            let ((no, after, last), channel) = ((job.dispatch.no, span.after, span.last), channel.no);
            exec!(
                self,
                sqlx::query(sqlx::AssertSqlSafe(sql)).bind(no).bind(after).bind(last).bind(step).bind(channel)
            )?;
            return Ok(());
        }
        let sql = chosen_sql(channel.kind, whom);
        exec!(self, sqlx::query(sqlx::AssertSqlSafe(sql)).bind(job.dispatch.no).bind(span.after).bind(span.last))?;
        // In a dry run an account or a point stands on the channel of the addresses.
        if channel.stands_for != channel.no {
            exec!(self, sqlx::query("UPDATE chosen SET variant = $1").bind(-i64::from(channel.stands_for)))?;
        }
        Ok(())
    }

    /// Numbers the targets that no delivery of this step goes to yet, in the order of
    /// their members; returns how many those are.
    async fn number_fresh(&mut self, job: &Chunking<'_>, channel: StepChannel, step: i32) -> Result<i64> {
        if job.dispatch.mode == Mode::Call || !matches!(channel.kind, Target::Address(_)) {
            let sql = format!("UPDATE chosen SET delivery = {}", known_delivery("chosen", ["$1", "$2", "$3"]));
            exec!(self, sqlx::query(sqlx::AssertSqlSafe(sql)).bind(job.dispatch.no).bind(step).bind(channel.no))?;
        }
        // Numbered as they are kept; sorting for it, and for the distinct ones, cost more
        // than the deliveries themselves.
        let sql = "INSERT OR IGNORE INTO fresh (target, variant) SELECT target, variant FROM chosen WHERE delivery IS NULL ORDER BY member";
        Ok(signed(exec!(self, sqlx::query(sql))?))
    }

    /// Deliveries, batches and links for the targets that lie in `chosen`.
    pub(super) async fn lay_down_fresh(
        &mut self,
        job: &Chunking<'_>,
        Share { channel, step, base }: Share,
    ) -> Result<i64> {
        let fresh = self.number_fresh(job, channel, step).await?;
        let no = job.dispatch.no;
        if fresh > 0 {
            let batches = match channel.kind {
                Target::Visit => 0,
                _ => self.take_numbers("batch", fresh.div_euclid(channel.batch_size) + 1).await?,
            };
            let opt_outs = self.has_opt_outs(job).await?;
            let sql = deliveries_sql(job, channel.kind, opt_outs);
            let until = if channel.kind == Target::Visit { None } else { job.defer_until };
            exec!(
                self,
                sqlx::query(sqlx::AssertSqlSafe(sql))
                    .bind(no)
                    .bind(step)
                    .bind(channel.no)
                    .bind(base)
                    .bind(batches)
                    .bind(channel.batch_size)
                    .bind(until)
            )?;
            let sql = "INSERT INTO batches (no, dispatch_no, channel, lane, size, state) SELECT batch, $1, $2, $3, COUNT(*), 0 FROM deliveries \
                       WHERE dispatch_no = $1 AND ordinal > $4 AND ordinal <= $5 AND batch > 0 GROUP BY batch";
            let (lane, to) = (job.dispatch.lane, base + fresh);
            exec!(self, sqlx::query(sql).bind(no).bind(channel.no).bind(lane).bind(base).bind(to))?;
        }
        // A call has no members.
        if job.dispatch.mode != Mode::Call && matches!(channel.kind, Target::Address(_) | Target::Visit) {
            let sql = "INSERT INTO delivery_members (dispatch_no, member, delivery, via) SELECT $1, c.member, \
                       COALESCE(c.delivery, $2 + (SELECT f.rn FROM fresh f WHERE f.target = c.target AND f.variant = c.variant)), c.via FROM chosen c";
            exec!(self, sqlx::query(sql).bind(no).bind(base))?;
        }
        Ok(fresh)
    }
}

fn chosen_sql(kind: Target, whom: &str) -> String {
    match kind {
        Target::Point => serving::chosen(&serving::points_of(&format!("{SPAN}{whom}"))),
        // One row for all of the span; what stands in `member` links nobody.
        Target::Account => format!(
            "INSERT INTO chosen (member, target, via, variant) SELECT 0, 0, 1, 0 WHERE EXISTS (SELECT 1 FROM members m WHERE {SPAN}{whom})"
        ),
        Target::Visit | Target::Address(_) => format!(
            "INSERT INTO chosen (member, target, via, variant) SELECT m.ordinal, COALESCE(m.household_no, m.recipient_no), 1, 0 \
             FROM members m WHERE {SPAN}{whom}"
        ),
    }
}

fn address_sql(kind: i32, whom: &str) -> String {
    // SQLite would rather look up the address itself than the short list of those gone.
    let found = found_sql(kind, whom, "INDEXED BY addresses_gone");
    let known = known_delivery("f", ["$1", "$4", "$5"]);
    format!(
        "WITH found AS MATERIALIZED ({found}), \
         f AS (SELECT ordinal, way / 8 AS target, way % 8 AS via, variant FROM found WHERE way IS NOT NULL) \
         INSERT INTO chosen (member, target, via, variant, delivery) SELECT ordinal, target, via, variant, {known} FROM f"
    )
}

fn deliveries_sql(job: &Chunking<'_>, kind: Target, opt_outs: bool) -> String {
    let States { suppressed, waiting, quiet } = states(job, kind, opt_outs);
    let (suppressed_code, opted_out) = (State::Suppressed.code(), Reason::OptedOut.code());
    let queued = State::Queued.code();
    format!(
        "INSERT INTO deliveries (dispatch_no, ordinal, step, channel, target, variant, state, batch, reason, next_at) \
         SELECT $1, $4 + n.rn, $2, $3, n.target, n.variant, n.state, \
         CASE WHEN n.state = {queued} THEN $5 + (n.rn - 1) / $6 ELSE 0 END, \
         CASE WHEN n.state = {suppressed_code} THEN {opted_out} ELSE {quiet} END, \
         CASE WHEN n.state = {suppressed_code} THEN NULL ELSE CAST($7 AS BIGINT) END \
         FROM (SELECT c.rn, c.target, c.variant, CASE WHEN {suppressed} THEN {suppressed_code} ELSE {waiting} END AS state FROM fresh c) n",
        waiting = waiting.code(),
    )
}
