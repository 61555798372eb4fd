//! A step of one chunk on a database server, in one statement: whom each channel takes,
//! which delivery that is, its batch and the links. No temporary tables: the server
//! knows nothing of what is in them, and rows deleted from them stay in the way.

use super::{Chunking, NOT_REACHED, SPAN, Share, Span, StepChannel, found_sql, known_delivery, states};
use crate::channel::Target;
use crate::domain::delivery::{Reason, State};
use crate::store::dispatches::{Dispatch, Mode};
use crate::store::{Result, StoreError, Tx, serving};

/// Targets that were worked out elsewhere.
const CHOSEN: &str = "SELECT member, target, via, variant FROM chosen";

impl Tx {
    /// Writes what one channel takes of a span; returns how many deliveries are new.
    pub(super) async fn plan_share(&mut self, job: &Chunking<'_>, share: Share, span: Span) -> Result<i64> {
        let channel = share.channel;
        if channel.kind == Target::Point {
            self.clear_chosen().await?;
            if self.choose_followed(job.dispatch, channel.no, span.after == 0).await? {
                return self.lay_down(job, share, (span, CHOSEN.to_owned())).await;
            }
        }
        let source = targets_sql(channel, if share.step == 0 { "" } else { NOT_REACHED });
        self.lay_down(job, share, (span, source)).await
    }

    /// The same for targets that lie in `chosen`.
    pub(super) async fn lay_down_chosen(&mut self, job: &Chunking<'_>, share: Share) -> Result<i64> {
        self.lay_down(job, share, (Span { after: 0, last: 0 }, CHOSEN.to_owned())).await
    }

    async fn lay_down(&mut self, job: &Chunking<'_>, share: Share, (span, source): (Span, String)) -> Result<i64> {
        let (dispatch, channel) = (job.dispatch, share.channel);
        let sql = statement(job, channel.kind, (&source, self.has_opt_outs(job).await?));
        let until = if channel.kind == Target::Visit { None } else { job.defer_until };
        Ok(run!(self, |c| sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
            .bind(dispatch.no)
            .bind(span.after)
            .bind(span.last)
            .bind(share.step)
            .bind(channel.no)
            .bind(share.base)
            .bind(channel.batch_size)
            .bind(until)
            .bind(dispatch.lane)
            .fetch_one(c)
            .await)?)
    }

    /// The recipients of a chunk as members, from an array.
    pub(super) async fn add_members_from_array(&mut self, d: &Dispatch, recipients: &[i64], vars: &str) -> Result<u64> {
        let Self::Postgres(t) = self else { return Err(StoreError::Damaged("not a server".to_owned())) };
        let (Some(first), Some(last)) = (recipients.first(), recipients.last()) else { return Ok(0) };
        let width = i64::try_from(recipients.len()).unwrap_or(i64::MAX);
        let sql = members_sql(last - first < width.saturating_mul(DENSE), vars);
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(d.no).bind(d.members).bind(recipients);
        Ok(query.bind(first).bind(last).execute(&mut **t).await?.rows_affected())
    }
}

/// Recipient numbers for each one taken, up to which a chunk's groups are read as one range.
const DENSE: i64 = 8;

/// `$1` dispatch, `$2` the member numbered last, `$3` the recipients, `$4` and `$5` the
/// first and the last of them.
///
/// Their groups are read once, into one object: a look-up a member costs twice as much,
/// and a join would go by the server's guess of how many there are.
fn members_sql(dense: bool, vars: &str) -> String {
    // Where they lie far apart, `$4` and `$5` only bound the list that is looked up.
    let among = if dense { "BETWEEN $4 AND $5" } else { "= ANY($3) AND recipient_no BETWEEN $4 AND $5" };
    format!(
        "WITH of_chunk AS MATERIALIZED (SELECT jsonb_object_agg(recipient_no, list) AS groups FROM \
           (SELECT recipient_no, ',' || string_agg(group_no::text, ',') || ',' AS list FROM group_members \
            WHERE recipient_no {among} GROUP BY recipient_no) AS lists) \
         INSERT INTO members (dispatch_no, ordinal, recipient_no, household_no, region_no, away, groups, vars_sealed) \
         SELECT $1, $2 + c.place, r.no, r.household_no, r.region_no, r.away, \
         COALESCE((SELECT groups FROM of_chunk) ->> r.no::text, ''), {vars} \
         FROM unnest($3::bigint[]) WITH ORDINALITY AS c (no, place) JOIN recipients r ON r.no = c.no"
    )
}

