//! From an audience to rows: members, deliveries, their links and their batches,
//! chunk by chunk, in set-based statements. The cursor moves in the same
//! transaction, so a crash resumes where it stopped and writes nothing twice.

use super::dispatches::{Dispatch, Mode, Progress};
use super::{Result, Store, StoreError, Tx, serving};
use crate::channel::Target;
use crate::clock::Millis;
use crate::domain::delivery::{Reason, State};
use crate::domain::recipient::Via;

/// How one channel takes part in a step.
#[derive(Debug, Clone, Copy)]
pub struct StepChannel {
    /// Number in `channels`.
    pub no: i32,
    /// The number of the channel that `no`, the rehearsal, stands in for; else `no`.
    pub stands_for: i32,
    pub kind: Target,
    /// Deliveries a batch: clamp(rate × 60 s, 1, 1000).
    pub batch_size: i64,
}

/// What every chunk of a dispatch has in common.
#[derive(Debug)]
pub struct Chunking<'a> {
    pub dispatch: &'a Dispatch,
    pub channels: &'a [StepChannel],
    /// The item kind whose opt-outs count; `None` where the law overrides them.
    pub opt_out_kind: Option<&'a str>,
    /// Deliveries wait until then (quiet hours); `None` = they go at once.
    pub defer_until: Option<Millis>,
    /// When the next step begins; `None` after the last.
    pub next_step_at: Option<Millis>,
}

/// What one chunk wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    pub members: i64,
    pub deliveries: i64,
    /// The whole audience (or every member, in a later step) has been seen.
    pub done: bool,
}

/// Member ordinals `after < ordinal <= last` of one dispatch.
#[derive(Debug, Clone, Copy)]
struct Span {
    after: i64,
    last: i64,
}

impl Store {
    /// The next members-to-be after recipient `after`, by number: who the audience
    /// holds. A read, so that it keeps no writer waiting.
    pub async fn audience_page(&self, predicate: &str, after: i64, limit: i64) -> Result<Vec<i64>> {
        // One JSON text: hundreds of thousands of rows fetched one by one cost more than
        // finding them.
        let list = self.pool.pick("json_group_array(p.no)", "COALESCE(json_agg(p.no), '[]')::text");
        let sql = format!(
            "SELECT {list} FROM (SELECT r.no FROM recipients r WHERE r.no > $1 AND r.counted = 1 AND r.status = 1 AND ({predicate}) \
             ORDER BY r.no LIMIT $2) AS p"
        );
        let list: String =
            read!(self, |db| sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(after).bind(limit).fetch_one(db).await)?;
        let mut page: Vec<i64> = serde_json::from_str(&list).map_err(|e| StoreError::Damaged(e.to_string()))?;
        page.sort_unstable();
        Ok(page)
    }

    /// Writes these recipients (ascending) as members, and step 0 for them; `last`
    /// when the audience ends with them.
    pub async fn snapshot_chunk(&self, job: &Chunking<'_>, recipients: &[i64], last: bool) -> Result<Chunk> {
        let d = job.dispatch;
        let mut tx = self.begin().await?;
        let members = tx.add_members(d, recipients).await?;
        let span = Span { after: d.members, last: d.members + members };
        let deliveries = tx.add_step(job, 0, span).await?;
        let to = Progress {
            no: d.no,
            was: d,
            from: "snapshot",
            phase: phase_after(job, last, "snapshot"),
            step: 0,
            cursor_no: if last { 0 } else { recipients.last().copied().unwrap_or(d.cursor_no) },
            members,
            deliveries,
            step_due_at: if last { job.next_step_at } else { None },
        };
        let chunk = Chunk { members, deliveries, done: last };
        tx.close_chunk(&to, chunk).await
    }

