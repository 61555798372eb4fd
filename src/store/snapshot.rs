//! From an audience to rows: members, deliveries, their links and their batches,
//! chunk by chunk, in set-based statements. The cursor moves in the same
//! transaction, so a crash resumes where it stopped and writes nothing twice.

mod embedded;
mod server;

use super::dispatches::{Dispatch, Progress};
use super::{Result, Store, StoreError, Tx};
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

/// One channel's share of a step.
#[derive(Debug, Clone, Copy)]
struct Share {
    channel: StepChannel,
    step: i32,
    /// The delivery numbered last.
    base: i64,
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
        let mut tx = self.begin_hot().await?;
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
        let mut tx = self.begin_hot().await?;
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

    /// One row a recipient, in their order.
    async fn add_members(&mut self, d: &Dispatch, recipients: &[i64]) -> Result<i64> {
        let vars = match d.list_no {
            // The number is ours, from the store.
            Some(list) => {
                format!("(SELECT l.vars_sealed FROM list_rows l WHERE l.list_no = {list} AND l.recipient_no = r.no)")
            }
            None => "NULL".to_owned(),
        };
        let written = match self {
            Self::Postgres(_) => self.add_members_from_array(d, recipients, &vars).await?,
            Self::Sqlite(_) => {
                // CROSS JOIN makes it walk the list and look each one up.
                let sql = format!(
                    "INSERT INTO members (dispatch_no, ordinal, recipient_no, household_no, region_no, away, groups, vars_sealed) \
                     SELECT $1, $2 + c.key + 1, r.no, r.household_no, r.region_no, r.away, \
                     COALESCE((SELECT ',' || group_concat(g.group_no) || ',' FROM group_members g WHERE g.recipient_no = r.no), ''), {vars} \
                     FROM json_each($3) c CROSS JOIN recipients r WHERE r.no = c.value"
                );
                let list = serde_json::json!(recipients).to_string();
                exec!(self, sqlx::query(sqlx::AssertSqlSafe(sql)).bind(d.no).bind(d.members).bind(list))?
            }
        };
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
            let base = job.dispatch.deliveries + added;
            added += if let Self::Postgres(_) = self {
                self.plan_share(job, Share { channel: *channel, step, base }, span).await?
            } else {
                self.choose_targets(job, *channel, step, span).await?;
                self.add_deliveries(job, *channel, step, base).await?
            };
        }
        Ok(added)
    }

    /// The empty tables that targets are chosen into.
    pub(super) async fn clear_chosen(&mut self) -> Result<()> {
        for sql in self.pick(&embedded::TABLES[..], &TABLES_POSTGRES) {
            exec!(self, sqlx::query(*sql))?;
        }
        Ok(())
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
        if let Self::Postgres(_) = self {
            return self.lay_down_chosen(job, Share { channel, step, base }).await;
        }
        self.lay_down_fresh(job, Share { channel, step, base }).await
    }
}

/// On a server, targets that are not found within the statement that writes them.
const TABLES_POSTGRES: [&str; 2] = [
    "CREATE TEMP TABLE IF NOT EXISTS chosen (member BIGINT PRIMARY KEY, target BIGINT NOT NULL, via INTEGER NOT NULL, variant BIGINT NOT NULL)",
    "TRUNCATE chosen",
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

/// (ordinal, variant, way) of the members of a span; the way is null without an address.
fn found_sql(kind: i32, whom: &str, hint: &str) -> String {
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
        "SELECT m.ordinal, CASE WHEN m.vars_sealed IS NULL THEN 0 ELSE m.ordinal END AS variant, \
         COALESCE({own}, {household} / 8 * 8 + {via}) AS way FROM members m WHERE {SPAN}{whom}"
    )
}

/// What new deliveries begin as.
struct States {
    /// Whether the address `c.target` opted out.
    suppressed: String,
    waiting: State,
    /// The reason of those that wait.
    quiet: i32,
}

fn states(job: &Chunking<'_>, kind: Target, opt_outs: bool) -> States {
    let suppressed = match (kind, job.opt_out_kind) {
        (Target::Address(_), Some(item_kind)) if opt_outs => format!(
            "EXISTS (SELECT 1 FROM addresses a JOIN opt_outs o ON o.kind = a.kind AND o.hash = a.hash \
             WHERE a.id = c.target AND o.item_kind IN ('*', '{item_kind}'))"
        ),
        _ => "1 = 0".to_owned(),
    };
    let waiting = match (kind, job.defer_until) {
        (Target::Visit, _) => State::Listed,
        (_, Some(_)) => State::Deferred,
        (_, None) => State::Queued,
    };
    States { suppressed, waiting, quiet: if waiting == State::Deferred { Reason::QuietHours.code() } else { 0 } }
}

fn signed(rows: u64) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}