/// (member, target, via, variant) of those members of the span that the channel takes.
/// What stands in `member` for an account or a point links nobody.
fn targets_sql(channel: StepChannel, whom: &str) -> String {
    // In a dry run an account or a point stands on the channel of the addresses.
    let apart = if channel.stands_for == channel.no { 0 } else { -i64::from(channel.stands_for) };
    match channel.kind {
        Target::Address(kind) => format!(
            // OFFSET keeps the look-ups from being done again for each time `way` is named.
            "SELECT ordinal AS member, way / 8 AS target, CAST(way % 8 AS INTEGER) AS via, variant FROM ({} OFFSET 0) AS f WHERE way IS NOT NULL",
            found_sql(kind as i32, whom, "")
        ),
        Target::Visit => format!(
            "SELECT m.ordinal AS member, COALESCE(m.household_no, m.recipient_no) AS target, 1 AS via, CAST({apart} AS BIGINT) AS variant \
             FROM members m WHERE {SPAN}{whom}"
        ),
        Target::Point => format!(
            "SELECT s.no AS member, s.no AS target, 1 AS via, CAST({apart} AS BIGINT) AS variant FROM ({}) s",
            serving::points_of(&format!("{SPAN}{whom}"))
        ),
        Target::Account => format!(
            "SELECT CAST(0 AS BIGINT) AS member, CAST(0 AS BIGINT) AS target, 1 AS via, CAST({apart} AS BIGINT) AS variant \
             WHERE EXISTS (SELECT 1 FROM members m WHERE {SPAN}{whom})"
        ),
    }
}

/// `$1` dispatch, `$2` and `$3` the span, `$4` step, `$5` channel, `$6` the delivery
/// numbered last, `$7` deliveries a batch, `$8` until when they wait, `$9` lane.
///
/// Targets are numbered in the order of their first members: a window over the rows
/// costs two sorts whatever the server believes of their number, where a join went by
/// its guess.
fn statement(job: &Chunking<'_>, kind: Target, (source, opt_outs): (&str, bool)) -> String {
    let s = states(job, kind, opt_outs);
    let (waiting, quiet, suppressed) = (s.waiting.code(), s.quiet, &s.suppressed);
    let (gone, opted_out, queued) = (State::Suppressed.code(), Reason::OptedOut.code(), State::Queued.code());
    let (numbers, batch) = if kind == Target::Visit {
        ("", "0")
    } else {
        (
            ", taken AS (UPDATE counters SET value = value + need.n FROM (SELECT (MAX(rn) - 1) / $7 + 1 AS n FROM numbered) need \
             WHERE name = 'batch' AND need.n > 0 RETURNING value - need.n + 1 AS no)",
            "(SELECT no FROM taken) + (n.rn - 1) / $7",
        )
    };
    // A call has no members.
    let links = if job.dispatch.mode != Mode::Call && matches!(kind, Target::Address(_) | Target::Visit) {
        ", linked AS (INSERT INTO delivery_members (dispatch_no, member, delivery, via) SELECT $1, member, $6 + rn, via FROM numbered \
         UNION ALL SELECT $1, member, delivery, via FROM known WHERE delivery IS NOT NULL)"
    } else {
        ""
    };
    let known = known_delivery("c", ["$1", "$4", "$5"]);
    format!(
        "WITH known AS MATERIALIZED (SELECT c.member, c.target, c.via, c.variant, {known} AS delivery FROM ({source}) AS c), \
         headed AS (SELECT member, target, via, variant, MIN(member) OVER (PARTITION BY target, variant) AS head FROM known WHERE delivery IS NULL), \
         numbered AS MATERIALIZED (SELECT member, target, via, variant, member = head AS is_head, dense_rank() OVER (ORDER BY head) AS rn FROM headed)\
         {numbers}, \
         written AS (INSERT INTO deliveries (dispatch_no, ordinal, step, channel, target, variant, state, batch, reason, next_at) \
           SELECT $1, $6 + n.rn, $4, $5, n.target, n.variant, n.state, CASE WHEN n.state = {queued} THEN {batch} ELSE 0 END, \
           CASE WHEN n.state = {gone} THEN {opted_out} ELSE {quiet} END, CASE WHEN n.state = {gone} THEN NULL ELSE CAST($8 AS BIGINT) END \
           FROM (SELECT c.rn, c.target, c.variant, CASE WHEN {suppressed} THEN {gone} ELSE {waiting} END AS state FROM numbered c WHERE c.is_head) n \
           RETURNING batch), \
         packed AS (INSERT INTO batches (no, dispatch_no, channel, lane, size, state) SELECT batch, $1, $5, $9, COUNT(*), 0 FROM written \
           WHERE batch > 0 GROUP BY batch){links} \
         SELECT COUNT(*) FROM written"
    )
}