    /// Plans `step` for the members not reached among the next `width`.
    pub async fn step_chunk(&self, job: &Chunking<'_>, step: i32, width: i64) -> Result<Chunk> {
        let d = job.dispatch;
        let mut tx = self.begin().await?;
        let span = Span { after: d.cursor_no, last: d.members.min(d.cursor_no + width) };
        let deliveries = tx.add_step(job, step, span).await?;
        let done = span.last >= d.members;
        let to = Progress {
            no: d.no,
            was: d,
            from: "plan",
            phase: phase_after(job, done, "plan"),
            step,
            cursor_no: if done { 0 } else { span.last },
            members: 0,
            deliveries,
            step_due_at: if done { job.next_step_at } else { None },
        };
        tx.close_chunk(&to, Chunk { members: 0, deliveries, done }).await
    }

    /// Opens the next step: from now on its chunks are written.
    pub async fn begin_step(&self, dispatch: &Dispatch, step: i32) -> Result<()> {
        let mut tx = self.begin().await?;
        let sql = "UPDATE dispatches SET phase = 'plan', step = $2, cursor_no = 0 WHERE no = $1 AND phase = 'waiting' AND state = 'active' AND step = $2 - 1";
        exec!(&mut tx, sqlx::query(sql).bind(dispatch.no).bind(step))?;
        tx.commit().await
    }
}

fn phase_after(job: &Chunking<'_>, done: bool, busy: &'static str) -> &'static str {
    match (done, job.next_step_at) {
        (false, _) => busy,
        (true, Some(_)) => "waiting",
        (true, None) => "done",
    }
}

impl Tx {
    /// Commits a chunk with the move of its cursor; nothing of it happened when the
    /// dispatch was cancelled or ended meanwhile.
    pub(super) async fn close_chunk(mut self, to: &Progress<'_>, chunk: Chunk) -> Result<Chunk> {
        if !self.advance_dispatch(to).await? {
            return Ok(Chunk { members: 0, deliveries: 0, done: false });
        }
        self.commit().await?;
        Ok(chunk)
    }

    /// One row a recipient, in their order. CROSS JOIN makes SQLite walk the list and
    /// look each one up.
    async fn add_members(&mut self, d: &Dispatch, recipients: &[i64]) -> Result<i64> {
        let groups = self.pick("group_concat(g.group_no)", "string_agg(g.group_no::text, ',')");
        let chosen = self.pick(
            "(SELECT key + 1 AS place, value AS no FROM json_each($3)) c",
            "(SELECT e.place, e.value::bigint AS no FROM json_array_elements_text($3::json) WITH ORDINALITY AS e (value, place)) c",
        );
        let vars = match d.list_no {
            // The number is ours, from the store.
            Some(list) => {
                format!("(SELECT l.vars_sealed FROM list_rows l WHERE l.list_no = {list} AND l.recipient_no = r.no)")
            }
            None => "NULL".to_owned(),
        };
        let sql = format!(
            "INSERT INTO members (dispatch_no, ordinal, recipient_no, household_no, region_no, away, groups, vars_sealed) \
             SELECT $1, $2 + c.place, r.no, r.household_no, r.region_no, r.away, \
             COALESCE((SELECT ',' || {groups} || ',' FROM group_members g WHERE g.recipient_no = r.no), ''), {vars} \
             FROM {chosen} CROSS JOIN recipients r WHERE r.no = c.no"
        );
        let list = serde_json::json!(recipients).to_string();
        let written = exec!(self, sqlx::query(sqlx::AssertSqlSafe(sql)).bind(d.no).bind(d.members).bind(list))?;
        // Ordinals have no gaps: who was deleted since the audience was read is read anew.
        if written != recipients.len() as u64 {
            return Err(StoreError::Damaged(format!("recipients of dispatch {} went away meanwhile", d.no)));
        }
        Ok(signed(written))
    }

    /// Deliveries of every channel of one step for one span of members.
    async fn add_step(&mut self, job: &Chunking<'_>, step: i32, span: Span) -> Result<i64> {
        let nobody = span.last <= span.after;
        let mut added = 0;
        // A lift of sheets alone has no members, and points all the same.
        for channel in job.channels.iter().filter(|c| !nobody || c.kind == Target::Point) {
            self.choose_targets(job, *channel, step, span).await?;
            added += self.add_deliveries(job, *channel, step, job.dispatch.deliveries + added).await?;
        }
        Ok(added)
    }

    /// One target a member: the own address first, else the household's.
    async fn choose_targets(&mut self, job: &Chunking<'_>, channel: StepChannel, step: i32, span: Span) -> Result<()> {
        self.clear_chosen().await?;
        let whom = if step == 0 { "" } else { NOT_REACHED };
        if channel.kind == Target::Point && self.choose_followed(job.dispatch, channel.no, span.after == 0).await? {
            return Ok(());
        }
        if let Target::Address(kind) = channel.kind {
            // SQLite would rather look up the address itself than the short list of those gone.
            let sql = address_sql(kind as i32, whom, self.pick("INDEXED BY addresses_gone", ""));
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

    /// The empty tables that targets are chosen into.
    pub(super) async fn clear_chosen(&mut self) -> Result<()> {
        for table in self.pick(TABLES_SQLITE, TABLES_POSTGRES) {
            exec!(self, sqlx::query(table))?;
        }
        exec!(self, sqlx::query("DELETE FROM chosen"))?;
        exec!(self, sqlx::query("DELETE FROM fresh"))?;
        Ok(())
    }

    /// Numbers the targets that no delivery of this step goes to yet, in the order of
    /// their members; returns how many those are.
    async fn number_fresh(&mut self, job: &Chunking<'_>, channel: StepChannel, step: i32) -> Result<i64> {
        if job.dispatch.mode == Mode::Call || !matches!(channel.kind, Target::Address(_)) {
            let sql = format!("UPDATE chosen SET delivery = {}", known_delivery("chosen", ["$1", "$2", "$3"]));
            exec!(self, sqlx::query(sqlx::AssertSqlSafe(sql)).bind(job.dispatch.no).bind(step).bind(channel.no))?;
        }
        // SQLite numbers what it keeps; sorting for it, and for the distinct ones, cost
        // more than the deliveries themselves.
        let sql = self.pick(
            "INSERT OR IGNORE INTO fresh (target, variant) SELECT target, variant FROM chosen WHERE delivery IS NULL ORDER BY member",
            "INSERT INTO fresh (rn, target, variant) SELECT row_number() OVER (ORDER BY MIN(member)), target, variant FROM chosen \
             WHERE delivery IS NULL GROUP BY target, variant",
        );
        Ok(signed(exec!(self, sqlx::query(sql))?))
    }

    /// Whether there is any opt-out to look for; where there is none no address need be
    /// looked at.
    async fn has_opt_outs(&mut self, job: &Chunking<'_>) -> Result<bool> {
        let Some(kind) = job.opt_out_kind else { return Ok(false) };
        let sql = "SELECT COUNT(*) FROM (SELECT 1 FROM opt_outs WHERE item_kind IN ('*', $1) LIMIT 1) AS any_row";
        let found: i64 = run!(self, |c| sqlx::query_scalar(sql).bind(kind).fetch_one(c).await)?;
        Ok(found > 0)
    }

    /// A delivery for each target that has none yet in this step, packed into batches,
    /// and links from every member chosen to its delivery.
    pub(super) async fn add_deliveries(
        &mut self,
        job: &Chunking<'_>,
        channel: StepChannel,
        step: i32,
        base: i64,
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

/// Who goes where, with the delivery that goes there already; and the targets without one.
const TABLES_SQLITE: [&str; 2] = [
    "CREATE TEMP TABLE IF NOT EXISTS chosen (member INTEGER PRIMARY KEY, target BIGINT NOT NULL, via INTEGER NOT NULL, \
     variant BIGINT NOT NULL, delivery BIGINT)",
    "CREATE TEMP TABLE IF NOT EXISTS fresh (rn INTEGER PRIMARY KEY, target BIGINT NOT NULL, variant BIGINT NOT NULL, UNIQUE (target, variant))",
];
const TABLES_POSTGRES: [&str; 2] = [
    "CREATE TEMP TABLE IF NOT EXISTS chosen (member BIGINT PRIMARY KEY, target BIGINT NOT NULL, via INTEGER NOT NULL, \
     variant BIGINT NOT NULL, delivery BIGINT)",
    "CREATE TEMP TABLE IF NOT EXISTS fresh (rn BIGINT PRIMARY KEY, target BIGINT NOT NULL, variant BIGINT NOT NULL, UNIQUE (target, variant))",
];

/// The delivery of a step that goes to the target in `row` already.
fn known_delivery(row: &str, [dispatch, step, channel]: [&str; 3]) -> String {
    format!(
        "(SELECT d.ordinal FROM deliveries d WHERE d.dispatch_no = {dispatch} AND d.step = {step} AND d.channel = {channel} \
         AND d.target = {row}.target AND d.variant = {row}.variant)"
    )
}

/// Members whom no earlier step reached.
const NOT_REACHED: &str = " AND NOT EXISTS (SELECT 1 FROM delivery_members dm JOIN deliveries e ON e.dispatch_no = dm.dispatch_no \
     AND e.ordinal = dm.delivery WHERE dm.dispatch_no = m.dispatch_no AND dm.member = m.ordinal AND e.reached_at IS NOT NULL)";

/// The members of a span of a dispatch.
const SPAN: &str = "m.dispatch_no = $1 AND m.ordinal > $2 AND m.ordinal <= $3";

fn chosen_sql(kind: Target, whom: &str) -> String {
    match kind {
        Target::Point => serving::chosen_points(&format!("{SPAN}{whom}")),
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

fn address_sql(kind: i32, whom: &str, hint: &str) -> String {
    // Address and via in one number, so that one look-up finds both.
    let first_of = |owner: &str| {
        format!(
            "(SELECT ra.address_id * 8 + ra.via FROM recipient_addresses ra WHERE ra.recipient_no = {owner} AND ra.kind = {kind} \
             AND NOT EXISTS (SELECT 1 FROM addresses g {hint} WHERE g.id = ra.address_id AND g.gone = 1) ORDER BY ra.priority LIMIT 1)"
        )
    };
    let (own, household, via) = (first_of("m.recipient_no"), first_of("m.household_no"), Via::Household as i32);
    // A text with variables of its own makes a delivery of its own.
    format!(
        "WITH found AS MATERIALIZED (SELECT m.ordinal, CASE WHEN m.vars_sealed IS NULL THEN 0 ELSE m.ordinal END AS variant, \
         COALESCE({own}, {household} / 8 * 8 + {via}) AS way FROM members m WHERE {SPAN}{whom}), \
         f AS (SELECT ordinal, way / 8 AS target, way % 8 AS via, variant FROM found WHERE way IS NOT NULL) \
         INSERT INTO chosen (member, target, via, variant, delivery) SELECT ordinal, target, via, variant, {known} FROM f",
        known = known_delivery("f", ["$1", "$4", "$5"])
    )
}

fn deliveries_sql(job: &Chunking<'_>, kind: Target, opt_outs: bool) -> String {
    let waiting = if job.defer_until.is_some() { State::Deferred } else { State::Queued };
    let suppressed = match (kind, job.opt_out_kind) {
        (Target::Address(_), Some(item_kind)) if opt_outs => format!(
            "EXISTS (SELECT 1 FROM addresses a JOIN opt_outs o ON o.kind = a.kind AND o.hash = a.hash \
             WHERE a.id = c.target AND o.item_kind IN ('*', '{item_kind}'))"
        ),
        _ => "1 = 0".to_owned(),
    };
    let waiting = match kind {
        Target::Visit => State::Listed,
        _ => waiting,
    };
    let (suppressed_code, opted_out) = (State::Suppressed.code(), Reason::OptedOut.code());
    let queued = State::Queued.code();
    let quiet = if waiting == State::Deferred { Reason::QuietHours.code() } else { 0 };
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

fn signed(rows: u64) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}
